"""Rows of queues for tests of stages."""

from amaranth import *
from amaranth.lib.memory import Memory

from ringnic.hdl.virtqueue.rows import QueueRows

__all__ = ["RowsFromEnd"]


class RowsFromEnd(QueueRows):
    """Rows of queues that have been in use for long: every index is about to wrap."""
    START = 0xfffd

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = Memory(shape=self.shape, depth=max(2, self.num_queues), init=[
            dict.fromkeys(self.shape.members, self.START) for _ in range(self.num_queues)])
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [read.addr.eq(self.queue), write.addr.eq(self.queue), write.en.eq(self.write),
                     write.data.eq(self.new), self.row.eq(read.data)]
        return m
