"""The entropy device: random bytes into whatever buffers the driver has.

Ref: VIRTIO 1.4, 5.4 "Entropy Device".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import ChainId, TakeOp
from ..lib.device import DevicePort
from ..lib.queue import Queue
from ..spec.virtio import VIRTIO_ID_ENTROPY

__all__ = ["EntropyDevice"]

BYTES = 64  # kept ready


class EntropyDevice(wiring.Component):
    """Write up to 64 random bytes into the first device-writable buffer of each chain.

    A driver is told how many it got: it may be less than there is room for (5.4.6.2). A chain is taken when there are as many
    random words, so nothing waits for the source of them with a chain in hand.

    Parameters
    ----------
    width : int

    Members
    -------
    host : Out(DevicePort)
    i : In(stream(width))
        Random words. Where they come from is the board's business.
    events : Out
    """
    DEVICE_ID = VIRTIO_ID_ENTROPY
    CLASS_CODE = 0x108000  # of those that PCI has the nearest: other encryption controller
    FEATURES = ()
    FEATURE_PREREQUISITES = {}

    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "host":   Out(DevicePort(width, num_queues=1, buffers=1, reads=0, writes=1, config_bytes=0)),
            "i":      In(stream.Signature(width)),
            "events": Out(data.StructLayout({"entropy_requests": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        buffers, write = self.host.buffers[0], self.host.writes[0]
        take, segment, used = buffers.take, buffers.segment, buffers.used
        lanes = self.width // 8
        m.submodules.words = words = Queue(self.width, max(2, BYTES // lanes))
        connect(m, flipped(self.i), words.i)

        chain, addr = Signal(ChainId), Signal(64)
        len_, left = Signal(range(BYTES + 1)), Signal(range(BYTES + 1))   # bytes to write, and of them still to go
        m.d.comb += [
            write.req.p.addr.eq(addr),
            write.req.p.len.eq(len_),
            write.data.p.data.eq(words.o.p),
            write.data.p.last.eq(left <= lanes),
            used.p.chain.eq(chain),
            used.p.len.eq(len_),
            used.p.flush.eq(1),
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += len_.eq(0)
                with m.If(buffers.available[0] & ~buffers.pause & (words.level == words.depth)):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += [take.valid.eq(1), take.p.op.eq(TakeOp.KEEP)]
                with m.If(take.ready):
                    m.next = "SEGMENTS"
            with m.State("SEGMENTS"):
                m.d.comb += segment.ready.eq(1)
                with m.If(segment.valid):
                    with m.If(segment.p.write & (len_ == 0)):
                        m.d.sync += [addr.eq(segment.p.addr), len_.eq(Mux(segment.p.len > BYTES, BYTES, segment.p.len))]
                    with m.If(segment.p.last):
                        m.d.sync += chain.eq(segment.p.chain)
                        m.next = "ASK"
                        with m.If(segment.p.error):
                            m.next = "IDLE"
            with m.State("ASK"):
                m.d.sync += left.eq(len_)
                m.d.comb += write.req.valid.eq(len_ != 0)
                with m.If(len_ == 0):
                    m.next = "USED"
                with m.Elif(write.req.ready):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [write.data.valid.eq(1), words.o.ready.eq(write.data.ready)]
                with m.If(write.data.ready):
                    m.d.sync += left.eq(left - lanes)
                    with m.If(write.data.p.last):
                        m.next = "USED"
            with m.State("USED"):
                m.d.comb += [used.valid.eq(1), self.events.entropy_requests.eq(used.ready)]
                with m.If(used.ready):
                    m.next = "IDLE"
        m.d.comb += [
            buffers.holds.eq(~fsm.ongoing("IDLE")),
            self.host.busy.eq(buffers.available[0] | ~fsm.ongoing("IDLE")),
        ]
        return m
