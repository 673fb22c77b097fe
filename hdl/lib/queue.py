"""First in, first out, for anything on a stream."""

from amaranth import *
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .slice import Skid

__all__ = ["Bypass", "Buffer", "Queue"]

DEEP = 64  # items from which on they lie in block RAM


class Queue(wiring.Component):
    """Hold up to ``depth`` items of ``shape``, in order; an item passes in a few cycles, one leaves in each.

    Unlike a bare FIFO it keeps the layout of what passes. A deep one has a register behind its block RAM, which is slow.

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
        if self.depth >= DEEP:
            return self._deep()
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

    def _deep(self):
        m = Module()
        kept = self.depth - 2                       # besides one that has been read, and one that is offered
        m.submodules.items = items = memory.Memory(shape=Value.cast(self.i.payload).shape(), depth=self.depth, init=[])
        write, read = items.write_port(), items.read_port()
        stored, fetched = Signal(range(kept + 1)), Signal()
        push, fetch, free = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(stored != kept),
            push.eq(self.i.valid & self.i.ready),
            free.eq(self.o.ready | ~self.o.valid),
            fetch.eq((stored != 0) & (~fetched | free)),
            write.en.eq(push),
            write.data.eq(self.i.payload),
            # What is written now is not in the memory yet. Said like this, synthesis needs no logic for the case that it is read.
            read.en.eq(fetch & ~(push & (write.addr == read.addr))),
            self.level.eq(stored + fetched + self.o.valid),
        ]
        m.d.sync += stored.eq(stored + push - fetch)
        for port, moves in ((write, push), (read, fetch)):
            with m.If(moves):
                m.d.sync += port.addr.eq(port.addr + 1)
                if self.depth & (self.depth - 1):
                    with m.If(port.addr == self.depth - 1):
                        m.d.sync += port.addr.eq(0)
        with m.If(free):
            m.d.sync += [self.o.valid.eq(fetched), Value.cast(self.o.payload).eq(read.data), fetched.eq(0)]
        with m.If(fetch):
            m.d.sync += fetched.eq(1)
        return m


class Bypass(wiring.Component):
    """As :class:`Queue`, but an item that finds it empty passes in the cycle in which it comes.

    No path leads from ``o.ready`` to ``i.ready``.

    Parameters
    ----------
    shape : shape-castable
    depth : int
        Items that are kept at least; see :class:`Queue`.

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    """
    def __init__(self, shape, depth):
        self._queue = Queue(shape, depth)
        self._next = Skid(shape)
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = self._queue
        m.submodules.next = next_ = self._next     # what is offered; the queue comes before what comes
        connect(m, next_.o, flipped(self.o))
        empty = Signal()
        m.d.comb += [
            empty.eq(queue.level == 0),
            queue.i.valid.eq(self.i.valid & ~(empty & next_.i.ready)),
            queue.i.payload.eq(self.i.payload),
            self.i.ready.eq(queue.i.ready),
            next_.i.valid.eq(Mux(empty, self.i.valid, queue.o.valid)),
            next_.i.payload.eq(Mux(empty, self.i.payload, queue.o.payload)),
            queue.o.ready.eq(~empty & next_.i.ready),
        ]
        return m


class Buffer(wiring.Component):
    """Hold up to ``depth`` items of ``shape``, in order; an item passes in a cycle, one leaves in each.

    No path leads from ``o.ready`` to ``i.ready``. As small as a :class:`.slice.Slice`, and holds more; ``o.payload`` comes out of
    LUT RAM.

    Parameters
    ----------
    shape : shape-castable
    depth : int
        Items, a power of 2 of at least 2, else :exc:`ValueError`.

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    """
    def __init__(self, shape, depth):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Buffer depth must be a power of 2 of at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.items = items = memory.Memory(shape=self.shape, depth=self.depth, init=[])
        write, read = items.write_port(), items.read_port(domain="comb")
        # Both count modulo twice the depth.
        came, gone, full = Signal(range(2 * self.depth)), Signal(range(2 * self.depth)), Signal()
        push, pop, next_came, next_gone = Signal(), Signal(), Signal.like(came), Signal.like(gone)
        m.d.comb += [
            self.i.ready.eq(~full),
            push.eq(self.i.valid & ~full),
            pop.eq(self.o.valid & self.o.ready),
            next_came.eq(came + push),
            next_gone.eq(gone + pop),
            write.en.eq(push),
            write.addr.eq(came),
            write.data.eq(self.i.payload),
            read.addr.eq(gone),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += [
            came.eq(next_came),
            gone.eq(next_gone),
            self.o.valid.eq(next_came != next_gone),
            full.eq((next_came ^ next_gone) == self.depth),
        ]
        return m
