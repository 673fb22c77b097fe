"""What the driver configured for each queue, kept where a stage needs it.

Each stage of the engine keeps a table of its own with the fields that it reads, so that stages never compete for a
read port and queues cost memory, not logic.
"""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup

__all__ = ["QueueControl", "QueueTable"]

#: What a stage is told of its queues, seen from who tells: ``setup`` of a queue, with the strobe ``setup_valid``; whether
#: INDIRECT_DESC and RING_PACKED were negotiated.
QueueControl = wiring.Signature({"setup_valid": Out(1), "setup": Out(QueueSetup), "indirect": Out(1), "packed": Out(1)})


class QueueTable(wiring.Component):
    """Remember ``fields`` of each queue's set-up; read one row a cycle, one cycle later.

    Parameters
    ----------
    num_queues : int
    fields : sequence of str
        Members of :class:`QueueSetup` to keep.

    Members
    -------
    setup_valid : In(1), setup : In(QueueSetup)
        Strobe and the row to store.
    queue : In, row : Out
        ``row`` shows, in the next cycle, the row that ``queue`` names in this one.
    """
    def __init__(self, *, num_queues, fields):
        self.num_queues = num_queues
        self.row_layout = data.StructLayout({name: QueueSetup.as_shape()[name].shape for name in fields})
        super().__init__({
            "setup_valid": In(1),
            "setup":       In(QueueSetup),
            "queue":       In(16),
            "row":         Out(self.row_layout),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=self.row_layout, depth=max(2, self.num_queues), init=[])
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.en.eq(self.setup_valid),
            write.addr.eq(self.setup.queue),
            *[write.data[name].eq(self.setup[name]) for name, _ in self.row_layout],
            read.addr.eq(self.queue),
            self.row.eq(read.data),
        ]
        return m
