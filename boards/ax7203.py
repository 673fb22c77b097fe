"""Alinx AX7203: a card for a x4 slot with two Gigabit PHYs."""

from .board import Board, Clock, Configuration, Ethernet, Lane, Led, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["BOARD"]

_BY_PART = ("openFPGALoader", "-c", "{cable}", "--fpga-part", "xc7a200tfbg484")
_PUBLISHED = "constraints of a published order book design for the AX7203 (PCIe Gen1 x4 by XDMA, and RGMII), run on the board"

BOARD = Board(
    "ax7203", "Alinx AX7203", "XC7A200T-2FBG484I", cable="ft232",
    volatile=Programming((*_BY_PART, "{file}"), (".bit",)), flash=Programming((*_BY_PART, "-f", "{file}"), (".bin", ".bit")),
    source="litex-boards",
    fpga=FPGAS["XC7A200T"], vivado_part="xc7a200tfbg484-2",
    pcie=Pcie(
        lanes=(
            Lane("GTPE2_CHANNEL_X0Y5", rx=("D11", "C11"), tx=("D5", "C5")),
            Lane("GTPE2_CHANNEL_X0Y4", rx=("B8", "A8"),   tx=("B4", "A4")),
            Lane("GTPE2_CHANNEL_X0Y6", rx=("B10", "A10"), tx=("B6", "A6")),
            Lane("GTPE2_CHANNEL_X0Y7", rx=("D9", "C9"),   tx=("D7", "C7")),
        ),
        refclk=("F10", "E10"), perst=Pin("J20", "LVCMOS33", "PULLUP"),
        source=Source("litex-boards, platforms/alinx_ax7203.py (pins)", f"{_PUBLISHED}: lanes at X0Y5, X0Y4, X0Y6, X0Y7")),
    configuration=Configuration(
        voltage=3.3, rate=50, fall_edge=True, flash_mib=16, fallback=0x80_0000,
        source=Source(_PUBLISHED, "litex-boards, platforms/alinx_ax7203.py (all but the rate, which is 16 there)")),
    oscillator=Clock(("R4", "T4"), 200.0, "DIFF_SSTL15", Source("litex-boards, platforms/alinx_ax7203.py", _PUBLISHED)),
    leds=(Led(Pin("B13", "LVCMOS33"), Role.LINK), Led(Pin("C13", "LVCMOS33"), Role.ETHERNET),
          Led(Pin("D14", "LVCMOS33"), Role.CLOCK), Led(Pin("D15", "LVCMOS33"), Role.BUSY)),
    led_source=Source("litex-boards, platforms/alinx_ax7203.py", _PUBLISHED),
    ethernet=Ethernet(
        "rgmii", "JL2121", "LVCMOS33",
        {"rx_clk": "B17", "rx_ctl": "A15", "rx_data": ("A16", "B18", "C18", "C19"),
         "tx_clk": "E18", "tx_ctl": "F18", "tx_data": ("C20", "D20", "A19", "A18")},
        reset_n="D16", mdc="B16", mdio="B15",
        source=Source(_PUBLISHED, "the maker's Ethernet demonstration for the AX7203, as published with its two ports")),
    lacks=("of its two PHYs the first is used; earlier boards have other PHYs than the source names",
           "no source says whether the LEDs are lit by 1 or by 0"))
