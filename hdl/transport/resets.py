"""Reset of queues, one after the other.

Ref: VIRTIO 1.4, 2.6.1 "Virtqueue Reset".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.queue import Queue
from .enabling import SLOTS

__all__ = ["QueueResets"]


class QueueResets(wiring.Component):
    """Reset queues in the order in which they were asked for; a reset of this component forgets them.

    Parameters
    ----------
    num_queues : int

    Members
    -------
    ask : In(1), queue : In(range(num_queues))
        Strobe: reset that queue. One is asked for once until its reset has ended, so there is room for all.
    current : Out(range(num_queues))
        The queue that is being reset.
    begin : Out(1), done : In(1)
        ``begin`` is high for one cycle: give up that queue, then make ``done`` high for one cycle.
    withdraw : Out(1), withdrawn : In(1)
        ``withdraw`` is high until ``withdrawn``: let no notification of that queue be pending.
    free : In(1)
        A register may be erased in this cycle.
    erasing : Out(1), slot : Out(range(SLOTS))
        The register of this slot goes back to its default in this cycle: of the current queue all, in order.
    resetting : Out(1)
        A reset has been asked for and has not ended.
    """
    def __init__(self, *, num_queues):
        self.num_queues = num_queues
        super().__init__({
            "ask":       In(1),
            "queue":     In(range(num_queues)),
            "current":   Out(range(num_queues)),
            "begin":     Out(1),
            "done":      In(1),
            "withdraw":  Out(1),
            "withdrawn": In(1),
            "free":      In(1),
            "erasing":   Out(1),
            "slot":      Out(range(SLOTS)),
            "resetting": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.asked = asked = Queue(unsigned(max(1, len(self.queue))), max(2, self.num_queues))
        m.d.comb += [
            asked.i.valid.eq(self.ask),
            asked.i.payload.eq(self.queue),
            self.current.eq(asked.o.payload),
            self.resetting.eq(asked.level != 0),
        ]
        with m.FSM():
            with m.State("ASK"):
                m.d.comb += self.begin.eq(asked.o.valid)
                with m.If(asked.o.valid):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(self.done):
                    m.next = "WITHDRAW"
            with m.State("WITHDRAW"):
                m.d.comb += self.withdraw.eq(1)  # 2.6.1.1.1: no notification after the end, not even one that was masked
                with m.If(self.withdrawn):
                    m.next = "ERASE"
            with m.State("ERASE"):
                m.d.comb += self.erasing.eq(self.free)
                m.d.sync += self.slot.eq(self.slot + self.erasing)
                with m.If(self.erasing & (self.slot == SLOTS - 1)):
                    m.d.comb += asked.o.ready.eq(1)
                    m.next = "ASK"
        return m
