"""The passive checker on received packets: their headers, and how they lie in buffers."""

import struct

import pytest

from ringnic.hdl.spec.bar import DEVICE_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF

WRITE = 2
A = 0x2_0000_0000
PIECE = 100


def header(count=1, flags=0, gso=0):
    return struct.pack("<BBHHHHH", flags, gso, 0, 0, 0, 0, count)


def received(script, first, lengths, *, count=None, together=True):
    """A packet comes, in buffers of PIECE bytes, and fills them so far."""
    count = len(lengths) if count is None else count
    for k, length in enumerate(lengths):
        script.chain(k, (A + 0x1000 * k, PIECE, WRITE))
        data = first(count) if k == 0 else b""
        script.write(A + 0x1000 * k, data + bytes(length - len(data)))
    for k, length in enumerate(lengths):
        script.element(k, length, at=script.used + k)
        if not together:
            script.index(script.used + 1)
    if together:
        script.index(script.used + len(lengths))
    return script.violations()


def test_packets_that_are_right(split):
    script = split(VIRTIO_NET_F_MRG_RXBUF)
    assert received(script, header, [100, 100, 1]) == []
    assert received(split(VIRTIO_NET_F_MRG_RXBUF), header, [12 + 60]) == []
    assert received(split(), header, [12 + 60]) == []
    assert all(script.observed(row) for row in ("RX-1", "RX-3", "RX-4", "RX-6", "RX-7", "RX-11", "RX-13"))


@pytest.mark.parametrize("mergeable, lengths, count, rows", [
    (True, [80], 0, ["RX-1"]), (False, [80], 0, ["RX-1", "RX-2"]), (False, [80], 2, ["RX-1", "RX-2"]),
    (True, [99, 50], None, ["RX-3"]), (True, [100, 50], 3, ["RX-4"]), (False, [11], 1, ["RX-2"])])
def test_buffers_that_are_wrong(split, mergeable, lengths, count, rows):
    script = split(*[VIRTIO_NET_F_MRG_RXBUF] * mergeable)
    first = (lambda count: header(count)[:11]) if lengths == [11] else header
    assert received(script, first, lengths, count=count) == rows


def test_parts_become_visible_one_by_one(split):
    assert "RX-4" in received(split(VIRTIO_NET_F_MRG_RXBUF), header, [100, 50], together=False)


@pytest.mark.parametrize("flags, gso, rows", [
    (0, 1, ["RX-6", "RX-11"]), (0, 3, ["RX-6", "RX-11"]), (0, 4, ["RX-6", "RX-11"]), (0, 5, ["RX-6", "RX-11"]),
    (0, 0x20, ["RX-7", "RX-11"]), (0, 0x80, ["RX-11"]), (8, 0, ["RX-7"]), (4, 0, ["RX-13"])])
def test_header_with_what_was_not_agreed_upon(split, flags, gso, rows):
    script = split(VIRTIO_NET_F_MRG_RXBUF)
    assert received(script, lambda count: header(count, flags, gso), [80]) == rows


def test_other_queues_have_no_packets(split):
    script = split(VIRTIO_NET_F_CTRL_VQ, queue=1)
    script.chain(0, (A, 1, WRITE))
    script.write(A, b"\0")
    script.use(0, 1)
    assert script.violations() == [] and script.observed("RX-1") == 0


@pytest.mark.parametrize("order, rows", [((1, 0), []), ((0, 1), ["RX-4", "PK-B3"])])
def test_first_used_descriptor_of_a_packet(packed, order, rows):
    script = packed(VIRTIO_NET_F_MRG_RXBUF)
    for k in range(2):
        script.descriptor(A + 0x1000 * k, PIECE, id=k, flags=WRITE)
    script.write(A, header(2) + bytes(88))
    script.write(A + 0x1000, bytes(50))
    for k in order:
        script.use(k, (100, 50)[k], place=k)
    assert set(rows) <= set(found := script.violations()) and bool(rows) == bool(found) and script.observed("PK-B3")


PAIRS_AT = DEVICE_OFFSET + 8


@pytest.mark.parametrize("offset, raw", [
    (None, b""), (PAIRS_AT, b"\x04\0"), (PAIRS_AT - 8, bytes(8) + b"\x04\0" + bytes(2)), (PAIRS_AT, b"\x04\0\xdc\5")])
def test_control_queue_wherever_it_is(split, offset, raw):
    """Its answers are no packets, whether or not the driver has read how many pairs there are, and how wide."""
    script = split(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, queue=8, begins=False)
    if offset is not None:
        script.reg_read(offset, raw)
    script.enable(8)
    script.begin()
    script.chain(0, (A, 1, WRITE))
    script.write(A, b"\0")
    script.use(0, 1)
    assert script.violations() == [] and script.observed("RX-1") == 0


@pytest.mark.parametrize("known", [False, True])
def test_queue_that_may_be_the_control_queue(split, known):
    """Is judged if the driver has read that it is none; the number of pairs is the same after a reset."""
    script = split(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, queue=2, live=False)
    if known:
        script.reg_read(PAIRS_AT, b"\x04\0")
    script.negotiate()
    script.enable(2)
    script.status(15)
    script.begin()
    assert received(script, header, [80], count=0) == (["RX-1"] if known else [])


def test_first_queue_is_always_judged(split):
    script = split(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF)
    assert received(script, header, [80], count=0) == ["RX-1"]


@pytest.mark.parametrize("sizes", [(5, 100, 100), (11, 1, 100), (100, 11)])
def test_buffers_shorter_than_a_header(split, sizes):
    """5.1.9.3.1: no driver may give such a one, and what the device then makes of the header is its own affair."""
    script = split(VIRTIO_NET_F_MRG_RXBUF)
    whole = header(len(sizes)) + bytes(200)
    for k, size in enumerate(sizes):
        script.chain(k, (A + 0x1000 * k, size, WRITE))
        script.write(A + 0x1000 * k, whole[:size])
        whole = whole[size:]
        script.element(k, size, at=k)
    script.index(len(sizes))
    assert script.violations() == [] and script.observed("RX-1") == 0
    script.write(A + 0x10_0000, b"\0")        # nobody's memory all the same
    assert script.violations() == ["DESC-1"]
