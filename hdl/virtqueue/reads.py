"""One read port for all tables and single descriptors of all ports.

Ref: VIRTIO 1.4, 2.7.5.3 "Indirect Descriptors".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.dma import Area, ReadPort
from ..lib.frame import frame_beat
from ..lib.pack import Packer
from ..lib.queue import Queue
from ..lib.slice import Slice
from ..spec.virtio import VIRTQ_DESC_SIZE, VirtqDesc
from .ahead import Layouts
from .ask import table_read
from .elements import Elements

__all__ = ["Reads", "single_read"]


def single_read(layouts):
    """Read one descriptor for ``port``, at ``addr`` counted from ``area`` of ``queue``."""
    return data.StructLayout({"port": layouts.port, "addr": 64, "area": Area, "queue": 16})


class Reads(wiring.Component):
    """Ask for tables and single descriptors, and say of each answer whose it is.

    Single descriptors come first, for there is one of a port at a time. Answers come in the order of the requests, an entry of 16
    bytes in each cycle or beat, two cycles after its last beat at the latest. Beats are always taken: who asks has room, and
    ``o`` is ready again after a few cycles, whatever happens.

    Parameters
    ----------
    width : int
        Bits per beat.
    num_queues, ports, max_ahead : int
        See :class:`.ahead.Layouts`.

    Members
    -------
    i_table : In(stream(table_read(Layouts))), i_single : In(stream(single_read(Layouts)))
    read : Out(ReadPort)
    o : Out(stream(Layouts.entry))
    busy : Out(1)
        A read is not answered.
    """
    def __init__(self, *, width, num_queues, ports, max_ahead):
        self.width = width
        self.ports = ports
        self.layouts = layouts = Layouts(num_queues=num_queues, ports=ports, max_ahead=max_ahead)
        super().__init__({
            "i_table":  In(stream.Signature(table_read(layouts))),
            "i_single": In(stream.Signature(single_read(layouts))),
            "read":     Out(ReadPort(width)),
            "o":        Out(stream.Signature(layouts.entry)),
            "busy":     Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        owner = data.StructLayout({"port": self.layouts.port, "single": 1, "end": self.layouts.position})
        m.submodules.owners = owners = Queue(owner, 16 * self.ports)
        table, single, request = self.i_table, self.i_single, self.read.req
        picks_single, offered, picked = Signal(), Signal(), Signal()     # what is offered stays
        m.d.comb += [
            picks_single.eq(Mux(offered, picked, single.valid)),
            request.valid.eq((table.valid | single.valid) & owners.i.ready),
            owners.i.valid.eq(request.valid & request.ready),
            single.ready.eq(owners.i.valid & picks_single),
            table.ready.eq(owners.i.valid & ~picks_single),
            owners.i.p.single.eq(picks_single),
            owners.i.p.end.eq(table.p.end),
            request.p.len.eq(Mux(picks_single, VIRTQ_DESC_SIZE, table.p.len)),
            owners.i.p.port.eq(Mux(picks_single, single.p.port, table.p.port)),
            *[request.p[name].eq(Mux(picks_single, Value.cast(single.p[name]), Value.cast(table.p[name])))
              for name in ("addr", "area", "queue")],
        ]
        m.d.sync += [offered.eq(request.valid & ~request.ready), picked.eq(picks_single)]

        # A table may begin at any address (2.7.5.3 asks for no alignment), and then a beat ends anywhere in an entry.
        m.submodules.bytes = packer = Packer(width=self.width)
        m.submodules.words = words = Elements(width=self.width, shape=VirtqDesc)
        m.submodules.packed = packed = Slice(frame_beat(self.width))
        connect(m, packer.o, packed.i)
        connect(m, packed.o, words.i)
        m.d.comb += [
            *[packer.i.p[name].eq(self.read.beat.p[name]) for name in ("data", "count", "last", "error")],
            packer.i.valid.eq(self.read.beat.valid),
            self.read.beat.ready.eq(packer.i.ready),
            self.o.valid.eq(words.o.valid & owners.o.valid),
            words.o.ready.eq(self.o.ready & owners.o.valid),
            owners.o.ready.eq(self.o.valid & self.o.ready & words.o.p.last),
            self.o.p.desc.eq(words.o.p.data),
            *[self.o.p[name].eq(words.o.p[name]) for name in ("last", "error")],
            *[self.o.p[name].eq(owners.o.p[name]) for name in ("port", "single", "end")],
            self.busy.eq(owners.level != 0),
        ]
        return m
