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


def crc_next(state, byte):
    """State after ``byte``, as an expression: each bit the exclusive or of the bits it depends on.

    The FCS on the wire is the complement of the state, lowest byte first.
    """
    bits = [{("state", k)} for k in range(32)]
    for k in range(8):
        feedback = bits[0] ^ {("byte", k)}
        bits = bits[1:] + [set()]
        bits = [terms ^ feedback if _POLYNOMIAL >> n & 1 else terms for n, terms in enumerate(bits)]
    source = {"state": state, "byte": byte}
    return Cat(reduce(xor, (source[name][k] for name, k in sorted(terms))) for terms in bits)
