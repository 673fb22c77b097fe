"""What stands between somebody's endpoint and the root complex: no TLP ends before its header says so."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ...hdl.pcie.tlp_stream import tlp_beat

__all__ = ["LONGEST", "Guard"]

LONGEST = 2048     # DWs after which a TLP is cut; no TLP has more than 1029


class Guard(wiring.Component):
    """Pass TLPs on in the same cycle, and keep from the root complex what it could not read.

    A TLP that ends early is filled up with zeros until it is longer than its header says, so that the root complex finds the
    wrong length and reports it. One that never ends is cut. ``dws`` is at most the width, and a TLP without any DW is dropped.

    Parameters
    ----------
    width : int

    Members
    -------
    i : In(stream), o : Out(stream)
        Beats as :func:`.tlp_beat` has them.
    busy : Out(1)
        Beats are still to be added or dropped.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i":    In(stream.Signature(tlp_beat(width))),
            "o":    Out(stream.Signature(tlp_beat(width))),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        given, sent = self.i.payload, self.o.payload
        dws = Signal(range(lanes + 1))
        m.d.comb += dws.eq(Mux(given.dws > lanes, lanes, given.dws))

        # Header DW 0, whose byte 0 is in the lowest bits: Fmt, and Length from the bytes 2 and 3.
        fmt, length = given.data[5:8], Cat(given.data[24:32], given.data[16:18])
        said, told = (Signal(range(4 + 1024 + 1), name=name) for name in ("said", "told"))   # DWs by the header
        passed = Signal(range(2 * LONGEST))
        begun, now = Signal(), Signal(range(2 * LONGEST))
        m.d.comb += [
            told.eq(Mux(begun, said, 3 + fmt[0] + Mux(fmt[1], Mux(length == 0, 1024, length), 0))),
            now.eq(passed + dws),
            sent.data.eq(given.data),
            sent.dws.eq(dws),
        ]
        with m.FSM():
            with m.State("PASS"):
                empty, early = ~begun & (dws == 0), given.last & (now < told)
                m.d.comb += [
                    sent.last.eq((given.last | (now >= LONGEST)) & ~early),
                    self.o.valid.eq(self.i.valid & ~empty),
                    self.i.ready.eq(self.o.ready | empty),
                ]
                with m.If(self.o.valid & self.o.ready):
                    m.d.sync += [begun.eq(~given.last | early), said.eq(told), passed.eq(Mux(given.last & ~early, 0, now))]
                    with m.If(early):
                        m.next = "FILL"
                    with m.Elif(sent.last & ~given.last):
                        m.next = "DROP"
            with m.State("FILL"):
                filled = passed + lanes
                m.d.comb += [
                    sent.data.eq(0), sent.dws.eq(lanes), sent.last.eq(filled > said), self.o.valid.eq(1), self.busy.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += passed.eq(filled)
                    with m.If(sent.last):
                        m.d.sync += [passed.eq(0), begun.eq(0)]
                        m.next = "PASS"
            with m.State("DROP"):
                m.d.comb += [self.i.ready.eq(1), self.busy.eq(1)]
                with m.If(self.i.valid & given.last):
                    m.d.sync += [passed.eq(0), begun.eq(0)]
                    m.next = "PASS"
        return m
