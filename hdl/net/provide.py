"""virtio-net receive: chains of buffers for frames, taken ahead of them.

Ref: VIRTIO 1.4, 5.1.9.4 "Processing of Incoming Packets", 5.1.9.5.5 "Automatic receive steering in multiqueue mode".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import Segment, Take
from ..spec.virtio import MAX_QUEUE_SIZE
from .deliver import job_layout
from .gather import Gather, StorePort
from .underway import Underway
from .waiting import WindowPort

__all__ = ["Provide"]


class Provide(wiring.Component):
    """Find buffers for frame after frame: a frame of one chain every three cycles, and as often a TAKE that commits.

    Chains are taken ahead: one for each frame that waits, up to ``ahead`` of them. They come in the order of the TAKEs, and which
    frame a chain is for is decided when it comes: one that needs several has those that were taken for the frames of its pair
    behind it, for which others are taken then. If the next chain is of another pair, all that is not kept is taken back, of every
    queue; from then on chains are taken for one pair at a time, until a frame had enough with one. What is in hand is
    taken back only when nothing more is on its way.

    Parameters
    ----------
    num_queues, pairs, ahead, max_segments, most_entries : int
        See :class:`ringnic.hdl.net.receive.Receive`.
    slots : int
        Frames that have their segments at most, a power of two.

    Members
    -------
    frames : In(WindowPort(pairs, ahead))
    take : Out(stream(Take)), segment : In(stream(Segment))
    enabled, available : In(num_queues), wants : Out(num_queues)
        See :func:`ringnic.hdl.lib.buffers.BufferPort`.
    o : Out(stream(job_layout(pairs)))
        Every frame, once its segments are stored, or it is dropped.
    store : Out(StorePort(slots * max_segments, most_entries))
    delivering : In(range(2 * slots + 1))
        Frames that came on ``o`` and still have their segments, or have not been dropped.
    enable, mrg_rxbuf : In(1), active : In(range(pairs + 1))
    halt : In(1)
        Nothing new is begun, and what is in hand comes to its end, or is taken back.
    over, endless : In(1), restart : Out(1)
        See :class:`ringnic.hdl.net.waiting.Patience`.
    holds : Out(1)
        Chains are in hand that no frame on ``o`` has, or something is offered on ``take``.
    follows : Out(1)
        The next frame can have a chain, or has one.
    resting : Out(1)
        Nothing will happen before a buffer or another frame comes.
    events : Out
    """
    def __init__(self, *, num_queues, pairs, ahead, slots, max_segments, most_entries=MAX_QUEUE_SIZE):
        self.num_queues = num_queues
        self.pairs = pairs
        self.ahead = ahead
        self.slots = slots
        self.max_segments = max_segments
        self.most_entries = most_entries
        super().__init__({
            "frames":     In(WindowPort(pairs, ahead)),
            "take":       Out(stream.Signature(Take)),
            "segment":    In(stream.Signature(Segment)),
            "enabled":    In(num_queues),
            "available":  In(num_queues),
            "wants":      Out(num_queues),
            "o":          Out(stream.Signature(job_layout(pairs))),
            "store":      Out(StorePort(slots * max_segments, most_entries)),
            "delivering": In(range(2 * slots + 1)),
            "enable":     In(1),
            "mrg_rxbuf":  In(1),
            "active":     In(range(pairs + 1)),
            "halt":       In(1),
            "over":       In(1),
            "endless":    In(1),
            "restart":    Out(1),
            "holds":      Out(1),
            "follows":    Out(1),
            "resting":    Out(1),
            "events":     Out(data.StructLayout({name: 1 for name in (
                "rx_frames", "rx_dropped_no_buffer", "rx_dropped_long", "rx_dropped_down")})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.underway = underway = Underway(
            num_queues=self.num_queues, pairs=self.pairs, ahead=self.ahead, slots=self.slots)
        m.submodules.gather = gather = Gather(
            max_segments=self.max_segments, slots=self.slots, most_entries=self.most_entries)
        connect(m, underway.take, flipped(self.take))
        connect(m, flipped(self.segment), gather.i)
        connect(m, gather.store, flipped(self.store))
        frames, halt, o, here = self.frames, self.halt, self.o, underway.here
        pair, strays = Signal(range(self.pairs)), Signal()     # whose chains the frame gets; it is not the frame's own
        apart = Signal()                                       # chains are taken for one pair at a time
        pending, chains, takes = underway.pending, underway.chains, Signal()
        drops = Signal()                                       # when all is taken back, the frame is dropped; else it stays
        m.d.comb += [
            underway.enabled.eq(self.enabled), underway.available.eq(self.available), underway.active.eq(self.active),
            underway.delivering.eq(self.delivering),
            underway.pair.eq(pair), underway.strays.eq(strays), underway.apart.eq(apart),
            frames.at.eq(underway.at), underway.there.eq(frames.there), underway.at_pair.eq(frames.at_pair),
            underway.may_take.eq(takes & self.enable & ~halt),
            underway.ended.eq(gather.ended),
            gather.own.eq(underway.mine), gather.need.eq(frames.need),
            o.p.need.eq(frames.need), o.p.chains.eq(chains), o.p.pair.eq(pair),
            self.holds.eq(underway.holds),
            self.follows.eq(frames.valid & ~frames.too_long & ~halt
                            & ((pending != 0) | self.available.bit_select(frames.pair << 1, 1))),
        ]
        m.d.sync += [self.wants.eq(0), self.resting.eq(0)]

        def finish(event, drop=1):
            m.d.comb += [o.valid.eq(1), o.p.drop.eq(drop), event.eq(o.ready), frames.next.eq(o.ready)]

        with m.FSM(name="provide") as state:
            m.d.comb += underway.served.eq(state.ongoing("CHAIN"))
            with m.State("FRAME"):
                m.d.comb += [self.restart.eq(1), gather.clear.eq(1)]
                m.d.sync += [pair.eq(frames.pair), strays.eq(0), drops.eq(1)]
                with m.If(frames.valid & ~self.enable):
                    m.next = "DOWN"
                with m.Elif(frames.valid & frames.too_long):
                    finish(self.events.rx_dropped_long)
                with m.Elif(frames.valid & ~halt):
                    m.next = "STEER" if self.pairs > 1 else "RUN"
            with m.State("DOWN"):
                finish(self.events.rx_dropped_down)
                with m.If(o.ready):
                    m.next = "FRAME"
            with m.State("STEER"):
                # 5.1.9.5.5.1: nothing above the count; a queue that is being reset gets nothing either.
                with m.If(~here):
                    m.d.sync += [pair.eq(underway.first), strays.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [gather.open.eq((pending != 0) & underway.mine), takes.eq(1)]
                with m.If(gather.ended):
                    m.next = "CHAIN"
                with m.Elif((pending != 0) & ~underway.mine):
                    m.d.sync += [drops.eq(0), apart.eq(1)]
                    m.next = "BACK"
                with m.If(pending == 0):
                    with m.If(~self.enable | ~underway.any):
                        m.next = "BACK"
                    with m.Elif(halt | ~here):
                        # A queue that has stopped has no more than it gave, and would give the same again.
                        m.d.sync += drops.eq(~halt & (chains != 0))
                        m.next = "BACK"
                    with m.Elif(underway.ready):
                        m.d.comb += self.restart.eq(1)
                    with m.Else():
                        m.d.sync += [
                            self.wants.bit_select(pair << 1, 1).eq(1),
                            self.resting.eq(self.endless & underway.idle),
                        ]
                        with m.If(self.over):
                            m.next = "BACK"
            with m.State("CHAIN"):
                m.d.comb += self.restart.eq(1)   # while a chain was on its way, the frame did not wait for the driver
                with m.If(gather.failed | gather.spilt):
                    m.next = "BACK"
                with m.Elif(gather.enough):
                    m.d.comb += takes.eq(1)
                    with m.If(underway.fits):
                        finish(self.events.rx_frames, drop=0)
                    with m.If(frames.next):
                        m.d.comb += [underway.commit.eq(1), gather.keep.eq(1)]
                        m.d.sync += [pair.eq(frames.behind), apart.eq(apart & (chains != 1))]
                        m.next = "FRAME"
                        with m.If((pending != 0) | underway.asked | (frames.joined & ~strays)):
                            m.next = "RUN"
                with m.Elif(self.mrg_rxbuf & ~gather.full):
                    m.next = "RUN"
                with m.Else():
                    m.next = "BACK"  # 5.1.9.4.1: without MRG_RXBUF a packet has one buffer
            with m.State("BACK"):
                # What is on its way comes first. Of a queue from which nothing was taken there is nothing to take back; it may be
                # about to be set up.
                m.d.comb += gather.open.eq(pending != 0)
                with m.If(pending == 0):
                    with m.If(underway.others):
                        m.d.comb += underway.rewind.eq(1)
                    with m.Elif(chains == 0):
                        with m.If(underway.idle & ~drops):
                            m.next = "FRAME"
                        with m.Elif(underway.idle):
                            finish(self.events.rx_dropped_no_buffer)
                            with m.If(o.ready):
                                m.next = "FRAME"
                    # The queue has stopped: what was taken of it must not come again with the next frame.
                    with m.Elif(gather.failed):
                        m.d.comb += underway.commit.eq(underway.fits)
                    with m.Else():
                        m.d.comb += underway.rewind.eq(1)
        return m
