"""virtio-net receive: frames to chains of buffers.

Ref: VIRTIO 1.4, 5.1.9.3 "Setting Up Receive Buffers", 5.1.9.4 "Processing of Incoming Packets".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import BufferPort
from ..lib.dma import WritePort
from ..lib.frame import frame_beat
from ..lib.packet_queue import PacketQueue
from ..spec.virtio import MAX_QUEUE_SIZE
from .deliver import Deliver
from .provide import Provide
from .tags import TagCount
from .waiting import Patience, Window, note_layout

__all__ = ["Receive"]


class Receive(wiring.Component):
    """Deliver frames into the receive buffers of the queue pair that they belong to.

    Buffers are found for up to ``ahead`` frames at a time while others are written, and frames are written back to back; see
    :class:`.provide.Provide` and :class:`.deliver.Deliver` for the rates. A frame for which there are no buffers waits, so that
    a driver may be late. It is dropped when more than three quarters of the frame memory are used or, if frames of other pairs
    wait behind it, after ``patience`` cycles; so a queue that nobody serves does not stop the others. While the frame waits,
    ``buffers.wants`` names its queue. A frame of a pair that is not active, or whose queue is not enabled, goes to
    the first queue that is; if there is none it is dropped.

    Parameters
    ----------
    width, num_queues, pairs : int
        The receive queue of pair ``k`` is ``2 * k`` (5.1.2).
    max_frame : int
        Longest frame without a VLAN tag that is delivered, in bytes without FCS; each of up to two tags adds its own
        length, for it belongs to the link's header (5.1.4.1).
    depth : int
        Beats of frame memory, a power of two.
    max_packets : int
        Frames in it.
    max_segments : int
        Buffers that one frame may be spread over, a power of two. A chain may have more (2.7.4.1); those behind the frame's
        end count only if one of them ends the chain.
    most_entries : int
        Of a ring, which a chain may take.
    patience : int
        Cycles.
    ahead : int
        Frames of one pair for which chains are taken before the first of them has come: 2 or more, a power of two.

    Members
    -------
    i : In(stream(frame_beat(width))), i_pair : In(range(pairs))
        Always taken; damaged frames vanish. The pair is valid with the last beat.
    buffers : Out(BufferPort(num_queues)), write : Out(WritePort(width))
    enable : In(1)
        The driver is ready; until then frames are dropped.
    mrg_rxbuf : In(1)
        MRG_RXBUF was negotiated: a frame may take several chains.
    active : In(range(pairs + 1))
        Pairs that the driver uses, from the first on.
    hold : In(1), wants : Out(1)
        No write is asked for; there are frames that have their buffers.
    settled : Out(1)
        Nothing is under way for a pair that is active no more; low from the change of ``active`` on.
    busy : Out(1)
        Low also while all that is here is frames that wait for a buffer as long as it takes.
    events : Out
    """
    def __init__(self, *, width, num_queues, pairs=1, max_frame=1514, depth=4096, max_packets=256, max_segments=64,
                 most_entries=MAX_QUEUE_SIZE, patience=4096, ahead=4):
        for name, value in (("max_segments", max_segments), ("ahead", ahead)):
            if value < 2 or value & (value - 1):
                raise ValueError(f"{name} must be a power of 2 of at least 2, not {value!r}")
        self.width = width
        self.num_queues = num_queues
        self.pairs = pairs
        self.max_frame = max_frame
        self.depth = depth
        self.max_packets = max_packets
        self.max_segments = max_segments
        self.most_entries = most_entries
        self.patience = patience
        self.ahead = ahead
        super().__init__({
            "i":         In(stream.Signature(frame_beat(width))),
            "i_pair":    In(range(pairs)),
            "buffers":   Out(BufferPort(num_queues)),
            "write":     Out(WritePort(width)),
            "enable":    In(1),
            "mrg_rxbuf": In(1),
            "active":    In(range(pairs + 1), init=1),
            "hold":      In(1),
            "wants":     Out(1),
            "settled":   Out(1),
            "busy":      Out(1),
            "events":    Out(data.StructLayout({name: 1 for name in (
                "rx_frames", "rx_dropped_no_buffer", "rx_dropped_full", "rx_dropped_long", "rx_dropped_down")})),
        })

    def elaborate(self, platform):
        m = Module()
        pairs, buffers = self.pairs, self.buffers
        slots = 2 * self.ahead                             # frames whose segments are here: while some are written
        note = note_layout(pairs)
        m.submodules.frames = frames = PacketQueue(
            width=self.width, depth=self.depth, max_packets=self.max_packets, drop_on_full=True, note_width=note.size)
        m.submodules.tags = tags = TagCount(width=self.width)
        m.submodules.window = window = Window(pairs=pairs, ahead=self.ahead, max_frame=self.max_frame)
        m.submodules.patience = patience = Patience(
            pairs=pairs, cycles=self.patience, most=self.max_packets + self.ahead)
        m.submodules.provide = provide = Provide(
            num_queues=self.num_queues, pairs=pairs, ahead=self.ahead, slots=slots, max_segments=self.max_segments,
            most_entries=self.most_entries)
        m.submodules.deliver = deliver = Deliver(
            width=self.width, pairs=pairs, slots=slots, max_segments=self.max_segments, most_entries=self.most_entries)

        # A frame comes into the memory, and its length and note into the window.
        connect(m, flipped(self.i), frames.i)
        connect(m, frames.o_len, window.i)
        i_note, late = Signal(note), Signal()
        # What a frame that is dropped takes is free only when it has left.
        m.d.sync += late.eq(((frames.free < self.depth // 4) | (frames.packets > self.max_packets // 2))
                            & (deliver.dropping == 0))
        m.d.comb += [
            tags.i.eq(self.i.p),
            tags.valid.eq(self.i.valid),
            i_note.tags.eq(tags.tags),
            i_note.pair.eq(self.i_pair),
            frames.i_note.eq(i_note),
            window.i_note.eq(frames.o_note),
            patience.kept.eq(frames.kept),
            patience.pair.eq(self.i_pair),
            patience.left.eq(provide.frames.next),
            patience.restart.eq(provide.restart),
            patience.late.eq(late),
        ]

        # Buffers are found for it, and it is written to them.
        connect(m, window.o, provide.frames)
        connect(m, provide.take, flipped(buffers.take))
        connect(m, flipped(buffers.segment), provide.segment)
        connect(m, provide.o, deliver.i)
        connect(m, provide.store, deliver.store)
        connect(m, frames.o, deliver.frames)
        connect(m, deliver.write, flipped(self.write))
        connect(m, deliver.used, flipped(buffers.used))
        m.d.comb += [
            provide.enabled.eq(buffers.enabled),
            provide.available.eq(buffers.available),
            provide.enable.eq(self.enable),
            provide.mrg_rxbuf.eq(self.mrg_rxbuf),
            provide.active.eq(self.active),
            provide.over.eq(patience.over),
            provide.endless.eq(patience.endless),
            provide.delivering.eq(deliver.delivering + deliver.dropping),
            deliver.follows.eq(provide.follows),
            deliver.hold.eq(self.hold),
            self.wants.eq(deliver.delivering != 0),
            buffers.wants.eq(provide.wants),
            # A frame that is discarded has no chains: a wire full of them keeps nobody waiting.
            buffers.holds.eq(provide.holds | (deliver.delivering != 0)),
            *[self.events[name].eq(provide.events[name]) for name, _ in provide.events.shape()],
            self.events.rx_dropped_full.eq(frames.lost),
        ]

        # What was steered by another number of active pairs comes to its end before anything new begins, and so does what is in
        # hand when the engine pauses.
        was_active, stale = Signal.like(self.active, init=1), Signal()
        m.d.sync += was_active.eq(self.active)
        m.d.comb += [
            self.settled.eq(~stale & (self.active == was_active)),
            provide.halt.eq(stale | buffers.pause),
        ]
        with m.If(self.active != was_active):
            m.d.sync += stale.eq(1)
        with m.Elif(~buffers.holds & ~Cat(buffers.untold[2 * k] for k in range(pairs)).any()):
            m.d.sync += stale.eq(0)
        waiting = window.o.valid | frames.o_len.valid | frames.busy
        m.d.comb += self.busy.eq(deliver.busy | provide.halt | ((waiting | provide.holds) & ~provide.resting))
        return m
