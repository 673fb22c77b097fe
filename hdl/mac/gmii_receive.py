"""Bytes of a GMII to frames.

Ref: IEEE 802.3, 35 "Reconciliation Sublayer (RS) and Gigabit Media Independent Interface (GMII)", 4.2 "CSMA/CD Media
Access Control (MAC) method", 31 "MAC Control", 31B "MAC Control PAUSE operation".
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..lib.frame import frame_beat
from ..spec.ethernet import ETHERTYPE_MAC_CONTROL, FCS_BYTES, MIN_FRAME_BYTES, PAUSE_ADDRESS, PAUSE_OPCODE, PREAMBLE, SFD
from .crc import CRC_INIT, CRC_RESIDUE, crc_next

__all__ = ["GmiiReceive", "rx_beat"]


def rx_beat(width):
    """A beat with the verdict of the frame, valid with ``last``."""
    return data.StructLayout({"beat": frame_beat(width), "bad_fcs": 1, "runt": 1, "giant": 1, "overflow": 1,
                              "pause": 1, "control": 1})


class GmiiReceive(wiring.Component):
    """Take frames from the wire: find the start, check length and FCS, strip the FCS. Domain ``gmii_rx``.

    MAC Control frames are for the MAC: they end with ``error``, and with ``pause``, or with ``control`` if they are anything
    but a PAUSE for this station.

    Parameters
    ----------
    width, max_frame : int
        As of :class:`.gmii.Gmii`.

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
