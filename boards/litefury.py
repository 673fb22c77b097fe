"""LiteFury: an M.2 card without Ethernet, wired as the Acorn is, with the smaller FPGA."""

from dataclasses import replace

from .acorn_cle215 import ACORN_CONFIGURATION, ACORN_LEDS, ACORN_PCIE
from .board import Board, Programming, Source
from .fpga import FPGAS

__all__ = ["BOARD"]

_BY_PART = ("openFPGALoader", "-c", "{cable}", "--fpga-part", "xc7a100tfgg484")

BOARD = Board(
    "litefury", "LiteFury", "XC7A100T-L2FGG484E", cable="digilent_hs3",
    volatile=Programming((*_BY_PART, "{file}"), (".bit",)), flash=Programming((*_BY_PART, "-f", "{file}"), (".bin", ".bit")),
    source="amaranth-boards", note="it needs a JTAG cable on its connector",
    fpga=FPGAS["XC7A100T"], vivado_part="xc7a100tfgg484-2", pcie=ACORN_PCIE,
    configuration=replace(ACORN_CONFIGURATION, fallback=0x40_0000),
    leds=ACORN_LEDS, led_source=Source("amaranth-boards 0.0.21, nitefury.py", "NiteFury-and-LiteFury, constraints normal.xdc"),
    lacks=("it has no Ethernet: the card is built with its loopback",
           "no source names the frequency of the clock on EMCCLK, or whether the LEDs are lit by 1 or by 0"))
