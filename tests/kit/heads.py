"""A stage that judges descriptors, together with what reads them and writes the heads."""

from amaranth import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ringnic.hdl.lib.buffers import QueueSetup
from ringnic.hdl.lib.dma import ReadPort, read_beat
from ringnic.hdl.virtqueue.heads import Heads
from ringnic.hdl.virtqueue.store import Head, HeadWrite, TakenHead, push_of

from .wrap import pass_on

__all__ = ["InOrder", "WithHeads"]


class InOrder(wiring.Component):
    """A store from which each head is taken as soon as it is pushed. It has no places to grant: the case fills no more of them
    than there are."""
    def __init__(self, *, num_queues, depth):
        self.num_queues, self.depth = num_queues, depth
        super().__init__({"setup_valid": In(1), "setup": In(QueueSetup), "write": In(HeadWrite(depth)),
                          "i_push": In(stream.Signature(push_of(num_queues, depth))), "o": Out(stream.Signature(TakenHead))})

    def elaborate(self, platform):
        m = Module()
        rows = 1 << Shape.cast(self.i_push.p.queue.shape()).width
        m.submodules.heads = heads = memory.Memory(shape=Head, depth=rows * self.depth, init=[])
        write, read = heads.write_port(), heads.read_port(domain="comb")
        taken = Array(Signal(range(self.depth), name=f"taken_{queue}") for queue in range(rows))
        push, nth = self.i_push, Signal(range(self.depth + 1))
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(Cat(self.write.place, self.write.queue[:len(push.p.queue)])),
            write.data.eq(self.write.head),
            read.addr.eq(Cat(taken[push.p.queue], push.p.queue)),
            self.o.valid.eq(push.valid),
            self.o.p.queue.eq(push.p.queue),
            self.o.p.head.eq(read.data),
            push.ready.eq(self.o.ready & (nth + 1 == push.p.count)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [nth.eq(Mux(push.ready, 0, nth + 1)), taken[push.p.queue].eq(taken[push.p.queue] + 1)]
        with m.If(self.setup_valid):
            m.d.sync += taken[self.setup.queue[:len(push.p.queue)]].eq(0)
        return m


class WithHeads(wiring.Component):
    """``stage`` with :class:`Heads`: its requests, the stream ``read``, are a read port here; one without has a stream ``beat``.
    ``o`` is the heads. It is busy while either of them is."""
    def __init__(self, stage, *, width, num_queues, read=None):
        self.stage, self.width, self.num_queues, self.read = stage, width, num_queues, read
        own = {name: member for name, member in stage.signature.members.items() if name not in ("heads", read)}
        answers = {read: Out(ReadPort(width))} if read else {"beat": In(stream.Signature(read_beat(width)))}
        super().__init__({**own, **answers, "o": Out(stream.Signature(TakenHead))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.stage = stage = self.stage
        m.submodules.heads = heads = Heads(width=self.width, num_queues=self.num_queues, depth=stage.depth)
        m.submodules.store = store = InOrder(num_queues=self.num_queues, depth=stage.depth)
        connect(m, stage.heads, heads.i)
        connect(m, heads.write, store.write)
        connect(m, heads.o, store.i_push)
        connect(m, store.o, flipped(self.o))
        if self.read:
            connect(m, getattr(stage, self.read), flipped(getattr(self, self.read).req))
        connect(m, flipped(getattr(self, self.read).beat if self.read else self.beat), heads.beat)
        m.d.comb += self.busy.eq(stage.busy | heads.busy)
        if "setup" in stage.signature.members:
            for part in (heads, store):
                m.d.comb += [part.setup_valid.eq(self.setup_valid), part.setup.eq(self.setup)]
        pass_on(m, self, stage, {"heads", "busy", self.read})
        return m
