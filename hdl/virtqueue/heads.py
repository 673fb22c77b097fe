"""Descriptors from host memory to chain heads that wait for the store: one memory for split and packed rings.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.8.13 "Virtqueue structures": descriptors of both formats.
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.dma import read_beat
from ..spec.virtio import VirtqDesc
from .elements import Elements
from .store import Push

__all__ = ["NO_ADDRESS", "HeadPort", "Heads", "read_desc"]

NO_ADDRESS = (1 << 64) - 1  # in used descriptors of a packed ring, see :mod:`.scan`

#: A descriptor as it was read, in either format: a packed one has ``id`` and ``flags`` where this says ``flags`` and ``next``.
#: ``last`` ends its read; ``error`` is valid with ``last``, then ``desc`` is not. ``marked``: its address is NO_ADDRESS.
read_desc = data.StructLayout({"desc": VirtqDesc, "last": 1, "error": 1, "marked": 1})


def HeadPort(depth):
    """Port of :class:`Heads`, seen from who judges descriptors.

    With each descriptor that is taken ``head`` is written, ``place`` rows behind those that are handed on already. At the end of
    the cycle the next ``count`` rows are handed on as well; all of them have been written by then. What is not handed on is
    written over. A descriptor is taken only while its row, and those before it, are ``free``.
    """
    return wiring.Signature({
        "desc":  In(stream.Signature(read_desc)),
        "free":  In(range(depth + 1)),
        "place": Out(range(depth)),
        "head":  Out(Push),
        "count": Out(range(depth + 1)),
    })


class Heads(wiring.Component):
    """Offer descriptors, one a cycle at most, and keep the heads that are made of them, in order, one a cycle.

    A descriptor is offered a cycle after its last beat; its head is there three cycles after it was handed on. What waits for its
    turn at the store lies here, in block RAM, so that it holds up no other client's beats.

    Parameters
    ----------
    width, num_queues : int
    depth : int
        Rows: a power of two.

    Members
    -------
    beat : In(stream(read_beat(width)))
        Answers of reads of descriptors.
    i : In(HeadPort(depth))
    o : Out(stream(Push))
        A register.
    busy : Out(1)
        A head has been handed on and not taken.
    """
    def __init__(self, *, width, num_queues, depth):
        self.width = width
        self.num_queues = num_queues
        self.depth = depth
        super().__init__({
            "beat": In(stream.Signature(read_beat(width))),
            "i":    In(HeadPort(depth)),
            "o":    Out(stream.Signature(Push)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.cut = cut = Elements(width=self.width, shape=VirtqDesc)
        connect(m, flipped(self.beat), cut.i)
        # A verdict takes a cycle of its own, and a look at the whole address the one before.
        desc = self.i.desc
        m.d.comb += cut.o.ready.eq(desc.ready | ~desc.valid)
        with m.If(cut.o.ready):
            m.d.sync += [
                desc.valid.eq(cut.o.valid),
                desc.p.desc.eq(cut.o.p.data),
                desc.p.last.eq(cut.o.p.last),
                desc.p.error.eq(cut.o.p.error),
                desc.p.marked.eq(cut.o.p.data.addr == NO_ADDRESS),
            ]

        queue = range(max(2, self.num_queues))
        row = data.StructLayout({"queue": queue, "head": Push.as_shape().members["head"]})
        m.submodules.rows = rows = memory.Memory(shape=row, depth=self.depth, init=[])
        write, read = rows.write_port(), rows.read_port()
        end = Signal(range(self.depth))                  # of the heads that are handed on
        fetch, fetched, gives = Signal(), Signal(), Signal()
        free = Signal(range(self.depth + 1), init=self.depth)
        stored = ~free[-1]                               # some row is not free
        m.d.comb += [
            self.i.free.eq(free),
            write.en.eq(desc.valid & desc.ready),
            write.addr.eq(end + self.i.place),
            write.data.queue.eq(self.i.head.queue),
            write.data.head.eq(self.i.head.head),
            gives.eq(self.o.ready | ~self.o.valid),
            fetch.eq(stored & (~fetched | gives)),
            # No row is written before it is free. Said like this, synthesis needs no logic for a row that is read and written.
            read.en.eq(fetch & ~(write.en & (write.addr == read.addr))),
            self.busy.eq(stored | fetched | self.o.valid),
        ]
        m.d.sync += [
            end.eq(end + self.i.count),
            read.addr.eq(read.addr + fetch),
            free.eq(free - self.i.count + fetch),
        ]
        with m.If(gives):
            m.d.sync += [
                self.o.valid.eq(fetched),
                self.o.p.queue.eq(read.data.queue),
                self.o.p.head.eq(read.data.head),
                fetched.eq(0),
            ]
        with m.If(fetch):
            m.d.sync += fetched.eq(1)
        return m
