"""Alientek DaVinci Pro 100T: a board with a x2 edge connector, a Gigabit PHY and two SFP cages."""

from .board import Board, Clock, Configuration, Ethernet, Lane, Led, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["BOARD"]

_LITEX = "litex-boards, platforms/alientek_davincipro.py"
_BY_PART = ("openFPGALoader", "-c", "{cable}", "--fpga-part", "xc7a100tfgg484")

BOARD = Board(
    "davinci_pro_100t", "Alientek DaVinci Pro 100T", "XC7A100T-2FGG484", cable="ft232",
    volatile=Programming((*_BY_PART, "{file}"), (".bit",)), flash=Programming((*_BY_PART, "-f", "{file}"), (".bin", ".bit")),
    source="litex-boards for the FPGA, which loads it by OpenOCD; that openFPGALoader reaches it is not documented",
    fpga=FPGAS["XC7A100T"], vivado_part="xc7a100tfgg484-2",
    pcie=Pcie(
        lanes=(Lane("GTPE2_CHANNEL_X0Y7", rx=("D9", "C9"),   tx=("D7", "C7")),
               Lane("GTPE2_CHANNEL_X0Y6", rx=("B10", "A10"), tx=("B6", "A6"))),
        refclk=("F6", "E6"), perst=Pin("N15", "LVCMOS33", "PULLUP"), source=Source(f"{_LITEX} (pins)")),
    configuration=Configuration(voltage=3.3, rate=50, flash_mib=16, source=Source(_LITEX)),
    oscillator=Clock(("R4",), 50.0, "SSTL135", Source(_LITEX)),
    leds=(Led(Pin("V9", "SSTL135"), Role.LINK), Led(Pin("Y8", "SSTL135"), Role.ETHERNET),
          Led(Pin("Y7", "SSTL135"), Role.CLOCK), Led(Pin("W7", "SSTL135"), Role.BUSY)),
    led_source=Source(_LITEX),
    ethernet=Ethernet(
        "rgmii", None, "LVCMOS33",
        {"rx_clk": "U20", "rx_ctl": "AA20", "rx_data": ("AA21", "V20", "U22", "V22"),
         "tx_clk": "V18", "tx_ctl": "V19", "tx_data": ("T21", "U21", "P19", "R19")},
        reset_n="N20", mdc="M20", mdio="N22", source=Source(_LITEX)),
    lacks=("the source gives MDC two pins, M22 and M20; M20 is taken, for M22 is a pin of the HDMI input as well",
           "no second source was found for any of its pins",
           "no source names the size of its flash: 16 MiB is assumed, and there is no fallback image",
           "its variant with the XC7A35T is too small for the card"))
