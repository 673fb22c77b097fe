"""virtio-net facts.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

from amaranth import unsigned
from amaranth.lib import data

VIRTIO_NET_F_CSUM         = 0
VIRTIO_NET_F_GUEST_CSUM   = 1
VIRTIO_NET_F_MTU          = 3
VIRTIO_NET_F_MAC          = 5
VIRTIO_NET_F_MRG_RXBUF    = 15
VIRTIO_NET_F_STATUS       = 16
VIRTIO_NET_F_CTRL_VQ      = 17
VIRTIO_NET_F_MQ           = 22
VIRTIO_NET_F_SPEED_DUPLEX = 63

VIRTIO_NET_S_LINK_UP = 1
VIRTIO_NET_HDR_SIZE = 12     # bytes, with VERSION_1: num_buffers is always there
VIRTIO_NET_OK, VIRTIO_NET_ERR = 0, 1                    # ack of a control command (5.1.9.5)
VIRTIO_NET_CTRL_MQ = 4                                  # class
VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0                     # command: le16, from MIN to MAX and to what the device has
VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 1, 0x8000
DUPLEX_FULL = 1              # the field description of 5.1.4, and what ethtool shows


class VirtioNetHdr(data.Struct):
    flags:       unsigned(8)
    gso_type:    unsigned(8)
    hdr_len:     unsigned(16)
    gso_size:    unsigned(16)
    csum_start:  unsigned(16)
    csum_offset: unsigned(16)
    num_buffers: unsigned(16)


class VirtioNetConfig(data.Struct):
    """Device configuration (5.1.4), up to the last field that any offered feature brings."""
    mac:                 data.ArrayLayout(8, 6)
    status:              unsigned(16)
    max_virtqueue_pairs: unsigned(16)
    mtu:                 unsigned(16)
    speed:               unsigned(32)  # Mbit/s
    duplex:              unsigned(8)
