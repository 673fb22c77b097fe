"""Chains of each port come whole, in order, with what was read ahead for them; and no port waits for the device of another.

The memory in front of the pipeline is played by the harness: a row says which one it is, and otherwise anything.
"""

import pytest

from amaranth import *

from ringnic.hdl.virtqueue.ahead import HEAD_BITS
from prove import broken

FOLLOW = "class Follow("    # nothing is broken
KEPT = 8           # heads that are there at most, each with two entries that were asked for ahead
PATIENCE = 10      # cycles that a port whose segments are taken waits for one, if it has a head that needs no reading


def follow(p, line=FOLLOW, instead=FOLLOW, plain=()):
    """Follow with two ports. Heads come in any cycle, and so do the entries that belong to them; of ports that are ``plain``
    chains are sound and of one descriptor. Return it, the numbers of heads that came, and the transfers of segments."""
    module = broken("ringnic.hdl.virtqueue.follow", line, instead)
    dut = p.add(module.Follow(num_queues=1, ports=2, max_ahead=1, max_table=2))
    m = p.m
    heads, transfers = [], []
    m.d.comb += [
        dut.control.indirect.eq(p.free(name="indirect")), dut.control.packed.eq(p.const(name="packed")),
        dut.control.setup_valid.eq(p.free(name="setup_valid")), dut.control.setup.size.eq(p.free(2, "size")),
        dut.over.eq(p.free(name="over")),
    ]
    place, head = Signal.like(dut.place), Signal.like(dut.heads[0])
    oldest = Array(dut.first_head)[dut.place.port]
    m.d.sync += [place.eq(dut.place), head.eq(oldest + (dut.place.position - oldest)[:HEAD_BITS - 1])]   # as it is counted
    sound = Cat(k in plain for k in range(2)).bit_select(place.port, 1)
    row, position = dut.row, place.position
    # An entry says which one it is by its address, above a bit that no other row has.
    m.d.comb += [
        row.id.eq(head), row.end.eq((head + 1) << 1), row.addr.eq(Mux(place.table, Cat(1, position), 0)),
        row.len.eq(Cat(p.free(2, "count"), C(0, 2), p.free(2, "len"))), row.next.eq(p.free(2, "next")),
    ]
    for name in ("flags", "over", "error"):
        m.d.comb += row[name].eq(Mux(sound, 0, p.free(len(Value.cast(row[name])), name)))
    asked = p.take(dut.single)
    waits = Signal(2)              # ports that wait for the answer of a read
    answered = dut.answer_valid
    m.d.comb += [
        answered.eq(p.free(name="answered") & waits.bit_select(dut.answer.port, 1)), dut.answer.port.eq(p.free(1, "of")),
        dut.answer.single.eq(1), dut.answer.last.eq(1), dut.answer.error.eq(p.free(name="bad")), dut.answer.desc.addr.eq(2),
        Value.cast(dut.answer.desc.flags).eq(p.free(3, "answer_flags")), dut.answer.desc.next.eq(p.free(3, "answer_next")),
    ]
    p.check(~asked | ~waits.bit_select(dut.single.payload.port, 1))
    with m.If(answered):
        m.d.sync += waits.bit_select(dut.answer.port, 1).eq(0)
    with m.If(asked):
        m.d.sync += waits.bit_select(dut.single.payload.port, 1).eq(1)
    for k, o in enumerate(dut.o):
        behind = (dut.heads[k] - dut.first_head[k])[:len(dut.heads[k])]
        comes = p.free(name=f"head_{k}") & (behind != KEPT)
        due = Signal.like(dut.entries[k])     # where the entries end that were asked for
        m.d.sync += [dut.heads[k].eq(dut.heads[k] + comes), due.eq(due + Mux(comes, 2, 0))]
        m.d.sync += dut.entries[k].eq(dut.entries[k] + (p.free(name=f"entry_{k}") & (dut.entries[k] != due)))
        p.check((behind <= KEPT) & ((due - dut.first_entry[k])[:len(due)] <= 2 * KEPT))
        heads.append(behind)
        transfers.append(p.take(o))
    return dut, heads, transfers


def in_order(p, *change):
    """Each chain ends once, and the next one is of the next head; entries are of its own table, one after the other."""
    dut, _, transfers = follow(p, *change)
    m = p.m
    for k, (o, moves) in enumerate(zip(dut.o, transfers)):
        chain, entries = Signal(len(dut.heads[k]), name=f"chain_{k}"), Signal(2, name=f"entries_{k}")
        segment, is_entry = o.payload, o.payload.addr[0]
        with m.If(o.valid):
            p.check(segment.chain.id == chain)
            p.check(~is_entry | (segment.addr[1:] == ((chain << 1) + entries)[:len(dut.entries[k])]))
            p.check(~is_entry | (entries < 2))
            p.check(segment.last | ~segment.error)
        with m.If(moves):
            m.d.sync += entries.eq(Mux(segment.last, 0, entries + is_entry))
            m.d.sync += chain.eq(chain + segment.last)
        p.cover(moves & segment.last & ~segment.error & (entries == 1) & is_entry)
        p.cover(moves & segment.addr[1] & segment.last)
    p.cover(p.past(transfers[0] & dut.o[0].payload.addr[0]) & transfers[1] & dut.o[1].payload.addr[0])


def test_chains_come_in_order(formal):
    formal.bounded(in_order, 10)
    formal.covers(in_order, 16)


@pytest.mark.parametrize("line, instead", [
    ("offers.any() & (~again | self.as_foreseen)", "offers.any()"),
    ("self.first_entry[k].eq(known.end)", "self.first_entry[k].eq(self.first_entry[k] + 1)"),
    ("self.judges & ~Cat(o.valid for o in self.o).bit_select(port, 1)", "self.judges"),
    ("acts & (self.foreseen == next_source)", "self.foreseen == next_source"),
])
def test_broken_order(formal, line, instead):
    formal.refutes(lambda p: in_order(p, line, instead), 12)


def no_port_waits(p, *change):
    """Whatever port 0 has, and however long its device takes nothing, port 1 goes on."""
    dut, heads, transfers = follow(p, *change, plain=(1,))
    waits = heads[1] != 0
    since = Signal(range(PATIENCE + 2))
    p.m.d.sync += since.eq(Mux(waits & ~dut.o[1].valid, since + (since <= PATIENCE), 0))
    p.check(since <= PATIENCE)
    p.cover((since == 4) & transfers[1])


def test_no_port_waits_for_another(formal):
    formal.bounded(no_port_waits, 13)
    formal.covers(no_port_waits, 12)


def test_a_port_that_waits_is_found(formal):
    line = "~Cat(o.valid for o in self.o).bit_select(port, 1)"
    formal.refutes(lambda p: no_port_waits(p, line, "~Cat(o.valid for o in self.o).any()"), 20)
