"""Two of a kind, of which one is in use."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Either"]


class Either(wiring.Component):
    """Pass ``i[0]`` while ``choice`` is low, else ``i[1]``. No cycle is added.

    The other one is offered nothing, and what it offers is not taken. Whatever else is said to one is said to both.

    Parameters
    ----------
    signature : wiring.Signature
        As seen from who offers: a stream, or a port made of streams and strobes.

    Members
    -------
    choice : In(1)
    i : In(signature).array(2), o : Out(signature)
    """
    def __init__(self, signature):
        self.port = signature
        super().__init__({"choice": In(1), "i": In(signature).array(2), "o": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        ports = (self.port.flatten(port) for port in (self.i[0], self.i[1], self.o))
        for (path, member, one), (_, _, other), (_, _, o) in zip(*ports):
            one, other, o = map(Value.cast, (one, other, o))
            if member.flow == Out:
                m.d.comb += o.eq(Mux(self.choice, other, one))
            elif path[-1] in ("valid", "ready"):
                m.d.comb += [one.eq(o & ~self.choice), other.eq(o & self.choice)]
            else:
                m.d.comb += [one.eq(o), other.eq(o)]
        return m
