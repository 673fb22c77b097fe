"""Heads and table entries of all ports, kept in one memory until it is their turn.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.8.13 "Virtqueue structures": descriptors of both formats.
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..spec.virtio import VirtqDesc
from .store import port_head

__all__ = ["HEAD_BITS", "HEADS", "Ahead", "Layouts"]

HEADS = 32  # kept for each port: tables of short chains are asked for as far ahead
HEAD_BITS = HEADS.bit_length()  # of the position of a head, which counts to twice as many


class Layouts:
    """Shapes of what the parts of :class:`.walk.Walk` tell one another.

    Attributes
    ----------
    room : int
        Entries of tables for which a port has places: a power of two of at least four tables.
    index_bits : int
        What of a position names a row.
    position : Shape
        Of an entry of a port, counted from reset on, modulo at least four times ``room``. A difference of two is a signed number,
        for what is read may be further than what is written: entries of a chain that failed are left out. That of a head has
        HEAD_BITS.
    port : Shape
    head : data.Layout
        A head, and the port that it is for.
    row : data.Layout
        What is kept. Of a head, ``end``: where the entries end that were asked for with it. Of an entry or a single descriptor
        ``id``, ``queue`` and ``end`` mean nothing; with ``error`` it could not be read. ``over``: the buffer runs
        past the end of the address space; to end there is allowed. ``flags`` are where a split descriptor has them.
    entry : data.Layout
        An entry of a table, with ``last`` the last one that comes of it, and the next entry is at ``end`` then. Or the answer of
        a ``single`` read, whose last element it is with ``last``.
    place : data.Layout
        Which row to read: of an entry (``table``) or of a head.
    """
    def __init__(self, *, num_queues, ports, max_ahead):
        self.room = 1 << (4 * max_ahead - 1).bit_length()
        self.index_bits = (max(HEADS, self.room) - 1).bit_length()
        self.position = unsigned(self.index_bits + 2)
        queue = unsigned((max(2, num_queues) - 1).bit_length())
        self.head = port_head(ports)
        self.port = self.head["port"].shape
        self.row = data.StructLayout({
            "addr": 64, "len": 32, "flags": 3, "next": 16, "over": 1, "error": 1,
            "id": 16, "queue": queue, "end": self.position})
        self.entry = data.StructLayout({
            "port": self.port, "single": 1, "end": self.position, "desc": VirtqDesc, "last": 1, "error": 1})
        self.place = data.StructLayout({"position": self.position, "table": 1, "port": self.port})


class Ahead(wiring.Component):
    """Write heads and entries, one a cycle, and read rows, one a cycle.

    What is taken in one cycle is written in the next, an entry without fail. A head waits for ``head_write``, and entries with
    it. So an entry waits for a cycle when a head is taken, and for those in which it is looked at.

    Parameters
    ----------
    num_queues, ports, max_ahead : int
        See :class:`Layouts`.

    Members
    -------
    packed : In(1)
        RING_PACKED was negotiated.
    i_head : In(stream(Layouts.head))
        The sender has made sure that there is room.
    head_valid : Out(1), head : Out(Layouts.row), head_port : Out
        The head that was taken and is not written yet; its ``end`` means nothing.
    head_write : In(1), head_end : In(Layouts.position)
        Write it, with this ``end``. Only while ``head_valid`` is high.
    i_entry : In(stream(Layouts.entry))
        There is room for all that was asked for, and for one entry more. A single descriptor takes the place of the oldest head.
    over : Out(1)
        ``over`` of the entry that was taken in the cycle before.
    first_head : In(HEAD_BITS).array(ports)
        Oldest head of each port that is kept.
    heads : Out(HEAD_BITS).array(ports), entries : Out(Layouts.position).array(ports)
        Where those end that can be read.
    place : In(Layouts.place), row : Out(Layouts.row)
        ``row`` shows, in the next cycle, the row that ``place`` names in this one. From block RAM, which is slow.
    """
    def __init__(self, *, num_queues, ports, max_ahead):
        self.ports = ports
        self.layouts = layouts = Layouts(num_queues=num_queues, ports=ports, max_ahead=max_ahead)
        super().__init__({
            "packed":     In(1),
            "i_head":     In(stream.Signature(layouts.head)),
            "head_valid": Out(1),
            "head":       Out(layouts.row),
            "head_port":  Out(layouts.port),
            "head_write": In(1),
            "head_end":   In(layouts.position),
            "i_entry":    In(stream.Signature(layouts.entry)),
            "over":       Out(1),
            "first_head": In(HEAD_BITS).array(ports),
            "heads":      Out(HEAD_BITS).array(ports),
            "entries":    Out(layouts.position).array(ports),
            "place":      In(layouts.place),
            "row":        Out(layouts.row),
        })

    def elaborate(self, platform):
        m = Module()
        index_bits = self.layouts.index_bits
        port_bits = Shape.cast(self.layouts.port).width
        m.submodules.rows = rows = memory.Memory(shape=self.layouts.row, depth=1 << (index_bits + 1 + port_bits), init=[])
        write, read = rows.write_port(), rows.read_port()

        kept, port = Signal(self.layouts.row), Signal(self.layouts.port)
        waits = Signal()                               # ``kept`` is an entry
        single, last, end = Signal(), Signal(), Signal(self.layouts.position)
        low_end = Signal(33)                           # where the buffer would end, were its address one of 32 bits
        at_top = Signal()                              # it begins in the last 4 GiB
        held = self.head_valid & ~self.head_write
        entry, head = self.i_entry.p, self.i_head.p.taken.head
        addr, length = Signal(64), Signal(32)
        m.d.comb += [
            self.i_head.ready.eq(~held),
            self.i_entry.ready.eq(~held & ~self.i_head.valid),
            addr.eq(Mux(self.i_head.valid, head.addr, entry.desc.addr)),
            length.eq(Mux(self.i_head.valid, head.len, entry.desc.len)),
            self.over.eq(at_top & low_end[32] & (low_end[:32] != 0)),
        ]
        with m.If(~held):
            m.d.sync += [
                self.head_valid.eq(self.i_head.valid),
                waits.eq(self.i_entry.valid & ~self.i_head.valid),
                kept.addr.eq(addr),
                kept.len.eq(length),
                low_end.eq(addr[:32] + length),
                at_top.eq(addr[32:].all()),
                # A packed descriptor has its flags where a split one has ``next`` (2.8.13).
                kept.flags.eq(Mux(self.i_head.valid, head.flags,
                                  Mux(self.packed, entry.desc.next[:3], Value.cast(entry.desc.flags)[:3]))),
                kept.next.eq(Mux(self.i_head.valid, head.next, entry.desc.next)),
                kept.error.eq(entry.error & ~self.i_head.valid),
                kept.id.eq(head.id),
                kept.queue.eq(self.i_head.p.taken.queue),
                port.eq(Mux(self.i_head.valid, self.i_head.p.port, entry.port)),
                single.eq(entry.single),
                last.eq(entry.last),
                end.eq(entry.end),
            ]
        m.d.comb += [self.head.eq(kept), self.head_port.eq(port)]

        at = Signal(self.layouts.position)
        table = waits & ~single
        m.d.comb += [
            write.en.eq(self.head_write | waits),
            write.addr.eq(Cat(at[:index_bits], table, port)),
            write.data.eq(kept),
            write.data.over.eq(self.over),
            write.data.end.eq(self.head_end),
            read.addr.eq(Cat(self.place.position[:index_bits], self.place.table, self.place.port)),
            # The row that is written now is not wanted yet. Said like this, synthesis needs no logic for the case that it is.
            read.en.eq(~(write.en & (write.addr == read.addr))),
            self.row.eq(read.data),
        ]
        for k, (first, heads, entries) in enumerate(zip(self.first_head, self.heads, self.entries)):
            with m.If(port == k):
                m.d.comb += at.eq(Mux(table, entries, Mux(waits, first, heads)[:HEAD_BITS - 1]))
                with m.If(self.head_write):
                    m.d.sync += heads.eq(heads + 1)
                with m.If(table):
                    m.d.sync += entries.eq(Mux(last, end, entries + 1))
        return m
