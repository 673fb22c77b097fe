"""Split virtqueue: read the descriptors that ring entries name.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import QueueSetup
from ..lib.dma import Area, ReadPort
from ..lib.queue import Queue
from ..spec.virtio import VIRTQ_DESC_SIZE, VirtqDesc
from .avail import RingEntry
from .elements import Elements
from .store import Push
from .table import QueueTable

__all__ = ["DescFetch"]


class DescFetch(wiring.Component):
    """Read the first descriptor of each chain; neighbours in the table share a read.

    A driver's free list hands out descriptors in table order at first and, being a stack, in the opposite order after
    each batch that came back; so a batch of ring entries is a few runs, up or down. An entry waits for its successor
    only within one ring read, a run until it has all come. Up to 16 reads are outstanding. Behind an entry that fails its
    queue gives nothing until it is set up again.

    Parameters
    ----------
    width, num_queues : int
    max_run : int
        Descriptors a read, at most: a power of two.

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
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size",))
        m.d.comb += [
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
        ]

        # ``first``: the lowest of ``count`` descriptors. ``down``: the last comes first. ``wrong``: they are not read.
        run_layout = data.StructLayout({
            "queue": 16, "first": 16, "count": range(self.max_run + 1), "down": 1, "wrong": 1})
        m.submodules.runs = runs = Queue(run_layout, 16)
        run = Signal(run_layout)
        m.d.comb += table.queue.eq(run.queue)

        # An entry, and whether it is the neighbour, above or below, of the one before it.
        entry, entry_valid, taken_in = Signal(RingEntry), Signal(), Signal()
        previous, above, below = Signal(16), Signal(), Signal()
        follows, precedes = Signal(), Signal()
        m.d.comb += [
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
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += [
                    self.desc.req.valid.eq(runs.i.ready & ~run.wrong),
                    runs.i.valid.eq(self.desc.req.ready | run.wrong),
                ]
                with m.If(runs.i.valid & runs.i.ready):
                    m.next = "FIRST"
        m.d.comb += [
            self.desc.req.p.area.eq(Area.DESC),
            self.desc.req.p.queue.eq(run.queue),
            self.desc.req.p.addr.eq(run.first << 4),
            self.desc.req.p.len.eq(run.count * VIRTQ_DESC_SIZE),
            runs.i.p.eq(run),
        ]

        # Answers, in the order of the reads: a bank for the run that comes in, a bank for the one that goes out.
        m.submodules.descs = descs = Elements(width=self.width, shape=VirtqDesc)
        m.submodules.banks = banks = memory.Memory(shape=VirtqDesc, depth=2 * self.max_run, init=[])
        m.submodules.whole = whole = Queue(run_layout, 2)
        bank_w, bank_r = banks.write_port(), banks.read_port()
        connect(m, flipped(self.desc.beat), descs.i)
        place, bank = Signal(range(self.max_run)), Signal()
        taken, ends, wrong = Signal(), Signal(), Signal()
        halted = Signal(self.num_queues)       # queues of which an entry failed
        this = runs.o.p.queue[:(max(2, self.num_queues) - 1).bit_length()]
        m.d.comb += [
            wrong.eq(runs.o.valid & runs.o.p.wrong),
            taken.eq(descs.o.valid & runs.o.valid & ~wrong & whole.i.ready & (whole.level < 2)),
            ends.eq(taken & descs.o.p.last),
            descs.o.ready.eq(taken),
            bank_w.en.eq(taken),
            bank_w.addr.eq(Cat(place, bank)),
            bank_w.data.eq(descs.o.p.data),
            runs.o.ready.eq(ends | wrong),
            # 2.7.9: order; behind a chain that does not come back nothing does.
            whole.i.valid.eq(ends & ~descs.o.p.error & ~halted.bit_select(this, 1)),
            whole.i.p.eq(runs.o.p),
            self.fail_valid.eq((ends & descs.o.p.error) | wrong),
            self.fail_queue.eq(runs.o.p.queue),
            self.busy.eq(self.i.valid | entry_valid | ~state.ongoing("FIRST") | (runs.level != 0) | (whole.level != 0)),
        ]
        with m.If(taken):
            m.d.sync += place.eq(Mux(descs.o.p.last, 0, place + 1))
        with m.If(self.fail_valid):
            m.d.sync += halted.bit_select(this, 1).eq(1)
        with m.If(self.setup_valid):
            m.d.sync += halted.bit_select(self.setup.queue[:len(this)], 1).eq(0)
        m.d.sync += bank.eq(bank ^ whole.i.valid)

        given, out_bank, at = Signal(range(self.max_run)), Signal(), Signal(range(self.max_run))
        ready = Signal()                       # the bank's answer is that of ``at``
        m.d.comb += [
            at.eq(Mux(whole.o.p.down, whole.o.p.count - 1 - given, given)),
            bank_r.addr.eq(Cat(at, out_bank)),
            self.o.valid.eq(whole.o.valid & ready),
            self.o.p.queue.eq(whole.o.p.queue),
            self.o.p.head.id.eq(whole.o.p.first + at),
            self.o.p.head.addr.eq(bank_r.data.addr),
            self.o.p.head.len.eq(bank_r.data.len),
            self.o.p.head.flags.eq(bank_r.data.flags),
            self.o.p.head.next.eq(bank_r.data.next),
            self.o.p.head.count.eq(1),
        ]
        m.d.sync += ready.eq(whole.o.valid & ~(self.o.valid & self.o.ready))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += given.eq(given + 1)
            with m.If(given == whole.o.p.count - 1):
                m.d.comb += whole.o.ready.eq(1)
                m.d.sync += [given.eq(0), out_bank.eq(~out_bank)]
        return m
