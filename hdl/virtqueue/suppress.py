"""Decide whether the driver wants to be told about used buffers, split and packed.

Ref: VIRTIO 1.4, 2.7.7 "Used Buffer Notification Suppression", 2.8.10 "Event Suppression Structure Format".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadPort
from ..lib.queue import Buffer
from ..spec.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, RingEvent, VirtqEventSuppress
from .table import QueueTable

__all__ = ["Published", "Suppress"]

OUTSTANDING = 8   # reads


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

    One read for each publication; up to 8 are outstanding. A read is asked for 2 cycles after the publication was offered, and a
    notification is given 5 cycles after its answer came; so long takes each of them.

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
        # What has been read for, in order, and what was answered: an answer never waits for the notification before it.
        m.submodules.order = order = Buffer(data.StructLayout({
            "queue": range(max(2, self.num_queues)), "old": 16, "new": 16, "wrap": 1}), OUTSTANDING)
        m.submodules.words = words = Buffer(data.StructLayout({"data": 32, "error": 1}), OUTSTANDING)
        now = order.o.p
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            # Split, it is asked where used_event is; packed, where the lap before ends.
            table.queue.eq(Mux(self.packed, now.queue, self.i.p.queue)),
            # The last beat has all that there is: no beat ends within 4 aligned bytes.
            words.i.valid.eq(self.read.beat.valid & self.read.beat.p.last),
            words.i.p.data.eq(self.read.beat.p.data[:32]),
            words.i.p.error.eq(self.read.beat.p.error),
            self.read.beat.ready.eq(1),
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
            *[order.i.p[name].eq(self.i.p[name]) for name in ("queue", "old", "new", "wrap")],
        ]

        wanted, passed = Signal(), Signal()
        said, event = words.o.p.data, Signal(16)
        structure = data.View(VirtqEventSuppress, said)
        # 2.7.7.2, for a batch: did the index pass the event? One operation a cycle, the first is to look the size up. An event of
        # another lap is one of the lap before (2.8.10).
        since, span, steps = Signal(16), Signal(16), Signal(4)
        answered, judged, before = Signal(), Signal(), Signal()
        m.d.comb += [
            answered.eq(words.o.valid & order.o.valid),
            judged.eq(answered & steps.all()),
            before.eq(self.packed & (structure.desc_event_wrap != now.wrap)),
        ]
        m.d.sync += [
            event.eq(Mux(self.packed, structure.desc_event_off, said[:16]) - Mux(before, table.row.size, 0)),
            since.eq(now.new + ~event),      # now.new - event - 1
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
            self.busy.eq(self.i.valid | order.o.valid),
        ]
        return m
