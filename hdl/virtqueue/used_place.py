"""Where used descriptors go in a ring.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.8.1 "Driver and Device Ring Wrap Counters".
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from .rows import QueueRows
from .table import QueueTable

__all__ = ["UsedPlace", "UsedRing"]


class UsedPlace(wiring.Component):
    """Count the entries of a ring that a batch passes, chain by chain. One chain a cycle.

    Members
    -------
    packed : In(1), size : In(16)
        Of the ring. ``last`` follows ``size`` a cycle later.
    begin : In(1), i_slot : In(16), i_flip : In(1)
        Strobe: a batch begins here. Split: at used.idx. Packed: at this entry of the ring, and ``i_flip`` is the complement of
        the device's wrap counter.
    count : In(16), passes : In(1)
        Entries that the chain in hand takes; strobe: go on behind it.
    slot : Out(16), flip : Out(1)
        Where the chain in hand goes.
    last : Out(16)
        The entry at the end of the ring.
    many : Out(1)
        The chain in hand takes several entries.
    passed : Out(16), total : Out(17), apart : Out(1)
        Entries that were passed since the beginning; with those of the chain in hand; some chain took several.
    """
    packed: In(1)
    size:   In(16)
    begin:  In(1)
    i_slot: In(16)
    i_flip: In(1)
    count:  In(16)
    passes: In(1)
    slot:   Out(16)
    flip:   Out(1)
    last:   Out(16)
    many:   Out(1)
    passed: Out(16)
    total:  Out(17)
    apart:  Out(1)

    def elaborate(self, platform):
        m = Module()
        after, beyond, wraps = Signal(17), Signal(18), Signal()
        m.d.comb += [
            self.many.eq(self.count != 1),
            after.eq(self.slot + self.count),
            beyond.eq(after + ~self.last),       # after - (last + 1) + 2**16
            wraps.eq(self.packed & beyond[16:].any()),
            self.total.eq(self.passed + self.count),
        ]
        m.d.sync += self.last.eq(self.size - 1)
        with m.If(self.begin):
            m.d.sync += [self.slot.eq(self.i_slot), self.flip.eq(self.i_flip), self.passed.eq(0), self.apart.eq(0)]
        with m.Elif(self.passes):
            m.d.sync += [
                self.slot.eq(Mux(wraps, beyond, after)),
                self.flip.eq(self.flip ^ wraps),
                self.passed.eq(self.total),
                self.apart.eq(self.apart | self.many),
            ]
        return m


class UsedRing(wiring.Component):
    """The ring of a batch's queue: where it goes on, kept from batch to batch, and where the chain in hand goes.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    setup_valid, setup : see :class:`.table.QueueTable`
    packed : In(1), count : In(16), passes : In(1), slot, flip, last, many, passed, total, apart : Out
        As of :class:`UsedPlace`.
    queue : In, held : In(1)
        Of the batch; ``held`` while it is here, see :class:`.rows.QueueRows`.
    begin : In(1)
        Strobe, at least a cycle after ``queue`` is there: a batch begins.
    keeps : In(1)
        Strobe, while ``held``: the ring goes on at ``slot``, unless it was set up meanwhile.
    first_slot : Out(16), first_flip : Out(1)
        Where the batch begins.
    size : Out(16)
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "packed":      In(1),
            "queue":       In(range(max(2, num_queues))),
            "held":        In(1),
            "begin":       In(1),
            "count":       In(16),
            "passes":      In(1),
            "keeps":       In(1),
            "first_slot":  Out(16),
            "first_flip":  Out(1),
            "size":        Out(16),
            "slot":        Out(16),
            "flip":        Out(1),
            "last":        Out(16),
            "many":        Out(1),
            "passed":      Out(16),
            "total":       Out(17),
            "apart":       Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # slot: split, used.idx; packed, the entry for the next used descriptor, and ``flip`` the complement of its wrap counter.
        m.submodules.rows = rows = QueueRows(num_queues=self.num_queues, shape=data.StructLayout({"slot": 16, "flip": 1}))
        m.submodules.table = table = QueueTable(num_queues=self.num_queues, fields=("size",))
        m.submodules.place = place = UsedPlace()
        m.d.comb += [
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup.queue),
            rows.queue.eq(self.queue),
            rows.held.eq(self.held),
            rows.write.eq(self.keeps),
            rows.new.slot.eq(self.slot),
            rows.new.flip.eq(self.flip),
            table.setup_valid.eq(self.setup_valid),
            table.setup.eq(self.setup),
            table.queue.eq(self.queue),
            self.first_slot.eq(rows.row.slot),
            self.first_flip.eq(rows.row.flip),
            self.size.eq(table.row.size),
            place.packed.eq(self.packed),
            place.size.eq(self.size),
            place.begin.eq(self.begin),
            place.i_slot.eq(self.first_slot),
            place.i_flip.eq(self.first_flip),
            place.count.eq(self.count),
            place.passes.eq(self.passes),
            *[getattr(self, name).eq(getattr(place, name)) for name in (
                "slot", "flip", "last", "many", "passed", "total", "apart")],
        ]
        return m
