"""virtio-net facts.

Ref: VIRTIO 1.4, 5.1 "Network Device".
"""

from amaranth import unsigned
from amaranth.lib import data

# Feature bits are bit numbers (5.1.3).
VIRTIO_NET_F_CSUM                      = 0
VIRTIO_NET_F_GUEST_CSUM                = 1
VIRTIO_NET_F_CTRL_GUEST_OFFLOADS       = 2
VIRTIO_NET_F_MTU                       = 3
VIRTIO_NET_F_MAC                       = 5
VIRTIO_NET_F_GUEST_TSO4                = 7
VIRTIO_NET_F_GUEST_TSO6                = 8
VIRTIO_NET_F_GUEST_ECN                 = 9
VIRTIO_NET_F_GUEST_UFO                 = 10
VIRTIO_NET_F_HOST_TSO4                 = 11
VIRTIO_NET_F_HOST_TSO6                 = 12
VIRTIO_NET_F_HOST_ECN                  = 13
VIRTIO_NET_F_HOST_UFO                  = 14
VIRTIO_NET_F_MRG_RXBUF                 = 15
VIRTIO_NET_F_STATUS                    = 16
VIRTIO_NET_F_CTRL_VQ                   = 17
VIRTIO_NET_F_CTRL_RX                   = 18
VIRTIO_NET_F_CTRL_VLAN                 = 19
VIRTIO_NET_F_CTRL_RX_EXTRA             = 20
VIRTIO_NET_F_GUEST_ANNOUNCE            = 21
VIRTIO_NET_F_MQ                        = 22
VIRTIO_NET_F_CTRL_MAC_ADDR             = 23
VIRTIO_NET_F_DEVICE_STATS              = 50
VIRTIO_NET_F_HASH_TUNNEL               = 51
VIRTIO_NET_F_VQ_NOTF_COAL              = 52
VIRTIO_NET_F_NOTF_COAL                 = 53
VIRTIO_NET_F_GUEST_USO4                = 54
VIRTIO_NET_F_GUEST_USO6                = 55
VIRTIO_NET_F_HOST_USO                  = 56
VIRTIO_NET_F_HASH_REPORT               = 57
VIRTIO_NET_F_GUEST_HDRLEN              = 59
VIRTIO_NET_F_RSS                       = 60
VIRTIO_NET_F_RSC_EXT                   = 61
VIRTIO_NET_F_STANDBY                   = 62
VIRTIO_NET_F_SPEED_DUPLEX              = 63
VIRTIO_NET_F_RSS_CONTEXT               = 64
VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO      = 65
VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM = 66
VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO       = 67
VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM  = 68
VIRTIO_NET_F_OUT_NET_HEADER            = 69
VIRTIO_NET_F_IPSEC                     = 70

VIRTIO_NET_S_LINK_UP = 1
MIN_MTU = 68                 # bytes (5.1.4.1)
DEFAULT_MTU = 1500           # what an ordinary Ethernet carries
DEFAULT_MAC = 0x5254_0052_4e01   # locally administered; first byte of the address highest
MAX_MTU = 9000               # that the card can be built for: jumbo frames
VIRTIO_NET_HDR_SIZE = 12     # bytes, with VERSION_1: num_buffers is always there
VIRTIO_NET_OK, VIRTIO_NET_ERR = 0, 1                    # ack of a control command (5.1.9.5)
VIRTIO_NET_CTRL_MQ = 4                                  # class
VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0                     # command: le16, from MIN to MAX and to what the device has
VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 1, 0x8000
DUPLEX_HALF, DUPLEX_FULL, DUPLEX_UNKNOWN = 0, 1, 0xff   # the field description of 5.1.4, and what ethtool shows
SPEED_UNKNOWN = 0xffff_ffff
VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 = 0x20               # bits of gso_type (5.1.9)
VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6 = 0x40
VIRTIO_NET_HDR_GSO_UDP_TUNNEL      = VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 | VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6


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
