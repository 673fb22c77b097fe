"""Stop a packet stream: between two packets, or at once."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PacketGate", "PacketCut"]


class PacketGate(wiring.Component):
    """Pass packets; hold the stream at the next packet boundary when told to.

    Adds no cycle.

    Parameters
    ----------
    shape : layout with a member ``last``

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    hold : In(1)
        Let the packet that has begun pass, and no other.
    held : Out(1)
        ``hold`` is high and no packet is cut in two.
    """
    def __init__(self, shape):
        self.shape = shape
        super().__init__({
            "i":    In(stream.Signature(shape)),
            "o":    Out(stream.Signature(shape)),
            "hold": In(1),
            "held": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        inside = Signal()
        m.d.comb += [
            self.held.eq(self.hold & ~inside),
            self.o.p.eq(self.i.p),
            self.o.valid.eq(self.i.valid & ~self.held),
            self.i.ready.eq(self.o.ready & ~self.held),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += inside.eq(~self.o.p.last)
        # A packet that is offered may not be withdrawn: it has begun when its first beat is seen.
        with m.Elif(self.o.valid):
            m.d.sync += inside.eq(1)
        return m


class PacketCut(wiring.Component):
    """Pass packets; swallow everything when told to, and afterwards the rest of a packet that was cut.

    For a source that cannot wait, or may never end what it began. Adds no cycle. Whoever takes the packets is reset
    while ``hold`` is high: it sees the beginning of a packet without its end.

    Parameters
    ----------
    shape : layout with a member ``last``

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    hold : In(1)
    """
    def __init__(self, shape):
        self.shape = shape
        super().__init__({
            "i":    In(stream.Signature(shape)),
            "o":    Out(stream.Signature(shape)),
            "hold": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        inside, cut, passes = Signal(), Signal(), Signal()
        m.d.comb += [
            passes.eq(~self.hold & ~(cut & inside)),
            self.o.p.eq(self.i.p),
            self.o.valid.eq(self.i.valid & passes),
            self.i.ready.eq(self.o.ready | ~passes),
        ]
        m.d.sync += cut.eq(self.hold | (cut & inside))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += inside.eq(~self.i.p.last)
        return m
