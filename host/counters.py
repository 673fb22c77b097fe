"""A RingNIC's event counters, over whatever reads its BAR 0."""

from ..hdl.spec.bar import COUNTERS, COUNTERS_HEADER_SIZE, COUNTERS_OFFSET

__all__ = ["read_counters"]


def _counter(read, at):
    """Return a 64-bit counter read as two halves; the low half is read again if it was close to an overflow."""
    while True:
        low, high = read(at), read(at + 4)
        if low < 1 << 31 or read(at) >= low:
            return high << 32 | low


def read_counters(read):
    """Return the counters by name. ``read(offset)`` returns a DW of BAR 0, which has a page of counters."""
    return {name: _counter(read, COUNTERS_OFFSET + COUNTERS_HEADER_SIZE + 8 * k) for k, name in enumerate(COUNTERS)}
