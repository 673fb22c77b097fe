"""Many streams of packets into one, packets kept whole."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["round_robin", "Arbiter"]


def round_robin(m, requests, last, pick):
    """Drive ``pick`` with the number of the first bit set in ``requests`` after bit ``last``, cyclically.

    ``pick`` means nothing when no bit is set.
    """
    n = len(requests)
    with m.Switch(last):
        for k in range(n):
            with m.Case(k):
                for step in range(n, 0, -1):
                    with m.If(requests[(k + step) % n]):
                        m.d.comb += pick.eq((k + step) % n)


class Arbiter(wiring.Component):
    """Merge packets: round robin between packets, never within one.

    Adds no cycle. Once an input is offered at ``o`` it keeps the grant until its beat with ``payload.last`` is taken.

    Parameters
    ----------
    shape : data.Layout
        Payload of all streams, with a field ``last``; else :exc:`ValueError`.
    n : int
        Number of inputs, at least 1, else :exc:`ValueError`.

    Members
    -------
    i : In(stream.Signature(shape)).array(n)
    o : Out(stream.Signature(shape))
    """
    def __init__(self, shape, n):
        if n < 1:
            raise ValueError(f"An arbiter needs at least one input, not {n!r}")
        try:
            shape["last"]
        except (KeyError, TypeError):
            raise ValueError(f"An arbiter needs a payload with a field 'last', not {shape!r}") from None
        self.n = n
        super().__init__({
            "i": In(stream.Signature(shape)).array(n),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        last   = Signal(range(self.n))
        locked = Signal()
        pick   = Signal(range(self.n))
        choice = Signal(range(self.n))

        round_robin(m, Cat(port.valid for port in self.i), last, pick)
        m.d.comb += choice.eq(Mux(locked, last, pick))
        with m.Switch(choice):
            for k, port in enumerate(self.i):
                with m.Case(k):
                    m.d.comb += [
                        self.o.payload.eq(port.payload),
                        self.o.valid.eq(port.valid),
                        port.ready.eq(self.o.ready),
                    ]
        with m.If(self.o.valid):
            m.d.sync += [
                last.eq(choice),
                locked.eq(~(self.o.ready & self.o.payload.last)),
            ]
        return m
