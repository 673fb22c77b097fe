"""Frames in.

Ref: VIRTIO 1.4, 5.1.4.1 "Device Requirements: Device configuration layout", 5.1.9.3 "Setting Up Receive Buffers", 5.1.9.4
"Processing of Incoming Packets", 5.1.9.5.3 "VLAN Filtering".
"""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_HDR_SIZE, VirtioNetHdr

from .frames import ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, frame, segment, tagged

ETHERNET_HEADER, VLAN_TAG = 14, 4
TAGS = [(), (ETHERTYPE_VLAN,), (ETHERTYPE_SERVICE_VLAN,), (ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN)]
OVERS = 1, 2, 3, 4, 5, 8, 100, 2000  # bytes
SLOT = 256  # bytes of a receive buffer where a packet may have several
ECE, CWR, ACK = 0x40, 0x80, 0x10
CONGESTION_EXPERIENCED = 3


def take(card, net, frames):
    """Receive so many frames; return each one's header and buffers, as ``(header, [bytes of each])``."""
    packets = []
    for one in frames:
        card.wire.send(one)
        size = VIRTIO_NET_HDR_SIZE + len(one)
        count = -(-size // net.rx_slot) if net.mergeable else 1
        parts = []
        for slot, written in card.used(net.rx, count):
            at = slot * net.rx_slot
            parts.append(bytes(net.rx_memory.view[at:at + written]))
            net.refill([slot])
        raw, parts[0] = parts[0][:VIRTIO_NET_HDR_SIZE], parts[0][VIRTIO_NET_HDR_SIZE:]
        assert b"".join(parts) == one
        packets.append((VirtioNetHdr.from_bits(int.from_bytes(raw, "little")), parts))
    return packets


@pytest.fixture(params=[False, True], ids=["one_buffer", "mergeable"])
def net(request, card, ring):
    if request.param:
        return card.open(ring | {VIRTIO_NET_F_MRG_RXBUF}, rx_slot=SLOT)
    return card.open(ring)


@pytest.mark.clause("RX-5", "RX-6", "RX-7", "RX-8", "RX-11", "RX-13")
def test_nothing_is_said_that_was_not_negotiated(card, net):
    """Neither of checksums, good or bad, nor of segmentation, nor of congestion; packets come as they were."""
    frames = [frame(60), frame(1514), tagged(1, 500), segment(checksum=0), segment(checksum=0xffff),
              segment(checksum=1, flags=ACK | ECE), segment(checksum=1, flags=ACK | CWR, tos=CONGESTION_EXPERIENCED, size=1514)]
    for found, _ in take(card, net, frames):
        assert (found.flags, found.gso_type, found.hdr_len, found.gso_size, found.csum_start, found.csum_offset) == (0,) * 6


@pytest.mark.clause("RX-1", "RX-2", "RX-3")
def test_buffers_of_a_packet_are_counted_and_full(card, net):
    sizes = [60, SLOT - 13, SLOT - 12, SLOT - 11, 2 * SLOT - 12, 2 * SLOT - 11, 1514, net.max_frame]
    for (found, parts), size in zip(take(card, net, map(frame, sizes)), sizes):
        assert found.num_buffers == len(parts)
        if net.mergeable:
            lengths = [VIRTIO_NET_HDR_SIZE + len(parts[0]), *map(len, parts[1:])]
            assert all(length == SLOT for length in lengths[:-1])
        else:
            assert len(parts) == 1


@pytest.mark.clause("RX-4", "PK-B3")
@pytest.mark.parametrize("cycles", [1, 2, 3, 5, 7])
def test_buffers_of_a_packet_are_there_together(card, ring, cycles):
    """Whenever the driver looks, it finds all of a packet or nothing."""
    net = card.open(ring | {VIRTIO_NET_F_MRG_RXBUF}, rx_slot=SLOT, queue_size=64)
    wanted = [frame(60 + 450 * k, cycles) for k in range(4)]
    card.wire.send(*wanted)
    got = []

    def whole():
        card.bus.run(cycles)
        got.extend(net.receive())
        assert not net._packets[0]._left, "a part of a packet"
        return len(got) == len(wanted)
    for _ in range(20_000):
        if whole():
            break
    assert got == wanted


@pytest.mark.clause("NC-4")
@pytest.mark.parametrize("overs", [(), pytest.param(OVERS, marks=pytest.mark.simulated("a partner that sends longer frames"))],
                         ids=["whole", "longer"])
@pytest.mark.parametrize("mergeable", [set(), {VIRTIO_NET_F_MRG_RXBUF}], ids=["one_buffer", "mergeable"])
@pytest.mark.parametrize("kinds", TAGS, ids=len)
def test_no_packet_is_longer_than_the_mtu(card, form, mergeable, overs, kinds):
    """mtu and the header for the link is the most: 14 bytes, and 4 for each VLAN tag that the frame has. What is longer is
    dropped and counted, and what follows is not."""
    net = card.open(form | mergeable | {VIRTIO_NET_F_MTU})
    whole = tagged(7, net.mtu + ETHERNET_HEADER + VLAN_TAG * len(kinds), kinds=kinds)
    card.wire.send(*(whole + bytes(over) for over in overs), whole)
    card.expect_received([whole])
    assert net.counters()["rx_dropped_long"] == len(overs)
    card.works(2)


@pytest.mark.clause("CV-7")
@pytest.mark.parametrize("vlan", [0, 1, 2, 100, 0x7ff, 0xffe, 0xfff])
def test_all_tags_are_accepted(card, net, vlan):
    frames = [tagged(vlan, 64, priority=priority) for priority in (0, 3, 7)]
    card.wire.send(*frames)
    card.expect_received(frames)
