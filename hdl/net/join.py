"""virtio-net receive: the header in front of each frame.

Ref: VIRTIO 1.4, 5.1.9 "Device Operation", 5.1.9.4 "Processing of Incoming Packets".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.frame import frame_beat
from ..lib.slice import Slice
from ..spec.net import VIRTIO_NET_HDR_SIZE, VirtioNetHdr

__all__ = ["Join"]


class Join(wiring.Component):
    """Put the header in front of each frame, or drop the frame.

    A full beat a cycle, frame behind frame; beats leave a cycle later, through registers.

    Members
    -------
    i_job : In(stream), i : In(stream(frame_beat(width)))
        Of each frame: ``num_buffers``, ``drop``. Frames are packed.
    o : Out(stream(frame_beat(width)))
        Packed; bytes beyond ``count`` are those of the frame's beat, or 0.
    """
    def __init__(self, *, width):
        self.width = width
        self.job = data.StructLayout({"drop": 1, "num_buffers": 16})
        super().__init__({
            "i_job": In(stream.Signature(self.job)),
            "i":     In(stream.Signature(frame_beat(width))),
            "o":     Out(stream.Signature(frame_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        whole, rest = divmod(VIRTIO_NET_HDR_SIZE, lanes)   # beats of the header alone; bytes of it before the frame's first
        room = lanes - rest                                # bytes of a frame's beat that leave with it
        m.submodules.slice = slice = Slice(frame_beat(self.width))
        connect(m, slice.o, flipped(self.o))
        o, job = slice.i, self.i_job
        header = Signal(VirtioNetHdr)
        at = Signal(range(whole + 1))                      # of the header's whole beats, those that have left
        held, first = Signal(8 * rest), Signal(init=1)     # bytes that go before the next ones; the header's go first
        tail, count = Signal(), Signal(range(lanes + 1))   # what is held is the frame's end, so many bytes
        total = Signal(range(2 * lanes + 1))
        m.d.comb += [
            header.num_buffers.eq(job.p.num_buffers),
            total.eq(rest + self.i.p.count),
        ]
        before = Mux(first, Value.cast(header)[8 * lanes * whole:], held)
        with m.If(tail):
            m.d.comb += [o.valid.eq(1), o.p.count.eq(count), o.p.last.eq(1), o.p.data.eq(held)]
            with m.If(o.ready):
                m.d.sync += tail.eq(0)
        with m.Elif(job.valid & job.p.drop):
            m.d.comb += [self.i.ready.eq(1), job.ready.eq(self.i.valid & self.i.p.last)]
        with m.Elif(job.valid & (at != whole)):
            m.d.comb += [
                o.valid.eq(1),
                o.p.count.eq(lanes),
                o.p.data.eq(Value.cast(header).word_select(at, self.width) if whole else 0),
            ]
            with m.If(o.ready):
                m.d.sync += at.eq(at + 1)
        with m.Elif(job.valid):
            m.d.comb += [
                o.valid.eq(self.i.valid),
                self.i.ready.eq(o.ready),
                o.p.count.eq(Mux(total > lanes, lanes, total)),
                o.p.last.eq(self.i.p.last & (total <= lanes)),
                o.p.data.eq(Cat(before, self.i.p.data[:8 * room])),
                job.ready.eq(self.i.valid & o.ready & self.i.p.last),
            ]
            with m.If(self.i.valid & o.ready):
                m.d.sync += [held.eq(self.i.p.data[8 * room:]), first.eq(0)]
                with m.If(self.i.p.last):
                    m.d.sync += [first.eq(1), at.eq(0), tail.eq(total > lanes), count.eq(total - lanes)]
        return m
