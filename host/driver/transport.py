"""Virtio over PCI: status, features, queues and notifications through the configuration structures.

Ref: VIRTIO 1.4, 2.6.1 "Virtqueue Reset", 2.9 "Driver Notifications", 3.1 "Device Initialization", 4.1.4.3 "Common
configuration structure layout", 4.1.5.2 "Available Buffer Notifications".
"""

from ...hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_NOTIFICATION_DATA,
                                VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1, VIRTIO_MSI_NO_VECTOR,
                                VIRTIO_PCI_DEVICE_ID_BASE, VIRTIO_PCI_VENDOR_ID, CfgType, Common, Isr, Status)
from .packed import PackedVirtqueue
from .virtqueue import Virtqueue

__all__ = ["NegotiationError", "Transport"]

FEATURE_WORDS = 4  # of 32 bits: virtio-net has bits up to 70
RESET_POLLS = 2000
POLL_CYCLES = 50
QUEUE_SIZE = 256   # unless the caller says otherwise


class NegotiationError(Exception):
    """The device did not go along; it has been told by Status FAILED."""


class Transport:
    """A virtio device behind a :class:`~.pci.PciFunction`.

    Attributes
    ----------
    features : frozenset
        Bit numbers agreed upon; empty before :meth:`negotiate`.
    queues : dict
        :class:`~.virtqueue.Virtqueue` or :class:`~.packed.PackedVirtqueue` by index, those that were set up.
    """
    def __init__(self, function):
        self.function = function
        self.bus = function.bus
        if function.vendor_id != VIRTIO_PCI_VENDOR_ID or function.device_id < VIRTIO_PCI_DEVICE_ID_BASE:
            raise LookupError(f"{function.vendor_id:04x}:{function.device_id:04x} is no virtio 1.x device")
        self.device_type = function.device_id - VIRTIO_PCI_DEVICE_ID_BASE
        self.features = frozenset()
        self.queues = {}
        self._largest = {}  # size of each queue, as the device said before it was told ours

    # Accesses. 4.1.3.1: each field by an access of its own width, 64-bit fields as two of 32 bits.

    def _at(self, cfg_type, offset):
        structure = self.function.structures[cfg_type]
        return structure.bar, structure.offset + offset

    def common_read(self, offset, size):
        return self.bus.bar_read(*self._at(CfgType.COMMON, offset), size)

    def common_write(self, offset, size, value):
        self.bus.bar_write(*self._at(CfgType.COMMON, offset), size, value)

    def _common_write64(self, offset, value):
        self.common_write(offset, 4, value & 0xffff_ffff)
        self.common_write(offset + 4, 4, value >> 32)

    def config_read(self, offset, size):
        """Read device configuration; of more than 4 bytes, all of one generation (2.5.3)."""
        while True:
            before = self.common_read(Common.CONFIG_GENERATION, 1)
            if size in (1, 2, 4):
                value = self.bus.bar_read(*self._at(CfgType.DEVICE, offset), size)
            else:
                value = sum(self.bus.bar_read(*self._at(CfgType.DEVICE, offset + k), 1) << 8 * k for k in range(size))
            if self.common_read(Common.CONFIG_GENERATION, 1) == before:
                return value

    def read_isr(self):
        """Return and clear the interrupt cause."""
        return Isr(self.bus.bar_read(*self._at(CfgType.ISR, 0), 1))

    @property
    def status(self):
        return Status(self.common_read(Common.DEVICE_STATUS, 1))

    @status.setter
    def status(self, value):
        self.common_write(Common.DEVICE_STATUS, 1, int(value))

    # Life of a device (3.1.1).

    def reset(self):
        """Write 0 and wait until it reads back: only then has the device let go of our memory (4.1.4.3.2)."""
        self.status = 0
        for _ in range(RESET_POLLS):
            if self.status == 0:
                break
            self.bus.run(POLL_CYCLES)
        else:
            raise TimeoutError(f"Reset does not end, status is {self.status!r}")
        self.forget()

    def forget(self):
        """The device was reset, by us or by FLR: its queues are memory again."""
        for queue in self.queues.values():
            queue.free()
        self.queues = {}
        self._largest = {}
        self.features = frozenset()

    def device_features(self):
        """Return the bit numbers that the device offers."""
        offered = 0
        for word in range(FEATURE_WORDS):
            self.common_write(Common.DEVICE_FEATURE_SELECT, 4, word)
            offered |= self.common_read(Common.DEVICE_FEATURE, 4) << 32 * word
        return frozenset(bit for bit in range(32 * FEATURE_WORDS) if offered >> bit & 1)

    def negotiate(self, wanted):
        """Reset; take what the device offers of ``wanted`` and VERSION_1; return what was agreed upon.

        3.1.1 steps 1 to 6. The device is not live until :meth:`driver_ok`.
        """
        self.reset()
        self.status = Status.ACKNOWLEDGE
        self.status = Status.ACKNOWLEDGE | Status.DRIVER
        offered = self.device_features()
        accepted = offered & (frozenset(wanted) | {VIRTIO_F_VERSION_1})
        for word in range(FEATURE_WORDS):
            self.common_write(Common.DRIVER_FEATURE_SELECT, 4, word)
            self.common_write(Common.DRIVER_FEATURE, 4, sum(1 << bit - 32 * word for bit in accepted
                                                             if bit // 32 == word))
        self.status = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK
        # 2.2.1: the device may refuse a subset; it says so by not keeping the bit.
        if VIRTIO_F_VERSION_1 not in accepted or not self.status & Status.FEATURES_OK:
            self.status = self.status | Status.FAILED
            raise NegotiationError(f"Device refuses {sorted(accepted)} of {sorted(offered)}")
        self.features = accepted
        return accepted

    def driver_ok(self):
        """Step 8: the device is live."""
        self.status = self.status | Status.DRIVER_OK

    @property
    def num_queues(self):
        return self.common_read(Common.NUM_QUEUES, 2)

    def set_config_vector(self, vector):
        """Have configuration changes signalled by an MSI-X vector."""
        self.common_write(Common.CONFIG_MSIX_VECTOR, 2, vector)
        if self.common_read(Common.CONFIG_MSIX_VECTOR, 2) != vector:  # 4.1.5.1.2.1: NO_VECTOR is a failure
            raise NegotiationError(f"Device has no resources for vector {vector}")

    def setup_queue(self, index, size=None, vector=VIRTIO_MSI_NO_VECTOR):
        """Give queue ``index`` its rings, split or packed, and enable it; ``size`` up to what the device allows (4.1.5.1.3), by
        default up to :data:`QUEUE_SIZE`.

        The queue that was there before, if there was one, has been reset and is freed.
        """
        self.common_write(Common.QUEUE_SELECT, 2, index)
        largest = self._largest.setdefault(index, self.common_read(Common.QUEUE_SIZE, 2))
        if largest == 0:
            raise LookupError(f"Device has no queue {index}")
        packed = VIRTIO_F_RING_PACKED in self.features
        size = min(largest, QUEUE_SIZE) if size is None else size
        if not 1 <= size <= largest or not packed and size & (size - 1):
            rule = "from 1" if packed else "a power of 2"  # 2.8.10.1, 2.7
            raise ValueError(f"Queue size must be {rule} up to {largest}, not {size!r}")
        if index in self.queues:
            self.queues.pop(index).free()
        offset = self.common_read(Common.QUEUE_NOTIFY_OFF, 2)
        queue = (PackedVirtqueue if packed else Virtqueue)(
            self.bus, index, size, notify=self._notifier(index, offset), event_idx=VIRTIO_F_EVENT_IDX in self.features,
            indirect=VIRTIO_F_INDIRECT_DESC in self.features, in_order=VIRTIO_F_IN_ORDER in self.features)
        self.common_write(Common.QUEUE_SIZE, 2, size)
        if vector != VIRTIO_MSI_NO_VECTOR:
            self.common_write(Common.QUEUE_MSIX_VECTOR, 2, vector)
            if self.common_read(Common.QUEUE_MSIX_VECTOR, 2) != vector:
                raise NegotiationError(f"Device has no resources for vector {vector}")
        self._common_write64(Common.QUEUE_DESC, queue.desc_iova)
        self._common_write64(Common.QUEUE_DRIVER, queue.avail_iova)
        self._common_write64(Common.QUEUE_DEVICE, queue.used_iova)
        self.common_write(Common.QUEUE_ENABLE, 2, 1)
        self.queues[index] = queue
        return queue

    def reset_queue(self, index):
        """Reset one queue and wait for it: the device has let go of its memory, the other queues go on (2.6.1).

        What had come back before can still be fetched from the queue, until :meth:`setup_queue` replaces it.
        """
        if VIRTIO_F_RING_RESET not in self.features:
            raise ValueError("RING_RESET was not negotiated")
        self.common_write(Common.QUEUE_SELECT, 2, index)
        self.common_write(Common.QUEUE_RESET, 2, 1)
        for _ in range(RESET_POLLS):
            # 4.1.4.3.2: neither is written again before both read 0.
            if self.common_read(Common.QUEUE_RESET, 2) == 0 and self.common_read(Common.QUEUE_ENABLE, 2) == 0:
                return
            self.bus.run(POLL_CYCLES)
        raise TimeoutError(f"Reset of queue {index} does not end")

    def _notifier(self, index, offset):
        def notify(following):
            if VIRTIO_F_NOTIFICATION_DATA in self.features:
                self.notify(following << 16 | index, offset, 4)  # 2.9, 4.1.5.2
            else:
                self.notify(index, offset)
        return notify

    def notify(self, value, offset, size=2):
        """Write a notification: ``value`` at the address of a queue with ``queue_notify_off`` ``offset``."""
        structure = self.function.structures[CfgType.NOTIFY]
        self.bus.bar_write(structure.bar, structure.offset + offset * structure.multiplier, size, value)
