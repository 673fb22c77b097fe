"""Where the areas of each virtqueue begin in host memory.

Ref: VIRTIO 1.4, 4.1.4.3 "Common configuration structure layout": queue_desc, queue_driver, queue_device.
"""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..lib.dma import Area, AreaPort

__all__ = ["LOW_BITS", "Areas"]

LOW_BITS = 12  # that decide where a request is cut: at 4 KiB


class Areas(wiring.Component):
    """Remember where areas begin; look one up a cycle. Area.NONE begins at 0.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    set : In(AreaPort)
        A row that is written is found from the next cycle on.
    queue : In(16), area : In(Area)
        What to look up.
    low : Out(12)
        Low bits of the address, in the same cycle.
    high : Out(52)
        The rest of it, in the next cycle.
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        super().__init__({
            "set":   In(AreaPort),
            "queue": In(16),
            "area":  In(Area),
            "low":   Out(LOW_BITS),
            "high":  Out(64 - LOW_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        queue_bits = (self.num_queues - 1).bit_length()
        depth = 4 << queue_bits
        m.submodules.lows  = lows  = memory.Memory(shape=LOW_BITS, depth=depth, init=[])
        m.submodules.highs = highs = memory.Memory(shape=64 - LOW_BITS, depth=depth, init=[])

        def row(queue, area):
            return Cat(area, queue[:queue_bits])
        low_r, high_r = lows.read_port(domain="comb"), highs.read_port()
        for mem, bits in ((lows, slice(None, LOW_BITS)), (highs, slice(LOW_BITS, None))):
            write = mem.write_port()
            m.d.comb += [
                write.en.eq(self.set.valid),
                write.addr.eq(row(self.set.p.queue, self.set.p.area)),
                write.data.eq(self.set.p.addr[bits]),
            ]
        m.d.comb += [
            low_r.addr.eq(row(self.queue, self.area)),
            high_r.addr.eq(row(self.queue, self.area)),
            self.low.eq(low_r.data),
            self.high.eq(high_r.data),
        ]
        return m
