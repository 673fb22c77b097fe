"""What is known of a chain while it is followed, and how it goes on.

Ref: VIRTIO 1.4, 2.7.5.2, 2.7.5.3 "Indirect Descriptors", 2.8.6 "Next Flag: Descriptor Chaining".
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import VirtqDescF

__all__ = ["INDEX_BITS", "Tally", "context_layout", "desc_layout"]

INDEX_BITS = 17  # of entries of a table: ``next`` has 16 bits, and a limit is one more


def context_layout(layouts):
    """Of a chain: entries of its table; the entry after the one to judge; how many may follow that one (``capped``: there may be
    more); whether that table is an indirect one or the ring, if it is not the queue's own; whether it has a device-writable
    buffer; its queue; where those entries end that were read ahead."""
    return data.StructLayout({
        "limit": INDEX_BITS, "index": INDEX_BITS, "left": INDEX_BITS, "capped": 1, "in_table": 1, "in_ring": 1,
        "writable": 1, "queue": layouts.row["queue"].shape, "end": layouts.position})


def desc_layout(layouts):
    """A descriptor, wherever it was read, as it is judged."""
    return data.StructLayout({name: layouts.row[name].shape
                              for name in ("addr", "len", "flags", "next", "over", "error", "id")})


class Tally(wiring.Component):
    """Find what the context of a chain is for the descriptor after this one, in the same cycle.

    Parameters
    ----------
    layouts : Layouts
        See :class:`.ahead.Layouts`.
    max_table : int
        See :class:`.follow.Follow`.

    Members
    -------
    packed : In(1)
        RING_PACKED was negotiated.
    size : In(16)
        Of the queue, in entries; for a head.
    known : In(context_layout(layouts)), desc : In(desc_layout(layouts))
    is_head, ring, starts : In(1)
        The descriptor is the head of a chain; the other two as :class:`.judge.Judge` has them.
    new : Out(context_layout(layouts))
    index : Out(INDEX_BITS), within : Out(1), far : Out(1)
        Of the next descriptor, in its table; whether it is one of its table; whether that is an indirect one.
    """
    def __init__(self, *, layouts, max_table):
        self.max_table = max_table
        super().__init__({
            "packed":  In(1),
            "size":    In(16),
            "known":   In(context_layout(layouts)),
            "desc":    In(desc_layout(layouts)),
            "is_head": In(1),
            "ring":    In(1),
            "starts":  In(1),
            "new":     Out(context_layout(layouts)),
            "index":   Out(INDEX_BITS),
            "within":  Out(1),
            "far":     Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        known, new, desc, index = self.known, self.new, self.desc, self.index
        table_starts = Signal()
        limit, after = Signal(INDEX_BITS), Signal(INDEX_BITS)
        entries, most, left, capped = Signal(28), Signal(INDEX_BITS), Signal(28), Signal()
        m.d.comb += [
            table_starts.eq(self.starts & ~self.ring),
            limit.eq(Mux(self.is_head, self.size, known.limit)),
            # A chain may have as many descriptors as the queue; in a table, ``max_table`` if that is more. Which is looked for
            # up to the first one that is too many.
            most.eq(Mux(limit > self.max_table, limit, self.max_table)),
            entries.eq(Mux(self.ring, desc.len[:16], desc.len[4:])),
            capped.eq(entries[INDEX_BITS:].any() | (entries[:INDEX_BITS] > most)),
            left.eq(Mux(self.starts, entries, Mux(self.is_head, limit, known.left)) - 1),
            after.eq(Mux(self.ring, desc.next, known.index) + 1),
            index.eq(Mux(table_starts, 0, Mux(self.packed, known.index, desc.next))),
            self.within.eq(table_starts | (index < limit)),
            self.far.eq(new.in_table & ~new.in_ring),
            new.limit.eq(limit),
            new.index.eq(after),
            new.left.eq(left),
            new.capped.eq(Mux(self.is_head, 1, known.capped)),
            new.in_table.eq(known.in_table | self.starts),
            new.in_ring.eq(known.in_ring | self.ring),
            new.writable.eq(known.writable | (~self.starts & ((desc.flags & VirtqDescF.WRITE) != 0))),
            new.queue.eq(known.queue),
            new.end.eq(known.end),
        ]
        with m.If(new.in_ring & (after == limit)):
            m.d.comb += new.index.eq(0)
        with m.If(self.starts):
            m.d.comb += new.capped.eq(capped)
            with m.If(capped):
                m.d.comb += new.left.eq(most)
        with m.If(table_starts):
            m.d.comb += [new.index.eq(1), new.limit.eq(Mux(entries[16:].any(), 1 << 16, entries))]
        return m
