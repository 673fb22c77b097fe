"""A stage that judges descriptors, together with what reads them and keeps the heads."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ringnic.hdl.lib.dma import ReadPort, read_beat
from ringnic.hdl.virtqueue.heads import Heads
from ringnic.hdl.virtqueue.store import Push

__all__ = ["WithHeads"]


class WithHeads(wiring.Component):
    """``stage`` with :class:`Heads`: its requests, the stream ``read``, are a read port here; one without has a stream ``beat``.
    ``o`` is the heads. It is busy while either of them is."""
    def __init__(self, stage, *, width, num_queues, read=None):
        self.stage, self.width, self.num_queues, self.read = stage, width, num_queues, read
        own = {name: member for name, member in stage.signature.members.items() if name not in ("heads", read)}
        answers = {read: Out(ReadPort(width))} if read else {"beat": In(stream.Signature(read_beat(width)))}
        super().__init__({**own, **answers, "o": Out(stream.Signature(Push))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.stage = stage = self.stage
        m.submodules.heads = heads = Heads(width=self.width, num_queues=self.num_queues, depth=stage.depth)
        connect(m, stage.heads, heads.i)
        connect(m, heads.o, flipped(self.o))
        if self.read:
            connect(m, getattr(stage, self.read), flipped(getattr(self, self.read).req))
        connect(m, flipped(getattr(self, self.read).beat if self.read else self.beat), heads.beat)
        m.d.comb += self.busy.eq(stage.busy | heads.busy)
        for name, member in stage.signature.members.items():
            if name in ("heads", "busy", self.read):
                continue
            if member.is_signature:
                connect(m, flipped(getattr(self, name)), getattr(stage, name))
            elif member.flow == Out:
                m.d.comb += getattr(self, name).eq(getattr(stage, name))
            else:
                m.d.comb += getattr(stage, name).eq(getattr(self, name))
        return m
