"""virtio-net control queue: requests answered with an ack.

Ref: VIRTIO 1.4, 5.1.9.5 "Control Virtqueue", 5.1.9.5.5 "Automatic receive steering in multiqueue mode".
"""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import BufferPort, ChainId, TakeOp
from ..lib.dma import ReadPort, WritePort
from ..spec.net import VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_OK

__all__ = ["Control"]


class Request(data.Struct):
    """The one request there is: VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET. As long as all that can be asked for."""
    class_:  8
    command: 8
    pairs:   16


REQUEST_BYTES = Request.as_shape().size // 8


class Control(wiring.Component):
    """Carry out the requests of the control queue, one after the other.

    A request may be cut anywhere. One that is not known, not negotiated, of a wrong length or out of range, or that cannot be
    read, is answered ERR and changes nothing. A chain without a byte to write is used with length 0.

    Parameters
    ----------
    width, num_queues, pairs : int

    Members
    -------
    buffers : Out(BufferPort(num_queues)), read : Out(ReadPort(width)), write : Out(WritePort(width))
        Segments are taken without waiting.
    enable : In(1)
        CTRL_VQ was negotiated.
    mq : In(1)
        MQ was negotiated.
    queue : In(range(num_queues))
        The control queue. Stable from the driver's FEATURES_OK on.
    active : Out(range(pairs + 1))
        Queue pairs that the driver uses; the first after a reset.
    settled : In(1)
        From the cycle in which ``active`` changes: nothing is under way any more that was steered by what it was before.
    busy : Out(1)
    """
    def __init__(self, *, width, num_queues, pairs):
        self.width = width
        self.num_queues = num_queues
        self.pairs = pairs
        super().__init__({
            "buffers": Out(BufferPort(num_queues)),
            "read":    Out(ReadPort(width)),
            "write":   Out(WritePort(width)),
            "enable":  In(1),
            "mq":      In(1),
            "queue":   In(range(num_queues)),
            "active":  Out(range(pairs + 1), init=1),
            "settled": In(1),
            "busy":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        take, segment, used = self.buffers.take, self.buffers.segment, self.buffers.used
        read, write = self.read, self.write

        # Parts of the request that hold something: as many as it has bytes, at most.
        m.submodules.parts = parts = memory.Memory(
            shape=data.StructLayout({"addr": 64, "len": range(REQUEST_BYTES + 1)}), depth=REQUEST_BYTES, init=[])
        part_w, part_r = parts.write_port(), parts.read_port()
        count, index = Signal(range(REQUEST_BYTES + 1)), Signal(range(REQUEST_BYTES + 1))
        total, left = Signal(range(REQUEST_BYTES + 1)), Signal(range(REQUEST_BYTES + 1))
        chain, bad = Signal(ChainId), Signal()
        ack_addr, has_ack, ack = Signal(64), Signal(), Signal(8)
        request, got = Signal(Request), Signal(range(REQUEST_BYTES + 1))

        wanted, known = Signal(), Signal()
        m.d.comb += [
            wanted.eq(self.buffers.available.bit_select(self.queue, 1) & self.enable),
            take.p.queue.eq(self.queue),
            left.eq(REQUEST_BYTES - total),
            part_w.addr.eq(count),
            part_w.data.addr.eq(segment.p.addr),
            part_w.data.len.eq(segment.p.len),
            part_r.addr.eq(index),
            read.req.p.addr.eq(part_r.data.addr),
            read.req.p.len.eq(part_r.data.len),
            known.eq(self.mq & (request.class_ == VIRTIO_NET_CTRL_MQ) & (request.command == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)
                     & (request.pairs >= 1) & (request.pairs <= self.pairs)),
            write.req.p.addr.eq(ack_addr),
            write.req.p.len.eq(1),
            write.data.p.data.eq(ack),
            write.data.p.last.eq(1),
            used.p.queue.eq(self.queue),
            used.p.chain.eq(chain),
            used.p.len.eq(has_ack),
            used.p.flush.eq(1),
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [count.eq(0), index.eq(0), total.eq(0), bad.eq(0), has_ack.eq(0), request.eq(0), got.eq(0)]
                with m.If(wanted & ~self.buffers.pause):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += [take.valid.eq(1), take.p.op.eq(TakeOp.KEEP)]
                with m.If(take.ready):
                    m.next = "SEGMENTS"
            with m.State("SEGMENTS"):
                m.d.comb += segment.ready.eq(1)
                with m.If(segment.valid):
                    with m.If(segment.p.write & (segment.p.len != 0)):
                        m.d.sync += has_ack.eq(1)
                        with m.If(~has_ack):
                            m.d.sync += ack_addr.eq(segment.p.addr)
                    with m.Elif(~segment.p.write & (segment.p.len > left)):
                        m.d.sync += bad.eq(1)
                    with m.Elif(~segment.p.write & (segment.p.len != 0)):
                        m.d.comb += part_w.en.eq(1)
                        m.d.sync += [count.eq(count + 1), total.eq(total + segment.p.len)]
                    with m.If(segment.p.last):
                        m.d.sync += chain.eq(segment.p.chain)
                        m.next = "LOOK-UP"
                        with m.If(segment.p.error):
                            m.next = "IDLE"
            with m.State("LOOK-UP"):
                m.next = "ASK"
                with m.If(bad | (total != REQUEST_BYTES)):
                    m.next = "DECIDE"
                    m.d.sync += bad.eq(1)
                with m.Elif(index == count):
                    m.next = "DECIDE"
            with m.State("ASK"):
                m.d.comb += read.req.valid.eq(1)
                with m.If(read.req.ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += read.beat.ready.eq(1)
                with m.If(read.beat.valid):
                    with m.Switch(got):
                        for at in range(REQUEST_BYTES):
                            with m.Case(at):
                                m.d.sync += Value.cast(request)[8 * at:].eq(read.beat.p.data)
                    m.d.sync += got.eq(got + read.beat.p.count)
                    with m.If(read.beat.p.last):
                        m.d.sync += [bad.eq(bad | read.beat.p.error), index.eq(index + 1)]
                        m.next = "LOOK-UP"
            with m.State("DECIDE"):
                m.d.sync += ack.eq(VIRTIO_NET_ERR)
                with m.If(known & ~bad):
                    m.d.sync += [ack.eq(VIRTIO_NET_OK), self.active.eq(request.pairs)]
                m.next = "SETTLE"
            with m.State("SETTLE"):
                # 5.1.9.5.5.1: no packet above the count once the request is used.
                with m.If(self.settled):
                    m.next = "ACK"
                    with m.If(~has_ack):
                        m.next = "USED"
            with m.State("ACK"):
                m.d.comb += write.req.valid.eq(1)
                with m.If(write.req.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += write.data.valid.eq(1)
                with m.If(write.data.ready):
                    m.next = "USED"
            with m.State("USED"):
                m.d.comb += used.valid.eq(1)
                with m.If(used.ready):
                    m.next = "IDLE"
        m.d.comb += [
            self.buffers.holds.eq(~fsm.ongoing("IDLE")),
            self.busy.eq(~fsm.ongoing("IDLE") | wanted),
        ]
        return m
