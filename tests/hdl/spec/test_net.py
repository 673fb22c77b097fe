"""The numbers as linux/virtio_net.h has them."""

import pytest
from amaranth.lib import data

from ringnic.hdl.spec import net


@pytest.mark.parametrize("name, number", [
    ("VIRTIO_NET_F_CSUM", 0), ("VIRTIO_NET_F_GUEST_CSUM", 1), ("VIRTIO_NET_F_MTU", 3), ("VIRTIO_NET_F_MAC", 5),
    ("VIRTIO_NET_F_MRG_RXBUF", 15), ("VIRTIO_NET_F_STATUS", 16), ("VIRTIO_NET_F_CTRL_VQ", 17),
    ("VIRTIO_NET_F_MQ", 22), ("VIRTIO_NET_F_SPEED_DUPLEX", 63),
    ("VIRTIO_NET_F_CTRL_GUEST_OFFLOADS", 2), ("VIRTIO_NET_F_GUEST_TSO4", 7), ("VIRTIO_NET_F_GUEST_TSO6", 8),
    ("VIRTIO_NET_F_GUEST_ECN", 9), ("VIRTIO_NET_F_GUEST_UFO", 10), ("VIRTIO_NET_F_HOST_TSO4", 11),
    ("VIRTIO_NET_F_HOST_TSO6", 12), ("VIRTIO_NET_F_HOST_ECN", 13), ("VIRTIO_NET_F_HOST_UFO", 14),
    ("VIRTIO_NET_F_CTRL_RX", 18), ("VIRTIO_NET_F_CTRL_VLAN", 19), ("VIRTIO_NET_F_CTRL_RX_EXTRA", 20),
    ("VIRTIO_NET_F_GUEST_ANNOUNCE", 21), ("VIRTIO_NET_F_CTRL_MAC_ADDR", 23), ("VIRTIO_NET_F_DEVICE_STATS", 50),
    ("VIRTIO_NET_F_VQ_NOTF_COAL", 52), ("VIRTIO_NET_F_NOTF_COAL", 53), ("VIRTIO_NET_F_GUEST_USO4", 54),
    ("VIRTIO_NET_F_GUEST_USO6", 55), ("VIRTIO_NET_F_HOST_USO", 56), ("VIRTIO_NET_F_HASH_REPORT", 57),
    ("VIRTIO_NET_F_GUEST_HDRLEN", 59), ("VIRTIO_NET_F_RSS", 60), ("VIRTIO_NET_F_RSC_EXT", 61),
    ("VIRTIO_NET_F_STANDBY", 62), ("VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO", 65),
    ("VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM", 66), ("VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO", 67),
    ("VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM", 68),
    ("VIRTIO_NET_S_LINK_UP", 1), ("VIRTIO_NET_HDR_SIZE", 12),
    ("DUPLEX_HALF", 0), ("DUPLEX_FULL", 1), ("DUPLEX_UNKNOWN", 0xff), ("SPEED_UNKNOWN", 0xffff_ffff),  # 5.1.4
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
