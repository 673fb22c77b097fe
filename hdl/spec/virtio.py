"""Virtio facts shared by every device type.

Ref: VIRTIO 1.4, 2.1 "Device Status Field", 2.7 "Split Virtqueues", 2.8 "Packed Virtqueues", 4.1.4 "Virtio Structure PCI
Capabilities", 6 "Reserved Feature Bits".
"""

from amaranth import unsigned
from amaranth.lib import data, enum

VIRTIO_PCI_VENDOR_ID = 0x1af4
VIRTIO_PCI_DEVICE_ID_BASE = 0x1040
VIRTIO_ID_NET = 1
VIRTIO_ID_ENTROPY = 4
VIRTIO_MSI_NO_VECTOR = 0xffff

# Feature bits are bit numbers.
VIRTIO_F_INDIRECT_DESC     = 28
VIRTIO_F_EVENT_IDX         = 29
VIRTIO_F_VERSION_1         = 32
VIRTIO_F_ACCESS_PLATFORM   = 33
VIRTIO_F_RING_PACKED       = 34
VIRTIO_F_IN_ORDER          = 35
VIRTIO_F_ORDER_PLATFORM    = 36
VIRTIO_F_SR_IOV            = 37
VIRTIO_F_NOTIFICATION_DATA = 38
VIRTIO_F_NOTIF_CONFIG_DATA = 39
VIRTIO_F_RING_RESET        = 40
VIRTIO_F_ADMIN_VQ          = 41
VIRTIO_F_SUSPEND           = 43


class Status(enum.IntFlag, shape=8, boundary=enum.KEEP):
    ACKNOWLEDGE        = 1
    DRIVER             = 2
    DRIVER_OK          = 4
    FEATURES_OK        = 8
    DEVICE_NEEDS_RESET = 64
    FAILED             = 128


class CfgType(enum.IntEnum):
    COMMON = 1  # VIRTIO_PCI_CAP_COMMON_CFG
    NOTIFY = 2
    ISR    = 3
    DEVICE = 4
    PCI    = 5


class Common:
    """Byte offsets in the common configuration structure (4.1.4.3)."""
    DEVICE_FEATURE_SELECT = 0x00
    DEVICE_FEATURE        = 0x04
    DRIVER_FEATURE_SELECT = 0x08
    DRIVER_FEATURE        = 0x0c
    CONFIG_MSIX_VECTOR    = 0x10  # 16 bits
    NUM_QUEUES            = 0x12  # 16 bits
    DEVICE_STATUS         = 0x14  # 8 bits
    CONFIG_GENERATION     = 0x15  # 8 bits
    QUEUE_SELECT          = 0x16  # 16 bits
    QUEUE_SIZE            = 0x18  # 16 bits
    QUEUE_MSIX_VECTOR     = 0x1a  # 16 bits
    QUEUE_ENABLE          = 0x1c  # 16 bits
    QUEUE_NOTIFY_OFF      = 0x1e  # 16 bits
    QUEUE_DESC            = 0x20  # 64 bits
    QUEUE_DRIVER          = 0x28  # 64 bits
    QUEUE_DEVICE          = 0x30  # 64 bits
    QUEUE_NOTIF_CONFIG_DATA = 0x38  # 16 bits
    QUEUE_RESET           = 0x3a  # 16 bits
    SIZE                  = 0x3c


class Isr(enum.IntFlag, shape=8):
    QUEUE  = 1
    CONFIG = 2


class VirtqDescF(enum.IntFlag, shape=16, boundary=enum.KEEP):
    NEXT     = 1  # VIRTQ_DESC_F_NEXT
    WRITE    = 2  # VIRTQ_DESC_F_WRITE
    INDIRECT = 4  # VIRTQ_DESC_F_INDIRECT
    AVAIL    = 1 << 7   # VIRTQ_DESC_F_AVAIL, packed only
    USED     = 1 << 15  # VIRTQ_DESC_F_USED, packed only


MAX_QUEUE_SIZE = 32768     # entries: 2.7, 2.8.10
VIRTQ_DESC_SIZE = 16       # bytes
MAX_TABLE = 1024           # of the card: descriptors that a chain may have in an indirect table, even if its queue is smaller
VIRTQ_USED_ELEM_SIZE = 8
VIRTQ_AVAIL_F_NO_INTERRUPT = 1
VIRTQ_USED_F_NO_NOTIFY = 1


class VirtqDesc(data.Struct):
    addr:  unsigned(64)
    len:   unsigned(32)
    flags: VirtqDescF
    next:  unsigned(16)


class VirtqUsedElem(data.Struct):
    id:  unsigned(32)
    len: unsigned(32)


class VirtqPackedDesc(data.Struct):
    """Entry of a packed ring (2.8.13), as available and as used descriptor."""
    addr:  unsigned(64)
    len:   unsigned(32)
    id:    unsigned(16)
    flags: VirtqDescF


class RingEvent(enum.IntEnum, shape=2):
    """RING_EVENT_FLAGS_*: when the writer of an event suppression structure wants to be notified (2.8.10)."""
    ENABLE  = 0
    DISABLE = 1
    DESC    = 2  # at one descriptor, with EVENT_IDX


class VirtqEventSuppress(data.Struct):
    """Event suppression structure of a packed virtqueue (2.8.14), 4 bytes."""
    desc_event_off:   unsigned(15)
    desc_event_wrap:  unsigned(1)
    desc_event_flags: unsigned(2)
    reserved:         unsigned(14)


class NotificationData(data.Struct):
    """Available buffer notification with NOTIFICATION_DATA (2.9). ``next`` is, of a split virtqueue, the available index
    (16 bits); of a packed one, the offset of the next descriptor to be made available (15 bits) and the wrap counter."""
    vqn:  unsigned(16)
    next: unsigned(16)
