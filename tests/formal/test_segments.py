"""No DMA outside of what was described: a request of a device is for a segment that it was given, and asks for no more of it.

What is opaque to a component is marked: an address that the solver chooses once is unlike all others. What a proof is not about
is anything: the frame memories, and what cuts bytes, are components with the same ports whose outputs are free.
"""

import importlib
import inspect

import pytest

from amaranth import *

from ringnic.hdl.lib.buffers import Segment, TakeOp
from ringnic.hdl.lib.pack import Cutter
from ringnic.hdl.lib.packet_queue import PacketQueue
from ringnic.hdl.lib.queue import Queue
from ringnic.hdl.spec.net import VIRTIO_NET_HDR_SIZE
from prove import Anything, broken

NOTE_BITS = 2     # Receive's note of a frame, if there is one pair
PIECE = 8         # bytes in which Transmit reads a long segment
WHOLE = "__all__ = ["   # nothing is broken


def part_with(line, parts):
    """The first of these modules of ringnic.hdl.net that has this line."""
    return next(part for part in parts if line in inspect.getsource(importlib.import_module(f"ringnic.hdl.net.{part}")))


def made(p, line, instead):
    """The module of Transmit with one line of it, or of its reads, changed, short queues, and a frame memory (``frames``) that is
    anything."""
    names = ("transmit_reads", "transmit_frames", "transmit")
    place = part_with(line, names)
    reads, parts, module = (broken(f"ringnic.hdl.net.{name}", *((line, instead) if name == place else (WHOLE, WHOLE)))
                            for name in names)
    module.TransmitReads, module.TransmitFrames = reads.TransmitReads, parts.TransmitFrames
    parts.Queue = module.Queue = lambda shape, depth: Queue(shape, min(depth, 2))
    module.frames = frames = Anything(p, PacketQueue(
        width=32, depth=16, max_packets=2, drop_on_full=True), ("o", "o_len"), o_len_payload=4)
    module.PacketQueue = lambda **parameters: frames
    return module


def segment(**fields):
    """A :class:`Segment` of these fields; the others are 0."""
    shape = Segment.as_shape()
    assert fields.keys() <= {name for name, _ in shape}
    return Cat(Cat(Value.cast(fields.get(name, 0)), C(0, 128))[:field.width] for name, field in shape)


# Transmit

TRANSMIT = "class Transmit("   # nothing is broken


def transmits(p, line=TRANSMIT, instead=TRANSMIT):
    """A read is for the segment that came last, once for each byte, in order; it is a device-readable one of a sound chain."""
    dut = p.add(made(p, line, instead).Transmit(
        width=32, num_queues=2, max_frame=32, depth=16, max_chains=2, patience=4, piece=PIECE))
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
    latest, fresh, begun = Signal(Segment), Signal(), Signal()    # what is left of it to be read
    with m.If(asked):
        m.d.sync += [latest.addr.eq(latest.addr + request.len), latest.len.eq(latest.len - request.len),
                     fresh.eq(request.len != latest.len), begun.eq(1)]
    with m.If(port.ready):
        m.d.sync += [latest.eq(port.payload), fresh.eq(given), begun.eq(0)]
    with m.If(dut.read.req.valid):
        p.check(fresh & ~latest.write & ~latest.error)
        p.check((request.addr == latest.addr) & (request.len != 0))
        p.check((request.len == latest.len) | ((request.len == PIECE) & (latest.len > PIECE)))
    p.cover(asked & latest.last & ~begun)
    p.cover(asked & ~latest.last & ~begun)
    p.cover(asked & begun & (request.len == PIECE))
    p.cover(asked & begun & (request.len == latest.len))


def test_transmit(formal):
    formal.always(transmits)
    formal.covers(transmits, 12)


@pytest.mark.parametrize("line, instead", [
    ("bad.eq(drop | segment.p.write", "bad.eq(drop"),
    ("| segment.p.len[len(total):].any()", ""),                   # the low 16 bits of a length are not the length
    ("& (segment.p.len != 0) & ~segment.p.error", "& ~segment.p.error"),
    ("(segment.p.len != 0) & ~segment.p.error", "(segment.p.len != 0)"),
    ("judged_valid.eq(segment.valid)", "judged_valid.eq(judged_valid | segment.valid)"),   # asked for twice
    ("page.eq(page + 1), ", ""),
    ("left.eq(left - 1), ", ""),
    ("more.eq(left > 2)", "more.eq(left > 1)"),                   # asks for 0 bytes in the end
    ("> 1) & ~whole)", "> 1))"),                                  # across the end of a page
])
def test_broken_transmit(formal, line, instead):
    formal.refutes(lambda p: transmits(p, line, instead), 10)


# Receive

# Its parts, whose modules are in ringnic.hdl.net; and a line that each of them has, of which nothing depends.
PARTS = ("waiting", "takes", "underway", "gather", "join", "deliver", "provide", "receive")
SLOTS = 2
DEPTH = 18   # cycles; all that is to be covered comes within 14: the second frame's buffers, and its first write
WHOLE_DEPTH = 15   # of the harness that keeps account of lengths, which takes the solver longer


def receive(p, part="receive", line=WHOLE, instead=WHOLE):
    """Receive with free neighbours, of frames of 1 to 15 bytes; segments are marked by bit 0 of their address, else 0. In the
    module ``part`` a line is changed. Chains are taken ahead for two frames, and two have places for their segments.

    Return it, its frame memory, and the transfers of segments, takes, used and write requests.
    """
    modules = {name: broken(f"ringnic.hdl.net.{name}", *((line, instead) if name == part else (WHOLE, WHOLE))) for name in PARTS}
    whole = modules["receive"]
    for user in ("receive", "provide", "deliver", "underway"):
        for module in modules.values():
            for name in module.__all__:
                if hasattr(modules[user], name) and name[0].isupper() and module is not modules[user]:
                    setattr(modules[user], name, getattr(module, name))
    frames = Anything(p, PacketQueue(
        width=32, depth=16, max_packets=2, drop_on_full=True, note_width=NOTE_BITS), ("o", "o_len"), o_len_payload=4)
    p.assume(~p.past(frames.o_len.valid & ~frames.o_len.ready) | (frames.o_note == p.past(frames.o_note)))
    whole.PacketQueue = lambda **parameters: frames
    deliver = modules["deliver"]
    cutter, join = Anything(p, Cutter(width=32), ("o",)), deliver.Join(width=32)
    joined = Anything(p, join, ("o",))
    joined.job = join.job
    whole.Provide = lambda **parameters: modules["provide"].Provide(**{**parameters, "slots": SLOTS})
    whole.Deliver = lambda **parameters: deliver.Deliver(**{**parameters, "slots": SLOTS})
    deliver.Queue = lambda shape, depth: Queue(shape, min(depth, 2))
    deliver.Cutter, deliver.Join = lambda **parameters: cutter, lambda **parameters: joined
    p.assume(~p.past(cutter.i_cut.ready & ~cutter.i_cut.valid) | cutter.i_cut.ready)
    p.assume(~frames.o_len.valid | (frames.o_len.payload != 0))
    dut = p.add(whole.Receive(
        width=32, num_queues=2, max_frame=8, depth=16, max_packets=2, max_segments=2, patience=4, ahead=2))
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
    # Chains that were taken, and have not come: there is a segment only of these.
    take, due = dut.buffers.take, Signal(2)
    took = p.take(take)
    p.assume(~port.valid | (due != 0))
    p.m.d.sync += due.eq(due + (took & (take.payload.op == TakeOp.TAKE)) - (given & port.payload.last))
    p.check(~took | (take.payload.op != TakeOp.REWIND) | (due == 0))
    return dut, frames, given, took, p.take(dut.buffers.used), p.take(dut.write.req)


def writes_inside(p, *change):
    """A write is for a segment that was given, device-writable, and not rewound or failed since; it is no longer, and the one.
    What is kept is in hand, and nothing that was written is handed out again.

    Checked for the first ``DEPTH`` cycles. The marked segment comes again only after it was written and committed, or rewound.
    """
    dut, _, given, took, _, asked = receive(p, *change)
    m, now, request = p.m, dut.buffers.segment.payload, dut.write.req.payload
    take = dut.buffers.take.payload
    commits, rewinds = took & (take.op != TakeOp.REWIND), took & (take.op == TakeOp.REWIND)
    # Chains in hand, as far as they have come; those of them before the one with the marked segment.
    in_hand, before, kept = Signal(3), Signal(3), Signal(3)
    m.d.comb += kept.eq(Mux(commits, take.count, 0))
    p.check(~commits | (take.count <= in_hand))
    m.d.sync += in_hand.eq(Mux(rewinds, 0, in_hand - kept) + (given & now.last))
    # There to be written, so many bytes; not committed yet; written while it was not; of a frame that has not enough yet.
    held, length, fresh, early, ours_now = Signal(), Signal(17), Signal(), Signal(), Signal()
    marked, ours = now.addr[0], request.addr[0]
    p.assume(~given | ~marked | ~(held | early))
    with m.If(dut.events.rx_frames):
        m.d.sync += ours_now.eq(0)
    m.d.sync += before.eq(before - kept)
    with m.If(asked & ours):
        m.d.sync += [held.eq(0), early.eq(fresh)]
    with m.If(kept > before):
        m.d.sync += [fresh.eq(0), early.eq(0)]
    with m.If(rewinds):
        p.check(~early & ~(asked & ours & fresh))     # what has been written is not handed out again
        with m.If(fresh):
            m.d.sync += [held.eq(0), fresh.eq(0), ours_now.eq(0)]
    with m.If(given & marked):
        m.d.sync += [held.eq(1), length.eq(Mux(now.write, now.len, 0)), fresh.eq(1), ours_now.eq(1),
                     before.eq(Mux(rewinds, 0, in_hand - kept))]
    with m.If(given & now.error & (ours_now | marked)):
        m.d.sync += [held.eq(0), fresh.eq(0)]
    with m.If(dut.write.req.valid):
        p.check(request.addr[1:] == 0)
        p.check(request.len != 0)
        p.check(~ours | (held & (request.len <= length)))
    p.cover(asked & ours & fresh)
    p.cover(asked & ~ours & p.past(held))
    p.cover(commits & (kept == 1) & (in_hand == 2))
    p.cover(commits & (take.op == TakeOp.TAKE) & (kept != 0))


def test_receive_inside(formal):
    formal.bounded(writes_inside, DEPTH)
    formal.covers(writes_inside, DEPTH)


@pytest.mark.parametrize("part, line, instead", [
    ("gather", "length.eq(Mux(segment.p.write, segment.p.len, 0)),", "length.eq(segment.p.len),"),
    ("gather", "Mux(length > MOST_BYTES, MOST_BYTES, length)", "length + 1"),
    ("gather", "m.d.sync += first.eq(tail)", "pass"),
    ("deliver", "Mux(left > segment.len, segment.len, left)", "left"),
    ("deliver", "segment.eq(read.data), place.eq(place + 1)]", "segment.eq(read.data)]"),
    ("takes", "take.p.queue.eq(of << 1), take.p.count.eq(due)", "take.p.queue.eq(of << 1), take.p.count.eq(due + 1)"),
    ("takes", "self.i.p.pair << 1), take.p.count.eq(due)", "self.i.p.pair << 1), take.p.count.eq(due + 1)"),
    ("takes", "Mux(commits | (self.i.valid & self.i.ready), 0, due)", "Mux(commits, 0, due)"),
])
def test_broken_receive_inside(formal, part, line, instead):
    formal.refutes(lambda p: writes_inside(p, part, line, instead), DEPTH + 4)


def writes_whole(p, *change):
    """The writes of a frame are together no more than its header and bytes; what a chain is said to hold was written to it.

    Checked for the first ``WHOLE_DEPTH`` cycles.
    """
    dut, frames, _, _, used, asked = receive(p, *change)
    m, request, told, events = p.m, dut.write.req.payload, dut.buffers.used.payload, dut.events

    def lengths(depth, push, length, pop):
        """Lengths of frames, oldest first, and how many there are, without the one that goes."""
        items, level, after = [Signal(4, name=f"length{k}") for k in range(depth)], Signal(3), Signal(3)
        m.d.comb += after.eq(level - pop)
        p.check((~pop | (level != 0)) & (~push | (after != depth)))
        m.d.sync += level.eq(after + push)
        for k, (item, behind) in enumerate(zip(items, [*items[1:], items[-1]])):
            m.d.sync += item.eq(Mux(push & (after == k), length, Mux(pop, behind, item)))
        return items, after
    # Those that wait, and those that have their buffers.
    pop = used & ~told.more
    gone = events.rx_frames | events.rx_dropped_no_buffer | events.rx_dropped_long | events.rx_dropped_down
    waiting, _ = lengths(2, frames.o_len.valid & frames.o_len.ready, frames.o_len.payload, gone)
    having, others = lengths(4, events.rx_frames, waiting[0], pop)
    # A write may be asked for while the one before is written, or its chain given back. ``whole``: frames of which all writes
    # have been asked for. Of the one behind these ``rest`` is left, if it has ``begun``. ``untold``: bytes of the first and the
    # second.
    whole, now, begun, rest, left = Signal(2), Signal(2), Signal(), Signal(5), Signal(5)
    untold, latest = [Signal(5, name=f"untold{k}") for k in range(2)], Signal(5)
    m.d.comb += [
        now.eq(whole - pop),
        left.eq(Mux(begun, rest, Array(having)[(now + pop)[:2]] + VIRTIO_NET_HDR_SIZE)),
    ]
    m.d.sync += whole.eq(now + (asked & (request.len == left)))
    with m.If(asked):
        p.check((others > now) & (now < 2) & (request.len != 0) & (request.len <= left))
        m.d.sync += [rest.eq(left - request.len), begun.eq(request.len != left), latest.eq(request.len)]
    with m.If(pop):
        p.check((whole != 0) & (told.len == untold[0]))
    with m.Elif(used):
        # The latest may be the next chain's.
        p.check((told.len == untold[0]) | ((whole + begun <= 1) & (told.len == untold[0] - latest)))
    for k, bytes_ in enumerate(untold):
        kept = Mux(pop, untold[1] if k == 0 else 0, bytes_ - Mux(used, told.len, 0) if k == 0 else bytes_)
        m.d.sync += bytes_.eq(kept + Mux(asked & (now == k), request.len, 0))
    p.cover(pop & (others == 1))
    p.cover(used & told.more)


def test_receive_whole(formal):
    formal.bounded(writes_whole, WHOLE_DEPTH)
    formal.covers(writes_whole, WHOLE_DEPTH)


@pytest.mark.parametrize("part, line, instead", [
    ("deliver", "Mux(left > segment.len, segment.len, left)", "segment.len"),
    ("deliver", "left.eq(left - length), ", ""),
    ("deliver", "total.eq(written + asked.o.p.len)", "total.eq(asked.o.p.len)"),
    ("waiting", "new.need.eq(self.i.p + VIRTIO_NET_HDR_SIZE)", "new.need.eq(self.i.p + VIRTIO_NET_HDR_SIZE + 1)"),
])
def test_broken_receive_whole(formal, part, line, instead):
    formal.refutes(lambda p: writes_whole(p, part, line, instead), DEPTH + 4)
