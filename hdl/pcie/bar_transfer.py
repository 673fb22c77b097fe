"""Memory requests to the BAR, a register at a time.

Ref: PCI Express Base 5.0, 2.2.5 "First/Last DW Byte Enables Rules", 2.3.1.1 "Data Return for Read Requests".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.reg import RegPort
from ..spec.bar import REG_ADDR_WIDTH
from .dws import dw_layout

__all__ = ["BarTransfer"]


class BarTransfer(wiring.Component):
    """Carry out the accesses of a memory request, one DW per cycle at best. DWs without a byte enabled are not accessed, and read
    as 0.

    Members
    -------
    load : In(1), begin : In(REG_ADDR_WIDTH - 2), length : In(11)
        Strobe: a request begins at DW ``begin`` of the BAR, of ``length`` DWs.
    first_be, last_be : In(4)
        Of the request, until it is done. Of one of a single DW the first ones count.
    write, read : In(1)
        Go on, until ``done``.
    done : Out(1)
        Strobe: all is written; or all is read, or what was read is up to an address where completions are split.
    i : In(stream(dw_layout))
        What is written; not taken but with ``write``.
    put : Out(1), data : Out(32)
        Strobe: what a DW reads.
    word : Out(REG_ADDR_WIDTH - 2), remaining : Out(11)
        The next DW, and how many there still are.
    regs : Out(RegPort(REG_ADDR_WIDTH))
    """
    load:      In(1)
    begin:     In(REG_ADDR_WIDTH - 2)
    length:    In(11)
    first_be:  In(4)
    last_be:   In(4)
    write:     In(1)
    read:      In(1)
    done:      Out(1)
    i:         In(stream.Signature(dw_layout))
    put:       Out(1)
    data:      Out(32)
    word:      Out(REG_ADDR_WIDTH - 2)
    remaining: Out(11)
    regs:      Out(RegPort(REG_ADDR_WIDTH))

    def elaborate(self, platform):
        m = Module()
        req, word = self.regs.req, self.word
        first, only = Signal(), Signal()     # DW of the request; one DW remains
        be, nothing, steps, asked = Signal(4), Signal(), Signal(), Signal()
        m.d.comb += [
            be.eq(Mux(first, self.first_be, Mux(only, self.last_be, 0xf))),
            nothing.eq(be == 0),
            req.payload.addr.eq(Cat(C(0, 2), word)),
            req.payload.write.eq(self.write),
            req.payload.be.eq(be),
            req.payload.data.eq(self.i.p.dw),
            self.regs.resp.ready.eq(1),
            self.data.eq(Mux(nothing, 0, self.regs.resp.payload)),
        ]
        with m.If(self.write):
            m.d.comb += [
                req.valid.eq(self.i.valid & ~nothing),
                self.i.ready.eq(req.ready | nothing),
                steps.eq(self.i.valid & self.i.ready),
                self.done.eq(steps & self.i.p.last),
            ]
        with m.Elif(self.read & ~asked):
            m.d.comb += req.valid.eq(~nothing)
            m.d.sync += asked.eq(req.ready | nothing)
        with m.Elif(self.read):
            with m.If(self.regs.resp.valid | nothing):
                m.d.comb += [self.put.eq(1), steps.eq(1), self.done.eq(only | word[:5].all())]
                m.d.sync += asked.eq(0)
        with m.If(steps):
            m.d.sync += [word.eq(word + 1), self.remaining.eq(self.remaining - 1), only.eq(self.remaining == 2), first.eq(0)]
        with m.If(self.load):
            m.d.sync += [word.eq(self.begin), self.remaining.eq(self.length), only.eq(self.length == 1), first.eq(1)]
        return m
