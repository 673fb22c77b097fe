"""Packets on streams: no byte and no end is lost, doubled or overtaken where packets are packed, cut, stored, held or swallowed.

As with single items (``test_streams.py``) the solver marks one: one byte, or one end of a packet. What comes before it has colour
0, what comes behind it colour 2.
"""

import pytest

from amaranth import *

from ringnic.hdl.lib.frame import frame_beat
from ringnic.hdl.lib.gate import PacketCut, PacketGate
from ringnic.hdl.lib.pack import Cutter, Packer
from ringnic.hdl.lib.packet_queue import PacketQueue
from prove import broken

LANES = 2
WIDTH = 8 * LANES


class Marked:
    """Packets to send: ``count`` bytes a beat, ``end``, and which symbol of the beat is the marked one, if any."""
    def __init__(self, p, *, packed, width=WIDTH):
        lanes = width // 8
        self.p, self.lanes = p, lanes
        self.count, self.end = p.free(range(lanes + 1), "count"), p.free(name="end")
        self.choice, self.chosen = p.free(range(lanes + 1), "choice"), p.free(name="chosen")
        self.passed, self.empty = Signal(), Signal(init=1)
        p.assume(self.count <= lanes)
        if packed:
            p.assume((self.count == lanes) | self.end)
            p.assume((self.count != 0) | self.empty)
        # The mark is on a byte that is there, or on an end that is there.
        p.assume(~self.chosen | (self.choice < self.count) | ((self.choice == lanes) & self.end))
        now = self.chosen & ~self.passed
        colours = [Mux(self.passed, 2, Mux(now, Mux(self.choice == k, 1, Mux(self.choice < k, 2, 0)), 0)) for k in range(lanes)]
        self.payload = Cat(*[Cat(colour[:2], C(0, 6)) for colour in colours], self.count, self.end,
                           now & (self.choice == lanes))

    def sent(self, transfer):
        with self.p.m.If(transfer):
            self.p.m.d.sync += [self.passed.eq(self.passed | self.chosen), self.empty.eq(self.end)]


def in_order(p, beat, seen):
    """The bytes of a beat that is received are where they belong; return whether the mark has come when it has."""
    after = seen
    for k in range(LANES):
        colour, here = beat.data.word_select(k, 8), beat.count > k
        p.check(~here | Mux(after, colour == 2, colour <= 1))
        after = after | (here & (colour == 1))
    return after


def packs(p, dut):
    """What is received is what was sent, packed."""
    p.add(dut)
    source = Marked(p, packed=False)
    skip, noise = p.free(1, "skip"), p.free(8, "noise")
    p.assume(~skip | (source.count <= 1))
    rest = source.payload[WIDTH:]
    source.sent(p.feed(dut.i, Cat(Mux(skip, Cat(noise, source.payload[:8]), source.payload[:WIDTH]), skip, rest)))
    got, beat, seen = p.take(dut.o), dut.o.p, Signal()
    with p.m.If(got):
        p.check(beat.count <= LANES)
        p.check((beat.count == LANES) | beat.last)
        after = in_order(p, beat, seen)
        p.check(~(beat.last & beat.error & after))
        p.m.d.sync += seen.eq(after | (beat.last & beat.error))
    p.cover(got & seen & beat.last)


def test_packer(formal):
    formal.always(lambda p: packs(p, Packer(width=WIDTH)))
    formal.covers(lambda p: packs(p, Packer(width=WIDTH)), 10)


@pytest.mark.parametrize("line, instead", [
    ("level.eq(rest),", "level.eq(0),"),
    ("tail.eq(self.i.p.last & (rest != 0))]", "tail.eq(0)]"),
    ("tail_error.eq(self.i.p.error)", "tail_error.eq(0)"),
    ("o.p.last.eq(tail | (self.i.p.last & (~full | (rest == 0)))),", "o.p.last.eq(tail | self.i.p.last),"),
    ("turn.eq(level - self.i.p.skip),", "turn.eq(level),"),
    ("moves & (full | ~waits)", "moves"),
])
def test_broken_packer(formal, line, instead):
    Bad = broken("ringnic.hdl.lib.pack", line, instead).Packer
    formal.refutes(lambda p: packs(p, Bad(width=WIDTH)), 10)


def cuts(p, dut, most=5):
    """Packets of pieces of 1 to ``most`` bytes: a piece is given with the beats that have its bytes, each as it came; no beat is
    taken while there is a piece to come that has bytes of it, and each is after the last of them."""
    p.add(dut)
    beat = p.free(8 * LANES, "data")
    sent = p.feed(dut.i, Cat(beat, C(LANES, len(dut.i.p.count)), p.free(name="last"), C(0, 1)))
    length, more, lane = p.free(range(most + 1), "length"), p.free(name="more"), Signal(range(LANES))
    p.assume((length != 0) & (length <= most))
    cut = p.feed(dut.i_cut, Cat(length, C(0, 16 - len(length)), lane, more))
    # Of the piece: bytes to come, counted from its first beat's lane 0; and whether the packet goes on.
    left, cutting, goes_on = Signal(range(most + LANES)), Signal(), Signal()
    got = p.take(dut.o)
    with p.m.If(got):
        p.check(cutting)
        p.check(dut.o.p.data == dut.i.p.data)
        p.check(dut.o.p.last == (left <= LANES))
        p.m.d.sync += [left.eq(left - LANES), cutting.eq(~dut.o.p.last)]
    with p.m.If(cut):
        p.check(~cutting)
        p.m.d.sync += [left.eq(lane + length), cutting.eq(1), goes_on.eq(more), lane.eq(Mux(more, lane + length, 0))]
    p.check(sent == (got & ((left >= LANES) | ~goes_on)))
    p.check(~cutting | (dut.o.valid == dut.i.valid))              # it waits for nothing else
    p.cover(got & ~sent)
    p.cover(sent & dut.o.p.last & goes_on)
    p.cover(sent & dut.o.p.last & ~goes_on & (left < LANES))


def test_cutter(formal):
    formal.always(lambda p: cuts(p, Cutter(width=WIDTH)))
    formal.covers(lambda p: cuts(p, Cutter(width=WIDTH)), 12)


@pytest.mark.parametrize("line, instead", [
    ("(full == 0) | ((full == 1) & ~within)", "full <= 1"),
    ("stays.eq(end[:bits].any() & cut.more),", "stays.eq(cut.more),"),
    ("stays.eq(end[:bits].any() & cut.more),", "stays.eq(end[:bits].any()),"),
    ("full.eq(cut.len[bits:] + end[bits]),", "full.eq(cut.len[bits:]),"),
])
def test_broken_cutter(formal, line, instead):
    Bad = broken("ringnic.hdl.lib.pack", line, instead).Cutter
    formal.refutes(lambda p: cuts(p, Bad(width=WIDTH)), 12)


# Stopping packets

def gates(p, dut):
    """What passes is what came, whole; while the gate holds nothing begins, and it does hold when nobody is inside."""
    p.add(dut)
    source = Marked(p, packed=False)
    sent = p.feed(dut.i, source.payload)
    source.sent(sent)
    p.m.d.comb += dut.hold.eq(p.free(name="hold"))
    got = p.take(dut.o)
    inside = Signal()
    with p.m.If(dut.o.valid):
        p.m.d.sync += inside.eq(~(got & dut.o.p.last))
    p.check(sent == got)
    p.check(~got | (Value.cast(dut.i.p) == Value.cast(dut.o.p)))
    p.check(dut.held == (dut.hold & ~inside))
    p.check(~dut.held | ~dut.o.valid)
    p.check(dut.held | (dut.o.valid == dut.i.valid))
    p.cover(dut.held & dut.i.valid & p.past(got))
    p.cover(dut.hold & got & ~dut.o.p.last)


def test_gate(formal):
    formal.always(lambda p: gates(p, PacketGate(frame_beat(WIDTH))))
    formal.covers(lambda p: gates(p, PacketGate(frame_beat(WIDTH))), 10)


@pytest.mark.parametrize("line, instead", [
    ("m.d.sync += inside.eq(~self.o.p.last)", "m.d.sync += inside.eq(0)"),
    ("with m.Elif(self.o.valid):", "with m.Elif(0):"),                       # what was offered is withdrawn
])
def test_broken_gate(formal, line, instead):
    Bad = broken("ringnic.hdl.lib.gate", line, instead).PacketGate
    formal.refutes(lambda p: gates(p, Bad(frame_beat(WIDTH))), 6)


def swallows(p, dut):
    """All is taken while it holds; afterwards what passes begins with the beginning of a packet."""
    p.add(dut)
    source = Marked(p, packed=False)
    sent = p.feed(dut.i, source.payload)
    source.sent(sent)
    ready = p.free(name="ready")
    p.m.d.comb += [dut.hold.eq(p.free(name="hold")), dut.o.ready.eq(ready)]
    got = dut.o.valid & dut.o.ready
    held, outer, inner = p.past(dut.hold), Signal(), Signal()   # the packet outside goes on, the one that passes does
    with p.m.If(sent):
        p.m.d.sync += outer.eq(~dut.i.p.last)
    with p.m.If(dut.hold):
        p.m.d.sync += inner.eq(0)
    with p.m.Elif(got):
        p.m.d.sync += inner.eq(~dut.o.p.last)
    waits, payload = p.past(dut.o.valid & ~dut.o.ready), p.past(dut.o.p)
    p.check(dut.hold | ~waits | (dut.o.valid & (Value.cast(dut.o.p) == payload)))
    p.check(~dut.hold | (dut.i.ready & ~dut.o.valid))
    p.check(~got | (sent & (inner == outer)))
    p.check(~sent | got | dut.hold | (outer & ~inner))           # nothing else is swallowed
    p.cover(sent & ~got & ~dut.hold & ~held)
    p.cover(got & inner)


def test_cut(formal):
    formal.always(lambda p: swallows(p, PacketCut(frame_beat(WIDTH))))
    formal.covers(lambda p: swallows(p, PacketCut(frame_beat(WIDTH))), 10)


@pytest.mark.parametrize("line, instead", [
    ("cut.eq(self.hold | (cut & inside))", "cut.eq(self.hold)"),
    ("passes.eq(~self.hold & ~(cut & inside)),", "passes.eq(~self.hold),"),
])
def test_broken_cut(formal, line, instead):
    Bad = broken("ringnic.hdl.lib.gate", line, instead).PacketCut
    formal.refutes(lambda p: swallows(p, Bad(frame_beat(WIDTH))), 6)


# Storing packets

def stores(p, dut):
    """Packets of one byte a beat, or none in the last. The bytes of one of them, which the solver chooses, have colour 1."""
    p.add(dut)
    m = p.m
    error, phase = p.free(name="error"), Signal(2)               # of the packet on its way in: its colour
    end, count, begins = p.free(name="end"), p.free(name="count"), Signal(init=1)
    length = Signal(8)
    mine, chosen = Signal(), p.free(name="chosen")
    m.d.comb += mine.eq(Mux(begins, (phase == 0) & chosen, phase == 1))
    p.assume(count | end)
    p.assume(count | begins | C(int(dut.drop_on_full)))           # else only an empty packet has an empty last beat
    p.assume(length < 4)
    sent = p.feed(dut.i, Cat(Mux(mine, 1, phase & 2), C(0, 6), count, end, error))
    kept, given, whole = Signal(), Signal(), Signal(4)
    with m.If(sent):
        m.d.sync += [begins.eq(end), length.eq(Mux(end, 0, length + count)),
                     phase.eq(Mux(mine, Mux(end, 2, 1), phase))]
        with m.If(end & mine):
            m.d.sync += [kept.eq(dut.kept), whole.eq(length + count)]
    # A packet that arrives damaged never leaves; one that is whole is lost only when there is no room, and that is told.
    arrives = sent & end
    p.check(~dut.kept | arrives)
    p.check(~dut.lost | arrives)
    p.check(~arrives | (dut.kept + dut.lost + error == 1))
    p.check(dut.drop_on_full | ~dut.lost)
    p.check(~C(int(dut.drop_on_full)) | dut.i.ready)
    p.check((dut.free <= dut.depth) & (dut.packets <= dut.max_packets))
    got, told = p.take(dut.o), p.take(dut.o_len)
    inside, sofar = Signal(), Signal(4)
    colour = Signal(2)
    m.d.comb += colour.eq(dut.o.p.data)
    with m.If(got):
        m.d.sync += [inside.eq(~dut.o.p.last), sofar.eq(Mux(dut.o.p.last, 0, sofar + dut.o.p.count))]
        p.check(dut.o.p.count | dut.o.p.last)
        with m.If(colour == 1):
            m.d.sync += given.eq(dut.o.p.last)
            p.check(kept & ~given)
            p.check(sofar + dut.o.p.count <= whole)
            p.check(dut.o.p.last == (sofar + dut.o.p.count == whole))
        with m.Elif((colour == 2) & dut.o.p.count):
            p.check(given | ~kept)
    p.cover(got & inside & (colour == 2) & given & dut.o.p.last)
    p.cover(dut.lost | ~C(int(dut.drop_on_full)))
    p.cover(told & (dut.free == 0))


@pytest.mark.parametrize("drop_on_full", [True, False])
def test_packet_queue(formal, drop_on_full):
    def harness(p):
        stores(p, PacketQueue(width=8, depth=2, max_packets=2, drop_on_full=drop_on_full))
    formal.bounded(harness, 14)
    formal.covers(harness, 16)
