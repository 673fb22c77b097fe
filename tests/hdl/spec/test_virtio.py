"""The numbers as linux/virtio_pci.h, virtio_config.h, virtio_ids.h and virtio_ring.h have them."""

import pytest
from amaranth.lib import data

from ringnic.hdl.spec import virtio
from ringnic.hdl.spec.virtio import CfgType, Common, Isr, Status, VirtqDesc, VirtqDescF, VirtqUsedElem


@pytest.mark.parametrize("name, number", [
    ("VIRTIO_PCI_VENDOR_ID", 0x1af4), ("VIRTIO_PCI_DEVICE_ID_BASE", 0x1040), ("VIRTIO_ID_NET", 1),
    ("VIRTIO_MSI_NO_VECTOR", 0xffff),
    ("VIRTIO_F_INDIRECT_DESC", 28), ("VIRTIO_F_EVENT_IDX", 29), ("VIRTIO_F_VERSION_1", 32),
    ("VIRTIO_F_ACCESS_PLATFORM", 33), ("VIRTIO_F_RING_PACKED", 34), ("VIRTIO_F_IN_ORDER", 35),
    ("VIRTIO_F_ORDER_PLATFORM", 36), ("VIRTIO_F_NOTIFICATION_DATA", 38), ("VIRTIO_F_NOTIF_CONFIG_DATA", 39),
    ("VIRTIO_F_RING_RESET", 40), ("VIRTIO_F_SR_IOV", 37), ("VIRTIO_F_ADMIN_VQ", 41),
    ("VIRTQ_DESC_SIZE", 16), ("VIRTQ_USED_ELEM_SIZE", 8), ("VIRTQ_AVAIL_F_NO_INTERRUPT", 1),
    ("VIRTQ_USED_F_NO_NOTIFY", 1),
])
def test_virtio(name, number):
    assert getattr(virtio, name) == number


@pytest.mark.parametrize("name, number", [
    ("DEVICE_FEATURE_SELECT", 0), ("DEVICE_FEATURE", 4), ("DRIVER_FEATURE_SELECT", 8), ("DRIVER_FEATURE", 12),
    ("CONFIG_MSIX_VECTOR", 16), ("NUM_QUEUES", 18), ("DEVICE_STATUS", 20), ("CONFIG_GENERATION", 21),
    ("QUEUE_SELECT", 22), ("QUEUE_SIZE", 24), ("QUEUE_MSIX_VECTOR", 26), ("QUEUE_ENABLE", 28),
    ("QUEUE_NOTIFY_OFF", 30), ("QUEUE_DESC", 32), ("QUEUE_DRIVER", 40), ("QUEUE_DEVICE", 48),
    ("QUEUE_NOTIF_CONFIG_DATA", 56), ("QUEUE_RESET", 58),
])
def test_common(name, number):
    assert getattr(Common, name) == number


def test_codes():
    assert [int(bit) for bit in Status] == [1, 2, 4, 8, 64, 128]
    assert (Status.ACKNOWLEDGE, Status.DRIVER, Status.DRIVER_OK, Status.FEATURES_OK) == (1, 2, 4, 8)
    assert (Status.DEVICE_NEEDS_RESET, Status.FAILED) == (0x40, 0x80)
    assert [CfgType[name] for name in ("COMMON", "NOTIFY", "ISR", "DEVICE", "PCI")] == [1, 2, 3, 4, 5]
    assert (Isr.QUEUE, Isr.CONFIG) == (1, 2)
    assert [VirtqDescF[name].value for name in ("NEXT", "WRITE", "INDIRECT")] == [1, 2, 4]


@pytest.mark.parametrize("struct, offsets, size", [
    (VirtqDesc, dict(addr=0, len=8, flags=12, next=14), 16),
    (VirtqUsedElem, dict(id=0, len=4), 8),
])
def test_layouts(struct, offsets, size):
    layout = data.Layout.cast(struct)
    assert {name: field.offset // 8 for name, field in layout} == offsets
    assert layout.size == 8 * size
