"""Frames to bytes on a GMII.

Ref: IEEE 802.3, 35 "Reconciliation Sublayer (RS) and Gigabit Media Independent Interface (GMII)", 4.2 "CSMA/CD Media
Access Control (MAC) method", 31B "MAC Control PAUSE operation".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.frame import frame_beat
from ..spec.ethernet import FCS_BYTES, IFG_BYTES, MIN_FRAME_BYTES, PAUSE_QUANTUM_BYTES, PREAMBLE, PREAMBLE_BYTES, SFD
from .crc import CRC_INIT, crc_next

__all__ = ["GmiiTransmit"]

PREFILL = 24  # GMII clocks from the first beat seen to the first byte sent, and more for a slow core


class GmiiTransmit(wiring.Component):
    """Send frames: preamble, padding to 60 bytes, FCS, gap. Domain ``gmii_tx``.

    Members
    -------
    beat : In(frame_beat(width)), beat_valid : In(1), beat_ready : Out(1)
        Frames without FCS. A frame that has begun and then lacks a beat is spoilt with TX_ER.
    pause : In(16), pause_valid : In(1)
        Strobe: send nothing more for this many quanta.
    loop : In(1)
        With a frame's first beat: it goes round and not to the partner, whose pauses do not hold it.
    drain : In(1)
        Do not heed pauses.
    txd, tx_en, tx_er : Out
    tx_loop : Out(1)
        ``loop`` of the frame that is being sent.
    sent : Out(1)
        Toggles with every frame sent.
    busy : Out(1)
        Frames wait or are being sent.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "beat": In(frame_beat(width)), "beat_valid": In(1), "beat_ready": Out(1),
            "loop": In(1), "pause": In(16), "pause_valid": In(1), "drain": In(1),
            "txd": Out(8), "tx_en": Out(1), "tx_er": Out(1), "tx_loop": Out(1), "sent": Out(1), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        lane  = Signal(range(lanes))
        sent  = Signal(range(max(MIN_FRAME_BYTES, PREFILL, IFG_BYTES) + 1))  # bytes of the phase, saturating
        crc   = Signal(32)
        byte  = Signal(8)
        quiet = Signal(range(0xffff * PAUSE_QUANTUM_BYTES + 1))  # pause left, bytes
        final = Signal()
        txd, tx_en, tx_er = Signal(8), Signal(), Signal()

        with m.If(self.pause_valid):
            m.d.gmii_tx += quiet.eq(self.pause * PAUSE_QUANTUM_BYTES)
        with m.Elif(quiet != 0):
            m.d.gmii_tx += quiet.eq(quiet - 1)
        m.d.comb += [
            byte.eq(self.beat.data.word_select(lane, 8)),
            final.eq(self.beat.last & (lane == self.beat.count - 1)),
        ]
        m.d.gmii_tx += [self.txd.eq(txd), self.tx_en.eq(tx_en), self.tx_er.eq(tx_er)]

        with m.FSM(domain="gmii_tx", name="state") as fsm:
            m.d.gmii_tx += self.busy.eq(self.beat_valid | ~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.gmii_tx += [lane.eq(0), crc.eq(CRC_INIT)]
                with m.If(self.beat_valid):
                    m.d.gmii_tx += sent.eq(sent + 1)
                    # 31B.3.2: a pause never cuts a frame that has begun.
                    with m.If((sent >= PREFILL) & ((quiet == 0) | self.drain | self.loop)):
                        m.d.gmii_tx += [sent.eq(0), self.tx_loop.eq(self.loop)]
                        m.next = "PREAMBLE"
                    with m.Elif(sent >= PREFILL):
                        m.d.gmii_tx += sent.eq(PREFILL)
            with m.State("PREAMBLE"):
                m.d.comb += [tx_en.eq(1), txd.eq(Mux(sent == PREAMBLE_BYTES, SFD, PREAMBLE))]
                m.d.gmii_tx += sent.eq(sent + 1)
                with m.If(sent == PREAMBLE_BYTES):
                    m.d.gmii_tx += sent.eq(0)
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [tx_en.eq(1), txd.eq(byte), tx_er.eq(~self.beat_valid)]
                with m.If(self.beat_valid):
                    m.d.gmii_tx += [lane.eq(lane + 1), crc.eq(crc_next(crc, byte))]
                    with m.If(sent != MIN_FRAME_BYTES):
                        m.d.gmii_tx += sent.eq(sent + 1)
                    with m.If(final | (lane == lanes - 1)):
                        m.d.comb += self.beat_ready.eq(1)
                        m.d.gmii_tx += lane.eq(0)
                    with m.If(final):
                        m.next = "FCS"
                        with m.If(sent < MIN_FRAME_BYTES - 1):
                            m.next = "PAD"
                        with m.Else():
                            m.d.gmii_tx += sent.eq(0)
                with m.Else():
                    m.next = "SPOIL"
            with m.State("PAD"):
                m.d.comb += tx_en.eq(1)
                m.d.gmii_tx += [sent.eq(sent + 1), crc.eq(crc_next(crc, C(0, 8)))]
                with m.If(sent == MIN_FRAME_BYTES - 1):
                    m.d.gmii_tx += sent.eq(0)
                    m.next = "FCS"
            with m.State("FCS"):
                m.d.comb += [tx_en.eq(1), txd.eq(~crc[:8])]
                m.d.gmii_tx += [sent.eq(sent + 1), crc.eq(crc >> 8)]
                with m.If(sent == FCS_BYTES - 1):
                    m.d.gmii_tx += [sent.eq(0), self.sent.eq(~self.sent)]
                    m.next = "GAP"
            with m.State("SPOIL"):
                # The rest of a frame that came too late.
                m.d.comb += self.beat_ready.eq(1)
                with m.If(self.beat_valid & self.beat.last):
                    m.d.gmii_tx += sent.eq(0)
                    m.next = "GAP"
            with m.State("GAP"):
                m.d.gmii_tx += sent.eq(sent + 1)
                # The gap and the first clock of "IDLE" together; what waits has been filling up meanwhile.
                with m.If(sent == IFG_BYTES - 2):
                    m.d.gmii_tx += sent.eq(Mux(self.beat_valid, PREFILL, 0))
                    m.next = "IDLE"
        return m
