"""Cut the answer of a DMA read into ring elements."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.dma import read_beat

__all__ = ["element", "Elements"]


def element(shape):
    """``last`` ends the read; ``error`` is valid with ``last``, then ``data`` is not."""
    return data.StructLayout({"data": shape, "last": 1, "error": 1})


class Elements(wiring.Component):
    """Turn read beats into elements of ``shape``, one a cycle at most, in order.

    Every element of a failed read may or may not come; its end always does, with ``error``.

    Parameters
    ----------
    width : int
        Bits per beat.
    shape : shape-castable
        Element: a power of two of bytes. No beat ends within the smaller of element and beat: the read is aligned to
        it, or has gone through a :class:`~ringnic.hdl.lib.pack.Packer`.
    """
    def __init__(self, *, width, shape):
        self.width = width
        self.shape = shape
        self.bits = Shape.cast(shape).width
        super().__init__({
            "i": In(stream.Signature(read_beat(width))),
            "o": Out(stream.Signature(element(shape))),
        })

    def elaborate(self, platform):
        return self._split() if self.width > self.bits else self._join()

    def _join(self):
        """A beat is one element or a part of it."""
        m = Module()
        beats = self.bits // self.width
        part = Signal(range(max(2, beats)))
        done = Signal()
        m.d.comb += [
            done.eq((part == beats - 1) | self.i.p.last),
            self.o.p.last.eq(self.i.p.last),
            self.o.p.error.eq(self.i.p.error),
            self.o.valid.eq(self.i.valid & done),
            self.i.ready.eq(self.o.ready | ~done),
        ]
        if beats > 1:
            held = Signal((beats - 1) * self.width)
            m.d.comb += self.o.p.data.eq(Cat(held, self.i.p.data))
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += [
                    part.eq(Mux(done, 0, part + 1)),
                    held.eq(Cat(held, self.i.p.data)[self.width:]),
                ]
        else:
            m.d.comb += self.o.p.data.eq(self.i.p.data)
        return m

    def _split(self):
        """A beat holds several elements."""
        m = Module()
        size = self.bits // 8
        held = Signal(self.width)
        count = Signal(range(self.width // 8 + 1))  # bytes left in ``held``
        last, error, full = Signal(), Signal(), Signal()
        final = Signal()
        m.d.comb += [
            final.eq(count <= size),
            self.o.p.data.eq(held[:self.bits]),
            self.o.p.last.eq(last & final),
            self.o.p.error.eq(error),
            self.o.valid.eq(full & ((count != 0) | last)),
            self.i.ready.eq(~full | (final & (self.o.ready | ~self.o.valid))),
        ]
        with m.If(full & (self.o.ready | ~self.o.valid)):
            m.d.sync += [
                held.eq(held >> self.bits),
                count.eq(count - size),
            ]
            with m.If(final):
                m.d.sync += full.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                full.eq(1),
                held.eq(self.i.p.data),
                count.eq(self.i.p.count),
                last.eq(self.i.p.last),
                error.eq(self.i.p.error),
            ]
        return m
