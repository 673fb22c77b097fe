"""Received packets that begin and end in mid-beat, with 128 bits: each on beats of its own.

Ref: PG054, "Straddled Packets on the Receive Interface" and the table "Receive Interface Port Descriptions".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ...spec.bar import BAR_INDEX
from ...spec.pcie_7x import RxUser

__all__ = ["WIDTH", "Straddle", "packet_beat"]

WIDTH = 128
HALF = WIDTH // 2


def packet_beat(width):
    """``data``: DWs as numbers; ``dws``: valid ones from the lowest, all of them but on the last beat. ``hit``: with the first
    beat, the packet is for our BAR."""
    return data.StructLayout({"data": width, "dws": range(width // 32 + 1), "last": 1, "hit": 1})


class Straddle(wiring.Component):
    """Shift a packet that begins in the upper half of a beat by half a beat.

    Adds no cycle, but for a beat of its own at the end of a shifted packet that ends in the upper half.

    Members
    -------
    valid : In(1), ready : Out(1), beat : In(128), user : In(22)
        The block's ``m_axis_rx_tvalid``, ``tready``, ``tdata`` and ``tuser``. ``tlast`` and ``tkeep`` mean nothing: ``tuser``
        says where packets begin and end. Our reading: where two packets share a beat, the BAR is that of the one that begins.
    o : Out(stream.Signature(packet_beat(128)))
    """
    valid: In(1)
    ready: Out(1)
    beat:  In(WIDTH)
    user:  In(22)
    o: Out(stream.Signature(packet_beat(WIDTH)))

    def elaborate(self, platform):
        m = Module()
        sof, eof = self.user[RxUser.SOF], self.user[RxUser.EOF]   # a valid bit above the number of the byte
        starts_high, ends, end = sof[4] & sof[3], eof[4], eof[2:4]
        ends_low = ends & ~end[1]
        low, high = self.beat[:HALF], self.beat[HALF:]
        hit = self.user[RxUser.BAR_HIT][BAR_INDEX]

        # ``held`` is the upper half of the beat before: where a packet goes on (``shifted``), or all that is left of it.
        held, held_hit, shifted, rest, rest_dws = Signal(HALF), Signal(), Signal(), Signal(), Signal(2)
        out, nothing = self.o.p, Signal()
        m.d.comb += [
            nothing.eq(~shifted & starts_high & ~ends),
            self.o.valid.eq(rest | (self.valid & ~nothing)),
            self.ready.eq(~rest & (self.o.ready | nothing)),
            out.hit.eq(Mux(shifted | rest, held_hit, hit)),
        ]
        with m.If(rest):
            m.d.comb += [out.data.eq(held), out.dws.eq(rest_dws), out.last.eq(1)]
            with m.If(self.o.ready):
                m.d.sync += rest.eq(0)
        with m.Elif(shifted):
            m.d.comb += [out.data.eq(Cat(held, low)), out.dws.eq(Mux(ends_low, end + 3, 4)), out.last.eq(ends_low)]
        with m.Else():
            m.d.comb += [out.data.eq(self.beat), out.dws.eq(Mux(ends, end + 1, 4)), out.last.eq(ends)]
        with m.If(self.valid & self.ready):
            m.d.sync += [
                held.eq(high),
                held_hit.eq(hit),
                shifted.eq(starts_high | (shifted & ~ends)),
                rest.eq(shifted & ends & end[1]),
                rest_dws.eq(end - 1),
            ]
        return m
