"""Ask for tables ahead of the chains that they belong to.

Ref: VIRTIO 1.4, 2.7.5.3 "Indirect Descriptors", 2.8.7 "Indirect Flag: Scatter-Gather Support".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.dma import Area
from ..spec.virtio import VIRTQ_DESC_SIZE
from .ahead import HEAD_BITS, HEADS, Layouts
from .table import QueueControl, QueueTable

__all__ = ["Ask", "table_read"]


def table_read(layouts):
    """Read ``len`` bytes of entries for ``port``, from ``addr`` on, counted from ``area`` of ``queue``; they end at ``end``."""
    return data.StructLayout({"port": layouts.port, "end": layouts.position, "addr": 64, "len": 16, "area": Area, "queue": 16})


class Ask(wiring.Component):
    """Take the heads of all ports, and ask for the tables that they name.

    A head that names no table costs two cycles, one that does four, and then the time in which its request waits: it is offered
    two cycles after the head has come. No head waits for a device, if ports without ``room`` offer none.

    A table that breaks a rule is not asked for; who follows the chain comes to the same verdict. A chain in a packed ring is a
    table as well, from its first slot to the end of the ring.

    Parameters
    ----------
    num_queues, ports, max_ahead : int
        See :class:`.ahead.Layouts`; of a table ``max_ahead`` entries are asked for, at most.

    Members
    -------
    control : In(QueueControl)
    i : In(stream(port_head(ports)))
    room : Out(ports)
        Bit per port: there is room for three heads, two of them with all that may be asked for. A register.
    soon : Out(1)
        A head that is offered in the next cycle is taken in it.
    o, head, head_port, head_write, head_end, heads
        See :class:`.ahead.Ahead`, whose ports these are.
    first_head : In(HEAD_BITS).array(ports), first_entry : In(Layouts.position).array(ports)
        Oldest head, and oldest entry, whose place is not free.
    entries : In(Layouts.position).array(ports)
        Where the entries end that have come. Those of a chain that failed are counted until they have, although nobody waits
        for them: they are written as well.
    table : Out(stream(table_read(Layouts)))
    busy : Out(1)
        A head or a request is under way.
    """
    def __init__(self, *, num_queues, ports, max_ahead):
        self.num_queues = num_queues
        self.ports = ports
        self.max_ahead = max_ahead
        self.layouts = layouts = Layouts(num_queues=num_queues, ports=ports, max_ahead=max_ahead)
        super().__init__({
            "control":     In(QueueControl),
            "i":           In(stream.Signature(layouts.head)),
            "room":        Out(ports),
            "soon":        Out(1),
            "o":           Out(stream.Signature(layouts.head)),
            "head":        In(layouts.row),
            "head_port":   In(layouts.port),
            "head_write":  Out(1),
            "head_end":    Out(layouts.position),
            "heads":       In(HEAD_BITS).array(ports),
            "first_head":  In(HEAD_BITS).array(ports),
            "first_entry": In(layouts.position).array(ports),
            "entries":     In(layouts.position).array(ports),
            "table":       Out(stream.Signature(table_read(layouts))),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        position = self.layouts.position
        m.submodules.rings = rings = QueueTable(num_queues=self.num_queues, fields=("size",))
        ends = Array(Signal(position, name=f"end_{k}") for k in range(self.ports))   # of the entries asked for
        for k, (heads, head, entry, came) in enumerate(zip(self.heads, self.first_head, self.first_entry, self.entries)):
            # Not counted are one that is being written (without a table, if there is a third one), one on its way, and the one
            # that is sent for. And a failed read may bring one entry more than it should.
            places = [(ends[k] - oldest)[:position.width] < self.layouts.room - 2 * self.max_ahead for oldest in (entry, came)]
            m.d.sync += self.room[k].eq(((heads - head)[:HEAD_BITS] < HEADS - 2) & places[0] & places[1])

        asks, count = self._look(m, rings.row.size)
        taking, writing = Signal(), Signal()
        m.d.comb += [
            rings.setup_valid.eq(self.control.setup_valid),
            rings.setup.eq(self.control.setup),
            rings.queue.eq(self.i.p.taken.queue),
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(taking & self.i.valid),
            self.i.ready.eq(taking),
            self.head_end.eq(ends[Mux(self.table.valid, self.table.p.port, self.head_port)] + Mux(writing, count, 0)),
            self.table.p.end.eq(self.head_end),
            self.busy.eq(self.i.valid | ~taking),
        ]
        with m.If(self.table.ready):
            m.d.sync += self.table.valid.eq(0)
        with m.FSM(name="ask"):
            with m.State("TAKE"):
                m.d.comb += [taking.eq(1), self.soon.eq(~self.i.valid)]
                with m.If(self.i.valid):
                    m.next = "LOOK"
            with m.State("LOOK"):
                # Whether a table is asked for is known late in the cycle, so its request is offered from the next one on.
                m.d.comb += [
                    self.head_write.eq(~asks),
                    self.soon.eq(~self.head.flags[2] & ~(self.control.packed & self.head.flags[0])),
                ]
                m.d.sync += self.table.valid.eq(asks)
                m.next = "TAKE"
                with m.If(asks):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [writing.eq(1), self.head_write.eq(1)]
                m.d.sync += ends[self.table.p.port].eq(self.head_end)
                m.next = "ASK"
            with m.State("ASK"):
                with m.If(~self.table.valid):
                    m.next = "TAKE"
        return m

    def _look(self, m, size):
        """Prepare the request for the table of the head that was taken, if it is one that is asked for; return whether it is, and
        the number of entries, a cycle later."""
        head, request = self.head, self.table.p
        is_ring, is_table, more = Signal(), Signal(), Signal()
        entries, to_end = Signal(28), Signal(16)
        most, count = Signal(range(self.max_ahead + 1)), Signal(range(self.max_ahead + 1))
        m.d.comb += [
            is_ring.eq(self.control.packed & head.flags[0]),
            # Whether a table in the last 4 GiB of the address space runs past the end is found when it is judged.
            is_table.eq(self.control.indirect & head.flags[2] & ~head.flags[0] & (head.len[4:] != 0) & (head.len[:4] == 0)
                        & ~head.addr[32:].all()),
            to_end.eq(size - head.next),
            entries.eq(Mux(is_ring, head.len[:16], head.len >> 4)),
            more.eq(entries[len(most):].any() | (entries[:len(most)] > most)),
            most.eq(Mux(is_ring & (to_end < self.max_ahead), to_end, self.max_ahead)),
            request.len.eq(count * VIRTQ_DESC_SIZE),
        ]
        with m.If(~self.table.valid):
            m.d.sync += [
                count.eq(Mux(more, most, entries)),
                request.port.eq(self.head_port),
                request.addr.eq(Mux(is_ring, head.next << 4, head.addr)),
                request.area.eq(Mux(is_ring, Area.DESC, Area.NONE)),
                request.queue.eq(head.queue),
            ]
        return is_ring | is_table, count
