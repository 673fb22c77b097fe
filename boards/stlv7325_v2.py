"""Sitlinv STLV7325 version 2: a card for a x4 slot with two Gigabit PHYs and two SFP cages."""

from .board import Board, Clock, Configuration, Ethernet, Lane, Led, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["BOARD"]

_LITEX = "litex-boards, platforms/sitlinv_stlv7325_v2.py"
_V1 = "kintex-7-stlv7325t-board-files, constraints of version 1"
_BY_PART = ("openFPGALoader", "-c", "{cable}", "--fpga-part", "xc7k325tffg676")

BOARD = Board(
    "stlv7325_v2", "Sitlinv STLV7325 version 2", "XC7K325T-2FFG676", cable="ft4232",
    volatile=Programming((*_BY_PART, "{file}"), (".bit",)), flash=Programming((*_BY_PART, "-f", "{file}"), (".bin", ".bit")),
    source="litex-boards for the FPGA, which loads it by OpenOCD; that openFPGALoader reaches it is not documented",
    note="its jumper J4 has to be at 3.3 V",
    fpga=FPGAS["XC7K325T"], vivado_part="xc7k325tffg676-2",
    pcie=Pcie(
        lanes=(
            Lane("GTXE2_CHANNEL_X0Y7", rx=("B6", "B5"), tx=("A4", "A3")),
            Lane("GTXE2_CHANNEL_X0Y6", rx=("C4", "C3"), tx=("B2", "B1")),
            Lane("GTXE2_CHANNEL_X0Y5", rx=("E4", "E3"), tx=("D2", "D1")),
            Lane("GTXE2_CHANNEL_X0Y4", rx=("G4", "G3"), tx=("F2", "F1")),
        ),
        refclk=("H6", "H5"), perst=Pin("E17", "LVCMOS33", "PULLUP"), source=Source(f"{_LITEX} (pins)")),
    configuration=Configuration(
        voltage=3.3, rate=33, flash_mib=16, source=Source(f"{_LITEX} (all but the rate)", f"{_V1} (with a rate of 66)")),
    oscillator=Clock(("AB11", "AC11"), 200.0, "DIFF_SSTL15",
                     Source(_LITEX, "verilog-ethernet, example/STLV7325/fpga_gmii/fpga.xdc")),
    leds=(Led(Pin("AA2", "LVCMOS15"), Role.LINK, low=True), Led(Pin("AD5", "LVCMOS15"), Role.ETHERNET, low=True),
          Led(Pin("W10", "LVCMOS15"), Role.CLOCK, low=True), Led(Pin("Y10", "LVCMOS15"), Role.BUSY, low=True)),
    led_source=Source(_LITEX, f"{_V1}, verilog-ethernet (pins)"),
    ethernet=Ethernet(
        "rgmii", None, "LVCMOS25",
        {"rx_clk": "C12", "rx_ctl": "F8", "rx_data": ("D8", "D9", "C9", "D10"),
         "tx_clk": "D11", "tx_ctl": "C14", "tx_data": ("E12", "D13", "C13", "D14")},
        reset_n="J8", mdc="F9", mdio="H11", source=Source(_LITEX)),
    lacks=("Vivado's free edition has no XC7K325T: a licence is needed",
           "of its two PHYs the first is used, and its SFP cages are not",
           "no source names the size of its flash: 16 MiB is assumed, and there is no fallback image"))
