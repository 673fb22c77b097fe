"""Used rings: what is written into them is what was handed in, each chain once, where and when the driver looks for it.

Checked for the first cycles only, from the set-up of the queue on.

Chains are numbered as they are handed in, modulo 16; their number is their id, so what is in the ring tells of which chain it is.
"""

import pytest

from amaranth import *

from ringnic.hdl.lib.buffers import Used
from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.heads import NO_ADDRESS
from prove import broken

DESC, DEVICE = 0x10000, 0x20000
BATCH = 2
PARTS = {"used_collect": "UsedCollect", "used_runs": "UsedRuns", "used_place": "UsedRing", "used_writes": "UsedWrites"}
INTACT = ("used_runs", "class UsedRuns(", "class UsedRuns(")   # nothing is broken


class Handed:
    """One queue of ``size`` entries and what is handed in: of each chain whether its length is 1 or 0, whether it ends a packet
    (of no more chains than a batch), and how many entries of the ring it takes, 1 to ``most``.
    """
    def __init__(self, p, dut, size, most):
        m = p.m
        begun = p.past(C(1))
        m.d.comb += [dut.setup_valid.eq(~begun), dut.setup.size.eq(size), dut.setup.queue_desc.eq(DESC),
                     dut.setup.queue_device.eq(DEVICE), dut.areas.valid.eq(~begun),
                     Value.cast(dut.areas.p.area).eq(Mux(dut.packed, Area.DESC.value, Area.DEVICE.value)),
                     dut.areas.p.addr.eq(Mux(dut.packed, DESC, DEVICE))]
        self.number, self.complete = Signal(4), Signal(4)         # chains so far; of them those of whole packets
        self.len, self.more, self.count = p.free(name="len"), p.free(name="more"), p.free(range(most + 1), "count")
        self.lens, self.ends = Signal(16), Signal(16)             # of each chain
        run = Signal(range(BATCH))
        p.assume((self.count != 0) & (self.count <= most))
        p.assume((run != BATCH - 1) | ~self.more)
        fields = {"flush": p.free(name="flush"), "len": self.len, "more": self.more}
        chain = Cat(self.number, C(0, 12), self.count, C(0, 16 - len(self.count)), self.len)
        shape = Used.as_shape()
        payload = Cat(chain if name == "chain" else Cat(fields.get(name, C(0)), C(0, 32))[:field.width] for name, field in shape)
        self.now = p.feed(dut.i[0], payload)
        p.assume(begun | ~dut.i[0].valid)
        with m.If(self.now):
            m.d.sync += [self.number.eq(self.number + 1), self.lens.bit_select(self.number, 1).eq(self.len),
                         self.ends.bit_select(self.number, 1).eq(~self.more), run.eq(Mux(self.more, run + 1, 0))]
            with m.If(~self.more):
                m.d.sync += self.complete.eq(self.number + 1)


class Written:
    """The writes that ``port`` makes: accepted one at a time, carried out in order, later or, if ``prompt``, at once."""
    def __init__(self, p, port, prompt=False):
        m = p.m
        self.beats = Signal(range(2 * BATCH + 1))
        self.asked = p.take(port.req, (prompt | p.free(name="ready")) & (self.beats == 0))
        self.sent = p.take(port.data, prompt | p.free(name="ready"))
        self.under_way, self.done = Signal(range(9)), p.free(name="done")
        p.assume(Mux(prompt, self.done == (self.under_way != 0), ~self.done | (self.under_way != 0)))
        ends = self.sent & port.data.payload.last
        m.d.comb += port.done.eq(self.done)
        m.d.sync += self.under_way.eq(self.under_way + ends - self.done)
        p.check((self.under_way != 8) | ~self.asked)
        with m.If(self.sent):
            p.check((self.beats != 0) & (port.data.payload.last == (self.beats == 1)))
            m.d.sync += self.beats.eq(self.beats - 1)
        with m.If(self.asked):
            m.d.sync += self.beats.eq((port.req.payload.len + 7) >> 3)


def make(part, line, instead):
    """A UsedWriter, in ``part`` of which one line is changed."""
    used, name = broken("ringnic.hdl.virtqueue.used", "class UsedWriter(", "class UsedWriter("), PARTS[part]
    changed = getattr(broken(f"ringnic.hdl.virtqueue.{part}", line, instead), name)
    if part == "used_place":   # a part of a part
        runs = broken("ringnic.hdl.virtqueue.used_runs", "class UsedRuns(", "class UsedRuns(")
        runs.UsedRing, name, changed = changed, "UsedRuns", runs.UsedRuns
    setattr(used, name, changed)
    return used.UsedWriter(width=64, num_queues=1, ports=1, batch=BATCH, hold_cycles=4)


def writes_split(p, size, *change):
    """2.7.8: entries from where the ring goes on, none beyond its end, each chain's once and in order, of whole packets only;
    behind them the index, which counts them. 2.7.9: with IN_ORDER an entry may stand for earlier ones with nothing to report.
    """
    dut = p.add(make(*(change or INTACT)))
    m = p.m
    given, port = Handed(p, dut, size, 1), dut.write
    in_order = p.const(1, "in_order")
    m.d.comb += dut.in_order.eq(in_order)
    write, request, data = Written(p, port), port.req.payload, port.data.payload
    told = p.take(dut.o)
    # Chains whose entry has left, and those that the index counts.
    there, index, entries, is_index, first = Signal(4), Signal(4), Signal(4), Signal(), Signal(init=1)
    m.d.comb += entries.eq(request.len >> 3)
    with m.If(write.asked):
        m.d.sync += is_index.eq(request.addr == DEVICE + 2)
        with m.If(request.addr == DEVICE + 2):
            p.check((request.len == 2) & (there != index))
        with m.Else():
            p.check((request.addr == DEVICE + 4 + ((there & (size - 1)) << 3)) & ((there & (size - 1)) + entries <= size))
            p.check((request.len[:3] == 0) & (entries != 0) & (entries <= (given.complete - there)[:4]))
    number, skipped = Signal(4), Signal(4)
    m.d.comb += [number.eq(data.data), skipped.eq(number - there)]
    with m.If(write.sent):
        with m.If(is_index):
            p.check(data.data[:16] == there)
            p.check(given.ends.bit_select((there - 1)[:4], 1))
            m.d.sync += [index.eq(there), first.eq(1)]
        with m.Else():
            p.check(data.data == Cat(number, C(0, 28), given.lens.bit_select(number, 1), C(0, 31)))
            with m.If(skipped != 0):
                p.check(in_order & first & data.last & (skipped < (given.complete - there)[:4]))
                for k in range(BATCH):
                    p.check((k > skipped) | ~given.lens.bit_select((there + k)[:4], 1))
            m.d.sync += [there.eq(number + 1), first.eq(0)]
    p.check(dut.untold[0] | (given.complete == index) | ((given.complete == there) & is_index & (write.beats != 0)))
    # What is told of a batch is told when its index has left.
    kinds, left = Signal(8), Signal(4)
    ends = write.sent & data.last
    shift = Mux(write.done, kinds >> 1, kinds)
    m.d.sync += kinds.eq(shift | Mux(ends & is_index, C(1, 8) << (write.under_way - write.done)[:3], 0))
    m.d.sync += left.eq(left + (write.done & kinds[0]) - told)
    p.check(~dut.o.valid | (left != 0))
    p.cover(write.sent & is_index & (there == 2))
    p.cover(write.sent & (skipped == 1) & ~is_index)
    p.cover(told)


def writes_packed(p, size, *change, prompt=False):
    """2.8.1, 2.8.13: a used descriptor for each chain, once, where the ring goes on, with the wrap counter of that lap.
    2.8.9: of a packet's chains that stand at the beginning of a batch the first is written last.

    One chain is marked, by its number. Without IN_ORDER. ``prompt``: the write port keeps nobody waiting.
    """
    dut = p.add(make(*(change or INTACT)))
    m = p.m
    given, port = Handed(p, dut, size, 2), dut.write
    m.d.comb += [dut.packed.eq(1), dut.o.ready.eq(1)]
    write, request, data = Written(p, port, prompt), port.req.payload, port.data.payload
    marked = p.const(3, "marked")
    p.assume(given.number != 15)                    # numbers mean one chain each
    slot, wrap, behind = Signal(4), Signal(init=1), Signal(5)
    mine, its_slot, its_wrap, is_there = Signal(), Signal(4), Signal(), Signal()
    m.d.comb += behind.eq(slot + given.count)
    with m.If(given.now):
        m.d.sync += [slot.eq(Mux(behind >= size, behind - size, behind)), wrap.eq(wrap ^ (behind >= size))]
        with m.If(given.number == marked):
            m.d.sync += [mine.eq(1), its_slot.eq(slot), its_wrap.eq(wrap)]
    # Where the next beat goes, and what it says.
    addr, number = Signal(20), Signal(4)
    before, behind_there = Signal(4), Signal()      # chains there before the marked one; the one behind it is
    m.d.comb += number.eq(data.data[32:48])
    with m.If(write.asked):
        p.check((request.addr[:4] == 0) & (request.len[:4] == 0) & (request.len != 0))
        p.check((request.addr >= DESC) & (request.addr + request.len <= DESC + 16 * size))
        m.d.sync += addr.eq(request.addr)
    with m.If(write.sent):
        m.d.sync += addr.eq(addr + 8)
        with m.If(~addr[3]):
            p.check(data.data == NO_ADDRESS)
        with m.Else():
            p.check((data.data[32:48] < given.complete) & (data.data[1:32] == 0))
            with m.If(number == marked):
                length = given.lens.bit_select(marked, 1)
                p.check(mine & ~is_there & (addr == DESC + 8 + (its_slot << 4)))
                p.check((data.data[0] == length) & (data.data[48:] == Cat(C(0, 1), length, C(0, 5), its_wrap, C(0, 7), its_wrap)))
                # A packet is there when its beginning can be seen.
                p.check(given.ends.bit_select(marked, 1) | behind_there | (before != marked))
                m.d.sync += is_there.eq(1)
            m.d.sync += [before.eq(before + (number < marked)), behind_there.eq(behind_there | (number == marked + 1))]
    p.cover(write.sent & addr[3] & (number == marked) & ~its_wrap)
    p.cover(write.sent & addr[3] & (number == marked) & behind_there)


# Cycles. Within these a batch of two chains is written, on a packed ring if nobody keeps it waiting.
SPLIT_DEPTH, PACKED_DEPTH, PROMPT_DEPTH = 21, 20, 28


@pytest.mark.parametrize("size", [1, 2])
def test_split(formal, size):
    formal.bounded(lambda p: writes_split(p, size), SPLIT_DEPTH)


def test_split_is_not_vacuous(formal):
    formal.covers(lambda p: writes_split(p, 2), SPLIT_DEPTH)


@pytest.mark.parametrize("size, part, line, instead", [
    (1, "used_runs", "(left == 1) | ((~slot & last) == 0)", "(left == 1)"),                    # beyond the end
    (2, "used_collect", "with m.If(~used.more):\n", "with m.If(C(1, 1)):\n"),                  # half a packet
    (2, "used_runs", "                        m.d.comb += moves.eq(1)\n", "                        pass\n"),  # not the last
    # A length is lost.
    (2, "used_runs", "chain.chain.writable | (chain.len != 0) | (ring.total > ring.size)", "ring.total > ring.size"),
    (2, "used_writes", "self.write.done & under_way.o.p.ends", "self.write.done"),             # told too early
])
def test_broken_split(formal, size, part, line, instead):
    formal.refutes(lambda p: writes_split(p, size, part, line, instead), SPLIT_DEPTH + 3)


@pytest.mark.parametrize("prompt, depth", [(False, PACKED_DEPTH), (True, PROMPT_DEPTH)])
def test_packed(formal, prompt, depth):
    formal.bounded(lambda p: writes_packed(p, 2, prompt=prompt), depth)


def test_packed_is_not_vacuous(formal):
    formal.covers(lambda p: writes_packed(p, 2), PROMPT_DEPTH)


@pytest.mark.parametrize("part, line, instead", [
    ("used_place", "wraps.eq(self.packed & beyond[16:].any())", "wraps.eq(self.packed & (after > self.size))"),
    ("used_place", "self.flip.eq(self.flip ^ wraps),", ""),
    ("used_place", "after.eq(self.slot + self.count)", "after.eq(self.slot + 1)"),
    # One is lost; half a packet is seen.
    ("used_runs", "hides.eq(self.packed & batch.parts & (batch.count != 1))", "hides.eq(self.packed & batch.parts)"),
    ("used_runs", "hides.eq(self.packed & batch.parts & (batch.count != 1))", "hides.eq(0)"),
    ("used_runs", "begin_run(ring.first_slot)", "begin_run(slot)"),
])
def test_broken_packed(formal, part, line, instead):
    formal.refutes(lambda p: writes_packed(p, 2, part, line, instead), PACKED_DEPTH + 4)
