"""Frame check sequence.

Ref: IEEE 802.3, 3.2.9 "Frame Check Sequence (FCS) field".
"""

from functools import reduce
from operator import xor

from amaranth import *

__all__ = ["CRC_INIT", "CRC_RESIDUE", "crc_next"]

CRC_INIT = 0xffff_ffff
CRC_RESIDUE = 0xdebb_20e3    # state after a frame and its good FCS
_POLYNOMIAL = 0xedb8_8320    # reflected: bit 0 of a byte is first on the wire


def _shifted(state):
    """``state`` after eight zeros."""
    for _ in range(8):
        state = state >> 1 ^ _POLYNOMIAL * (state & 1)
    return state


def crc_next(state, byte):
    """State after ``byte``, as an expression: what each bit that leaves makes of the others, added up.

    The FCS on the wire is the complement of the state, lowest byte first.
    """
    leaving = state[:8] ^ byte
    return reduce(xor, (Mux(leaving[k], _shifted(1 << k), 0) for k in range(8)), state >> 8)
