"""The end of what is under way.

Ref: VIRTIO 1.4, 2.6.1 "Virtqueue Reset".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Pause"]

QUIET_CYCLES = 4  # what leaves one stage is in the next by then


class Pause(wiring.Component):
    """Make a pause until what is under way, of any queue, has come to its end: there is no other way to know whose it is.

    Members
    -------
    begin : In(1)
        Strobe; none comes in a pause.
    moving : In(1)
        Something is in a stage, or a device holds a chain.
    pausing : Out(1)
        From the cycle after ``begin`` until ``done``.
    done : Out(1)
        Strobe: for some cycles nothing was ``moving``.
    """
    begin:   In(1)
    moving:  In(1)
    pausing: Out(1)
    done:    Out(1)

    def elaborate(self, platform):
        m = Module()
        quiet = Signal(range(QUIET_CYCLES + 1))
        m.d.comb += self.done.eq(self.pausing & (quiet == QUIET_CYCLES))
        with m.If(self.begin):
            m.d.sync += [self.pausing.eq(1), quiet.eq(0)]
        with m.Elif(self.done):
            m.d.sync += self.pausing.eq(0)
        with m.Elif(self.moving):
            m.d.sync += quiet.eq(0)
        with m.Else():
            m.d.sync += quiet.eq(quiet + 1)
        return m
