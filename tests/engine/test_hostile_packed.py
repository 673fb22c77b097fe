"""A driver that breaks every rule of the packed ring: the card reacts in bounded time, touches nothing that was not described,
leaves the other queues alone, and works again after a reset.
"""

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, NOTIFY_MULTIPLIER, NOTIFY_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_NOTIFICATION_DATA, RingEvent,
                                     VirtqDescF)
from ringnic.host.driver.packed import AVAIL, BODY, FLAGS, USED

FEATURES = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX}
NEXT, WRITE, INDIRECT = int(VirtqDescF.NEXT), int(VirtqDescF.WRITE), int(VirtqDescF.INDIRECT)
NOWHERE = 0x5_0000_0000
FRAME = bytes(12) + bytes(range(60))
SIZE = 13  # of the ring under attack; no power of 2


class Attack:
    """One queue of a live card, in the hands of the enemy; ``direction`` is WRITE where buffers are to be written."""
    def __init__(self, rig, name, features=FEATURES):
        self.rig = rig
        self.net = rig.open(features, queue_size=SIZE, fill=name == "tx")
        self.queue = getattr(self.net, name)
        self.is_rx = name == "rx"
        self.direction = WRITE if self.is_rx else 0
        self.arena = rig.arena(0x8000)
        self.arena.view[:len(FRAME)] = FRAME
        self.iova = self.arena.iova
        self.before = bytes(self.arena.view)

    def buffer(self, *, at=0, length=2048, id=0, flags=0, described=True, addr=None):
        """A descriptor of the arena's bytes, or of ``addr``, for :meth:`go`."""
        if addr is None:
            addr = self.iova + at
            if described:
                self.rig.arenas[self.iova].append((addr, length))
        return addr, length, id, flags ^ self.direction

    def table(self, at, *entries):
        """Write an indirect table into the arena and return its address."""
        raw = b"".join(BODY.pack(*entry[:3]) + FLAGS.pack(entry[3]) for entry in entries)
        self.arena.view[at:at + len(raw)] = raw
        self.rig.arenas[self.iova].append((self.iova + at, len(raw)))
        return self.iova + at

    def go(self, *descriptors):
        """Make descriptors available, have frames come if that is what the queue waits for, and let it work."""
        self.queue.publish(*descriptors)
        self.act()

    def act(self):
        self.queue.notify()
        if self.is_rx:
            for _ in range(3):
                self.rig.feed(FRAME[12:])
        self.rig.bus.run(20_000)

    def came_back(self):
        """The first entry of the ring is a used one."""
        return self.queue.read_flags(0) & (AVAIL | USED) == AVAIL | USED

    def reacted(self):
        """The queue stopped and says so, or the buffer came back, or a frame was dropped and counted."""
        counters = self.net.counters()
        return self.rig.broken() or self.came_back() or counters["tx_dropped"] + counters["rx_dropped_no_buffer"] > 0

    def over(self, stopped=None):
        """Judge."""
        rig = self.rig
        assert self.reacted()
        if stopped is not None:
            assert rig.broken() == stopped
            assert (self.net.counters()["queue_errors"] > 0) == stopped
        rig.check_dma()
        rig.wire()
        if self.is_rx:
            rig.works_tx()
        else:
            rig.works_rx()
        rig.check_dma()
        rig.recover()


@pytest.fixture
def rig(packed_rig):
    return packed_rig


@pytest.fixture(params=["tx", "rx"])
def attack(rig, request):
    return Attack(rig, request.param)


@pytest.mark.clause("PK-4")
@pytest.mark.parametrize("flags", [0, USED, AVAIL | USED], ids=["never", "next_lap", "used"])
def test_descriptor_that_is_not_available(attack, flags):
    """Flags of another lap, or of a used descriptor, name nobody's buffer."""
    attack.queue.write_desc(0, attack.iova, 2048, 0, flags ^ attack.direction)
    before = bytes(attack.queue.memory.view[16:32])
    attack.act()
    assert bytes(attack.queue.memory.view[16:32]) == before and not attack.rig.broken()
    counters = attack.net.counters()
    assert counters["tx_frames"] == counters["tx_dropped"] == 0
    attack.rig.check_dma()
    attack.rig.recover()


def test_ring_full_of_what_is_always_available(attack):
    """The driver says of every descriptor that it is available, of this lap, without ever having taken one back."""
    attack.go(*[attack.buffer() for _ in range(SIZE)])
    for k in range(SIZE):
        attack.queue.write_flags(k, AVAIL ^ attack.direction)
        attack.queue.notify()
        attack.rig.bus.run(100)
    attack.act()
    attack.rig.check_dma()
    if attack.is_rx:
        attack.rig.wire()
        attack.rig.works_tx()
    else:
        attack.rig.works_rx()
    attack.rig.recover()


def test_flags_flip_while_they_are_read(attack):
    """Bounded, whatever is seen."""
    attack.rig.arenas[attack.iova].append((attack.iova, 2048))
    at = attack.queue.memory.iova + 16
    raw = BODY.pack(attack.iova, 2048, 0)
    stores = []
    for step in range(400):
        flags = FLAGS.pack((AVAIL if step & 1 else USED) ^ attack.direction)
        stores += [(5 * step, at + 16 * k + 8, raw[8:] + flags) for k in range(SIZE)]
        stores += [(5 * step + 1, at + 16 * k, raw[:8]) for k in range(SIZE)]
    attack.rig.engine.store_later(stores)
    for _ in range(50):
        attack.queue.notify()
        attack.rig.bus.run(50)
    attack.act()
    attack.rig.check_dma()
    attack.rig.recover()


@pytest.mark.clause("STAT-2")
@pytest.mark.parametrize("length", [SIZE, SIZE + 1, 2 * SIZE])
def test_chain_longer_than_the_ring(attack, length):
    """Every descriptor has NEXT: a chain has an end, at the latest where it would meet its own head."""
    attack.go(*[attack.buffer(at=64 * k, length=64, flags=NEXT) for k in range(SIZE)])
    for _ in range(length - SIZE):
        attack.queue.notify()
        attack.rig.bus.run(500)
    attack.over(stopped=True)


def test_chain_whose_second_is_not_available(attack):
    """2.8.6: the head is made available last; so what follows it must be."""
    attack.queue.publish(attack.buffer(length=40, flags=NEXT))
    attack.act()
    attack.over(stopped=True)


@pytest.mark.parametrize("name", [0, SIZE, SIZE + 1, 0x7fff, 0xffff])
def test_any_id_comes_back_as_it_is(attack, name):
    """A device does not judge ids: they are the driver's."""
    attack.go(attack.buffer(id=name))
    assert attack.came_back()
    assert int.from_bytes(attack.queue.memory.view[16 + 12:16 + 14], "little") == name
    attack.over(stopped=False)


def test_same_id_for_all(attack):
    attack.go(*[attack.buffer(id=3, at=64 * k) for k in range(SIZE)])
    attack.over(stopped=False)


def test_zero_length(attack):
    attack.go(attack.buffer(length=0))
    attack.over()


def test_chain_of_zero_lengths(attack):
    attack.go(*[attack.buffer(length=0, flags=NEXT if k < SIZE - 1 else 0) for k in range(SIZE)])
    attack.over()


@pytest.mark.parametrize("length", range(1, 14, 3))
def test_no_room_for_header_and_frame(attack, length):
    attack.go(attack.buffer(length=length))
    attack.over()


def test_unmapped_buffer(attack):
    attack.go(attack.buffer(addr=NOWHERE))
    attack.over()


def test_wrong_direction(attack):
    attack.go(attack.buffer(flags=WRITE, described=False))
    attack.over()
    assert bytes(attack.arena.view) == attack.before


def test_wrong_direction_in_mid_chain(attack):
    attack.go(attack.buffer(length=40, flags=NEXT), attack.buffer(at=100, flags=WRITE, described=False))
    attack.over()


@pytest.mark.clause("STAT-2")
@pytest.mark.parametrize("length", [0, 1, 15, 17, 0xffff_ffff])
def test_odd_indirect_table(attack, length):
    attack.go((attack.iova, length, 0, INDIRECT))
    attack.over(stopped=True)


@pytest.mark.parametrize("flags", [INDIRECT, NEXT, INDIRECT | NEXT | AVAIL | USED])
def test_nested_indirect_table(attack, flags):
    """2.8.7: in a table no flag but WRITE means anything, so what looks like a table is a buffer."""
    inner, length, *_ = attack.buffer(at=0x4000, length=100)
    outer = attack.table(0x1000, (inner, length, 7, flags | attack.direction))
    attack.go((outer, 16, 0, INDIRECT))
    attack.over(stopped=False)


def test_indirect_with_next(attack):
    """2.8.7: a descriptor is a table, or has a next one."""
    outer = attack.table(0x1000, (attack.iova, 64, 0, attack.direction))
    attack.go((outer, 16, 0, INDIRECT | NEXT), attack.buffer())
    attack.over(stopped=True)


def test_indirect_at_the_end_of_a_chain(attack):
    outer = attack.table(0x1000, (attack.iova, 64, 0, attack.direction))
    attack.go(attack.buffer(length=64, flags=NEXT), (outer, 16, 0, INDIRECT))
    attack.over(stopped=True)


@pytest.mark.clause("STAT-2")
def test_unmapped_indirect_table(attack):
    attack.go((NOWHERE, 64, 0, INDIRECT))
    attack.over(stopped=True)


@pytest.mark.parametrize("name", ["tx", "rx"])
def test_indirect_not_negotiated(rig, name):
    attack = Attack(rig, name, FEATURES - {VIRTIO_F_INDIRECT_DESC})
    attack.go((attack.iova, 16, 0, INDIRECT))
    attack.over(stopped=True)


@pytest.mark.parametrize("flags, offset", [(3, 0), (RingEvent.DESC, 0x7fff), (RingEvent.DESC, SIZE), (RingEvent.DISABLE, 0)])
def test_event_structure_that_lies(attack, flags, offset):
    """Notifications may be lost by it, nothing else."""
    attack.queue.write_event(int(flags), offset, 1)
    attack.go(*[attack.buffer(at=64 * k) for k in range(SIZE)])
    attack.over(stopped=False)


@pytest.mark.clause("PK-4")
@pytest.mark.parametrize("where", [SIZE, 0x7fff, 0x8000 + SIZE, 0xffff, 5, 0x8005])
def test_notification_that_points_anywhere(rig, where):
    """NOTIFICATION_DATA is a hint: what is not available in the ring is not used, and what is, is found in the end."""
    attack = Attack(rig, "tx", FEATURES | {VIRTIO_F_NOTIFICATION_DATA})
    at = NOTIFY_OFFSET + NOTIFY_MULTIPLIER * attack.queue.index
    for _ in range(20):
        rig.bus.bar_write(BAR_INDEX, at, 4, where << 16 | attack.queue.index)
        rig.bus.run(300)
    assert not rig.broken() and rig.wire() == []
    rig.check_dma()
    rig.works()
    rig.check_dma()
    rig.recover()


@pytest.mark.clause("PK-4")
def test_notification_ahead_of_what_is_written(rig):
    """The driver says that descriptors are available and writes them later, half by half."""
    attack = Attack(rig, "tx", FEATURES | {VIRTIO_F_NOTIFICATION_DATA})
    rig.arenas[attack.iova].append((attack.iova, len(FRAME)))
    at = attack.queue.memory.iova + 16
    rig.bus.bar_write(BAR_INDEX, NOTIFY_OFFSET + NOTIFY_MULTIPLIER * attack.queue.index, 4, 0x8000 + 4 << 16 | attack.queue.index)
    raw = BODY.pack(attack.iova, len(FRAME), 0) + FLAGS.pack(AVAIL)
    rig.engine.store_later([(1000 + 40 * k + 20 * half, at + 16 * k + 8 * half, raw[8 * half:8 * half + 8])
                            for k in range(4) for half in (0, 1)])
    rig.bus.run(3000)
    attack.queue._next_avail = 4
    attack.queue.notify()
    rig.bus.run(5000)
    assert rig.wire() == [FRAME[12:]] * 4 and not rig.broken()
    rig.check_dma()


@pytest.mark.parametrize("run", range(4))
def test_random_rings(rig, rng, run):
    """Rings full of noise whose addresses all lie in one arena: bounded, and inside it."""
    attack = Attack(rig, ("tx", "rx")[run % 2])
    rig.arenas[attack.iova].append((attack.iova, len(attack.arena)))

    def noise():
        return (attack.iova + rng.randrange(0x4000), rng.choice((0, 16, 32, 64, rng.randrange(0x2000))), rng.randrange(0x10000),
                rng.choice((0, NEXT, WRITE, NEXT | WRITE, INDIRECT, INDIRECT | NEXT)))
    attack.arena.view[:] = b"".join(
        BODY.pack(*entry) + FLAGS.pack(flags) for *entry, flags in (noise() for _ in range(len(attack.arena) // 16)))
    for _ in range(4):
        attack.queue.publish(*(noise() for _ in range(rng.randrange(1, SIZE + 1))))
        attack.act()
    rig.check_dma()
    rig.recover(flr=rng.random() < 0.5)


def test_attack_on_one_queue_does_not_slow_the_others(rig):
    """A queue that breaks, is noticed, and is notified of for ever; another one beside it works at its full rate."""
    def cycles(attacked):
        net = rig.open(FEATURES | {VIRTIO_NET_F_MRG_RXBUF}, queue_size=SIZE)
        if attacked:
            net.tx.publish((0x1000, 15, 0, INDIRECT))
        start = rig.engine.stats()["cycles"]
        received = []
        fed = 0
        while len(received) < 200:
            while fed < len(received) + 10:
                rig.feed(FRAME[12:])
                fed += 1
            if attacked:
                net.tx.notify()
            rig.engine.run(50)
            received += net.receive()
        assert rig.broken() == attacked
        end = rig.engine.stats()["cycles"]
        rig.reset()
        return end - start
    alone = cycles(False)
    assert cycles(True) < 1.25 * alone
