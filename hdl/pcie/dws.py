"""TLPs a DW at a time."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .tlp_stream import tlp_beat

__all__ = ["DwsToTlp", "TlpToDws", "dw_layout"]

#: A DW as it lies on the TLP seam; ``last``: of its TLP.
dw_layout = data.StructLayout({"dw": 32, "last": 1})


class TlpToDws(wiring.Component):
    """Give the DWs of each beat, one a cycle, in the cycle in which it is there.

    Members
    -------
    i : In(stream(tlp_beat(width))), o : Out(stream(dw_layout))
    """
    def __init__(self, *, width):
        self.lanes = width // 32
        super().__init__({"i": In(stream.Signature(tlp_beat(width))), "o": Out(stream.Signature(dw_layout))})

    def elaborate(self, platform):
        m = Module()
        lane, end = Signal(range(self.lanes)), Signal()
        m.d.comb += [
            end.eq(lane + 1 == self.i.payload.dws),
            self.o.p.dw.eq(self.i.payload.data.word_select(lane, 32)),
            self.o.p.last.eq(end & self.i.payload.last),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & end),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += lane.eq(Mux(end, 0, lane + 1))
        return m


class DwsToTlp(wiring.Component):
    """Gather DWs into full beats, one a cycle.

    Members
    -------
    i : In(stream(dw_layout))
    o : Out(stream(tlp_beat(width)))
        From registers, a cycle after the last DW of the beat came.
    """
    def __init__(self, *, width):
        self.lanes = width // 32
        super().__init__({"i": In(stream.Signature(dw_layout)), "o": Out(stream.Signature(tlp_beat(width)))})

    def elaborate(self, platform):
        m = Module()
        lane = Signal(range(self.lanes))
        full = self.i.p.last | (lane == self.lanes - 1)
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid & full),
                self.o.payload.data.word_select(lane, 32).eq(self.i.p.dw),
                self.o.payload.dws.eq(lane + 1),
                self.o.payload.last.eq(self.i.p.last),
            ]
            with m.If(self.i.valid):
                m.d.sync += lane.eq(Mux(full, 0, lane + 1))
        return m
