"""Puzhi PZ-A7: a card for a x2 slot, with one of several core modules, two Gigabit PHYs and two SFP cages."""

from .board import Board, Clock, Configuration, Ethernet, Lane, Led, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["BOARDS"]

_LITEX = "litex-boards, platforms/puzhi_pz_a7xxt_kfb.py"


def _board(name, fpga, part):
    by_part = ("openFPGALoader", "-c", "{cable}", "--fpga-part", part.partition("-")[0])
    return Board(
        name, f"Puzhi PZ-A7 with the {fpga}", part.upper(), cable="ft232",
        volatile=Programming((*by_part, "{file}"), (".bit",)), flash=Programming((*by_part, "-f", "{file}"), (".bin", ".bit")),
        source="litex-boards",
        fpga=FPGAS[fpga], vivado_part=part,
        pcie=Pcie(
            lanes=(Lane("GTPE2_CHANNEL_X0Y5", rx=("D11", "C11"), tx=("D5", "C5")),
                   Lane("GTPE2_CHANNEL_X0Y4", rx=("B8", "A8"),   tx=("B4", "A4"))),
            refclk=("F6", "E6"), perst=Pin("A13", "LVCMOS33", "PULLUP"),
            source=Source(f"{_LITEX} (pins)", "litex-boards, targets/puzhi_pz_a7xxt_kfb.py (lane 0)")),
        configuration=Configuration(voltage=3.3, rate=16, flash_mib=16, source=Source(_LITEX)),
        oscillator=Clock(("R4", "T4"), 200.0, "DIFF_SSTL135", Source(_LITEX)),
        leds=(Led(Pin("P15", "LVCMOS33"), Role.LINK), Led(Pin("R16", "LVCMOS33"), Role.ETHERNET),
              Led(Pin("N13", "LVCMOS33"), Role.CLOCK), Led(Pin("N14", "LVCMOS33"), Role.BUSY)),
        led_source=Source(_LITEX),
        ethernet=Ethernet(
            "rgmii", "RTL8211F", "LVCMOS33",
            {"rx_clk": "U20", "rx_ctl": "AB20", "rx_data": ("AA20", "AB21", "AA21", "AB22"),
             "tx_clk": "N17", "tx_ctl": "Y21", "tx_data": ("V22", "W22", "W21", "Y22")},
            reset_n="P17", mdc="AA19", mdio="T20", source=Source(_LITEX)),
        lacks=("of its two PHYs the one on the core module is used; the source gives N17 to its transmit clock, and to the MDC "
               "of the other one as well, whose other pins are in another bank",
               "its PHY's reset, P17, is called reserved in the manual, and used by the maker's example",
               "the target in litex-boards places lane 1 at X0Y6, the channel of an SFP cage; here the lane's pins decide: X0Y4",
               "no source names the size of its flash: 16 MiB is assumed, and there is no fallback image",
               "its module with the XC7A35T is too small for the card"))


BOARDS = (
    _board("pz_a775t",  "XC7A75T",  "xc7a75tfgg484-2"),
    _board("pz_a7100t", "XC7A100T", "xc7a100tfgg484-2"),
    _board("pz_a7200t", "XC7A200T", "xc7a200tfbg484-2"),
)
