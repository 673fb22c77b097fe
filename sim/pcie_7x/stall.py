"""Random pauses that a run can repeat."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Stalls"]


class Stalls(wiring.Component):
    """Decide in each cycle, anew, who pauses.

    Members
    -------
    seed : In(32)
        Of all decisions; it is taken over when it changes, and after a reset.
    rx, tx : In(8)
        Cycles out of 256 in which each side pauses; 0 for none.
    stall_rx, stall_tx : Out(1)
    """
    seed: In(32)
    rx: In(8)
    tx: In(8)
    stall_rx: Out(1)
    stall_tx: Out(1)

    def elaborate(self, platform):
        m = Module()
        state, seeded = Signal(32, init=1), Signal(32)
        steps = [state]
        for shift in (13, -17, 5):  # Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003
            steps.append((steps[-1] ^ (steps[-1] << shift if shift > 0 else steps[-1] >> -shift))[:32])
        m.d.sync += seeded.eq(self.seed)
        with m.If(seeded != self.seed):
            m.d.sync += state.eq(Mux(self.seed == 0, 1, self.seed))
        with m.Elif((self.rx != 0) | (self.tx != 0)):
            m.d.sync += state.eq(steps[-1])
        m.d.comb += [self.stall_rx.eq(state[8:16] < self.rx), self.stall_tx.eq(state[16:24] < self.tx)]
        return m
