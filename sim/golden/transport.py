"""Virtio over PCI, the device's side: status, features, queues, notifications.

Ref: VIRTIO 1.4, 2.1 "Device Status Field", 4.1.4 "Virtio Structure PCI Capabilities".
"""

from collections import Counter

from ...hdl.spec.bar import (COMMON_OFFSET, COUNTERS, COUNTERS_MAGIC, COUNTERS_OFFSET, DEVICE_OFFSET, ISR_OFFSET,
                             NOTIFY_MULTIPLIER, NOTIFY_OFFSET)
from ...hdl.spec.features import FEATURE_PREREQUISITES
from ...hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED,
                                VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1, VIRTIO_MSI_NO_VECTOR,
                                VIRTIO_PCI_DEVICE_ID_BASE, Common, Isr, Status)
from .function import GoldenFunction
from .memory import Memory
from .packed import PackedQueue
from .split import SplitQueue

__all__ = ["GoldenTransport"]

# Fields of the common configuration: (offset, bytes).
WIDTHS = {
    Common.DEVICE_FEATURE_SELECT: 4, Common.DEVICE_FEATURE: 4, Common.DRIVER_FEATURE_SELECT: 4,
    Common.DRIVER_FEATURE: 4, Common.CONFIG_MSIX_VECTOR: 2, Common.NUM_QUEUES: 2, Common.DEVICE_STATUS: 1,
    Common.CONFIG_GENERATION: 1, Common.QUEUE_SELECT: 2, Common.QUEUE_SIZE: 2, Common.QUEUE_MSIX_VECTOR: 2,
    Common.QUEUE_ENABLE: 2, Common.QUEUE_NOTIFY_OFF: 2, Common.QUEUE_DESC: 8, Common.QUEUE_DRIVER: 8,
    Common.QUEUE_DEVICE: 8, Common.QUEUE_RESET: 2,
}
ADDRESSES = (Common.QUEUE_DESC, Common.QUEUE_DRIVER, Common.QUEUE_DEVICE)
MAX_QUEUE_SIZE = 1 << 15  # 2.7, 2.8
STICKY = Status.ACKNOWLEDGE | Status.DRIVER | Status.FAILED


class GoldenTransport(GoldenFunction):
    """A virtio device of any type. A subclass has ``_config_bytes()``, ``_kicked(index)``, ``_queue_gone()`` and ``_stop()``.

    Parameters
    ----------
    features : iterable of int
        Bit numbers of all that the device can do.
    offered : iterable of int, or None
        Of these, what is offered. None: everything.
    max_queue_size : int
        Entries, a power of 2 from 1 to 32768.

    Attributes
    ----------
    memory : Memory
    queues : dict
        :class:`SplitQueue` or :class:`PackedQueue` by index, those that are enabled.
    generation : int
        Changes with the device configuration; a reset is no change.
    counters : Counter
        By the names of the card's counters; those of hardware stay 0.
    """
    def __init__(self, *, device_type, class_code, features, offered, num_queues, max_queue_size):
        if not 0 < max_queue_size <= MAX_QUEUE_SIZE or max_queue_size & (max_queue_size - 1):
            raise ValueError(f"Queue size must be a power of 2 from 1 to {MAX_QUEUE_SIZE}, not {max_queue_size!r}")
        self.offered = frozenset(features) if offered is None else frozenset(features) & frozenset(offered)
        self.num_queues = num_queues
        self.max_queue_size = max_queue_size
        self.memory = Memory()
        self.counters = Counter()
        self.generation = 0
        self._reset()
        super().__init__(device_id=VIRTIO_PCI_DEVICE_ID_BASE + device_type, class_code=class_code,
                         vectors=num_queues + 1)

    def map(self, iova, memory):
        self.memory.map(iova, memory)

    def unmap(self, iova, size):
        self.memory.unmap(iova)

    def _reset(self):
        self.status = Status(0)
        self.isr = Isr(0)
        self.queues = {}
        self._driver_words = {}
        self._selected = {Common.DEVICE_FEATURE_SELECT: 0, Common.DRIVER_FEATURE_SELECT: 0, Common.QUEUE_SELECT: 0}
        self._config_vector = VIRTIO_MSI_NO_VECTOR
        self._registers = [self._queue_registers(index) for index in range(self.num_queues)]
        self._pending = set()

    def _queue_registers(self, index):
        """What they are by default."""
        return {Common.QUEUE_SIZE: self.max_queue_size, Common.QUEUE_MSIX_VECTOR: VIRTIO_MSI_NO_VECTOR,
                Common.QUEUE_ENABLE: 0, Common.QUEUE_NOTIFY_OFF: index, **dict.fromkeys(ADDRESSES, 0),
                Common.QUEUE_RESET: 0}

    def _flr(self):
        self._reset()
        self._stop()

    @property
    def live(self):
        return bool(self.status & Status.DRIVER_OK)

    @property
    def intx(self):
        """Level of INTx."""
        return not self.msix_enabled and bool(self.isr)

    @property
    def features(self):
        """Bit numbers agreed upon; none before FEATURES_OK."""
        return self._accepted() if self.status & Status.FEATURES_OK else frozenset()

    def _accepted(self):
        return frozenset(32 * word + bit for word, value in self._driver_words.items() for bit in range(32)
                         if value >> bit & 1)

    # Registers

    def _read(self, page, offset, size):
        if page == COMMON_OFFSET:
            image = bytearray(Common.SIZE)
            for at, width in WIDTHS.items():
                image[at:at + width] = self._field(at).to_bytes(width, "little")
        elif page == ISR_OFFSET:
            image = bytes([self.isr])
            if offset == 0:
                self.isr = Isr(0)  # 4.1.4.5: the read clears it
        elif page == DEVICE_OFFSET:
            image = self._config_bytes()
        elif page == COUNTERS_OFFSET:
            header = (COUNTERS_MAGIC, len(COUNTERS), 0, 0)
            image = b"".join([*(word.to_bytes(4, "little") for word in header),
                              *(self.counters[name].to_bytes(8, "little") for name in COUNTERS)])
        else:
            image = b""
        return int.from_bytes(image[offset:offset + size], "little")

    def _field(self, at):
        select = self._selected
        if at in select:
            return select[at]
        match at:
            case Common.DEVICE_FEATURE:
                word = select[Common.DEVICE_FEATURE_SELECT]
                return sum(1 << bit % 32 for bit in self.offered if bit // 32 == word)
            case Common.DRIVER_FEATURE:
                word = select[Common.DRIVER_FEATURE_SELECT]
                return self._driver_words.get(word, 0) & sum(1 << bit % 32 for bit in self.offered if bit // 32 == word)
            case Common.CONFIG_MSIX_VECTOR:
                return self._config_vector
            case Common.NUM_QUEUES:
                return self.num_queues
            case Common.DEVICE_STATUS:
                return int(self.status)
            case Common.CONFIG_GENERATION:
                return self.generation
        if select[Common.QUEUE_SELECT] < self.num_queues:
            return self._registers[select[Common.QUEUE_SELECT]][at]
        return VIRTIO_MSI_NO_VECTOR if at == Common.QUEUE_MSIX_VECTOR else 0  # 4.1.4.3.1: size 0 is no queue

    def _write(self, page, offset, size, value):
        if page == NOTIFY_OFFSET:
            # 2.9: with NOTIFICATION_DATA more is told, which a device need not believe: it looks into the ring.
            if size >= (4 if VIRTIO_F_NOTIFICATION_DATA in self.features else 2) and offset % NOTIFY_MULTIPLIER == 0:
                self._notified(value & 0xffff)
        elif page == COMMON_OFFSET:
            # A reset takes with it what is written beside it.
            for at, width in sorted(WIDTHS.items(), key=lambda field: field[0] == Common.DEVICE_STATUS):
                first, end = max(at, offset), min(at + width, offset + size)
                # 4.1.3.1: a field of 16 bits is written whole; of less nothing is taken.
                if first < end and (width != 2 or end - first == 2):
                    image = bytearray(self._as_written(at).to_bytes(width, "little"))
                    image[first - at:end - at] = value.to_bytes(size, "little")[first - offset:end - offset]
                    self._set_field(at, int.from_bytes(image, "little"))

    def _as_written(self, at):
        """Of a field in parts, what was written before: of driver_feature more than is read."""
        if at == Common.DRIVER_FEATURE:
            return self._driver_words.get(self._selected[Common.DRIVER_FEATURE_SELECT], 0)
        return self._field(at)

    def _set_field(self, at, value):
        if at in self._selected:
            self._selected[at] = value
        elif at == Common.DRIVER_FEATURE:
            if not self.status & Status.FEATURES_OK:
                self._driver_words[self._selected[Common.DRIVER_FEATURE_SELECT]] = value
        elif at == Common.CONFIG_MSIX_VECTOR:
            self._config_vector = self._vector(value)
        elif at == Common.DEVICE_STATUS:
            self._set_status(Status(value))
        elif at >= Common.QUEUE_SIZE and self._selected[Common.QUEUE_SELECT] < self.num_queues:
            self._set_queue(self._selected[Common.QUEUE_SELECT], at, value)

    def _vector(self, value):
        return value if value < self.vectors else VIRTIO_MSI_NO_VECTOR

    def _set_status(self, value):
        if value == 0:
            self._reset()
            self._stop()
            return
        self.status |= value & STICKY
        if value & Status.FEATURES_OK and self._acceptable(self._accepted()):
            self.status |= Status.FEATURES_OK
        if value & Status.DRIVER_OK and self.status & Status.FEATURES_OK and not self.live:
            self.status |= Status.DRIVER_OK
            self.poll()  # of what is there the driver may have notified too early

    def _acceptable(self, features):
        """2.2.2: what was not offered, a set without VERSION_1, and a bit without what it requires, is refused."""
        return VIRTIO_F_VERSION_1 in features <= self.offered and all(
            not features.isdisjoint(need if isinstance(need, tuple) else (need,))
            for bit in features for need in FEATURE_PREREQUISITES.get(bit, ()))

    def _set_queue(self, index, at, value):
        registers = self._registers[index]
        enabled = index in self.queues
        if at == Common.QUEUE_MSIX_VECTOR:
            registers[at] = self._vector(value)
        elif at == Common.QUEUE_SIZE:
            # 4.1.4.3.2: a power of 2, unless the ring is packed.
            if not enabled and 0 < value <= self.max_queue_size and (
                    VIRTIO_F_RING_PACKED in self.features or value & (value - 1) == 0):
                registers[at] = value
        elif at == Common.QUEUE_RESET:
            if value == 1 and enabled and VIRTIO_F_RING_RESET in self.features:
                # 4.1.4.3.1: without time, it has been done when the write is over.
                del self.queues[index]
                self._registers[index] = self._queue_registers(index)
                self._queue_gone()
        elif at in ADDRESSES:
            if not enabled:
                registers[at] = value
        elif at == Common.QUEUE_ENABLE and value == 1 and not enabled and self.status & Status.FEATURES_OK:
            registers[at] = 1
            desc, driver, device = (registers[area] for area in ADDRESSES)
            kind = PackedQueue if VIRTIO_F_RING_PACKED in self.features else SplitQueue
            self.queues[index] = kind(
                self.memory, size=registers[Common.QUEUE_SIZE], desc=desc, driver=driver, device=device,
                event_idx=VIRTIO_F_EVENT_IDX in self.features, indirect=VIRTIO_F_INDIRECT_DESC in self.features)
            if self.live:
                self._kicked(index)

    # Notifications

    def _notified(self, index):
        if self.live and index in self.queues:
            self.counters["kicks"] += 1
            self._kicked(index)

    def poll(self):
        """Look at all queues, notified or not. A device may at any time."""
        if self.live:
            for index in sorted(self.queues):
                self._kicked(index)

    def pass_time(self):
        """Do what a device does without being told to."""

    def _bus_master_on(self):
        self.poll()

    def _notify_used(self, index):
        """Used buffer notification (4.1.5.3)."""
        vector = self._registers[index][Common.QUEUE_MSIX_VECTOR]
        if not self.msix_enabled:
            self.isr |= Isr.QUEUE
        elif vector == VIRTIO_MSI_NO_VECTOR:
            return
        self.counters["notifications"] += 1
        self._signal(vector)

    def _notify_config(self):
        """Configuration change notification (4.1.5.4)."""
        if self.live:
            self.isr |= Isr.CONFIG
            self._signal(self._config_vector)

    def _fail(self, queue):
        """The driver broke a rule (2.1.2): this queue stops, the driver is told."""
        queue.stopped = True
        self.counters["queue_errors"] += 1
        self.status |= Status.DEVICE_NEEDS_RESET
        self._notify_config()
