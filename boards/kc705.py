"""AMD KC705: an evaluation board with a x8 edge connector and a Gigabit PHY on GMII."""

from .board import Board, Clock, Configuration, Ethernet, Lane, Led, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["BOARD"]

_LITEX = "litex-boards, platforms/xilinx_kc705.py"
_GMII = "verilog-ethernet, example/KC705/fpga_gmii/fpga.xdc"

BOARD = Board(
    "kc705", "AMD KC705", "XC7K325T-2FFG900C",
    volatile=Programming(("openFPGALoader", "-b", "kc705", "{file}"), (".bit",)),
    flash=Programming(("openFPGALoader", "-b", "kc705", "-f", "{file}"), (".bin", ".bit")),
    source="openFPGALoader's list of boards, which says that nobody has tried its flash",
    note="its switch SW13 has to select the SPI flash (AMD UG810)",
    fpga=FPGAS["XC7K325T"], vivado_part="xc7k325tffg900-2",
    pcie=Pcie(
        lanes=(
            Lane("GTXE2_CHANNEL_X0Y7", rx=("M6", "M5"), tx=("L4", "L3")),
            Lane("GTXE2_CHANNEL_X0Y6", rx=("P6", "P5"), tx=("M2", "M1")),
            Lane("GTXE2_CHANNEL_X0Y5", rx=("R4", "R3"), tx=("N4", "N3")),
            Lane("GTXE2_CHANNEL_X0Y4", rx=("T6", "T5"), tx=("P2", "P1")),
        ),
        refclk=("U8", "U7"), perst=Pin("G25", "LVCMOS25", "PULLUP"),
        source=Source(f"{_LITEX} (pins)", "pcileech-fpga, issue 115 (pins and channels)")),
    configuration=Configuration(voltage=2.5, rate=33, flash_mib=16, source=Source(f"{_LITEX} (all but the rate)", _GMII)),
    oscillator=Clock(("AD12", "AD11"), 200.0, "LVDS", Source(_LITEX, _GMII)),
    leds=(Led(Pin("AB8", "LVCMOS15"), Role.LINK), Led(Pin("AA8", "LVCMOS15"), Role.ETHERNET),
          Led(Pin("AC9", "LVCMOS15"), Role.CLOCK), Led(Pin("AB9", "LVCMOS15"), Role.BUSY)),
    led_source=Source(_LITEX, f"{_GMII}; amaranth-boards 0.0.21, kc705.py"),
    ethernet=Ethernet(
        "gmii", "88E1111", "LVCMOS25",
        {"rx_clk": "U27", "rx_dv": "R28", "rx_er": "V26",
         "rx_data": ("U30", "U25", "T25", "U28", "R19", "T27", "T26", "T28"),
         "gtx_clk": "K30", "tx_en": "M27", "tx_er": "N29",
         "tx_data": ("N27", "N25", "M29", "L28", "J26", "K26", "L30", "J28")},
        reset_n="L20", mdc="R23", mdio="J21", phy_address=7, source=Source(f"{_LITEX}; AMD UG810 (address 7)", _GMII)),
    lacks=("Vivado's free edition has no XC7K325T: a licence is needed",
           "four of the eight lanes of its connector are used, and its SFP cage is not",
           "its flash for the FPGA is 16 MiB, too small for two images: there is no fallback image"))
