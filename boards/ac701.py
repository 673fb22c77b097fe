"""AMD AC701: an evaluation board with a x4 edge connector, one Gigabit PHY and an SFP cage."""

from .board import Board, Clock, Configuration, Ethernet, Lane, Led, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["BOARD"]

_PCILEECH = "pcileech-fpga, ac701_ft601/src/pcileech_ac701.xdc"
_LITEX = "litex-boards, platforms/xilinx_ac701.py"

BOARD = Board(
    "ac701", "AMD AC701", "XC7A200T-2FBG676C",
    volatile=Programming(("openFPGALoader", "-b", "ac701", "{file}"), (".bit",)),
    flash=Programming(("openFPGALoader", "-b", "ac701", "-f", "{file}"), (".bin", ".bit")),
    source="openFPGALoader's list of boards, which says that nobody has tried its flash",
    fpga=FPGAS["XC7A200T"], vivado_part="xc7a200tfbg676-2",
    pcie=Pcie(
        lanes=(
            Lane("GTPE2_CHANNEL_X0Y7", rx=("D12", "C12"), tx=("D10", "C10")),
            Lane("GTPE2_CHANNEL_X0Y6", rx=("B13", "A13"), tx=("B9", "A9")),
            Lane("GTPE2_CHANNEL_X0Y5", rx=("D14", "C14"), tx=("D8", "C8")),
            Lane("GTPE2_CHANNEL_X0Y4", rx=("B11", "A11"), tx=("B7", "A7")),
        ),
        refclk=("F11", "E11"), perst=Pin("M20", "LVCMOS33", "PULLUP"),
        source=Source(_PCILEECH, f"{_LITEX} (PERST# as LVCMOS25 there)")),
    configuration=Configuration(
        voltage=3.3, rate=None, external=1, fall_edge=True, flash_mib=32, fallback=0x80_0000,
        source=Source(_PCILEECH, "satcat5, examples/ac701_loopback (the same clock, divided by 2)")),
    oscillator=Clock(("R3", "P3"), 200.0, "DIFF_SSTL15", Source(_LITEX, _PCILEECH)),
    leds=(Led(Pin("M26", "LVCMOS33"), Role.LINK), Led(Pin("T24", "LVCMOS33"), Role.ETHERNET),
          Led(Pin("T25", "LVCMOS33"), Role.CLOCK), Led(Pin("R26", "LVCMOS33"), Role.BUSY)),
    led_source=Source(_LITEX, _PCILEECH),
    ethernet=Ethernet(
        "rgmii", "88E1116R", "LVCMOS18",
        {"rx_clk": "U21", "rx_ctl": "U14", "rx_data": ("U17", "V17", "V16", "V14"),
         "tx_clk": "U22", "tx_ctl": "T15", "tx_data": ("U16", "U15", "T18", "T17")},
        reset_n="V18", mdc="W18", mdio="T14", phy_address=7,
        source=Source(f"{_LITEX}; AMD UG952 (address 7)", "satcat5, examples/ac701_router (without MDIO)")),
    lacks=("no source names the frequency of the clock on EMCCLK", "its SFP cage is not used",))
