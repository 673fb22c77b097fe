"""Verilog of a board's card without what is in it."""

from ringnic.host.build.project import top_name

__all__ = ["port_list"]


def port_list(board, lanes):
    """Verilog of the ports of a board's card, and of nothing else."""
    bits = f"[{lanes - 1}:0] " if lanes > 1 else ""
    ports = {"input": ["pcie_clk_p", "pcie_clk_n", "pcie_rst_n", f"{bits}pcie_rx_p", f"{bits}pcie_rx_n"],
             "output": [f"{bits}pcie_tx_p", f"{bits}pcie_tx_n", f"[{len(board.leds) - 1}:0] led"]}
    if board.pcie.clkreq is not None:
        ports["output"].append("pcie_clkreq_n")
    if board.ethernet is not None:
        ports["input"] += ["osc_clk_p", "osc_clk_n"] if len(board.oscillator.pins) == 2 else ["osc_clk"]
        for name, pins in board.ethernet.pins.items():
            width = "" if isinstance(pins, str) else f"[{len(pins) - 1}:0] "
            ports["output" if "tx" in name else "input"].append(f"{width}eth_{name}")
        ports["output"] += ["eth_mdc", *(["eth_reset_n"] if board.ethernet.reset_n else [])]
        ports["inout"] = ["eth_mdio"]
    lines = [f"  {direction} {port};" for direction, names in ports.items() for port in names]
    return "\n".join([f"module {top_name(board)}(...);", *lines, "endmodule", ""])
