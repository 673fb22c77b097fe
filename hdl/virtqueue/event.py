"""Tell the driver when the device wants to be notified, split and packed.

Ref: VIRTIO 1.4, 2.7.10 "Available Buffer Notification Suppression", 2.8.10 "Event Suppression Structure Format".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from ..lib.dma import WritePort
from ..lib.queue import Queue
from .table import QueueTable

__all__ = ["USED_RING", "DeviceEvent", "EventWriter"]

USED_RING, USED_ELEMENT = 4, 8  # bytes before the elements of a used ring, and of each


class DeviceEvent(data.Struct):
    """``value`` goes into the device area of ``queue``: with ``begins`` its 4 bytes to the first 4, which are flags and idx of a
    used ring, or the whole event suppression structure; else 2 behind a used ring of ``size`` elements, its avail_event."""
    queue:  unsigned(16)
    begins: unsigned(1)
    size:   unsigned(16)
    value:  unsigned(32)


class EventWriter(wiring.Component):
    """Write what is offered, and say when it has left. An item takes 2 cycles, or more if the write port keeps it waiting; up to
    8 have not left yet.

    Parameters
    ----------
    width, num_queues : int

    Members
    -------
    setup_valid, setup : see :class:`QueueTable`
    i : In(stream(DeviceEvent))
        Taken when its write has been handed over. All but ``value`` is there since two cycles before it is offered.
    write : Out(WritePort)
    left_valid : Out(1), left_queue : Out(16)
        Strobe: the oldest write has left, of this queue. What is read from now on is as the host had it after the write.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues):
        self.width = width
        self.num_queues = num_queues
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i":           In(stream.Signature(DeviceEvent)),
            "write":       Out(WritePort(width)),
            "left_valid":  Out(1),
            "left_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("queue_device",))
        m.submodules.under_way = under_way = Queue(range(max(2, self.num_queues)), 8)
        request, data_, event = self.write.req, self.write.data, self.i.p
        asked = Signal()
        offset = Mux(event.begins, 0, USED_RING + event.size * USED_ELEMENT)
        m.d.sync += request.p.addr.eq(table.row.queue_device + offset)   # a cycle of its own: this sum is long
        with m.If(request.valid & request.ready):
            m.d.sync += asked.eq(1)
        with m.Elif(data_.ready):
            m.d.sync += asked.eq(0)
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(event.queue),
            request.valid.eq(self.i.valid & ~asked & under_way.i.ready),
            request.p.len.eq(Mux(event.begins, 4, 2)),
            under_way.i.valid.eq(request.valid & request.ready),
            under_way.i.p.eq(event.queue),
            data_.valid.eq(asked),
            data_.p.data.eq(event.value),
            data_.p.last.eq(1),
            self.i.ready.eq(asked & data_.ready),
            under_way.o.ready.eq(self.write.done),
            self.left_valid.eq(self.write.done),
            self.left_queue.eq(under_way.o.p),
            self.busy.eq(self.i.valid | (under_way.level != 0)),
        ]
        return m
