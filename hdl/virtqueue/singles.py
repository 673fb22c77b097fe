"""Reads of single descriptors.

Ref: VIRTIO 1.4, 2.7.5 "The Virtqueue Descriptor Table", 2.7.5.3 "Indirect Descriptors".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.dma import Area
from .reads import single_read
from .tally import INDEX_BITS

__all__ = ["Singles"]


class Singles(wiring.Component):
    """Ask for the next descriptor of a chain where it was not read ahead: of a port, one at a time; ports take turns.

    A request is offered two cycles after the step that asks for it.

    Parameters
    ----------
    layouts : Layouts
        See :class:`.ahead.Layouts`.
    ports : int

    Members
    -------
    step : In(1), port : In(layouts.port)
        Strobe: the chain of a port comes to its next descriptor,
    index : In(INDEX_BITS), far : In(1), queue : In
        which is that one of its table, an indirect one or the queue's own;
    starts : In(1), addr : In(64)
        an indirect table begins there with this step;
    asks : In(1)
        with ``step``: it is to be read.
    o : Out(stream(single_read(layouts)))
    """
    def __init__(self, *, layouts, ports):
        self.layouts = layouts
        self.ports = ports
        super().__init__({
            "step":   In(1),
            "port":   In(layouts.port),
            "index":  In(INDEX_BITS),
            "far":    In(1),
            "queue":  In(layouts.row["queue"].shape),
            "starts": In(1),
            "addr":   In(64),
            "asks":   In(1),
            "o":      Out(stream.Signature(single_read(layouts))),
        })

    def elaborate(self, platform):
        m = Module()
        port, rows = self.layouts.port, 1 << Shape.cast(self.layouts.port).width
        # In the first half of the rows nothing is ever written: there begin the queues' own tables.
        m.submodules.bases = bases = memory.Memory(shape=64, depth=2 * rows, init=[])
        wanted = data.StructLayout({"index": INDEX_BITS, "far": 1, "queue": self.queue.shape()})
        m.submodules.wants = wants = memory.Memory(shape=wanted, depth=rows, init=[])
        base_w, base_r = bases.write_port(), bases.read_port(domain="comb")
        want_w, want_r = wants.write_port(), wants.read_port(domain="comb")
        pending, pick = Signal(self.ports), Signal(port)
        round_robin(m, pending, self.o.p.port, pick)
        m.d.comb += [
            base_w.en.eq(self.step & self.starts),
            base_w.addr.eq(Cat(self.port, 1)),
            base_w.data.eq(self.addr),
            want_w.en.eq(self.step),
            want_w.addr.eq(self.port),
            want_w.data.index.eq(self.index),
            want_w.data.far.eq(self.far),
            want_w.data.queue.eq(self.queue),
            want_r.addr.eq(pick),
            base_r.addr.eq(Cat(pick, want_r.data.far)),
        ]
        with m.If(self.step & self.asks):
            m.d.sync += pending.bit_select(self.port, 1).eq(1)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(pending.any()),
                self.o.p.port.eq(pick),
                self.o.p.addr.eq(base_r.data + (want_r.data.index << 4)),
                self.o.p.area.eq(Mux(want_r.data.far, Area.NONE, Area.DESC)),
                self.o.p.queue.eq(want_r.data.queue),
            ]
            with m.If(pending.any()):
                m.d.sync += pending.bit_select(pick, 1).eq(0)
        return m
