"""virtio-net transmit: chains of buffers to frames.

Ref: VIRTIO 1.4, 5.1.9.2 "Packet Transmission".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.buffers import BufferPort, ChainId, Segment, TakeOp
from ..lib.dma import ReadPort
from ..lib.frame import frame_beat
from ..lib.pack import Packer
from ..lib.packet_queue import PacketQueue
from ..lib.queue import Queue
from ..lib.slice import Slice
from ..spec.ethernet import HEADER_BYTES
from ..spec.net import VIRTIO_NET_HDR_GSO_UDP_TUNNEL, VIRTIO_NET_HDR_SIZE

__all__ = ["Transmit"]

ON_THE_WAY = 6  # beats that have been read and are not yet in the frame memory
PASSING = 8     # chains that are in hand no more and do not wait yet


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
        Beats of frame memory; room for a longest frame twice.
    max_chains : int
        Chains in hand, at most.
    patience : int
        Cycles that a frame waits for room while nothing leaves and the engine pauses, or ``hurry`` is high; then it is dropped.

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
    def __init__(self, *, width, num_queues, max_frame, pairs=1, depth=2048, max_chains=32, patience=1 << 15):
        self.width = width
        self.num_queues = num_queues
        self.pairs = pairs
        self.max_frame = max_frame
        self.depth = depth
        self.max_chains = max_chains
        self.patience = patience
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
        lanes = self.width // 8
        lane_bits = (lanes - 1).bit_length()
        take, segment, used = self.buffers.take, self.buffers.segment, self.buffers.used

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

        # Judge a segment as it comes, ask for what it holds afterwards. ``order`` has an entry for each read and for each end of
        # a chain.
        order_layout = data.StructLayout({
            "pair": range(self.pairs), "chain": ChainId, "has_read": 1, "beats": range(self.depth + 1), "last": 1, "drop": 1,
            "lost": 1})
        m.submodules.order = order = Queue(order_layout, 2 * self.max_chains)
        m.submodules.frames = frames = PacketQueue(
            width=self.width, depth=self.depth, max_packets=2 * self.max_chains + PASSING, drop_on_full=False, lengths=False)
        m.d.sync += places.eq(in_hand + frames.packets < 2 * self.max_chains)
        longest = VIRTIO_NET_HDR_SIZE + self.max_frame
        total, drop = Signal(range(longest + 1)), Signal()
        sum_, bad = Signal(33), Signal()
        judged, judged_valid = Signal(Segment), Signal()
        wanted, spoils = Signal(), Signal()    # it is to be read; its frame is none
        beats, needs = Signal(range(self.depth + 1)), Signal(range(self.depth + ON_THE_WAY + 1))
        reserved, released = Signal(range(self.depth + 1)), Signal()
        # ``space``: free beats that no read had reserved before the last cycle. ``asked``: those that a read reserved in it.
        space, asked = Signal(signed(len(reserved) + 1)), Signal(range(self.depth + 1))
        fits = Signal()                        # the room that it needs is there
        reads, asks, leaves, hopeless, given_up = Signal(), Signal(), Signal(), Signal(), Signal()
        offered = Signal()                     # a read that was offered stays, whatever changes meanwhile
        entry = order.i.p
        m.d.comb += [
            sum_.eq(total + segment.p.len),
            bad.eq(drop | segment.p.write | (sum_ > longest) | ~self.link_up),
            segment.ready.eq(~judged_valid | (leaves & ~given_up)),
        ]
        m.d.sync += [
            space.eq(frames.free - reserved),
            asked.eq(Mux(asks, beats, 0)),
            fits.eq(judged_valid & ~leaves & (needs + asked <= space)),
        ]
        with m.If(leaves):
            m.d.sync += judged_valid.eq(0)
            with m.If(given_up & ~judged.last):
                m.d.sync += drop.eq(1)
        with m.If(segment.ready):
            m.d.sync += [
                judged.eq(segment.p),
                judged_valid.eq(segment.valid),
                wanted.eq(~bad & (segment.p.len != 0) & ~segment.p.error),
                spoils.eq(bad | (segment.p.last & (sum_ < VIRTIO_NET_HDR_SIZE + HEADER_BYTES))),
                beats.eq((segment.p.len >> lane_bits) + 2),
                needs.eq((segment.p.len >> lane_bits) + 2 + ON_THE_WAY),
            ]
            with m.If(segment.valid):
                m.d.sync += [total.eq(Mux(segment.p.last, 0, sum_)), drop.eq(bad & ~segment.p.last)]
        m.d.comb += [
            given_up.eq(hopeless & ~offered),
            reads.eq(wanted & ~given_up),
            entry.pair.eq(judged.queue >> 1),
            entry.chain.eq(judged.chain),
            entry.has_read.eq(reads),
            entry.beats.eq(beats),
            entry.last.eq(judged.last),
            entry.drop.eq(judged.last & (spoils | given_up)),
            entry.lost.eq(judged.error),
            self.read.req.p.addr.eq(judged.addr),
            self.read.req.p.len.eq(judged.len),
        ]
        # A queue reset ends, and others get their segments, whatever the wire does. A long table that comes slowly is not the
        # wire's fault: only time in which a segment is here and is not asked for counts.
        stood = Signal(range(self.patience + 1))
        m.d.comb += hopeless.eq(stood == self.patience)
        with m.If(~(self.buffers.pause | self.hurry) | (self.o.valid & self.o.ready) | asks):
            m.d.sync += stood.eq(0)
        with m.Elif(~hopeless & judged_valid & wanted & ~self.hold):
            m.d.sync += stood.eq(stood + 1)
        m.d.sync += offered.eq(self.read.req.valid & ~self.read.req.ready)
        with m.If(reads):
            m.d.comb += [
                self.wants.eq(judged_valid & order.i.ready & (offered | fits)),
                self.read.req.valid.eq(self.wants & (offered | ~self.hold)),
                asks.eq(self.read.req.valid & self.read.req.ready),
                order.i.valid.eq(asks),
                leaves.eq(asks),
            ]
        with m.Else():
            m.d.comb += [
                order.i.valid.eq(judged_valid & judged.last),
                leaves.eq(judged_valid & (order.i.ready | ~judged.last)),
            ]

        # Put the answers together, less the virtio_net_hdr, which may be cut anywhere.
        m.submodules.packer = packer = Packer(width=self.width)
        m.submodules.body = body = Slice(frame_beat(self.width))
        connect(m, body.o, packer.i)
        connect(m, packer.o, frames.i)
        connect(m, frames.o, flipped(self.o))
        m.d.sync += [self.sent.eq(packer.o.p), self.sent_valid.eq(packer.o.valid & packer.o.ready)]
        beat, now = self.read.beat, order.o.p
        header = Signal(range(VIRTIO_NET_HDR_SIZE + 1), init=VIRTIO_NET_HDR_SIZE)  # bytes of it still to come
        cut = Signal(range(VIRTIO_NET_HDR_SIZE + 1))
        failed, ends, spoilt = Signal(), Signal(), Signal()
        gso_type, tunnels = Signal(8), Signal()
        room = Signal(init=1)                          # for the pair of this frame
        if self.pairs > 1:
            m.submodules.pairs = pairs = Queue(range(self.pairs), 8)
            connect(m, pairs.o, flipped(self.sent_pair))
            m.d.comb += [pairs.i.valid.eq(ends), pairs.i.p.eq(now.pair), room.eq(pairs.i.ready)]
        # Room for every chain in hand: what has been read never waits for the used ring.
        m.submodules.back = back = Queue(
            data.StructLayout({"pair": range(self.pairs), "chain": ChainId}), self.max_chains)
        m.d.comb += [
            cut.eq(Mux(header < beat.p.count, header, beat.p.count)),
            # 5.1.9.2.2: not both tunnels. gso_type is the header's second byte.
            gso_type.eq(beat.p.data.word_select(header == VIRTIO_NET_HDR_SIZE, 8)),
            tunnels.eq(((gso_type & VIRTIO_NET_HDR_GSO_UDP_TUNNEL) == VIRTIO_NET_HDR_GSO_UDP_TUNNEL)
                       & (((header == VIRTIO_NET_HDR_SIZE) & (beat.p.count > 1))
                          | ((header == VIRTIO_NET_HDR_SIZE - 1) & (beat.p.count != 0)))),
            spoilt.eq(now.drop | now.lost | failed | (now.has_read & (beat.p.error | tunnels))),
            body.i.p.data.eq(beat.p.data >> (cut[:lane_bits] << 3)),   # of a whole beat no byte counts
            body.i.p.count.eq(Mux(now.has_read, beat.p.count - cut, 0)),
            body.i.p.last.eq(now.last & (~now.has_read | beat.p.last)),
            body.i.p.error.eq(spoilt),
            body.i.valid.eq(order.o.valid & (beat.valid | ~now.has_read) & room),
            beat.ready.eq(order.o.valid & now.has_read & body.i.ready & room),
            ends.eq(body.i.valid & body.i.ready & body.i.p.last),
            released.eq(beat.valid & beat.ready & beat.p.last),
            order.o.ready.eq(ends | released),
            back.i.valid.eq(ends & ~now.lost),
            back.i.p.pair.eq(now.pair),
            back.i.p.chain.eq(now.chain),
            self.events.tx_frames.eq(ends & ~spoilt),
            self.events.tx_dropped.eq(ends & spoilt),
        ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += [header.eq(header - cut), failed.eq(failed | tunnels | (beat.p.last & beat.p.error))]
        with m.If(ends):
            m.d.sync += [header.eq(VIRTIO_NET_HDR_SIZE), failed.eq(0)]
        m.d.sync += reserved.eq(reserved + Mux(asks, beats, 0) - Mux(released, now.beats, 0))

        waits, flush = Signal(), Signal()      # what was offered stays as it is
        m.d.sync += [waits.eq(used.valid & ~used.ready), flush.eq(used.p.flush)]
        m.d.comb += [
            used.valid.eq(back.o.valid),
            used.p.queue.eq((back.o.p.pair << 1) + 1),
            used.p.chain.eq(back.o.p.chain),
            used.p.flush.eq(Mux(waits, flush, (in_hand == 1) & (~ready.any() | self.buffers.pause))),
            back.o.ready.eq(used.ready),
            self.buffers.holds.eq((in_hand != 0) | ~taking.ongoing("CHOOSE")),
            self.busy.eq((in_hand != 0) | ready.any() | body.o.valid | packer.o.valid | frames.busy),
        ]
        m.d.sync += in_hand.eq(in_hand + taken - (used.valid & used.ready) - (ends & now.lost))
        return m
