"""The numbers as linux/virtio_pci.h, virtio_config.h, virtio_ids.h, virtio_ring.h and virtio_net.h have them."""

import pytest
from amaranth.lib import data

from ringnic.hdl.spec import bar, net, virtio
from ringnic.hdl.spec.virtio import CfgType, Common, Isr, Status, VirtqDesc, VirtqDescF, VirtqUsedElem


@pytest.mark.parametrize("name, number", [
    ("VIRTIO_PCI_VENDOR_ID", 0x1af4), ("VIRTIO_PCI_DEVICE_ID_BASE", 0x1040), ("VIRTIO_ID_NET", 1),
    ("VIRTIO_MSI_NO_VECTOR", 0xffff),
    ("VIRTIO_F_INDIRECT_DESC", 28), ("VIRTIO_F_EVENT_IDX", 29), ("VIRTIO_F_VERSION_1", 32),
    ("VIRTIO_F_ACCESS_PLATFORM", 33), ("VIRTIO_F_RING_PACKED", 34), ("VIRTIO_F_IN_ORDER", 35),
    ("VIRTIO_F_ORDER_PLATFORM", 36), ("VIRTIO_F_NOTIFICATION_DATA", 38), ("VIRTIO_F_NOTIF_CONFIG_DATA", 39),
    ("VIRTIO_F_RING_RESET", 40),
    ("VIRTQ_DESC_SIZE", 16), ("VIRTQ_USED_ELEM_SIZE", 8), ("VIRTQ_AVAIL_F_NO_INTERRUPT", 1),
    ("VIRTQ_USED_F_NO_NOTIFY", 1),
])
def test_virtio(name, number):
    assert getattr(virtio, name) == number


@pytest.mark.parametrize("name, number", [
    ("VIRTIO_NET_F_CSUM", 0), ("VIRTIO_NET_F_GUEST_CSUM", 1), ("VIRTIO_NET_F_MTU", 3), ("VIRTIO_NET_F_MAC", 5),
    ("VIRTIO_NET_F_MRG_RXBUF", 15), ("VIRTIO_NET_F_STATUS", 16), ("VIRTIO_NET_F_CTRL_VQ", 17),
    ("VIRTIO_NET_F_MQ", 22), ("VIRTIO_NET_F_SPEED_DUPLEX", 63),
    ("VIRTIO_NET_S_LINK_UP", 1), ("VIRTIO_NET_HDR_SIZE", 12), ("DUPLEX_FULL", 1),
])
def test_net(name, number):
    assert getattr(net, name) == number


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
    (net.VirtioNetHdr, dict(flags=0, gso_type=1, hdr_len=2, gso_size=4, csum_start=6, csum_offset=8, num_buffers=10), 12),
    (net.VirtioNetConfig, dict(mac=0, status=6, max_virtqueue_pairs=8, mtu=10, speed=12, duplex=16), 17),
])
def test_layouts(struct, offsets, size):
    layout = data.Layout.cast(struct)
    assert {name: field.offset // 8 for name, field in layout} == offsets
    assert layout.size == 8 * size


def test_bar():
    starts = [bar.COMMON_OFFSET, bar.ISR_OFFSET, bar.DEVICE_OFFSET, bar.NOTIFY_OFFSET, bar.MSIX_TABLE_OFFSET,
              bar.MSIX_PBA_OFFSET, bar.COUNTERS_OFFSET]
    assert starts == sorted(set(starts)) and all(start % 0x1000 == 0 for start in starts)
    assert bar.BAR_SIZE == 1 << bar.REG_ADDR_WIDTH and starts[-1] < bar.BAR_SIZE
    assert bar.NOTIFY_MULTIPLIER in (2, 4, 8)
    assert bar.COUNTERS_MAGIC.to_bytes(4, "little") == b"RNIC"
    assert len(set(bar.COUNTERS)) == len(bar.COUNTERS)
