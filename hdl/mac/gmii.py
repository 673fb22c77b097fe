"""Ethernet MAC on a GMII.

Ref: IEEE 802.3, 35 "Reconciliation Sublayer (RS) and Gigabit Media Independent Interface (GMII)", 4.2 "CSMA/CD Media
Access Control (MAC) method", 31 "MAC Control", 31B "MAC Control PAUSE operation".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

from ..lib.frame import frame_beat
from .gmii_receive import GmiiReceive, rx_beat
from .gmii_transmit import GmiiTransmit
from .loopback import GmiiLoopback

__all__ = ["Gmii"]

FIFO_BEATS = 32


class Gmii(wiring.Component):
    """Ethernet frames on one side, a GMII on the other.

    Clock domains: ``sync`` for the streams, ``gmii_rx`` and ``gmii_tx`` for the wire. The core may be slower than the
    wire, as long as ``width`` bits a cycle are no less than 8 bits a GMII clock.

    Parameters
    ----------
    width : int
    max_frame : int
        Longest frame taken, in bytes with FCS.

    Members
    -------
    mac_address : In(48)
        The station's, first byte highest: whose pauses are obeyed, besides those for all. Stable while frames come.
    i : In(stream(frame_beat(width)))
        Frames without FCS, error never set; once begun, a frame comes without pause.
    o : Out(stream(frame_beat(width)))
        Frames without FCS; damaged ones and those of MAC Control end with ``error``. To be taken at once.
    drain : In(1)
        Send what has been given, whatever pause the partner asks for.
    loopback : In(1)
        What is sent comes back as if received, in place of what the wire brings, and nothing goes to the wire. A frame goes
        where ``loopback`` tells with its first beat; one that is on its way when it changes may be lost. No pause that
        comes round is heeded.
    busy : Out(1)
        Frames wait for the wire, or are on their way to it or round.
    gmii_* : the wire
    events : Out
        Strobes for the counters.
    """
    def __init__(self, *, width, max_frame):
        self.width = width
        self.max_frame = max_frame
        super().__init__({
            "mac_address": In(48),
            "i": In(stream.Signature(frame_beat(width))),
            "o": Out(stream.Signature(frame_beat(width))),
            "drain": In(1),
            "loopback": In(1),
            "busy": Out(1),
            "gmii_rxd": In(8), "gmii_rx_dv": In(1), "gmii_rx_er": In(1),
            "gmii_txd": Out(8), "gmii_tx_en": Out(1), "gmii_tx_er": Out(1),
            "events": Out(data.StructLayout({name: 1 for name in (
                "mac_rx_bad_fcs", "mac_rx_runt", "mac_rx_giant", "mac_rx_overflow", "mac_rx_pause",
                "mac_rx_control", "mac_tx_frames")})),
        })

    def elaborate(self, platform):
        m = Module()
        transmit = GmiiTransmit(width=self.width)
        m.submodules.drain = FFSynchronizer(self.drain, transmit.drain, o_domain="gmii_tx")
        m.submodules.receive = receive = GmiiReceive(width=self.width, max_frame=self.max_frame)
        tx_layout, rx_layout = frame_beat(self.width), rx_beat(self.width)
        m.submodules.loopback = loopback = GmiiLoopback()
        m.submodules.tx_fifo = tx_fifo = AsyncFIFO(
            width=tx_layout.size + 1, depth=FIFO_BEATS, w_domain="sync", r_domain="gmii_tx")
        # A reset of the core empties the FIFO in the middle of a frame, whose end is not to be waited for.
        m.submodules.transmit = ResetInserter({"gmii_tx": tx_fifo.r_rst})(transmit)
        m.submodules.rx_fifo = rx_fifo = AsyncFIFO(
            width=rx_layout.size, depth=FIFO_BEATS, w_domain="gmii_rx", r_domain="sync")
        m.submodules.pauses = pauses = AsyncFIFO(width=16, depth=4, w_domain="gmii_rx", r_domain="gmii_tx")

        came = rx_layout(rx_fifo.r_data)
        ended = Signal()
        m.d.comb += [
            tx_fifo.w_data.eq(Cat(self.i.payload, self.loopback)),
            tx_fifo.w_en.eq(self.i.valid),
            self.i.ready.eq(tx_fifo.w_rdy),
            Cat(transmit.beat, transmit.loop).eq(tx_fifo.r_data),
            transmit.beat_valid.eq(tx_fifo.r_rdy),
            tx_fifo.r_en.eq(transmit.beat_ready),

            rx_fifo.w_data.eq(receive.o),
            rx_fifo.w_en.eq(receive.o_valid),
            receive.o_ready.eq(rx_fifo.w_rdy),
            self.o.payload.eq(came.beat),
            self.o.valid.eq(rx_fifo.r_rdy),
            rx_fifo.r_en.eq(self.o.ready),

            pauses.w_data.eq(receive.pause),
            pauses.w_en.eq(receive.pause_valid & loopback.heard),
            transmit.pause.eq(pauses.r_data),
            transmit.pause_valid.eq(pauses.r_rdy),
            pauses.r_en.eq(1),

            loopback.loopback.eq(self.loopback),
            loopback.txd.eq(transmit.txd),
            loopback.tx_en.eq(transmit.tx_en),
            loopback.tx_er.eq(transmit.tx_er),
            loopback.tx_loop.eq(transmit.tx_loop),
            receive.mac_address.eq(self.mac_address),
            receive.rxd.eq(loopback.rxd),
            receive.rx_dv.eq(loopback.rx_dv),
            receive.rx_er.eq(loopback.rx_er),
            loopback.gmii_rxd.eq(self.gmii_rxd),
            loopback.gmii_rx_dv.eq(self.gmii_rx_dv),
            loopback.gmii_rx_er.eq(self.gmii_rx_er),
            self.gmii_txd.eq(loopback.gmii_txd),
            self.gmii_tx_en.eq(loopback.gmii_tx_en),
            self.gmii_tx_er.eq(loopback.gmii_tx_er),

            ended.eq(self.o.valid & self.o.ready & came.beat.last),
            self.events.mac_rx_bad_fcs.eq(ended & came.bad_fcs),
            self.events.mac_rx_runt.eq(ended & came.runt),
            self.events.mac_rx_giant.eq(ended & came.giant),
            self.events.mac_rx_overflow.eq(ended & came.overflow),
            self.events.mac_rx_pause.eq(ended & came.pause),
            self.events.mac_rx_control.eq(ended & came.control),
        ]

        sent, was_sent = Signal(), Signal()
        m.submodules.sent = FFSynchronizer(transmit.sent, sent)
        m.d.sync += was_sent.eq(sent)
        m.d.comb += self.events.mac_tx_frames.eq(sent != was_sent)

        sending, rounding = Signal(), Signal()
        m.submodules.sending  = FFSynchronizer(transmit.busy, sending)
        m.submodules.rounding = FFSynchronizer(loopback.busy, rounding)
        m.d.comb += self.busy.eq((tx_fifo.w_level != 0) | sending | rounding)
        return m
