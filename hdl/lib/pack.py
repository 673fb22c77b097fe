"""Bytes on streams: close the gaps between them, cut them where needed."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .dma import DMA_LEN_WIDTH
from .frame import frame_beat
from .slice import Slice

__all__ = ["Packer", "Cut", "cut_beat", "Cutter"]


def _keep(value, count, lanes):
    """``value`` with the bytes from ``count`` on cleared."""
    return Cat(Mux(count > k, value[8 * k:8 * k + 8], 0) for k in range(lanes))


class Packer(wiring.Component):
    """Join beats of any number of bytes into full beats; a packet keeps its length and its end.

    One beat a cycle, and one cycle more for a packet whose last bytes overflow into a beat of their own. Beats leave a
    cycle later, through registers.

    Parameters
    ----------
    width : int
        Bits per beat.

    Members
    -------
    i : In(stream(frame_beat(width)))
        ``count`` may be anything from 0 on every beat; bytes beyond it do not matter.
    o : Out(stream(frame_beat(width)))
        Only the last beat is partial, and its bytes beyond ``count`` are 0; an empty packet is one beat of ``count`` 0.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i": In(stream.Signature(frame_beat(width))),
            "o": Out(stream.Signature(frame_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        m.submodules.slice = slice = Slice(frame_beat(self.width))
        connect(m, slice.o, flipped(self.o))
        o = slice.i
        held, level = Signal(self.width), Signal(range(lanes))   # bytes that wait for company
        tail, tail_error = Signal(), Signal()                    # they are the end of a packet

        both  = Signal(2 * self.width)
        total = Signal(range(2 * lanes + 1))
        rest  = Signal(range(lanes + 1))
        full  = Signal()
        m.d.comb += [
            both.eq(held | (_keep(self.i.p.data, self.i.p.count, lanes) << (level << 3))),
            total.eq(level + self.i.p.count),
            full.eq(total >= lanes),
            rest.eq(total - lanes),
        ]
        with m.If(tail):
            m.d.comb += [
                o.valid.eq(1),
                o.p.data.eq(held),
                o.p.count.eq(level),
                o.p.last.eq(1),
                o.p.error.eq(tail_error),
            ]
            with m.If(o.ready):
                m.d.sync += [tail.eq(0), held.eq(0), level.eq(0)]
        with m.Else():
            m.d.comb += [
                o.valid.eq(self.i.valid & (full | self.i.p.last)),
                self.i.ready.eq(o.ready | ~(full | self.i.p.last)),
                o.p.data.eq(both[:self.width]),
                o.p.count.eq(Mux(full, lanes, total)),
                o.p.last.eq(self.i.p.last & (~full | (rest == 0))),
                o.p.error.eq(self.i.p.error),
            ]
            with m.If(self.i.valid & self.i.ready):
                with m.If(full):
                    m.d.sync += [
                        held.eq(both[self.width:]),
                        level.eq(rest),
                        tail.eq(self.i.p.last & (rest != 0)),
                        tail_error.eq(self.i.p.error),
                    ]
                with m.Elif(self.i.p.last):
                    m.d.sync += [held.eq(0), level.eq(0)]
                with m.Else():
                    m.d.sync += [held.eq(both), level.eq(total)]
        return m


class Cut(data.Struct):
    """Cut off the next ``len`` bytes, 1 or more."""
    len: unsigned(DMA_LEN_WIDTH)


def cut_beat(width):
    """Beat of a piece: as of :func:`ringnic.hdl.lib.dma.write_beat`, with the number of its bytes."""
    return data.StructLayout({"data": width, "count": range(width // 8 + 1), "last": 1})


class Cutter(wiring.Component):
    """Cut a stream of bytes into pieces, each packed from lane 0 of a beat of its own.

    One beat a cycle, and one cycle more for each piece. The pieces of a packet add up to its length.

    Members
    -------
    i : In(stream(frame_beat(width)))
        Packed, bytes beyond ``count`` 0; packet ends do not matter here.
    i_cut : In(stream(Cut)), o : Out(stream(cut_beat(width)))
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i":     In(stream.Signature(frame_beat(width))),
            "i_cut": In(stream.Signature(Cut)),
            "o":     Out(stream.Signature(cut_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        held, level = Signal(self.width), Signal(range(lanes + 1))
        left, cutting = Signal(DMA_LEN_WIDTH), Signal()

        # Of the beat to come: its bytes, whether those held are too few for it, whether it is the piece's last. Registers, found
        # with what is ``left`` after this one.
        want, short, last = Signal(range(lanes + 1)), Signal(), Signal()
        next_left, next_level, next_want = Signal.like(left), Signal.like(level), Signal.like(want)
        both  = Signal(2 * self.width)
        m.d.comb += [
            next_left.eq(Mux(cutting, left - want, self.i_cut.p.len)),
            next_level.eq(Mux(cutting, level + Mux(short, self.i.p.count, 0) - want, level)),
            next_want.eq(Mux(next_left > lanes, lanes, next_left)),
            both.eq(Mux(short, held | (self.i.p.data << (level << 3)), held)),
            self.o.p.data.eq(both[:self.width]),
            self.o.p.count.eq(want),
            self.o.p.last.eq(last),
            self.o.valid.eq(cutting & (~short | self.i.valid)),
            self.i.ready.eq(cutting & short & self.o.ready),
            self.i_cut.ready.eq(~cutting),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += held.eq(both >> (want << 3))
            with m.If(last):
                m.d.sync += cutting.eq(0)
        with m.If(self.i_cut.valid & self.i_cut.ready):
            m.d.sync += cutting.eq(1)
        with m.If(~cutting | (self.o.valid & self.o.ready)):
            m.d.sync += [
                left.eq(next_left),
                level.eq(next_level),
                want.eq(next_want),
                short.eq(next_level < next_want),
                last.eq(next_left <= lanes),
            ]
        return m
