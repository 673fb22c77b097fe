"""A queue is enabled: what the driver configured is gathered from its registers.

Ref: VIRTIO 1.4, 4.1.4.3 "Common configuration structure layout".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from ..spec.virtio import Common

__all__ = ["ADDRESS_WORDS", "SIZE_WORD", "SLOTS", "Enabling"]

SIZE_WORD = Common.QUEUE_SIZE // 4           # queue_msix_vector in the upper half
ADDRESS_WORDS = range(Common.QUEUE_DESC // 4, Common.QUEUE_NOTIF_CONFIG_DATA // 4)
SLOTS = 8  # DWs per queue in the memory; a slot is the low bits of the register's DW number, so none is computed


class Enabling(wiring.Component):
    """Read the registers of a queue in the order of their slots, from queue_size on, and show them as its set-up.

    ``done`` is ten cycles after ``start``.

    Members
    -------
    start : In(1), queue : In(16)
        Strobe, not while ``busy``; the queue stays the same until ``done``.
    slot : Out(range(SLOTS)), data : In(32)
        The slot to be read while ``busy``, and in the next cycle what it holds.
    busy : Out(1)
    done : Out(1)
        Strobe, in the last cycle of ``busy``.
    setup : Out(QueueSetup)
        With ``done``.
    """
    start: In(1)
    queue: In(16)
    slot:  Out(range(SLOTS))
    data:  In(32)
    busy:  Out(1)
    done:  Out(1)
    setup: Out(QueueSetup)

    def elaborate(self, platform):
        m = Module()
        first, last = SIZE_WORD % SLOTS, ADDRESS_WORDS[-1] % SLOTS
        size, came = Signal(16), Signal(range(SLOTS))
        addresses = Signal(32 * len(ADDRESS_WORDS))   # the last six slots, pushed through one shift register
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += self.slot.eq(first)
                with m.If(self.start):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += [self.slot.eq(self.slot + 1), came.eq(self.slot)]
                with m.If(self.slot == last):
                    m.next = "LAST"
            with m.State("LAST"):
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        with m.If(self.busy & ~self.done):
            m.d.sync += addresses.eq(Cat(addresses[32:], self.data))
        with m.If(self.busy & (came == first)):
            m.d.sync += size.eq(self.data)
        m.d.comb += [
            self.setup.queue.eq(self.queue),
            self.setup.size.eq(size),
            Cat(self.setup.queue_desc, self.setup.queue_driver, self.setup.queue_device).eq(addresses),
        ]
        return m
