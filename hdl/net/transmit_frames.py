"""virtio-net transmit: frames out of what was read.

Ref: VIRTIO 1.4, 5.1.9.2 "Packet Transmission".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.buffers import ChainId
from ..lib.dma import read_beat
from ..lib.frame import frame_beat
from ..lib.pack import Packer
from ..lib.queue import Queue
from ..spec.net import VIRTIO_NET_HDR_GSO_UDP_TUNNEL, VIRTIO_NET_HDR_SIZE
from .transmit_reads import part_layout

__all__ = ["TransmitFrames"]


class TransmitFrames(wiring.Component):
    """Put the answers together, less the virtio_net_hdr, which may be cut anywhere.

    Two cycles of latency, a beat a cycle, and one more for a frame whose last bytes overflow into a beat of their own.

    Parameters
    ----------
    width, pairs, depth, max_chains : int
        See :class:`.transmit.Transmit`.

    Members
    -------
    i : In(stream(part_layout(pairs, depth)))
        Of each chain what it has been read in, in order.
    beat : In(stream(read_beat(width)))
        The answers, in the same order.
    o : Out(frame_beat(width)), o_valid : Out(1)
        Packed frames, from registers: who takes them has room. One that is none has ``error``. The last beat may be empty; its
        data is that of the beat before.
    o_back : Out(stream({"pair", "chain"}))
        Chains to be given back, from when their last beat has come: those that are not ``lost``. There is room for
        ``max_chains``, so what has been read never waits for the used ring.
    o_pair : Out(stream(range(pairs)))
        Of each frame, with its last beat. No beat is taken without ``o_pair.ready``.
    released : Out(range(depth + 1))
        Beats of an item whose last beat has come.
    lost : Out(1)
        Strobe: a chain has ended that is not given back.
    busy : Out(1)
        Beats are inside.
    events : Out
    """
    def __init__(self, *, width, pairs, depth, max_chains):
        self.width = width
        self.max_chains = max_chains
        self.back_layout = data.StructLayout({"pair": range(pairs), "chain": ChainId})
        super().__init__({
            "i":        In(stream.Signature(part_layout(pairs, depth))),
            "beat":     In(stream.Signature(read_beat(width))),
            "o":        Out(frame_beat(width)),
            "o_valid":  Out(1),
            "o_back":   Out(stream.Signature(self.back_layout)),
            "o_pair":   Out(stream.Signature(range(pairs))),
            "released": Out(range(depth + 1)),
            "lost":     Out(1),
            "busy":     Out(1),
            "events":   Out(data.StructLayout({"tx_frames": 1, "tx_dropped": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.packer = packer = Packer(width=self.width)
        m.submodules.back = back = Queue(self.back_layout, self.max_chains)
        connect(m, back.o, flipped(self.o_back))
        beat, now, body = self.beat, self.i.p, packer.i
        header = Signal(range(VIRTIO_NET_HDR_SIZE + 1), init=VIRTIO_NET_HDR_SIZE)  # bytes of it still to come
        cut = Signal(range(VIRTIO_NET_HDR_SIZE + 1))
        failed, spoilt, takes, ends, released = Signal(), Signal(), Signal(), Signal(), Signal()
        gso_type, tunnels = Signal(8), Signal()
        free = ~body.valid | body.ready
        m.d.comb += [
            cut.eq(Mux(header < beat.p.count, header, beat.p.count)),
            # 5.1.9.2.2: not both tunnels. gso_type is the header's second byte.
            gso_type.eq(beat.p.data.word_select(header == VIRTIO_NET_HDR_SIZE, 8)),
            tunnels.eq(((gso_type & VIRTIO_NET_HDR_GSO_UDP_TUNNEL) == VIRTIO_NET_HDR_GSO_UDP_TUNNEL)
                       & (((header == VIRTIO_NET_HDR_SIZE) & (beat.p.count > 1))
                          | ((header == VIRTIO_NET_HDR_SIZE - 1) & (beat.p.count != 0)))),
            spoilt.eq(now.drop | now.lost | failed | (now.has_read & (beat.p.error | tunnels))),
            takes.eq(self.i.valid & free & self.o_pair.ready),
            beat.ready.eq(takes & now.has_read),
            ends.eq(takes & now.last & (~now.has_read | (beat.valid & beat.p.last))),
            released.eq(beat.valid & beat.ready & beat.p.last),
            self.i.ready.eq(ends | released),
            self.released.eq(Mux(released, now.beats, 0)),
            self.o_pair.valid.eq(ends),
            self.o_pair.p.eq(now.pair),
            back.i.valid.eq(ends & ~now.lost),
            back.i.p.pair.eq(now.pair),
            back.i.p.chain.eq(now.chain),
            self.lost.eq(ends & now.lost),
            self.events.tx_frames.eq(ends & ~spoilt),
            self.events.tx_dropped.eq(ends & spoilt),
            self.busy.eq(body.valid | self.o_valid),
        ]
        with m.If(free):
            m.d.sync += [
                body.valid.eq(takes & (beat.valid | ~now.has_read)),
                body.p.data.eq(beat.p.data),
                body.p.skip.eq(cut),                                       # of a whole beat no byte counts
                body.p.count.eq(Mux(now.has_read, beat.p.count - cut, 0)),
                body.p.last.eq(ends),
                body.p.error.eq(spoilt),
            ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += [header.eq(header - cut), failed.eq(failed | tunnels | (beat.p.last & beat.p.error))]
        with m.If(ends):
            m.d.sync += [header.eq(VIRTIO_NET_HDR_SIZE), failed.eq(0)]
        m.d.comb += packer.o.ready.eq(1)
        m.d.sync += [
            self.o.count.eq(packer.o.p.count),
            self.o.last.eq(packer.o.p.last),
            self.o.error.eq(packer.o.p.error),
            self.o_valid.eq(packer.o.valid),
        ]
        with m.If(packer.o.valid & (packer.o.p.count != 0)):
            m.d.sync += self.o.data.eq(packer.o.p.data)
        return m
