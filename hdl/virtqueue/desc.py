"""Split virtqueue: read the descriptors that ring entries name.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import ReadPort
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_DESC_SIZE, VirtqDesc
from .avail import RingEntry
from .elements import Elements
from .store import Push
from .table import QueueTable

__all__ = ["DescFetch"]


class DescFetch(wiring.Component):
    """Read the first descriptor of each chain; neighbours in the table share a read.

    Drivers hand out descriptors mostly in table order, so a batch of ring entries is a few runs. An entry waits for
    its successor only within one ring read. Up to 16 reads are outstanding.

    Parameters
    ----------
    width, num_queues : int
    max_run : int
        Descriptors a read, at most.

    Members
    -------
    i : In(stream(RingEntry)), desc : Out(ReadPort), o : Out(stream(Push))
    setup_valid, setup : see :class:`QueueTable`
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: entry not below Queue Size, or a read failed.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, max_run):
        self.width = width
        self.num_queues = num_queues
        self.max_run = max_run
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i":           In(stream.Signature(RingEntry)),
            "desc":        Out(ReadPort(width)),
            "o":           Out(stream.Signature(Push)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size", "queue_desc"))
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
        ]

        run_layout = data.StructLayout({"queue": 16, "first": 16, "count": range(self.max_run + 1)})
        m.submodules.runs = runs = Queue(run_layout, 16)
        run = Signal(run_layout)
        m.d.comb += table.queue.eq(run.queue)

        joins = Signal()
        m.d.comb += joins.eq((self.i.p.head == (run.first + run.count)[:16]) & (run.count != self.max_run))
        failed_run, failed_read = Signal(), Signal()

        with m.FSM(name="state"):
            with m.State("FIRST"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    run.queue.eq(self.i.p.queue),
                    run.first.eq(self.i.p.head),
                    run.count.eq(~self.i.p.error),
                ]
                with m.If(self.i.valid):
                    with m.If(self.i.p.last):
                        m.next = "LOOK-UP"
                    with m.Else():
                        m.next = "JOIN"
            with m.State("JOIN"):
                # All entries of one ring read are of one queue.
                with m.If(self.i.valid):
                    with m.If(self.i.p.error):
                        m.d.comb += self.i.ready.eq(1)
                        m.d.sync += run.count.eq(0)
                        m.next = "LOOK-UP"
                    with m.Elif(joins):
                        m.d.comb += self.i.ready.eq(1)
                        m.d.sync += run.count.eq(run.count + 1)
                        with m.If(self.i.p.last):
                            m.next = "LOOK-UP"
                    with m.Else():
                        m.next = "LOOK-UP"
            with m.State("LOOK-UP"):
                m.next = "READ"
            with m.State("READ"):
                with m.If((run.count == 0) | (run.first + run.count > table.row.size)):
                    m.d.comb += failed_run.eq(1)
                    m.next = "FIRST"
                with m.Else():
                    m.d.comb += self.desc.req.valid.eq(runs.i.ready)
                    with m.If(self.desc.req.ready & runs.i.ready):
                        m.d.comb += runs.i.valid.eq(1)
                        m.next = "FIRST"
        m.d.comb += [
            self.desc.req.p.addr.eq(table.row.queue_desc + (run.first << 4)),
            self.desc.req.p.len.eq(run.count * VIRTQ_DESC_SIZE),
            runs.i.p.eq(run),
        ]

        # Answers, in the order of the reads.
        m.submodules.descs = descs = Elements(width=self.width, shape=VirtqDesc)
        connect(m, flipped(self.desc.beat), descs.i)
        position = Signal(range(self.max_run + 1))
        taken = Signal()
        m.d.comb += [
            self.o.valid.eq(descs.o.valid & runs.o.valid & ~descs.o.p.error),
            taken.eq(descs.o.valid & runs.o.valid & (self.o.ready | descs.o.p.error)),
            descs.o.ready.eq(taken),
            runs.o.ready.eq(taken & descs.o.p.last),
            failed_read.eq(taken & descs.o.p.error),
            self.o.p.queue.eq(runs.o.p.queue),
            self.o.p.head.id.eq(runs.o.p.first + position),
            self.o.p.head.addr.eq(descs.o.p.data.addr),
            self.o.p.head.len.eq(descs.o.p.data.len),
            self.o.p.head.flags.eq(descs.o.p.data.flags),
            self.o.p.head.next.eq(descs.o.p.data.next),
            self.fail_valid.eq(failed_run | failed_read),
            self.fail_queue.eq(Mux(failed_read, runs.o.p.queue, run.queue)),
            self.busy.eq(runs.o.valid | self.i.valid),
        ]
        with m.If(taken):
            m.d.sync += position.eq(Mux(descs.o.p.last, 0, position + 1))
        return m
