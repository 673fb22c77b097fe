"""LitePCIe's gateware around our model of the block: registers behind BAR 0, and DMA from memory back to memory.

LitePCIe is used as it is published; its black box ``pcie_s7`` gets the ports of the model's link, which become ports of the top.

``python gateware.py LANES WIDTH FOLDER`` reads the ports of the link from ``link.json`` and writes ``litepcie.v`` and
``registers.json``. LitePCIe prints a lot and leaves its traces in the interpreter, so it has one of its own.
"""

import json
from pathlib import Path
import sys

from litepcie.core import LitePCIeEndpoint
from litepcie.frontend.dma import LitePCIeDMA
from litepcie.frontend.wishbone import LitePCIeWishboneBridge
from litepcie.phy.s7pciephy import S7PCIEPHY
from litex.build.generic_platform import Pins, Subsignal
from litex.build.xilinx import XilinxPlatform
from litex.soc.integration.export import get_csr_json
from litex.soc.integration.soc_core import SoCMini
from migen import ClockDomain

BAR0_SIZE = 0x20000
TOP = "litepcie"
FREQUENCY = 125e6
IDENT = ""      # none
MAX_PENDING_REQUESTS = 32


def _ios(lanes, link):
    """Ports of the top: a clock, the serial lanes, and ``{name: (direction, bits)}`` of the model's link."""
    def pins(bits):
        return Pins(" ".join(["X"] * bits))
    return [("clk", 0, pins(1)), ("rst", 0, pins(1)), ("rx_user", 0, pins(22)), ("rx_taken", 0, pins(1)),
            ("pcie", 0, Subsignal("rst_n", pins(1)), Subsignal("clk_p", pins(1)), Subsignal("clk_n", pins(1)),
             *(Subsignal(name, pins(lanes)) for name in ("rx_p", "rx_n", "tx_p", "tx_n"))),
            *((name, 0, pins(bits)) for name, (_, bits) in link.items())]


class Gateware(SoCMini):
    """``link``: ports that the model has besides those of the block, ``{name: (direction, bits)}``."""
    def __init__(self, *, lanes, width, link):
        self.platform_used = platform = XilinxPlatform("xc7a200t-fbg484-2", _ios(lanes, link), toolchain="vivado")
        SoCMini.__init__(self, platform, clk_freq=int(FREQUENCY), ident=IDENT, csr_data_width=32)
        self.cd_sys = ClockDomain()
        clk, rst = platform.request("clk"), platform.request("rst")
        self.comb += [self.cd_sys.clk.eq(clk), self.cd_sys.rst.eq(rst)]

        self.pcie_phy = phy = S7PCIEPHY(
            platform, platform.request("pcie"), data_width=width, bar0_size=BAR0_SIZE, msi_type="msi-x")
        # The same clock for all: LitePCIe crosses between its own clock and the block's all the same.
        ports = {name: platform.request(name) for name in link}
        phy.pcie_phy_params.update({f"{link[name][0]}_{name}": port for name, port in ports.items()},
                                   i_clk=clk, i_rst=rst)
        block = phy.pcie_phy_params
        self.comb += [platform.request("rx_taken").eq(block["o_m_axis_rx_tvalid"] & block["i_m_axis_rx_tready"]),
                      platform.request("rx_user").eq(block["o_m_axis_rx_tuser"])]
        self.endpoint = LitePCIeEndpoint(phy, max_pending_requests=MAX_PENDING_REQUESTS, address_width=32)
        # Any address: but a simulator never evaluates a process of constants, as synthesis does.
        bridge = LitePCIeWishboneBridge(self.endpoint, lambda address: address[:2] == 0, self.mem_map["csr"])
        self.submodules += bridge
        self.bus.add_master(master=bridge.wishbone)
        self.dma = LitePCIeDMA(phy, self.endpoint, with_loopback=True, with_buffering=True, buffering_depth=8192)

    def write(self, folder):
        self.finalize()
        self.platform_used.get_verilog(self, name=TOP).write(str(folder / f"{TOP}.v"))
        facts = json.loads(get_csr_json(self.csr_regions, self.constants, self.mem_regions))
        # DW by DW, the most significant one first.
        registers = {name: entry["addr"] - self.mem_map["csr"] for name, entry in facts["csr_registers"].items()}
        (folder / "registers.json").write_text(json.dumps(registers))


def main():
    lanes, width, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    Gateware(lanes=lanes, width=width, link=json.loads((folder / "link.json").read_text())).write(folder)


if __name__ == "__main__":
    main()
