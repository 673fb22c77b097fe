"""DMA reads: what a tag is used for, and what becomes of a completion.

Parts that meet at the seams within the reader are proved each for itself: the account of tags, with completions of any tag in any
cycle; and the placing of completions, with tags in any state.
"""

import pytest

from amaranth import *

from ringnic.hdl.pcie.dma_reorder import Drain, Placer
from prove import Anything, broken

CLIENTS, TAGS, SLOT_BYTES = 2, 2, 128
WIDTH = 128   # a header is one beat


def one_hot(condition, number):
    return Mux(condition, C(1, TAGS) << number, 0)[:TAGS]


# Tags

READER = "class Reader("   # nothing is broken


def accounts(p, line=READER, instead=READER):
    """A tag is of one request from when that is offered to the link until its answer was read out, and is not used meanwhile.

    A client's tags are ready in the order of its requests, each when a completion has ended it (or some tag has timed out), with
    what was asked for by it. Completions are anything, also for tags that nobody uses. Requests of several TLPs are not here.
    """
    module = broken("ringnic.hdl.pcie.dma_read", line, instead)
    geometry = (WIDTH, TAGS, SLOT_BYTES, CLIENTS)
    drain, placer = Anything(p, Drain(*geometry)), Anything(p, Placer(*geometry))
    placer.rows = 2   # what is in the reorder buffer does not matter
    module.Drain, module.Placer = lambda *geometry: drain, lambda *geometry: placer
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

    # Drain: what is ready is popped a cycle later, and read out at any time after that, once.
    heads = Array(drain.head)
    p.assume(~drain.pop | (p.past(drain.ready).bit_select(drain.pop_client, 1)
                           & (drain.tag == Array(p.past(head) for head in heads)[drain.pop_client])))
    p.assume(~p.past(drain.pop) | ~drain.pop | (drain.pop_client != p.past(drain.pop_client)))
    popped, used, ended = Signal(TAGS), Signal(TAGS), Signal(TAGS)
    p.assume(~drain.free | popped.bit_select(drain.free_tag, 1))
    start, free = one_hot(begins, tag), one_hot(drain.free, drain.free_tag)
    finish = one_hot(placer.finish, placer.finish_tag) | dut.timeout.replicate(TAGS)
    m.d.sync += [
        popped.eq((popped | one_hot(drain.pop, drain.tag)) & ~free),
        used.eq((used | start) & ~free),
        ended.eq((ended | (finish & (used | start))) & ~free),
    ]
    p.check(~begins | ((tag < TAGS) & ~used.bit_select(tag, 1)))
    p.check(dut.busy | (used == 0))

    # Each client's requests that were not popped, oldest first.
    for k in range(CLIENTS):
        oldest, level = [Signal(8, name=f"oldest{k}_{n}") for n in range(TAGS)], Signal(range(TAGS + 1))
        push, pop, after = Signal(), Signal(), Signal(range(TAGS + 1))
        m.d.comb += [push.eq(begins & (client == k)), pop.eq(drain.pop & (drain.pop_client == k)), after.eq(level - pop)]
        m.d.sync += level.eq(after + push)
        for n in range(TAGS):
            moved = Mux(pop, oldest[min(n + 1, TAGS - 1)], oldest[n])
            m.d.sync += oldest[n].eq(Mux(push & (after == n), Cat(tag[:4], first_be), moved))
        with m.If(drain.ready[k] & ~pop):
            p.check((level != 0) & (drain.head[k] == oldest[0][:4]))
            p.check(ended.bit_select(drain.head[k], 1))
        with m.If(pop):
            p.check((drain.info.client == k) & drain.info.last & (drain.info.dws == 1) & (drain.info.offset == 0))
            p.check(oldest[0][4:] == (1 << drain.info.len) - 1)
        p.cover(pop & (level == 2))
    p.cover(begins & used.any() & p.count(drain.free, 1))
    p.cover(used.all())


def test_tags(formal):
    formal.always(accounts)
    formal.covers(accounts, 14)


@pytest.mark.parametrize("line, instead", [
    ("~(used | late).bit_select(next_tag, 1)", "C(1, 1)"),                    # a tag that is in use
    ("one(placer.finish, placer.finish_tag) & waiting", "one(placer.finish, placer.finish_tag)"),
    ("used & ~retires | starts", "used & ~finishes | starts"),                # before its slot has been read
    ("listed[k] & done.bit_select(first[k], 1) & ~pop", "listed[k] & ~pop"),  # before it is answered
    ("data.client.eq(last_client)", "data.client.eq(0)"),
    ("m.d.sync += listed[k].eq(0)", "pass"),
])
def test_broken_tags(formal, line, instead):
    formal.refutes(lambda p: accounts(p, line, instead), 12)


# Completions

PLACER = "class Placer("


def places(p, line=PLACER, instead=PLACER):
    """A completion changes nothing but the state and the slot of its own tag, and that only if the tag is awaited and the
    requester is this function; any other is told of as unexpected. Completions, whole TLPs or parts of them, are anything.
    """
    dut = p.add(broken("ringnic.hdl.pcie.dma_reorder", line, instead).Placer(WIDTH, TAGS, SLOT_BYTES, CLIENTS))
    m = p.m
    waiting, beat, ours = p.free(TAGS, "waiting"), dut.cpl.payload, C(0x1234, 16)
    m.d.comb += [
        dut.waiting.eq(waiting), dut.late.eq(p.free(TAGS, "late")), dut.fresh.eq(p.free(name="fresh")),
        Value.cast(dut.info).eq(p.free(len(Value.cast(dut.info)), "info")), dut.requester_id.eq(ours),
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
    p.check(~dut.begin | (p.past(expected) & (dut.begin_tag == p.past(tag))))
    with m.If(p.past(dut.cpl.valid & head)):
        m.d.sync += [begun.eq(dut.begin), now.eq(dut.begin_tag)]
    p.check(~p.past(p.past(dut.cpl.valid & head & (beat.dws >= 3))) | begun | dut.unexpected)
    for strobe, which in ((dut.spoil, dut.spoil_tag), (dut.finish, dut.finish_tag), (dut.bank_en.any(), now)):
        p.check(~strobe | (begun & (which == now)))
    for bank in range(WIDTH // 32):
        p.check(~dut.bank_en[bank] | (dut.row[bank] // (dut.rows // TAGS) == now))
    p.check(~dut.finish | p.past(p.past(dut.cpl.valid & beat.last)))
    p.check(~(dut.forget & begun))
    p.cover(dut.finish & ~dut.broken)
    p.cover(dut.bank_en.all())
    p.cover(dut.unexpected & p.past(dut.cpl.valid & (octets[0] == 0x4a)))
    p.cover(dut.spoil)


def test_completions(formal):
    formal.always(places)
    formal.covers(places, 8)


@pytest.mark.parametrize("line, instead", [
    ("known.eq(ours & a_waiting", "known.eq(ours"),
    ("(header.requester_id == self.requester_id) & ", ""),
    (" & (header.tag < self.tags)", ""),
    ("c_store.eq(judge & known & ~wrong", "c_store.eq(judge & ~wrong"),
    ("finishing.eq(ending & c_known", "finishing.eq(ending"),
])
def test_broken_completions(formal, line, instead):
    formal.refutes(lambda p: places(p, line, instead), 8)
