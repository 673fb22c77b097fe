"""Does a ring that the driver has set up end within the address space?

Ref: VIRTIO 1.4, 2.7 "Split Virtqueues", 2.8 "Packed Virtqueues": sizes and alignments of the areas.
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup

__all__ = ["Bounds"]


class Bounds(wiring.Component):
    """Judge the areas of a queue: descriptor table or ring, available ring, used ring.

    Members
    -------
    setup : In(QueueSetup)
        Low address bits that the alignment leaves no meaning are ignored.
    packed : In(1)
        RING_PACKED was negotiated.
    beyond : Out(1)
        An area runs past the end of the address space; to end there is allowed. Valid a cycle after ``setup``.
    """
    setup:  In(QueueSetup)
    packed: In(1)
    beyond: Out(1)

    def elaborate(self, platform):
        m = Module()
        size = self.setup.size
        m.d.sync += self.beyond.eq(
            self._wraps(self.setup.queue_desc, 16, size - 1, 15)
            # The event suppression structures of a packed queue are 4 bytes, aligned to 4. In a split one flags and idx come
            # first, and used_event or avail_event last, whether or not EVENT_IDX gives them a meaning.
            | (~self.packed & (self._wraps(self.setup.queue_driver, 2, size + 2, 16)
                               | self._wraps(self.setup.queue_device, 4, Cat(1, size), 17))))
        return m

    @staticmethod
    def _wraps(addr, unit, last, bits):
        """Whether unit number ``last``, a value of so many bits, of an area at ``addr`` has no address."""
        first = addr[unit.bit_length() - 1:]
        return first[bits:].all() & (first[:bits] + last[:bits])[bits]
