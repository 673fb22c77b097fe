"""Bytes on streams: close the gaps between them, part them where needed."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .dma import DMA_LEN_WIDTH, write_beat
from .frame import frame_beat
from .slice import Slice

__all__ = ["Packer", "cut_layout", "Cutter"]


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


def cut_layout(width):
    """The next ``len`` bytes, 1 or more, of which the first is in ``lane`` of the next beat; ``more``: the packet goes on behind
    them."""
    return data.StructLayout({"len": DMA_LEN_WIDTH, "lane": range(width // 8), "more": 1})


class Cutter(wiring.Component):
    """Give a stream of bytes in pieces, a beat after the other as they come: no byte is moved.

    One beat a cycle, and one cycle more for each piece. A beat in which one piece of a packet ends and the next begins is given
    with both.

    Members
    -------
    i : In(stream(frame_beat(width)))
        Packed.
    i_cut : In(stream(cut_layout(width)))
        The pieces of a packet follow each other without a gap, and add up to its length.
    o : Out(stream(write_beat(width)))
        ``last``: of the piece.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i":     In(stream.Signature(frame_beat(width))),
            "i_cut": In(stream.Signature(cut_layout(width))),
            "o":     Out(stream.Signature(write_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        bits = (self.width // 8).bit_length() - 1
        cut, cutting = self.i_cut.p, Signal()
        # Beats to come that the piece fills to their end; whether it ends within the one behind them, and whether that stays.
        full, within, stays = Signal(DMA_LEN_WIDTH - bits + 1), Signal(), Signal()
        end = Signal(bits + 1)
        m.d.comb += [
            end.eq(cut.lane + cut.len[:bits]),
            self.i_cut.ready.eq(~cutting),
            self.o.p.data.eq(self.i.p.data),
            self.o.p.last.eq((full == 0) | ((full == 1) & ~within)),
            self.o.valid.eq(cutting & self.i.valid),
            self.i.ready.eq(cutting & self.o.ready & ~(self.o.p.last & stays)),
        ]
        with m.If(~cutting):
            m.d.sync += [
                cutting.eq(self.i_cut.valid),
                full.eq(cut.len[bits:] + end[bits]),
                within.eq(end[:bits].any()),
                stays.eq(end[:bits].any() & cut.more),
            ]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [full.eq(full - 1), cutting.eq(~self.o.p.last)]
        return m
