"""Registers in a stream."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Register", "Skid", "Slice"]


class Slice(wiring.Component):
    """Pass a stream through registers: no path from ``i`` to ``o``, nor from ``o.ready`` to ``i.ready``.

    Adds one cycle; an item a cycle. Keeps up to two items.

    Parameters
    ----------
    shape : shape-castable

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    """
    def __init__(self, shape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        spare = Signal.like(self.i.payload)   # came when ``o`` was found not to move
        full  = Signal()
        m.d.comb += self.i.ready.eq(~full)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                self.o.valid.eq(self.i.valid | full),
                self.o.payload.eq(Mux(full, spare, self.i.payload)),
                full.eq(0),
            ]
        with m.Elif(self.i.valid & ~full):
            m.d.sync += full.eq(1)
        with m.If(~full):
            m.d.sync += spare.eq(self.i.payload)
        return m


class Skid(wiring.Component):
    """Keep an item that comes before it is wanted, so that no path leads from ``o.ready`` to ``i.ready``.

    An item that is wanted passes in the cycle in which it comes; an item a cycle.

    Parameters
    ----------
    shape : shape-castable

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    """
    def __init__(self, shape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        kept, full = Signal.like(self.i.payload), Signal()
        m.d.comb += [
            self.i.ready.eq(~full),
            self.o.valid.eq(self.i.valid | full),
            self.o.payload.eq(Mux(full, kept, self.i.payload)),
        ]
        m.d.sync += full.eq(self.o.valid & ~self.o.ready)
        with m.If(~full):
            m.d.sync += kept.eq(self.i.payload)
        return m


class Register(wiring.Component):
    """Pass a stream through one register: no path from ``i`` to ``o``, but one from ``o.ready`` to ``i.ready``.

    Adds one cycle; an item a cycle. Its payload needs no logic, where that of a :class:`Slice` needs a choice of two for each
    bit: this is for places where ``o.ready`` is known early in the cycle.

    Parameters
    ----------
    shape : shape-castable

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    """
    def __init__(self, shape):
        self.shape = shape
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(self.o.ready | ~self.o.valid)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        return m
