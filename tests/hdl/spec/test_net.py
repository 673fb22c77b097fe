"""The numbers as linux/virtio_net.h has them."""

import pytest
from amaranth.lib import data

from ringnic.hdl.spec import net


@pytest.mark.parametrize("name, number", [
    ("VIRTIO_NET_F_CSUM", 0), ("VIRTIO_NET_F_GUEST_CSUM", 1), ("VIRTIO_NET_F_MTU", 3), ("VIRTIO_NET_F_MAC", 5),
    ("VIRTIO_NET_F_MRG_RXBUF", 15), ("VIRTIO_NET_F_STATUS", 16), ("VIRTIO_NET_F_CTRL_VQ", 17),
    ("VIRTIO_NET_F_MQ", 22), ("VIRTIO_NET_F_SPEED_DUPLEX", 63),
    ("VIRTIO_NET_S_LINK_UP", 1), ("VIRTIO_NET_HDR_SIZE", 12), ("DUPLEX_FULL", 1),
])
def test_numbers(name, number):
    assert getattr(net, name) == number


@pytest.mark.parametrize("struct, offsets, size", [
    (net.VirtioNetHdr,
     dict(flags=0, gso_type=1, hdr_len=2, gso_size=4, csum_start=6, csum_offset=8, num_buffers=10), 12),
    (net.VirtioNetConfig, dict(mac=0, status=6, max_virtqueue_pairs=8, mtu=10, speed=12, duplex=16), 17),
])
def test_layouts(struct, offsets, size):
    layout = data.Layout.cast(struct)
    assert {name: field.offset // 8 for name, field in layout} == offsets
    assert layout.size == 8 * size
