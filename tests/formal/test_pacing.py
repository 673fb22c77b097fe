"""Used chains: none waits for longer than two ticks for each queue, and what is written of a queue keeps the next for a tick.

Checked for the first cycles only, from rest on.
"""

import pytest

from amaranth import *

from ringnic.hdl.virtqueue.pacing import Pacing
from prove import broken

TICK, QUEUES = 4, 2
DEPTH = 28


def waits(p, line="class Pacing(", instead="class Pacing("):
    """Strobes come in any order, one at a time, on either queue; one of them is watched."""
    dut = p.add(broken("ringnic.hdl.virtqueue.pacing", line, instead).Pacing(num_queues=QUEUES, hold_cycles=TICK))
    m = p.m
    watched, queue = p.const(1, "watched"), p.free(1, "queue")
    given, taken, written, hurry = (p.free(name=name) for name in ("given", "taken", "written", "hurry"))
    m.d.comb += [dut.queue.eq(queue), dut.given.eq(given), dut.ends.eq(p.free(name="ends")), dut.full.eq(p.free(name="full")),
                 dut.taken.eq(taken), dut.written.eq(written), dut.hurry.eq(hurry)]
    p.assume((given + taken + written) <= 1)
    p.assume(~taken | dut.due.bit_select(queue, 1))
    p.assume(~written | ~dut.waits.bit_select(queue, 1))     # nothing is collected while chains are being written
    mine, due, holds = queue == watched, dut.due.bit_select(watched, 1), dut.waits.bit_select(watched, 1)
    age, since, before, at_once = (Signal(5, name=name) for name in ("age", "since", "before", "at_once"))
    m.d.sync += [
        age.eq(Mux(holds & ~due, age + 1, 0)),
        since.eq(Mux(written & mine, 1, Mux((since == 0) | (since == 31), since, since + 1))),
        before.eq(due),
        at_once.eq(hurry | (given & mine & dut.prompt)),
    ]
    p.check(age <= 2 * QUEUES * TICK)
    p.check(~due | holds)
    rises = due & ~before[0]
    p.check(~rises | at_once[0] | (since == 0) | (since > TICK))
    p.check(~(given & mine & dut.ends & (since == 0)) | dut.prompt)     # nothing was written yet
    # One that is due is found, and what is found is due, until it is taken.
    found, was_taken = dut.next_valid & (dut.next == watched), p.past(taken & mine)
    unfound = Signal(3)
    m.d.sync += unfound.eq(Mux(due & ~dut.next_valid, unfound + 1, 0))
    p.check(unfound <= QUEUES)
    p.check(~found | due | was_taken)
    p.cover(rises & ~at_once[0] & (since != 0))


def test_waits(formal):
    formal.bounded(waits, DEPTH)
    formal.covers(waits, DEPTH)


@pytest.mark.parametrize("line, instead", [
    ("with m.If(ages | ~busy):", "with m.If(~busy):"),                              # the other queue waits for ever
    ("with m.If(old.bit_select(turn, 1)):", "with m.If(C(1, 1)):"),                 # kept for less than a tick
    ("with m.If(~is_due):", "with m.If(C(0, 1)):"),                                 # the other queue is due for ever
    ("recent.bit_select(self.queue, 1).eq(1), old.bit_select(self.queue, 1).eq(0)", "recent.bit_select(self.queue, 1).eq(1)"),
    ("self.ends & (self.hurry | ~recent", "self.ends & (self.hurry & ~recent"),     # a lone chain waits
])
def test_broken(formal, line, instead):
    formal.refutes(lambda p: waits(p, line, instead), DEPTH)
