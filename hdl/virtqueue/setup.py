"""The set-up of a queue, made fit for the engine.

Ref: VIRTIO 1.4, 2.7 "Split Virtqueues", 2.8 "Packed Virtqueues".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import QueueSetup
from ..lib.dma import AreaPort
from .bounds import Bounds

__all__ = ["SetUp"]


class SetUp(wiring.Component):
    """Enforce the alignment that the driver owes, by clearing low address bits, and pass the set-up to the stages, a cycle later;
    tell the DMA where the areas of the queue begin in the three cycles after that of ``i_valid``; judge in the second of them
    whether its rings run past the end of the address space.

    Members
    -------
    i_valid : In(1), i : In(QueueSetup)
        Strobe, at most one in three cycles.
    packed : In(1)
    o_valid : Out(1), o : Out(QueueSetup)
        Strobe.
    areas : Out(AreaPort)
    judged : Out(1), queue : Out(16), beyond : Out(1)
        Strobe: of this queue it is known whether its rings run past the end of the address space.
    """
    i_valid: In(1)
    i:       In(QueueSetup)
    packed:  In(1)
    o_valid: Out(1)
    o:       Out(QueueSetup)
    areas:   Out(AreaPort)
    judged:  Out(1)
    queue:   Out(16)
    beyond:  Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.bounds = bounds = Bounds()
        setup, to_tell = self.o, Signal(2)    # areas that the DMA does not know yet; the next one is where queue_desc was
        m.d.sync += self.o_valid.eq(self.i_valid)
        with m.If(self.i_valid):
            m.d.sync += [
                setup.eq(self.i),
                # 2.7 "Split Virtqueues": alignment 16, 2 and 4. 2.8 "Packed Virtqueues": 16, 4 and 4.
                setup.queue_desc[:4].eq(0),
                setup.queue_driver[0].eq(0),
                setup.queue_device[:2].eq(0),
                to_tell.eq(3),
            ]
            with m.If(self.packed):
                m.d.sync += setup.queue_driver[1].eq(0)
        with m.Elif(to_tell != 0):
            m.d.sync += [
                setup.queue_desc.eq(setup.queue_driver),
                setup.queue_driver.eq(setup.queue_device),
                to_tell.eq(to_tell - 1),
            ]
        m.d.comb += [
            self.areas.valid.eq(to_tell != 0),
            self.areas.p.queue.eq(setup.queue),
            self.areas.p.area.eq(-to_tell),        # DESC, DRIVER, DEVICE
            self.areas.p.addr.eq(setup.queue_desc),
            bounds.setup.eq(setup),
            bounds.packed.eq(self.packed),
            self.beyond.eq(bounds.beyond),
        ]
        m.d.sync += [self.judged.eq(self.o_valid), self.queue.eq(setup.queue)]
        return m
