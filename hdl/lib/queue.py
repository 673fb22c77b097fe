"""First in, first out, for anything on a stream."""

from amaranth import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """Hold up to ``depth`` items of ``shape``, in order; an item passes in one cycle or more.

    Unlike a bare FIFO it keeps the layout of what passes.

    Parameters
    ----------
    shape : shape-castable
    depth : int
        Items, at least 2, else :exc:`ValueError`.

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    level : Out(range(depth + 1))
        Items inside.
    """
    def __init__(self, shape, depth):
        if depth < 2:
            raise ValueError(f"Queue depth must be at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__({
            "i":     In(stream.Signature(shape)),
            "o":     Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = items = fifo.SyncFIFOBuffered(width=Shape.cast(self.shape).width, depth=self.depth)
        m.d.comb += [
            items.w_data.eq(self.i.payload),
            items.w_en.eq(self.i.valid),
            self.i.ready.eq(items.w_rdy),
            Value.cast(self.o.payload).eq(items.r_data),
            self.o.valid.eq(items.r_rdy),
            items.r_en.eq(self.o.ready),
            self.level.eq(items.level),
        ]
        return m
