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
from ..spec.ethernet import (ETHERTYPE_MAC_CONTROL, FCS_BYTES, IFG_BYTES, MIN_FRAME_BYTES, PAUSE_ADDRESS, PAUSE_OPCODE,
                             PAUSE_QUANTUM_BYTES, PREAMBLE, PREAMBLE_BYTES, SFD)
from .crc import CRC_INIT, CRC_RESIDUE, crc_next
from .loopback import GmiiLoopback

__all__ = ["GmiiTransmit", "GmiiReceive", "Gmii"]

FIFO_BEATS = 32
PREFILL = 24  # GMII clocks from the first beat seen to the first byte sent, and more for a slow core


def rx_beat(width):
    """A beat with the verdict of the frame, valid with ``last``."""
    return data.StructLayout({"beat": frame_beat(width), "bad_fcs": 1, "runt": 1, "giant": 1, "overflow": 1,
                              "pause": 1, "control": 1})


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


class GmiiReceive(wiring.Component):
    """Take frames from the wire: find the start, check length and FCS, strip the FCS. Domain ``gmii_rx``.

    MAC Control frames are for the MAC: they end with ``error``, and with ``pause``, or with ``control`` if they are anything
    but a PAUSE for this station.

    Parameters
    ----------
    width, max_frame : int
        As of :class:`Gmii`.

    Members
    -------
    mac_address : In(48)
        Of the station, from any domain: it stays the same while frames come.
    rxd, rx_dv, rx_er : In
    o : Out(rx_beat(width)), o_valid : Out(1), o_ready : In(1)
        A beat that finds ``o_ready`` low is lost, and its frame ends with ``error`` and ``overflow``.
    pause : Out(16), pause_valid : Out(1)
        Strobe: a good pause frame, in quanta.
    """
    def __init__(self, *, width, max_frame):
        self.width = width
        self.max_frame = max_frame
        super().__init__({
            "mac_address": In(48),
            "rxd": In(8), "rx_dv": In(1), "rx_er": In(1),
            "o": Out(rx_beat(width)), "o_valid": Out(1), "o_ready": In(1),
            "pause": Out(16), "pause_valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        tail   = Signal(8 * FCS_BYTES)                 # the newest bytes: FCS, if the frame ends here
        word   = Signal(self.width)
        filled = Signal(range(lanes + 1))              # bytes of ``word``
        length = Signal(range(self.max_frame + 2))     # bytes after the SFD, saturating
        crc    = Signal(32)
        broken, overflow = Signal(), Signal()
        quanta = Signal(16)
        # What a header may hold, and from which byte on; whether each byte of it is that.
        own = [self.mac_address.word_select(5 - k, 8) for k in range(6)]
        patterns = {"group": (0, PAUSE_ADDRESS), "own": (0, own),
                    "control": (12, ETHERTYPE_MAC_CONTROL.to_bytes(2, "big")),
                    "pause": (14, PAUSE_OPCODE.to_bytes(2, "big"))}
        found = {name: Signal(len(pattern), name=name) for name, (_, pattern) in patterns.items()}

        push = Signal()
        with m.If(push & ~self.o_ready):
            m.d.gmii_rx += overflow.eq(1)
        m.d.comb += [
            self.o_valid.eq(push),
            self.o.beat.data.eq(word),
            self.o.beat.count.eq(filled),
            self.pause.eq(quanta),
        ]

        with m.FSM(domain="gmii_rx", name="state"):
            with m.State("IDLE"):
                m.d.gmii_rx += [
                    word.eq(0), filled.eq(0), length.eq(0), crc.eq(CRC_INIT), broken.eq(0), overflow.eq(0),
                    *[matches.eq(0) for matches in found.values()],
                ]
                with m.If(self.rx_dv):
                    with m.If((self.rxd == SFD) & ~self.rx_er):
                        m.next = "DATA"
                    with m.Elif((self.rxd != PREAMBLE) | self.rx_er):
                        m.next = "SKIP"
            with m.State("SKIP"):
                with m.If(~self.rx_dv):
                    m.next = "IDLE"
            with m.State("DATA"):
                with m.If(self.rx_dv):
                    m.d.gmii_rx += [
                        tail.eq(Cat(tail[8:], self.rxd)),
                        crc.eq(crc_next(crc, self.rxd)),
                        broken.eq(broken | self.rx_er),
                    ]
                    with m.If(length <= self.max_frame):
                        m.d.gmii_rx += length.eq(length + 1)
                    with m.If((length >= FCS_BYTES) & (length <= self.max_frame)):
                        m.d.gmii_rx += [
                            word.word_select(filled[:max(1, (lanes - 1).bit_length())], 8).eq(tail[:8]),
                            filled.eq(filled + 1),
                        ]
                        with m.If(filled == lanes):
                            m.d.comb += push.eq(1)
                            m.d.gmii_rx += [word[:8].eq(tail[:8]), filled.eq(1)]
                    for name, (start, pattern) in patterns.items():
                        for k, value in enumerate(pattern):
                            with m.If(length == start + k):
                                m.d.gmii_rx += found[name][k].eq(self.rxd == value)
                    with m.Switch(length):
                        with m.Case(16):
                            m.d.gmii_rx += quanta[8:].eq(self.rxd)
                        with m.Case(17):
                            m.d.gmii_rx += quanta[:8].eq(self.rxd)
                with m.Else():
                    m.next = "END"
            with m.State("END"):
                good, is_control, for_us = Signal(), Signal(), Signal()
                m.d.comb += [
                    # 31.5: by the type alone; 31B.3.3: PAUSE, to the group's address or the station's.
                    is_control.eq(found["control"].all()),
                    for_us.eq((found["group"].all() | found["own"].all()) & found["pause"].all()),
                    self.o.beat.last.eq(1),
                    self.o.overflow.eq(overflow),
                    self.o.runt.eq(length < MIN_FRAME_BYTES + FCS_BYTES),
                    self.o.giant.eq(length > self.max_frame),
                    self.o.bad_fcs.eq(~self.o.runt & ~self.o.giant & (broken | (crc != CRC_RESIDUE))),
                    good.eq(~self.o.runt & ~self.o.giant & ~self.o.bad_fcs),
                    self.o.pause.eq(good & is_control & for_us),
                    self.o.control.eq(good & is_control & ~for_us),
                    self.o.beat.error.eq(~good | is_control | overflow),
                    self.o.beat.count.eq(Mux(filled == 0, 1, filled)),
                    self.o_valid.eq(1),
                ]
                with m.If(self.o_ready):
                    m.d.comb += self.pause_valid.eq(self.o.pause)
                    m.next = "IDLE"
                    with m.If(self.rx_dv):
                        m.next = "SKIP"
        return m


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
