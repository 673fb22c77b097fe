"""Which queues work, and which have failed.

Ref: VIRTIO 1.4, 2.1.2 "Device Requirements: Device Status Field".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["QueueStates", "QueueStrobe"]

#: Something is said of a queue: ``valid`` is a strobe.
QueueStrobe = wiring.Signature({"valid": Out(1), "queue": Out(16)})


class QueueStates(wiring.Component):
    """Keep the state of each queue: it works from its set-up until it fails or is reset.

    What was found before a fault of its ring is still handed out; what comes after a malformed chain is not. One that cannot work
    is told of when the driver is ready (2.1.2).

    Parameters
    ----------
    num_queues, stages : int

    Members
    -------
    judged, reset : In(QueueStrobe)
        A queue was set up; it is reset.
    beyond : In(1)
        With ``judged``: it cannot work.
    fails : In(QueueStrobe).array(stages)
        A stage found a fault.
    halts : In(QueueStrobe)
        A chain is malformed; ``fails`` says so as well.
    enable : In(1)
        The driver is ready.
    working, serving : Out(num_queues)
        Bit per queue: its ring is read; its chains are handed out. Two cycles after a fault they are low.
    error : Out(1)
        Strobe: a queue stopped that worked, or one is told of that cannot.
    telling : Out(1)
        One that cannot work is told of.
    """
    def __init__(self, *, num_queues, stages):
        self.num_queues = num_queues
        super().__init__({
            "judged":  In(QueueStrobe),
            "reset":   In(QueueStrobe),
            "beyond":  In(1),
            "fails":   In(QueueStrobe).array(stages),
            "halts":   In(QueueStrobe),
            "enable":  In(1),
            "working": Out(num_queues),
            "serving": Out(num_queues),
            "error":   Out(1),
            "telling": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        working, serving = self.working, self.serving
        fails, halts = Signal(self.num_queues), Signal(self.num_queues)
        m.d.sync += [fails.eq(0), halts.eq(0)]
        for fault in self.fails:
            with m.If(fault.valid):
                m.d.sync += fails.bit_select(fault.queue, 1).eq(1)
        with m.If(self.halts.valid):
            m.d.sync += halts.bit_select(self.halts.queue, 1).eq(1)
        m.d.sync += [working.eq(working & ~fails), serving.eq(serving & ~halts)]
        refused, tells = Signal(self.num_queues), self.telling
        m.d.comb += tells.eq(self.enable & refused.any())
        with m.If(tells):  # of one in each cycle
            m.d.sync += refused.eq(refused & (refused - 1))
        with m.If(self.judged.valid & self.beyond):
            m.d.sync += refused.bit_select(self.judged.queue, 1).eq(1)
        with m.If(self.reset.valid):
            m.d.sync += refused.bit_select(self.reset.queue, 1).eq(0)
        for bits in (working, serving):
            with m.If(self.judged.valid & ~self.beyond):
                m.d.sync += bits.bit_select(self.judged.queue, 1).eq(1)
            with m.If(self.reset.valid):
                m.d.sync += bits.bit_select(self.reset.queue, 1).eq(0)
        m.d.comb += self.error.eq((fails & working).any() | tells)
        return m
