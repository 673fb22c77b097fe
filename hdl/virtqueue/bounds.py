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
        # Each area in units of its alignment: it has ``size`` of them, ``size + 3`` and ``2 * size + 2``.
        desc, desc_high = self._end(self.setup.queue_desc, 16, size, 15)
        driver, driver_high = self._end(self.setup.queue_driver, 2, size, 16)
        device, device_high = self._end(self.setup.queue_device, 4, Cat(1, size), 17)
        m.d.sync += self.beyond.eq(
            (desc_high & desc[15] & desc[:15].any())
            # The event suppression structures of a packed queue are 4 bytes, aligned to 4. In a split one flags and idx come
            # first, and used_event or avail_event last, whether or not EVENT_IDX gives them a meaning.
            | (~self.packed & ((driver_high & (driver[16] | driver[1:16].all())) | (device_high & device[17]))))
        return m

    @staticmethod
    def _end(addr, unit, count, bits):
        """Where the unit is that lies ``count`` behind the one at ``addr``, in the top 2 ** ``bits`` units of the address space
        or after them; and whether ``addr`` is in those."""
        first = addr[unit.bit_length() - 1:]
        return (first[:bits] + count)[:bits + 1], first[bits:].all()
