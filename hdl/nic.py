"""RingNIC: a network device, the virtio function it lives in, and its MAC."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .function import VirtioFunction
from .lib.frame import frame_beat
from .lib.gate import PacketCut, PacketGate
from .lib.reg import WordPort
from .mac.dna import DnaAddress
from .mac.gmii import Gmii
from .mac.mdio import MdioPins
from .mac.rgmii import Rgmii
from .mac.series7 import DnaPort, RgmiiBuffers
from .net.device import NetDevice
from .pcie.function_config import FunctionConfig
from .pcie.parameters import PcieParameters
from .pcie.tlp_stream import ALL_CLASSES, TLP_CLASSES, tlp_beat
from .spec.bar import COUNTERS, GMII_CONTROLS, LINK_WORDS
from .spec.ethernet import FCS_BYTES
from .spec.mii import LinkSpeed
from .spec.net import DEFAULT_MAC, DEFAULT_MTU, DUPLEX_FULL, DUPLEX_UNKNOWN, SPEED_UNKNOWN

__all__ = ["RingNIC"]

WIDTHS = (32, 64, 128, 256, 512)


class RingNIC(wiring.Component):
    """A network card that is a virtio-net device.

    Parameters
    ----------
    width : int
        Bits per beat of the whole datapath: 32, 64, 128, 256 or 512.
    queue_pairs : int
        Receive and transmit queues.
    mac : "gmii", "rgmii" or None
        The Ethernet side: a GMII (domains ``gmii_rx`` and ``gmii_tx``); the RGMII and MDIO of a PHY, by primitives of the
        7-series (domains as of :class:`.mac.series7.RgmiiBuffers`); or frames as packet streams.
    max_queue_size : int
        Entries that a queue may have, a power of 2 up to 32768.
    mac_address : int, "dna" or "input"
        48 bits, first byte of the address highest; or made from the serial number of a 7-series FPGA; or as the member says.
    mtu : int
        Bytes of payload that a frame may carry: 68 to 9000. The driver of a guest takes it as its default, so it should be
        what the network behind the card carries.
    speed : int
        Mbit/s that the device configuration reports, if there is no RGMII, which knows better.
    rgmii : RgmiiParameters
        What the board has there; with ``mac="rgmii"`` only.
    pcie : PcieParameters
    build_id : int
        32 bits that tell the host which build it has before it.

    Members
    -------
    tlp_rx : In(stream), tlp_tx : Out(stream)
        Raw TLPs.
    credits : In(TLP_CLASSES)
        Classes of which a TLP may begin, see :class:`.pcie.endpoint.Endpoint`.
    config : In(FunctionConfig(width))
        From the block that keeps the configuration. There only if it is ``pcie.hosted``.
    link_page : Out(WordPort(LINK_WORDS))
        As of :class:`.function.VirtioFunction`. There only if the configuration is ``pcie.hosted``.
    frames_rx : In(stream), frames_tx : Out(stream), or the signals of a GMII or an RGMII
        Ethernet frames without FCS, from the wire and to it.
    link_up : In(1)
        The Ethernet link has a partner. Not there with an RGMII, whose PHY tells by ``mdio``.
    mdio : Out(MdioPins), ethernet_up : Out(1), inband_differs : Out(1)
        As of :class:`.mac.rgmii.Rgmii`, where ``ethernet_up`` is ``link.up``. There only with an RGMII.
    mac_address : In(48)
        There only if it is an "input". Stable from the end of a reset of ``sync`` on.
    offered : In(128)
        Mask of the device features to offer; a constant on a board. Stable while the card is in use.
    busy : Out(1)
        Something is under way inside that needs clock cycles: a simulator may stop the clock while it is low.
    """
    def __init__(self, *, width=64, queue_pairs=1, mac="gmii", max_queue_size=1024, mac_address=DEFAULT_MAC,
                 mtu=DEFAULT_MTU, speed=1000, rgmii=None, pcie=PcieParameters(), build_id=0):
        if width not in WIDTHS:
            raise ValueError(f"The datapath is {', '.join(map(str, WIDTHS))} bits wide, not {width!r}")
        if mac not in ("gmii", "rgmii", None):
            raise ValueError(f"MAC must be 'gmii', 'rgmii' or None, not {mac!r}")
        if (rgmii is None) != (mac != "rgmii"):
            raise ValueError("An RGMII, and nothing else, needs its parameters")
        self.width = width
        self.queue_pairs = queue_pairs
        self.mac = mac
        self.max_queue_size = max_queue_size
        self.mtu = mtu
        self.rgmii = rgmii
        self.pcie = pcie
        self.build_id = build_id
        self._address = mac_address
        self._device = NetDevice(width=width, queue_pairs=queue_pairs, mtu=mtu, prefetch=pcie.prefetch,
                                 max_queue_size=max_queue_size,
                                 mac_address=0 if mac_address in ("dna", "input") else mac_address,
                                 speed=speed if rgmii is None else SPEED_UNKNOWN)
        wire = {
            "gmii_rxd":   In(8),
            "gmii_rx_dv": In(1),
            "gmii_rx_er": In(1),
            "gmii_txd":   Out(8),
            "gmii_tx_en": Out(1),
            "gmii_tx_er": Out(1),
            "link_up":    In(1),
        } if mac == "gmii" else {
            "rgmii_txc":    Out(1),
            "rgmii_txd":    Out(4),
            "rgmii_tx_ctl": Out(1),
            "rgmii_rxc":    In(1),
            "rgmii_rxd":    In(4),
            "rgmii_rx_ctl": In(1),
            "mdio":           Out(MdioPins),
            "ethernet_up":    Out(1),
            "inband_differs": Out(1),
        } if mac == "rgmii" else {
            "frames_rx": In(stream.Signature(frame_beat(width))),
            "frames_tx": Out(stream.Signature(frame_beat(width))),
            "link_up":   In(1),
        }
        super().__init__({
            "tlp_rx":  In(stream.Signature(tlp_beat(width))),
            "tlp_tx":  Out(stream.Signature(tlp_beat(width))),
            "credits": In(TLP_CLASSES, init=ALL_CLASSES),
            "offered": In(128, init=(1 << 128) - 1),
            "busy":    Out(1),
            **({"config": In(FunctionConfig(width)), "link_page": Out(WordPort(LINK_WORDS))} if pcie.hosted else {}),
            **({"mac_address": In(48)} if mac_address == "input" else {}),
            **wire,
        })

    def elaborate(self, platform):
        m = Module()
        device = self._device
        m.submodules.function = function = VirtioFunction(
            device, width=self.width, counters=COUNTERS, max_queue_size=self.max_queue_size,
            pcie=self.pcie, build_id=self.build_id,
            controls=GMII_CONTROLS if self.mac else ())
        connect(m, flipped(self.tlp_rx), function.tlp_rx)
        connect(m, function.tlp_tx, flipped(self.tlp_tx))
        m.d.comb += function.credits.eq(self.credits)
        if self.pcie.hosted:
            connect(m, flipped(self.config), function.config)
            connect(m, function.link_page, flipped(self.link_page))

        if self._address == "dna":
            m.submodules.dna = dna = DnaAddress()
            m.submodules.dna_port = dna_port = DnaPort()
            connect(m, dna.pins, dna_port.pins)
            m.d.comb += device.mac_address.eq(dna.address)
        elif self._address == "input":
            m.d.comb += device.mac_address.eq(self.mac_address)

        # Wire side
        busy = function.busy
        m.submodules.tx_gate = tx_gate = PacketGate(frame_beat(self.width))
        m.submodules.rx_cut  = rx_cut  = PacketCut(frame_beat(self.width))
        connect(m, device.frames_tx, tx_gate.i)
        connect(m, rx_cut.o, device.frames_rx)
        if self.mac:
            m.submodules.mac = mac = self._gmii(m) if self.mac == "gmii" else self._rgmii(m)
            connect(m, tx_gate.o, mac.i)
            connect(m, mac.o, rx_cut.i)
            loopback = function.controls.loopback
            link_up = (self.link_up if self.mac == "gmii" else mac.link.up) | loopback  # the way round is a link too
            busy = busy | mac.busy
            m.d.comb += [
                *[function.events[name].eq(mac.events[name]) for name, _ in mac.events.shape()],
                mac.mac_address.eq(device.mac_address),
                mac.drain.eq(function.stop),
                mac.loopback.eq(loopback),
            ]
        else:
            link_up = self.link_up
            connect(m, tx_gate.o, flipped(self.frames_tx))
            connect(m, flipped(self.frames_rx), rx_cut.i)

        # In a reset the frame on its way to the wire ends. The one that is coming is cut: its end may be long in coming, if
        # the wire is dead it never comes.
        m.d.comb += [
            tx_gate.hold.eq(function.drained),
            function.quiet.eq(tx_gate.held),
            rx_cut.hold.eq(function.restart),
            device.link_up.eq(link_up),
            function.offered.eq(self.offered),
            self.busy.eq(busy),
        ]
        return m

    def _gmii(self, m):
        """A MAC with its wire."""
        mac = Gmii(width=self.width, max_frame=self._device.max_frame + FCS_BYTES)
        m.d.comb += [
            mac.gmii_rxd.eq(self.gmii_rxd),
            mac.gmii_rx_dv.eq(self.gmii_rx_dv),
            mac.gmii_rx_er.eq(self.gmii_rx_er),
            self.gmii_txd.eq(mac.gmii_txd),
            self.gmii_tx_en.eq(mac.gmii_tx_en),
            self.gmii_tx_er.eq(mac.gmii_tx_er),
        ]
        return mac

    def _rgmii(self, m):
        """A MAC with its wire and its PHY, which tells the device of the link."""
        device = self._device
        mac = Rgmii(width=self.width, max_frame=device.max_frame + FCS_BYTES, parameters=self.rgmii)
        m.domains.rgmii_rx = ClockDomain(reset_less=True)
        m.submodules.buffers = buffers = RgmiiBuffers(tx_delay=self.rgmii.tx_delay, rx_taps=self.rgmii.rx_taps)
        connect(m, mac.pads, buffers.pads)
        connect(m, mac.mdio, flipped(self.mdio))
        m.d.comb += [
            self.rgmii_txc.eq(buffers.txc),
            self.rgmii_txd.eq(buffers.txd),
            self.rgmii_tx_ctl.eq(buffers.tx_ctl),
            buffers.rxc.eq(self.rgmii_rxc),
            buffers.rxd.eq(self.rgmii_rxd),
            buffers.rx_ctl.eq(self.rgmii_rx_ctl),
            self.ethernet_up.eq(mac.link.up),
            self.inband_differs.eq(mac.inband_differs),
            device.speed.eq(SPEED_UNKNOWN),
            device.duplex.eq(DUPLEX_UNKNOWN),
        ]
        with m.If(mac.link.up):
            m.d.comb += device.duplex.eq(DUPLEX_FULL)
            with m.Switch(mac.link.speed):
                for value, mbps in {LinkSpeed.MBPS_10: 10, LinkSpeed.MBPS_100: 100, LinkSpeed.MBPS_1000: 1000}.items():
                    with m.Case(value):
                        m.d.comb += device.speed.eq(mbps)
        return mac
