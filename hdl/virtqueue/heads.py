"""Descriptors from host memory to the places of the store that their reads have reserved, of split and packed rings.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.8.13 "Virtqueue structures": descriptors of both formats.
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import read_beat
from ..lib.queue import Buffer
from ..spec.virtio import VirtqDesc
from .elements import Elements
from .rows import SharedRows
from .store import Head, HeadWrite, push_of

__all__ = ["NO_ADDRESS", "HeadPort", "Pushes", "Heads", "read_desc"]

NO_ADDRESS = (1 << 64) - 1  # in used descriptors of a packed ring, see :mod:`.scan`

#: A descriptor as it was read, in either format: a packed one has ``id`` and ``flags`` where this says ``flags`` and ``next``.
#: ``last`` ends its read; ``error`` is valid with ``last``, then ``desc`` is not. ``marked``: its address is NO_ADDRESS.
read_desc = data.StructLayout({"desc": VirtqDesc, "last": 1, "error": 1, "marked": 1})


def HeadPort(depth):
    """Port of :class:`Heads`, seen from who judges descriptors.

    With each descriptor that is taken, and is none with an error, ``head`` is written, ``place`` places behind the heads of
    ``queue`` that are handed on already. At the end of the cycle the next ``count`` of them, 0 to ``depth``, are handed on as
    well; all of them have been written by then. What is not handed on is written over. Every descriptor that was asked for has
    a place in the store.
    """
    return wiring.Signature({
        "desc":  In(stream.Signature(read_desc)),
        "queue": Out(16),
        "place": Out(range(depth)),
        "head":  Out(Head),
        "count": Out(range(depth + 1)),
    })


class Pushes(wiring.Component):
    """Keep PUSHes that wait for the store; neighbours of the same queue that wait become one.

    One that finds nothing in front of it is offered in the next cycle.

    Parameters
    ----------
    num_queues, depth : int
        Of the store.
    waiting : int
        PUSHes that are kept, besides one that others may join: a power of two.

    Members
    -------
    i, o : stream(push_of(num_queues, depth))
        A queue has no more than ``depth`` heads here.
    busy : Out(1)
    """
    def __init__(self, *, num_queues, depth, waiting):
        self.waiting = waiting
        self.push = push_of(num_queues, depth)
        super().__init__({
            "i":    In(stream.Signature(self.push)),
            "o":    Out(stream.Signature(self.push)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.kept = kept = Buffer(self.push, self.waiting)
        connect(m, kept.o, flipped(self.o))
        last, there = Signal(self.push), Signal()   # what came last, and may be joined
        comes, joins, leaves = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(kept.i.ready),
            comes.eq(self.i.valid & self.i.ready),
            leaves.eq(there & (~kept.o.valid | (comes & (last.queue != self.i.p.queue)))),
            joins.eq(there & ~leaves),
            kept.i.valid.eq(leaves | (comes & ~there & ~kept.o.valid)),
            kept.i.p.eq(Mux(there, last, self.i.p)),
            self.busy.eq(there | kept.o.valid),
        ]
        with m.If(comes):
            m.d.sync += [
                there.eq(there | kept.o.valid),
                last.queue.eq(self.i.p.queue),
                last.count.eq(Mux(joins, last.count, 0) + self.i.p.count),
            ]
        with m.Elif(leaves):
            m.d.sync += there.eq(0)
        return m


class Heads(wiring.Component):
    """Offer descriptors, one a cycle at most, and write the heads that are made of them to the store, in the same cycle.

    A descriptor is offered a cycle after its last beat; that heads are handed on is said to the store a cycle after it was said
    here. The store serves a PUSH whatever its devices do, so descriptors hold up other clients' beats for some cycles at most.

    Parameters
    ----------
    width, num_queues : int
    depth : int
        Of the store.
    waiting : int
        See :class:`Pushes`; while as many are kept no descriptor is offered.

    Members
    -------
    setup_valid, setup : In
        Strobe: of this queue nothing is handed on, and no descriptor of before comes any more. A PUSH of before that waits
        (``busy``) does nothing, for no places of the queue are reserved before it has been served.
    beat : In(stream(read_beat(width)))
        Answers of reads of descriptors.
    i : In(HeadPort(depth))
    write : Out(HeadWrite(depth)), o : Out(stream(push_of(num_queues, depth)))
        See :class:`.store.HeadStore`.
    busy : Out(1)
        A PUSH waits.
    """
    def __init__(self, *, width, num_queues, depth, waiting=16):
        self.width = width
        self.num_queues = num_queues
        self.depth = depth
        self.waiting = waiting
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "beat":        In(stream.Signature(read_beat(width))),
            "i":           In(HeadPort(depth)),
            "write":       Out(HeadWrite(depth)),
            "o":           Out(stream.Signature(push_of(num_queues, depth))),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.cut    = cut    = Elements(width=self.width, shape=VirtqDesc)
        m.submodules.pushes = pushes = Pushes(num_queues=self.num_queues, depth=self.depth, waiting=self.waiting)
        # Places of each queue that are handed on, modulo the depth.
        m.submodules.ends   = ends   = SharedRows(num_queues=self.num_queues, shape=range(self.depth))
        connect(m, flipped(self.beat), cut.i)
        connect(m, pushes.o, flipped(self.o))
        # A verdict takes a cycle of its own, and a look at the whole address the one before.
        desc, there, moves = self.i.desc, Signal(), Signal()
        m.d.comb += [
            desc.valid.eq(there & pushes.i.ready),
            moves.eq(desc.valid & desc.ready),
            cut.o.ready.eq(moves | ~there),
        ]
        with m.If(cut.o.ready):
            m.d.sync += [
                there.eq(cut.o.valid),
                desc.p.desc.eq(cut.o.p.data),
                desc.p.last.eq(cut.o.p.last),
                desc.p.error.eq(cut.o.p.error),
                desc.p.marked.eq(cut.o.p.data.addr == NO_ADDRESS),
            ]

        m.d.comb += [
            ends.setup_valid.eq(self.setup_valid),
            ends.setup_queue.eq(self.setup.queue),
            ends.queue.eq(self.i.queue),
            ends.at.eq(self.i.queue),
            ends.write.eq(pushes.i.valid),
            ends.new.eq(ends.now + self.i.count),
            # The end of a read that failed may come behind all that was asked for: it has no place.
            self.write.valid.eq(moves & ~(desc.p.last & desc.p.error)),
            self.write.queue.eq(self.i.queue),
            self.write.place.eq(ends.now + self.i.place),
            self.write.head.eq(self.i.head),
            pushes.i.valid.eq(moves & (self.i.count != 0)),
            pushes.i.p.queue.eq(self.i.queue),
            pushes.i.p.count.eq(self.i.count),
            self.busy.eq(pushes.busy),
        ]
        return m
