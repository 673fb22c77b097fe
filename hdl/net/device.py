"""The network device as virtio sees it: receive, transmit, device configuration.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.device import DevicePort
from ..lib.frame import frame_beat
from ..spec.ethernet import HEADER_BYTES
from ..spec.features import FEATURE_PREREQUISITES
from ..spec.net import (DUPLEX_FULL, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
                        VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP, VirtioNetConfig)
from ..spec.virtio import VIRTIO_ID_NET
from .receive import Receive
from .transmit import Transmit

__all__ = ["NetDevice"]

VLAN_TAG_BYTES = 4
FRAME_MEMORY = 32768  # bytes each way


class NetDevice(wiring.Component):
    """virtio-net on the buffers seam. Queue ``2 * k`` is receiveq ``k + 1``, queue ``2 * k + 1`` its transmitq (5.1.2).

    Parameters
    ----------
    width, queue_pairs : int
    mac_address : int
        48 bits, first byte of the address highest.
    mtu : int
        68 to 9000 bytes, else :exc:`ValueError`.
    speed : int
        Mbit/s.

    Attributes
    ----------
    max_frame : int
        Longest frame either way, in bytes without FCS.

    Members
    -------
    host : Out(DevicePort)
    frames_rx : In(stream(frame_beat(width))), frames_tx : Out(stream(frame_beat(width)))
    link_up : In(1)
    events : Out
    """
    DEVICE_ID = VIRTIO_ID_NET
    CLASS_CODE = 0x020000  # Ethernet controller
    FEATURE_PREREQUISITES = FEATURE_PREREQUISITES
    FEATURES = (VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS,
                VIRTIO_NET_F_SPEED_DUPLEX)

    def __init__(self, *, width, queue_pairs, mac_address, mtu, speed):
        if mtu not in range(68, 9001):
            raise ValueError(f"MTU must be 68 to 9000 bytes, not {mtu!r}")
        if mac_address not in range(1 << 48) or mac_address >> 40 & 1:
            raise ValueError(f"MAC address must be 48 bits of an individual address, not {mac_address!r}")
        self.queue_pairs = queue_pairs
        self.mac_address = mac_address
        self.mtu = mtu
        self.speed = speed
        num_queues = 2 * queue_pairs + 1
        # 5.1.4: the MTU is without the link's header.
        self.max_frame = mtu + HEADER_BYTES + VLAN_TAG_BYTES
        sizes = dict(width=width, num_queues=num_queues, max_frame=self.max_frame, depth=FRAME_MEMORY * 8 // width)
        self.receive  = Receive(queues=range(0, 2 * queue_pairs, 2), **sizes)
        self.transmit = Transmit(queues=range(1, 2 * queue_pairs, 2), **sizes)
        super().__init__({
            "host":       Out(DevicePort(width, num_queues=num_queues, buffers=2, reads=1, writes=1,
                                         config_bytes=VirtioNetConfig.as_shape().size // 8)),
            "frames_rx":  In(stream.Signature(frame_beat(width))),
            "frames_tx":  Out(stream.Signature(frame_beat(width))),
            "link_up":    In(1),
            "events":     Out(data.StructLayout({
                name: 1 for unit in (self.receive, self.transmit) for name, _ in unit.events.shape()})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receive  = receive  = self.receive
        m.submodules.transmit = transmit = self.transmit
        connect(m, flipped(self.frames_rx), receive.i)
        connect(m, transmit.o, flipped(self.frames_tx))
        host = self.host
        connect(m, receive.buffers, flipped(host.buffers[0]))
        connect(m, transmit.buffers, flipped(host.buffers[1]))
        connect(m, receive.write, flipped(host.writes[0]))
        connect(m, transmit.read, flipped(host.reads[0]))

        config = Signal(VirtioNetConfig)
        link, link_was = Signal(), Signal()
        m.d.sync += [link.eq(self.link_up), link_was.eq(link)]
        m.d.comb += [
            *[config.mac[k].eq(byte) for k, byte in enumerate(self.mac_address.to_bytes(6, "big"))],
            config.status.eq(Mux(link, VIRTIO_NET_S_LINK_UP, 0)),
            config.max_virtqueue_pairs.eq(self.queue_pairs),
            config.mtu.eq(self.mtu),
            config.speed.eq(self.speed),
            config.duplex.eq(DUPLEX_FULL),
            host.config.eq(config),
            host.config_changed.eq(link != link_was),
            receive.enable.eq(host.driver_ok),
            receive.mrg_rxbuf.eq(host.features[VIRTIO_NET_F_MRG_RXBUF]),
            transmit.link_up.eq(link),
            host.busy.eq(receive.busy | transmit.busy),
            *[self.events[name].eq(unit.events[name])
              for unit in (receive, transmit) for name, _ in unit.events.shape()],
        ]
        return m
