"""The driver's virtqueues against devices of a few lines, one for each format, which share no code with them."""

import struct

import pytest

from ringnic.host.bus import DmaBuffer
from ringnic.host.driver import DeviceError, PackedVirtqueue, Virtqueue

AVAIL, USED = 1 << 7, 1 << 15
NEXT, WRITE, INDIRECT = 1, 2, 4
ENABLE, DISABLE, DESC = 0, 1, 2


class Ram:
    """A bus that has memory only."""
    def __init__(self):
        self.buffers, self.end = {}, 0x1_0000_0000

    def alloc(self, size, align=4096):
        iova = (self.end + align - 1) & -align
        self.end = iova + size + 64
        self.buffers[iova] = DmaBuffer(iova, memoryview(bytearray(size)), lambda buffer: self.buffers.pop(buffer.iova))
        return self.buffers[iova]

    def at(self, iova, size):
        for base, buffer in self.buffers.items():
            if base <= iova and iova + size <= base + len(buffer):
                return buffer.view[iova - base:iova - base + size]
        raise AssertionError(f"{iova:#x} is nobody's memory")

    def read(self, layout, iova):
        return struct.unpack(layout, self.at(iova, struct.calcsize(layout)))

    def write(self, layout, iova, *values):
        self.at(iova, struct.calcsize(layout))[:] = struct.pack(layout, *values)


class Device:
    """What both formats share. A chain is ``(id, segments, descriptors)``; a place is what an event can name."""
    def __init__(self, ram, queue, *, event_idx):
        self.ram, self.queue, self.size, self.event_idx = ram, queue, queue.size, event_idx
        self.taken_places, self.used_places = [], []

    def table(self, addr, length):
        assert length % 16 == 0
        return [self.ram.read("<QIHH", addr + k) for k in range(0, length, 16)]


class SplitDevice(Device):
    """Walks a split virtqueue. A place is an index, modulo 2**16."""
    seen = used = 0

    def take(self):
        read, queue = self.ram.read, self.queue
        if self.seen == read("<H", queue.avail_iova + 2)[0]:
            return None
        head, = read("<H", queue.avail_iova + 4 + 2 * (self.seen % self.size))
        self.taken_places.append(self.seen)
        self.seen = self.seen + 1 & 0xffff
        place, segments, following = head, [], NEXT
        places = []
        while following:
            addr, length, flags, after = read("<QIHH", queue.desc_iova + 16 * place)
            places.append(place)
            if flags & INDIRECT:
                table, at = self.table(addr, length), 0
                for k, (addr, length, inner, at) in enumerate(table):
                    segments.append((addr, length, inner & WRITE))
                    assert (inner & NEXT and at == k + 1) or (not inner & NEXT and k == len(table) - 1)
            else:
                segments.append((addr, length, flags & WRITE))
            following, place = flags & NEXT, after
        if self.queue.in_order:  # 2.7.5
            assert places == [(places[0] + k) % self.size for k in range(len(places))]
        return head, segments, len(places)

    def give(self, batch, written):
        """One entry, of the last chain, for the whole batch."""
        self.ram.write("<II", self.queue.used_iova + 4 + 8 * (self.used % self.size), batch[-1][0], written)
        for _ in batch:
            self.used_places.append(self.used)
            self.used = self.used + 1 & 0xffff
        self.ram.write("<H", self.queue.used_iova + 2, self.used)

    def wants_irq(self):
        places, self.used_places = self.used_places, []
        if self.event_idx:
            return self.ram.read("<H", self.queue.avail_iova + 4 + 2 * self.size)[0] in places
        return bool(places) and not self.ram.read("<H", self.queue.avail_iova)[0] & 1

    def ask(self, ahead):
        """Ask to be told of the chain ``ahead`` of the next, at once if None, and not at all if that is too far."""
        if self.event_idx:
            place = self.seen + (0 if ahead is None else ahead) & 0xffff
            self.ram.write("<H", self.queue.used_iova + 4 + 8 * self.size, place)
            return lambda added: place in added
        quiet = ahead is not None
        self.ram.write("<H", self.queue.used_iova, int(quiet))
        return lambda added: not quiet

    def place_after(self, count):
        return self.seen + count & 0xffff


class PackedDevice(Device):
    """Goes around a packed virtqueue. A place is an offset and a wrap counter."""
    next_avail = next_used = 0, 1

    def after(self, place, count=1):
        offset, wrap = place
        for _ in range(count):
            offset += 1
            if offset == self.size:
                offset, wrap = 0, 1 - wrap
        return offset, wrap

    def desc(self, place):
        return self.queue.desc_iova + 16 * place[0]

    def take(self):
        place, segments, count, following = self.next_avail, [], 0, NEXT
        while following:
            addr, length, name, flags = self.ram.read("<QIHH", self.desc(place))
            if bool(flags & AVAIL) != place[1] or bool(flags & USED) == place[1]:
                assert not count, "a chain that is available in part"
                return None
            if flags & INDIRECT:
                assert not flags & NEXT
                for addr, length, nothing, inner in self.table(addr, length):
                    segments.append((addr, length, inner))
                    assert nothing == 0 and inner in (0, WRITE)
            else:
                segments.append((addr, length, flags & WRITE))
            self.taken_places.append(place)
            following, place, count = flags & NEXT, self.after(place), count + 1
        self.next_avail = place
        return name, segments, count

    def give(self, batch, written):
        self.use(batch[-1][0], written)
        for _ in range(sum(count for _, _, count in batch)):
            self.used_places.append(self.next_used)
            self.next_used = self.after(self.next_used)

    def use(self, name, written):
        flags = (AVAIL | USED if self.next_used[1] else 0) | (WRITE if written else 0)
        # Nobody reads addr, nor len without WRITE.
        self.ram.write("<QIHH", self.desc(self.next_used), 2**64 - 1, written or 0xbad, name, flags)

    def wants_irq(self):
        places, self.used_places = self.used_places, []
        place, flags = self.ram.read("<HH", self.queue.avail_iova)
        if flags == DESC:
            assert self.event_idx
            return (place & 0x7fff, place >> 15) in places
        assert flags in (ENABLE, DISABLE)
        return bool(places) and flags == ENABLE

    def ask(self, ahead):
        if ahead is not None and self.event_idx:
            place = self.after(self.next_avail, ahead)
            self.ram.write("<HH", self.queue.used_iova, place[1] << 15 | place[0], DESC)
            return lambda added: place in added
        quiet = ahead is not None
        self.ram.write("<HH", self.queue.used_iova, 0, DISABLE if quiet else ENABLE)
        return lambda added: not quiet

    def place_after(self, count):
        return self.after(self.next_avail, count)


FORMATS = {"split": (Virtqueue, SplitDevice), "packed": (PackedVirtqueue, PackedDevice)}


class Rig:
    def __init__(self, ring, size, *, event_idx=False, indirect=True, in_order=False):
        make, device = FORMATS[ring]
        self.packed = ring == "packed"
        self.ram, self.kicks = Ram(), []
        self.queue = make(self.ram, 5, size, notify=self.kicks.append, event_idx=event_idx, indirect=indirect,
                          in_order=in_order)
        self.device = device(self.ram, self.queue, event_idx=event_idx)

    def take(self):
        """Everything that is available."""
        return list(iter(self.device.take, None))


@pytest.fixture(params=FORMATS)
def ring(request):
    return request.param


SIZES = [("split", size) for size in (1, 2, 8, 256)] + [("packed", size) for size in (1, 2, 3, 7, 256, 1000)]


@pytest.mark.parametrize("in_order", [False, True], ids=["any", "in_order"])
@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
@pytest.mark.parametrize("ring, size", SIZES)
def test_random(ring, size, event_idx, in_order, rng):
    """Chains of every form, batches, suppression on both sides, many times around."""
    rig = Rig(ring, size, event_idx=event_idx, in_order=in_order)
    queue, device = rig.queue, rig.device
    given, held, expected = {}, [], []       # by id; with the device; to come back
    unseen, added = [], []                    # chains not taken; places since the last kick
    free, coming = size, 0                    # descriptors; those that the driver has not fetched
    wants_kick = device.ask(None)
    entries, laps, asleep = 0, 0, False

    def take():
        nonlocal wants_kick
        for name, segments, count in rig.take():
            assert (name, segments, count) == unseen.pop(0)
            held.append((name, segments, count))
        if rng.random() < 0.5:
            # Not what the driver has passed already and has not looked for: a device asks, looks again, and sleeps.
            wants_kick = device.ask(rng.choice((None, rng.randrange(size), rng.randrange(size))))

    for step in range(6000):
        if step % 200 == 0:  # so that it runs full, and runs empty
            weights = [rng.random() for _ in range(5)]
        act, = rng.choices(range(5), weights)
        if act == 0:
            chain = [(rng.randrange(1 << 64), rng.randrange(1 << 32)) for _ in range(rng.randrange(1, min(size, 6) + 1))]
            cut, indirect = rng.randrange(len(chain) + 1), rng.random() < 0.3
            count = 1 if indirect else len(chain)
            if count > free:
                with pytest.raises(IndexError, match=f"Queue 5 has {free} free descriptors, not {count}"):
                    queue.add_buf(chain[:cut], chain[cut:], step, indirect)
                continue
            steps = count if rig.packed else 1
            before = sum(c if rig.packed else 1 for _, _, c in unseen)
            added += [device.place_after(before + k) for k in range(steps)]
            name = queue.add_buf(chain[:cut], chain[cut:], step, indirect)
            assert name not in given
            given[name] = step, sum(length for _, length in chain[cut:])
            unseen.append((name, [(*piece, WRITE * (k >= cut)) for k, piece in enumerate(chain)], count))
            free -= count
            laps += count / size
        elif act == 1:
            assert queue.kick() == wants_kick(added)
            added.clear()
        elif act == 2:
            take()
        elif act == 3 and held:
            batch = [held.pop(0 if in_order else rng.randrange(len(held)))]
            if in_order:
                batch += [held.pop(0) for _ in range(rng.randrange(len(held) + 1))]
            last = given[batch[-1][0]][1]
            written = rng.choice((0, last, rng.randrange(last + 1)))
            written = min(written, 0xffff_ffff)
            for name, _, _ in batch[:-1]:
                expected.append(given.pop(name))
            expected.append((given.pop(batch[-1][0])[0], written))
            coming += sum(count for *_, count in batch)
            device.give(batch, written)
            entries += 1
            assert device.wants_irq() or not asleep, "the driver sleeps, and is not told"
            asleep = False
        elif act == 4:
            # What batch a chain came back with is not seen from outside.
            while (got := queue.get_buf()) is not None:
                assert got == expected.pop(0)
            free, coming = free + coming, 0
            assert not expected and queue.num_free == free and queue.num_pending == len(given)
            choice = rng.randrange(3)
            if choice == 0:
                assert queue.enable_cb()
                asleep = True
            elif choice == 1:
                queue.disable_cb()
                asleep = False
            device.used_places.clear()
    assert entries > 50 and laps > 2
    queue.free()
    assert not rig.ram.buffers


def test_kicks_that_are_far_apart(ring):
    """A device that looks by itself is not kicked for long; the counter of steps does not alias."""
    rig = Rig(ring, 1, event_idx=True)
    for rounds in (1, 2, 4, 5) if rig.packed else (65535, 65536, 65537):
        rig.device.ask(0)
        for _ in range(rounds):
            rig.queue.add_buf([(0, 1)], [], None)
            rig.device.give(rig.take(), 0)
            assert rig.queue.get_buf() == (None, 0)
        assert rig.queue.kick() and not rig.queue.kick()


def test_layout_of_a_packed_chain():
    rig = Rig("packed", 5)
    queue, ram = rig.queue, rig.ram
    assert queue.add_buf([(0, 1)], [], "the device keeps it") == 0  # so that the others have an id that is seen
    rig.take()
    order, plain = [], queue.write_flags
    queue.write_flags = lambda index, flags: (order.append(index), plain(index, flags))
    for lap in range(5):
        start = 1 + 3 * lap
        name = queue.add_buf([(0x1000, 1), (0x2000, 2)], [(0x3000, 3)], lap)
        places = [(start + k) % 5 for k in range(3)]
        assert name == 1
        assert order == places[::-1], "2.8.17: the head is made available last"
        order.clear()
        for k, place in enumerate(places):
            flags = (NEXT, NEXT, WRITE)[k] | (USED if (start + k) // 5 % 2 else AVAIL)
            assert ram.read("<QIHH", queue.desc_iova + 16 * place) == \
                (0x1000 * (k + 1), k + 1, name if k == 2 else 0, flags)
        rig.device.give(rig.take(), 2)
        assert queue.get_buf() == (lap, 2) and queue.get_buf() is None
        assert queue.next == (start + 3) % 5 | (0 if (start + 3) // 5 % 2 else 0x8000)


@pytest.mark.parametrize("size", [1, 2, 7, 256, 32768])
def test_areas(ring, size):
    if ring == "split" and size == 7:
        size = 8
    queue = Rig(ring, size).queue
    align = (16, 4, 4) if ring == "packed" else (16, 2, 4)
    sizes = (16 * size, 4, 4) if ring == "packed" else (16 * size, 6 + 2 * size, 6 + 8 * size)
    starts = queue.desc_iova, queue.avail_iova, queue.used_iova
    assert not any(start % bytes_ for start, bytes_ in zip(starts, align))
    spans = sorted(zip(starts, sizes))
    assert spans[0][0] == queue.memory.iova
    assert all(start + length <= after for (start, length), (after, _) in zip(spans, spans[1:]))
    assert sum(spans[-1]) == queue.memory.iova + len(queue.memory)
    assert queue.written_offset == min(queue.used_iova, queue.desc_iova if ring == "packed" else 2**64) - queue.memory.iova


def test_notification_data(ring):
    """The next index, or the next offset and wrap counter (2.9)."""
    rig = Rig(ring, 4)
    for _ in range(3):
        rig.queue.add_buf([(0, 1)], [], 0)
        rig.queue.kick()
    rig.queue.add_buf([(0, 1)], [], 0)
    rig.queue.notify()
    assert rig.kicks == ([0x8001, 0x8002, 0x8003, 0] if rig.packed else [1, 2, 3, 4])


def test_a_batch_in_order(ring):
    """One entry for four chains; the three before the last were written to their ends."""
    rig = Rig(ring, 8, in_order=True)
    queue = rig.queue
    queue.add_buf([(0, 5)], [], "read")
    queue.add_buf([(0, 5)], [(0, 100), (0, 11)], "both")
    queue.add_buf([], [(0, 7), (0, 8)], "table", indirect=True)
    queue.add_buf([], [(0, 50)], "last")
    queue.add_buf([], [(0, 60)], "later")
    taken = rig.take()
    rig.device.give(taken[:4], 20)
    assert queue.get_buf() == ("read", 0)
    assert queue.num_pending == 1 and queue.num_free == 7 and len(rig.ram.buffers) == 1
    assert not queue.enable_cb(), "some of the batch is still to be fetched"
    assert [queue.get_buf() for _ in range(4)] == [("both", 111), ("table", 15), ("last", 20), None]
    rig.device.give(taken[4:], 60)
    assert queue.get_buf() == ("later", 60)


def test_in_order_takes_descriptors_in_ring_order():
    """2.7.5: from 0 on, around the end of the table."""
    rig = Rig("split", 4, in_order=True)
    heads = []
    for _ in range(6):
        heads.append(rig.queue.add_buf([(0, 1)] * 3, [], 0))
        rig.device.give(rig.take(), 0)
        rig.queue.get_buf()
    assert heads == [0, 3, 2, 1, 0, 3]


# A device that breaks rules.

def test_ids_nobody_gave(ring):
    rig = Rig(ring, 8)
    rig.queue.add_buf([], [(0, 10)], 0)
    (name, *_), = rig.take()
    for wrong in (name ^ 1, 8, 0xffff):
        rig.device.give([(wrong, [], 0)], 1)
        with pytest.raises(DeviceError, match=f"Queue 5: used id {wrong} is not outstanding"):
            rig.queue.get_buf()
        assert rig.queue.num_pending == 1
        if not rig.packed:
            rig.device.used -= 1


@pytest.mark.parametrize("in_order", [False, True])
def test_an_id_twice(ring, in_order):
    """Also in order: a chain that a batch has skipped is not outstanding any more."""
    rig = Rig(ring, 8, in_order=in_order)
    for k in range(3):
        rig.queue.add_buf([], [(0, 10)], k)
    first, second, third = rig.take()
    rig.device.give([first, second] if in_order else [second], 0)
    while rig.queue.get_buf() is not None:
        pass
    rig.device.give([first if in_order else second], 0)
    with pytest.raises(DeviceError, match="is not outstanding"):
        rig.queue.get_buf()


def test_more_written_than_there_is_room(ring):
    for out_sg, in_sg, room in (([(0, 10)], [], 0), ([(0, 10)], [(0, 10), (0, 5)], 15)):
        rig = Rig(ring, 8)
        rig.queue.add_buf(out_sg, in_sg, 0)
        rig.device.give(rig.take(), room + 1)
        with pytest.raises(DeviceError, match=f"Queue 5: {room + 1} bytes written into a buffer of {room}"):
            rig.queue.get_buf()


def test_broken_order_is_seen():
    """2.7.9: used idx counts what was skipped. A packed ring has no index that could tell; there the next entry is missing."""
    rig = Rig("split", 8, in_order=True)
    for k in range(3):
        rig.queue.add_buf([(0, 1)], [], k)
    rig.device.give(rig.take()[2:], 0)
    with pytest.raises(DeviceError, match="Queue 5: order is broken, used idx moved by 1, the entry is 3 on"):
        rig.queue.get_buf()


def test_used_idx_that_jumps():
    rig = Rig("split", 8)
    rig.ram.write("<H", rig.queue.used_iova + 2, 9)
    with pytest.raises(DeviceError, match="Queue 5: used idx went from 0 to 9"):
        rig.queue.get_buf()


@pytest.mark.parametrize("place, flags, event_idx", [(0, 3, True), (0, DESC, False), (8, DESC, True)])
def test_events_that_mean_nothing(place, flags, event_idx):
    """Until something has come back it may be memory as it was: a driver notifies. From then on it is the device's word."""
    rig = Rig("packed", 8, event_idx=event_idx)
    rig.ram.write("<HH", rig.queue.used_iova, place, flags)
    name = rig.queue.add_buf([(0, 1)], [], 0)
    assert rig.queue.kick()
    rig.ram.write("<IHH", rig.queue.desc_iova + 8, 0, name, AVAIL | USED)
    assert rig.queue.get_buf() == (0, 0)
    rig.queue.add_buf([(0, 1)], [], 0)
    with pytest.raises(DeviceError, match=f"Queue 5: event flags {flags} at descriptor {place}"):
        rig.queue.kick()


@pytest.mark.parametrize("flags", [AVAIL, USED, 0])
def test_flags_that_say_nothing_yet(flags):
    """Only both flags as the wrap counter stands are a used descriptor."""
    rig = Rig("packed", 2)
    rig.queue.add_buf([(0, 1)], [], 0)
    rig.ram.write("<H", rig.queue.desc_iova + 14, flags)
    assert rig.queue.get_buf() is None and rig.queue.enable_cb()


# A driver that breaks rules, for tests of devices.

def test_hostile_descriptors():
    """AVAIL and USED are right unless the test turns them; the ring's own account goes on."""
    rig = Rig("packed", 3)
    queue, ram = rig.queue, rig.ram
    queue.publish((1, 2, 3, NEXT), (4, 5, 6, AVAIL), (7, 8, 9, USED | INDIRECT))
    assert ram.read("<QIHH", queue.desc_iova) == (1, 2, 3, NEXT | AVAIL) and queue.next == 0
    queue.publish((10, 11, 12, 0))
    assert [ram.read("<QIHH", queue.desc_iova + 16 * k) for k in range(3)] == \
        [(10, 11, 12, USED), (4, 5, 6, 0), (7, 8, 9, AVAIL | USED | INDIRECT)]
    assert queue.next == 1 and queue.num_free == 3 and queue.num_pending == 0
    queue.write_event(3, 0x7fff, 1)
    assert ram.read("<I", queue.avail_iova) == (0x3ffff,)
    queue.write_desc(1, 5, 4, flags=0xffff)
    assert queue.read_flags(1) == 0xffff


def test_hostile_heads():
    """Whatever is published counts when it comes to notifications."""
    rig = Rig("split", 4, event_idx=True)
    rig.device.ask(0)
    rig.queue.publish(7, 7, 0xffff)
    assert rig.queue.kick() and not rig.queue.kick() and rig.kicks == [3]
    assert rig.ram.read("<HHHHHH", rig.queue.avail_iova) == (0, 3, 7, 7, 0xffff, 0)


def test_add_buf_refuses(ring):
    queue = Rig(ring, 2, indirect=False).queue
    with pytest.raises(ValueError, match="A chain has at least one descriptor"):
        queue.add_buf([], [], 0)
    with pytest.raises(ValueError, match="INDIRECT_DESC was not negotiated"):
        queue.add_buf([(0, 1)], [], 0, indirect=True)
    with pytest.raises(ValueError, match="A chain of 3 is longer than the queue"):
        queue.add_buf([(0, 1)] * 3, [], 0)
