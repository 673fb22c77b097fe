"""Packed virtqueue: which slots of a ring hold a used descriptor of ours, and have since before now.

Ref: VIRTIO 1.4, 2.8.6 "Next Flag: Descriptor Chaining" (a chain has one used descriptor, the slots behind its first keep
what they held).
"""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .suppress import Published

__all__ = ["Marks"]


class Marks(wiring.Component):
    """Remember how far used descriptors have left for the host, and for how many slots up to there each got its own.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: forget what is known of this queue, and a batch of it that is being noted.
    passed_valid : In(1), passed : In(Published)
        Strobe: a batch has left.
    queue, size, slot, flip, count : In
        A question: ``count`` descriptors of a ring of ``size``, from ``slot`` on; ``flip``: complement of the wrap counter.
    marked : Out(1)
        4 cycles after the question: when they were last the device's, all got a used descriptor, and these have left. ``count``
        may come 3 cycles later than the rest.
    busy : Out(1)
        A batch has not been noted yet.
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        super().__init__({
            "setup_valid":  In(1),
            "setup_queue":  In(16),
            "passed_valid": In(1),
            "passed":       In(Published),
            "queue":        In(range(max(2, num_queues))),
            "size":         In(16),
            "slot":         In(16),
            "flip":         In(1),
            "count":        In(16),
            "marked":       Out(1),
            "busy":         Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # slot, flip: of the next used descriptor. run: so many slots before it got one each (saturates).
        row_layout = data.StructLayout({"slot": 16, "flip": 1, "run": 16})
        m.submodules.rows = rows = memory.Memory(shape=row_layout, depth=max(2, self.num_queues), init=[])
        write, look, ask = rows.write_port(), rows.read_port(domain="comb"), rows.read_port(domain="comb")
        fresh = Signal(self.num_queues, init=(1 << self.num_queues) - 1)

        # A batch is looked up in the cycle in which it has left, and noted in the next.
        batch, noting = Signal(Published), Signal()
        noted, run_before, moved, run = Signal(16), Signal(16), Signal(16), Signal(17)
        at, setup_queue, of_batch = (queue[:len(self.queue)] for queue in (self.passed.queue, self.setup_queue, batch.queue))
        meets, was_lost = Signal(), Signal()   # the queue of this batch is set up; was, when its row was looked up
        m.d.comb += [
            look.addr.eq(at),
            ask.addr.eq(self.queue),
            meets.eq(self.setup_valid & (setup_queue == of_batch)),
            noted.eq(Mux(fresh.bit_select(at, 1), 0, look.data.run)),
            run.eq(run_before + moved),
            write.addr.eq(of_batch),
            write.data.slot.eq(batch.new),
            write.data.flip.eq(~batch.wrap),
            write.data.run.eq(Mux(batch.apart, 0, Mux(run[16], 0xffff, run))),
            write.en.eq(noting & ~meets & ~was_lost),
            self.busy.eq(noting),
        ]
        m.d.sync += [
            noting.eq(self.passed_valid),
            batch.eq(self.passed),
            run_before.eq(Mux(noting & (of_batch == at), write.data.run, noted)),
            moved.eq(self.passed.new - self.passed.old),
            was_lost.eq(self.setup_valid & (setup_queue == at)),
        ]
        with m.If(write.en):
            m.d.sync += fresh.bit_select(of_batch, 1).eq(0)
        with m.If(self.setup_valid):
            m.d.sync += fresh.bit_select(setup_queue, 1).eq(1)

        # Slots from ``slot`` on up to where the next used descriptor goes, in the driver's next lap.
        row, free, free_run, near, singles = Signal(row_layout), Signal(17), Signal(16), Signal(17), Signal()
        m.d.sync += [
            row.eq(Mux(fresh.bit_select(self.queue, 1), 0, ask.data)),
            free.eq(row.slot - self.slot + Mux(row.flip == self.flip, self.size, 0)),
            free_run.eq(row.run),
            near.eq(free),
            singles.eq(free <= free_run),
            self.marked.eq(singles & (self.count <= near)),
        ]
        return m
