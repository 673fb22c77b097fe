"""Every kind of ring: the golden device under the golden driver, which was written apart from it."""

from collections import deque
from itertools import product

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_SIZE
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC,
                                     VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, Common,
                                     RingEvent, Status, VirtqDescF)
from ringnic.host.driver import PciFunction, Transport
from ringnic.sim.bus import GoldenBus
from ringnic.sim.golden import GoldenNet
from ringnic.sim.golden.packed import Place as PackedPlace
from ringnic.sim.golden.split import Place as SplitPlace
from ringnic.sim.golden.virtqueue import RingError

CONFIG = 0  # vector
RX, TX = 0, 1  # queues; their vectors are one more
KINDS = [frozenset(bit for bit, chosen in zip((VIRTIO_F_RING_PACKED, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC,
                                               VIRTIO_F_IN_ORDER), choice) if chosen)
         for choice in product((False, True), repeat=4)]
PACKED = frozenset({VIRTIO_F_RING_PACKED})
UNUSED_ADDR = (1 << 64) - 1
HEADER = bytes(VIRTIO_NET_HDR_SIZE)
SLOT = 2048


def name(features):
    return "-".join(["packed" if VIRTIO_F_RING_PACKED in features else "split", *(
        text for bit, text in ((VIRTIO_F_EVENT_IDX, "event"), (VIRTIO_F_INDIRECT_DESC, "indirect"),
                               (VIRTIO_F_IN_ORDER, "order")) if bit in features)])


class Grouping(GoldenNet):
    """Reports as many chains by one used entry as IN_ORDER lets it, and ``rng`` likes."""
    rng = None

    def _told(self, act, *args):
        before = {index: (queue, queue.used) for index, queue in self.queues.items()}
        act(*args)
        for queue, used in before.values():
            pending = list(queue.uses)[len(queue.uses) - (queue.used - used):]
            while self.rng and pending:
                most = next((k for k, use in enumerate(pending) if not use.whole), len(pending) - 1) + 1
                count = self.rng.randrange(most) + 1
                queue.batch(pending[:count])
                del pending[:count]

    def _kicked(self, index):
        self._told(super()._kicked, index)

    def receive(self, frame, pair=None):
        self._told(super().receive, frame, pair)


class Rig:
    """Two queues of the driver without a network driver on them."""
    def __init__(self, features, size, device=None):
        self.device = device or GoldenNet(max_queue_size=1024)
        self.bus = GoldenBus(self.device)
        self.transport = Transport(PciFunction(self.bus))
        assert features <= self.transport.negotiate(features)
        function = self.transport.function
        function.enable_msix(function.msix_vectors)
        self.transport.set_config_vector(CONFIG)
        self.queues = [self.transport.setup_queue(index, size, index + 1) for index in (RX, TX)]
        self.transport.driver_ok()
        self.memory = self.bus.alloc(64 * SLOT)

    def send(self, frame, **options):
        self.memory.view[:len(frame) + 12] = HEADER + frame
        self.queues[TX].add_buf([(self.memory.iova, len(frame) + 12)], [], frame, **options)
        self.queues[TX].kick()

    def broken(self):
        return bool(self.transport.status & Status.DEVICE_NEEDS_RESET)


# Traffic

class Traffic:
    """Random chains in both directions, and what has to become of them."""
    def __init__(self, rig, rng):
        self.rig, self.rng = rig, rng
        self.slots = list(range(64))
        self.sent, self.posted, self.fed = deque(), deque(), deque()
        self.all_sent, self.all_fed, self.received = [], [], []
        self.mergeable = VIRTIO_NET_F_MRG_RXBUF in rig.transport.features
        self.packet, self.left = b"", 0

    def pieces(self, queue, length):
        """Places for ``length`` bytes in a slot of memory, or None."""
        most = min(5, queue.num_free)
        if not self.slots or not most:
            return None
        slot, rng = self.slots.pop(), self.rng
        cuts = [0, *sorted(rng.randrange(length + 1) for _ in range(rng.randrange(most))), length]
        return slot, [(self.rig.memory.iova + slot * SLOT + at, end - at) for at, end in zip(cuts, cuts[1:])]

    def add(self, queue, length, payload=b""):
        if (places := self.pieces(queue, length)) is None:
            return False
        slot, pieces = places
        self.rig.memory.view[slot * SLOT:slot * SLOT + len(payload)] = payload
        indirect = queue.indirect and self.rng.random() < 0.5
        queue.add_buf(*((pieces, []) if payload else ([], pieces)), (slot, length), indirect=indirect)
        return True

    def send(self):
        frame = self.rng.randbytes(self.rng.randrange(60, 300))
        if self.add(self.rig.queues[TX], len(frame) + 12, HEADER + frame):
            self.all_sent.append(frame)

    def post(self):
        least = 100 if self.mergeable else 312
        self.add(self.rig.queues[RX], self.rng.choice((least, self.rng.randrange(least, 600))))

    def feed(self):
        frame = self.rng.randbytes(self.rng.choice((88, self.rng.randrange(60, 300))))
        self.all_fed.append(frame)
        self.rig.device.receive(frame)

    def take(self):
        rx, tx = self.rig.queues
        while (got := tx.get_buf()) is not None:
            (slot, _), written = got
            assert written == 0
            self.slots.append(slot)
        while (got := rx.get_buf()) is not None:
            (slot, length), written = got
            assert written <= length
            data = bytes(self.rig.memory.view[slot * SLOT:slot * SLOT + written])
            if not self.left:
                self.left, self.packet = int.from_bytes(data[10:12], "little"), b""
            self.packet += data
            self.left -= 1
            assert not self.left or written == length
            if not self.left:
                self.received.append(self.packet[12:])
            self.slots.append(slot)

    def interrupts(self):
        """All that came back was taken: who asks is told of the next, and who does not is not."""
        for index in RX, TX:
            queue, asks = self.rig.queues[index], self.rng.random() < 0.5
            assert queue.num_pending == 0 or index == RX
            if asks:
                assert queue.enable_cb()
            else:
                queue.disable_cb()
            self.rig.bus.poll_irq()
            before = self.rig.device.queues[index].used
            if index == TX:
                self.send()
                queue.kick()
            else:
                self.post()
                queue.kick()
                self.feed()
            used = self.rig.device.queues[index].used - before
            assert (index + 1 in self.rig.bus.poll_irq()) == (asks and used > 0)
            self.take()

    def round(self):
        for _ in range(self.rng.randrange(12)):
            self.rng.choice((self.send, self.post, self.post, self.feed))()
            if self.rng.random() < 0.4:
                self.rig.queues[RX].kick()
                self.rig.queues[TX].kick()
        for queue in self.rig.queues:
            queue.kick()
        self.take()


@pytest.mark.parametrize("size", [1, 4, 7, 24, 256])
@pytest.mark.parametrize("features", KINDS, ids=name)
def test_random_traffic(rng, features, size):
    packed = VIRTIO_F_RING_PACKED in features
    if not packed and size & (size - 1):
        size = {7: 8, 24: 32}[size]
    device = Grouping(max_queue_size=256) if VIRTIO_F_IN_ORDER in features else GoldenNet()
    device.rng = rng
    features |= {bit for bit in (VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_NOTIFICATION_DATA) if rng.random() < 0.5}
    if size < 24:  # chains for the largest frame
        features -= {VIRTIO_NET_F_MRG_RXBUF}
    rig = Rig(features, size, device)
    traffic = Traffic(rig, rng)
    for _ in range(60):
        traffic.round()
        traffic.interrupts()
    for _ in range(1000):
        if not device.waiting:
            break
        traffic.post()
        rig.queues[RX].kick()
        traffic.take()
    assert device.sent == traffic.all_sent
    assert traffic.received == traffic.all_fed
    assert len(traffic.all_sent) > 60
    assert not rig.broken()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000, 1024])
def test_packed_rings_wrap_anywhere(size):
    rig = Rig(PACKED, size)
    for k in range(3 * size + 2):
        rig.send(k.to_bytes(60, "little"))
        assert rig.queues[TX].get_buf() == (k.to_bytes(60, "little"), 0)
    assert len(rig.device.sent) == 3 * size + 2


def test_largest_rings():
    for features in frozenset(), PACKED:
        rig = Rig(features, 1 << 15, GoldenNet(max_queue_size=1 << 15))
        for k in range(3):
            rig.send(bytes([k]) * 60)
        assert len(rig.device.sent) == 3
    for size in 0, 3, 1 << 16:
        with pytest.raises(ValueError, match=f"^Queue size must be a power of 2 from 1 to 32768, not {size}$"):
            GoldenNet(max_queue_size=size)


def test_packed_used_descriptor():
    rig = Rig(PACKED | {VIRTIO_NET_F_MRG_RXBUF}, 5)
    rx, ring = rig.queues[RX], rig.device.queues[RX].desc
    for k in range(2):
        rx.add_buf([], [(rig.memory.iova + SLOT * k, 40), (rig.memory.iova + SLOT * k + 512, 60)], k)
    rx.kick()
    rig.device.memory.writes.clear()
    rig.device.receive(bytes(150))
    entries = [(addr, data) for addr, data in rig.device.memory.writes if len(data) == 16]
    assert [addr for addr, _ in entries] == [ring + 32, ring]  # 2.8.9: the first one last
    ids = [int.from_bytes(rig.device.memory.read(ring + 16 * slot + 12, 2), "little") for slot in (0, 2)]
    used = VirtqDescF.AVAIL | VirtqDescF.USED | VirtqDescF.WRITE
    for (_, data), id, length in zip(entries, reversed(ids), (62, 100)):
        assert data == (UNUSED_ADDR.to_bytes(8, "little") + length.to_bytes(4, "little") + id.to_bytes(2, "little")
                        + used.to_bytes(2, "little"))


@pytest.mark.parametrize("offset, wrap, told", [
    (0, 1, 0), (1, 1, 1), (2, 1, 1), (3, 1, 2), (4, 1, 2), (0, 0, 3), (1, 0, 3), (2, 0, None)])
def test_packed_event_offset(offset, wrap, told):
    """Lists of 1, 2, 2 and 2 descriptors in a ring of 5: of which one is the driver told that asks for one descriptor?"""
    rig = Rig(PACKED | {VIRTIO_F_EVENT_IDX}, 5)
    tx = rig.queues[TX]
    for k, count in enumerate((1, 2, 2, 2)):
        tx.write_event(RingEvent.DESC, offset, wrap)
        tx.add_buf([(rig.memory.iova, 60)] * count, [], k)
        tx.notify()
        assert (TX + 1 in rig.bus.poll_irq()) == (told == k)
        assert tx.get_buf() == (k, 0)


@pytest.mark.parametrize("size", [1, 2, 8, 0x8000])
def test_event_index(size):
    """2.7.7.2, for a batch: told if used_event is one of the entries just used, and indices count modulo 2**16."""
    queue = Rig({VIRTIO_F_EVENT_IDX}, size, GoldenNet(max_queue_size=1 << 15)).device.queues[TX]
    for old in (0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff):
        for count in {1, 2, size - 1, size} & set(range(1, size + 1)):
            used = {(old + k) & 0xffff for k in range(count)}
            for event in (old - 1, old, old + count - 1, old + count, old + 0x8000):
                queue.memory.write_u16(queue.driver + 4 + 2 * size, event & 0xffff)
                assert queue._wanted(SplitPlace(0, old), count) == (event & 0xffff in used), (old, count, event)


@pytest.mark.parametrize("size", [1, 2, 5, 0x7fff, 0x8000])
def test_packed_event_at_both_ends_of_a_ring(size):
    """2.8.10, descriptors counted without end: told if the event's is one of the entries just passed."""
    queue = Rig(PACKED | {VIRTIO_F_EVENT_IDX}, size, GoldenNet(max_queue_size=1 << 15)).device.queues[TX]
    for first in (0, size - 1, size, 2 * size - 1):
        for count in {1, 2, size - 1, size} & set(range(1, size + 1)):
            lap = (first + count) // size                          # of the device's wrap counter now
            for event in (first - 1, first, first + count - 1, first + count, lap * size - 1, lap * size):
                if (lap - 1) * size <= event < (lap + 1) * size and event >= 0:
                    off_wrap = event % size | (1 - event // size % 2) << 15
                    queue.memory.write(queue.driver, off_wrap.to_bytes(2, "little") + b"\2\0")
                    place = PackedPlace(0, first % size, 1 - first // size % 2)
                    assert queue._wanted(place, count) == (first <= event < first + count), (first, count, event)


@pytest.mark.parametrize("flags, event_idx, told", [
    (RingEvent.ENABLE, False, True), (RingEvent.ENABLE, True, True), (RingEvent.DISABLE, False, False),
    (RingEvent.DISABLE, True, False), (RingEvent.DESC, False, True), (RingEvent.DESC, True, False)])
def test_packed_event_flags(flags, event_idx, told):
    rig = Rig(PACKED | ({VIRTIO_F_EVENT_IDX} if event_idx else set()), 8)
    rig.queues[TX].write_event(flags, 5, 1)
    rig.send(bytes(60))
    assert rig.bus.poll_irq() == ({TX + 1} if told else set())


@pytest.mark.parametrize("event_idx", [False, True])
def test_packed_device_says_where_it_goes_on(event_idx):
    rig = Rig(PACKED | ({VIRTIO_F_EVENT_IDX} if event_idx else set()), 3)
    for k in range(8):
        rig.send(bytes(60))
        rig.queues[TX].get_buf()
        done = k + 1
        assert rig.queues[TX].event == ((RingEvent.DESC, done % 3, 1 - done // 3 % 2) if event_idx
                                        else (RingEvent.ENABLE, 0, 0))


@pytest.mark.parametrize("features", [frozenset(), PACKED], ids=name)
def test_notification_data(features):
    rig = Rig(features | {VIRTIO_F_NOTIFICATION_DATA}, 4)
    rig.send(bytes(60))
    assert len(rig.device.sent) == 1
    rig.transport.notify(TX, TX)  # 2 bytes are no notification
    assert rig.device.counters["kicks"] == 1
    for data in 0, 0x7fff, 0x8000, 0xffff:  # where it points is believed by nobody
        rig.transport.notify(data << 16 | TX, TX, 4)
    rig.send(bytes(61))
    assert len(rig.device.sent) == 2 and not rig.broken()


# Rules that a driver of a packed ring may break

D = VirtqDescF


def table(rig, *flags):
    buffer = rig.bus.alloc(16 * max(1, len(flags)))
    for k, value in enumerate(flags):
        buffer.view[16 * k:16 * k + 16] = (rig.memory.iova.to_bytes(8, "little") + (20).to_bytes(4, "little")
                                          + bytes(2) + value.to_bytes(2, "little"))
    return buffer.iova


ATTACKS = {
    "tail not available": lambda rig, iova: [(iova, 20, 0, D.NEXT), (iova, 20, 0, D.AVAIL | D.USED)],
    "tail used": lambda rig, iova: [(iova, 20, 0, D.NEXT), (iova, 20, 0, D.USED)],
    "longer than the ring": lambda rig, iova: [(iova, 20, 0, D.NEXT)] * 7,
    "no table": lambda rig, iova: [(iova, 0, 0, D.INDIRECT)],
    "odd table": lambda rig, iova: [(iova, 24, 0, D.INDIRECT)],
    "table and next": lambda rig, iova: [(table(rig, 0), 16, 0, D.INDIRECT | D.NEXT), (iova, 20, 0, 0)],
    "table at the end of a list": lambda rig, iova: [(iova, 20, 0, D.NEXT), (table(rig, 0), 16, 0, D.INDIRECT)],
    "table nowhere": lambda rig, iova: [(0x1000, 16, 0, D.INDIRECT)],
    "buffer past the end of the address space": lambda rig, iova: [((1 << 64) - 20, 21, 0, 0)],
    "table past the end of the address space": lambda rig, iova: [((1 << 64) - 16, 32, 0, D.INDIRECT)],
    "table of more than 1024": lambda rig, iova: [(table(rig, *[0] * 1025), 16 * 1025, 0, D.INDIRECT)],
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_broken_packed_ring_stops_its_queue_alone(attack):
    rig = Rig(PACKED | {VIRTIO_F_INDIRECT_DESC}, 7)
    rx, tx = rig.queues
    rx.add_buf([], [(rig.memory.iova, SLOT)], "rx")
    rx.kick()
    rig.send(bytes(60))
    assert tx.get_buf() == (bytes(60), 0)
    rig.bus.poll_irq()
    tx.publish(*attack(rig, rig.memory.iova + SLOT))
    tx.notify()
    assert rig.broken() and rig.bus.poll_irq() == {CONFIG}
    assert rig.device.sent == [bytes(60)]
    assert tx.get_buf() is None
    tx.publish((rig.memory.iova, 72, 0, 0))
    tx.notify()
    assert len(rig.device.sent) == 1  # it has stopped
    rig.device.receive(bytes(60))
    assert rx.get_buf() == ("rx", 72)


@pytest.mark.parametrize("features", [frozenset(), PACKED], ids=name)
def test_buffers_and_rings_at_the_end_of_the_address_space(features):
    """Up to the last byte is right; of each area of a ring one place more is not."""
    rig = Rig(features, 8)
    tx = rig.queues[TX]
    top = bytearray(HEADER + bytes(60))
    rig.device.map((1 << 64) - len(top), top)
    tx.add_buf([((1 << 64) - len(top), len(top))], [], "top")
    tx.kick()
    assert rig.device.sent == [bytes(60)] and tx.get_buf() == ("top", 0) and not rig.broken()
    queue = rig.device.queues[TX]
    lengths = [128, 4, 4] if features else [128, 22, 70]
    for area, length in zip(("desc", "driver", "device"), lengths):
        was = getattr(queue, area)
        setattr(queue, area, (1 << 64) - length)
        assert [at + size for at, size in queue.areas].count(1 << 64) == 1
        setattr(queue, area, (1 << 64) - length + 2)
        with pytest.raises(RingError, match="past the end"):
            queue.look()
        setattr(queue, area, was)
    queue.look()


def test_in_a_table_only_write_counts():
    rig = Rig(PACKED | {VIRTIO_F_INDIRECT_DESC}, 8)
    tx = rig.queues[TX]
    rig.memory.view[:20] = bytes(20)
    # 2.8.7: all other flags are reserved there, and ignored; so is WRITE beside INDIRECT.
    tx.publish((table(rig, D.NEXT | D.INDIRECT, D.AVAIL, D.NEXT | D.USED), 48, 5, D.INDIRECT | D.WRITE))
    tx.notify()
    assert rig.device.sent == [bytes(48)] and not rig.broken()


def test_indirect_that_was_not_negotiated():
    rig = Rig(PACKED, 8)
    rig.queues[TX].publish((table(rig, 0), 16, 0, D.INDIRECT))
    rig.queues[TX].notify()
    assert rig.broken()


def test_any_id_will_do():
    rig = Rig(PACKED, 4)
    ring = rig.device.queues[TX].desc
    rig.queues[TX].publish((rig.memory.iova, 36, 1, D.NEXT), (rig.memory.iova, 36, 0xffff, 0))
    rig.queues[TX].notify()
    assert int.from_bytes(rig.device.memory.read(ring + 12, 2), "little") == 0xffff  # 2.8.6: of the last one


# Reset of a queue

@pytest.mark.parametrize("features", [frozenset({VIRTIO_F_EVENT_IDX}), PACKED], ids=name)
def test_reset_of_a_queue_under_load(features):
    rig = Rig(features | {VIRTIO_F_RING_RESET}, 8)
    transport = rig.transport
    rx, tx = rig.queues
    size = 8
    for k in range(6):
        for _ in range(k + 3):
            rig.send(bytes([k]) * 60)
            tx.get_buf()
        rx.add_buf([], [(rig.memory.iova + SLOT, SLOT)], k)
        rx.kick()
        tx.add_buf([(rig.memory.iova, 72)], [], "not kicked")
        transport.common_write(Common.QUEUE_SELECT, 2, TX)
        transport.common_write(Common.QUEUE_RESET, 2, 1)
        for offset, value in ((Common.QUEUE_RESET, 0), (Common.QUEUE_ENABLE, 0), (Common.QUEUE_SIZE, 1024),
                              (Common.QUEUE_MSIX_VECTOR, 0xffff), (Common.QUEUE_DESC, 0)):
            assert transport.common_read(offset, 2) == value
        rig.bus.poll_irq()
        sent = len(rig.device.sent)
        tx.notify()
        assert len(rig.device.sent) == sent and rig.bus.poll_irq() == set()
        rig.device.receive(bytes([k]) * 60)  # the other one goes on
        assert rx.get_buf() == (k, 72)
        size = (8, 4, 16, 1, 2, 256)[k] + (k if features == PACKED else 0)
        rig.queues[TX] = tx = transport.setup_queue(TX, size, TX + 1)
    assert not rig.broken()


def test_reset_of_a_queue_mends_it():
    rig = Rig(PACKED | {VIRTIO_F_RING_RESET}, 4)
    rig.queues[TX].publish((0, 0, 0, D.INDIRECT))
    rig.queues[TX].notify()
    assert rig.broken()
    rig.transport.reset_queue(TX)
    rig.queues[TX] = rig.transport.setup_queue(TX, 3, TX + 1)
    rig.send(bytes(60))
    assert rig.device.sent == [bytes(60)]


def test_reset_of_a_queue_that_was_not_negotiated():
    rig = Rig(PACKED, 4)
    rig.transport.common_write(Common.QUEUE_SELECT, 2, TX)
    rig.transport.common_write(Common.QUEUE_RESET, 2, 1)
    rig.send(bytes(60))
    assert len(rig.device.sent) == 1


def test_sizes_of_packed_rings():
    transport = Rig(PACKED | {VIRTIO_F_RING_RESET}, 4).transport
    transport.common_write(Common.QUEUE_SELECT, 2, 2)
    for size, shown in ((3, 3), (1000, 1000), (0, 1000), (1025, 1000), (1024, 1024), (1, 1)):
        transport.common_write(Common.QUEUE_SIZE, 2, size)
        assert transport.common_read(Common.QUEUE_SIZE, 2) == shown
