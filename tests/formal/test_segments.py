"""No DMA outside of what was described: a request of a device is for a segment that it was given, and asks for no more of it; and
the walk makes segments of descriptors that it read, from where it was told to read.

What is opaque to a component is marked: an address, or a chain, that the solver chooses once is unlike all others. What a proof is not
about is anything: the frame memories are components with the same ports whose outputs are free.
"""

import pytest

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ringnic.hdl.lib.buffers import Segment
from ringnic.hdl.lib.packet_queue import PacketQueue
from ringnic.hdl.lib.queue import Queue
from prove import broken


class Anything(wiring.Component):
    """In the place of ``component``: what it gives out is anything in any cycle, but what it offers on ``streams`` is held."""
    def __init__(self, p, component, streams):
        self.p = p
        super().__init__(component.signature)
        for name in streams:
            p.assume(p._held(getattr(self, name)))

    def elaborate(self, platform):
        m = Module()
        for path, member, value in self.signature.flatten(self):
            value = Value.cast(value)
            if member.flow == Out and len(value):
                m.d.comb += value.eq(self.p.free(len(value), "_".join(map(str, path))))
        return m


def made(p, name, line, instead):
    """The module of this name with one line changed, short queues, and a frame memory that is anything."""
    module = broken(name, line, instead)
    module.Queue = lambda shape, depth: Queue(shape, min(depth, 2))
    module.PacketQueue = lambda **parameters: Anything(p, PacketQueue(**parameters), ("o", "o_len"))
    return module


def segment(**fields):
    """A :class:`Segment` of these fields; the others are 0."""
    shape = Segment.as_shape()
    assert fields.keys() <= {name for name, _ in shape}
    return Cat(Cat(Value.cast(fields.get(name, 0)), C(0, 128))[:field.width] for name, field in shape)


# Transmit

SAME = "class Transmit("


def transmits(p, line=SAME, instead=SAME):
    """A read is for the segment that came last, the whole of it, once; it is a device-readable one of a sound chain."""
    dut = p.add(made(p, "ringnic.hdl.net.transmit", line, instead).Transmit(
        width=32, num_queues=2, max_frame=32, depth=16, max_chains=2, patience=4))
    m = p.m
    now = segment(queue=C(1, 16), addr=p.free(64, "addr"), len=p.free(32, "len"), write=p.free(name="write"),
                  last=p.free(name="last"), error=p.free(name="error"))
    port = dut.buffers.segment
    given = p.feed(port, now)
    p.assume(~port.payload.error | port.payload.last)
    m.d.comb += [
        dut.link_up.eq(p.free(name="link_up")), dut.hurry.eq(p.free(name="hurry")), dut.buffers.pause.eq(p.free(name="pause")),
        dut.buffers.available.eq(p.free(2, "available")), dut.o.ready.eq(p.free(name="ready")),
    ]
    p.feed(dut.read.beat)
    p.take(dut.buffers.take)
    p.take(dut.buffers.used)
    asked, request = p.take(dut.read.req), dut.read.req.payload
    latest, fresh = Signal(Segment), Signal()
    with m.If(asked):
        m.d.sync += fresh.eq(0)
    with m.If(port.ready):
        m.d.sync += [latest.eq(port.payload), fresh.eq(given)]
    with m.If(dut.read.req.valid):
        p.check(fresh & ~latest.write & ~latest.error)
        p.check((request.addr == latest.addr) & (request.len == latest.len) & (latest.len != 0))
    p.cover(asked & latest.last)
    p.cover(asked & ~latest.last)


def test_transmit(formal):
    formal.always(transmits)
    formal.covers(transmits, 12)


@pytest.mark.parametrize("line, instead", [
    ("bad.eq(drop | segment.p.write", "bad.eq(drop"),
    ("| (sum_ > longest)", ""),                                   # the low 16 bits of a length are not the length
    ("& (segment.p.len != 0) & ~segment.p.error", "& ~segment.p.error"),
    ("(segment.p.len != 0) & ~segment.p.error", "(segment.p.len != 0)"),
    ("m.d.sync += judged_valid.eq(0)", "pass"),                   # asked for twice
])
def test_broken_transmit(formal, line, instead):
    formal.refutes(lambda p: transmits(p, line, instead), 10)
