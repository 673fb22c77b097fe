"""Alinx AX7325B: known to `ringnic flash` only, until a source names the pins of its slot's clock and reset."""

from .board import Board, Programming

__all__ = ["BOARD"]

BOARD = Board(
    "ax7325b", "Alinx AX7325B", "XC7K325T-2FFG900", cable="ft232",
    volatile=Programming(("openFPGALoader", "-c", "{cable}", "--fpga-part", "xc7k325tffg900", "{file}"), (".bit",)), flash=None,
    source="amaranth-boards",
    lacks=("no source names the pins of the slot's reference clock",
           "Vivado's free edition has no XC7K325T: a licence is needed"))
