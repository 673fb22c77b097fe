"""What a descriptor means, and whether it breaks a rule.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.7.5.3 "Indirect Descriptors", 2.8.7 "Indirect Flag:
Scatter-Gather Support".
"""

from amaranth import *
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import VirtqDescF

__all__ = ["Judge", "Source"]


class Source(enum.Enum, shape=2):
    """Where a descriptor comes from: it is the head of a chain, an entry that was read ahead, was read by itself; or there is
    none, for it would be behind the end of its table."""
    HEAD   = 0
    ENTRY  = 1
    SINGLE = 2
    NONE   = 3


class Judge(wiring.Component):
    """Judge one descriptor, in the same cycle. Of one that breaks a rule only ``fails`` is valid.

    Members
    -------
    indirect, packed : In(1)
        INDIRECT_DESC, RING_PACKED were negotiated.
    source : In(Source)
    flags : In(3), len : In(32)
        Of the descriptor.
    over, error : In(1)
        Its buffer runs past the end of the address space; it could not be read.
    halted : In(1)
        A chain of its queue has failed before.
    in_table, in_ring : In(1)
        It is of an indirect table or of a chain in a packed ring; the latter. Low for a head.
    none_left : In(1)
        It is the last one that this chain may have in this table.
    capped : In(1)
        There may be more in the table: the chain is too long with this one.
    ring : Out(1)
        It is a head that stands for a chain in a packed ring.
    starts : Out(1)
        An indirect table (or a chain in a ring) begins here; not that no rule is broken.
    has_next : Out(1)
        It is a buffer, and another descriptor follows.
    fails : Out(1)
    """
    indirect:  In(1)
    packed:    In(1)
    source:    In(Source)
    flags:     In(3)
    len:       In(32)
    over:      In(1)
    error:     In(1)
    halted:    In(1)
    in_table:  In(1)
    in_ring:   In(1)
    none_left: In(1)
    capped:    In(1)
    ring:      Out(1)
    starts:    Out(1)
    has_next:  Out(1)
    fails:     Out(1)

    def elaborate(self, platform):
        m = Module()
        follows, has_table, wrong, too_long, odd = Signal(), Signal(), Signal(), Signal(), Signal()
        is_head = self.source == Source.HEAD
        m.d.comb += [
            follows.eq((self.flags & VirtqDescF.NEXT) != 0),
            has_table.eq((self.flags & VirtqDescF.INDIRECT) != 0),
            self.ring.eq(is_head & self.packed & follows),
            self.has_next.eq(follows),
            wrong.eq(has_table & (follows | self.in_table | ~self.indirect)),
            # A loop is a chain that is longer than its table (2.7.5.2).
            too_long.eq(self.none_left & ~is_head & (self.capped | (self.in_table & self.has_next))),
            odd.eq(self.starts & ((self.len[:4] != 0) | (self.len == 0))),
            self.starts.eq(has_table),
            self.fails.eq(self.halted | (self.source == Source.NONE) | (~self.ring & (
                wrong | too_long | odd | self.over | self.error))),
        ]
        with m.If(self.packed):
            # 2.8.7: the entries of a table follow one another, and of their flags only WRITE means something.
            m.d.comb += [
                self.has_next.eq(self.in_table & ~self.none_left),
                wrong.eq(has_table & Mux(self.in_table, self.in_ring, ~self.indirect)),
                self.starts.eq(self.ring | (has_table & ~(self.in_table & ~self.in_ring))),
            ]
        return m
