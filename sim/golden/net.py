"""virtio-net, the device's side.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

import struct
from collections import deque

from ...hdl.spec.ethernet import ETHERTYPE_C_TAG, ETHERTYPE_S_TAG, HEADER_BYTES, MAX_VLAN_TAGS, VLAN_TAG_BYTES
from ...hdl.spec.net import (DEFAULT_MAC, DEFAULT_MTU, DUPLEX_FULL, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN,
                             VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC,
                             VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_SPEED_DUPLEX,
                             VIRTIO_NET_F_STATUS, VIRTIO_NET_HDR_GSO_UDP_TUNNEL, VIRTIO_NET_HDR_SIZE, VIRTIO_NET_OK,
                             VIRTIO_NET_S_LINK_UP)
from ...hdl.spec.virtio import (VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC,
                                VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_RING_PACKED,
                                VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1, VIRTIO_ID_NET)
from .memory import Fault
from .steer import flow
from .transport import GoldenTransport
from .virtqueue import RingError

__all__ = ["GoldenNet"]

FEATURES = frozenset({
    VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER, VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET})
CLASS_CODE = 0x020000
CONFIG = struct.Struct("<6sHHHIB")
CONTROL = struct.Struct("<BB")
PAIRS = struct.Struct("<H")
NUM_BUFFERS = 10    # its place in the header
GSO_TYPE = 1        # likewise
TYPE = slice(12, 14)  # of a frame; each VLAN tag moves it up
MAX_SEGMENTS = 64   # that a received frame may be spread over, as in the card
MAX_SEGMENT = 0xffff  # bytes of one that are used


def link_header(frame):
    """Return the bytes of a frame in front of what an MTU is about."""
    tags = 0
    while tags < MAX_VLAN_TAGS and int.from_bytes(frame[TYPE][:2], "big") in (ETHERTYPE_C_TAG, ETHERTYPE_S_TAG):
        tags, frame = tags + 1, frame[VLAN_TAG_BYTES:]
    return HEADER_BYTES + tags * VLAN_TAG_BYTES


class GoldenNet(GoldenTransport):
    """A virtio-net card without time: what it can do, it has done when a call returns.

    Frames received while the driver has posted no buffers wait, as many as there are. While one waits its ring is looked at
    whenever a frame comes and in :meth:`pass_time`, for not every driver notifies of receive buffers.

    Parameters
    ----------
    queue_pairs, max_queue_size, mac_address, mtu, speed : int
        As the card's.
    offered : iterable of int, or None
        Feature bits to offer, of those that the card has. None: all of them.
    strict : bool
        A flow that the driver transmitted on an active pair is received on that pair. A card that knows flows by a hash of
        few bits may mistake one for another: without ``strict`` any active pair will do.

    Attributes
    ----------
    sent : list
        Ethernet frames that went out; a test may clear it.
    speed, duplex : int
        Of the wire; the driver sees them from the next change of ``link_up`` on.
    memory : Memory
        ``memory.writes`` is what the device wrote.
    waiting : deque
        Frames received that have no buffers yet: ``(frame, pair)``.
    active_pairs : int
        What the driver asked for on the control queue; 1 after reset.
    """
    def __init__(self, *, queue_pairs=1, max_queue_size=1024, mac_address=DEFAULT_MAC, mtu=DEFAULT_MTU, speed=1000,
                 offered=None, strict=False):
        self.queue_pairs = queue_pairs
        self.mac_address = mac_address
        self.mtu = mtu
        self.speed = speed
        self.duplex = DUPLEX_FULL
        self.strict = strict
        self.sent = []
        self.waiting = deque()
        self._link_up = True
        self._shown = speed, DUPLEX_FULL
        self._forget_flows()
        super().__init__(device_type=VIRTIO_ID_NET, class_code=CLASS_CODE,
                         features=FEATURES | {VIRTIO_NET_F_MQ} if queue_pairs > 1 else FEATURES, offered=offered,
                         num_queues=2 * queue_pairs + 1, max_queue_size=max_queue_size)

    def _forget_flows(self):
        self.active_pairs = 1  # 5.1.9.5.5
        self._pair_of = {}  # by flow

    @property
    def link_up(self):
        return self._link_up

    @link_up.setter
    def link_up(self, value):
        if value != self._link_up:
            self._link_up = value
            self._shown = self.speed, self.duplex  # 5.1.4.1: they stay while the link is up
            self.generation = (self.generation + 1) & 0xff
            self._notify_config()

    def _config_bytes(self):
        return CONFIG.pack(self.mac_address.to_bytes(6, "big"), VIRTIO_NET_S_LINK_UP if self._link_up else 0,
                           self.queue_pairs, self.mtu, *self._shown)

    def _stop(self):
        self.waiting.clear()
        self._forget_flows()

    def _queue_gone(self):
        self._steer_again()

    def _kicked(self, index):
        queue = self.queues[index]
        if queue.stopped or not self._bus_master:
            return
        # 5.1.2: without MQ there is one pair, whatever the card has.
        pairs = self.queue_pairs if VIRTIO_NET_F_MQ in self.features else 1
        try:
            try:
                queue.look()
            finally:
                # Chains before the wrong one are good.
                if index == 2 * pairs and VIRTIO_NET_F_CTRL_VQ in self.features:
                    self._control(index, queue)
                elif index < 2 * pairs and index % 2:
                    self._transmit(index, queue)
                elif index < 2 * pairs:
                    self._deliver()
        except RingError:
            if not queue.stopped:
                self._fail(queue)

    def _fail(self, queue):
        super()._fail(queue)
        self._steer_again()

    # Control (5.1.9.5)

    def _control(self, index, queue):
        while queue.chains and not queue.stopped:
            segments = queue.segments(queue.chains[0])
            try:
                request = b"".join(self.memory.read(segment.addr, segment.len) for segment in segments
                                   if segment.len and not segment.write)
            except Fault:
                request = b""
            answer = bytes([VIRTIO_NET_OK if self._obey(request) else VIRTIO_NET_ERR])
            places = [segment.addr for segment in segments if segment.write and segment.len]
            if places:
                self.memory.write(places[0], answer)
            self._give_back(index, queue, [(segments, len(answer) if places else 0)])

    def _obey(self, request):
        """Do what a request asks for. Return whether it could be done."""
        wanted = CONTROL.pack(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)
        if (VIRTIO_NET_F_MQ not in self.features or len(request) != CONTROL.size + PAIRS.size
                or request[:CONTROL.size] != wanted):
            return False
        pairs, = PAIRS.unpack_from(request, CONTROL.size)
        if not VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN <= pairs <= self.queue_pairs:
            return False
        self.active_pairs = pairs
        self._steer_again()
        return True

    # Transmit (5.1.9.2)

    def _transmit(self, index, queue):
        while queue.chains and not queue.stopped:
            try:
                segments = queue.segments(queue.chains[0])
            except RingError:
                self.counters["tx_dropped"] += 1  # taken, and never given back
                raise
            self._send(segments, index // 2)
            self._give_back(index, queue, [(segments, 0)])

    def _give_back(self, index, queue, written):
        if queue.use(written):
            self._notify_used(index)

    def _send(self, segments, pair):
        """Send what a chain holds, if it is a frame."""
        length = sum(segment.len for segment in segments) - VIRTIO_NET_HDR_SIZE
        frame = None
        if (self._link_up and not any(segment.write for segment in segments)
                # 5.1.4.1: up to mtu and the link's header must go; more than the longest header makes never does.
                and HEADER_BYTES <= length <= self.mtu + HEADER_BYTES + MAX_VLAN_TAGS * VLAN_TAG_BYTES):
            try:
                packet = b"".join(self.memory.read(segment.addr, segment.len) for segment in segments if segment.len)
                if packet[GSO_TYPE] & VIRTIO_NET_HDR_GSO_UDP_TUNNEL != VIRTIO_NET_HDR_GSO_UDP_TUNNEL:   # 5.1.9.2.2
                    frame = packet[VIRTIO_NET_HDR_SIZE:]
            except Fault:
                frame = None
        if frame is None:
            self.counters["tx_dropped"] += 1
        else:
            self.counters["tx_frames"] += 1
            self.sent.append(frame)
            if (key := flow(frame)) is not None:
                self._pair_of[key] = pair

    # Receive (5.1.9.4)

    def pairs_for(self, frame):
        """Return the pairs that a frame from the wire may be received on, the best one first; none: it is dropped."""
        usable = [pair for pair in range(self.active_pairs)
                  if 2 * pair in self.queues and not self.queues[2 * pair].stopped]
        learnt = self._pair_of.get(flow(frame))
        if learnt in usable:  # 5.1.9.5.5; a queue in reset: any other
            return [learnt] if self.strict else [learnt, *(pair for pair in usable if pair != learnt)]
        return usable

    def too_long(self, frame):
        """May a frame from the wire not be received, whatever buffers there are?"""
        return len(frame) > self.mtu + link_header(frame)  # 5.1.4.1

    def receive(self, frame, pair=None):
        """An Ethernet frame, without FCS, comes from the wire, and goes to the best pair, or to the one that is given."""
        if not self.live:
            self.counters["rx_dropped_down"] += 1
            return
        if self.too_long(frame):
            self.counters["rx_dropped_long"] += 1
            return
        self._steer(bytes(frame), pair)
        self._deliver()

    def _steer(self, frame, pair):
        if pair is None:
            pair = next(iter(self.pairs_for(frame)), None)
        if pair is None:
            self.counters["rx_dropped_no_buffer"] += 1
        else:
            self.waiting.append((frame, pair))

    def _steer_again(self):
        """Frames may go to other pairs than before."""
        waiting, self.waiting = self.waiting, deque()
        for frame, pair in waiting:
            self._steer(frame, pair if pair in self.pairs_for(frame) else None)
        self._deliver()

    def _deliver(self):
        """Put frames that wait into buffers. A frame that has none yet holds up those behind it on its pair."""
        held = set()
        for frame, pair in list(self.waiting):
            if pair in held or not self._bus_master:
                continue
            queue = self.queues[2 * pair]
            try:
                parts = self.spread(frame, queue)
                if parts is None:
                    if self._found_more(queue):
                        return self._deliver()
                    if queue.stopped:
                        return None  # which has delivered the others
                    held.add(pair)
                    continue
                self.waiting.remove((frame, pair))
                if not parts:
                    self.counters["rx_dropped_no_buffer"] += 1
                    continue
                for _, writes in parts:
                    for addr, part in writes:
                        self.memory.write(addr, part)
                self.counters["rx_frames"] += 1
                self._give_back(2 * pair, queue, [(segments, sum(len(part) for _, part in writes))
                                                  for segments, writes in parts])
            except RingError:
                if (frame, pair) in self.waiting:
                    self.waiting.remove((frame, pair))
                    self.counters["rx_dropped_no_buffer"] += 1
                self._fail(queue)  # which delivers the others
                return None
        return None

    def _found_more(self, queue):
        """Look at a ring of which nobody notified. Return whether there were more chains; those before a wrong one are good."""
        known = len(queue.chains)
        try:
            queue.look()
        except RingError:
            if len(queue.chains) == known:
                self._fail(queue)
        return len(queue.chains) > known

    def pass_time(self):
        """See whether there are buffers now for frames that wait."""
        if self.live:
            self._deliver()

    def spread(self, frame, queue):
        """Return ``(segments, [(addr, bytes), ...])`` for each chain that the frame takes. None: not yet; empty: never."""
        parts, packet, pieces = [], bytes(VIRTIO_NET_HDR_SIZE) + frame, 0
        for chain in queue.chains:
            segments, writes = queue.segments(chain), []
            for number, segment in enumerate(segments, 1):
                room = min(segment.len, MAX_SEGMENT) if segment.write else 0
                if packet and room:
                    writes.append((segment.addr, packet[:room]))
                    packet = packet[room:]
                    pieces += 1
                elif number == len(segments):
                    pieces += 1  # in the card the last segment of a chain takes a place even if it is of no use
            if pieces > MAX_SEGMENTS:
                return []
            parts.append((segments, writes))
            if not packet:
                return self._with_header(parts)
            # 5.1.9.3.1: one buffer must hold the packet; of several there is none more.
            if VIRTIO_NET_F_MRG_RXBUF not in self.features or pieces == MAX_SEGMENTS:
                return []
        return None

    @staticmethod
    def _with_header(parts):
        """Say in the header, wherever its bytes are, how many buffers there are."""
        header = bytes(NUM_BUFFERS) + struct.pack("<H", len(parts))
        for _, writes in parts:
            for at, (addr, part) in enumerate(writes):
                here, header = header[:len(part)], header[len(part):]
                writes[at] = addr, here + part[len(here):]
        return parts
