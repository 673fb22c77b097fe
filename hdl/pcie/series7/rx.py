"""From the receive stream of the block to TLPs.

Ref: PG054, "Receiving Inbound Packets" and the table "Receive Interface Port Descriptions".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from ...spec.bar import BAR_INDEX
from ...spec.pcie import HeaderDw0, TlpType
from ...spec.pcie_7x import RxUser
from ..header import byteswap
from ..tlp_stream import tlp_beat
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
        Bits per beat: 64.

    Members
    -------
    block : Out(ports(RX))
    o : Out(stream.Signature(tlp_beat(width)))
    dropped : Out(1)
        Strobe: a request was dropped.
    """
    def __init__(self, *, width):
        if width != 64:
            raise ValueError(f"Width must be 64, not {width!r}")
        self.width = width
        super().__init__({
            "block":   Out(ports(RX, width=width)),
            "o":       Out(stream.Signature(tlp_beat(width))),
            "dropped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        block = self.block
        inside, dropping, drop = Signal(), Signal(), Signal()
        dw0 = HeaderDw0(block.m_axis_rx_tdata[:32])
        # Routed by address: memory, I/O and atomic requests.
        kind = Value.cast(dw0.type)
        by_address = ~kind[4] & ((kind[2:4] == TlpType.MEM.value >> 2) | (kind[2:4] == TlpType.FETCH_ADD.value >> 2))
        hit = block.m_axis_rx_tuser[RxUser.BAR_HIT][BAR_INDEX]
        m.d.comb += [
            # What comes is taken off the block as fast as the intake takes it, so nothing is gained by holding requests back.
            block.rx_np_ok.eq(1),
            block.rx_np_req.eq(1),
            drop.eq(Mux(inside, dropping, by_address & ~hit)),
            self.o.payload.data.eq(swap_dws(block.m_axis_rx_tdata)),
            self.o.payload.dws.eq(Mux(block.m_axis_rx_tkeep[4], 2, 1)),
            self.o.payload.last.eq(block.m_axis_rx_tlast),
            self.o.valid.eq(block.m_axis_rx_tvalid & ~drop),
            block.m_axis_rx_tready.eq(self.o.ready | drop),
            self.dropped.eq(block.m_axis_rx_tvalid & drop & ~inside),
        ]
        with m.If(block.m_axis_rx_tvalid & block.m_axis_rx_tready):
            m.d.sync += [inside.eq(~block.m_axis_rx_tlast), dropping.eq(drop)]
        return m
