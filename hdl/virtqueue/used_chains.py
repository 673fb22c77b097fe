"""Look up the chains of a batch.

Ref: VIRTIO 1.4, 2.8.9 "Multi-buffer requests".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .used_collect import Collected, StagingPort, used_batch

__all__ = ["UsedChains"]


class UsedChains(wiring.Component):
    """Read the chains of a batch one after the other, round and round: the first one may be written last.

    A chain is in hand in the second cycle in which they move after ``restart``, and every further one in the cycle after.

    Parameters
    ----------
    num_queues, batch : int
        As of :class:`.used_collect.UsedCollect`.

    Members
    -------
    i : In(used_batch(...))
        Stays from ``restart`` on.
    staging : Out(StagingPort(...))
    restart : In(1)
        Begin with the first chain, and count all of them.
    moves : In(1)
        Go on to the next chain.
    passes : In(1)
        Strobe: one of them is done.
    chain : Out(Collected)
        The one in hand.
    left : Out
        Those that are not done.
    """
    def __init__(self, *, num_queues, batch):
        sizes = dict(num_queues=num_queues, batch=batch)
        layout = used_batch(**sizes)
        super().__init__({
            "i":       In(layout),
            "staging": Out(StagingPort(**sizes)),
            "restart": In(1),
            "moves":   In(1),
            "passes":  In(1),
            "chain":   Out(Collected),
            "left":    Out(layout["count"].shape),
        })

    def elaborate(self, platform):
        m = Module()
        take, end = Signal.like(self.i.first), Signal.like(self.i.first)   # the next one to read; the last one of the batch
        m.d.comb += [
            self.staging.queue.eq(self.i.queue),
            self.staging.place.eq(take),
            self.staging.en.eq(self.moves),
        ]
        with m.If(self.moves):
            m.d.sync += [self.chain.eq(self.staging.data), take.eq(Mux(take == end, self.i.first, take + 1))]
        with m.If(self.passes):
            m.d.sync += self.left.eq(self.left - 1)
        with m.If(self.restart):
            m.d.sync += [take.eq(self.i.first), end.eq(self.i.first + self.i.count - 1), self.left.eq(self.i.count)]
        return m
