"""The network device as virtio sees it: receive, transmit, control queue, steering, device configuration.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.device import DevicePort
from ..lib.frame import frame_beat
from ..lib.share import BufferShare
from ..spec.ethernet import HEADER_BYTES, MAX_VLAN_TAGS, VLAN_TAG_BYTES
from ..spec.features import FEATURE_PREREQUISITES
from ..spec.net import (
    DUPLEX_FULL, DUPLEX_UNKNOWN, MAX_MTU, MIN_MTU, SPEED_UNKNOWN, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX,
    VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP, VirtioNetConfig,
)
from ..spec.virtio import VIRTIO_ID_NET
from .balance import Balance
from .control import Control
from .receive import Receive
from .steer import FlowHash, FlowTable
from .transmit import Transmit

__all__ = ["NetDevice", "frame_memory", "net_features"]

AHEAD = 4  # received frames for which buffers are taken at once, unless very many are to be on their way


def frame_memory(width):
    """Bytes of frame memory each way of a datapath of ``width`` bits.

    A frame of 9 KB must be there as a whole before it leaves, and meanwhile the next one comes. In 16 KiB, 7 KB are left for what
    has been asked for and has not come: that hides a read latency of the host of more than 1 us at 14 Gbit/s, and of more than
    2 us at 7. A wider datapath is there for a faster link, on which as much latency is more bytes.
    """
    return 16384 if width <= 128 else 32768


def net_features(queue_pairs):
    """Numbers of the feature bits that a device of so many queue pairs brings."""
    return (VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ,
            VIRTIO_NET_F_SPEED_DUPLEX, *([VIRTIO_NET_F_MQ] if queue_pairs > 1 else []))


class NetDevice(wiring.Component):
    """virtio-net on the device seam.

    Queue ``2 * k`` is receiveq ``k + 1``, queue ``2 * k + 1`` its transmitq; behind those of all pairs, or behind the first
    if MQ was not negotiated, comes the control queue (5.1.2).

    Received frames go to the pair that last sent one of the same flow, others to the first.

    Parameters
    ----------
    width : int
    queue_pairs : int
        1 to 0x8000, else :exc:`ValueError`.
    mac_address : int
        48 bits, first byte of the address highest: the value of ``mac_address`` if nothing drives it.
    mtu : int
        68 to 9000 bytes, else :exc:`ValueError`.
    speed : int
        Mbit/s, or SPEED_UNKNOWN: the value of ``speed`` if nothing drives it, and what the configuration shows before the link
        was first up. ``duplex`` is full then, or unknown.
    prefetch : int
        As of :class:`..pcie.parameters.PcieParameters`.
    max_queue_size : int
        Entries that a queue may have.

    Attributes
    ----------
    max_frame : int
        Longest frame either way, in bytes without FCS: one of two VLAN tags.

    Members
    -------
    host : Out(DevicePort)
    frames_rx : In(stream(frame_beat(width))), frames_tx : Out(stream(frame_beat(width)))
    mac_address : In(48)
        Stable while a driver may look.
    link_up : In(1)
        While it is low, frames to transmit are used and dropped; frames from the wire are still received.
    speed : In(32), duplex : In(8)
        Of the link, in the coding of the device configuration. Sampled when ``link_up`` changes, so the configuration never
        changes them while the link is up (5.1.4.1).
    events : Out
    """
    DEVICE_ID = VIRTIO_ID_NET
    CLASS_CODE = 0x020000  # Ethernet controller
    FEATURE_PREREQUISITES = FEATURE_PREREQUISITES

    def __init__(self, *, width, queue_pairs, mac_address, mtu, speed, prefetch, max_queue_size):
        if queue_pairs not in range(VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX + 1):
            raise ValueError(f"Queue pairs must be 1 to {VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX}, not {queue_pairs!r}")
        if mtu not in range(MIN_MTU, MAX_MTU + 1):
            raise ValueError(f"MTU must be {MIN_MTU} to {MAX_MTU} bytes, not {mtu!r}")
        if mac_address not in range(1 << 48) or mac_address >> 40 & 1:
            raise ValueError(f"MAC address must be 48 bits of an individual address, not {mac_address!r}")
        self.FEATURES = net_features(queue_pairs)
        self.width = width
        self.queue_pairs = queue_pairs
        self.mtu = mtu
        self._speed = speed
        self._duplex = DUPLEX_UNKNOWN if speed == SPEED_UNKNOWN else DUPLEX_FULL
        num_queues = 2 * queue_pairs + 1
        # 5.1.4.1: the MTU is without the link's header, of which VLAN tags are a part. Receive counts the tags of each frame. A
        # frame to transmit is judged before it is read, so it may be as long as one with all tags: only the driver is bound
        # to less (5.1.4.2).
        self.max_frame = mtu + HEADER_BYTES + MAX_VLAN_TAGS * VLAN_TAG_BYTES
        memory = frame_memory(width)
        sizes = dict(width=width, num_queues=num_queues, pairs=queue_pairs, depth=memory * 8 // width)
        self.receive  = Receive(**sizes, max_frame=mtu + HEADER_BYTES, most_entries=max_queue_size,
                                ahead=max(AHEAD, prefetch // 64))
        self.transmit = Transmit(**sizes, max_frame=self.max_frame, max_chains=prefetch // 2, piece=memory // 8)
        self.control  = Control(width=width, num_queues=num_queues, pairs=queue_pairs)
        super().__init__({
            "host":       Out(DevicePort(width, num_queues=num_queues, buffers=2, reads=2, writes=2,
                                         config_bytes=VirtioNetConfig.as_shape().size // 8)),
            "frames_rx":  In(stream.Signature(frame_beat(width))),
            "frames_tx":  Out(stream.Signature(frame_beat(width))),
            "mac_address": In(48, init=mac_address),
            "link_up":    In(1),
            "speed":      In(32, init=self._speed),
            "duplex":     In(8, init=self._duplex),
            "events":     Out(data.StructLayout({
                name: 1 for unit in (self.receive, self.transmit) for name, _ in unit.events.shape()})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receive  = receive  = self.receive
        m.submodules.transmit = transmit = self.transmit
        m.submodules.control  = control  = self.control
        host = self.host
        num_queues = len(host.buffers[0].available)
        m.submodules.balance = balance = Balance()
        for k, (unit, request) in enumerate(((transmit, transmit.read.req), (receive, receive.write.req))):
            m.d.comb += [
                balance.asked[k].eq(request.valid & request.ready),
                balance.length[k].eq(request.p.len),
                balance.wants[k].eq(unit.wants),
                unit.hold.eq(balance.hold[k]),
            ]
        # The control queue has no walker of its own.
        m.submodules.share = share = BufferShare(num_queues=num_queues, n=2)
        connect(m, receive.buffers, flipped(host.buffers[0]))
        connect(m, share.o, flipped(host.buffers[1]))
        connect(m, transmit.buffers, share.parts[0])
        connect(m, control.buffers, share.parts[1])
        connect(m, receive.write, flipped(host.writes[0]))
        connect(m, control.write, flipped(host.writes[1]))
        connect(m, transmit.read, flipped(host.reads[0]))
        connect(m, control.read, flipped(host.reads[1]))
        connect(m, transmit.o, flipped(self.frames_tx))
        under_way = C(0)
        if self.queue_pairs == 1:
            connect(m, flipped(self.frames_rx), receive.i)
        else:
            under_way = self._steer(m)
        mq, last = host.features[VIRTIO_NET_F_MQ], 2 * self.queue_pairs
        m.d.comb += [
            share.owned[0].eq(Mux(mq, 1 << last, 1 << 2)),
            control.queue.eq(Mux(mq, last, 2)),
            control.enable.eq(host.features[VIRTIO_NET_F_CTRL_VQ]),
            control.mq.eq(mq),
            control.settled.eq(receive.settled),
            receive.active.eq(control.active),
        ]

        config = Signal(VirtioNetConfig)
        link, link_was = Signal(), Signal()
        speed, duplex = Signal(32, init=self._speed), Signal(8, init=self._duplex)
        m.d.sync += [link.eq(self.link_up), link_was.eq(link)]
        with m.If(link != self.link_up):
            m.d.sync += [speed.eq(self.speed), duplex.eq(self.duplex)]
        m.d.comb += [
            *[config.mac[k].eq(self.mac_address.word_select(5 - k, 8)) for k in range(6)],
            config.status.eq(Mux(link, VIRTIO_NET_S_LINK_UP, 0)),
            config.max_virtqueue_pairs.eq(self.queue_pairs),
            config.mtu.eq(self.mtu),
            config.speed.eq(speed),
            config.duplex.eq(duplex),
            host.config.eq(config),
            host.config_changed.eq(link != link_was),
            receive.enable.eq(host.driver_ok),
            receive.mrg_rxbuf.eq(host.features[VIRTIO_NET_F_MRG_RXBUF]),
            transmit.link_up.eq(link),
            transmit.hurry.eq(control.buffers.holds),
            host.busy.eq(receive.busy | transmit.busy | control.busy | under_way),
            *[self.events[name].eq(unit.events[name])
              for unit in (receive, transmit) for name, _ in unit.events.shape()],
        ]
        return m

    def _steer(self, m):
        """Learn from what is sent where what is received belongs; the answer is high while a frame is on this way."""
        receive, transmit = self.receive, self.transmit
        m.submodules.flows = flows = FlowTable(pairs=self.queue_pairs)
        m.submodules.sent  = sent  = FlowHash(width=self.width)
        m.submodules.came  = came  = FlowHash(width=self.width)
        m.d.comb += [
            sent.i.eq(transmit.sent),
            sent.valid.eq(transmit.sent_valid),
            flows.learn.eq(sent.done & ~sent.error),
            flows.learn_hash.eq(sent.hash),
            flows.learn_pair.eq(transmit.sent_pair.p),
            transmit.sent_pair.ready.eq(sent.done),
            came.i.eq(self.frames_rx.p),
            came.valid.eq(self.frames_rx.valid),
            flows.hash.eq(came.hash),
            self.frames_rx.ready.eq(1),
        ]
        # So long for the hash, and a cycle for the table.
        beat, valid = self.frames_rx.p, self.frames_rx.valid
        under_way = C(0)
        for _ in range(came.latency + 1):
            next_beat, next_valid = Signal.like(self.frames_rx.p), Signal()
            m.d.sync += [next_beat.eq(beat), next_valid.eq(valid)]
            beat, valid = next_beat, next_valid
            under_way = under_way | valid
        m.d.comb += [receive.i.p.eq(beat), receive.i.valid.eq(valid), receive.i_pair.eq(flows.pair)]
        return under_way
