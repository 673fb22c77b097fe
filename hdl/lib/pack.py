"""Bytes on streams: close the gaps between them, part them where needed."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .dma import DMA_LEN_WIDTH, write_beat
from .frame import frame_beat

__all__ = ["part_beat", "Packer", "cut_layout", "Cutter"]


def part_beat(width):
    """Beat of a packet that may have any number of bytes: ``count`` of them, the first one in lane ``skip``, the others in the
    lanes behind it. ``error`` is valid with ``last``."""
    return data.StructLayout({"data": width, "skip": range(width // 8), "count": range(width // 8 + 1), "last": 1, "error": 1})


class Packer(wiring.Component):
    """Join beats of any number of bytes into full beats; a packet keeps its length and its end.

    One beat a cycle, and one cycle more for a packet whose last bytes overflow into a beat of their own. Beats leave in the
    cycle in which they are full, and ``i.ready`` follows ``o.ready``.

    Parameters
    ----------
    width : int
        Bits per beat.

    Members
    -------
    i : In(stream(part_beat(width)))
        Bytes that are not counted do not matter.
    o : Out(stream(frame_beat(width)))
        Only the last beat is partial, and its bytes beyond ``count`` are 0; an empty packet is one beat of ``count`` 0.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i": In(stream.Signature(part_beat(width))),
            "o": Out(stream.Signature(frame_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        o = self.o
        held, level = Signal(self.width), Signal(range(lanes))   # its first ``level`` bytes wait for company
        tail, tail_error = Signal(), Signal()                    # they are the end of a packet

        # The first byte that comes goes to lane ``level``; what overflows goes round, to where it is held.
        turn, turned = Signal(range(lanes)), Signal(self.width)
        total, rest, full = Signal(range(2 * lanes + 1)), Signal(range(lanes + 1)), Signal()
        m.d.comb += [
            turn.eq(level - self.i.p.skip),
            total.eq(level + Mux(tail, 0, self.i.p.count)),
            full.eq(total >= lanes),
            rest.eq(total - lanes),
        ]
        stage = self.i.p.data
        for k, turns in enumerate(turn):
            stage = Mux(turns, stage.rotate_left(8 << k), stage)
        m.d.comb += turned.eq(stage)
        m.d.comb += [
            o.valid.eq(tail | (self.i.valid & (full | self.i.p.last))),
            o.p.count.eq(Mux(full, lanes, total)),
            o.p.last.eq(tail | (self.i.p.last & (~full | (rest == 0)))),
            o.p.error.eq(Mux(tail, tail_error, self.i.p.error)),
            self.i.ready.eq(~tail & (o.ready | ~(full | self.i.p.last))),
        ]
        moves = self.i.valid & self.i.ready
        for k in range(lanes):
            lane, waits = slice(8 * k, 8 * k + 8), level > k
            m.d.comb += o.p.data[lane].eq(Mux(waits, held[lane], Mux(total > k, turned[lane], 0)))
            with m.If(moves & (full | ~waits)):
                m.d.sync += held[lane].eq(turned[lane])
        with m.If(tail & o.ready):
            m.d.sync += [tail.eq(0), level.eq(0)]
        with m.If(moves):
            m.d.sync += tail_error.eq(self.i.p.error)
            with m.If(full):
                m.d.sync += [level.eq(rest), tail.eq(self.i.p.last & (rest != 0))]
            with m.Else():
                m.d.sync += level.eq(Mux(self.i.p.last, 0, total))
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
