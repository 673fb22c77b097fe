"""Constraints of a board as XDC: pins, clocks, what is asynchronous, and how the FPGA loads itself.

The lanes' pins are not here: they follow from the transceivers, whose place the build script sets (the IP sets another one).
"""

from itertools import permutations

from ..slot.bitstream import board_code

__all__ = ["clock_constraints", "ethernet_pads", "ethernet_ports", "pin_constraints"]

REFCLK_NS = 10               # of the slot's reference clock
ETHERNET_NS = 8              # of a receive clock at 1 Gbit/s
JTAG_NS = 15                 # of TCK: 66 MHz at most (DS181 and DS182, F_TCK)
# RGMII 2.0, 3.3, where the end that drives a clock delays it by 2 ns: how long data are stable before and after each of its
# edges, at least. The card delays TXC, and the PHY RXC.
DRIVEN_NS = 1.2              # at the pads that drive them (TsetupT and TholdT)
TAKEN_NS = 1.0               # at the pads that take them (TsetupR and TholdR): wires of the board may cost the difference
# IEEE 802.3, 35.5.2.3: of a GMII, setup and hold around the rising edge, at the same places.
GMII_DRIVEN_NS = 2.5, 0.5
GMII_TAKEN_NS  = 2.0, 0.0


def _pin(port, pin, standard, **more):
    properties = {"PACKAGE_PIN": pin, "IOSTANDARD": standard, **more}
    words = " ".join(f"{name} {value}" for name, value in properties.items() if value is not None)
    return f"set_property -dict {{{words}}} [get_ports {{{port}}}]"


def ethernet_ports(ethernet):
    """``{port: (pin, is an output)}`` of a PHY, by the names of the card's ports."""
    outputs = {"tx_clk", "tx_ctl", "tx_data", "gtx_clk", "tx_en", "tx_er"}
    found = {}
    for name, pins in ethernet.pins.items():
        out = name in outputs
        if isinstance(pins, str):
            found[f"eth_{name}"] = pins, out
        else:
            found.update({f"eth_{name}[{bit}]": (pin, out) for bit, pin in enumerate(pins)})
    found |= {"eth_mdc": (ethernet.mdc, True), "eth_mdio": (ethernet.mdio, True)}
    return found if ethernet.reset_n is None else {**found, "eth_reset_n": (ethernet.reset_n, True)}


def _pads(ethernet, way):
    return [port for port in ethernet_ports(ethernet) if port.startswith(f"eth_{way}_") and port != f"eth_{way}_clk"]


def ethernet_pads(ethernet, way):
    """Ports that go with a clock, ``"rx"`` or ``"tx"``, as a list of Tcl."""
    return f"[get_ports {{{' '.join(_pads(ethernet, way))}}}]"


def _slot(board):
    pcie = board.pcie
    yield "# The slot"
    for port, pin in zip(("pcie_clk_p", "pcie_clk_n"), pcie.refclk):
        yield f"set_property PACKAGE_PIN {pin} [get_ports {{{port}}}]"
    yield f"create_clock -name pcie_clk -period {REFCLK_NS:.3f} [get_ports {{pcie_clk_p}}]"
    yield _pin("pcie_rst_n", pcie.perst.name, pcie.perst.standard, PULLTYPE=pcie.perst.pull)
    yield "set_false_path -from [get_ports {pcie_rst_n}]"
    if pcie.clkreq is not None:
        yield _pin("pcie_clkreq_n", pcie.clkreq.name, pcie.clkreq.standard)
        yield "set_false_path -to [get_ports {pcie_clkreq_n}]"


def _pipe_clocks():
    """PG054, "Clocking": one net is clocked by 125 or by 250 MHz, never by both, and its switch is not timed."""
    mux = "get_pins -hierarchical -filter {{NAME =~ *pclk_mux/{}}}".format
    yield "# The clock of the lanes: 125 MHz at 2.5 GT/s, 250 MHz at 5 GT/s"
    yield f"create_generated_clock -name pclk_125 -divide_by 1 -source [{mux('I0')}] [{mux('O')}]"
    yield (f"create_generated_clock -name pclk_250 -divide_by 1 -add -master_clock [get_clocks -of_objects [{mux('I1')}]] "
           f"-source [{mux('I1')}] [{mux('O')}]")
    yield "set_clock_groups -physically_exclusive -group [get_clocks pclk_125] -group [get_clocks pclk_250]"
    yield f"set_false_path -to [{mux('S0')}]"
    yield f"set_false_path -to [{mux('S1')}]"


def _oscillator(board):
    clock = board.oscillator
    yield "# The oscillator of the board, for Ethernet"
    names = ("osc_clk_p", "osc_clk_n") if len(clock.pins) == 2 else ("osc_clk",)
    for port, pin in zip(names, clock.pins):
        yield _pin(port, pin, clock.standard)
    yield f"create_clock -name osc_clk -period {1000 / clock.mhz:.3f} [get_ports {{{names[0]}}}]"


def _ethernet(board):
    ethernet = board.ethernet
    yield f"# Ethernet: {ethernet.kind.upper()}{f' to a {ethernet.phy}' if ethernet.phy else ''}"
    # The registers of a GMII are plain ones, and have to be those at the pads, where an input has no hold time (UG471, "ILOGIC").
    near = _pads(ethernet, "rx") + _pads(ethernet, "tx") if ethernet.kind == "gmii" else []
    for port, (pin, out) in ethernet_ports(ethernet).items():
        yield _pin(port, pin, ethernet.standard, SLEW="FAST" if out and "tx" in port else None,
                   IOB="TRUE" if port in near else None)
    yield f"create_clock -name eth_rx_clk -period {ETHERNET_NS:.3f} [get_ports {{eth_rx_clk}}]"
    slow = ["eth_mdc", "eth_mdio", *(["eth_reset_n"] if ethernet.reset_n is not None else [])]
    yield f"set_false_path -to [get_ports {{{' '.join(slow)}}}]"
    yield "set_false_path -from [get_ports {eth_mdio}]"


def _configuration(board):
    config = board.configuration
    yield "# How the FPGA loads itself"
    values = {
        "CFGBVS": config.cfgbvs, "CONFIG_VOLTAGE": f"{config.voltage:g}", "CONFIG_MODE": f"SPIx{config.spi_width}",
        "BITSTREAM.CONFIG.SPI_BUSWIDTH": config.spi_width,
        "BITSTREAM.CONFIG.SPI_FALL_EDGE": "YES" if config.fall_edge else "NO",
        "BITSTREAM.GENERAL.COMPRESS": "TRUE",
        "BITSTREAM.CONFIG.USR_ACCESS": f"0x{board_code(board.name):08X}",
    }
    if config.rate is not None:
        values["BITSTREAM.CONFIG.CONFIGRATE"] = config.rate
    else:
        values["BITSTREAM.CONFIG.EXTMASTERCCLK_EN"] = f"Div-{config.external}"
    for name, value in values.items():
        yield f"set_property {name} {value} [current_design]"


def pin_constraints(board):
    """XDC for what is there before the IP is: pins, the clocks that come in, the configuration of the FPGA."""
    lines = [f"# {board.title}, {board.vivado_part}", *_slot(board), "# LEDs"]
    for at, led in enumerate(board.leds):
        lines += [_pin(f"led[{at}]", led.pin.name, led.pin.standard), f"set_false_path -to [get_ports {{led[{at}]}}]"]
    if board.ethernet is not None:
        lines += [*_oscillator(board), *_ethernet(board)]
    return "\n".join([*lines, *_configuration(board)]) + "\n"


def _jtag():
    yield "# JTAG is asynchronous to every other clock: the record does not change while JTAG reads it."
    yield f"create_clock -name jtag_tck -period {JTAG_NS:.3f} [get_pins -hierarchical -filter {{NAME =~ *link_tap/TCK}}]"
    yield "set_clock_groups -asynchronous -group [get_clocks jtag_tck]"


def _rgmii(ethernet):
    """UG903, "Constraining Input and Output Delays": data that come with a clock, at both of its edges.

    Both clocks are in the middle of their data, so each edge takes what the edge before it sent, and Vivado relates the right
    edges: there is nothing to except.
    """
    yield "# RGMII 2.0 with delayed clocks (RGMII-ID): TXC is 2 ns behind its data by the card, RXC by the PHY"
    yield ("create_generated_clock -name eth_tx_clk -divide_by 1 -source [get_pins -hierarchical -filter {NAME =~ "
           "*nic/buffers/txc/C}] [get_ports {eth_tx_clk}]")
    for edge in ("", " -clock_fall -add_delay"):
        for limit, ns in (("max", ETHERNET_NS / 2 - TAKEN_NS), ("min", TAKEN_NS)):
            yield f"set_input_delay -clock eth_rx_clk{edge} -{limit} {ns:.3f} {ethernet_pads(ethernet, 'rx')}"
        for limit, ns in (("max", DRIVEN_NS), ("min", -DRIVEN_NS)):
            yield f"set_output_delay -clock eth_tx_clk{edge} -{limit} {ns:.3f} {ethernet_pads(ethernet, 'tx')}"


def _gmii(ethernet):
    """UG903, "Constraining Input and Output Delays": data that come with a clock, at its rising edge."""
    yield "# GMII: the card's clock rises in the middle of its data, the PHY's a little before the end of them"
    yield ("create_generated_clock -name eth_gtx_clk -invert -divide_by 1 -source [get_pins -hierarchical -filter {NAME =~ "
           "*gtx_clk/C}] [get_ports {eth_gtx_clk}]")
    setup, hold = GMII_TAKEN_NS
    for limit, ns in (("max", ETHERNET_NS - setup), ("min", hold)):
        yield f"set_input_delay -clock eth_rx_clk -{limit} {ns:.3f} {ethernet_pads(ethernet, 'rx')}"
    setup, hold = GMII_DRIVEN_NS
    for limit, ns in (("max", setup), ("min", -hold)):
        yield f"set_output_delay -clock eth_gtx_clk -{limit} {ns:.3f} {ethernet_pads(ethernet, 'tx')}"


def _crossings():
    """UG903, "Asynchronous Clock Domain Crossings": what passes from one clock to another is not timed by edges, only bounded.

    A Gray-coded pointer has one bit that changes, as long as no bit of it comes a period of its clock later than another:
    nothing takes longer than the shortest period of these clocks.
    """
    lane = "get_pins -hierarchical -filter {NAME =~ *pipe_lane[0]*_channel_i/TXOUTCLK}"
    roots = [f"-of_objects [{lane}]", "osc_clk", "eth_rx_clk"]
    yield "# The slot, the board and the wire each have a clock of their own."
    for source, target in permutations((f"[get_clocks -include_generated_clocks {root}]" for root in roots), 2):
        yield f"set_max_delay -datapath_only -from {source} -to {target} {ETHERNET_NS:.3f}"


def clock_constraints(board):
    """XDC for clocks that come from inside of the FPGA, and for what is timed by them."""
    lines = [*_pipe_clocks(), *_jtag()]
    if board.ethernet is not None:
        lines += {"rgmii": _rgmii, "gmii": _gmii}[board.ethernet.kind](board.ethernet)
        lines += _crossings()
    return "\n".join(lines) + "\n"
