"""Ask for the writes of used entries, and tell of a batch when its last write has left.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.8.13 "The Virtqueue Descriptor Table" (packed).
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.dma import Area, AreaPort, WritePort, write_beat
from ..lib.queue import Buffer, Queue
from ..spec.virtio import VIRTQ_DESC_SIZE, VIRTQ_USED_ELEM_SIZE
from .suppress import Published
from .used_runs import used_run

__all__ = ["UsedWrites"]

OUTSTANDING = 8   # writes that have not left, and batches that have not been told of


class UsedWrites(wiring.Component):
    """Write each run in one request, and publish each batch after its last one.

    A write is asked for in the cycle in which its run is offered. All of its data is here then: from its first beat on they come
    one a cycle, so it keeps no other write waiting. One run a cycle, up to 8 under way.

    Parameters
    ----------
    width : int
        Bits per beat.
    num_queues, batch : int
        As of :class:`.used_collect.UsedCollect`.

    Members
    -------
    areas : In(AreaPort)
        Where the used ring, or the packed ring, of a queue begins is told here, two cycles before a run of it at the latest.
    packed : In(1)
    i : In(stream(write_beat(width)))
        The beats of each run, before the run.
    run : In(stream(used_run(batch)))
    write : Out(WritePort(width))
    o : Out(stream(Published))
        Offered after the last write of a batch has left.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, batch):
        self.width = width
        self.num_queues = num_queues
        self.batch = batch
        super().__init__({
            "areas":  In(AreaPort),
            "packed": In(1),
            "i":      In(stream.Signature(write_beat(width))),
            "run":    In(stream.Signature(used_run(batch))),
            "write":  Out(WritePort(width)),
            "o":      Out(stream.Signature(Published)),
            "busy":   Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        queues = max(2, self.num_queues)
        run, request, beat = self.run.p, self.write.req, self.write.data

        m.submodules.bases = bases = memory.Memory(shape=64, depth=queues, init=[])
        base_w, base_r = bases.write_port(), bases.read_port()
        area, address = self.areas.p, Signal(64)
        m.d.comb += [
            base_w.en.eq(self.areas.valid & Mux(self.packed, area.area == Area.DESC, area.area == Area.DEVICE)),
            base_w.addr.eq(area.queue),
            base_w.data.eq(area.addr),
            base_r.addr.eq(run.published.queue),
            request.p.addr.eq(address),
            request.p.len.eq(Mux(run.index, 2, Mux(
                self.packed, run.count * VIRTQ_DESC_SIZE, run.count * VIRTQ_USED_ELEM_SIZE))),
        ]
        # The ring of a used ring begins behind flags and idx.
        m.d.sync += address.eq(base_r.data + Mux(
            self.packed, run.place << 4, Cat(C(0, 1), run.index, ~run.index, run.place)))

        # Of each write that has not left: it is the last of its batch. What is told of these batches, in the same order.
        published = data.StructLayout({"queue": range(queues), "old": 16, "new": 16, "wrap": 1, "apart": 1})
        m.submodules.under_way = under_way = Buffer(data.StructLayout({"ends": 1}), OUTSTANDING)
        m.submodules.told = told = Buffer(published, OUTSTANDING)
        left = Signal(range(OUTSTANDING + 1))      # batches of which all writes have left
        accepted = Signal()
        m.d.comb += [
            request.valid.eq(self.run.valid & under_way.i.ready & told.i.ready),
            accepted.eq(request.valid & request.ready),
            self.run.ready.eq(accepted),
            under_way.i.valid.eq(accepted),
            under_way.i.p.ends.eq(run.ends),
            under_way.o.ready.eq(self.write.done),
            told.i.valid.eq(accepted & run.ends),
            self.o.valid.eq(left != 0),
            told.o.ready.eq(self.o.valid & self.o.ready),
            *[told.i.p[name].eq(run.published[name]) for name, _ in published],
            *[self.o.p[name].eq(told.o.p[name]) for name, _ in published],
        ]
        m.d.sync += left.eq(left + (self.write.done & under_way.o.p.ends) - (self.o.valid & self.o.ready))

        # The beats of a run, and of those that have been asked for.
        most = -(-self.batch * VIRTQ_DESC_SIZE * 8 // self.width)
        m.submodules.beats = beats = Queue(write_beat(self.width), max(2, most))
        sending = Signal(range(OUTSTANDING + 1))   # writes that have been asked for, whose data has not left
        connect(m, flipped(self.i), beats.i)
        m.d.comb += [
            beat.p.eq(beats.o.p),
            beat.valid.eq(beats.o.valid & (sending != 0)),
            beats.o.ready.eq(beat.ready & (sending != 0)),
            self.busy.eq(under_way.o.valid | told.o.valid),
        ]
        m.d.sync += sending.eq(sending + accepted - (beat.valid & beat.ready & beat.p.last))
        return m
