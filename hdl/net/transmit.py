"""virtio-net transmit: chains of buffers to frames.

Ref: VIRTIO 1.4, 5.1.9.2 "Packet Transmission".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.buffers import BufferPort, TakeOp
from ..lib.dma import ReadPort
from ..lib.frame import frame_beat
from ..lib.packet_queue import PacketQueue
from ..lib.queue import Queue
from .transmit_frames import TransmitFrames
from .transmit_reads import TransmitReads, part_layout

__all__ = ["Transmit"]

PASSING = 8  # chains that are in hand no more and do not wait yet


class Transmit(wiring.Component):
    """Read the frames that transmit queues hold and send them, fair between queues, in order within one.

    Chains are taken, and their buffers read, as long as there is room for the answers, so host latency is hidden. A
    chain goes back, with length 0, as soon as its data has come. One that is no frame (shorter than its headers,
    longer than ``max_frame``, with a device-writable buffer, not readable, said to be in two tunnels, or while the link is
    down) is given back as well and counted as dropped.

    Parameters
    ----------
    width, num_queues, pairs : int
        The transmit queue of pair ``k`` is ``2 * k + 1`` (5.1.2).
    max_frame : int
        Longest frame, in bytes without FCS.
    depth : int
        Beats of frame memory; room for a longest frame and 8 beats.
    max_chains : int
        Chains in hand, at most.
    patience : int
        Cycles that a frame waits for room while nothing leaves and the engine pauses, or ``hurry`` is high; then it is dropped.
    piece : int
        Bytes that a long segment is read in, a power of two. Each piece costs the link a little; a long one waits for room.

    Members
    -------
    buffers : Out(BufferPort(num_queues)), read : Out(ReadPort(width))
    o : Out(stream(frame_beat(width)))
        Frames without FCS; one that has begun comes without pause.
    link_up : In(1)
    hurry : In(1)
        Somebody else waits for what comes behind on this buffer port.
    hold : In(1), wants : Out(1)
        No read is asked for; one would be, but for that.
    sent : Out(frame_beat(width)), sent_valid : Out(1)
        The beats of frames a cycle after they enter the frame memory, each for one cycle.
    sent_pair : Out(stream(range(pairs)))
        Of several pairs, that of each of these frames, in order, there no later than two cycles after its last beat.
    busy : Out(1)
    events : Out
    """
    def __init__(self, *, width, num_queues, max_frame, pairs=1, depth=2048, max_chains=32, patience=1 << 15,
                 piece=2048):
        self.width = width
        self.num_queues = num_queues
        self.pairs = pairs
        self.max_frame = max_frame
        self.depth = depth
        self.max_chains = max_chains
        self.patience = patience
        self.piece = piece
        super().__init__({
            "buffers": Out(BufferPort(num_queues)),
            "read":    Out(ReadPort(width)),
            "o":       Out(stream.Signature(frame_beat(width))),
            "link_up": In(1),
            "hurry":   In(1),
            "hold":    In(1),
            "wants":   Out(1),
            "sent":       Out(frame_beat(width)),
            "sent_valid": Out(1),
            "sent_pair":  Out(stream.Signature(range(pairs))),
            "busy":    Out(1),
            "events":  Out(data.StructLayout({"tx_frames": 1, "tx_dropped": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        take, used = self.buffers.take, self.buffers.used

        # Take chains, queue after queue.
        in_hand = Signal(range(self.max_chains + 1))
        ready = Signal(self.pairs)
        turn, choice = Signal(range(self.pairs)), Signal(range(self.pairs))
        m.d.comb += ready.eq(Cat(self.buffers.available[2 * k + 1] for k in range(self.pairs)))
        round_robin(m, ready, turn, choice)
        taken = Signal()
        # A frame that is being read has its place among those that wait for the wire.
        places = Signal()
        with m.FSM(name="take") as taking:
            with m.State("CHOOSE"):
                with m.If(ready.any() & (in_hand != self.max_chains) & places & ~self.buffers.pause):
                    m.d.sync += turn.eq(choice)
                    m.next = "TAKE"
            with m.State("TAKE"):
                # Whatever the chain holds, it goes back as used.
                m.d.comb += [take.valid.eq(1), take.p.op.eq(TakeOp.KEEP)]
                with m.If(take.ready):
                    m.d.comb += taken.eq(1)
                    m.next = "CHOOSE"
        m.d.comb += take.p.queue.eq((turn << 1) + 1)

        # What is read has its place among the frames, so no beat ever waits for one, or is lost.
        m.submodules.reads = reads = TransmitReads(
            lanes=self.width // 8, pairs=self.pairs, max_frame=self.max_frame, depth=self.depth, patience=self.patience,
            piece=self.piece)
        m.submodules.order = order = Queue(part_layout(self.pairs, self.depth), 2 * self.max_chains)
        m.submodules.parts = parts = TransmitFrames(
            width=self.width, pairs=self.pairs, depth=self.depth, max_chains=self.max_chains)
        m.submodules.frames = frames = PacketQueue(
            width=self.width, depth=self.depth, max_packets=2 * self.max_chains + PASSING, drop_on_full=True, lengths=False)
        connect(m, flipped(self.buffers.segment), reads.i)
        connect(m, reads.req, flipped(self.read.req))
        connect(m, reads.o, order.i)
        connect(m, order.o, parts.i)
        connect(m, flipped(self.read.beat), parts.beat)
        connect(m, frames.o, flipped(self.o))
        if self.pairs > 1:
            m.submodules.pairs = pairs = Queue(range(self.pairs), 8)
            connect(m, parts.o_pair, pairs.i)
            connect(m, pairs.o, flipped(self.sent_pair))
        else:
            m.d.comb += parts.o_pair.ready.eq(1)
        m.d.comb += [
            reads.free.eq(frames.free),
            reads.released.eq(parts.released),
            reads.link_up.eq(self.link_up),
            reads.hurry.eq(self.buffers.pause | self.hurry),
            reads.moves.eq(self.o.valid & self.o.ready),
            reads.hold.eq(self.hold),
            self.wants.eq(reads.wants),
            frames.i.payload.eq(parts.o),
            frames.i.valid.eq(parts.o_valid),
            self.events.eq(parts.events),
        ]
        m.d.sync += [
            places.eq(in_hand + frames.packets < 2 * self.max_chains),
            self.sent.eq(parts.o),
            self.sent_valid.eq(parts.o_valid),
        ]

        waits, flush = Signal(), Signal()      # what was offered stays as it is
        m.d.sync += [waits.eq(used.valid & ~used.ready), flush.eq(used.p.flush)]
        m.d.comb += [
            used.valid.eq(parts.o_back.valid),
            used.p.queue.eq((parts.o_back.p.pair << 1) + 1),
            used.p.chain.eq(parts.o_back.p.chain),
            used.p.flush.eq(Mux(waits, flush, (in_hand == 1) & (~ready.any() | self.buffers.pause))),
            parts.o_back.ready.eq(used.ready),
            self.buffers.holds.eq((in_hand != 0) | ~taking.ongoing("CHOOSE")),
            self.busy.eq((in_hand != 0) | ready.any() | parts.busy | frames.busy),
        ]
        m.d.sync += in_hand.eq(in_hand + taken - (used.valid & used.ready) - parts.lost)
        return m
