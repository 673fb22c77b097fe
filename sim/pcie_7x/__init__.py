"""A model of the PCI Express block of 7-series FPGAs, for simulators: the ports of the IP below, raw TLPs above.

It is written from Xilinx's product guide PG054 and the PCI Express Base Specification; what rests on neither, nor on the public
sources of the IP's wrapper, is marked "our reading". LitePCIe, whose gateware runs on real boards, judges framing, straddling and
the configuration outputs (tests/bench).
"""

from .block import Block
from .config import Identity

__all__ = ["Block", "Identity"]
