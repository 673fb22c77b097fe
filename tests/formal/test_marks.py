"""Wrap counters of the packed ring: a slot that Marks vouches for was written in the lap before, whatever came and went.

Checked for the first cycles only.
"""

import pytest

from amaranth import *

from ringnic.hdl.virtqueue.marks import Marks
from prove import broken

MOST = 4          # slots of a ring, at most
APART = 4         # cycles that a question takes


def vouches(p, dut):
    """Of one slot, any, it is remembered in which lap it last got a used descriptor of its own. A question is about descriptors
    that the driver has made available again, so behind all that was used, and is asked when no batch is on its way."""
    p.add(dut)
    m = p.m
    begun = p.past(C(1))
    size, k = p.const(3, "size"), p.const(2, "k")
    p.assume((size != 0) & (size <= MOST) & (k < size))

    # Batches: where the next used descriptor goes, and in which lap; a wrap counter is 1 in laps 0, 2, ...
    at, lap, since = Signal(2), Signal(), Signal(range(2 * APART + 1))
    moved, passes, apart = p.free(3, "moved"), p.free(name="passes"), p.free(name="apart")
    settled = since == 2 * APART
    passed = begun & passes
    end, wraps = Signal(4), Signal()
    m.d.comb += [end.eq(at + moved), wraps.eq(end >= size)]
    p.assume((moved != 0) & (moved <= size))
    m.d.comb += [
        dut.setup_valid.eq(~begun), dut.passed_valid.eq(passed), dut.passed.new.eq(end - Mux(wraps, size, 0)),
        dut.passed.old.eq(dut.passed.new - moved), dut.passed.wrap.eq(~(lap ^ wraps)), dut.passed.apart.eq(apart),
    ]
    own, own_lap = Signal(), Signal()
    with m.If(passed):
        m.d.sync += [at.eq(dut.passed.new), lap.eq(lap ^ wraps)]
        with m.If(Mux(k < at, size, 0) + k < end):
            m.d.sync += [own.eq(~apart), own_lap.eq(lap ^ (k < at))]
    m.d.sync += since.eq(Mux(passed, 0, Mux(settled, since, since + 1)))

    # A question, the same for as long as it takes.
    ahead, count = p.const(3, "ahead"), p.const(3, "count")
    p.assume((ahead <= size) & (count != 0) & (count <= size))
    first, over, slot, flip = Signal(4), Signal(), Signal(2), Signal()
    m.d.comb += [first.eq(at + ahead), over.eq(first >= size), slot.eq(first - Mux(over, size, 0)), flip.eq(lap ^ over)]
    m.d.comb += [dut.size.eq(size), dut.slot.eq(slot), dut.flip.eq(flip), dut.count.eq(count)]
    with m.If(settled & dut.marked & (Mux(k < slot, size, 0) + k < slot + count)):
        p.check(own & (own_lap != flip ^ (k < slot)))
    p.cover(settled & dut.marked & own_lap & (ahead != 0) & (count == 3))


def test_marks(formal):
    formal.bounded(lambda p: vouches(p, Marks(num_queues=1)), 40)
    formal.covers(lambda p: vouches(p, Marks(num_queues=1)), 40)


@pytest.mark.parametrize("line, instead", [
    ("Mux(batch.apart, 0, Mux(run[16], 0xffff, run))", "Mux(run[16], 0xffff, run)"),
    ("singles.eq(free <= free_run),", "singles.eq(1),"),
    ("singles & (self.count <= near)", "singles"),
    ("write.data.flip.eq(~batch.wrap),", "write.data.flip.eq(batch.wrap),"),
    ("Mux(row.flip == self.flip, self.size, 0)", "Mux(row.flip != self.flip, self.size, 0)"),
    ("noting & (of_batch == at)", "noting & 0"),
    ("moved.eq(self.passed.new - self.passed.old),", "moved.eq(self.passed.new - self.passed.old + 1),"),
])
def test_broken_marks(formal, line, instead):
    Bad = broken("ringnic.hdl.virtqueue.marks", line, instead).Marks
    formal.refutes(lambda p: vouches(p, Bad(num_queues=1)), 40)
