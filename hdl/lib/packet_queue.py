"""Store whole packets, then forward them."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

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

    Members
    -------
    i : In(stream(frame_beat(width))), i_note : In(note_width)
        Packed: only the last beat is partial; it may be empty, and then takes no room but in an empty packet. The note is
        valid with the last beat.
    o : Out(stream(frame_beat(width)))
    o_len : Out(stream(16)), o_note : Out(note_width)
        Length of each packet in bytes, and with it the note, there no later than its first beat.
    kept : Out(1)
        Strobe: a packet was stored, and will leave.
    free : Out
        Beats of room.
    packets : Out
        Packets inside that have a share of ``max_packets``, as of the cycle before.
    lost : Out(1)
        Strobe: a packet found no room.
    busy : Out(1)
        There are beats inside.
    """
    def __init__(self, *, width, depth, max_packets, drop_on_full, note_width=0):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Packet queue depth must be a power of 2 of at least 2 beats, not {depth!r}")
        self.width = width
        self.depth = depth
        self.max_packets = max_packets
        self.drop_on_full = drop_on_full
        self.note_width = note_width
        super().__init__({
            "i":     In(stream.Signature(frame_beat(width))),
            "i_note": In(note_width),
            "o":     Out(stream.Signature(frame_beat(width))),
            "o_len": Out(stream.Signature(16)),
            "o_note": Out(note_width),
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
        m.submodules.beats = beats = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write, read = beats.write_port(), beats.read_port()
        m.submodules.told   = told   = Queue(
            data.StructLayout({"len": 16, "note": self.note_width}), self.max_packets)
        m.submodules.stored = stored = Queue(16, self.max_packets)

        # In
        head, begin, tail = Signal(pointer), Signal(pointer), Signal(pointer)  # next free, start of packet, next out
        length, room, spoilt, keep = Signal(16), Signal(), Signal(), Signal()
        after = Signal(pointer)  # next free once this beat is stored: what is read is as many beats as the length says
        m.d.comb += [
            self.free.eq(self.depth - (head - tail)[:len(head)]),
            room.eq((head ^ tail) != self.depth),
            after.eq(head + ((self.i.p.count != 0) | (length == 0))),
            write.addr.eq(head),
            write.data.eq(self.i.p.data),
            self.i.ready.eq(1 if self.drop_on_full else (room & told.i.ready & stored.i.ready)),
            told.i.p.len.eq(length + self.i.p.count),
            told.i.p.note.eq(self.i_note),
            self.o_len.p.eq(told.o.p.len),
            self.o_note.eq(told.o.p.note),
            self.o_len.valid.eq(told.o.valid),
            told.o.ready.eq(self.o_len.ready),
            self.kept.eq(told.i.valid & told.i.ready),
            stored.i.p.eq(length + self.i.p.count),
            keep.eq(room & ~spoilt & told.i.ready & stored.i.ready),
        ]
        m.d.sync += self.packets.eq(Mux(told.level > stored.level, told.level, stored.level))
        with m.If(self.i.valid & self.i.ready):
            with m.If(room & ~spoilt):
                m.d.comb += write.en.eq(1)
                m.d.sync += [head.eq(after), length.eq(length + self.i.p.count)]
            with m.Else():
                m.d.sync += spoilt.eq(1)
            with m.If(self.i.p.last):
                m.d.sync += [length.eq(0), spoilt.eq(0), begin.eq(after)]
                with m.If(keep & ~self.i.p.error):
                    m.d.comb += [told.i.valid.eq(1), stored.i.valid.eq(1)]
                with m.Else():
                    m.d.sync += [head.eq(begin), begin.eq(begin)]
                    m.d.comb += self.lost.eq(~self.i.p.error)

        # Out: a few beats are read ahead of the consumer.
        m.submodules.ahead = ahead = Queue(frame_beat(self.width), 4)
        connect(m, ahead.o, flipped(self.o))
        left, reading = Signal(16), Signal()   # bytes of the packet not yet read
        came, came_count, came_last = Signal(), Signal(range(lanes + 1)), Signal()
        now = Signal(16)
        m.d.comb += [
            now.eq(Mux(reading, left, stored.o.p)),
            read.addr.eq(tail),
            ahead.i.valid.eq(came),
            ahead.i.p.data.eq(read.data),
            ahead.i.p.count.eq(came_count),
            ahead.i.p.last.eq(came_last),
            self.busy.eq((head != tail) | came | (ahead.level != 0)),
        ]
        m.d.sync += came.eq(0)
        with m.If((reading | stored.o.valid) & (ahead.level + came < 4)):
            m.d.sync += [
                came.eq(1),
                came_count.eq(Mux(now > lanes, lanes, now)),
                came_last.eq(now <= lanes),
                left.eq(now - lanes),
                reading.eq(now > lanes),
                tail.eq(tail + 1),
            ]
            m.d.comb += stored.o.ready.eq(~reading)
        return m
