"""Bitstreams of 7-series FPGAs, as short as they can be."""

import struct

__all__ = ["bitstream"]

# UG470, table 5-24 "7 Series Bitstream Composition": dummy words, bus width, sync, then packets; here by its numbers.
SYNC_WORD, NOOP, TYPE1_WRITE = 0xaa995566, 0x20000000, 0b001_10 << 27
IDCODE_REGISTER, AXSS_REGISTER = 0b01100, 0b01101


def bitstream(idcode=None, code=None, header=b""):
    """A configuration that ends where its frames would begin; ``header`` as a .bit file has one."""
    words = [0xffffffff] * 8 + [0x000000bb, 0x11220044, 0xffffffff, 0xffffffff, SYNC_WORD, NOOP]
    if idcode is not None:
        words += [TYPE1_WRITE | IDCODE_REGISTER << 13 | 1, idcode]
    if code is not None:
        words += [TYPE1_WRITE | AXSS_REGISTER << 13 | 1, code]
    return header + struct.pack(f">{len(words)}I", *words)
