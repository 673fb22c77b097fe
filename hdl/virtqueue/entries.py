"""Split virtqueue: reads of the available ring.

Ref: VIRTIO 1.4, 2.7.6 "The Virtqueue Available Ring".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.dma import Area, ReadPort, read_beat
from ..lib.queue import Queue
from ..lib.slice import Skid
from .elements import Elements

__all__ = ["ReadIndex", "IndexReads", "RingEntry", "ring_part", "RingReads"]

IDX, RING = 2, 4  # bytes before these, behind flags


class ReadIndex(data.Struct):
    """idx of an available ring as it was read; with ``error`` it could not be."""
    queue: unsigned(16)
    idx:   unsigned(16)
    error: unsigned(1)


class IndexReads(wiring.Component):
    """Read idx of the available rings that are named, in order. Up to 8 reads are under way or have not been fetched.

    Parameters
    ----------
    width, num_queues : int

    Members
    -------
    i : In(stream(range(num_queues)))
        Taken in the cycle in which its read is.
    room : Out(1)
        Only the read port can keep an item waiting now.
    read : Out(ReadPort)
        Every answer has its place: it waits for nobody.
    o : Out(stream(ReadIndex))
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues):
        self.width = width
        queue = range(max(2, num_queues))
        super().__init__({
            "i":    In(stream.Signature(queue)),
            "room": Out(1),
            "read": Out(ReadPort(width)),
            "o":    Out(stream.Signature(ReadIndex)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.asked = asked = Queue(self.i.payload.shape(), 8)
        m.submodules.words = words = Queue(data.StructLayout({"idx": 16, "error": 1}), 8)
        request, beat = self.read.req, self.read.beat
        m.d.comb += [
            self.room.eq(asked.i.ready),
            request.valid.eq(self.i.valid & asked.i.ready),
            # Alone, without flags: a ring need be aligned to 2 only (2.7), and nothing cuts an aligned half word.
            request.p.addr.eq(IDX),
            request.p.len.eq(2),
            request.p.area.eq(Area.DRIVER),
            request.p.queue.eq(self.i.p),
            asked.i.valid.eq(request.valid & request.ready),
            asked.i.p.eq(self.i.p),
            self.i.ready.eq(asked.i.valid),
            words.i.valid.eq(beat.valid & beat.p.last),
            words.i.p.idx.eq(beat.p.data),
            words.i.p.error.eq(beat.p.error),
            beat.ready.eq(words.i.ready),
            self.o.valid.eq(words.o.valid & asked.o.valid),
            self.o.p.queue.eq(asked.o.p),
            self.o.p.idx.eq(words.o.p.idx),
            self.o.p.error.eq(words.o.p.error),
            words.o.ready.eq(self.o.valid & self.o.ready),
            asked.o.ready.eq(words.o.ready),
            self.busy.eq(asked.level != 0),
        ]
        return m


class RingEntry(data.Struct):
    """One entry of an available ring. ``last`` ends the read it came with, ``error`` is valid with it."""
    queue: unsigned(16)
    head:  unsigned(16)
    last:  unsigned(1)
    error: unsigned(1)


def ring_part(max_batch):
    """``count`` entries, at least one, from ``slot`` of the available ring of ``queue`` on, none beyond its end."""
    return data.StructLayout({"queue": 16, "slot": 16, "count": range(max_batch + 1)})


class RingReads(wiring.Component):
    """Read entries of available rings, in order, as soon as all those that were asked for have their place.

    Parameters
    ----------
    width, num_queues : int
    max_batch : int
        Entries a read, at most. There is room for those of four reads.

    Members
    -------
    i : In(stream(ring_part(max_batch)))
        ``slot`` is there a cycle before the item is offered. It is taken in the cycle in which its read is, the second one or a
        later one.
    read : Out(ReadPort)
    o : Out(stream(RingEntry))
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, max_batch):
        self.width = width
        self.num_queues = num_queues
        self.max_batch = max_batch
        super().__init__({
            "i":    In(stream.Signature(ring_part(max_batch))),
            "read": Out(ReadPort(width)),
            "o":    Out(stream.Signature(RingEntry)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        room = 4 * self.max_batch
        count = range(self.max_batch + 1)
        m.submodules.asked = asked = Queue(data.StructLayout({"queue": range(max(2, self.num_queues)), "count": count}), 8)
        m.submodules.entries = entries = Queue(RingEntry, room)
        m.submodules.cut = cut = Elements(width=self.width, shape=16)
        # An entry leaves in each cycle, and the answers of others shall not wait until all of a beat have.
        m.submodules.next_beat = next_beat = Skid(read_beat(self.width))
        connect(m, flipped(self.read.beat), next_beat.i)
        connect(m, next_beat.o, cut.i)
        connect(m, entries.o, flipped(self.o))
        request, whose = self.read.req, asked.o.p
        reserved, fits, come = Signal(range(room + 1)), Signal(), Signal(count)
        m.d.sync += [
            # Long sums are slow, and so is the choice between those who read.
            request.p.addr.eq(RING + (self.i.p.slot << 1)),
            fits.eq(self.i.valid & ~self.i.ready & (reserved + self.i.p.count <= room)),
        ]
        m.d.comb += [
            request.valid.eq(self.i.valid & fits & asked.i.ready),
            request.p.area.eq(Area.DRIVER),
            request.p.queue.eq(self.i.p.queue),
            request.p.len.eq(self.i.p.count << 1),
            asked.i.valid.eq(request.valid & request.ready),
            asked.i.p.queue.eq(self.i.p.queue),
            asked.i.p.count.eq(self.i.p.count),
            self.i.ready.eq(asked.i.valid),
            # The order of the requests says whose an entry is.
            entries.i.valid.eq(cut.o.valid & asked.o.valid),
            cut.o.ready.eq(entries.i.ready & asked.o.valid),
            entries.i.p.queue.eq(whose.queue),
            entries.i.p.head.eq(cut.o.p.data),
            entries.i.p.last.eq(cut.o.p.last),
            entries.i.p.error.eq(cut.o.p.error),
            asked.o.ready.eq(entries.i.valid & entries.i.ready & entries.i.p.last),
            self.busy.eq((asked.level != 0) | (entries.level != 0)),
        ]
        with m.If(entries.i.valid & entries.i.ready):
            m.d.sync += come.eq(Mux(entries.i.p.last, 0, come + 1))
        # A read that fails brings fewer entries than were reserved: the account is settled with its last.
        m.d.sync += reserved.eq(reserved + Mux(self.i.ready, self.i.p.count, 0) - (self.o.valid & self.o.ready)
                                - Mux(asked.o.ready, whose.count - come - 1, 0))
        return m
