"""State of each queue, in a memory that a reset cannot reach and a set-up can."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["QueueRows", "SharedRows", "PipelinedRows"]


class QueueRows(wiring.Component):
    """One row of ``shape`` a queue: read in one cycle, changed in a later one; all zero after a reset, and when its queue is set
    up.

    A set-up wins over every write whose look-up came before it: nothing of a queue's former life gets into its row. Zero comes
    from a bit per queue that set-up raises and the first write after it lowers.

    Parameters
    ----------
    num_queues : int
    shape : layout

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: forget what is known of this queue.
    queue : In, row : Out(shape)
        ``row`` shows, in the next cycle, the row that ``queue`` names in this one. The caller holds ``queue``
        from the look-up to the write.
    held : In(1)
        High from the look-up to the last write that belongs to it, low before the next look-up, or ``begins`` is high with
        that. Only a caller that writes later than one cycle after the look-up needs it.
    begins : In(1)
        With ``held``: the look-up of this cycle has nothing to do with those before.
    write : In(1), new : In(shape)
        Store ``new`` as the row of ``queue``, unless that queue was set up since its look-up, or is in this cycle.
    """
    def __init__(self, *, num_queues, shape):
        self.num_queues = num_queues
        self.shape = shape
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "queue":       In(range(max(2, num_queues))),
            "row":         Out(shape),
            "held":        In(1),
            "begins":      In(1),
            "write":       In(1),
            "new":         In(shape),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = SharedRows(num_queues=self.num_queues, shape=self.shape)
        meets, lost = Signal(), Signal()
        m.d.comb += [
            meets.eq(self.setup_valid & (self.setup_queue[:len(self.queue)] == self.queue)),
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup_queue),
            rows.queue.eq(self.queue),
            rows.at.eq(self.queue),
            rows.write.eq(self.write & ~lost),
            rows.new.eq(self.new),
            self.row.eq(rows.row),
        ]
        m.d.sync += lost.eq(self.held & (meets | (lost & ~self.begins)))
        return m


class SharedRows(wiring.Component):
    """One row of ``shape`` a queue, as :class:`QueueRows`, which one stage reads and another one writes.

    Whatever makes the other stage write is over when a queue is set up, so only the cycle of the set-up itself counts.

    Parameters
    ----------
    num_queues : int
    shape : layout

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: forget what is known of this queue.
    queue : In, row : Out(shape)
        ``row`` shows, in the next cycle, the row that ``queue`` names in this one, without what is written in this one.
    now : Out(shape)
        The row of ``queue``, in the same cycle, as if no queue were set up in it.
    write : In(1), at : In(16), new : In(shape)
        Store ``new`` as the row of ``at``, unless that queue is set up in this cycle.
    """
    def __init__(self, *, num_queues, shape):
        self.num_queues = num_queues
        self.shape = shape
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "queue":       In(range(max(2, num_queues))),
            "row":         Out(shape),
            "now":         Out(shape),
            "write":       In(1),
            "at":          In(16),
            "new":         In(shape),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=self.shape, depth=max(2, self.num_queues), init=[])
        write, read = rows.write_port(), rows.read_port(domain="comb")
        fresh = Signal(self.num_queues, init=(1 << self.num_queues) - 1)
        setup_queue, at = self.setup_queue[:len(self.queue)], self.at[:len(self.queue)]
        meets = Signal()
        m.d.comb += [
            meets.eq(self.setup_valid & (setup_queue == self.queue)),
            read.addr.eq(self.queue),
            write.addr.eq(at),
            write.en.eq(self.write),
            write.data.eq(self.new),
            self.now.eq(Mux(fresh.bit_select(self.queue, 1), 0, read.data)),
        ]
        m.d.sync += self.row.eq(Mux(meets, 0, self.now))
        with m.If(self.write):
            m.d.sync += fresh.bit_select(at, 1).eq(0)
        with m.If(self.setup_valid):
            m.d.sync += fresh.bit_select(setup_queue, 1).eq(1)
        return m


class PipelinedRows(wiring.Component):
    """One row of ``shape`` a queue, as :class:`QueueRows`, for a stage that begins with a queue in every cycle.

    A look-up and a write a cycle, each write in the cycle after its look-up. A row shows what was written in the cycle of its
    look-up, so a queue may be looked up and written in every cycle.

    Parameters
    ----------
    num_queues : int
    shape : layout

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: forget what is known of this queue.
    queue : In
        Looked up in this cycle.
    at : Out, row : Out(shape)
        The queue that was looked up in the cycle before, and its row; all zero after a reset, and when it was set up since it was
        written.
    meets : Out(1)
        It is being set up: ``row`` is of its former life, and a write in this cycle is lost.
    write : In(1), new : In(shape)
        Store ``new`` as the row of ``at``.
    """
    def __init__(self, *, num_queues, shape):
        self.num_queues = num_queues
        self.shape = shape
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "queue":       In(range(max(2, num_queues))),
            "at":          Out(range(max(2, num_queues))),
            "row":         Out(shape),
            "meets":       Out(1),
            "write":       In(1),
            "new":         In(shape),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=self.shape, depth=max(2, self.num_queues), init=[])
        write, read = rows.write_port(), rows.read_port(domain="comb")
        fresh = Signal(self.num_queues, init=(1 << self.num_queues) - 1)
        setup_queue = self.setup_queue[:len(self.queue)]
        zero = Signal()
        m.d.comb += [
            self.meets.eq(self.setup_valid & (setup_queue == self.at)),
            zero.eq(fresh.bit_select(self.queue, 1) | (self.setup_valid & (setup_queue == self.queue))),
            read.addr.eq(self.queue),
            write.addr.eq(self.at),
            write.en.eq(self.write & ~self.meets),
            write.data.eq(self.new),
        ]
        m.d.sync += [self.at.eq(self.queue), self.row.eq(Mux(zero, 0, read.data))]
        with m.If(write.en & (self.queue == self.at)):
            m.d.sync += self.row.eq(self.new)
        with m.If(write.en):
            m.d.sync += fresh.bit_select(self.at, 1).eq(0)
        with m.If(self.setup_valid):
            m.d.sync += fresh.bit_select(setup_queue, 1).eq(1)
        return m
