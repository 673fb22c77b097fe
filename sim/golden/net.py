"""virtio-net, the device's side.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

import struct
from collections import deque

from ...hdl.spec.ethernet import HEADER_BYTES
from ...hdl.spec.net import (DUPLEX_FULL, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
                             VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS, VIRTIO_NET_HDR_SIZE, VIRTIO_NET_S_LINK_UP)
from ...hdl.spec.virtio import (VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC,
                                VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_VERSION_1, VIRTIO_ID_NET)
from .memory import Fault
from .transport import GoldenTransport
from .virtqueue import RingError

__all__ = ["GoldenNet"]

FEATURES = (VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_SPEED_DUPLEX,
            VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM,
            VIRTIO_F_ORDER_PLATFORM)
CLASS_CODE = 0x020000
CONFIG = struct.Struct("<6sHHHIB")
NUM_BUFFERS = 10    # its place in the header
VLAN_TAG_BYTES = 4
MAX_SEGMENTS = 64   # that a received frame may be spread over, as in the card
MAX_SEGMENT = 0xffff  # bytes of one that are used


class GoldenNet(GoldenTransport):
    """A virtio-net card without time: what it can do, it has done when a call returns.

    Frames received while the driver has posted no buffers wait, as many as there are.

    Parameters
    ----------
    queue_pairs, max_queue_size, mac_address, mtu, speed : int
        As the card's.

    Attributes
    ----------
    sent : list
        Ethernet frames that went out; a test may clear it.
    memory : Memory
        ``memory.writes`` is what the device wrote.
    waiting : deque
        Frames received that have no buffers yet.
    """
    def __init__(self, *, queue_pairs=1, max_queue_size=256, mac_address=0x5254_0052_4e01, mtu=9000, speed=1000):
        self.queue_pairs = queue_pairs
        self.mac_address = mac_address
        self.mtu = mtu
        self.speed = speed
        self.sent = []
        self.waiting = deque()
        self._link_up = True
        super().__init__(device_type=VIRTIO_ID_NET, class_code=CLASS_CODE, features=FEATURES,
                         num_queues=2 * queue_pairs, max_queue_size=max_queue_size)

    @property
    def link_up(self):
        return self._link_up

    @link_up.setter
    def link_up(self, value):
        if value != self._link_up:
            self._link_up = value
            self._generation = (self._generation + 1) & 0xff
            self._notify_config()

    def _config_bytes(self):
        return CONFIG.pack(self.mac_address.to_bytes(6, "big"), VIRTIO_NET_S_LINK_UP if self._link_up else 0,
                           self.queue_pairs, self.mtu, self.speed, DUPLEX_FULL)

    def _stop(self):
        self.waiting.clear()

    def _kicked(self, index):
        queue = self.queues[index]
        if queue.stopped or not self._bus_master:
            return
        try:
            try:
                queue.look()
            finally:
                # Chains before the wrong one are good.
                self._deliver() if index % 2 == 0 else self._transmit(index, queue)
        except RingError:
            if not queue.stopped:
                self._fail(queue)

    # Transmit (5.1.9.2)

    def _transmit(self, index, queue):
        while queue.heads and not queue.stopped:
            try:
                segments = queue.chain(queue.heads[0])
            except RingError:
                self.counters["tx_dropped"] += 1  # taken, and never given back
                raise
            self._send(segments)
            if queue.use([0]):
                self._notify_used(index)

    def _send(self, segments):
        """Send what a chain holds, if it is a frame."""
        length = sum(segment.len for segment in segments) - VIRTIO_NET_HDR_SIZE
        frame = None
        if (self._link_up and not any(segment.write for segment in segments)
                and HEADER_BYTES <= length <= self.mtu + HEADER_BYTES + VLAN_TAG_BYTES):
            try:
                packet = b"".join(self.memory.read(segment.addr, segment.len) for segment in segments if segment.len)
                frame = packet[VIRTIO_NET_HDR_SIZE:]
            except Fault:
                frame = None
        if frame is None:
            self.counters["tx_dropped"] += 1
        else:
            self.counters["tx_frames"] += 1
            self.sent.append(frame)

    # Receive (5.1.9.4)

    def receive(self, frame):
        """An Ethernet frame, without FCS, comes from the wire."""
        if not self.live:
            self.counters["rx_dropped_down"] += 1
            return
        self.waiting.append(bytes(frame))
        queue = self.queues.get(0)
        if queue is not None and not queue.stopped:
            try:
                self._deliver()
            except RingError:
                self._fail(queue)

    def _deliver(self):
        """Put frames that wait into buffers of the first receive queue."""
        queue = self.queues.get(0)
        while self.waiting and queue is not None and not queue.stopped and self._bus_master:
            frame = self.waiting[0]
            try:
                chains = self._provide(queue, VIRTIO_NET_HDR_SIZE + len(frame))
            except RingError:
                self._drop()
                raise
            if chains is None:
                return
            if not chains:
                self._drop()
                continue
            self.waiting.popleft()
            header = bytes(NUM_BUFFERS) + struct.pack("<H", len(chains))
            packet, written = header + frame, []
            for segments in chains:
                before = len(packet)
                for segment in segments:
                    part, packet = packet[:segment.len], packet[segment.len:]
                    if part:
                        self.memory.write(segment.addr, part)
                written.append(before - len(packet))
            self.counters["rx_frames"] += 1
            if queue.use(written):
                self._notify_used(0)

    def _drop(self):
        self.waiting.popleft()
        self.counters["rx_dropped_no_buffer"] += 1

    def _provide(self, queue, need):
        """Find the next chains that hold ``need`` bytes: lists of segments. None: not yet; empty: never."""
        chains, capacity = [], 0
        for head in queue.heads:
            useful = [segment._replace(len=min(segment.len, MAX_SEGMENT)) for segment in queue.chain(head)
                      if segment.write and segment.len]
            chains.append(useful)
            capacity += sum(segment.len for segment in useful)
            if sum(max(1, len(segments)) for segments in chains) > MAX_SEGMENTS:
                return []
            if capacity >= need:
                return chains
            if VIRTIO_NET_F_MRG_RXBUF not in self.features:
                return []  # 5.1.9.3.1: one buffer must hold the packet
        return None
