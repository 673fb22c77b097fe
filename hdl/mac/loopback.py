"""The wire, or a way round in its place: bytes of a GMII from the transmitter to the receiver, across their clocks."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

__all__ = ["GmiiLoopback"]

FIFO_BYTES = 32
# Clocks from a frame's first byte seen to its first byte on its way: what a frame of 9 kB may lose to a faster reader before it
# runs dry; and as many of the gap's 12 are left to a slower one. Either way, for clocks 500 ppm apart.
AHEAD = 5

_WORD = data.StructLayout({"byte": 8, "error": 1, "end": 1})  # ``end``: comes after the last byte, and is none itself


class GmiiLoopback(wiring.Component):
    """Pass frames between a MAC and its pads, or lead them back to where they came from. Adds a register each way.

    What is sent goes out or round frame by frame, as ``tx_loop`` says, and while a frame goes round the wire is quiet. What is
    received comes from the wire while ``loopback`` is low, from the way round while it is high. When it rises, a frame that is
    coming is cut: a dead wire never ends it. When it falls, a frame on its way round arrives, and then the wire is heard from
    its next frame on. Both clocks must run; if they are further apart than Ethernet allows, frames are cut, which their FCS
    shows, and what follows is whole again.

    Members
    -------
    loopback : In(1)
        Domain ``sync``.
    txd, tx_en, tx_er, tx_loop : In
        From the transmitter, domain ``gmii_tx``. ``tx_loop`` stands still during a frame.
    rxd, rx_dv, rx_er : Out
        To the receiver, domain ``gmii_rx``.
    heard : Out(1)
        Domain ``gmii_rx``: what the receiver gets comes from the wire.
    busy : Out(1)
        Domain ``gmii_rx``: a frame is on its way round.
    gmii_* : the wire
    """
    def __init__(self):
        super().__init__({
            "loopback": In(1),
            "txd": In(8), "tx_en": In(1), "tx_er": In(1), "tx_loop": In(1),
            "rxd": Out(8), "rx_dv": Out(1), "rx_er": Out(1),
            "heard": Out(1), "busy": Out(1),
            "gmii_rxd": In(8), "gmii_rx_dv": In(1), "gmii_rx_er": In(1),
            "gmii_txd": Out(8), "gmii_tx_en": Out(1), "gmii_tx_er": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = AsyncFIFO(
            width=_WORD.size, depth=FIFO_BYTES, w_domain="gmii_tx", r_domain="gmii_rx")
        loopback = Signal()
        m.submodules.loopback = FFSynchronizer(self.loopback, loopback, o_domain="gmii_rx")

        # Out, or into the FIFO. A frame that finds it full is lost from there on, but its end is told.
        goes, word, begun = Signal(), Signal(_WORD), Signal()
        m.d.comb += [goes.eq(self.tx_en & ~self.tx_loop), fifo.w_data.eq(word)]
        m.d.gmii_tx += [
            self.gmii_txd.eq(Mux(goes, self.txd, 0)),
            self.gmii_tx_en.eq(goes),
            self.gmii_tx_er.eq(goes & self.tx_er),
        ]
        with m.FSM(domain="gmii_tx", name="out"):
            with m.State("PASS"):
                m.d.comb += [
                    word.byte.eq(self.txd),
                    word.error.eq(self.tx_er),
                    word.end.eq(~self.tx_en),
                    fifo.w_en.eq(Mux(self.tx_en, self.tx_loop, begun)),
                ]
                with m.If(fifo.w_en):
                    m.d.gmii_tx += begun.eq(~word.end)
                    with m.If(~fifo.w_rdy):
                        m.next = "LOST"
            with m.State("LOST"):
                m.d.comb += [word.end.eq(1), fifo.w_en.eq(1)]
                with m.If(fifo.w_rdy):
                    m.next = "SKIP"
            with m.State("SKIP"):
                m.d.gmii_tx += begun.eq(0)
                with m.If(~self.tx_en):
                    m.next = "PASS"

        # In.
        came, inside, waited = _WORD(fifo.r_data), Signal(), Signal(range(AHEAD))
        with m.If(fifo.r_rdy & fifo.r_en):
            m.d.gmii_rx += inside.eq(~came.end)
        m.d.gmii_rx += [self.rx_dv.eq(0), self.rx_er.eq(0), self.busy.eq(fifo.r_rdy)]
        with m.FSM(domain="gmii_rx", name="in"):
            with m.State("WIRE"):
                m.d.comb += [self.heard.eq(1), fifo.r_en.eq(1)]
                m.d.gmii_rx += [
                    self.rxd.eq(self.gmii_rxd),
                    self.rx_dv.eq(self.gmii_rx_dv),
                    self.rx_er.eq(self.gmii_rx_er),
                ]
                with m.If(loopback):
                    m.next = "GAP"
            with m.State("GAP"):
                m.d.comb += fifo.r_en.eq(inside)  # the rest of a frame that was cut
                m.d.gmii_rx += waited.eq(0)
                with m.If(fifo.r_rdy & ~inside):
                    m.next = "AHEAD"
                with m.Elif(~loopback):
                    m.next = "REST"
            with m.State("AHEAD"):
                m.d.gmii_rx += waited.eq(waited + 1)
                with m.If(waited == AHEAD - 1):
                    m.next = "ROUND"
            with m.State("ROUND"):
                m.d.comb += fifo.r_en.eq(1)
                m.d.gmii_rx += [
                    self.rxd.eq(came.byte),
                    self.rx_dv.eq(fifo.r_rdy & ~came.end),
                    self.rx_er.eq(fifo.r_rdy & ~came.end & came.error),
                ]
                with m.If(~fifo.r_rdy | came.end):
                    m.next = "GAP"
            with m.State("REST"):
                m.d.comb += fifo.r_en.eq(1)
                with m.If(~self.gmii_rx_dv):
                    m.next = "WIRE"
        return m
