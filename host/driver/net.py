"""virtio-net: frames out and in, link, counters.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

import struct

from ...hdl.spec.bar import BAR_INDEX, COUNTERS, COUNTERS_MAGIC, COUNTERS_OFFSET
from ...hdl.spec.net import (VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
                             VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS, VIRTIO_NET_HDR_SIZE, VIRTIO_NET_S_LINK_UP)
from ...hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_ID_NET
from .pci import PciFunction
from .transport import Transport
from .virtqueue import DeviceError

__all__ = ["FEATURES", "NoSpace", "VirtioNet"]

#: What this driver knows how to use.
FEATURES = frozenset({VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MAC,
                      VIRTIO_NET_F_STATUS, VIRTIO_NET_F_MTU, VIRTIO_NET_F_SPEED_DUPLEX})

RECEIVEQ, TRANSMITQ = 0, 1  # 5.1.2: of the first pair
CONFIG_VECTOR = 0
# Byte offsets in device configuration (5.1.4).
MAC, STATUS, MTU, SPEED = 0, 6, 10, 12
HEADER = struct.Struct("<BBHHHHH")
ETHERNET_HEADER = 18  # with a VLAN tag
DEFAULT_MTU = 1500
COUNTERS_HEADER = 16  # bytes: magic, number of counters, build id, 0


class NoSpace(Exception):
    """The transmit queue is full until the device gives buffers back."""


class VirtioNet:
    """A live network device. :meth:`open` makes one.

    Attributes
    ----------
    rx, tx : Virtqueue
        First queue pair. Tokens are slot numbers into ``rx_memory`` and ``tx_memory``, of ``rx_slot`` and ``tx_slot`` bytes.
    features : frozenset
        Bit numbers agreed upon.
    """
    @classmethod
    def open(cls, bus, features=FEATURES, **options):
        """Discover, negotiate of ``features`` what is offered, set up, go live. ``options`` as for the class."""
        return cls(Transport(PciFunction(bus)), features, **options)

    def __init__(self, transport, features=FEATURES, *, queue_size=None, rx_slot=None, fill=True):
        """``rx_slot``: bytes of one receive buffer. ``fill``: post receive buffers at once."""
        if transport.device_type != VIRTIO_ID_NET:
            raise LookupError(f"Virtio device type {transport.device_type} is not a network card")
        self.transport = transport
        self.bus = transport.bus
        self._wanted = frozenset(features)
        self._options = dict(queue_size=queue_size, rx_slot=rx_slot, fill=fill)
        self._start(**self._options)

    def _start(self, *, queue_size, rx_slot, fill):
        transport = self.transport
        self.features = transport.negotiate(self._wanted)
        self.mergeable = VIRTIO_NET_F_MRG_RXBUF in self.features
        vectors = min(transport.function.msix_vectors, transport.num_queues + 1)
        transport.function.enable_msix(vectors)
        transport.set_config_vector(CONFIG_VECTOR)
        self.rx = transport.setup_queue(RECEIVEQ, queue_size, vector=CONFIG_VECTOR + 1 + RECEIVEQ)
        self.tx = transport.setup_queue(TRANSMITQ, queue_size, vector=CONFIG_VECTOR + 1 + TRANSMITQ)
        self.max_frame = ETHERNET_HEADER + self.mtu
        self.tx_slot = VIRTIO_NET_HDR_SIZE + self.max_frame + 3 & ~3
        # 5.1.6.3.1: without MRG_RXBUF one buffer holds any packet.
        self.rx_slot = rx_slot or (2048 if self.mergeable else self.tx_slot)
        self.tx_memory = self.bus.alloc(self.tx_slot * self.tx.size)
        self.rx_memory = self.bus.alloc(self.rx_slot * self.rx.size)
        self._tx_free = list(range(self.tx.size))
        self._rx_parts, self._rx_left = [], 0  # packet of which further buffers have not come back yet
        transport.driver_ok()
        if fill:
            self.refill(range(self.rx.size))

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

    def restart(self, **options):
        """Go live again after :meth:`reset` or :meth:`flr`, with options as before but for these."""
        self._options |= options
        self._start(**self._options)

    # Transmit (5.1.6.2).

    def send(self, frame, kick=True):
        """Queue one Ethernet frame, without FCS; :exc:`NoSpace` if there is no room even after reclaiming."""
        if len(frame) > self.max_frame:
            raise ValueError(f"Frame of {len(frame)} bytes is longer than the MTU allows")
        if not self._tx_free or not self.tx.num_free:
            self.reclaim()
            if not self._tx_free or not self.tx.num_free:
                raise NoSpace(f"All {self.tx.size} transmit buffers are with the device")
        slot = self._tx_free.pop()
        at = slot * self.tx_slot
        packet = bytes(VIRTIO_NET_HDR_SIZE) + bytes(frame)
        self.tx_memory.view[at:at + len(packet)] = packet
        self.tx.add_buf([(self.tx_memory.iova + at, len(packet))], [], slot)
        if kick:
            self.tx.kick()

    def reclaim(self):
        """Take back what the device has sent; return how many."""
        count = 0
        while (got := self.tx.get_buf()) is not None:
            slot, written = got
            if written:
                raise DeviceError(f"Transmit buffer came back with {written} bytes written")  # 2.7.8.2
            self._tx_free.append(slot)
            count += 1
        return count

    # Receive (5.1.6.3, 5.1.6.4).

    def refill(self, slots):
        """Give receive buffers to the device."""
        for slot in slots:
            self.rx.add_buf([], [(self.rx_memory.iova + slot * self.rx_slot, self.rx_slot)], slot)
        self.rx.kick()

    def receive(self):
        """Return the frames that have come, and give their buffers back to the device."""
        frames, slots = [], []
        while (got := self.rx.get_buf()) is not None:
            slot, written = got
            if written > self.rx_slot:
                raise DeviceError(f"{written} bytes written into a buffer of {self.rx_slot}")
            at = slot * self.rx_slot
            part = bytes(self.rx_memory.view[at:at + written])
            if not self._rx_left:
                if written < VIRTIO_NET_HDR_SIZE:
                    raise DeviceError(f"{written} bytes do not hold a header")
                *_, num_buffers = HEADER.unpack_from(part)
                if num_buffers == 0 or (not self.mergeable and num_buffers != 1):  # 5.1.6.4.1
                    raise DeviceError(f"Received packet has num_buffers {num_buffers}")
                self._rx_left, part = num_buffers, part[VIRTIO_NET_HDR_SIZE:]
            self._rx_parts.append(part)
            self._rx_left -= 1
            if not self._rx_left:
                frames.append(b"".join(self._rx_parts))
                self._rx_parts = []
            slots.append(slot)
        if slots:
            self.refill(slots)
        return frames

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
    def link_up(self):
        if VIRTIO_NET_F_STATUS not in self.features:
            return True
        return bool(self.transport.config_read(STATUS, 2) & VIRTIO_NET_S_LINK_UP)

    @property
    def speed(self):
        """Mbit/s, or None."""
        return self.transport.config_read(SPEED, 4) if VIRTIO_NET_F_SPEED_DUPLEX in self.features else None

    def counters(self):
        """Return the card's event counters by name. They count from the last power-on, not from the last reset."""
        def dw(offset):
            return self.bus.bar_read(BAR_INDEX, COUNTERS_OFFSET + offset, 4)
        if dw(0) != COUNTERS_MAGIC:
            raise LookupError("The device has no counters page")
        values = {}
        for k, name in enumerate(COUNTERS):
            at = COUNTERS_HEADER + 8 * k
            high = None
            while high != (high := dw(at + 4)):  # both halves of one value
                low = dw(at)
            values[name] = high << 32 | low
        return values
