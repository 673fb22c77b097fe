"""No DMA outside of what was described: a request of a device is for a segment that it was given, and asks for no more of it.

What is opaque to a component is marked: an address that the solver chooses once is unlike all others. What a proof is not about
is anything: the frame memories, and what cuts bytes, are components with the same ports whose outputs are free.
"""

import pytest

from amaranth import *

from ringnic.hdl.lib.buffers import Segment, TakeOp
from ringnic.hdl.lib.pack import Cutter, Packer
from ringnic.hdl.lib.packet_queue import PacketQueue
from ringnic.hdl.lib.queue import Queue
from ringnic.hdl.spec.net import VIRTIO_NET_HDR_SIZE
from prove import Anything, broken

NOTE_BITS = 2     # Receive's note of a frame, if there is one pair


def made(p, name, line, instead):
    """The module of this name with one line changed, short queues, and a frame memory (``frames``) that is anything."""
    module = broken(name, line, instead)
    module.Queue = lambda shape, depth: Queue(shape, min(depth, 2))
    module.frames = frames = Anything(p, PacketQueue(
        width=32, depth=16, max_packets=2, drop_on_full=True, note_width=NOTE_BITS), ("o", "o_len"), o_len_payload=4)
    p.assume(~p.past(frames.o_len.valid & ~frames.o_len.ready) | (frames.o_note == p.past(frames.o_note)))
    module.PacketQueue = lambda **parameters: module.frames
    return module


def segment(**fields):
    """A :class:`Segment` of these fields; the others are 0."""
    shape = Segment.as_shape()
    assert fields.keys() <= {name for name, _ in shape}
    return Cat(Cat(Value.cast(fields.get(name, 0)), C(0, 128))[:field.width] for name, field in shape)


# Transmit

TRANSMIT = "class Transmit("   # nothing is broken


def transmits(p, line=TRANSMIT, instead=TRANSMIT):
    """A read is for the segment that came last, the whole of it, once; it is a device-readable one of a sound chain."""
    dut = p.add(made(p, "ringnic.hdl.net.transmit", line, instead).Transmit(
        width=32, num_queues=2, max_frame=32, depth=16, max_chains=2, patience=4))
    m = p.m
    now = segment(queue=C(1, 16), addr=p.free(64, "addr"), len=p.free(32, "len"), write=p.free(name="write"),
                  last=p.free(name="last"), error=p.free(name="error"))
    port = dut.buffers.segment
    given = p.feed(port, now)
    p.assume(~port.payload.error | port.payload.last)
    m.d.comb += [
        dut.link_up.eq(p.free(name="link_up")), dut.hurry.eq(p.free(name="hurry")), dut.buffers.pause.eq(p.free(name="pause")),
        dut.buffers.available.eq(p.free(2, "available")), dut.o.ready.eq(p.free(name="ready")),
    ]
    p.feed(dut.read.beat)
    p.take(dut.buffers.take)
    p.take(dut.buffers.used)
    asked, request = p.take(dut.read.req), dut.read.req.payload
    latest, fresh = Signal(Segment), Signal()
    with m.If(asked):
        m.d.sync += fresh.eq(0)
    with m.If(port.ready):
        m.d.sync += [latest.eq(port.payload), fresh.eq(given)]
    with m.If(dut.read.req.valid):
        p.check(fresh & ~latest.write & ~latest.error)
        p.check((request.addr == latest.addr) & (request.len == latest.len) & (latest.len != 0))
    p.cover(asked & latest.last)
    p.cover(asked & ~latest.last)


def test_transmit(formal):
    formal.always(transmits)
    formal.covers(transmits, 12)


@pytest.mark.parametrize("line, instead", [
    ("bad.eq(drop | segment.p.write", "bad.eq(drop"),
    ("| (sum_ > longest)", ""),                                   # the low 16 bits of a length are not the length
    ("& (segment.p.len != 0) & ~segment.p.error", "& ~segment.p.error"),
    ("(segment.p.len != 0) & ~segment.p.error", "(segment.p.len != 0)"),
    ("m.d.sync += judged_valid.eq(0)", "pass"),                   # asked for twice
])
def test_broken_transmit(formal, line, instead):
    formal.refutes(lambda p: transmits(p, line, instead), 10)


# Receive

RECEIVE = "class Receive("
DEPTH = 18   # cycles; the second write comes within 16, the second frame's buffers within 18


def receive(p, line, instead):
    """Receive with free neighbours, of frames of 1 to 15 bytes; segments are marked by bit 0 of their address, else 0.

    Return it, its frame memory, and the transfers of segments, used and write requests.
    """
    module = made(p, "ringnic.hdl.net.receive", line, instead)
    cutter, packer = Anything(p, Cutter(width=32), ("o",)), Anything(p, Packer(width=32), ("o",))
    module.Cutter, module.Packer = lambda **parameters: cutter, lambda **parameters: packer
    p.assume(~p.past(cutter.i_cut.ready & ~cutter.i_cut.valid) | cutter.i_cut.ready)
    p.assume(~module.frames.o_len.valid | (module.frames.o_len.payload != 0))
    dut = p.add(module.Receive(width=32, num_queues=2, max_frame=8, depth=16, max_packets=2, max_segments=2, patience=4))
    p.m.d.comb += [
        dut.enable.eq(p.free(name="enable")), dut.mrg_rxbuf.eq(p.free(name="mrg_rxbuf")), dut.active.eq(p.free(name="active")),
        dut.buffers.enabled.eq(p.free(2, "enabled")), dut.buffers.available.eq(p.free(2, "available")),
        dut.buffers.untold.eq(p.free(2, "untold")), dut.buffers.pause.eq(p.free(name="pause")),
        dut.write.data.ready.eq(p.free(name="ready")),
    ]
    port = dut.buffers.segment
    # A length is short, or has a bit above the 16 that are kept of it.
    given = p.feed(port, segment(addr=p.free(name="marked"), len=Cat(p.free(4, "len"), C(0, 12), p.free(name="huge")),
                                 write=p.free(name="write"), last=p.free(name="last"), error=p.free(name="error")))
    p.assume(~port.payload.error | port.payload.last)
    return dut, module.frames, given, p.take(dut.buffers.used), p.take(dut.write.req)


def writes_inside(p, line=RECEIVE, instead=RECEIVE):
    """A write is for a segment that was given, device-writable, and not rewound or failed since; it is no longer, and the one.

    Checked for the first ``DEPTH`` cycles. The marked segment comes again only after it was written and committed, or rewound.
    """
    dut, _, given, _, asked = receive(p, line, instead)
    m, now, request = p.m, dut.buffers.segment.payload, dut.write.req.payload
    took, op = p.take(dut.buffers.take), dut.buffers.take.payload.op
    # There to be written, so many bytes; not committed yet; written while it was not.
    held, length, fresh, early = Signal(), Signal(17), Signal(), Signal()
    marked, ours = now.addr[0], request.addr[0]
    p.assume(~given | ~marked | ~(held | early))
    with m.If(asked & ours):
        m.d.sync += [held.eq(0), early.eq(fresh)]
    with m.If(took & (op == TakeOp.COMMIT)):
        m.d.sync += [fresh.eq(0), early.eq(0)]
    with m.If(took & (op == TakeOp.REWIND)):
        p.check(~early & ~(asked & ours & fresh))     # what has been written is not handed out again
        with m.If(fresh):
            m.d.sync += [held.eq(0), fresh.eq(0)]
    with m.If(given & marked):
        m.d.sync += [held.eq(1), length.eq(Mux(now.write, now.len, 0)), fresh.eq(1)]
    with m.If(given & now.error & (fresh | marked)):
        m.d.sync += [held.eq(0), fresh.eq(0)]
    with m.If(dut.write.req.valid):
        p.check(request.addr[1:] == 0)
        p.check(request.len != 0)
        p.check(~ours | (held & (request.len <= length)))
    p.cover(asked & ours & fresh)
    p.cover(asked & ~ours & p.past(held))


def test_receive_inside(formal):
    formal.bounded(writes_inside, DEPTH)
    formal.covers(writes_inside, DEPTH)


@pytest.mark.parametrize("line, instead", [
    ("length.eq(Mux(segment.p.write, segment.p.len, 0)),", "length.eq(segment.p.len),"),
    ("Mux(length > 0xffff, 0xffff, length)", "length + 1"),
    ("Mux(left > segment.len, segment.len, left)", "left"),
    ("[first.eq(tail), committing.eq(1), to_commit.eq(pair)]", "[committing.eq(1), to_commit.eq(pair)]"),
    ("written.eq(written + length), place.eq(place + 1)]", "written.eq(written + length)]"),
])
def test_broken_receive_inside(formal, line, instead):
    formal.refutes(lambda p: writes_inside(p, line, instead), DEPTH + 4)


def writes_whole(p, line=RECEIVE, instead=RECEIVE):
    """The writes of a frame are together no more than its header and bytes; what a chain is said to hold was written to it.

    Checked for the first ``DEPTH`` cycles.
    """
    dut, frames, _, used, asked = receive(p, line, instead)
    m, request, told = p.m, dut.write.req.payload, dut.buffers.used.payload
    m.d.comb += dut.buffers.take.ready.eq(p.free(name="ready"))
    # Frames that have their buffers, oldest first.
    lengths, level = [Signal(4, name=f"length{k}") for k in range(3)], Signal(2)
    push, pop, after = Signal(), Signal(), Signal(2)
    m.d.comb += [push.eq(dut.events.rx_frames), pop.eq(used & ~told.more), after.eq(level - pop)]
    p.check(~push | (frames.o_len.valid & frames.o_len.ready & (after != 3)))
    m.d.sync += level.eq(after + push)
    for k in range(3):
        m.d.sync += lengths[k].eq(Mux(push & (after == k), frames.o_len.payload, Mux(pop, lengths[min(k + 1, 2)], lengths[k])))
    begun, rest, left, chain = Signal(), Signal(5), Signal(5), Signal(5)
    m.d.comb += left.eq(Mux(begun, rest, lengths[0] + VIRTIO_NET_HDR_SIZE))
    with m.If(asked):
        p.check((level != 0) & (request.len != 0) & (request.len <= left))
        m.d.sync += [begun.eq(1), rest.eq(left - request.len), chain.eq(chain + request.len)]
    with m.If(used):
        p.check((level != 0) & ~asked & (told.len == chain))
        m.d.sync += chain.eq(0)
    with m.If(pop):
        m.d.sync += begun.eq(0)
    p.cover(pop & (level == 2))
    p.cover(used & told.more)


def test_receive_whole(formal):
    formal.bounded(writes_whole, DEPTH)
    formal.covers(writes_whole, DEPTH)


@pytest.mark.parametrize("line, instead", [
    ("Mux(left > segment.len, segment.len, left)", "segment.len"),
    ("[left.eq(left - length), written.eq(written + length),", "[written.eq(written + length),"),
    ("left.eq(left - length), written.eq(written + length),", "left.eq(left - length),"),
    ("jobs.i.p.len.eq(frames.o_len.p),", "jobs.i.p.len.eq(need),"),
])
def test_broken_receive_whole(formal, line, instead):
    formal.refutes(lambda p: writes_whole(p, line, instead), DEPTH + 4)
