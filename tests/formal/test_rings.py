"""Index arithmetic of the split ring: what is asked of it, whatever the driver writes into it."""

from amaranth import *
from amaranth.lib.wiring import connect

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.avail import AvailFetch
from ringnic.hdl.virtqueue.event import EventWriter

DEVICE = 0x20000


def set_up(p, dut, size):
    """Set the only queue up in the first cycle; return whether that has been."""
    begun = p.past(C(1))
    p.m.d.comb += [
        dut.setup_valid.eq(~begun), dut.setup.size.eq(size), dut.setup.queue_device.eq(DEVICE),
    ]
    return begun


def one_read(p, port):
    """Accept a read when none is under way; answer in one beat, of any bytes. Return acceptance, answer, and the beat."""
    m = p.m
    open_, length = Signal(), Signal(3)
    m.d.comb += [
        port.req.ready.eq(p.free(name="ready") & ~open_),
        port.beat.valid.eq(open_ & p.free(name="answers")),
        port.beat.payload.data.eq(Cat(p.free(16, "low"), p.free(16, "high"))),
        port.beat.payload.count.eq(length), port.beat.payload.last.eq(1), port.beat.payload.error.eq(p.free(name="error")),
    ]
    p.assume(p._held(port.beat))
    p.check(p._held(port.req))
    accept, answer = port.req.valid & port.req.ready, port.beat.valid & port.beat.ready
    with m.If(accept):
        m.d.sync += [open_.eq(1), length.eq(port.req.payload.len)]
    with m.If(answer):
        m.d.sync += open_.eq(0)
    return accept, answer


def fetches(p, dut, size):
    """Ring entries are asked for in order, each once, none beyond what the index said, none outside the ring; and nothing before
    flags and idx of the used ring are 0."""
    p.add(dut)
    writer = p.add(EventWriter(width=32, num_queues=1))
    m = p.m
    begun = set_up(p, dut, size)
    connect(m, dut.event, writer.i)
    m.d.comb += [writer.setup_valid.eq(dut.setup_valid), writer.setup.eq(dut.setup),
                 dut.left_valid.eq(writer.left_valid), dut.left_queue.eq(writer.left_queue)]
    m.d.comb += [dut.kick_valid.eq(begun & p.free(name="kick")), dut.event_idx.eq(1), dut.freed_valid.eq(p.free(name="freed")),
                 dut.o_room.ready.eq(1), dut.o.ready.eq(p.free(name="ready")), dut.grant.eq(p.free(2, "grant")),
                 writer.write.req.ready.eq(p.free(name="ready")), writer.write.data.ready.eq(1)]
    p.assume(dut.grant <= dut.o_room.payload.want)
    p.check(~dut.o_room.valid | ((dut.o_room.payload.want != 0) & (dut.o_room.payload.want <= size)))
    _, looked = one_read(p, dut.index)
    asked, _ = one_read(p, dut.ring)
    index, ring, event, value_ = dut.index.req, dut.ring.req, writer.write.req, writer.write.data

    # next: entries asked for; known: the furthest that the index was. Modulo 2**16, as the ring's own.
    next_, known = Signal(16), Signal(16)
    told, failed = dut.index.beat.payload, Signal()
    value = told.data[:16]
    broken_ = Signal()
    with m.If(looked):
        # An index too far ahead, or one that went back.
        with m.If(told.error | ((value - next_)[:16] > size) | ((value - known)[:16] > size)):
            m.d.sync += broken_.eq(1)
        with m.Else():
            m.d.sync += known.eq(value)
    with m.If(dut.fail_valid):
        m.d.sync += failed.eq(1)
        p.check(broken_)
    m.d.comb += dut.stopped.eq(failed)
    entries = Signal(3)
    m.d.comb += entries.eq(ring.payload.len >> 1)
    with m.If(ring.valid):
        p.check((ring.payload.len != 0) & ~ring.payload.len[0] & (ring.payload.len <= 2 * dut.max_batch))
        p.check((ring.payload.area == Area.DRIVER) & (ring.payload.addr == 4 + ((next_ & (size - 1)) << 1)))
        p.check((next_ & (size - 1)) + entries <= size)
        p.check((known - next_)[:16] >= entries)
    with m.If(asked):
        m.d.sync += next_.eq(next_ + entries)
    p.check(~index.valid | ((index.payload.area == Area.DRIVER) & (index.payload.addr == 2) & (index.payload.len == 2)))
    # A write: offered, its data, and some time later it has left. The first is of flags and idx.
    offered, given, first, zero = Signal(), Signal(), Signal(init=1), Signal()
    m.d.comb += [
        writer.write.done.eq(given & p.free(name="left")),
        zero.eq((event.payload.addr == DEVICE) & (event.payload.len == 4)),
    ]
    with m.If(event.valid & event.ready):
        m.d.sync += offered.eq(1)
    with m.If(offered & value_.valid):
        m.d.sync += [given.eq(1), offered.eq(0)]
        p.check(~first | (value_.payload.data == 0))
    with m.If(writer.write.done):
        m.d.sync += [given.eq(0), first.eq(0)]
    p.check(~event.valid | given | Mux(first, zero, (event.payload.addr == DEVICE + 4 + 8 * size) & (event.payload.len == 2)))
    p.check(~first | (~index.valid & ~ring.valid))
    p.cover(asked)
    p.cover(failed)
    p.cover(event.valid)


def make():
    return AvailFetch(width=32, num_queues=1, max_batch=2)


def test_available_ring(formal):
    formal.bounded(lambda p: fetches(p, make(), 2), 22)
    formal.covers(lambda p: fetches(p, make(), 2), 32)
