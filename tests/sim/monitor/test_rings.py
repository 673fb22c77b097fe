"""The passive checker on split and packed rings: what is right passes, and each rule flags what breaks it."""

import pytest

from ringnic.hdl.spec.bar import NOTIFY_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_MRG_RXBUF
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_NOTIFICATION_DATA,
                                     VirtqDescF)
from ringnic.sim.monitor.split import DESC as DESCRIPTOR

TX = 1                               # a queue that is not for receiving
RINGS, STRIDE = 0x1_0000_0000, 0x10000  # where a script has its queues
A, B, C = (0x2_0000_0000 + 0x1000 * k for k in range(3))
NEXT, WRITE, INDIRECT = int(VirtqDescF.NEXT), int(VirtqDescF.WRITE), int(VirtqDescF.INDIRECT)


# Split

@pytest.mark.parametrize("event", [(), (VIRTIO_F_EVENT_IDX,)], ids=["flags", "event_idx"])
def test_split_traffic_is_right(split, event):
    """Around the ring, and the 16 bits of the index with it."""
    script = split(*event, queue=TX)
    for _ in range(0x2010):
        script.available(*range(8))
        for head in range(8):
            script.descriptor(head, A, 100)
        script.read(A, bytes(100))
        for head in range(8):
            script.element(head, at=script.used + head)
        script.index(script.used + 8)
        script.wish(script.used if event else 1)
    assert script.violations() == []
    for row in ("STAT-1", "DESC-2", "USED-1", "ANS-2" if event else "ANS-1", "UNS-6" if event else "UNS-2"):
        assert script.observed(row), row


@pytest.mark.parametrize("event, row", [((), "ANS-1"), ((VIRTIO_F_EVENT_IDX,), "ANS-2")], ids=["flags", "event_idx"])
@pytest.mark.parametrize("written", [(), (0,), (1,), (2, 3)])
def test_looking_for_buffers_while_flags_may_be_anything(split, event, row, written):
    """Memory holds what it held before: the device writes both bytes before it looks."""
    script = split(*event, queue=TX, begins=False)
    for at in written:
        script.write(script.used_at + at, bytes(1))
    script.available()
    assert script.violations() == [row]
    for at in range(2):
        script.write(script.used_at + at, bytes(1))
    script.available(3)
    assert script.violations() == []


def test_looking_for_buffers_while_the_event_structure_may_be_anything(packed):
    script = packed(queue=TX, begins=False)
    script.descriptor(A, 100)
    assert script.violations() == ["PK-B5"]
    script.event(0)
    script.descriptor(A, 100)
    assert script.violations() == []


def test_split_receive_is_right(split):
    script = split(VIRTIO_NET_F_MRG_RXBUF)
    script.chain(3, (A, 10, WRITE), (B, 90, WRITE))
    script.write(A, bytes(10))
    script.write(B, b"\1\0" + bytes(60))
    script.use(3, 72)
    assert script.violations() == []
    assert script.observed("USED-2") and script.observed("RX-1") and script.observed("DESC-3")


@pytest.mark.parametrize("what", ["readable", "past_the_end", "nobody's", "not_available", "used"])
def test_write_that_nothing_describes(split, what):
    script = split()
    script.chain(0, (A, 100, 0), (B, 100, WRITE))
    script.descriptor(5, C, 100, WRITE)       # read, and no chain of it
    if what == "used":
        script.use(0)
    script.write({"readable": A, "past_the_end": B + 99, "nobody's": C + 0x1000, "not_available": C, "used": B}[what], bytes(2))
    assert script.violations() == ["DESC-1"]


@pytest.mark.parametrize("what", ["writable", "before_the_start", "used ring", "stale"])
def test_read_that_nothing_describes(split, what):
    script = split(queue=TX)
    script.descriptor(1, C, 100)              # before it was made available
    script.available(1)
    script.chain(0, (A, 100, 0), (B, 100, WRITE))
    script.read({"writable": B, "before_the_start": A - 1, "used ring": script.used_at, "stale": C}[what], bytes(2))
    assert script.violations() == ["DESC-2"]


def test_write_into_the_drivers_part(split):
    script = split()
    script.write(script.base, bytes(8))
    script.write(script.base + script.DRIVER, bytes(8))
    assert script.violations() == ["DESC-3", "DESC-3"]


def test_chain_through_an_indirect_table(split):
    script = split(VIRTIO_F_INDIRECT_DESC, queue=TX)
    script.available(2)
    script.descriptor(2, C, 48, INDIRECT)
    raw = b"".join(DESCRIPTOR.pack(*entry) for entry in ((A, 10, NEXT, 2), (A, 0, 0, 0), (B, 20, 0, 0)))
    script.read(C, raw[:20])
    script.read(C + 20, raw[20:])
    script.read(A, bytes(10))
    script.read(B, bytes(20))
    script.use(2)
    assert script.violations() == []
    script.read(B, bytes(20))
    assert script.violations() == ["DESC-2"]


@pytest.mark.parametrize("kind", ["split", "packed"])
@pytest.mark.parametrize("entries", [9, 1024])
def test_chain_through_a_table_longer_than_the_queue(request, kind, entries):
    """Up to 1024 entries a card takes what drivers must not make; and the buffers are judged as any others."""
    script = request.getfixturevalue(kind)(VIRTIO_F_INDIRECT_DESC, queue=TX)
    if kind == "split":
        script.available(0)
        script.descriptor(0, C, 16 * entries, INDIRECT)
        raw = b"".join(DESCRIPTOR.pack(A + k, 1, NEXT, k + 1) for k in range(entries - 1))
    else:
        script.descriptor(C, 16 * entries, flags=INDIRECT)
        raw = b"".join(DESCRIPTOR.pack(A + k, 1, 0, 0) for k in range(entries - 1))
    script.read(C, raw + DESCRIPTOR.pack(B, 20, 0, 0))
    script.read(A, bytes(entries - 1))
    script.read(B, bytes(20))
    assert script.violations() == []
    script.read(A + entries - 1, bytes(1))
    assert script.violations() == ["PK-3" if kind == "packed" else "DESC-2"]


TOP = 1 << 64


@pytest.mark.parametrize("kind", ["split", "packed"])
@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("way", ["read", "write"])
def test_buffer_at_the_end_of_the_address_space(request, kind, way, over):
    """Up to the last byte is described. Of one that runs past it nothing is, neither before the end nor at 0."""
    script = request.getfixturevalue(kind)(queue=TX)
    flags = WRITE * (way == "write")
    if kind == "split":
        script.chain(0, (A, 100, 0), (TOP - 64, 64 + over, flags))
    else:
        script.descriptor(A, 100, flags=NEXT)
        script.descriptor(TOP - 64, 64 + over, flags=flags)
    script.read(A, bytes(100))             # if it is sound: its neighbour is not known yet
    touch = getattr(script, way)
    touch(TOP - 64, bytes(64))
    nowhere = "PK-3" if kind == "packed" else "DESC-1" if way == "write" else "DESC-2"
    assert script.violations() == ["PK-4" if kind == "packed" else nowhere] * over   # of a descriptor that means nothing
    touch(0, bytes(1))
    assert script.violations() == [nowhere]


@pytest.mark.parametrize("kind", ["split", "packed"])
@pytest.mark.parametrize("over", [0, 1])
def test_table_at_the_end_of_the_address_space(request, kind, over):
    script = request.getfixturevalue(kind)(VIRTIO_F_INDIRECT_DESC, queue=TX)
    if kind == "split":
        script.available(0)
        script.descriptor(0, TOP - 32 + over, 32, INDIRECT)
    else:
        script.descriptor(TOP - 32 + over, 32, flags=INDIRECT)
    script.read(TOP - 32 + over, DESCRIPTOR.pack(A, 100, 0, 0))
    assert script.violations() == ["PK-4" if kind == "packed" else "DESC-2"] * over


@pytest.mark.parametrize("kind, area, size", [("split", "DESC", 128), ("split", "DRIVER", 22), ("split", "DEVICE", 70),
                                              ("packed", "DESC", 128)])
@pytest.mark.parametrize("over", [0, 2])
def test_ring_at_the_end_of_the_address_space(request, kind, area, size, over):
    """One that runs past it is not touched, in none of its areas."""
    plain = request.getfixturevalue(kind)
    at = TOP - size + over
    script = type(plain.__name__, (plain,), {area: at - RINGS - STRIDE * TX})(queue=TX, begins=not over)
    if area == "DEVICE":
        script.write(at + 2, bytes(2))
    else:
        script.read(at + 2 if area == "DRIVER" else at, bytes(2))
    row = "PK-3" if kind == "packed" else "DESC-1" if area == "DEVICE" else "DESC-2"
    assert script.violations() == [row] * bool(over)
    if area != "DESC":
        script.read(script.base, bytes(16))
        assert script.violations() == ["DESC-2"] * bool(over)


@pytest.mark.parametrize("what", ["no_element", "half_an_element", "index_first", "unknown", "twice", "too_far"])
def test_element_before_index(split, what):
    script = split(queue=TX)
    script.chain(0, (A, 100, 0))
    script.chain(1, (B, 100, 0))
    if what == "half_an_element":
        script.write(script.used_at + 4, bytes(4))
    elif what == "index_first":
        script.write(script.used_at + 2, b"\1\0" + bytes(8))
    elif what == "unknown":
        script.element(2)
    elif what == "twice":
        script.use(0)
        script.element(0)
    if what == "too_far":
        script.element(0)
        script.element(1, at=1)
        script.element(2, at=2)
        script.index(3)
    elif what != "index_first":
        script.index(script.used + 1)
    assert script.violations() == ["USED-1"]


@pytest.mark.parametrize("said, row", [(50, []), (49, []), (51, ["USED-2"])])
def test_length_is_what_was_written(split, said, row):
    script = split(VIRTIO_NET_F_MRG_RXBUF, queue=TX)
    script.chain(0, (A, 20, WRITE), (B, 80, WRITE))
    script.write(B, bytes(30))
    script.write(B + 40, bytes(40))           # behind a gap: does not count
    script.write(A, bytes(20))
    script.use(0, said)
    assert script.violations() == row


@pytest.mark.parametrize("event, value, row", [
    (False, 0, []), (False, 1, []), (False, 2, ["ANS-1"]), (True, 0, []), (True, 1, ["ANS-2"])])
def test_used_flags(split, event, value, row):
    script = split(*[VIRTIO_F_EVENT_IDX] * event, begins=False)
    script.write(script.used_at, bytes([value, 0]))
    assert script.violations() == row
    assert script.observed("ANS-2" if event else "ANS-1") == 1


def test_batch_in_order(split):
    script = split(VIRTIO_F_IN_ORDER, queue=TX)
    for head in range(4):
        script.chain(head, (A + 0x100 * head, 100, 0))
    script.element(2)
    script.index(3)
    script.use(3)
    assert script.violations() == []
    assert script.observed("SPL-B1") == 2 and script.observed("RSV-3") == 2


def test_batch_of_what_was_not_used_completely(split):
    script = split(VIRTIO_F_IN_ORDER, queue=TX)
    script.chain(0, (A, 100, WRITE))
    script.chain(1, (B, 100, WRITE))
    script.write(A, bytes(99))
    script.element(1)
    script.index(2)
    assert script.violations() == ["SPL-B1"]


def test_split_out_of_order(split):
    script = split(VIRTIO_F_IN_ORDER, queue=TX)
    script.chain(0, (A, 100, 0))
    script.chain(1, (B, 100, 0))
    script.use(1)
    assert script.violations() == ["RSV-3"]
    script = split(queue=TX)            # a driver that did not ask for it
    script.chain(0, (A, 100, 0))
    script.chain(1, (B, 100, 0))
    script.use(1)
    script.use(0)
    assert script.violations() == []


@pytest.mark.parametrize("what", ["jump", "head", "next", "loop", "twice"])
def test_driver_that_breaks_the_ring_is_on_its_own(split, what):
    """Its queue is judged no more, but what it does not describe is nobody's still."""
    script = split(queue=TX)
    if what == "jump":
        script.descriptor(0, A, 100)
        script.read(script.base + script.DRIVER + 2, b"\x09\0")
    elif what == "head":
        script.available(8)
        script.descriptor(0, A, 100)
    elif what == "twice":
        script.chain(0, (A, 100, 0))
        script.available(0)
    else:
        script.available(0)
        script.descriptor(0, A, 100, NEXT, {"next": 8, "loop": 0}[what])
    script.read(A, bytes(100))
    script.element(7, 1000)
    script.index(5)
    script.message(2)
    assert script.violations() == []
    script.read(B, bytes(100))
    script.write(A, bytes(100))
    assert script.violations() == ["DESC-2", "DESC-1"]


def test_reads_that_fail_or_get_lost(split):
    script = split(queue=TX)
    script.later().dma_read(script.base + script.DRIVER + 2, 2, 7)
    script.later().dma_answer(7, 1, 2, b"")
    script.message(2)
    assert script.violations() == []
    script = split(queue=TX)
    for _ in range(2):                        # the tag is free again: the first read was never answered
        script.later().dma_read(script.base + script.DRIVER + 2, 2, 7)
    script.message(2)
    assert script.violations() == []


def test_index_by_notification(split):
    script = split(VIRTIO_F_NOTIFICATION_DATA, queue=TX)
    script.reg_write(NOTIFY_OFFSET + 4, b"\1\0\1\0")
    script.read(script.base + script.DRIVER + 4, bytes(2))
    script.descriptor(0, A, 100)
    script.read(A, bytes(100))
    script.use(0)
    assert script.violations() == []
    script.reg_write(NOTIFY_OFFSET + 4, b"\1\0\1\0")     # an old one
    script.index(2)
    assert script.violations() == ["USED-1"]


# Packed

def test_packed_traffic_is_right(packed):
    script = packed(VIRTIO_F_INDIRECT_DESC, queue=TX)
    for _ in range(50):
        script.descriptor(A, 100, flags=NEXT)
        script.descriptor(B, 100, id=5)
        script.descriptor(C, 32, id=6, flags=INDIRECT)
        script.read(A, bytes(100))
        script.read(B, bytes(100))
        script.read(C, DESCRIPTOR.pack(A + 200, 10, 0, 0) + DESCRIPTOR.pack(A + 300, 10, 7, WRITE))
        script.read(A + 200, bytes(10))
        script.write(A + 300, bytes(10))
        script.use(6, 10)
        script.use(5, count=2)
        script.wish(1)
    assert script.violations() == []
    for row in ("PK-1", "PK-3", "PK-4", "PK-5", "PK-6", "PK-B1", "PK-B2", "PK-B5", "USED-2"):
        assert script.observed(row), row


@pytest.mark.parametrize("what", ["readable", "nobody's", "used"])
def test_packed_write_that_nothing_describes(packed, what):
    script = packed(queue=TX)
    script.descriptor(A, 100, flags=NEXT)
    script.descriptor(B, 100, flags=WRITE)
    if what == "used":
        script.use(0, count=2)
        script.descriptor(C, 10)
    script.write({"readable": A, "nobody's": C + 0x1000, "used": B}[what], bytes(100))
    assert script.violations() == [{"readable": "PK-3", "nobody's": "PK-3", "used": "PK-4"}[what]]


def test_descriptor_that_is_not_available(packed):
    script = packed(queue=TX)
    script.descriptor(A, 100, place=8)        # flags of the next lap
    script.read(A, bytes(100))
    assert script.violations() == ["PK-4"]


def test_half_of_a_descriptor(packed):
    """Flags were new and the address old; the card looked again before it used it, or did not."""
    script = packed(queue=TX)
    script.descriptor(A, 100)
    script.descriptor(B, 100, place=0)
    script.read(B, bytes(100))
    assert script.violations() == []
    script = packed(queue=TX)
    script.descriptor(A, 100)
    script.read(A, bytes(100))
    script.descriptor(B, 100, place=0)
    assert script.violations() == ["PK-4"]


def test_half_of_a_descriptor_beside_a_whole_one_of_the_same_buffer(packed):
    script = packed(queue=TX)
    script.descriptor(A, 100)
    script.descriptor(A, 100, id=1)            # the half: its address is that of a lap ago
    script.read(A, bytes(100))                 # for the first
    script.descriptor(B, 100, id=1, place=1)
    assert script.violations() == []


def test_reads_under_way_together_may_each_be_right(packed):
    script = packed(queue=TX)
    raw = [DESCRIPTOR.pack(addr, 100, 0, script.flags(0)) for addr in (A, B)]
    for tag in (1, 2):
        script.later().dma_read(script.base, 16, tag)
    for tag in (1, 2):
        script.later().dma_answer(tag, 0, 16, raw[tag - 1])
    script.read(B, bytes(100))
    script.use(0)
    assert script.violations() == []


def test_chains_begin_in_ring_order(packed):
    script = packed(queue=TX)
    script.descriptor(A, 100, id=0)
    script.descriptor(B, 100, id=1)
    script.read(B, bytes(100))
    script.read(A, bytes(100))
    assert script.violations() == ["PK-1"]


def test_elements_of_a_chain_in_their_order(packed):
    script = packed(queue=TX)
    script.descriptor(A, 100, flags=NEXT)
    script.descriptor(B, 100)
    script.read(B, bytes(100))
    script.read(A, bytes(100))
    assert script.violations() == ["PK-6"]


@pytest.mark.parametrize("what", ["twice", "not_available", "used"])
def test_descriptor_written_once(packed, what):
    script = packed(queue=TX)
    script.descriptor(A, 100, id=0)
    script.descriptor(B, 100, id=1)
    if what == "twice":
        script.use(1, place=1)
        script.use(1, place=1)
    elif what == "not_available":
        script.use(0, place=2)
    else:
        script.use(0)
        script.use(0, place=0)
    assert script.violations()[0] == "PK-5"


@pytest.mark.parametrize("place", [8, 16])
def test_wrap_counter(packed, place):
    script = packed(queue=TX)
    script.descriptor(A, 100)
    script.use(0, place=place)                # flags of another lap
    assert script.violations() == (["PK-B1"] if place == 8 else [])


@pytest.mark.parametrize("what", ["id", "skip", "write", "no_write"])
def test_one_used_descriptor_for_a_list(packed, what):
    script = packed(queue=TX)
    script.descriptor(A, 100, flags=NEXT)
    script.descriptor(B, 100, id=3, flags=WRITE)
    script.descriptor(C, 100, id=4)
    if what == "skip":
        script.use(4, place=1)                # inside the list
        script.use(3)
    elif what == "id":
        script.use(0)                         # not that of the last descriptor
    elif what == "write":
        script.use(3, 0)
    else:
        script.write(B, bytes(10))
        script.use(3)
    assert script.violations() == ["PK-B2"]


def test_gap_of_used_descriptors(packed):
    script = packed(queue=TX)
    script.descriptor(A, 100, id=0)
    script.descriptor(B, 100, id=1)
    script.descriptor(C, 100, id=2)
    script.use(0)
    script.wish(0)
    script.use(2, place=2)
    script.later(3000)
    script.message(2)
    assert script.violations() == ["PK-2"]


@pytest.mark.parametrize("event, args, right", [
    (False, (0,), True), (False, (1,), True), (False, (2, 3, 1), False), (True, (2, 3, 1), True), (True, (2, 8, 0), False),
    (True, (3,), False)])
def test_device_event_structure(packed, event, args, right):
    script = packed(*[VIRTIO_F_EVENT_IDX] * event)
    script.event(*args)
    assert script.violations() == ([] if right else ["PK-B5"])


def test_packed_in_order(packed):
    script = packed(VIRTIO_F_IN_ORDER, queue=TX)
    script.descriptor(A, 100, flags=NEXT)
    script.descriptor(B, 100, id=1)
    script.descriptor(C, 100, id=0)
    script.use(0, count=3)                    # for both
    assert script.violations() == [] and script.observed("RSV-3") and script.observed("SPL-B1")
    script.descriptor(A, 100, id=1, flags=WRITE)
    script.descriptor(C, 100, id=0)
    script.use(0, count=1)                    # before 1
    script.use(1, count=1)
    assert script.violations() == ["SPL-B1", "PK-5"]


def test_packed_driver_that_breaks_the_ring(packed):
    script = packed(queue=TX)
    script.descriptor(A, 17, flags=INDIRECT)
    script.read(A, bytes(17))
    script.message(2)
    assert script.violations() == []
    script.read(B, bytes(17))
    assert script.violations() == ["PK-3"]
