"""A memory of whole packets: what is not kept leaves no trace."""

from amaranth import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ...hdl.pcie.tlp_stream import tlp_beat

__all__ = ["PacketStore"]


class PacketStore(wiring.Component):
    """Keep packets, in order, until they are taken. A packet can leave in the cycle after its last beat.

    Parameters
    ----------
    width : int
    depth, packets : int
        Beats and packets that fit; powers of two.
    note : shape-castable
        What is kept with each packet.

    Members
    -------
    i : In(stream(tlp_beat(width))), i_keep : In(1), i_note : In(note)
        ``i_keep`` and ``i_note`` count with the last beat.
    o : Out(stream(tlp_beat(width))), o_note : Out(note)
        The note is there with every beat of the packet.
    level : Out(range(packets + 1))
        Packets that have not left completely.
    """
    def __init__(self, *, width, depth, packets, note):
        self.width, self.depth, self.packets = width, depth, packets
        self.note = note
        super().__init__({
            "i": In(stream.Signature(tlp_beat(width))),
            "i_keep": In(1),
            "i_note": In(note),
            "o": Out(stream.Signature(tlp_beat(width))),
            "o_note": Out(note),
            "level": Out(range(packets + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        mark = Cat(self.i.p.dws, self.i.p.last)
        # Asynchronous reads: a simulator has them for nothing.
        m.submodules.beats = beats = memory.Memory(shape=self.width, depth=self.depth, init=[])
        m.submodules.marks = marks = memory.Memory(shape=len(mark), depth=self.depth, init=[])
        m.submodules.notes = notes = memory.Memory(shape=self.note, depth=self.packets, init=[])
        put, put_mark, put_note = (one.write_port() for one in (beats, marks, notes))
        get, get_mark, get_note = (one.read_port(domain="comb") for one in (beats, marks, notes))

        # Next free beat, first beat of the packet that comes, next beat to leave; and the same of notes.
        head, begin, tail = (Signal(range(2 * self.depth), name=name) for name in ("head", "begin", "tail"))
        noted, left = (Signal(range(2 * self.packets), name=name) for name in ("noted", "left"))
        takes, gives = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        m.d.comb += [
            self.level.eq((noted - left)[:len(noted)]),
            self.i.ready.eq(((head ^ tail) != self.depth) & ((noted ^ left) != self.packets)),
            put.addr.eq(head), put.data.eq(self.i.p.data), put.en.eq(takes),
            put_mark.addr.eq(head), put_mark.data.eq(mark), put_mark.en.eq(takes),
            put_note.addr.eq(noted), Value.cast(put_note.data).eq(self.i_note), put_note.en.eq(takes & self.i.p.last),
            get.addr.eq(tail), get_mark.addr.eq(tail), get_note.addr.eq(left),
            self.o.valid.eq(noted != left),
            self.o.p.data.eq(get.data),
            Cat(self.o.p.dws, self.o.p.last).eq(get_mark.data),
            Value.cast(self.o_note).eq(get_note.data),
        ]
        with m.If(takes):
            m.d.sync += head.eq(head + 1)
            with m.If(self.i.p.last & self.i_keep):
                m.d.sync += [begin.eq(head + 1), noted.eq(noted + 1)]
            with m.Elif(self.i.p.last):
                m.d.sync += head.eq(begin)
        with m.If(gives):
            m.d.sync += tail.eq(tail + 1)
            with m.If(self.o.p.last):
                m.d.sync += left.eq(left + 1)
        return m
