"""Follow descriptor chains and indirect tables, split and packed.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.7.5.3 "Indirect Descriptors", 2.8.7 "Indirect Flag:
Scatter-Gather Support".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import Segment
from ..lib.dma import ReadPort
from ..spec.virtio import MAX_TABLE
from .ahead import Ahead
from .ask import Ask
from .follow import Follow
from .reads import Reads
from .store import port_head
from .table import QueueControl

__all__ = ["Walk"]


class Walk(wiring.Component):
    """Turn the heads of each port into segments, in order. Behind a chain that fails, its queue's chains fail until it is set up
    again. One walker serves all ports; a port whose segments are not taken does not hold up the others.

        i -> Ask -> Ahead -> Follow -> o
              |       ^        |
              +-----> Reads <--+

    A lone chain of one descriptor has its segment five cycles after its head. Chains of one descriptor come every two
    cycles, of all ports together. An indirect table is read ahead, in one read, while earlier chains are still being given out,
    and gives a segment every two cycles as long as its entries follow one another as drivers write them; so does a chain in a
    packed ring; and two ports do so at the same time. Everything else (chains in the descriptor table, tables in another order or
    longer than ``max_ahead``) is followed one dependent read at a time. Beats are always taken: a table is asked for only when
    there is room for all of it.

    A driver must not make a chain longer than Queue Size, even in an indirect table (2.7.5.3.1, 2.8.19). Linux does so when its
    scatter-gather lists are longer than a small queue, and other devices accept it. Here a chain may have up to Queue Size
    descriptors in the queue's own table or ring, and up to ``max_table`` (or Queue Size, if that is more) in an indirect table.

    Parameters
    ----------
    width, num_queues, ports : int
    max_ahead : int
        Entries of an indirect table read ahead, at most.
    max_table : int
        Descriptors that a chain may have in an indirect table whatever its Queue Size is; up to 65536.

    Members
    -------
    i : In(stream(port_head(ports)))
    room : Out(ports)
        Bit per port: three heads of it may come without having to wait for its device. A register.
    soon : Out(1)
        A head that is offered in the next cycle is taken in it.
    o : Out(stream(Segment)).array(ports)
        Registers.
    read : Out(ReadPort)
        Reads of whole tables, and of single descriptors.
    control : In(QueueControl)
    fail_valid : Out(1), fail_queue : Out(16)
        Strobe, in the cycle before the segment that carries ``error`` is there: index past the table, chain longer than allowed,
        nested, empty or odd indirect table, NEXT beside INDIRECT, INDIRECT not negotiated, buffer or table that runs past the end
        of the address space, or a failed read.
    busy : Out(1)
        A segment is not given out, or a read not answered.
    """
    def __init__(self, *, width, num_queues, ports, max_ahead=32, max_table=MAX_TABLE):
        self.width = width
        self.num_queues = num_queues
        self.ports = ports
        self.max_ahead = max_ahead
        self.max_table = max_table
        super().__init__({
            "control":     In(QueueControl),
            "i":           In(stream.Signature(port_head(ports))),
            "room":        Out(ports),
            "soon":        Out(1),
            "read":        Out(ReadPort(width)),
            "o":           Out(stream.Signature(Segment)).array(ports),
            "fail_valid":  Out(1),
            "fail_queue":  Out(16),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        sizes = dict(num_queues=self.num_queues, ports=self.ports, max_ahead=self.max_ahead)
        m.submodules.ask    = ask    = Ask(**sizes)
        m.submodules.ahead  = ahead  = Ahead(**sizes)
        m.submodules.reads  = reads  = Reads(width=self.width, **sizes)
        m.submodules.follow = follow = Follow(**sizes, max_table=self.max_table)
        for k in range(self.ports):
            connect(m, follow.o[k], flipped(self.o[k]))
            m.d.comb += [
                ask.heads[k].eq(ahead.heads[k]),
                follow.heads[k].eq(ahead.heads[k]),
                follow.entries[k].eq(ahead.entries[k]),
                ask.entries[k].eq(ahead.entries[k]),
                ask.first_head[k].eq(follow.first_head[k]),
                ahead.first_head[k].eq(follow.first_head[k]),
                ask.first_entry[k].eq(follow.first_entry[k]),
            ]
        connect(m, flipped(self.i), ask.i)
        connect(m, ask.o, ahead.i_head)
        connect(m, ask.table, reads.i_table)
        connect(m, follow.single, reads.i_single)
        connect(m, reads.read, flipped(self.read))
        connect(m, reads.o, ahead.i_entry)
        connect(m, flipped(self.control), ask.control, follow.control)
        m.d.comb += [
            ask.head.eq(ahead.head),
            ask.head_port.eq(ahead.head_port),
            ahead.head_write.eq(ask.head_write),
            ahead.head_end.eq(ask.head_end),
            ahead.packed.eq(self.control.packed),
            ahead.place.eq(follow.place),
            follow.row.eq(ahead.row),
            follow.over.eq(ahead.over),
            follow.answer_valid.eq(reads.o.valid & reads.o.ready & reads.o.p.single & reads.o.p.last),
            follow.answer.eq(reads.o.p),
            self.room.eq(ask.room),
            self.soon.eq(ask.soon),
            self.fail_valid.eq(follow.fail_valid),
            self.fail_queue.eq(follow.fail_queue),
            self.busy.eq(ask.busy | reads.busy | follow.busy),
        ]
        return m
