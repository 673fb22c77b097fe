"""What the PHY sends on an RGMII, to bytes of a GMII.

Ref: Reduced Gigabit Media Independent Interface (RGMII) version 2.0; IEEE 802.3, 22 "Reconciliation Sublayer (RS) and Media
Independent Interface (MII)".
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

from ..spec.ethernet import PREAMBLE, SFD
from ..spec.mii import LinkState

__all__ = ["RgmiiReceive"]

FIFO_BYTES = 16
STEADY = 8  # clocks between frames for which the in-band status must not change

#: A word of the FIFO: a byte of a frame, or with ``valid`` low the end of a frame.
_WORD = data.StructLayout({"byte": 8, "error": 1, "valid": 1})


class RgmiiReceive(wiring.Component):
    """Convert what the PHY sends to bytes of a GMII in domain ``gmii_tx``, and decode the in-band status between frames.

    At 10 and 100 Mbit/s, bytes are aligned to the start delimiter, and the preamble before it is not passed on. An odd nibble
    at the end of a frame is dropped (IEEE 802.3, 4.2.4.2.2).

    Members
    -------
    gigabit : In(1)
        From any domain.
    pads_rxd, pads_rx_ctl : In
        As of :data:`.rgmii.RgmiiPads`, domain ``rgmii_rx``.
    rxd, rx_dv, rx_er, enable : Out
        Domain ``gmii_tx``. ``enable`` is the clock enable of the receiving MAC.
    inband : Out(LinkState)
        The in-band status, domain ``rgmii_rx``: all zero if the PHY does not provide it.
    """
    def __init__(self):
        super().__init__({
            "gigabit": In(1),
            "pads_rxd": In(8), "pads_rx_ctl": In(2),
            "rxd": Out(8), "rx_dv": Out(1), "rx_er": Out(1), "enable": Out(1),
            "inband": Out(LinkState),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = AsyncFIFO(width=_WORD.size, depth=FIFO_BYTES, w_domain="rgmii_rx", r_domain="gmii_tx")
        gigabit = Signal()
        m.submodules.gigabit = FFSynchronizer(self.gigabit, gigabit, o_domain="rgmii_rx")

        rxd, valid, error = Signal(8), Signal(), Signal()
        m.d.rgmii_rx += [
            rxd.eq(self.pads_rxd),
            valid.eq(self.pads_rx_ctl[0]),
            error.eq(self.pads_rx_ctl.xor()),                                          # 3.4: RX_DV, then RX_DV xor RX_ER
        ]
        word, push, low, low_error = Signal(_WORD), Signal(), Signal(4), Signal()
        m.d.comb += [fifo.w_data.eq(word), fifo.w_en.eq(push), word.valid.eq(valid)]
        five = Signal()                                # the nibble before was one of the preamble
        with m.FSM(domain="rgmii_rx") as fsm:
            m.d.rgmii_rx += five.eq(valid & fsm.ongoing("PREAMBLE"))
            with m.State("PREAMBLE"):
                m.d.comb += [word.byte.eq(Mux(gigabit, rxd, SFD)), word.error.eq(error)]
                with m.If(valid & gigabit):
                    m.d.comb += push.eq(1)
                    m.next = "BYTES"
                with m.Elif(valid & five & ~error & (rxd[:4] == SFD >> 4)):
                    m.d.comb += push.eq(1)
                    m.next = "LOW"
                with m.Elif(valid & (error | (rxd[:4] != PREAMBLE & 0xf))):
                    m.next = "SKIP"
            with m.State("BYTES"):
                m.d.comb += [word.byte.eq(rxd), word.error.eq(error), push.eq(1)]
                with m.If(~valid):
                    m.next = "PREAMBLE"
            with m.State("LOW"):
                m.d.comb += push.eq(~valid)
                m.d.rgmii_rx += [low.eq(rxd[:4]), low_error.eq(error)]
                m.next = "HIGH"
                with m.If(~valid):
                    m.next = "PREAMBLE"
            with m.State("HIGH"):
                m.d.comb += [word.byte.eq(Cat(low, rxd[:4])), word.error.eq(error | low_error), push.eq(1)]
                m.next = "LOW"
                with m.If(~valid):
                    m.next = "PREAMBLE"
            with m.State("SKIP"):
                with m.If(~valid):
                    m.next = "PREAMBLE"

        # 3.4.1: with RX_DV and RX_ER low, RXD shows the state of the link, if the PHY does that at all.
        shown, steady = Signal(4), Signal(range(STEADY))
        m.d.rgmii_rx += shown.eq(rxd[:4])
        with m.If(valid | error | (rxd[:4] != shown)):
            m.d.rgmii_rx += steady.eq(0)
        with m.Elif(steady != STEADY - 1):
            m.d.rgmii_rx += steady.eq(steady + 1)
        with m.Else():
            m.d.rgmii_rx += self.inband.eq(shown)

        # The reader is as fast as the writer, within 200 ppm, so the FIFO never fills. Within a frame the MAC waits for each
        # byte; between frames it is always enabled, because it needs clocks to finish a frame.
        came, inside = _WORD(fifo.r_data), Signal()
        m.d.comb += [
            fifo.r_en.eq(1),
            self.enable.eq(fifo.r_rdy | ~inside),
            self.rxd.eq(came.byte),
            self.rx_dv.eq(fifo.r_rdy & came.valid),
            self.rx_er.eq(fifo.r_rdy & came.valid & came.error),
        ]
        with m.If(fifo.r_rdy):
            m.d.gmii_tx += inside.eq(came.valid)
        return m
