"""virtio-net: frames out and in, pairs of queues, commands, link, counters.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

import struct

from ...hdl.spec.bar import BAR_INDEX, BUILD_ID_OFFSET, CONTROL_OFFSET, COUNTERS_MAGIC, COUNTERS_OFFSET, GMII_CONTROLS
from ...hdl.spec.ethernet import ETHERTYPE_C_TAG, ETHERTYPE_S_TAG, HEADER_BYTES, MAX_VLAN_TAGS, VLAN_TAG_BYTES
from ...hdl.spec.net import (DEFAULT_MTU, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_CTRL_VQ,
                             VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
                             VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS, VIRTIO_NET_HDR_SIZE, VIRTIO_NET_OK,
                             VIRTIO_NET_S_LINK_UP)
from ...hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_NOTIFICATION_DATA,
                                VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, VIRTIO_ID_NET)
from ..counters import read_counters
from .control import ControlQueue
from .pci import PciFunction
from .transport import Transport
from .virtqueue import DeviceError

__all__ = ["FEATURES", "NoSpace", "VirtioNet"]

#: What this driver knows how to use.
FEATURES = frozenset({VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER,
                      VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MAC,
                      VIRTIO_NET_F_STATUS, VIRTIO_NET_F_MTU, VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_CTRL_VQ,
                      VIRTIO_NET_F_MQ})

RECEIVEQ, TRANSMITQ = 0, 1  # 5.1.2: of the first pair; pair k has 2k and 2k + 1, and the control queue follows all pairs
CONFIG_VECTOR = 0           # and vector 1 + k is queue k's
# Byte offsets in device configuration (5.1.4).
MAC, STATUS, MAX_PAIRS, MTU, SPEED = 0, 6, 8, 10, 12
HEADER = struct.Struct("<BBHHHHH")
PAIRS = struct.Struct("<H")
TAG_BYTES = MAX_VLAN_TAGS * VLAN_TAG_BYTES
TAG_TYPES = ETHERTYPE_C_TAG.to_bytes(2, "big"), ETHERTYPE_S_TAG.to_bytes(2, "big")
TYPE = HEADER_BYTES - 2     # byte offset in a frame without tags


def _tag_bytes(frame):
    """Bytes of a frame's VLAN tags."""
    size = 0
    while size < TAG_BYTES and frame[TYPE + size:TYPE + size + 2] in TAG_TYPES:
        size += VLAN_TAG_BYTES
    return size


class NoSpace(Exception):
    """The transmit queue is full until the device gives buffers back."""


class Packets:
    """Puts packets of several receive buffers together (5.1.9.4): one for each receive queue.

    ``frames`` are whole, without the header.
    """
    def __init__(self, mergeable):
        self.mergeable = mergeable
        self.frames = []
        self._parts, self._left = [], 0

    def add(self, part):
        """Take what the device wrote into the next buffer."""
        if not self._left:
            if len(part) < VIRTIO_NET_HDR_SIZE:
                raise DeviceError(f"{len(part)} bytes do not hold a header")
            *_, num_buffers = HEADER.unpack_from(part)
            if num_buffers == 0 or (not self.mergeable and num_buffers != 1):  # 5.1.9.4.1
                raise DeviceError(f"Received packet has num_buffers {num_buffers}")
            self._left, part = num_buffers, part[VIRTIO_NET_HDR_SIZE:]
        self._parts.append(part)
        self._left -= 1
        if not self._left:
            self.frames.append(b"".join(self._parts))
            self._parts = []

    def cut(self):
        """What comes next is the beginning of a packet."""
        self._parts, self._left = [], 0

    def take(self):
        """Return the frames that are whole, once."""
        frames, self.frames = self.frames, []
        return frames


class VirtioNet:
    """A live network device. :meth:`open` makes one.

    Attributes
    ----------
    rx_queues, tx_queues : list
        Virtqueues by pair. Tokens are slot numbers into ``rx_memory`` and ``tx_memory``, of ``rx_slot`` and ``tx_slot``
        bytes; each pair has as many slots of its own as its queue had entries at first, one pair's after the other's.
    control_queue : Virtqueue or None
    features : frozenset
        Bit numbers agreed upon.
    pairs : int
        How many pairs the device uses.
    """
    @classmethod
    def open(cls, bus, features=FEATURES, **options):
        """Discover, negotiate of ``features`` what is offered, set up, go live. ``options`` as for the class."""
        return cls(Transport(PciFunction(bus)), features, **options)

    def __init__(self, transport, features=FEATURES, *, pairs=1, queue_size=None, rx_slot=None, fill=True):
        """``pairs`` of queues are set up and used. ``rx_slot``: bytes of one receive buffer. ``fill``: post receive buffers
        at once."""
        if transport.device_type != VIRTIO_ID_NET:
            raise LookupError(f"Virtio device type {transport.device_type} is not a network card")
        self.transport = transport
        self.bus = transport.bus
        self._wanted = frozenset(features)
        self._options = dict(pairs=pairs, queue_size=queue_size, rx_slot=rx_slot, fill=fill)
        self._start(**self._options)

    def _start(self, *, pairs, queue_size, rx_slot, fill):
        transport = self.transport
        self.features = transport.negotiate(self._wanted)
        self.mergeable = VIRTIO_NET_F_MRG_RXBUF in self.features
        if not 1 <= pairs <= self.max_pairs:
            raise ValueError(f"The device has 1 to {self.max_pairs} pairs of queues, not {pairs}")
        self._vectors = min(transport.function.msix_vectors, transport.num_queues + 1)
        transport.function.enable_msix(self._vectors)
        transport.set_config_vector(CONFIG_VECTOR)
        self.rx_queues = [self._setup(RECEIVEQ + 2 * pair, queue_size) for pair in range(pairs)]
        self.tx_queues = [self._setup(TRANSMITQ + 2 * pair, queue_size) for pair in range(pairs)]
        self.control_queue = self._control = None
        if VIRTIO_NET_F_CTRL_VQ in self.features:
            self.control_queue = self._setup(2 * self.max_pairs)
            self._control = ControlQueue(self.bus, self.control_queue)
        self.max_frame = HEADER_BYTES + self.mtu
        # 5.1.4.2: of a packet of mtu bytes the link's header comes in addition, with VLAN tags.
        self.tx_slot = VIRTIO_NET_HDR_SIZE + self.max_frame + TAG_BYTES + 3 & ~3
        # 5.1.9.3.1: without MRG_RXBUF one buffer holds any packet.
        self.rx_slot = rx_slot or (2048 if self.mergeable else self.tx_slot)
        self._rx_slots = self._share(self.rx_queues)
        self._tx_slots = self._share(self.tx_queues)
        self.rx_memory = self.bus.alloc(self.rx_slot * self._rx_slots[-1].stop)
        self.tx_memory = self.bus.alloc(self.tx_slot * self._tx_slots[-1].stop)
        self._tx_free = [list(slots) for slots in self._tx_slots]
        self._packets = [Packets(self.mergeable) for _ in range(pairs)]
        transport.driver_ok()
        if fill:
            for pair in range(pairs):
                self.refill(self._rx_slots[pair], pair)
        self.pairs = 1  # 5.1.9.5.5: until the command
        if pairs > 1:
            self.set_pairs(pairs)

    def _setup(self, index, size=None):
        return self.transport.setup_queue(index, size, vector=min(CONFIG_VECTOR + 1 + index, self._vectors - 1))

    def _share(self, queues):
        """Return each queue's range of slots."""
        ends = [0]
        for queue in queues:
            ends.append(ends[-1] + queue.size)
        return [range(*share) for share in zip(ends, ends[1:])]

    @property
    def rx(self):
        """Receive queue of the first pair."""
        return self.rx_queues[0]

    @property
    def tx(self):
        """Transmit queue of the first pair."""
        return self.tx_queues[0]

    def reset(self):
        """Reset by status 0; the device is at rest and has let go of all memory."""
        self.transport.reset()
        self._release()

    def flr(self):
        """Reset by Function Level Reset."""
        self.transport.function.reset()
        self.transport.forget()
        self._release()

    def _release(self):
        self.tx_memory.free()
        self.rx_memory.free()
        if self._control is not None:
            self._control.free()

    def restart(self, **options):
        """Go live again after :meth:`reset` or :meth:`flr`, with options as before but for these."""
        self._options |= options
        self._start(**self._options)

    def reset_queue(self, index, size=None):
        """Reset one queue and set it up anew, with ``size`` entries or by default (2.6.1).

        A larger queue than at first gets no more buffers than that one had. Return the number of frames lost: sent, and not
        given back by the device. Frames that had been received are kept for :meth:`receive`.
        """
        self.transport.reset_queue(index)
        if self.control_queue is not None and index == self.control_queue.index:
            self.control_queue = self._setup(index, size)
            self._control.free()
            self._control = ControlQueue(self.bus, self.control_queue)
            return 0
        pair, direction = divmod(index, 2)
        if direction == TRANSMITQ:
            self.reclaim(pair)
            lost = self.tx_queues[pair].num_pending
            self.tx_queues[pair] = self._setup(index, size)
            self._tx_free[pair] = list(self._tx_slots[pair])
            return lost
        self._collect(pair)
        self._packets[pair].cut()
        queue = self.rx_queues[pair] = self._setup(index, size)
        if self._options["fill"]:
            self.refill(self._rx_slots[pair][:queue.size], pair)
        return 0

    # Transmit (5.1.9.2).

    def can_send(self, pair=0):
        """Is there room for one more frame without reclaiming?"""
        return bool(self._tx_free[pair]) and self.tx_queues[pair].num_free > 0

    def send(self, frame, kick=True, pair=0):
        """Queue one Ethernet frame, without FCS; :exc:`NoSpace` if there is no room even after reclaiming."""
        if len(frame) - _tag_bytes(frame) > self.max_frame:  # 5.1.4.2
            raise ValueError(f"Frame of {len(frame)} bytes is longer than the MTU allows")
        queue = self.tx_queues[pair]
        if not self.can_send(pair):
            self.reclaim(pair)
            if not self.can_send(pair):
                raise NoSpace(f"All {queue.size} transmit buffers are with the device")
        slot = self._tx_free[pair].pop()
        at = slot * self.tx_slot
        packet = bytes(VIRTIO_NET_HDR_SIZE) + bytes(frame)
        self.tx_memory.view[at:at + len(packet)] = packet
        queue.add_buf([(self.tx_memory.iova + at, len(packet))], [], slot)
        if kick:
            queue.kick()

    def reclaim(self, pair=0):
        """Take back what the device has sent; return how many."""
        count = 0
        while (got := self.tx_queues[pair].get_buf()) is not None:
            self._tx_free[pair].append(got[0])
            count += 1
        return count

    # Receive (5.1.9.3, 5.1.9.4).

    def refill(self, slots, pair=0):
        """Give receive buffers to the device."""
        queue = self.rx_queues[pair]
        for slot in slots:
            queue.add_buf([], [(self.rx_memory.iova + slot * self.rx_slot, self.rx_slot)], slot)
        queue.kick()

    def receive(self, pair=0):
        """Return the frames that have come, and give their buffers back to the device."""
        slots = self._collect(pair)
        if slots:
            self.refill(slots, pair)
        return self._packets[pair].take()

    def _collect(self, pair):
        """Take what has come; return the slots that are free again."""
        slots = []
        while (got := self.rx_queues[pair].get_buf()) is not None:
            slot, written = got
            at = slot * self.rx_slot
            slots.append(slot)
            self._packets[pair].add(bytes(self.rx_memory.view[at:at + written]))
        return slots

    # Commands (5.1.9.5).

    def control(self, cls, command, data=b"", **how):
        """Send a command and return its ack byte; ``how`` as for :meth:`~.control.ControlQueue.command`."""
        if self._control is None:
            raise ValueError("CTRL_VQ was not negotiated")
        return self._control.command(cls, command, data, **how)

    def set_pairs(self, pairs):
        """Have the device use the first ``pairs`` pairs, of those that were set up (5.1.9.5.5)."""
        if not 1 <= pairs <= len(self.rx_queues):
            raise ValueError(f"1 to {len(self.rx_queues)} pairs of queues were set up, not {pairs}")
        if self.control(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, PAIRS.pack(pairs)) != VIRTIO_NET_OK:
            raise DeviceError(f"Device refuses {pairs} pairs of queues")
        self.pairs = pairs

    # What the device says of itself (5.1.4); fields are there with their features.

    @property
    def mac(self):
        """Six bytes, or None."""
        if VIRTIO_NET_F_MAC not in self.features:
            return None
        return self.transport.config_read(MAC, 6).to_bytes(6, "little")

    @property
    def mtu(self):
        return self.transport.config_read(MTU, 2) if VIRTIO_NET_F_MTU in self.features else DEFAULT_MTU

    @property
    def max_pairs(self):
        """Pairs of queues that the device has and the driver may use."""
        return self.transport.config_read(MAX_PAIRS, 2) if VIRTIO_NET_F_MQ in self.features else 1

    @property
    def link_up(self):
        if VIRTIO_NET_F_STATUS not in self.features:
            return True
        return bool(self.transport.config_read(STATUS, 2) & VIRTIO_NET_S_LINK_UP)

    @property
    def speed(self):
        """Mbit/s, or None."""
        return self.transport.config_read(SPEED, 4) if VIRTIO_NET_F_SPEED_DUPLEX in self.features else None

    # What the card says and does besides being a virtio device: its page of counters.

    def _own_page(self):
        """Return what reads a DW of BAR 0, or raise :exc:`LookupError`: a virtio device need not have such a page."""
        def dw(offset):
            return self.bus.bar_read(BAR_INDEX, offset, 4)
        if dw(COUNTERS_OFFSET) != COUNTERS_MAGIC:
            raise LookupError("The device has no counters page")
        return dw

    def build_id(self):
        """32 bits that tell one build of the card from another, 0 if nobody gave it any."""
        return self._own_page()(BUILD_ID_OFFSET)

    def set_loopback(self, on):
        """Have the card's MAC lead back what it sends, or go on with the wire. Frames on their way may be lost.

        Stays as it is over a :meth:`reset`, and is off after :meth:`flr`. :exc:`LookupError` if the card has no such MAC.
        """
        dw, bit = self._own_page(), 1 << GMII_CONTROLS.index("loopback")
        value = dw(CONTROL_OFFSET) & ~bit | (bit if on else 0)
        self.bus.bar_write(BAR_INDEX, CONTROL_OFFSET, 4, value)
        if dw(CONTROL_OFFSET) != value:
            raise LookupError("The device has no loopback")

    def counters(self):
        """Return the card's event counters by name. They count from the last power-on, not from the last reset."""
        return read_counters(self._own_page())
