"""RingNIC: a network device, the virtio function it lives in, and its MAC."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .function import VirtioFunction
from .lib.frame import frame_beat
from .lib.gate import PacketCut, PacketGate
from .mac.gmii import Gmii
from .net.device import NetDevice
from .pcie.function_config import FunctionConfig
from .pcie.parameters import PcieParameters
from .pcie.tlp_stream import ALL_CLASSES, TLP_CLASSES, tlp_beat
from .spec.bar import COUNTERS, GMII_CONTROLS
from .spec.ethernet import FCS_BYTES
from .spec.net import DEFAULT_MTU

__all__ = ["RingNIC"]


class RingNIC(wiring.Component):
    """A network card that is a virtio-net device.

    Parameters
    ----------
    width : int
        Bits per beat of the whole datapath.
    queue_pairs : int
        Receive and transmit queues.
    mac : "gmii" or None
        The Ethernet side: a GMII (domains ``gmii_rx`` and ``gmii_tx``), or frames as packet streams.
    max_queue_size : int
        Entries that a queue may have, a power of 2 up to 32768.
    mac_address : int
        48 bits, first byte of the address highest.
    mtu : int
        Bytes of payload that a frame may carry: 68 to 9000. The driver of a guest takes it as its default, so it should be
        what the network behind the card carries.
    speed : int
        Mbit/s that the device configuration reports.
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
    frames_rx : In(stream), frames_tx : Out(stream), or the signals of a GMII
        Ethernet frames without FCS, from the wire and to it.
    link_up : In(1)
        The Ethernet link has a partner.
    offered : In(128)
        Mask of the device features to offer; a constant on a board. Stable while the card is in use.
    busy : Out(1)
        Something is under way inside that needs clock cycles: a simulator may stop the clock while it is low.
    """
    def __init__(self, *, width=64, queue_pairs=1, mac="gmii", max_queue_size=1024, mac_address=0x5254_0052_4e01,
                 mtu=DEFAULT_MTU, speed=1000, pcie=PcieParameters(), build_id=0):
        if mac not in ("gmii", None):
            raise ValueError(f"MAC must be 'gmii' or None, not {mac!r}")
        self.width = width
        self.queue_pairs = queue_pairs
        self.mac = mac
        self.max_queue_size = max_queue_size
        self.mac_address = mac_address
        self.mtu = mtu
        self.speed = speed
        self.pcie = pcie
        self.build_id = build_id
        self._device = NetDevice(width=width, queue_pairs=queue_pairs, mac_address=mac_address, mtu=mtu, speed=speed)
        wire = {
            "gmii_rxd":   In(8),
            "gmii_rx_dv": In(1),
            "gmii_rx_er": In(1),
            "gmii_txd":   Out(8),
            "gmii_tx_en": Out(1),
            "gmii_tx_er": Out(1),
        } if mac == "gmii" else {
            "frames_rx": In(stream.Signature(frame_beat(width))),
            "frames_tx": Out(stream.Signature(frame_beat(width))),
        }
        super().__init__({
            "tlp_rx":  In(stream.Signature(tlp_beat(width))),
            "tlp_tx":  Out(stream.Signature(tlp_beat(width))),
            "credits": In(TLP_CLASSES, init=ALL_CLASSES),
            "link_up": In(1),
            "offered": In(128, init=(1 << 128) - 1),
            "busy":    Out(1),
            **({"config": In(FunctionConfig(width))} if pcie.hosted else {}),
            **wire,
        })

    def elaborate(self, platform):
        m = Module()
        device = self._device
        m.submodules.function = function = VirtioFunction(
            device, width=self.width, counters=COUNTERS, max_queue_size=self.max_queue_size,
            pcie=self.pcie, build_id=self.build_id,
            controls=GMII_CONTROLS if self.mac == "gmii" else ())
        connect(m, flipped(self.tlp_rx), function.tlp_rx)
        connect(m, function.tlp_tx, flipped(self.tlp_tx))
        m.d.comb += function.credits.eq(self.credits)
        if self.pcie.hosted:
            connect(m, flipped(self.config), function.config)

        # Wire side
        link_up, busy = self.link_up, function.busy
        m.submodules.tx_gate = tx_gate = PacketGate(frame_beat(self.width))
        m.submodules.rx_cut  = rx_cut  = PacketCut(frame_beat(self.width))
        connect(m, device.frames_tx, tx_gate.i)
        connect(m, rx_cut.o, device.frames_rx)
        if self.mac == "gmii":
            m.submodules.mac = mac = Gmii(
                width=self.width, max_frame=device.max_frame + FCS_BYTES, mac_address=self.mac_address)
            connect(m, tx_gate.o, mac.i)
            connect(m, mac.o, rx_cut.i)
            loopback = function.controls.loopback
            link_up, busy = link_up | loopback, busy | mac.busy  # the way round is a link, with or without a partner
            m.d.comb += [
                *[function.events[name].eq(mac.events[name]) for name, _ in mac.events.shape()],
                mac.drain.eq(function.stop),
                mac.loopback.eq(loopback),
                mac.gmii_rxd.eq(self.gmii_rxd),
                mac.gmii_rx_dv.eq(self.gmii_rx_dv),
                mac.gmii_rx_er.eq(self.gmii_rx_er),
                self.gmii_txd.eq(mac.gmii_txd),
                self.gmii_tx_en.eq(mac.gmii_tx_en),
                self.gmii_tx_er.eq(mac.gmii_tx_er),
            ]
        else:
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
