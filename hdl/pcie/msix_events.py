"""Interrupts that are pending, by vector and source.

Ref: PCI Express Base 5.0, 6.1.4 "Message Signaled Interrupt (MSI/MSI-X) Support".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.interrupt import InterruptPort

__all__ = ["MsixEvents"]


class MsixEvents(wiring.Component):
    """Keep each event pending until it is taken or withdrawn, one every other cycle.

    Parameters
    ----------
    vectors, sources : int
        See :class:`.msix.Msix`.

    Members
    -------
    irq : In(InterruptPort())
        See there.
    pending : Out(vectors)
        Bit per vector: an event of one source or more.
    taken : In(vectors)
        Bit per vector, for one cycle: its events are not pending any more. Not while ``updating``.
    updating : Out(1)
        An event is being accepted; it is pending in the next cycle.
    reset : In(1)
        Forget all.
    """
    def __init__(self, *, vectors, sources):
        self.vectors = vectors
        self.sources = sources
        super().__init__({
            "irq":      In(InterruptPort()),
            "pending":  Out(vectors),
            "taken":    In(vectors),
            "updating": Out(1),
            "reset":    In(1),
        })

    def elaborate(self, platform):
        m = Module()
        n, pending, taken, event = self.vectors, self.pending, self.taken, self.irq.req.payload
        # For each vector that is pending, a row of the sources that wait for its message: 6.1.4.5 has the bit cleared with its
        # cause, and only the last one's withdrawal does that. Without the bit the row means nothing, so neither a message nor a
        # reset has to clear it.
        m.submodules.causes = causes = Memory(shape=unsigned(self.sources), depth=n, init=[])
        causes_w, causes_r = causes.write_port(), causes.read_port()
        index, cause = Signal(range(n)), Signal(self.sources)
        arrived, withdrawn = Signal(n), Signal(n)
        m.d.comb += [
            index.eq(event.vector),
            cause.bit_select(event.source, 1).eq(1),
            causes_r.addr.eq(index),
            causes_w.addr.eq(index),
        ]
        m.d.sync += self.updating.eq(self.irq.req.valid & ~self.updating & ~self.reset)
        with m.If(self.updating):
            waiting = Mux(pending.bit_select(index, 1), causes_r.data, 0)
            valid = event.vector < n
            m.d.comb += [
                self.irq.req.ready.eq(1),
                self.irq.waited.eq(valid & (waiting & cause).any()),
                causes_w.en.eq(valid),
                causes_w.data.eq(Mux(event.withdraw, waiting & ~cause, waiting | cause)),
                arrived.bit_select(index, 1).eq(valid & ~event.withdraw),
                withdrawn.bit_select(index, 1).eq(valid & event.withdraw & ~(waiting & ~cause).any()),
            ]
        with m.If(self.reset):
            m.d.sync += pending.eq(0)
        with m.Else():
            m.d.sync += pending.eq((pending & ~taken & ~withdrawn) | arrived)
        return m
