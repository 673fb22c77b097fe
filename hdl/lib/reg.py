"""The register seam: 32-bit registers behind the BAR, one access at a time.

A request is answered exactly once if it is a read and never if it is a write. A target answers reads in order and
accepts a request only when it can carry it out.
"""

from amaranth import unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["reg_req", "RegPort", "WordPort"]


def reg_req(addr_width):
    """``addr``: byte address, its two low bits zero. ``be``: byte enables of the write, or bytes that the reader wants."""
    return data.StructLayout({"addr": addr_width, "write": 1, "be": 4, "data": 32})


def RegPort(addr_width):
    """Register port, seen from the initiator. Byte 0 is bits 7:0 of ``data``."""
    return Signature({
        "req":  Out(stream.Signature(reg_req(addr_width))),
        "resp": In(stream.Signature(unsigned(32))),
    })


def WordPort(words):
    """Port to read words of 32 bits, seen from the reader: ``value`` is that of ``word`` in the same cycle.

    Words are numbered so that the last one has all bits of its number set: where others share a page, they are its end.
    """
    return Signature({"word": Out((words - 1).bit_length()), "value": In(32)})
