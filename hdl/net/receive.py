"""virtio-net receive: frames to chains of buffers.

Ref: VIRTIO 1.4, 5.1.9.3 "Setting Up Receive Buffers", 5.1.9.4 "Processing of Incoming Packets".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import BufferPort, ChainId, TakeOp
from ..lib.dma import WritePort
from ..lib.frame import frame_beat
from ..lib.pack import Cutter, Packer
from ..lib.packet_queue import PacketQueue
from ..lib.queue import Queue
from ..lib.slice import Slice
from ..spec.ethernet import MAX_VLAN_TAGS, VLAN_TAG_BYTES
from ..spec.net import VIRTIO_NET_HDR_SIZE, VirtioNetHdr
from .tags import TagCount

__all__ = ["Receive"]


class Receive(wiring.Component):
    """Deliver frames into the receive buffers of the queue pair that they belong to.

    While one frame is written, buffers for the next are found. A frame for which there are no buffers waits, so that a
    driver may be late, as long as less than half of the frame memory is used, and, if frames of other pairs wait behind it,
    for ``patience`` cycles; then it is dropped, so that a queue that nobody serves does not stop the others. While it waits,
    ``buffers.wants`` names its queue. A frame of a pair that is not active, or whose queue is not enabled, goes to the first
    queue that is; if there is none it is dropped.

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
    patience : int
        Cycles.

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
    settled : Out(1)
        Nothing is under way for a pair that is active no more; low from the change of ``active`` on.
    busy : Out(1)
        Low also while all that is here is frames that wait for a buffer as long as it takes.
    events : Out
    """
    def __init__(self, *, width, num_queues, pairs=1, max_frame=1514, depth=4096, max_packets=256, max_segments=64,
                 patience=4096):
        self.width = width
        self.num_queues = num_queues
        self.pairs = pairs
        self.max_frame = max_frame
        self.depth = depth
        self.max_packets = max_packets
        self.max_segments = max_segments
        self.patience = patience
        super().__init__({
            "i":         In(stream.Signature(frame_beat(width))),
            "i_pair":    In(range(pairs)),
            "buffers":   Out(BufferPort(num_queues)),
            "write":     Out(WritePort(width)),
            "enable":    In(1),
            "mrg_rxbuf": In(1),
            "active":    In(range(pairs + 1), init=1),
            "settled":   Out(1),
            "busy":      Out(1),
            "events":    Out(data.StructLayout({name: 1 for name in (
                "rx_frames", "rx_dropped_no_buffer", "rx_dropped_full", "rx_dropped_long", "rx_dropped_down")})),
        })

    def elaborate(self, platform):
        m = Module()
        note_layout = data.StructLayout({"tags": range(MAX_VLAN_TAGS + 1), "pair": range(self.pairs)})
        i_note = Signal(note_layout)
        m.submodules.frames = frames = PacketQueue(
            width=self.width, depth=self.depth, max_packets=self.max_packets, drop_on_full=True,
            note_width=note_layout.size)
        m.submodules.tags = tags = TagCount(width=self.width)
        connect(m, flipped(self.i), frames.i)
        m.d.comb += [
            tags.i.eq(self.i.p),
            tags.valid.eq(self.i.valid),
            i_note.tags.eq(tags.tags),
            i_note.pair.eq(self.i_pair),
            frames.i_note.eq(i_note),
            self.events.rx_dropped_full.eq(frames.lost),
        ]

        # Segments of the frame being provided for, and of the one being written.
        segment_layout = data.StructLayout({"chain": ChainId, "addr": 64, "len": 16, "last": 1})
        m.submodules.segments = segments = memory.Memory(
            shape=segment_layout, depth=2 * self.max_segments, init=[])
        seg_w, seg_r = segments.write_port(), segments.read_port()
        place = range(2 * self.max_segments)
        # ``drop``: the frame is discarded and no buffer is used. ``chains``: num_buffers.
        job_layout = data.StructLayout({"len": 16, "drop": 1, "first": place, "chains": 16, "pair": range(self.pairs)})
        m.submodules.jobs = jobs = Queue(job_layout, 2)

        # What was steered by another number of active pairs comes to its end before anything new begins, and so does what is in
        # hand when the engine pauses.
        was_active, stale, halt = Signal.like(self.active, init=1), Signal(), Signal()
        m.d.sync += was_active.eq(self.active)
        m.d.comb += [
            self.settled.eq(~stale & (self.active == was_active)),
            halt.eq(stale | self.buffers.pause),
        ]
        note = note_layout(frames.o_note)
        holds, resting = self._provide(m, frames, note, jobs, seg_w, halt)
        with m.If(self.active != was_active):
            m.d.sync += stale.eq(1)
        with m.Elif(~self.buffers.holds & ~Cat(self.buffers.untold[2 * k] for k in range(self.pairs)).any()):
            m.d.sync += stale.eq(0)
        # A frame that is discarded has no chains: a wire full of them keeps nobody waiting.
        chained = Signal(range(3))                         # jobs that have chains
        m.d.sync += chained.eq(chained + (jobs.i.valid & jobs.i.ready & ~jobs.i.p.drop)
                               - (jobs.o.valid & jobs.o.ready & ~jobs.o.p.drop))
        m.d.comb += self.buffers.holds.eq(holds | (chained != 0))
        self._deliver(m, frames, note, jobs, seg_r, halt)
        m.d.comb += self.busy.eq((jobs.level != 0) | halt | ((frames.o_len.valid | frames.busy) & ~resting))
        return m

    def _others_wait(self, m, frames):
        """Of the frames in memory, not all are of the same pair."""
        newest = Signal.like(self.i_pair)
        run = Signal(range(self.max_packets + 1))          # the newest frames that are of one pair
        with m.If(frames.kept):
            m.d.sync += newest.eq(self.i_pair)
            with m.If(self.i_pair != newest):
                m.d.sync += run.eq(1)
            with m.Elif(run != self.max_packets):
                m.d.sync += run.eq(run + 1)
        others = Signal()
        m.d.sync += others.eq(run < frames.packets)
        return others

    def _provide(self, m, frames, note, jobs, seg_w, halt):
        """Find buffers for frame after frame.

        Return two signals: a chain is in hand that no job has; nothing will happen before a buffer or another frame comes.
        """
        take, segment = self.buffers.take, self.buffers.segment
        pair = Signal(range(self.pairs))
        need, capacity = Signal(17), Signal(17)
        first, tail = Signal(range(2 * self.max_segments)), Signal(range(2 * self.max_segments))
        count, chains = Signal(range(self.max_segments + 1)), Signal(16)
        length = Signal(33)
        late, full, enough, too_long = Signal(), Signal(), Signal(), Signal()
        waited = Signal(range(self.patience + 1))

        # Pairs that can be served, and the first of them.
        usable, available, fallback = Signal(self.pairs), Signal(self.pairs), Signal(range(self.pairs))
        here = Signal()
        m.d.comb += [
            usable.eq(Cat(self.buffers.enabled[2 * k] & (self.active > k) for k in range(self.pairs))),
            available.eq(Cat(self.buffers.available[2 * k] for k in range(self.pairs))),
            here.eq(usable.bit_select(pair, 1)),
        ]
        for k in reversed(range(self.pairs)):
            with m.If(usable[k]):
                m.d.sync += fallback.eq(k)

        m.d.comb += [
            full.eq(count == self.max_segments),
            length.eq(Mux(segment.p.write, segment.p.len, 0)),
            seg_w.addr.eq(tail),
            seg_w.data.chain.eq(segment.p.chain),
            seg_w.data.addr.eq(segment.p.addr),
            seg_w.data.len.eq(Mux(length > 0xffff, 0xffff, length)),
            seg_w.data.last.eq(segment.p.last),
            jobs.i.p.len.eq(frames.o_len.p),
            jobs.i.p.first.eq(first),
            jobs.i.p.chains.eq(chains),
            jobs.i.p.pair.eq(pair),
        ]
        with m.Switch(note.tags):  # 5.1.4.1: mtu and the link's header, as long as it is
            for tags in range(MAX_VLAN_TAGS + 1):
                with m.Case(tags):
                    m.d.comb += too_long.eq(frames.o_len.p > self.max_frame + tags * VLAN_TAG_BYTES)
        m.d.sync += late.eq((frames.free < self.depth // 2) | (frames.packets > self.max_packets // 2))
        if self.pairs > 1:
            m.d.sync += waited.eq(Mux(self._others_wait(m, frames), waited + (waited != self.patience), 0))
        # A COMMIT goes beside the next frame's first steps, and before its operations.
        holds, takes, op, done = Signal(), Signal(), Signal(TakeOp), Signal()
        committing, to_commit = Signal(), Signal.like(pair)
        m.d.comb += [
            take.valid.eq(takes | committing),
            take.p.op.eq(Mux(committing, TakeOp.COMMIT, op)),
            take.p.queue.eq(Mux(committing, to_commit, pair) << 1),
            done.eq(take.ready & ~committing),
        ]
        with m.If(take.ready):
            m.d.sync += committing.eq(0)
        resting = Signal()
        m.d.sync += [self.buffers.wants.eq(0), resting.eq(0)]
        with m.FSM(name="provide"):
            with m.State("FRAME"):
                m.d.sync += [
                    need.eq(frames.o_len.p + VIRTIO_NET_HDR_SIZE), capacity.eq(0), enough.eq(0),
                    count.eq(0), chains.eq(0), tail.eq(first), pair.eq(note.pair),
                ]
                with m.If(frames.o_len.valid & ~self.enable):
                    m.d.comb += self.events.rx_dropped_down.eq(jobs.i.ready)
                    self._finish(m, frames, jobs, drop=True)
                # One frame is written while another is provided for: the segments of two are all there are.
                with m.Elif(frames.o_len.valid & too_long):
                    m.next = "TOO LONG"
                with m.Elif(frames.o_len.valid & (jobs.level < 2) & ~halt):
                    m.next = "STEER" if self.pairs > 1 else "WAIT"
                m.d.sync += waited.eq(0)
            with m.State("TOO LONG"):
                m.d.comb += self.events.rx_dropped_long.eq(jobs.i.ready)
                self._finish(m, frames, jobs, drop=True)
            with m.State("STEER"):
                # 5.1.9.5.5.1: nothing above the count; a queue that is being reset gets nothing either.
                with m.If(~here):
                    m.d.sync += pair.eq(fallback)
                m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(~self.enable | ~usable.any()):
                    m.next = "GIVE UP"
                with m.Elif(~here & ~halt & (chains != 0)):
                    m.next = "GIVE UP"  # the queue has stopped: it has no more than it gave, and would give the same again
                with m.Elif(halt | ~here):
                    m.next = "RETRY"
                with m.Elif(available.bit_select(pair, 1)):
                    m.next = "TAKE"
                with m.Else():
                    m.d.sync += [
                        self.buffers.wants.bit_select(pair << 1, 1).eq(1),
                        resting.eq(~late & (waited == 0) & ~committing),
                    ]
                    with m.If(late | (waited == self.patience)):
                        m.next = "GIVE UP"
            with m.State("TAKE"):
                m.d.comb += [takes.eq(1), op.eq(TakeOp.TAKE), holds.eq(1)]
                with m.If(done):
                    m.d.sync += chains.eq(chains + 1)
                    m.next = "SEGMENTS"
            with m.State("SEGMENTS"):
                m.d.comb += segment.ready.eq(1)
                with m.If(segment.valid):
                    # A buffer that holds nothing of the frame is kept only as the end of its chain.
                    with m.If((((length != 0) & ~enough) | segment.p.last) & ~full):
                        m.d.comb += seg_w.en.eq(1)
                        m.d.sync += [tail.eq(tail + 1), count.eq(count + 1)]
                        with m.If(~enough):
                            m.d.sync += [capacity.eq(capacity + length), enough.eq(capacity + length >= need)]
                    with m.If(segment.p.last):
                        m.next = "ENOUGH"
                        with m.If(segment.p.error):
                            m.next = "FORGET"
                        with m.Elif(full):
                            m.next = "GIVE UP"
            with m.State("ENOUGH"):
                with m.If(enough):
                    m.d.comb += self.events.rx_frames.eq(jobs.i.ready)
                    with m.If(jobs.i.ready):
                        m.d.sync += [first.eq(tail), committing.eq(1), to_commit.eq(pair)]
                    self._finish(m, frames, jobs, drop=False)
                with m.Elif(self.mrg_rxbuf & ~full):
                    m.next = "WAIT"
                with m.Else():
                    m.next = "GIVE UP"  # 5.1.9.4.1: without MRG_RXBUF a packet has one buffer
            with m.State("FORGET"):
                # The queue has stopped: what was taken of it must not come again with the next frame.
                m.d.comb += [takes.eq(1), op.eq(TakeOp.COMMIT)]
                with m.If(done):
                    m.d.sync += chains.eq(0)
                    m.next = "DROP"
            # Of a queue from which nothing was taken there is nothing to give up; it may be about to be set up.
            with m.State("RETRY"):
                m.d.comb += [takes.eq(chains != 0), op.eq(TakeOp.REWIND)]
                with m.If(done | (chains == 0)):
                    m.d.sync += chains.eq(0)
                    m.next = "FRAME"
            with m.State("GIVE UP"):
                m.d.comb += [takes.eq(chains != 0), op.eq(TakeOp.REWIND)]
                with m.If(done | (chains == 0)):
                    m.d.sync += chains.eq(0)
                    m.next = "DROP"
            with m.State("DROP"):
                m.d.comb += self.events.rx_dropped_no_buffer.eq(jobs.i.ready)
                self._finish(m, frames, jobs, drop=True)
        with m.If((chains != 0) | committing):
            m.d.comb += holds.eq(1)
        return holds, resting

    def _finish(self, m, frames, jobs, *, drop):
        m.d.comb += [
            jobs.i.valid.eq(1),
            jobs.i.p.drop.eq(drop),
            frames.o_len.ready.eq(jobs.i.ready),
        ]
        with m.If(jobs.i.ready):
            m.next = "FRAME"

    def _deliver(self, m, frames, note, jobs, seg_r, halt):
        """Write header and frame into the segments of each job, give the chains back."""
        lanes = self.width // 8
        used, job = self.buffers.used, jobs.o.p
        m.submodules.packer = packer = Packer(width=self.width)
        m.submodules.cutter = cutter = Cutter(width=self.width)
        m.submodules.body = body = Slice(frame_beat(self.width))
        connect(m, body.o, packer.i)
        connect(m, packer.o, cutter.i)

        # Bytes: the header, then the frame; or the frame into nothing.
        sending = Signal(range(3))                         # 0: nothing, 1: header, 2: frame
        dropping = Signal()
        header = Signal(VirtioNetHdr)
        at = Signal(range(VIRTIO_NET_HDR_SIZE + lanes))    # bytes of the header that have gone
        fits = Signal(range(lanes + 1))
        m.d.comb += [
            header.num_buffers.eq(job.chains),
            fits.eq(Mux(VIRTIO_NET_HDR_SIZE - at > lanes, lanes, VIRTIO_NET_HDR_SIZE - at)),
        ]
        with m.If(sending == 1):
            m.d.comb += [
                body.i.valid.eq(1),
                body.i.p.data.eq(Value.cast(header) >> (at << 3)),
                body.i.p.count.eq(fits),
            ]
            with m.If(body.i.ready):
                m.d.sync += at.eq(at + fits)
                with m.If(at + fits == VIRTIO_NET_HDR_SIZE):
                    m.d.sync += sending.eq(2)
        with m.Elif(sending == 2):
            m.d.comb += [
                body.i.valid.eq(frames.o.valid & ~dropping),
                body.i.p.eq(frames.o.p),
                frames.o.ready.eq(body.i.ready | dropping),
            ]
            with m.If(frames.o.valid & frames.o.ready & frames.o.p.last):
                m.d.sync += sending.eq(0)

        # Pieces: one write a segment.
        left, length = Signal(17), Signal(17)
        written = Signal(32)                               # into the chain so far
        place = Signal.like(seg_r.addr)
        chains = Signal(16)
        # The segment looked up two cycles ago (the block RAM is slow), and what the one being written leaves when it is done.
        segment, chain, ends = Signal.like(seg_r.data), Signal(ChainId), Signal()
        m.d.sync += segment.eq(seg_r.data)
        last_chain = Signal()
        # Another frame has its buffers, or can have them at once. It may be of another pair: under load a pair's used buffers
        # are told of together, after the short time for which the engine keeps them.
        follows, last_drop, ready = Signal(), Signal(), Signal()
        m.d.comb += ready.eq(Cat(self.buffers.available[2 * k] for k in range(self.pairs)).bit_select(note.pair, 1))
        with m.If(jobs.i.valid & jobs.i.ready):
            m.d.sync += last_drop.eq(jobs.i.p.drop)
        with m.If(~used.valid):
            m.d.sync += follows.eq(((jobs.level > 1) & ~last_drop) | (frames.o_len.valid & ready & ~halt))
        request, payload = self.write.req, self.write.data
        m.d.comb += [
            seg_r.addr.eq(place),
            request.p.addr.eq(segment.addr),
            request.p.len.eq(length),
            cutter.i_cut.p.len.eq(length),
            payload.p.data.eq(cutter.o.p.data),
            payload.p.last.eq(cutter.o.p.last),
            payload.valid.eq(cutter.o.valid),
            cutter.o.ready.eq(payload.ready),
            last_chain.eq(chains == 1),
            used.p.queue.eq(job.pair << 1),
            used.p.chain.eq(chain),
            used.p.len.eq(written),
            used.p.more.eq(~last_chain),
            used.p.flush.eq(last_chain & ~follows),
        ]
        m.d.sync += length.eq(Mux(left > segment.len, segment.len, left))
        with m.FSM(name="deliver"):
            with m.State("JOB"):
                m.d.comb += seg_r.addr.eq(job.first)
                m.d.sync += [
                    left.eq(job.len + VIRTIO_NET_HDR_SIZE),
                    place.eq(job.first),
                    chains.eq(job.chains),
                    written.eq(0),
                    at.eq(0),
                    dropping.eq(job.drop),
                ]
                with m.If(jobs.o.valid):
                    m.d.sync += sending.eq(Mux(job.drop, 2, 1))
                    m.next = "LOOK-UP FIRST"
                    with m.If(job.drop):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(sending == 0):
                    m.d.comb += jobs.o.ready.eq(1)
                    m.next = "JOB"
            with m.State("LOOK-UP FIRST"):
                m.next = "LOOK-UP"
            with m.State("LOOK-UP"):
                m.next = "SEGMENT"
            with m.State("SEGMENT"):
                # The next one is looked up while this one is written.
                m.d.sync += [chain.eq(segment.chain), ends.eq(segment.last)]
                with m.If(length == 0):
                    m.d.sync += place.eq(place + 1)
                    m.next = "NOTHING"
                with m.Else():
                    m.d.comb += [
                        request.valid.eq(cutter.i_cut.ready),
                        cutter.i_cut.valid.eq(request.ready),
                    ]
                    with m.If(request.ready & cutter.i_cut.ready):
                        m.d.sync += [left.eq(left - length), written.eq(written + length), place.eq(place + 1)]
                        m.next = "DATA"
            with m.State("DATA"):
                with m.If(payload.valid & payload.ready & payload.p.last):
                    m.next = "DONE"
            with m.State("NOTHING"):
                m.next = "DONE"
            with m.State("DONE"):
                # The payload is on its way; now the chain may be called used.
                m.d.comb += used.valid.eq(ends)
                with m.If(used.ready | ~ends):
                    m.next = "LOOK-UP"
                    with m.If(ends):
                        m.d.sync += [written.eq(0), chains.eq(chains - 1)]
                        with m.If(last_chain):
                            m.d.comb += jobs.o.ready.eq(1)
                            m.next = "JOB"
