"""Where used descriptors go in a ring.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.8.1 "Driver and Device Ring Wrap Counters".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UsedPlace"]


class UsedPlace(wiring.Component):
    """Count the entries of a ring that a batch passes, chain by chain. One chain a cycle.

    Members
    -------
    packed : In(1), size : In(16)
        Of the ring. ``last`` follows ``size`` a cycle later.
    begin : In(1), i_slot : In(16), i_flip : In(1)
        Strobe: a batch begins here. Split: at used.idx. Packed: at this entry of the ring, and ``i_flip`` is the complement of
        the device's wrap counter.
    count : In(16), passes : In(1)
        Entries that the chain in hand takes; strobe: go on behind it.
    slot : Out(16), flip : Out(1)
        Where the chain in hand goes.
    last : Out(16)
        The entry at the end of the ring.
    many : Out(1)
        The chain in hand takes several entries.
    passed : Out(16), total : Out(17), apart : Out(1)
        Entries that were passed since the beginning; with those of the chain in hand; some chain took several.
    """
    packed: In(1)
    size:   In(16)
    begin:  In(1)
    i_slot: In(16)
    i_flip: In(1)
    count:  In(16)
    passes: In(1)
    slot:   Out(16)
    flip:   Out(1)
    last:   Out(16)
    many:   Out(1)
    passed: Out(16)
    total:  Out(17)
    apart:  Out(1)

    def elaborate(self, platform):
        m = Module()
        after, beyond, wraps = Signal(17), Signal(18), Signal()
        m.d.comb += [
            self.many.eq(self.count != 1),
            after.eq(self.slot + self.count),
            beyond.eq(after + ~self.last),       # after - (last + 1) + 2**16
            wraps.eq(self.packed & beyond[16:].any()),
            self.total.eq(self.passed + self.count),
        ]
        m.d.sync += self.last.eq(self.size - 1)
        with m.If(self.begin):
            m.d.sync += [self.slot.eq(self.i_slot), self.flip.eq(self.i_flip), self.passed.eq(0), self.apart.eq(0)]
        with m.Elif(self.passes):
            m.d.sync += [
                self.slot.eq(Mux(wraps, beyond, after)),
                self.flip.eq(self.flip ^ wraps),
                self.passed.eq(self.total),
                self.apart.eq(self.apart | self.many),
            ]
        return m
