"""From the receive stream of the block to TLPs.

Ref: PG054, "Receiving Inbound Packets" and the table "Receive Interface Port Descriptions".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out, connect, flipped

from ...spec.bar import BAR_INDEX
from ...spec.pcie import HeaderDw0, TlpType
from ...spec.pcie_7x import RxUser
from ..header import byteswap
from ..tlp_stream import tlp_beat
from . import straddle
from .ports import RX, ports

__all__ = ["Rx", "swap_dws"]


def swap_dws(beat):
    """The block has DWs as numbers, with the byte that is first on the wire highest; a TLP stream has bytes."""
    return Cat(byteswap(beat[at:at + 32]) for at in range(0, len(beat), 32))


class Rx(wiring.Component):
    """Pass what the block has received; drop memory requests that it says are not for our BAR.

    Adds no cycle. The block answers requests to other addresses itself, so a request without a hit is one that it should not have
    passed on, and nothing can be said to the host about it.

    Parameters
    ----------
    width : int
        Bits per beat: 64, or 128 where packets may share a beat, see :class:`.straddle.Straddle`.

    Members
    -------
    block : Out(ports(RX))
    o : Out(stream.Signature(tlp_beat(width)))
    dropped : Out(1)
        Strobe: a request was dropped.
    """
    def __init__(self, *, width):
        if width not in (64, straddle.WIDTH):
            raise ValueError(f"Width must be 64 or {straddle.WIDTH}, not {width!r}")
        self.width = width
        super().__init__({
            "block":   Out(ports(RX, width=width)),
            "o":       Out(stream.Signature(tlp_beat(width))),
            "dropped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        block = self.block
        packets = stream.Signature(straddle.packet_beat(self.width)).create()
        if self.width == straddle.WIDTH:
            m.submodules.straddle = straddled = straddle.Straddle()
            connect(m, straddled.o, flipped(packets))
            m.d.comb += [
                straddled.valid.eq(block.m_axis_rx_tvalid),
                straddled.beat.eq(block.m_axis_rx_tdata),
                straddled.user.eq(block.m_axis_rx_tuser),
                block.m_axis_rx_tready.eq(straddled.ready),
            ]
        else:
            m.d.comb += [
                packets.valid.eq(block.m_axis_rx_tvalid),
                packets.p.data.eq(block.m_axis_rx_tdata),
                packets.p.dws.eq(Mux(block.m_axis_rx_tkeep[4], 2, 1)),
                packets.p.last.eq(block.m_axis_rx_tlast),
                packets.p.hit.eq(block.m_axis_rx_tuser[RxUser.BAR_HIT][BAR_INDEX]),
                block.m_axis_rx_tready.eq(packets.ready),
            ]
        beat, inside, dropping, drop = packets.p, Signal(), Signal(), Signal()
        # Routed by address: memory, I/O and atomic requests.
        kind = Value.cast(HeaderDw0(beat.data[:32]).type)
        by_address = ~kind[4] & ((kind[2:4] == TlpType.MEM.value >> 2) | (kind[2:4] == TlpType.FETCH_ADD.value >> 2))
        m.d.comb += [
            # What comes is taken off the block as fast as the intake takes it, so nothing is gained by holding requests back.
            block.rx_np_ok.eq(1),
            block.rx_np_req.eq(1),
            drop.eq(Mux(inside, dropping, by_address & ~beat.hit)),
            self.o.p.data.eq(swap_dws(beat.data)),
            self.o.p.dws.eq(beat.dws),
            self.o.p.last.eq(beat.last),
            self.o.valid.eq(packets.valid & ~drop),
            packets.ready.eq(self.o.ready | drop),
            self.dropped.eq(packets.valid & drop & ~inside),
        ]
        with m.If(packets.valid & packets.ready):
            m.d.sync += [inside.eq(~beat.last), dropping.eq(drop)]
        return m
