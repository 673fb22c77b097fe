"""Ethernet MAC on an RGMII, at 10, 100 and 1000 Mbit/s, full duplex.

The MAC is the one of :mod:`.gmii`. It runs in a single domain of 125 MHz, where clock enables pass one byte every 1, 10 or 100
clocks. Bytes from the PHY cross from the PHY's clock in a FIFO, so the loopback works even if the PHY provides no clock.

Ref: Reduced Gigabit Media Independent Interface (RGMII) version 2.0; IEEE 802.3, 22 "Reconciliation Sublayer (RS) and Media
Independent Interface (MII)".
"""

from dataclasses import dataclass

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out, connect, flipped

from ..spec.mii import LinkSpeed, LinkState
from .gmii import Gmii
from .mdio import MdioPins
from .phy import PhyManagement
from .rgmii_receive import RgmiiReceive

__all__ = ["Rgmii", "RgmiiPads", "RgmiiParameters", "RgmiiTransmit"]

STEPS = {LinkSpeed.MBPS_1000: 1, LinkSpeed.MBPS_100: 5, LinkSpeed.MBPS_10: 50}  # clocks of 125 MHz in one of TXC
LINK_STAGES = 4  # of the synchronizer of ``link.up``: more than the two of the speed, which therefore arrives first

#: The pads, seen from the MAC. A signal of ``n`` pads has ``2 * n`` bits: the lower half is on the wire from the rising edge of
#: the clock, the upper half from the falling edge. Outgoing in domain ``gmii_tx``, incoming in ``rgmii_rx``, the PHY's RXC.
RgmiiPads = wiring.Signature({
    "txc": Out(2), "txd": Out(8), "tx_ctl": Out(2),
    "rxd": In(8), "rx_ctl": In(2),
})


@dataclass(frozen=True)
class RgmiiParameters:
    """What a board has around its RGMII.

    The PHY delays RXC against RXD, by its straps or by ``phy_setup`` (RGMII-ID; RGMII 2.0, 3.3 note 1).

    Parameters
    ----------
    clock_hz : float
        Of the domain ``sync``.
    phy_address : int
        On MDIO.
    phy_setup : sequence of (int, int, int)
        See :mod:`ringnic.hdl.spec.phy`.
    tx_delay : "phy" or "fpga"
        Who delays TXC by 2 ns against TXD. "fpga" needs a domain ``gmii_tx_90`` whose clock is 90 degrees behind ``gmii_tx``.
    rx_taps : int
        Delay of RXD and RX_CTL inside the FPGA, 0 to 31 taps of 78 ps, which compensates for the insertion delay of the clock
        buffer. The default is the one of LiteEth's PHY for this family.
    """
    clock_hz: float
    phy_address: int
    phy_setup: tuple = ()
    tx_delay: str = "phy"
    rx_taps: int = 25

    def __post_init__(self):
        if self.tx_delay not in ("phy", "fpga"):
            raise ValueError(f"TXC must be delayed by 'phy' or 'fpga', not {self.tx_delay!r}")
        if self.rx_taps not in range(32):
            raise ValueError(f"Delay of RXD must be 0 to 31 taps, not {self.rx_taps!r}")


class RgmiiTransmit(wiring.Component):
    """Convert bytes of a GMII to half clocks of the pads, at the speed of the link. Domain ``gmii_tx``, one clock of latency.

    TXC is generated here, without glitches. At 10 and 100 Mbit/s it rises about a quarter of its period after the data, in
    addition to any delay that applies at 1000 Mbit/s. TX_CTL stays low until a link is up and a gap between frames is reached.

    Members
    -------
    up : In(1), speed : In(2)
        Of the link, from any domain. ``speed`` changes while ``up`` is low, or with its rising edge.
    txd, tx_en, tx_er : In
        The next byte, taken with ``enable``.
    enable : Out(1)
        Clock enable of the MAC: once in 1, 10 or 100 clocks.
    pads_* : Out
        As of :data:`RgmiiPads`.
    """
    def __init__(self):
        super().__init__({
            "up": In(1), "speed": In(2),
            "txd": In(8), "tx_en": In(1), "tx_er": In(1),
            "enable": Out(1),
            "pads_txc": Out(2), "pads_txd": Out(8), "pads_tx_ctl": Out(2),
        })

    def elaborate(self, platform):
        m = Module()
        up, speed = Signal(), Signal(2)
        m.submodules.up    = FFSynchronizer(self.up, up, o_domain="gmii_tx", stages=LINK_STAGES)
        m.submodules.speed = FFSynchronizer(self.speed, speed, o_domain="gmii_tx")

        now   = Signal(LinkSpeed, init=LinkSpeed.MBPS_1000)
        step  = Signal(range(max(STEPS.values())))     # of a period of TXC
        upper = Signal()                               # its nibble of the byte
        open_ = Signal()
        # Half clocks of a period: TXC is high from ``rise`` for ``half`` of them.
        half, rise = Signal(range(max(STEPS.values()) + 1)), Signal(range(max(STEPS.values()) // 2 + 1))
        gigabit = Signal()
        with m.Switch(now):
            for value, steps in STEPS.items():
                with m.Case(value):
                    m.d.comb += [half.eq(steps), rise.eq(steps // 2)]
        m.d.comb += gigabit.eq(now == LinkSpeed.MBPS_1000)

        end = Signal()
        m.d.comb += [end.eq(step == half - 1), self.enable.eq(end & (upper | gigabit))]
        m.d.gmii_tx += [step.eq(Mux(end, 0, step + 1)), upper.eq((upper ^ end) & ~gigabit)]
        with m.If(self.enable):
            # RGMII 2.0, 5.0: TX_CTL is low until MAC and PHY have the same speed, and the clock has no glitches.
            m.d.gmii_tx += open_.eq(up & (open_ | ~self.tx_en))
            with m.If(up & ~open_):
                m.d.gmii_tx += now.eq(speed)

        en, er = self.tx_en & open_, self.tx_er & open_
        nibble = Mux(upper, self.txd[4:], self.txd[:4])
        m.d.gmii_tx += self.pads_txd.eq(Mux(gigabit, self.txd, Cat(nibble, nibble)))  # 5.0: the same on both edges
        for edge in range(2):
            at = Signal(range(2 * max(STEPS.values())), name=f"at_{edge}")
            m.d.comb += at.eq(Cat(C(edge, 1), step))
            m.d.gmii_tx += [
                self.pads_txc[edge].eq((at >= rise) & (at < rise + half)),
                self.pads_tx_ctl[edge].eq(Mux(at < half, en, en ^ er)),               # 3.4: TX_EN, then TX_EN xor TX_ER
            ]
        return m


class Rgmii(wiring.Component):
    """Ethernet frames on one side, an RGMII and a PHY's management on the other.

    Clock domains: ``sync`` for the streams and MDIO, ``gmii_tx`` of 125 MHz for the MAC, ``rgmii_rx`` for what the PHY sends. A
    reset of ``sync`` must last at least four clocks of ``gmii_tx``. While the link is down, frames are accepted and dropped.

    Parameters
    ----------
    width, max_frame
        As :class:`.gmii.Gmii` takes them.
    parameters : RgmiiParameters

    Members
    -------
    i, o, mac_address, drain, loopback, busy, events
        As of :class:`.gmii.Gmii`.
    pads : Out(RgmiiPads), mdio : Out(MdioPins)
    link : Out(LinkState)
        As of :class:`.phy.PhyManagement`, by which it is read.
    inband_differs : Out(1)
        In the last two polls the in-band status reported a link at another speed or duplex than MDIO. Never high for a PHY
        without in-band status.
    """
    def __init__(self, *, width, max_frame, parameters):
        self._mac = Gmii(width=width, max_frame=max_frame)
        self._phy = PhyManagement(clock_hz=parameters.clock_hz, address=parameters.phy_address, setup=parameters.phy_setup)
        members = self._mac.signature.members
        super().__init__({
            **{name: members[name] for name in ("i", "o", "mac_address", "drain", "loopback", "busy", "events")},
            "pads": Out(RgmiiPads),
            "mdio": Out(MdioPins),
            "link": Out(LinkState),
            "inband_differs": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        mac = self._mac
        m.submodules.phy      = phy      = self._phy
        m.submodules.transmit = transmit = RgmiiTransmit()
        m.submodules.receive  = receive  = RgmiiReceive()
        link = phy.link
        connect(m, phy.pins, flipped(self.mdio))
        connect(m, flipped(self.i), mac.i)
        connect(m, mac.o, flipped(self.o))

        # In loopback the receiver runs at the transmitter's pace. During a reset of the core the enable is high, so that the
        # FIFOs see the reset even if it is shorter than a byte on the wire.
        loopback, reset = Signal(), Signal()
        rx_enable, tx_enable = Signal(), Signal()
        m.submodules.loopback = FFSynchronizer(self.loopback, loopback, o_domain="gmii_tx")
        m.submodules.reset = FFSynchronizer(ResetSignal("sync", allow_reset_less=True), reset, o_domain="gmii_tx")
        m.d.comb += [
            tx_enable.eq(transmit.enable | reset),
            rx_enable.eq(Mux(loopback, tx_enable, receive.enable)),
        ]
        m.submodules.mac = DomainRenamer({"gmii_rx": "gmii_tx"})(
            EnableInserter({"gmii_rx": rx_enable, "gmii_tx": tx_enable})(mac))

        m.d.comb += [
            mac.mac_address.eq(self.mac_address),
            mac.drain.eq(self.drain),
            mac.loopback.eq(self.loopback),
            self.busy.eq(mac.busy),
            self.events.eq(mac.events),
            self.link.eq(link),
            transmit.up.eq(link.up),
            transmit.speed.eq(link.speed),
            transmit.txd.eq(mac.gmii_txd),
            transmit.tx_en.eq(mac.gmii_tx_en),
            transmit.tx_er.eq(mac.gmii_tx_er),
            self.pads.txc.eq(transmit.pads_txc),
            self.pads.txd.eq(transmit.pads_txd),
            self.pads.tx_ctl.eq(transmit.pads_tx_ctl),
            receive.gigabit.eq(link.speed == LinkSpeed.MBPS_1000),
            receive.pads_rxd.eq(self.pads.rxd),
            receive.pads_rx_ctl.eq(self.pads.rx_ctl),
            mac.gmii_rxd.eq(receive.rxd),
            mac.gmii_rx_dv.eq(receive.rx_dv),
            mac.gmii_rx_er.eq(receive.rx_er),
        ]

        inband, differs, differed = Signal(LinkState), Signal(), Signal()
        m.submodules.inband = FFSynchronizer(receive.inband.as_value(), inband.as_value())
        m.d.comb += differs.eq(link.up & inband.up & ((inband.speed != link.speed) | (inband.full != link.full)))
        with m.If(phy.polled):
            m.d.sync += [differed.eq(differs), self.inband_differs.eq(differs & differed)]
        return m
