"""Split virtqueue: read the descriptors that ring entries name.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadPort, read_beat
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_DESC_SIZE, VirtqDesc
from .elements import Elements
from .entries import RingEntry
from .store import Push
from .table import QueueTable

__all__ = ["Runs", "RunHeads", "DescFetch"]


def run_of(max_run):
    """Neighbours in a descriptor table. ``first``: the lowest of ``count`` descriptors. ``down``: the last comes first.
    ``wrong``: they are not read."""
    return data.StructLayout({"queue": 16, "first": 16, "count": range(max_run + 1), "down": 1, "wrong": 1})


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
    o : Out(stream(run_of(max_run)))
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
            "o":           Out(stream.Signature(run_of(max_run))),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size",))
        run = self.o.p
        # An entry, and whether it is the neighbour, above or below, of the one before it.
        entry, entry_valid, taken_in = Signal(RingEntry), Signal(), Signal()
        previous, above, below = Signal(16), Signal(), Signal()
        follows, precedes = Signal(), Signal()
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(run.queue),
            self.i.ready.eq(~entry_valid | taken_in),
            follows.eq(above & ~run.down),
            precedes.eq(below & (run.down | (run.count == 1))),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                entry_valid.eq(self.i.valid),
                entry.eq(self.i.p),
                above.eq(self.i.p.head == (previous + 1)[:16]),
                below.eq(self.i.p.head + 1 == previous),
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
    """Turn the descriptors of runs into heads, in the order in which the driver made them available.

    A run waits until it has all come. Two wait whole, one of them in the way out. Behind an entry that fails its queue gives
    nothing until it is set up again.

    Parameters
    ----------
    width, num_queues, max_run : int

    Members
    -------
    setup_valid, setup : In
        Strobe: a queue works again.
    i : In(stream(run_of(max_run))), beat : In(stream(read_beat(width)))
        Runs; and those that are not ``wrong``, as they were read.
    o : Out(stream(Push))
        From a register, every second cycle.
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe: a run is wrong, or could not be read.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, max_run):
        self.width = width
        self.num_queues = num_queues
        self.max_run = max_run
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "i":           In(stream.Signature(run_of(max_run))),
            "beat":        In(stream.Signature(read_beat(width))),
            "o":           Out(stream.Signature(Push)),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # A bank for the run that comes in, a bank for the one that goes out.
        m.submodules.descs = descs = Elements(width=self.width, shape=VirtqDesc)
        m.submodules.banks = banks = memory.Memory(shape=VirtqDesc, depth=2 * self.max_run, init=[])
        m.submodules.whole = whole = Queue(self.i.payload.shape(), 2)
        write, read = banks.write_port(), banks.read_port()
        connect(m, flipped(self.beat), descs.i)
        run, place, bank = self.i, Signal(range(self.max_run)), Signal()
        taken, ends, wrong = Signal(), Signal(), Signal()
        halted = Signal(self.num_queues)       # queues of which an entry failed
        this = run.p.queue[:(max(2, self.num_queues) - 1).bit_length()]
        m.d.comb += [
            wrong.eq(run.valid & run.p.wrong),
            taken.eq(descs.o.valid & run.valid & ~wrong & whole.i.ready & (whole.level < 2)),
            ends.eq(taken & descs.o.p.last),
            descs.o.ready.eq(taken),
            write.en.eq(taken),
            write.addr.eq(Cat(place, bank)),
            write.data.eq(descs.o.p.data),
            run.ready.eq(ends | wrong),
            # 2.7.9: order; behind a chain that does not come back nothing does.
            whole.i.valid.eq(ends & ~descs.o.p.error & ~halted.bit_select(this, 1)),
            whole.i.p.eq(run.p),
            self.fail_valid.eq((ends & descs.o.p.error) | wrong),
            self.fail_queue.eq(run.p.queue),
            self.busy.eq((whole.level != 0) | self.o.valid),
        ]
        with m.If(taken):
            m.d.sync += place.eq(Mux(descs.o.p.last, 0, place + 1))
        with m.If(self.fail_valid):
            m.d.sync += halted.bit_select(this, 1).eq(1)
        with m.If(self.setup_valid):
            m.d.sync += halted.bit_select(self.setup.queue[:len(this)], 1).eq(0)
        m.d.sync += bank.eq(bank ^ whole.i.valid)

        given, out_bank, at = Signal(range(self.max_run)), Signal(), Signal(range(self.max_run))
        out = whole.o.p
        there = Signal()                       # the bank's answer is that of ``at``
        give, head = Signal(), self.o.p.head
        m.d.comb += [
            at.eq(Mux(out.down, out.count - 1 - given, given)),
            read.addr.eq(Cat(at, out_bank)),
            # A run that goes out has come whole. Said like this, synthesis needs no logic for a row that is being written.
            read.en.eq(~(write.en & (write.addr == read.addr))),
            give.eq(there & (self.o.ready | ~self.o.valid)),
        ]
        m.d.sync += there.eq(whole.o.valid & ~give)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                self.o.valid.eq(there),
                self.o.p.queue.eq(out.queue),
                head.id.eq(out.first + at),
                head.count.eq(1),
                *[head[name].eq(read.data[name]) for name in ("addr", "len", "flags", "next")],
            ]
        with m.If(give):
            m.d.sync += given.eq(given + 1)
            with m.If(given == out.count - 1):
                m.d.comb += whole.o.ready.eq(1)
                m.d.sync += [given.eq(0), out_bank.eq(~out_bank)]
        return m


class DescFetch(wiring.Component):
    """Read the first descriptor of each chain; neighbours in the table share a read. Up to 16 reads are outstanding.

    Parameters
    ----------
    width, num_queues : int
    max_run : int
        Descriptors a read, at most: a power of two.

    Members
    -------
    i : In(stream(RingEntry)), desc : Out(ReadPort), o : Out(stream(Push))
        See :class:`Runs`, :class:`RunHeads`.
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
        m.submodules.runs  = runs  = Runs(num_queues=self.num_queues, max_run=self.max_run)
        m.submodules.asked = asked = Queue(run_of(self.max_run), 16)
        m.submodules.heads = heads = RunHeads(width=self.width, num_queues=self.num_queues, max_run=self.max_run)
        for part in (runs, heads):
            m.d.comb += [part.setup_valid.eq(self.setup_valid), part.setup.eq(self.setup)]
        connect(m, flipped(self.i), runs.i)
        connect(m, asked.o, heads.i)
        connect(m, flipped(self.desc.beat), heads.beat)
        connect(m, heads.o, flipped(self.o))
        request, run = self.desc.req, runs.o.p
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
            self.busy.eq(runs.busy | (asked.level != 0) | heads.busy),
        ]
        return m
