"""A driver that breaks every rule of the split ring: the card reacts in bounded time, touches nothing that was not described,
leaves the other queue alone, and works again after a reset.
"""

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, NOTIFY_MULTIPLIER, NOTIFY_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VirtqDescF
from ringnic.host.driver.virtqueue import DESC, Virtqueue

FEATURES = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX}
NEXT, WRITE, INDIRECT = int(VirtqDescF.NEXT), int(VirtqDescF.WRITE), int(VirtqDescF.INDIRECT)
NOWHERE = 0x5_0000_0000
FRAME = bytes(12) + bytes(range(60))


class Attack:
    """One queue of a live card, in the hands of the enemy; ``direction`` is WRITE where buffers are to be written."""
    def __init__(self, rig, name, features=FEATURES):
        self.rig = rig
        self.net = rig.open(features, queue_size=16, fill=name == "tx")
        self.queue = getattr(self.net, name)
        self.is_rx = name == "rx"
        self.direction = WRITE if self.is_rx else 0
        self.arena = rig.arena(0x8000)
        self.arena.view[:len(FRAME)] = FRAME
        self.iova = self.arena.iova
        self.before = bytes(self.arena.view)

    def desc(self, index, *, at=0, length=2048, flags=0, following=0, described=True, addr=None):
        """Write a descriptor of the arena's bytes, or of ``addr``."""
        if addr is None:
            addr = self.iova + at
            if described:
                self.rig.arenas[self.iova].append((addr, length))
        self.queue.write_desc(index, addr, length, flags ^ self.direction, following)

    def table(self, at, *entries):
        """Write an indirect table into the arena and return its address."""
        packed = b"".join(DESC.pack(*entry) for entry in entries)
        self.arena.view[at:at + len(packed)] = packed
        self.rig.arenas[self.iova].append((self.iova + at, len(packed)))
        return self.iova + at

    def go(self, *heads):
        """Make heads available, have frames come if that is what the queue waits for, and let it work."""
        self.queue.publish(*heads)
        self.act()

    def act(self):
        self.queue.notify()
        if self.is_rx:
            for _ in range(3):
                self.rig.feed(FRAME[12:])
        self.rig.bus.run(20_000)

    def reacted(self):
        """The queue stopped and says so, or the buffer came back, or a frame was dropped and counted."""
        counters = self.net.counters()
        return (self.rig.broken() or self.queue.used_idx != 0
                or counters["tx_dropped"] + counters["rx_dropped_no_buffer"] > 0)

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
def rig(split_rig):
    return split_rig


@pytest.fixture(params=["tx", "rx"])
def attack(rig, request):
    return Attack(rig, request.param)


@pytest.mark.clause("STAT-2")
@pytest.mark.parametrize("jump", [17, 0x7fff, 0x8000, 0xffff])
def test_avail_index_jumps(attack, jump):
    attack.desc(0)
    attack.queue.set_avail_idx(jump)
    attack.act()
    attack.over(stopped=True)


@pytest.mark.clause("STAT-2")
@pytest.mark.parametrize("head", [16, 17, 0x8000, 0xffff])
def test_head_out_of_range(attack, head):
    attack.go(head)
    attack.over(stopped=True)


@pytest.mark.clause("STAT-2")
def test_descriptor_loop(attack):
    attack.desc(0, length=16, flags=NEXT, following=1)
    attack.desc(1, at=16, length=16, flags=NEXT, following=0)
    attack.go(0)
    attack.over(stopped=True)


def test_descriptor_names_itself(attack):
    attack.desc(3, length=0, flags=NEXT, following=3)
    attack.go(3)
    attack.over(stopped=True)


@pytest.mark.parametrize("following", [16, 0xffff])
def test_next_out_of_range(attack, following):
    attack.desc(0, length=16, flags=NEXT, following=following)
    attack.go(0)
    attack.over(stopped=True)


def test_zero_length(attack):
    attack.desc(0, length=0)
    attack.go(0)
    attack.over()


def test_chain_of_zero_lengths(attack):
    for k in range(16):
        attack.desc(k, length=0, flags=NEXT if k < 15 else 0, following=k + 1)
    attack.go(0)
    attack.over()


@pytest.mark.parametrize("length", range(1, 14))
def test_no_room_for_header_and_frame(attack, length):
    attack.desc(0, length=length)
    attack.go(0)
    attack.over()


@pytest.mark.parametrize("length", [0x10000, 0x7fff_ffff, 0xffff_ffff])
def test_huge_length(attack, length):
    # The lie is described: all of it may be touched, and what is no memory fails.
    attack.desc(0, length=length, described=False)
    attack.rig.arenas[attack.iova].append((attack.iova, length))
    attack.go(0)
    attack.over()


def test_unmapped_buffer(attack):
    attack.desc(0, addr=NOWHERE)
    attack.go(0)
    if attack.is_rx:
        # A write to nowhere is posted: nobody tells the card, and the driver gets a buffer with nothing in it.
        attack.over(stopped=False)
    else:
        attack.over()


def test_second_buffer_unmapped(attack):
    attack.desc(0, length=40, flags=NEXT, following=1)
    attack.desc(1, addr=NOWHERE)
    attack.go(0)
    attack.over()


def test_wrong_direction(attack):
    attack.desc(0, flags=WRITE, described=False)
    attack.go(0)
    attack.over()
    assert bytes(attack.arena.view) == attack.before


def test_wrong_direction_in_mid_chain(attack):
    attack.desc(0, length=40, flags=NEXT, following=1)
    attack.desc(1, at=100, flags=WRITE, described=False)
    attack.go(0)
    attack.over()


@pytest.mark.clause("STAT-2")
@pytest.mark.parametrize("length", [0, 1, 15, 17, 0xffff_ffff])
def test_odd_indirect_table(attack, length):
    attack.queue.write_desc(0, attack.iova, length, INDIRECT)
    attack.go(0)
    attack.over(stopped=True)


@pytest.mark.clause("STAT-2")
def test_nested_indirect_table(attack):
    inner = attack.iova + 0x4000
    outer = attack.table(0x1000, (inner, 16, INDIRECT, 0))
    attack.queue.write_desc(0, outer, 16, INDIRECT)
    attack.go(0)
    attack.over(stopped=True)


def test_indirect_with_next(attack):
    outer = attack.table(0x1000, (attack.iova, 64, attack.direction, 0))
    attack.queue.write_desc(0, outer, 16, INDIRECT | NEXT, 1)
    attack.go(0)
    attack.over(stopped=True)


def test_loop_in_indirect_table(attack):
    attack.rig.arenas[attack.iova].append((attack.iova, 32))
    outer = attack.table(0x1000, (attack.iova, 16, attack.direction | NEXT, 1),
                         (attack.iova + 16, 16, attack.direction | NEXT, 0))
    attack.queue.write_desc(0, outer, 32, INDIRECT)
    attack.go(0)
    attack.over(stopped=True)


def test_next_past_indirect_table(attack):
    attack.rig.arenas[attack.iova].append((attack.iova, 16))
    outer = attack.table(0x1000, (attack.iova, 16, attack.direction | NEXT, 1))
    attack.queue.write_desc(0, outer, 16, INDIRECT)
    attack.go(0)
    attack.over(stopped=True)


@pytest.mark.clause("STAT-2")
def test_unmapped_indirect_table(attack):
    attack.queue.write_desc(0, NOWHERE, 64, INDIRECT)
    attack.go(0)
    attack.over(stopped=True)


@pytest.mark.parametrize("name", ["tx", "rx"])
def test_indirect_not_negotiated(rig, name):
    attack = Attack(rig, name, FEATURES - {VIRTIO_F_INDIRECT_DESC})
    attack.queue.write_desc(0, attack.iova, 16, INDIRECT)
    attack.go(0)
    attack.over(stopped=True)


def test_merged_packet_waits_for_enough_buffers(rig):
    attack = Attack(rig, "rx", FEATURES | {VIRTIO_NET_F_MRG_RXBUF})
    for k in range(16):
        attack.desc(k, at=64 * k, length=64)
    attack.queue.publish(0, 1, 2)
    attack.queue.notify()
    frame = bytes(k & 0xff for k in range(1000))
    rig.feed(frame)
    rig.bus.run(20_000)
    assert attack.queue.used_idx == 0 and not rig.broken()
    attack.queue.publish(*range(3, 16))
    attack.queue.notify()
    rig.until(lambda: attack.queue.used_idx == 16, "the frame")
    assert bytes(attack.arena.view[:1012]) == bytes(10) + b"\x10\x00" + frame
    attack.over(stopped=False)


def test_same_buffer_twice(attack):
    attack.desc(0)
    attack.go(*[0] * 16)
    attack.over()


@pytest.mark.clause("ANS-3")
def test_kick_storm(rig, rng):
    net = rig.open(FEATURES)
    for _ in range(500):
        queue = rng.choice((0, 1, 2, 3, 0xff, rng.randrange(0x400)))
        rig.bus.bar_write(BAR_INDEX, NOTIFY_OFFSET + NOTIFY_MULTIPLIER * queue, rng.choice((2, 4)),
                          rng.choice((queue, rng.randrange(0x10000))))
    rig.works()
    assert not rig.broken() and net.counters()["kicks"] > 0
    rig.check_dma()
    rig.recover()


@pytest.mark.clause("ANS-3")
def test_kicks_before_driver_ok(rig):
    net = rig.open(FEATURES)
    rig.reset()
    for queue in range(4):
        rig.bus.bar_write(BAR_INDEX, NOTIFY_OFFSET + NOTIFY_MULTIPLIER * queue, 2, queue)
    rig.bus.run(2000)
    rig.check_dma()
    rig.restart()
    rig.works()
    rig.check_dma()


@pytest.mark.parametrize("run", range(4))
def test_random_rings(rig, rng, run):
    """Rings full of noise whose addresses all lie in one arena: bounded, and inside it."""
    attack = Attack(rig, ("tx", "rx")[run % 2])
    rig.arenas[attack.iova].append((attack.iova, len(attack.arena)))
    attack.arena.view[:] = b"".join(
        DESC.pack(attack.iova + rng.randrange(0x4000), rng.choice((0, 16, 64, rng.randrange(0x2000))),
                  rng.choice((0, NEXT, WRITE, NEXT | WRITE, INDIRECT)), rng.randrange(20))
        for _ in range(len(attack.arena) // 16))
    for k in range(16):
        attack.queue.write_desc(k, attack.iova + 16 * rng.randrange(0x200), rng.choice((0, 16, 32, 64, 500, 2000)),
                                rng.choice((0, NEXT, INDIRECT, INDIRECT | NEXT)) ^ attack.direction, rng.randrange(18))
    if run < 2:
        attack.go(*(rng.randrange(16) for _ in range(16)))
    else:
        attack.queue.publish(*(rng.randrange(17) for _ in range(rng.randrange(1, 30))))
        attack.act()
    rig.check_dma()
    rig.recover(flr=rng.random() < 0.5)


@pytest.mark.parametrize("at, entries", [
    (0x1001, 2), (0x1004, 2), (0x1008, 2), (0x11f8, 3), (0x11f9, 3), (0x11fc, 2), (0x11fc, 3)])
def test_table_at_any_address(rig, at, entries):
    """No rule aligns an indirect table. Many of them, then everything else still works."""
    attack = Attack(rig, "tx")
    spans = [(0x40 * k, 30) for k in range(entries)]
    table = attack.table(at, *[(*rig.describe(attack.arena, offset, size), NEXT if k + 1 < entries else 0, k + 1)
                               for k, (offset, size) in enumerate(spans)])
    for head in range(16):
        attack.desc(head, addr=table, length=16 * entries, flags=INDIRECT)
    for _ in range(4):
        attack.go(*range(16))
    frame = b"".join(bytes(attack.arena.view[offset:offset + size]) for offset, size in spans)[12:]
    assert rig.wire() == [frame] * 64 and not rig.broken()
    rig.works_rx()
    rig.check_dma()
    rig.recover()


def test_ring_that_begins_before_an_edge(rig, monkeypatch):
    """The available ring is aligned to 2 (2.7): flags and idx may lie on both sides of any boundary."""
    size = 16
    plain = Virtqueue.__init__

    def shifted(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        self.memory.free()
        self.avail_offset = 1024 - 2
        self.used_offset = self.written_offset = self.avail_offset + 4 + 2 * size + 2
        self.memory = self.bus.alloc(self.used_offset + 4 + 8 * size + 2)
        self.desc_iova = self.memory.iova
        self.avail_iova = self.memory.iova + self.avail_offset
        self.used_iova = self.memory.iova + self.used_offset
        self.clear()
    monkeypatch.setattr(Virtqueue, "__init__", shifted)
    rig.open(FEATURES, queue_size=size)
    rig.works()


def test_frame_in_as_many_buffers_as_it_may_have(rig):
    """The card holds all of them before it can give one back."""
    net = rig.open(FEATURES | {VIRTIO_NET_F_MRG_RXBUF}, rx_slot=28)
    frames = [bytes([k]) * 1500 for k in range(6)]
    for frame in frames:
        rig.feed(frame)
    rig.expect_received(frames)
    assert net.counters()["rx_dropped_no_buffer"] == 0


def test_malformed_chain_is_met_once(rig):
    attack = Attack(rig, "rx")
    attack.desc(3, length=0, flags=NEXT, following=3)
    attack.go(3)
    for _ in range(20):
        rig.feed(FRAME[12:])
    rig.bus.run(20_000)
    assert attack.net.counters()["queue_errors"] == 1
    attack.over(stopped=True)


def test_a_queue_stops_once(rig):
    attack = Attack(rig, "tx")
    attack.go(16, 20, 30, 40)
    assert attack.net.counters()["queue_errors"] == 1
    attack.over(stopped=True)


def test_frame_longer_than_the_mtu_allows(rig):
    net = rig.open(FEATURES | {VIRTIO_NET_F_MRG_RXBUF})
    rig.feed(bytes(net.mtu + 14 + 100))
    rig.works_rx()
    assert net.counters()["rx_dropped_long"] == 1
