"""CaptainDMA 75T and 100T: cards for a x1 slot without Ethernet, alike but for the FPGA."""

from .board import Board, Configuration, Lane, Led, Pcie, Pin, Programming, Role, Source
from .fpga import FPGAS

__all__ = ["BOARDS"]

_75T = "pcileech-fpga, CaptainDMA/75t484_x1/src/pcileech_75t484_x1_captaindma_75t.xdc"
_100T = "voltcyclone-fpga, CaptainDMA/100t484-1/src/pcileech_100t484_x1_captaindma_100t.xdc"


def _board(name, title, fpga, part, source, checked):
    by_part = ("openFPGALoader", "-c", "{cable}", "--fpga-part", part.partition("-")[0])
    return Board(
        name, title, part.upper(), cable="ft2232",
        volatile=Programming((*by_part, "{file}"), (".bit",)), flash=Programming((*by_part, "-f", "{file}"), (".bin", ".bit")),
        source="pcileech-fpga for the FPGA; that openFPGALoader reaches it is not documented",
        note="it needs a JTAG cable on its connector",
        fpga=FPGAS[fpga], vivado_part=part,
        pcie=Pcie(
            lanes=(Lane("GTPE2_CHANNEL_X0Y7", rx=("D9", "C9"), tx=("D7", "C7")),),
            refclk=("F10", "E10"), perst=Pin("C13", "LVCMOS33", "PULLUP"), source=Source(source, checked)),
        configuration=Configuration(voltage=3.3, rate=66, fall_edge=True, flash_mib=16, source=Source(source, checked)),
        leds=(Led(Pin("G21", "LVCMOS33"), Role.LINK, low=True), Led(Pin("G22", "LVCMOS33"), Role.BUSY, low=True)),
        led_source=Source(source, checked),
        lacks=("it has no Ethernet: the card is built with its loopback",
               "no source names the size of its flash: 16 MiB is assumed, and there is no fallback image"))


BOARDS = (
    _board("captain_75t", "CaptainDMA 75T", "XC7A75T", "xc7a75tfgg484-2", _75T, f"{_100T}, of the sister board"),
    _board("captain_100t", "CaptainDMA 100T", "XC7A100T", "xc7a100tfgg484-2", _100T, f"{_75T}, of the sister board"),
)
