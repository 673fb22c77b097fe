"""SQRL Acorn CLE-215+: an M.2 card without Ethernet."""

from .board import Board, Configuration, Led, Lane, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["ACORN_LEDS", "ACORN_PCIE", "ACORN_CONFIGURATION", "BOARD"]

# NiteFury and LiteFury are wired as the Acorn is.
ACORN_PCIE = Pcie(
    lanes=(
        Lane("GTPE2_CHANNEL_X0Y6", rx=("B10", "A10"), tx=("B6", "A6")),
        Lane("GTPE2_CHANNEL_X0Y4", rx=("B8", "A8"),   tx=("B4", "A4")),
        Lane("GTPE2_CHANNEL_X0Y5", rx=("D11", "C11"), tx=("D5", "C5")),
        Lane("GTPE2_CHANNEL_X0Y7", rx=("D9", "C9"),   tx=("D7", "C7")),
    ),
    refclk=("F6", "E6"), perst=Pin("J1", "LVCMOS33", "PULLUP"), clkreq=Pin("G1", "LVCMOS33"),
    source=Source(
        "litex-boards, platforms/sqrl_acorn.py; amaranth-boards 0.0.21, nitefury.py (which drives PERST#; it is an input)",
        "NiteFury-and-LiteFury, constraints uEVB-early.xdc; its issue 65 asks Vivado which channel has lane 0: X0Y6"))

ACORN_LEDS = (Led(Pin("G3", "LVCMOS33"), Role.LINK), Led(Pin("H3", "LVCMOS33"), Role.CLOCK),
              Led(Pin("G4", "LVCMOS33"), Role.BUSY))

ACORN_CONFIGURATION = Configuration(
    voltage=3.3, rate=None, external=1, fall_edge=True, flash_mib=32, fallback=0x80_0000,
    source=Source("NiteFury-and-LiteFury, constraints normal.xdc", "pcileech-fpga, acorn_ft2232h/src/pcileech_acorn.xdc"))

BOARD = Board(
    "acorn_cle215", "SQRL Acorn CLE-215+", "XC7A200T-SBG484",
    volatile=Programming(("openFPGALoader", "-b", "acornCle215", "{file}"), (".bit",)),
    flash=Programming(("openFPGALoader", "-b", "acornCle215", "-f", "{file}"), (".bin", ".bit")),
    source="openFPGALoader's list of boards", note="it needs a JTAG cable on its connector",
    fpga=FPGAS["XC7A200T"], vivado_part="xc7a200tfbg484-2", pcie=ACORN_PCIE, configuration=ACORN_CONFIGURATION,
    leds=ACORN_LEDS, led_source=Source("litex-boards, platforms/sqrl_acorn.py", "amaranth-boards 0.0.21, nitefury.py"),
    lacks=("it has no Ethernet: the card is built with its loopback",
           "it is built for speed grade 2, which a CLE-215 has too; a CLE-215+ is of grade 3",
           "no source names the frequency of the clock on EMCCLK, or whether the LEDs are lit by 1 or by 0"))
