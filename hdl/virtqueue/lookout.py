"""When to read a ring for which no notification came."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Lookout"]


class Lookout(wiring.Component):
    """Have the rings of queues that a device wants chains of looked at, once per ``interval`` cycles in which it wants any.

    A driver must notify of buffers that it adds (VIRTIO 1.4, 2.7.13.4 "Notifying The Device", 2.8.21.3), but some put receive
    buffers back without. Cycles in which nothing is wanted do not count and cost nothing. The count goes on where it
    stood: in a flood one frame is dropped after another, and none of them waits for a whole interval.

    Parameters
    ----------
    num_queues : int
    interval : int
        Cycles, a power of two of at least 2, else :exc:`ValueError`.

    Members
    -------
    wants : In(num_queues)
        Bit per queue, see :func:`ringnic.hdl.lib.buffers.BufferPort`.
    look : Out(num_queues)
        Strobe for each queue that is wanted when the interval ends.
    """
    def __init__(self, *, num_queues, interval):
        if interval < 2 or interval & (interval - 1):
            raise ValueError(f"Interval must be a power of 2 of at least 2 cycles, not {interval!r}")
        self.interval = interval
        super().__init__({"wants": In(num_queues), "look": Out(num_queues)})

    def elaborate(self, platform):
        m = Module()
        count = Signal(range(self.interval))
        m.d.sync += self.look.eq(Mux(count.all(), self.wants, 0))
        with m.If(self.wants.any()):
            m.d.sync += count.eq(count + 1)
        return m
