"""One buffer port for several parts of a device."""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arbiter import Arbiter
from .buffers import BufferPort, Take, Used

__all__ = ["BufferShare"]


class BufferShare(wiring.Component):
    """Let ``n`` parts of a device take chains on one buffer port, each of its own queues.

    Adds no cycle. Takes and used chains are passed on in turn, the chains of one packet (``more``) together. A part that does
    not accept its segments holds up the others.

    Parameters
    ----------
    num_queues, n : int

    Members
    -------
    parts : array of In(BufferPort), o : Out(BufferPort)
    owned : array of In(num_queues)
        Of each part but the first, bit per queue: it is this part's. What is nobody's is the first part's. Changes only while
        no chain is in hand.
    """
    def __init__(self, *, num_queues, n):
        if n < 2:
            raise ValueError(f"A buffer port is shared by at least two parts, not {n!r}")
        self.num_queues = num_queues
        self.n = n
        super().__init__({
            "parts": In(BufferPort(num_queues)).array(n),
            "o":     Out(BufferPort(num_queues)),
            "owned": In(num_queues).array(n - 1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.takes = takes = Arbiter(data.StructLayout({"take": Take, "last": 1}), self.n)
        m.submodules.useds = useds = Arbiter(data.StructLayout({"used": Used, "last": 1}), self.n)
        segment = self.o.segment
        to_first = Signal(init=1)
        for k, part in enumerate(self.parts):
            m.d.comb += [
                part.enabled.eq(self.o.enabled),
                part.available.eq(self.o.available),
                part.pause.eq(self.o.pause),
                part.untold.eq(self.o.untold),
                takes.i[k].p.take.eq(part.take.p),
                takes.i[k].p.last.eq(1),
                takes.i[k].valid.eq(part.take.valid),
                part.take.ready.eq(takes.i[k].ready),
                useds.i[k].p.used.eq(part.used.p),
                useds.i[k].p.last.eq(~part.used.p.more),
                useds.i[k].valid.eq(part.used.valid),
                part.used.ready.eq(useds.i[k].ready),
                part.segment.p.eq(segment.p),
            ]
        m.d.comb += [
            self.o.take.p.eq(takes.o.p.take),
            self.o.take.valid.eq(takes.o.valid),
            takes.o.ready.eq(self.o.take.ready),
            self.o.used.p.eq(useds.o.p.used),
            self.o.used.valid.eq(useds.o.valid),
            useds.o.ready.eq(self.o.used.ready),
            self.o.holds.eq(Cat(part.holds for part in self.parts).any()),
            self.o.wants.eq(reduce(or_, (part.wants for part in self.parts))),
            segment.ready.eq(self.parts[0].segment.ready),
        ]
        for owned, part in zip(self.owned, self.parts[1:]):
            with m.If(owned.bit_select(segment.p.queue[:self.num_queues.bit_length()], 1)):
                m.d.comb += [
                    to_first.eq(0),
                    part.segment.valid.eq(segment.valid),
                    segment.ready.eq(part.segment.ready),
                ]
        m.d.comb += self.parts[0].segment.valid.eq(segment.valid & to_first)
        return m
