"""Store whole packets, then forward them."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .frame import frame_beat
from .queue import Queue

__all__ = ["PacketQueue"]


class PacketQueue(wiring.Component):
    """Hold packets until they are complete; then they leave without pause. Damaged ones never do.

    A packet can leave three cycles after its last beat came. One beat a cycle in and out.

    Parameters
    ----------
    width : int
        Bits per beat.
    depth : int
        Beats, a power of two, else :exc:`ValueError`.
    max_packets : int
    drop_on_full : bool
        Take every beat at once and lose a packet that finds no room, whole; else wait for room. Then the sender
        must know that its packet fits.
    note_width : int
        Bits of a note that goes with each packet.
    lengths : bool
        ``o_len`` and the notes are there.

    Members
    -------
    i : In(stream(frame_beat(width))), i_note : In(note_width)
        Packed: only the last beat is partial; it may be empty, and then takes no room but in an empty packet. The data of an
        empty one is that of the beat before. The note is valid with the last beat.
    o : Out(stream(frame_beat(width)))
        From registers.
    o_len : Out(stream(16)), o_note : Out(note_width)
        Length of each packet in bytes, and with it the note, there no later than its first beat.
    kept : Out(1)
        Strobe: a packet was stored, and will leave.
    free : Out
        Beats of room.
    packets : Out
        Packets inside that have a share of ``max_packets``, as of the cycle before: those whose last beat or length has not left.
    lost : Out(1)
        Strobe: a packet found no room.
    busy : Out(1)
        There are beats inside.
    """
    def __init__(self, *, width, depth, max_packets, drop_on_full, note_width=0, lengths=True):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Packet queue depth must be a power of 2 of at least 2 beats, not {depth!r}")
        self.width = width
        self.depth = depth
        self.max_packets = max_packets
        self.drop_on_full = drop_on_full
        self.note_width = note_width
        self.lengths = lengths
        super().__init__({
            "i":     In(stream.Signature(frame_beat(width))),
            **({"i_note": In(note_width)} if lengths else {}),
            "o":     Out(stream.Signature(frame_beat(width))),
            **({"o_len": Out(stream.Signature(16)), "o_note": Out(note_width)} if lengths else {}),
            "kept":  Out(1),
            "free":  Out(range(depth + 1)),
            "packets": Out(range(max_packets + 1)),
            "lost":  Out(1),
            "busy":  Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        pointer = range(2 * self.depth)
        # A block RAM has nine bits for eight of data, so what is said of a beat has room beside it. A beat becomes the last one
        # when nothing comes behind it but an empty beat: then it is written again.
        row = data.StructLayout({"data": self.width, "count": range(lanes + 1), "last": 1})
        m.submodules.beats = beats = memory.Memory(shape=row, depth=self.depth, init=[])
        write = beats.write_port()

        # In
        head, begin, tail = Signal(pointer), Signal(pointer), Signal(pointer)  # next free, start of packet, next out
        latest = Signal(self.depth.bit_length() - 1)                           # where the last beat was stored
        first, stores = Signal(init=1), Signal()                               # beat of its packet; it takes room
        room, spoilt, keep = Signal(), Signal(), Signal()
        after = Signal(pointer)  # next free once this beat is stored
        held = Signal(range(self.max_packets + 1))
        full = Signal()          # of packets
        m.d.comb += [
            self.free.eq(self.depth - (head - tail)[:len(head)]),
            room.eq((head ^ tail) != self.depth),
            full.eq(held == self.max_packets),
            stores.eq((self.i.p.count != 0) | first),
            after.eq(head + stores),
            write.addr.eq(Mux(stores, head, latest)),
            write.data.data.eq(self.i.p.data),
            write.data.count.eq(Mux(stores, self.i.p.count, lanes)),
            write.data.last.eq(self.i.p.last),
            self.i.ready.eq(1 if self.drop_on_full else (room & ~full)),
            keep.eq(room & ~spoilt & ~full),
        ]
        level = self._lengths(m, full) if self.lengths else 0
        m.d.sync += self.packets.eq(Mux(level > held, level, held))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += first.eq(self.i.p.last)
            with m.If(room & ~spoilt):
                m.d.comb += write.en.eq(1)
                m.d.sync += [head.eq(after), latest.eq(head)]
            with m.Else():
                m.d.sync += spoilt.eq(1)
            with m.If(self.i.p.last):
                m.d.sync += [spoilt.eq(0), begin.eq(after)]
                with m.If(keep & ~self.i.p.error):
                    m.d.comb += self.kept.eq(1)
                with m.Else():
                    m.d.sync += [head.eq(begin), begin.eq(begin)]
                    m.d.comb += self.lost.eq(~self.i.p.error)

        # Out: what lies ahead of the packet that comes is complete. A beat waits in the memory's output while the one before it
        # waits in the register.
        read = beats.read_port()
        came, reads, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            reads.eq((tail != begin) & (~came | moves)),
            read.addr.eq(tail),
            # What is written is behind ``begin``, and what is read before it: of a packet that is not spoilt ``latest`` is, too.
            # Said like this, synthesis needs no logic for the case that a row is read while it is written.
            read.en.eq(reads & ~(room & ~spoilt & (write.addr == read.addr))),
            self.busy.eq((head != tail) | came | self.o.valid),
        ]
        m.d.sync += [
            came.eq(reads | (came & ~moves)),
            tail.eq(tail + reads),
            held.eq(held + self.kept - (self.o.valid & self.o.ready & self.o.p.last)),
        ]
        with m.If(moves):
            m.d.sync += [
                self.o.valid.eq(came),
                self.o.p.data.eq(read.data.data),
                self.o.p.last.eq(read.data.last),
                self.o.p.count.eq(read.data.count),
            ]
        return m

    def _lengths(self, m, full):
        """Add up the length of each packet that is kept, and queue it with its note. Return how many wait; ``full`` when no more
        can."""
        m.submodules.told = told = Queue(data.StructLayout({"len": 16, "note": self.note_width}), self.max_packets)
        before, length = Signal(16), Signal(16)
        m.d.comb += [
            length.eq(before + self.i.p.count),
            told.i.valid.eq(self.kept),
            told.i.p.len.eq(length),
            told.i.p.note.eq(self.i_note),
            self.o_len.p.eq(told.o.p.len),
            self.o_note.eq(told.o.p.note),
            self.o_len.valid.eq(told.o.valid),
            told.o.ready.eq(self.o_len.ready),
        ]
        with m.If(~told.i.ready):
            m.d.comb += full.eq(1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += before.eq(Mux(self.i.p.last, 0, length))
        return told.level
