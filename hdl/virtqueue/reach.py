"""Packed virtqueue: how many descriptors one read asks for.

Ref: VIRTIO 1.4, 2.8.1 "Driver and Device Ring Wrap Counters", 2.9 "Driver Notifications".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .named import Named

__all__ = ["MIN_PACE", "Told", "Reach"]

MIN_PACE = 4  # descriptors: a cache line


class Told(wiring.Component):
    """Remember where the driver said that it would go on, and answer for how many descriptors that vouches.

    Parameters
    ----------
    num_queues, max_batch : int

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: forget what was said of this queue.
    kick_valid : In(1), kick_queue : In(16), kick_next : In(16)
        Strobe: available buffer notification; with NOTIFICATION_DATA it names the next slot, and the wrap counter in bit 15.
    notification_data : In(1)
        Negotiated feature; without it nothing is vouched for.
    queue, size, slot, flip : In, asks : In(1)
        With the strobe, and in the next cycle: how many from ``slot`` on, in a ring of ``size``; ``flip``: complement of the wrap
        counter. ``queue`` is there since the cycle before, until the answer.
    ahead : Out(range(max_batch + 1))
        From 3 cycles after ``asks`` on, until the next question: the driver has made so many available, or more if it is
        ``max_batch``.
    """
    def __init__(self, *, num_queues, max_batch):
        self.num_queues = num_queues
        self.max_batch = max_batch
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "kick_valid":  In(1),
            "kick_queue":  In(16),
            "kick_next":   In(16),
            "notification_data": In(1),
            "queue":       In(range(max(2, num_queues))),
            "size":        In(16),
            "slot":        In(16),
            "flip":        In(1),
            "asks":        In(1),
            "ahead":       Out(range(max_batch + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.named = named = Named(num_queues=self.num_queues)
        slot, flip = named.next[:15], ~named.next[15]
        distance, in_ring, believed = Signal(17), Signal(), Signal()
        compares, decides = Signal(), Signal()
        m.d.comb += [
            *[getattr(named, name).eq(getattr(self, name)) for name in (
                "setup_queue", "kick_valid", "kick_queue", "kick_next", "queue")],
            named.setup_valid.eq(self.setup_valid),
            named.clear.eq(self.asks),  # unless it is believed: it would be ahead again a lap later
            named.keep.eq(decides & believed),
        ]
        m.d.sync += [compares.eq(self.asks), decides.eq(compares)]
        with m.If(self.asks):
            # 2.9: what a notification names lies ahead by a ring at most; a late one names what is past.
            m.d.sync += [
                distance.eq(Mux(flip == self.flip, slot, slot + self.size) - self.slot),
                in_ring.eq(self.notification_data & named.valid & (slot < self.size)),
            ]
        with m.If(compares):
            m.d.sync += [
                self.ahead.eq(Mux(distance > self.max_batch, self.max_batch, distance)),
                believed.eq(in_ring & (distance <= self.size) & (distance != 0)),
            ]
        with m.If(decides & ~believed):
            m.d.sync += self.ahead.eq(0)
        return m


class Reach(wiring.Component):
    """Decide how many descriptors are wanted: those that are there for certain, or as many as the pace of the queue suggests.

    Parameters
    ----------
    max_batch : int
        Descriptors a read, at most: a power of two.

    Members
    -------
    size, slot : In(16), pace, sure : In(range(max_batch + 1))
        The ring goes on at ``slot``; ``sure`` descriptors from there are available; ``pace`` is at least 1.
    want : Out(range(max_batch + 1))
        One cycle later, of ``size`` and ``slot`` two: at least 1, not beyond the end of the ring, nor beyond a multiple of
        ``max_batch``: reads end where the ones after them begin well.
    """
    def __init__(self, *, max_batch):
        self.max_batch = max_batch
        counts = range(max_batch + 1)
        super().__init__({
            "size": In(16),
            "slot": In(16),
            "pace": In(counts),
            "sure": In(counts),
            "want": Out(counts),
        })

    def elaborate(self, platform):
        m = Module()
        limit, to_edge, to_end = Signal.like(self.want), Signal.like(self.want), Signal(16)
        m.d.comb += [
            to_edge.eq(self.max_batch - (self.slot & (self.max_batch - 1))),
            to_end.eq(self.size - self.slot),
        ]
        m.d.sync += limit.eq(Mux(to_end < to_edge, to_end, to_edge))
        with m.If((self.sure > self.pace) & (self.sure < limit)):
            m.d.sync += self.want.eq(self.sure)
        with m.Elif((self.sure <= self.pace) & (self.pace < limit)):
            m.d.sync += self.want.eq(self.pace)
        with m.Else():
            m.d.sync += self.want.eq(limit)
        return m
