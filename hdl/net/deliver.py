"""virtio-net receive: header and frame into the segments that were found for them, and the chains back as used.

Ref: VIRTIO 1.4, 5.1.9.4 "Processing of Incoming Packets".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import ChainId, Used
from ..lib.dma import WritePort
from ..lib.frame import frame_beat
from ..lib.pack import Cutter
from ..lib.queue import Bypass, Queue
from ..lib.slice import Skid
from ..spec.virtio import MAX_QUEUE_SIZE
from .gather import StorePort, stored_segment
from .join import Join

__all__ = ["job_layout", "Pieces", "Deliver"]


def job_layout(pairs):
    """A frame, in order: ``drop`` it, or write its ``need`` bytes, header included, to its segments, which are of ``chains``
    chains of ``pair``."""
    return data.StructLayout({"drop": 1, "need": 17, "chains": 16, "pair": range(pairs)})


def piece_layout(width, pairs):
    """What of a frame goes into one segment: ``len`` bytes, or 0, from ``lane`` of a beat on; ``more``: there are bytes behind
    them. ``ends``: its chain is used then. ``last``: it is the last."""
    return data.StructLayout({"addr": 64, "len": 16, "lane": range(width // 8), "more": 1, "chain": ChainId, "ends": 1,
                              "last": 1, "pair": range(pairs)})


class Pieces(wiring.Component):
    """Look up the segments of frame after frame.

    The first piece of a frame is there two cycles after the frame came, each further one two cycles after the one before.

    Parameters
    ----------
    width, pairs : int
    places : int
        Segments that are kept, a power of two.
    most_entries : int
        See :func:`.gather.stored_segment`.

    Members
    -------
    i : In(stream(job_layout(pairs)))
        No frame that is dropped.
    store : In(StorePort(places, most_entries))
        Two cycles before the frame comes, or earlier.
    o : Out(stream(piece_layout(width, pairs)))
    """
    def __init__(self, *, width, pairs, places, most_entries=MAX_QUEUE_SIZE):
        self.width = width
        self.pairs = pairs
        self.places = places
        self.stored = stored_segment(most_entries)
        super().__init__({
            "i":     In(stream.Signature(job_layout(pairs))),
            "store": In(StorePort(places, most_entries)),
            "o":     Out(stream.Signature(piece_layout(width, pairs))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.segments = segments = memory.Memory(shape=self.stored, depth=self.places, init=[])
        write, read = segments.write_port(), segments.read_port()
        place = Signal(range(self.places))     # of the segment that is looked up next
        segment = Signal(self.stored)          # what was looked up, in a register: the block RAM is slow
        left, length, lane, more = Signal(17), Signal(17), Signal(range(self.width // 8)), Signal()
        chains, pair = Signal(16), Signal(range(self.pairs))
        looks, begins = Signal(), Signal()
        m.d.comb += [
            begins.eq(self.i.valid & self.i.ready),
            write.en.eq(self.store.en),
            write.addr.eq(self.store.place),
            write.data.eq(self.store.segment),
            read.addr.eq(place),
            # A row that is written now is read in the next cycle, and synthesis can see that.
            read.en.eq(~(write.en & (write.addr == read.addr))),
            self.o.p.addr.eq(segment.addr),
            self.o.p.len.eq(length),
            self.o.p.lane.eq(lane),
            self.o.p.more.eq(more),
            *[self.o.p.chain[name].eq(segment[name]) for name in ("id", "count", "writable")],
            self.o.p.ends.eq(segment.last),
            self.o.p.last.eq(segment.last & (chains == 1)),
            self.o.p.pair.eq(pair),
        ]
        # The next one is read while this one is offered: the memory has an answer two cycles after ``place`` moves.
        with m.If(looks):
            m.d.sync += [segment.eq(read.data), place.eq(place + 1)]
        with m.If(begins):
            m.d.sync += [left.eq(self.i.p.need), lane.eq(0), chains.eq(self.i.p.chains), pair.eq(self.i.p.pair)]
        m.d.sync += [length.eq(Mux(left > segment.len, segment.len, left)), more.eq(left > segment.len)]
        with m.FSM(name="pieces"):
            with m.State("FRAME"):
                m.d.comb += [self.i.ready.eq(1), looks.eq(self.i.valid)]
                with m.If(self.i.valid):
                    m.next = "LENGTH"
            with m.State("LENGTH"):
                m.next = "PIECE"
            with m.State("PIECE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "FRAME"
                    with m.If(~self.o.p.last):
                        m.d.sync += [left.eq(left - length), lane.eq(lane + length), chains.eq(chains - segment.last)]
                    m.d.comb += [self.i.ready.eq(self.o.p.last), looks.eq(~self.o.p.last | self.i.valid)]
                    with m.If(looks):
                        m.next = "LENGTH"
        return m


class Deliver(wiring.Component):
    """Write frames to their segments, and give the chains back.

    A frame takes a cycle for each beat that is written, and one for each piece. The next piece is looked up meanwhile. A beat in
    which one piece ends and the next begins is written with both.

    Parameters
    ----------
    width, pairs : int
    slots : int
        Frames that have their segments, a power of two.
    max_segments : int
        Of each of them, a power of two.
    most_entries : int
        See :func:`.gather.stored_segment`.

    Members
    -------
    i : In(stream(job_layout(pairs))), frames : In(stream(frame_beat(width)))
    store : In(StorePort(slots * max_segments, most_entries))
    write : Out(WritePort(width)), used : Out(stream(Used))
    follows : In(1)
        There are buffers for the frame behind those that came on ``i``.
    hold : In(1)
        No write is asked for.
    delivering : Out(range(slots + 1))
        Frames that are not dropped, from the cycle after they came until their last chain was given back.
    dropping : Out(range(slots + 1))
        Frames that are dropped, from the cycle after they came until their last beat has left.
    busy : Out(1)
    """
    def __init__(self, *, width, pairs, slots, max_segments, most_entries=MAX_QUEUE_SIZE):
        self.width = width
        self.pairs = pairs
        self.slots = slots
        self.places = slots * max_segments
        self.most_entries = most_entries
        super().__init__({
            "i":          In(stream.Signature(job_layout(pairs))),
            "frames":     In(stream.Signature(frame_beat(width))),
            "store":      In(StorePort(self.places, most_entries)),
            "write":      Out(WritePort(width)),
            "used":       Out(stream.Signature(Used)),
            "follows":    In(1),
            "hold":       In(1),
            "delivering": Out(range(slots + 1)),
            "dropping":   Out(range(slots + 1)),
            "busy":       Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.join   = join   = Join(width=self.width)
        m.submodules.pieces = pieces = Pieces(
            width=self.width, pairs=self.pairs, places=self.places, most_entries=self.most_entries)
        m.submodules.cutter = cutter = Cutter(width=self.width)
        # The same frames for both: bytes, and where they go. A frame goes nowhere before those that are dropped in front of it
        # have left, for a write that is asked for has its bytes; and none is dropped before those in front of it go.
        counts = range(2 * self.slots)
        m.submodules.bytes  = bytes_ = Queue(data.StructLayout({"job": join.job, "before": counts}), self.slots)
        m.submodules.jobs   = jobs   = Queue(data.StructLayout({"job": job_layout(self.pairs), "before": counts}), self.slots)
        connect(m, flipped(self.frames), join.i)
        connect(m, flipped(self.store), pieces.store)
        connect(m, join.o, cutter.i)
        connect(m, cutter.o, flipped(self.write.data))
        came, goes, leaves = Signal(), Signal(), Signal()
        # Frames so far, modulo twice the slots: to drop, and others.
        came_drops, left_drops, came_others, gone_others = (
            Signal(counts, name=name) for name in ("came_drops", "left_drops", "came_others", "gone_others"))
        m.d.sync += [
            came_drops.eq(came_drops + (came & self.i.p.drop)),
            left_drops.eq(left_drops + (bytes_.o.valid & bytes_.o.ready & bytes_.o.p.job.drop)),
            came_others.eq(came_others + (came & ~self.i.p.drop)),
            gone_others.eq(gone_others + (pieces.i.valid & pieces.i.ready)),
        ]
        m.d.comb += [
            self.dropping.eq((came_drops - left_drops)[:len(came_drops)]),
            pieces.i.p.eq(jobs.o.p.job),
            goes.eq(jobs.o.p.before == left_drops),
            pieces.i.valid.eq(jobs.o.valid & goes),
            jobs.o.ready.eq(pieces.i.ready & goes),
            self.i.ready.eq(bytes_.i.ready & jobs.i.ready),
            came.eq(self.i.valid & self.i.ready),
            bytes_.i.valid.eq(came),
            bytes_.i.p.job.drop.eq(self.i.p.drop),
            bytes_.i.p.job.num_buffers.eq(self.i.p.chains),
            bytes_.i.p.before.eq(came_others),
            leaves.eq(~bytes_.o.p.job.drop | (bytes_.o.p.before == gone_others)),
            join.i_job.p.eq(bytes_.o.p.job),
            join.i_job.valid.eq(bytes_.o.valid & leaves),
            bytes_.o.ready.eq(join.i_job.ready & leaves),
            jobs.i.valid.eq(came & ~self.i.p.drop),
            jobs.i.p.job.eq(self.i.p),
            jobs.i.p.before.eq(came_drops),
            self.busy.eq((bytes_.level != 0) | (self.delivering != 0)),
        ]

        # One write a piece, asked for while the one before is written. What has been asked for waits for nothing: there is room
        # for its used entry.
        m.submodules.asked = asked = Skid(piece_layout(self.width, self.pairs))
        piece, request, nothing = pieces.o, self.write.req, Signal()
        pending, room = Signal(range(self.slots + 1)), Signal()   # pieces that are not written, or whose used entry has not gone
        done, given_back = Signal(), Signal()
        unwritten = Signal.like(self.delivering)           # frames of which a piece is not written
        offered = Signal()                                 # a write that was offered stays
        m.d.sync += offered.eq(request.valid & ~request.ready)
        m.d.comb += [
            nothing.eq(piece.p.len == 0),                  # the end of a chain, of which nothing is needed
            request.p.addr.eq(piece.p.addr),
            request.p.len.eq(piece.p.len),
            request.p.lane.eq(piece.p.lane),
            room.eq((pending != self.slots) & asked.i.ready),
            request.valid.eq(piece.valid & ~nothing & room & (offered | ~self.hold)),
            piece.ready.eq(((request.valid & request.ready) | nothing) & room),
            asked.i.valid.eq(piece.valid & piece.ready),
            asked.i.p.eq(piece.p),
            given_back.eq(self.used.valid & self.used.ready),
        ]

        # Its bytes; then the chain, if it ends.
        m.submodules.given = given = Bypass(Used, self.slots)  # the engine writes many at a time, and takes none meanwhile
        connect(m, given.o, flipped(self.used))
        payload, used = cutter.o, given.i
        now = Signal(piece_layout(self.width, self.pairs)) # the piece that is being written
        written, total = Signal(32), Signal(32)            # into the chain before this piece; and with it
        m.d.comb += [
            total.eq(written + asked.o.p.len),
            cutter.i_cut.p.len.eq(asked.o.p.len),
            cutter.i_cut.p.lane.eq(asked.o.p.lane),
            cutter.i_cut.p.more.eq(asked.o.p.more),
        ]
        with m.If(used.ready):
            m.d.sync += used.valid.eq(0)
        with m.FSM(name="deliver"):
            with m.State("PIECE"):
                with m.If(asked.o.valid & cutter.i_cut.ready):
                    m.d.comb += [asked.o.ready.eq(1), cutter.i_cut.valid.eq(asked.o.p.len != 0)]
                    m.d.sync += [now.eq(asked.o.p), written.eq(total)]
                    m.next = "DONE"
                    with m.If(asked.o.p.len != 0):
                        m.next = "DATA"
            with m.State("DATA"):
                with m.If(payload.valid & payload.ready & payload.p.last):
                    m.d.comb += done.eq(1)
                    m.next = "PIECE"
            with m.State("DONE"):
                m.d.comb += done.eq(1)
                m.next = "PIECE"
        # The payload is on its way; now the chain may be called used.
        with m.If(done & now.ends):
            m.d.sync += [
                used.valid.eq(1),
                used.p.queue.eq(now.pair << 1),
                used.p.chain.eq(now.chain),
                used.p.len.eq(written),
                used.p.more.eq(~now.last),
                # Another frame may be of another pair: under load a pair's used buffers are told of together, after the short
                # time for which the engine keeps them.
                used.p.flush.eq(now.last & ~((unwritten > 1) | self.follows)),
                written.eq(0),
            ]
        m.d.sync += self.delivering.eq(
            self.delivering + (came & ~self.i.p.drop) - (given_back & ~self.used.p.more))
        m.d.sync += unwritten.eq(unwritten + (came & ~self.i.p.drop) - (done & now.ends & now.last))
        m.d.sync += pending.eq(pending + asked.i.valid - (done & ~now.ends) - given_back)
        return m
