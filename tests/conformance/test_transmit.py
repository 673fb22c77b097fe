"""Frames out.

Ref: VIRTIO 1.4, 5.1.4.1 "Device Requirements: Device configuration layout", 5.1.9.2 "Packet Transmission".
"""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MTU, VIRTIO_NET_HDR_SIZE, VirtioNetHdr
from ringnic.hdl.spec.virtio import VIRTIO_F_INDIRECT_DESC

from .frames import ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, PEER_MAC, frame, segment, tagged

NEEDS_CSUM, DATA_VALID, RSC_INFO, UDP_TUNNEL_CSUM = 1, 2, 4, 8             # flags
TUNNEL_IPV4, TUNNEL_IPV6, ECN = 0x20, 0x40, 0x80                           # bits of gso_type
ETHERNET_HEADER, VLAN_TAG = 14, 4
TWO_TAGS = ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN


def header(**fields):
    """A header of these fields, others 0."""
    return VirtioNetHdr.const(fields).as_bits().to_bytes(VIRTIO_NET_HDR_SIZE, "little")


def send(card, net, head, body, **how):
    memory = card.bus.alloc(len(head) + len(body))
    memory.view[:] = head + body
    net.tx.add_buf([(memory.iova, len(memory))], [], 0, **how)
    net.tx.kick()
    assert card.used(net.tx, 1) == [(0, 0)]
    memory.free()


@pytest.mark.clause("TX-1")
@pytest.mark.parametrize("flags", [DATA_VALID, RSC_INFO, UDP_TUNNEL_CSUM, 0x10, 0x20, 0x40, 0x80, 0xfe])
def test_unknown_flags_are_ignored(card, form, flags):
    """Those of features that were not negotiated are unknown."""
    net = card.open(form)
    send(card, net, header(flags=flags), frame(100))
    card.expect_wire([frame(100)])


@pytest.mark.clause("TX-2")
@pytest.mark.parametrize("start, offset", [(0, 0), (34, 6), (0xffff, 0xffff), (14, 0), (99, 0), (100, 2)])
def test_checksum_fields_are_not_used_without_needs_csum(card, form, start, offset):
    net = card.open(form)
    send(card, net, header(csum_start=start, csum_offset=offset), frame(100))
    card.expect_wire([frame(100)])


@pytest.mark.clause("TX-3")
@pytest.mark.parametrize("checksum", [0, 1, 0x1234, 0xffff])
def test_packets_go_out_whatever_their_checksum(card, form, checksum):
    net = card.open(form)
    packet = segment(checksum=checksum)
    send(card, net, header(), packet)
    card.expect_wire([packet])


@pytest.mark.clause("TX-6", "TX-8", "TX-B3")
def test_the_header_has_12_bytes_and_no_more(card, ring):
    """What comes behind is the frame, were it the offsets of a longer header."""
    net = card.open(ring | {VIRTIO_F_INDIRECT_DESC})
    for filler in (b"\0", b"\xff", b"\x5a"):
        body = filler * 100
        for indirect in (False, True):
            send(card, net, header(num_buffers=0), body, indirect=indirect)
            card.expect_wire([body])


@pytest.mark.clause("TX-7")
@pytest.mark.parametrize("gso_type", [TUNNEL_IPV4 | TUNNEL_IPV6, TUNNEL_IPV4 | TUNNEL_IPV6 | 1, 0xff])
def test_no_packet_in_two_tunnels(card, form, gso_type):
    net = card.open(form)
    send(card, net, header(gso_type=gso_type), frame(100))
    card.rest()
    assert card.wire.take() == []


@pytest.mark.clause("NC-5")
@pytest.mark.parametrize("less", [0, 1, 2, 3, 4, 7])
def test_packets_of_the_mtu_go_out_whole(card, ring, less):
    """With the header for the link in addition, whether it has a VLAN tag or two or none."""
    net = card.open(ring | {VIRTIO_NET_F_MTU})
    longest = net.mtu + ETHERNET_HEADER - less
    frames = [frame(longest, less, dst=PEER_MAC), tagged(5, longest + VLAN_TAG),
              tagged(6, longest + 2 * VLAN_TAG, kinds=TWO_TAGS)]
    for one in frames:
        net.send(one)
    card.expect_wire(frames)
