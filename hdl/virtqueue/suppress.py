"""Split virtqueue: decide whether the driver wants to be told about used buffers.

Ref: VIRTIO 1.4, 2.7.7 "Used Buffer Notification Suppression".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import ReadPort
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT
from .elements import Elements, element
from .table import QueueTable

__all__ = ["Published", "Suppress"]


class Published(data.Struct):
    """used.idx of ``queue`` went from ``old`` to ``new``."""
    queue: unsigned(16)
    old:   unsigned(16)
    new:   unsigned(16)


class Suppress(wiring.Component):
    """Read what the driver says about notifications, after the host can see the index, and notify or not.

    One read for each publication; up to 8 are outstanding.

    Members
    -------
    i : In(stream(Published))
        The caller offers it only after the write of the index has left.
    event_idx : In(1)
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
            "i":           In(stream.Signature(Published)),
            "read":        Out(ReadPort(width)),
            "notify":      Out(stream.Signature(16)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size", "queue_driver"))
        m.submodules.order = order = Queue(Published, 8)
        # An answer never waits for the notification before it.
        m.submodules.cut = cut = Elements(width=self.width, shape=16)
        m.submodules.words = words = Queue(element(16), 8)
        connect(m, flipped(self.read.beat), cut.i)
        connect(m, cut.o, words.i)
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(self.i.p.queue),
        ]

        looked_up = Signal()
        m.d.sync += looked_up.eq(self.i.valid & ~self.i.ready)
        m.d.comb += [
            self.read.req.valid.eq(looked_up & self.i.valid & order.i.ready),
            # used_event follows the available ring's entries (2.7.6); without EVENT_IDX avail.flags is what counts.
            self.read.req.p.addr.eq(table.row.queue_driver + Mux(self.event_idx, 4 + (table.row.size << 1), 0)),
            self.read.req.p.len.eq(2),
            self.i.ready.eq(self.read.req.valid & self.read.req.ready),
            order.i.valid.eq(self.i.ready),
            order.i.p.eq(self.i.p),
        ]

        wanted = Signal()
        said = words.o.p.data
        with m.If(self.event_idx):
            # 2.7.7.2, for a batch: did the index pass used_event?
            m.d.comb += wanted.eq((order.o.p.new - said - 1)[:16] < (order.o.p.new - order.o.p.old)[:16])
        with m.Else():
            m.d.comb += wanted.eq((said & VIRTQ_AVAIL_F_NO_INTERRUPT) == 0)
        m.d.comb += [
            self.notify.valid.eq(words.o.valid & order.o.valid & wanted & ~words.o.p.error),
            self.notify.p.eq(order.o.p.queue),
            words.o.ready.eq(order.o.valid & (self.notify.ready | ~self.notify.valid)),
            order.o.ready.eq(words.o.valid & words.o.ready),
            self.fail_valid.eq(order.o.ready & order.o.valid & words.o.p.error),
            self.fail_queue.eq(order.o.p.queue),
            self.busy.eq(self.i.valid | (order.level != 0)),
        ]
        return m
