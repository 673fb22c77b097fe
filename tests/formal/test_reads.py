"""DMA reads: what a tag is used for, and what becomes of a completion.

Parts that meet at the seams within the reader are proved each for itself: the account of tags, with completions of any tag in any
cycle; and the placing of completions, with tags in any state.
"""

import pytest

from amaranth import *

from ringnic.hdl.pcie.dma_drain import Drain
from ringnic.hdl.pcie.dma_reorder import Placer, ReorderBuffer
from prove import Anything, broken

CLIENTS, TAGS, SLOT_BYTES = 2, 2, 128
WIDTH = 128   # a header is one beat


def one_hot(condition, number):
    return Mux(condition, C(1, TAGS) << number, 0)[:TAGS]


# Tags

TAGS_CLASS = "class Tags("   # nothing is broken


def accounts(p, part="dma_tags", line=TAGS_CLASS, instead=TAGS_CLASS):
    """A tag is of one request from when that is offered to the link until its answer was read out, and is not used meanwhile.

    A client's tags are ready in the order of its requests, each when a completion has ended it (or some tag has timed out), with
    what was asked for by it. Completions are anything, also for tags that nobody uses. Requests of several TLPs are not here.
    """
    module = broken("ringnic.hdl.pcie.dma_read", "class Reader(", "class Reader(")
    changed = broken(f"ringnic.hdl.pcie.{part}", line, instead)
    for name in {*changed.__all__} & {"Tags", "Lists", "Requests"}:
        setattr(module, name, getattr(changed, name))
    drain, placer = Anything(p, Drain(WIDTH, TAGS, SLOT_BYTES, CLIENTS)), Anything(p, Placer(WIDTH, TAGS, SLOT_BYTES))
    placer.rows = TAGS * SLOT_BYTES // (WIDTH // 8)
    for name, part in (("Drain", drain), ("Placer", placer)):
        setattr(module, name, lambda *sizes, part=part, **named: part)
    module.ReorderBuffer = lambda width, rows: Anything(p, ReorderBuffer(width, rows))   # what is in there does not matter
    dut = p.add(module.Reader(width=WIDTH, clients=CLIENTS, tags=TAGS, slot_bytes=SLOT_BYTES, timeout_cycles=2 * TAGS))
    m = p.m
    m.d.comb += [
        dut.bus_master.eq(p.free(name="bus_master")), dut.stop.eq(p.free(name="stop")), dut.ext_tag.eq(1),
        dut.timeout_disable.eq(p.free(name="timeout_disable")),
        dut.requester_id.eq(0x100), *[port.beat.ready.eq(1) for port in dut.reads],
    ]
    # Each request is of 1 to 3 bytes, so of one TLP, in a page that says whose it is.
    for k, port in enumerate(dut.reads):
        length = p.free(2, "length")
        p.assume(length != 0)
        p.feed(port.req, Cat(C((k + 1) << 12, 64), length, C(0, 14)))
    p.take(dut.tlp)
    m.d.comb += [dut.credits.eq(p.free(name="credits")), dut.stalled.eq(p.free(name="stalled"))]
    begins, data = Signal(), dut.tlp.payload.data
    tag, first_be, client = data[48:56], data[56:60], data[85]
    m.d.comb += begins.eq(dut.tlp.valid & ~p.past(dut.tlp.valid & ~dut.tlp.ready))

    # Drain: what is ready is popped in any cycle, and read out at any time after that, once.
    look, verdict = drain.look, placer.verdict
    p.assume(~drain.pop | (drain.ready.bit_select(drain.client, 1) & (look.tag == drain.head)))
    popped, used, ended = Signal(TAGS), Signal(TAGS), Signal(TAGS)
    p.assume(~look.free | popped.bit_select(look.free_tag, 1))
    p.assume(verdict.valid | ~(verdict.finish | verdict.forget))
    start, free = one_hot(begins, tag), one_hot(look.free, look.free_tag)
    finish = one_hot(verdict.finish, verdict.tag) | dut.timeout.replicate(TAGS)
    m.d.sync += [
        popped.eq((popped | one_hot(drain.pop, look.tag)) & ~free),
        used.eq((used | start) & ~free),
        ended.eq((ended | (finish & (used | start))) & ~free),
    ]
    p.check(~begins | ((tag < TAGS) & ~used.bit_select(tag, 1)))
    p.check(dut.busy | (used == 0))

    # Each client's requests that were not popped, oldest first.
    for k in range(CLIENTS):
        oldest, level = [Signal(8, name=f"oldest{k}_{n}") for n in range(TAGS)], Signal(range(TAGS + 1))
        push, pop, after = Signal(), Signal(), Signal(range(TAGS + 1))
        m.d.comb += [push.eq(begins & (client == k)), pop.eq(drain.pop & (drain.client == k)), after.eq(level - pop)]
        m.d.sync += level.eq(after + push)
        for n in range(TAGS):
            moved = Mux(pop, oldest[min(n + 1, TAGS - 1)], oldest[n])
            m.d.sync += oldest[n].eq(Mux(push & (after == n), Cat(tag[:4], first_be), moved))
        with m.If(drain.ready[k] & (drain.client == k)):
            p.check((level != 0) & (drain.head == oldest[0][:4]))
            p.check(ended.bit_select(drain.head, 1))
        with m.If(pop):
            p.check(look.info.last & (look.info.end <= 4) & (look.info.offset == 0))
            p.check(oldest[0][4:] == (1 << look.info.end) - 1)
        p.cover(pop & (level == 2))
    p.cover(begins & used.any() & p.count(look.free, 1))
    p.cover(used.all())


def test_tags(formal):
    formal.always(accounts)
    formal.covers(accounts, 17)


FREE = '(look("lives", self.tag).mark == read_mark)'


@pytest.mark.parametrize("part, line, instead", [
    ("dma_tags", FREE, "C(1, 1)"),                                                     # a tag that is in use
    ("dma_tags", "verdict.finish & waiting", "verdict.finish"),
    ("dma_tags", FREE, '(look("lives", self.tag).mark == look("ends", self.tag).mark)'),   # before its slot has been read
    ("dma_lists", "more & self.next_ended", "more"),                                   # before it is answered
    ("dma_requests", "issue.client.eq(choice.client)", "issue.client.eq(0)"),
    ("dma_lists", "listed[k].eq(more | push)", "listed[k].eq(1)"),
])
def test_broken_tags(formal, part, line, instead):
    formal.refutes(lambda p: accounts(p, part, line, instead), 14)


# Completions

PLACER = "class Placer("


def places(p, line=PLACER, instead=PLACER):
    """A completion changes nothing but the state and the slot of its own tag, and that only if the tag is awaited and the
    requester is this function; any other is told of as unexpected. Completions, whole TLPs or parts of them, are anything.
    """
    dut = p.add(broken("ringnic.hdl.pcie.dma_reorder", line, instead).Placer(WIDTH, TAGS, SLOT_BYTES))
    m = p.m
    waiting, beat, ours, look, verdict = p.free(TAGS, "waiting"), dut.cpl.payload, C(0x1234, 16), dut.look, dut.verdict
    m.d.comb += [
        look.waiting.eq(waiting.bit_select(look.tag, 1)), look.late.eq(p.free(name="late")), look.fresh.eq(p.free(name="fresh")),
        Value.cast(look.info).eq(p.free(len(Value.cast(look.info)), "info")), dut.requester_id.eq(ours),
        dut.cpl.valid.eq(p.free(name="valid")), Value.cast(beat).eq(p.free(len(Value.cast(beat)), "beat")),
    ]
    p.check(dut.cpl.ready)
    # The header as 2.2.9 draws it: byte k of the TLP is byte k of the beat.
    octets = [beat.data.word_select(k, 8) for k in range(12)]
    head, expected, tag = Signal(init=1), Signal(), octets[10]
    with m.If(dut.cpl.valid):
        m.d.sync += head.eq(beat.last)
    m.d.comb += expected.eq(
        dut.cpl.valid & head & (beat.dws >= 3) & ((octets[0] == 0x0a) | (octets[0] == 0x4a))        # Cpl, CplD
        & (Cat(octets[9], octets[8]) == ours) & (tag < TAGS) & waiting.bit_select(tag, 1))
    # One cycle later it has begun, two cycles later its DWs are written and it is judged.
    begun, now = Signal(), Signal(range(TAGS))
    p.check(~look.begin | (p.past(expected) & (look.begin_tag == p.past(tag))))
    with m.If(p.past(dut.cpl.valid & head)):
        m.d.sync += [begun.eq(look.begin), now.eq(look.begin_tag)]
    p.check(~p.past(p.past(dut.cpl.valid & head & (beat.dws >= 3))) | begun | dut.unexpected)
    stores = Cat(bank.en for bank in dut.banks)
    for strobe, which in ((verdict.finish, verdict.tag), (stores.any(), now)):
        p.check(~strobe | (begun & (which == now)))
    for bank in dut.banks:
        p.check(~bank.en | (bank.row // (dut.rows // TAGS) == now))
    p.check(~verdict.finish | p.past(p.past(dut.cpl.valid & beat.last)))
    p.check(~(verdict.forget & begun))
    p.check(verdict.valid | ~(verdict.finish | verdict.forget))
    p.cover(verdict.finish & ~verdict.broken)
    p.cover(stores.all())
    p.cover(dut.unexpected & p.past(dut.cpl.valid & (octets[0] == 0x4a)))
    p.cover(verdict.finish & verdict.bad & ~verdict.broken)


def test_completions(formal):
    formal.always(places)
    formal.covers(places, 8)


@pytest.mark.parametrize("line, instead", [
    ("known   = judge & ours & waiting", "known   = judge & ours"),
    ("(dw2.requester_id == self.requester_id) & ", ""),
    (" & (dw2.tag < self.tags)", ""),
    ("stores.eq(now.valid & now.known", "stores.eq(now.valid"),
    ("verdict.finish.eq(ending & now.known", "verdict.finish.eq(ending"),
])
def test_broken_completions(formal, line, instead):
    formal.refutes(lambda p: places(p, line, instead), 8)
