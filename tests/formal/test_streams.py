"""The hold rule: what a component offers on a stream stays, unchanged, until it is taken; and nothing passes twice or not at all.

A stream that changes nothing of what passes is proved with items 0, 0, ..., 1, 2, 2, ...: whatever is lost, doubled or
overtaken, some choice of where the 1 is shows it, for no component looks into what it carries.
"""

import pytest

from amaranth import *
from amaranth.lib import data

from ringnic.hdl.lib.queue import Buffer, Queue
from ringnic.hdl.lib.slice import Skid, Slice
from prove import broken


def coloured(p, sent):
    """Return an item (2 bits) to send: 0 until the solver chooses, then 1 once, then 2."""
    passed, now = Signal(), p.free(name="now")
    with p.m.If(sent & now):
        p.m.d.sync += passed.eq(1)
    return Mux(passed, 2, now)


def conveys(p, dut, within, through=0):
    """``dut`` gives out what it took, in order; its ``within`` items, if it says so, are those inside. ``through``: an item may
    leave in the cycle in which it comes."""
    p.add(dut)
    sent = Signal()
    p.m.d.comb += sent.eq(dut.i.valid & dut.i.ready)
    p.feed(dut.i, coloured(p, sent))
    got = p.take(dut.o)
    seen, inside = Signal(), Signal(range(16))
    with p.m.If(got & (dut.o.payload == 1)):
        p.m.d.sync += seen.eq(1)
    p.m.d.sync += inside.eq(inside + sent - got)
    with p.m.If(dut.o.valid):
        p.check(dut.o.payload == Mux(seen, 2, dut.o.payload & 1))
        p.check((inside != 0) | (through & sent))
    p.check(inside <= within)
    p.cover(got & seen)
    p.cover(inside == within)
    if hasattr(dut, "level"):
        p.check(dut.level == inside)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_queue(formal, depth):
    formal.always(lambda p: conveys(p, Queue(2, depth), depth))
    formal.covers(lambda p: conveys(p, Queue(2, depth), depth), 4 * depth)


@pytest.mark.parametrize("depth", [2, 4])
def test_buffer(formal, depth):
    formal.always(lambda p: conveys(p, Buffer(2, depth), depth))
    formal.covers(lambda p: conveys(p, Buffer(2, depth), depth), 4 * depth)


@pytest.mark.parametrize("line, instead", [
    ("(next_came ^ next_gone) == self.depth", "0"),
    ("self.o.valid.eq(next_came != next_gone)", "self.o.valid.eq(came != gone)"),
])
def test_broken_buffer(formal, line, instead):
    Bad = broken("ringnic.hdl.lib.queue", line, instead).Buffer
    formal.refutes(lambda p: conveys(p, Bad(2, 4), 4), 12)


def test_slice(formal):
    formal.always(lambda p: conveys(p, Slice(2), 2))
    formal.covers(lambda p: conveys(p, Slice(2), 2), 10)


def test_broken_slice(formal):
    Bad = broken("ringnic.hdl.lib.slice", "full.eq(1)", "full.eq(0)").Slice
    formal.refutes(lambda p: conveys(p, Bad(2), 2), 10)


def test_skid(formal):
    formal.always(lambda p: conveys(p, Skid(2), 1, through=1))
    formal.covers(lambda p: conveys(p, Skid(2), 1, through=1), 10)


def test_broken_skid(formal):
    Bad = broken("ringnic.hdl.lib.slice", "Mux(full, kept, self.i.payload)", "self.i.payload").Skid
    formal.refutes(lambda p: conveys(p, Bad(2), 1, through=1), 10)
