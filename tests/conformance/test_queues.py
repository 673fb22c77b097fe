"""How messages are put into descriptors.

Ref: VIRTIO 1.4, 2.7.4 "Message Framing", 2.7.5.3 "Indirect Descriptors", 2.8.7 "Indirect Flag: Scatter-Gather Support",
5.1.9 "Device Operation".
"""

import struct

import pytest

from ringnic.hdl.spec.net import (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ,
                                  VIRTIO_NET_HDR_SIZE, VIRTIO_NET_OK)
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED, VirtqDescF
from ringnic.host.driver.virtqueue import DESC

from .frames import frame

NEXT, WRITE, INDIRECT = int(VirtqDescF.NEXT), int(VirtqDescF.WRITE), int(VirtqDescF.INDIRECT)
PACKED_DESC = struct.Struct("<QIHH")  # addr, len, id, flags
SIZE = 300
HEADER = bytes(VIRTIO_NET_HDR_SIZE)
# Where a packet is cut: nowhere, in the header, between header and frame, in the frame, everywhere; an empty piece.
CUTS = [(), (12,), (1,), (11,), (13,), (6, 12, 26), (5, 40), (12, 12), tuple(range(1, 20)), (12, 13, 14, 100, 101, 311)]


def pieces(memory, size, cuts, gap=3):
    """Buffers of ``size`` bytes together, cut as told, with gaps between them: ``(iova, length)`` and where each lies."""
    edges, at, found = [0, *cuts, size], 1, []
    for start, end in zip(edges, edges[1:]):
        found.append((memory.iova + at, end - start))
        at += end - start + gap
    return found


def put(memory, buffers, content):
    for addr, length in buffers:
        memory.view[addr - memory.iova:addr - memory.iova + length] = content[:length]
        content = content[length:]


def get(memory, buffers):
    return b"".join(bytes(memory.view[addr - memory.iova:addr - memory.iova + length]) for addr, length in buffers)


@pytest.fixture(params=[False, True], ids=["direct", "indirect"])
def indirect(request):
    return request.param


@pytest.fixture
def features(ring, indirect):
    return ring | ({VIRTIO_F_INDIRECT_DESC} if indirect else set())


@pytest.mark.clause("FRM-1", "TX-B3")
def test_packets_are_cut_anywhere_on_transmit(card, features, indirect):
    net = card.open(features)
    memory = card.bus.alloc(0x1000)
    for k, cuts in enumerate(CUTS):
        sent = frame(SIZE, k)
        buffers = pieces(memory, len(HEADER + sent), cuts)
        put(memory, buffers, HEADER + sent)
        net.tx.add_buf(buffers, [], k, indirect=indirect)
        net.tx.kick()
        card.expect_wire([sent])
        assert card.used(net.tx, 1) == [(k, 0)]


@pytest.mark.clause("FRM-1", "TX-B3")
def test_packets_are_cut_anywhere_on_receive(card, features, indirect):
    net = card.open(features, fill=False)
    room = VIRTIO_NET_HDR_SIZE + SIZE
    for k, cuts in enumerate(CUTS):
        memory = card.bus.alloc(0x1000)
        memory.view[:] = b"\xa5" * len(memory)
        buffers = pieces(memory, room + 9, cuts)
        net.rx.add_buf([], buffers, k, indirect=indirect)
        net.rx.kick()
        came = frame(SIZE, k)
        card.wire.send(came)
        assert card.used(net.rx, 1) == [(k, room)]
        packet = get(memory, buffers)
        assert packet[VIRTIO_NET_HDR_SIZE:room] == came
        # What was not described is as it was.
        put(memory, buffers, b"\xa5" * (room + 9))
        assert memory.view == b"\xa5" * len(memory)


@pytest.mark.clause("FRM-1", "CV-B2")
def test_commands_are_cut_anywhere(card, features, indirect):
    net = card.open(features | {VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ})
    for cuts in ((), (1,), (2,), (3,), (1, 2), (1, 2, 3), (2, 4), (4, 4)):
        for pairs in (2, 1):
            assert net.control(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, struct.pack("<H", pairs), cuts=cuts,
                               indirect=indirect) == VIRTIO_NET_OK


@pytest.mark.clause("FRM-2")
@pytest.mark.parametrize("length", [19, 32, 64])
def test_chains_as_long_as_the_queue(card, features, indirect, length):
    """2.7.5.2: no chain is longer. A driver of today makes up to 19."""
    net = card.open(features, queue_size=64)
    memory = card.bus.alloc(0x1000)
    sent = frame(SIZE, length)
    buffers = pieces(memory, len(HEADER + sent), range(4, 4 * length, 4))
    assert len(buffers) == length
    put(memory, buffers, HEADER + sent)
    for k in range(2):
        net.tx.add_buf(buffers, [], k, indirect=indirect)
        net.tx.kick()
        card.expect_wire([sent])
        assert card.used(net.tx, 1) == [(k, 0)]
    assert not card.broken()


@pytest.mark.clause("IND-B1")
@pytest.mark.parametrize("size, length", [(16, 19), (4, 130), (16, 1024)])
@pytest.mark.parametrize("receive", [False, True], ids=["transmit", "receive"])
def test_tables_longer_than_the_queue(card, ring, receive, size, length):
    """A driver must not make them; Linux makes tables of 19 for queues of 16, and no other device minds."""
    net = card.open(ring | {VIRTIO_F_INDIRECT_DESC}, queue_size=size, fill=not receive)
    memory = card.bus.alloc(0x10000)
    # A frame is received into 64 buffers at most, so these are longer.
    step, room = 32 if receive else 1, VIRTIO_NET_HDR_SIZE + 1514
    buffers = pieces(memory, max(room, step * length), range(step, step * length, step))
    assert len(buffers) == length
    for k in range(2):
        content = frame(1514, k)
        if receive:
            net.rx.add_buf([], buffers, k, indirect=True)
            net.rx.kick()
            card.wire.send(content)
            assert card.used(net.rx, 1) == [(k, room)]
            assert get(memory, buffers)[VIRTIO_NET_HDR_SIZE:room] == content
        else:
            put(memory, buffers, HEADER + content)
            net.tx.add_buf(buffers, [], k, indirect=True)
            net.tx.kick()
            card.expect_wire([content])
            assert card.used(net.tx, 1) == [(k, 0)]
    assert not card.broken()


@pytest.mark.clause("IND-B1")
@pytest.mark.parametrize("size", [16, 1024])
def test_table_that_is_too_long(card, ring, size):
    """The queue stops, whatever the frame."""
    net = card.open(ring | {VIRTIO_F_INDIRECT_DESC}, queue_size=size)
    memory = card.bus.alloc(0x2000)
    net.tx.add_buf(pieces(memory, VIRTIO_NET_HDR_SIZE + 1514, range(1, 1025)), [], 0, indirect=True)
    net.tx.kick()
    card.until(card.broken, "DEVICE_NEEDS_RESET")
    assert card.wire.take() == [] and card.used(net.tx, 0) == []


@pytest.mark.clause("IND-1")
@pytest.mark.parametrize("flags", [0, WRITE], ids=["plain", "write"])
@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
def test_write_of_a_table_means_nothing(card, form, event_idx, flags):
    """Its entries say what is read and what is written."""
    net = card.open(form | {VIRTIO_F_INDIRECT_DESC} | ({VIRTIO_F_EVENT_IDX} if event_idx else set()))
    memory = card.bus.alloc(0x1000)
    packed = VIRTIO_F_RING_PACKED in form
    put(memory, [(memory.iova + 0x100, VIRTIO_NET_HDR_SIZE + SIZE)], HEADER + frame(SIZE))
    parts = [(memory.iova + 0x100, VIRTIO_NET_HDR_SIZE), (memory.iova + 0x100 + VIRTIO_NET_HDR_SIZE, SIZE)]
    if packed:
        memory.view[:32] = b"".join(PACKED_DESC.pack(addr, length, 0, 0) for addr, length in parts)
        net.tx.publish((memory.iova, 32, 7, INDIRECT | flags))
    else:
        memory.view[:32] = DESC.pack(*parts[0], NEXT, 1) + DESC.pack(*parts[1], 0, 0)
        net.tx.write_desc(0, memory.iova, 32, INDIRECT | flags)
        net.tx.publish(0)
    net.tx.notify()
    card.expect_wire([frame(SIZE)])
    assert not card.broken()


@pytest.mark.clause("IND-2")
@pytest.mark.parametrize("before", [0, 1, 2, 5])
@pytest.mark.parametrize("entries", [1, 2, 4])
def test_ordinary_descriptors_before_a_table(card, before, entries):
    net = card.open({VIRTIO_F_INDIRECT_DESC})
    memory = card.bus.alloc(0x1000)
    sent = frame(SIZE, before)
    buffers = pieces(memory, len(HEADER + sent), [7 * (k + 1) for k in range(before + entries - 1)])
    put(memory, buffers, HEADER + sent)
    table = card.bus.alloc(16 * entries)
    table.view[:] = b"".join(DESC.pack(*buffers[before + k], NEXT if k < entries - 1 else 0, k + 1 if k < entries - 1 else 0)
                             for k in range(entries))
    for k in range(before):
        net.tx.write_desc(k, *buffers[k], NEXT, k + 1)
    net.tx.write_desc(before, table.iova, len(table), INDIRECT)
    net.tx.publish(0)
    net.tx.notify()
    card.expect_wire([sent])
    assert not card.broken()


@pytest.mark.clause("PK-B4")
@pytest.mark.parametrize("flags", [0, NEXT, int(VirtqDescF.AVAIL), int(VirtqDescF.USED), 0xffff & ~(WRITE | INDIRECT)],
                         ids=["none", "next", "avail", "used", "all"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_tables_of_packed_rings(card, flags, count):
    """Of an entry only WRITE counts, id does not; how many there are is said by the length."""
    net = card.open({VIRTIO_F_RING_PACKED, VIRTIO_F_INDIRECT_DESC})
    memory = card.bus.alloc(0x1000)
    sent = frame(SIZE, count)
    buffers = pieces(memory, len(HEADER + sent), [100 * (k + 1) for k in range(count - 1)])
    put(memory, buffers, HEADER + sent)
    # Behind the last entry lies one that would be wrong.
    entries = [*((*buffer, 0x1234 + k, flags) for k, buffer in enumerate(buffers)), (0xdead_0000, 100, 0, WRITE)]
    table = card.bus.alloc(16 * len(entries))
    table.view[:] = b"".join(PACKED_DESC.pack(*entry) for entry in entries)
    net.tx.publish((table.iova, 16 * count, 3, INDIRECT))
    net.tx.notify()
    card.expect_wire([sent])
    assert not card.broken()
    card.until(lambda: net.tx.read_flags(0) >> 7 & 1 and net.tx.read_flags(0) >> 15, "used descriptor")
