"""Split virtqueue: read the descriptors that ring entries name.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadReq
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_DESC_SIZE
from .entries import RingEntry
from .heads import HeadPort
from .table import QueueTable

__all__ = ["Runs", "RunHeads", "DescFetch"]


def run_of(num_queues, max_run):
    """Neighbours in a descriptor table. ``first``: the lowest of ``count`` descriptors. ``down``: the last comes first.
    ``wrong``: they are not read."""
    return data.StructLayout({
        "queue": range(max(2, num_queues)), "first": 16, "count": range(max_run + 1), "down": 1, "wrong": 1})


class Runs(wiring.Component):
    """Join ring entries to runs, one entry a cycle and a few cycles for each run.

    A driver's free list hands out descriptors in table order at first and, being a stack, in the opposite order after
    each batch that came back; so a batch of ring entries is a few runs, up or down. An entry waits for its successor
    only within one ring read.

    Parameters
    ----------
    num_queues, max_run : int

    Members
    -------
    setup_valid, setup : see :class:`QueueTable`
    i : In(stream(RingEntry))
    o : Out(stream(run_of(num_queues, max_run)))
        A run with ``wrong`` has an entry that is not below Queue Size, or one that could not be read; then nothing is wrong with
        those before it.
    busy : Out(1)
    """
    def __init__(self, *, num_queues, max_run):
        self.num_queues = num_queues
        self.max_run = max_run
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i":           In(stream.Signature(RingEntry)),
            "o":           Out(stream.Signature(run_of(num_queues, max_run))),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size",))
        run = self.o.p
        # An entry, and whether it is the neighbour, above or below, of the one before it.
        entry, entry_valid, taken_in = Signal(RingEntry), Signal(), Signal()
        previous, above, below, step = Signal(16), Signal(), Signal(), Signal(signed(17))
        follows, precedes = Signal(), Signal()
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(run.queue),
            self.i.ready.eq(~entry_valid | taken_in),
            follows.eq(above & ~run.down),
            precedes.eq(below & (run.down | (run.count == 1))),
            step.eq(self.i.p.head - previous),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                entry_valid.eq(self.i.valid),
                entry.eq(self.i.p),
                above.eq(step == 1),
                below.eq(step == -1),
            ]
            with m.If(self.i.valid):
                m.d.sync += previous.eq(self.i.p.head)

        with m.FSM(name="state") as state:
            with m.State("FIRST"):
                m.d.comb += taken_in.eq(1)
                m.d.sync += [
                    run.queue.eq(entry.queue),
                    run.first.eq(entry.head),
                    run.count.eq(~entry.error),
                    run.down.eq(0),
                ]
                with m.If(entry_valid):
                    with m.If(entry.last):
                        m.next = "LOOK-UP"
                    with m.Else():
                        m.next = "JOIN"
            with m.State("JOIN"):
                # All entries of one ring read are of one queue.
                with m.If(entry_valid):
                    with m.If(entry.error):
                        m.d.comb += taken_in.eq(1)
                        m.d.sync += run.count.eq(0)
                        m.next = "LOOK-UP"
                    with m.Elif((follows | precedes) & (run.count != self.max_run)):
                        m.d.comb += taken_in.eq(1)
                        m.d.sync += [run.count.eq(run.count + 1), run.down.eq(precedes)]
                        with m.If(precedes):
                            m.d.sync += run.first.eq(entry.head)
                        with m.If(entry.last):
                            m.next = "LOOK-UP"
                    with m.Else():
                        m.next = "LOOK-UP"
            with m.State("LOOK-UP"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += run.wrong.eq((run.count == 0) | (run.first + run.count > table.row.size))
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "FIRST"
        m.d.comb += self.busy.eq(self.i.valid | entry_valid | ~state.ongoing("FIRST"))
        return m


class RunHeads(wiring.Component):
    """Turn the descriptors of runs into heads, in the order in which the driver made them available, one a cycle.

    A run is handed on when it has all come. Behind an entry that fails its queue gives nothing until it is set up again.

    Parameters
    ----------
    num_queues, max_run : int
    depth : int
        Of the store.

    Members
    -------
    setup_valid, setup : In
        Strobe: a queue works again.
    i : In(stream(run_of(num_queues, max_run)))
        Runs, of which those that are not ``wrong`` are read.
    heads : Out(HeadPort(depth))
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: a run is wrong, or could not be read.
    """
    def __init__(self, *, num_queues, max_run, depth):
        self.num_queues = num_queues
        self.max_run = max_run
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i":           In(stream.Signature(run_of(num_queues, max_run))),
            "heads":       Out(HeadPort(depth)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
        })

    def elaborate(self, platform):
        m = Module()
        run, desc, head = self.i, self.heads.desc, self.heads.head
        nth, ends, wrong, fails = Signal(range(self.max_run)), Signal(), Signal(), Signal()
        halted = Signal(self.num_queues)       # queues of which an entry failed
        m.d.comb += [
            wrong.eq(run.valid & run.p.wrong),
            desc.ready.eq(run.valid & ~wrong),
            ends.eq(desc.valid & desc.ready & desc.p.last),
            fails.eq(ends & desc.p.error),
            run.ready.eq(ends | wrong),
            self.heads.queue.eq(run.p.queue),
            head.id.eq(run.p.first + nth),
            *[head[name].eq(desc.p.desc[name]) for name in ("addr", "len", "flags", "next")],
            self.heads.place.eq(Mux(run.p.down, (run.p.count + ~nth)[:len(nth)], nth)),
            self.fail_valid.eq(fails | wrong),
            self.fail_queue.eq(run.p.queue),
        ]
        # 2.7.9: order; behind a chain that does not come back nothing does.
        with m.If(ends & ~desc.p.error & ~halted.bit_select(run.p.queue, 1)):
            m.d.comb += self.heads.count.eq(run.p.count)
        with m.If(desc.valid & desc.ready):
            m.d.sync += nth.eq(Mux(desc.p.last, 0, nth + 1))
        with m.If(self.fail_valid):
            m.d.sync += halted.bit_select(run.p.queue, 1).eq(1)
        with m.If(self.setup_valid):
            m.d.sync += halted.bit_select(self.setup.queue[:len(run.p.queue)], 1).eq(0)
        return m


class DescFetch(wiring.Component):
    """Read the first descriptor of each chain; neighbours in the table share a read. Up to 16 reads are outstanding.

    Parameters
    ----------
    num_queues : int
    max_run : int
        Descriptors a read, at most: a power of two.
    depth : int
        See :class:`RunHeads`.

    Members
    -------
    i : In(stream(RingEntry))
    desc : Out(stream(ReadReq)), heads : Out(HeadPort(depth))
        Reads of descriptors, and their answers.
    setup_valid, setup : see :class:`QueueTable`
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: entry not below Queue Size, or a read failed.
    busy : Out(1)
        A descriptor is not handed on.
    """
    def __init__(self, *, num_queues, max_run, depth):
        self.num_queues = num_queues
        self.max_run = max_run
        self.depth = depth
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i":           In(stream.Signature(RingEntry)),
            "desc":        Out(stream.Signature(ReadReq)),
            "heads":       Out(HeadPort(depth)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.runs  = runs  = Runs(num_queues=self.num_queues, max_run=self.max_run)
        m.submodules.asked = asked = Queue(run_of(self.num_queues, self.max_run), 16)
        m.submodules.heads = heads = RunHeads(num_queues=self.num_queues, max_run=self.max_run, depth=self.depth)
        for part in (runs, heads):
            m.d.comb += [part.setup_valid.eq(self.setup_valid), part.setup.eq(self.setup)]
        connect(m, flipped(self.i), runs.i)
        connect(m, asked.o, heads.i)
        connect(m, heads.heads, flipped(self.heads))
        request, run = self.desc, runs.o.p
        m.d.comb += [
            request.valid.eq(runs.o.valid & asked.i.ready & ~run.wrong),
            request.p.area.eq(Area.DESC),
            request.p.queue.eq(run.queue),
            request.p.addr.eq(run.first << 4),
            request.p.len.eq(run.count * VIRTQ_DESC_SIZE),
            asked.i.valid.eq(runs.o.valid & (request.ready | run.wrong)),
            asked.i.p.eq(run),
            runs.o.ready.eq(asked.i.valid & asked.i.ready),
            self.fail_valid.eq(heads.fail_valid),
            self.fail_queue.eq(heads.fail_queue),
            self.busy.eq(runs.busy | (asked.level != 0)),
        ]
        return m
