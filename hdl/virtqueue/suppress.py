"""Decide whether the driver wants to be told about used buffers, split and packed.

Ref: VIRTIO 1.4, 2.7.7 "Used Buffer Notification Suppression", 2.8.10 "Event Suppression Structure Format".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadPort
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, RingEvent, VirtqEventSuppress
from .elements import Elements, element
from .table import QueueTable

__all__ = ["Published", "Suppress"]


class Published(data.Struct):
    """used.idx of ``queue`` went from ``old`` to ``new``; or the slot of the next used descriptor of a packed ring, ``old``
    negative modulo 2**16 if that is before the ring's beginning, ``wrap`` the wrap counter now, and ``apart``: not every
    slot from ``old`` on got a used descriptor."""
    queue: unsigned(16)
    old:   unsigned(16)
    new:   unsigned(16)
    wrap:  unsigned(1)
    apart: unsigned(1)


class Suppress(wiring.Component):
    """Read what the driver says about notifications, after the host can see the index, and notify or not.

    One read for each publication; up to 8 are outstanding.

    Members
    -------
    i : In(stream(Published))
        The caller offers it only after the write of the index has left.
    event_idx, packed : In(1)
    read : Out(ReadPort), notify : Out(stream(16))
    setup_valid, setup : see :class:`QueueTable`
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: the read failed.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues):
        self.width = width
        self.num_queues = num_queues
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "event_idx":   In(1),
            "packed":      In(1),
            "i":           In(stream.Signature(Published)),
            "read":        Out(ReadPort(width)),
            "notify":      Out(stream.Signature(16)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size",))
        m.submodules.order = order = Queue(data.StructLayout({"published": Published, "size": 16}), 8)
        # An answer never waits for the notification before it.
        m.submodules.cut = cut = Elements(width=self.width, shape=32)
        m.submodules.words = words = Queue(element(32), 8)
        connect(m, flipped(self.read.beat), cut.i)
        connect(m, cut.o, words.i)
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(self.i.p.queue),
        ]

        looked_up, summed = Signal(), Signal()
        m.d.sync += [
            looked_up.eq(self.i.valid & ~self.i.ready),
            summed.eq(looked_up & ~self.i.ready),
            # used_event follows the available ring's entries (2.7.6); without EVENT_IDX avail.flags is what counts. A packed
            # queue has a structure of its own there.
            self.read.req.p.addr.eq(Mux(self.event_idx & ~self.packed, 4 + (table.row.size << 1), 0)),
        ]
        m.d.comb += [
            self.read.req.p.area.eq(Area.DRIVER),
            self.read.req.p.queue.eq(self.i.p.queue),
            self.read.req.valid.eq(summed & order.i.ready),
            self.read.req.p.len.eq(Mux(self.packed, 4, 2)),
            self.i.ready.eq(self.read.req.valid & self.read.req.ready),
            order.i.valid.eq(self.i.ready),
            order.i.p.published.eq(self.i.p),
            order.i.p.size.eq(table.row.size),
        ]

        now = order.o.p.published
        wanted, passed = Signal(), Signal()
        said, event = words.o.p.data, Signal(16)
        structure = data.View(VirtqEventSuppress, said)
        m.d.sync += event.eq(said[:16])
        with m.If(self.packed):
            m.d.sync += event.eq(structure.desc_event_off
                                 - Mux(structure.desc_event_wrap == now.wrap, 0, order.o.p.size))
        # 2.7.7.2, for a batch: did the index pass the event? One operation a cycle.
        since, span, steps = Signal(16), Signal(16), Signal(3)
        answered, judged = Signal(), Signal()
        m.d.comb += [answered.eq(words.o.valid & order.o.valid), judged.eq(answered & steps.all())]
        m.d.sync += [
            since.eq(now.new - event - 1),
            span.eq(now.new - now.old),
            passed.eq(since < span),
            steps.eq(Mux(answered & ~order.o.ready, Cat(1, steps), 0)),
        ]
        with m.If(self.packed & (structure.desc_event_flags == RingEvent.DISABLE)):
            m.d.comb += wanted.eq(0)
        with m.Elif(self.packed):
            m.d.comb += wanted.eq(passed | ~self.event_idx | (structure.desc_event_flags != RingEvent.DESC))
        with m.Elif(self.event_idx):
            m.d.comb += wanted.eq(passed)
        with m.Else():
            m.d.comb += wanted.eq((said & VIRTQ_AVAIL_F_NO_INTERRUPT) == 0)
        m.d.comb += [
            self.notify.valid.eq(judged & wanted & ~words.o.p.error),
            self.notify.p.eq(now.queue),
            words.o.ready.eq(judged & (self.notify.ready | ~self.notify.valid)),
            order.o.ready.eq(words.o.ready),
            self.fail_valid.eq(order.o.ready & words.o.p.error),
            self.fail_queue.eq(now.queue),
            self.busy.eq(self.i.valid | (order.level != 0)),
        ]
        return m
