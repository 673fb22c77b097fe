"""The available ring: what is read, when, how much of it, and that no entry is ever missed."""

import struct

import pytest
from amaranth.hdl import Mux, Signal

from ringnic.hdl.virtqueue.avail import AvailFetch

from ...kit.events import WithEvents
from ...kit.rows import RowsFromEnd
from ...kit.streams import pulse

DRIVER, DEVICE = 0x2_0000, 0x8_0000


class Driver:
    """The driver's half of the available rings, and the entries as they came."""
    def __init__(self, bench, sizes, start=0):
        self.bench, self.sizes = bench, sizes
        self.idx = [start] * len(sizes)
        self.heads = [[] for _ in sizes]
        for queue in range(len(sizes)):
            self.publish(queue, start)

    def ring(self, queue):
        return DRIVER * (queue + 1)

    def publish(self, queue, idx):
        struct.pack_into("<HH", self.bench.memory, self.ring(queue), 0xbeef, idx & 0xffff)

    def add(self, queue, count=1):
        for _ in range(count):
            head = self.bench.rng.randrange(1 << 16)
            slot = self.idx[queue] % self.sizes[queue]
            struct.pack_into("<H", self.bench.memory, self.ring(queue) + 4 + 2 * slot, head)
            self.heads[queue].append(head)
            self.idx[queue] = (self.idx[queue] + 1) & 0xffff
        self.publish(queue, self.idx[queue])

    def event(self, queue):
        return struct.unpack_from("<H", self.bench.memory, DEVICE + 0x1_0000 * queue + 4 + 8 * self.sizes[queue])[0]

    async def kick(self, ctx, queue):
        ctx.set(self.bench.dut.kick_queue, queue)
        await pulse(ctx, self.bench.dut.kick_valid)

    def came(self, queue):
        return [item.head for item in self.bench.entries if item.queue == queue]

    def all_came(self):
        return all(self.came(queue) == heads for queue, heads in enumerate(self.heads))


@pytest.fixture
def make(stage):
    def bench(*, width=64, sizes=(16, 16), max_batch=8, event_idx=0, gate=None, start=0, **options):
        dut = WithEvents(AvailFetch(width=width, num_queues=len(sizes), max_batch=max_batch))
        places = Signal(16, init=0xffff)  # that the store has
        bench = stage(dut, glue=[
            dut.o_room.ready.eq(dut.o_room.valid),
            dut.grant.eq(Mux(dut.o_room.p.want > places, places, dut.o_room.p.want)),
        ], **options)
        bench.places = places
        bench.serve_reads(dut.index)
        bench.serve_reads(dut.ring)
        bench.serve_writes(dut.event)
        bench.entries = bench.collect(dut.o, gate)
        bench.driver = Driver(bench, sizes, start)

        async def begin(ctx):
            ctx.set(dut.event_idx, event_idx)
            for queue, size in enumerate(sizes):
                await bench.setup(ctx, queue, size=size, queue_driver=DRIVER * (queue + 1),
                                  queue_device=DEVICE + 0x1_0000 * queue)
            await settle(ctx)

        async def settle(ctx):
            await bench.until(ctx, lambda: not ctx.get(dut.busy))
            await ctx.tick()

        def ring_reads(queue):
            """``[(first slot, entries)]``"""
            base = DRIVER * (queue + 1)
            return [((addr - base - 4) // 2, length // 2) for addr, length in bench.reads
                    if base + 4 <= addr < base + 4 + 2 * sizes[queue]]
        bench.begin, bench.settle, bench.ring_reads = begin, settle, ring_reads
        return bench
    return bench


@pytest.mark.parametrize("width", [32, 64, 128])
def test_notified_queue_is_read(make, width):
    bench = make(width=width)
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        assert bench.reads == [(driver.ring(0) + 2, 2), (driver.ring(1) + 2, 2)]  # a driver may have added before it was ready
        assert bench.writes == [(DEVICE, 4), (DEVICE + 0x1_0000, 4)]              # flags and idx of the used ring
        bench.reads.clear()
        bench.writes.clear()
        driver.add(1, 3)
        await driver.kick(ctx, 1)
        while not driver.came(1):
            assert ctx.get(bench.dut.busy)
            await ctx.tick()
        await bench.settle(ctx)
        assert driver.all_came()
        assert [(item.last, item.error) for item in bench.entries] == [(0, 0), (0, 0), (1, 0)]
        # The entries, and idx once more before the driver has to say so.
        assert bench.reads == [(driver.ring(1) + 2, 2), (driver.ring(1) + 4, 6), (driver.ring(1) + 2, 2)]
        assert bench.writes == []
    bench.run(testbench)


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_reads_end_at_the_ring_and_at_the_batch(make, size):
    bench = make(sizes=(16, size), max_batch=4)
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        added, expected = 0, []
        for count in (1, size, max(1, size - 1), size, size, 1):
            driver.add(1, count)
            await driver.kick(ctx, 1)
            await bench.settle(ctx)
            while count:
                step = min(count, 4, size - added % size)
                expected.append((added % size, step))
                added, count = added + step, count - step
        assert driver.all_came()
        assert bench.ring_reads(1) == expected
    bench.run(testbench)


@pytest.mark.parametrize("size", [1, 2, 8, 32768])
@pytest.mark.parametrize("event_idx", [0, 1])
def test_index_wraps_at_16_bits(make, monkeypatch, size, event_idx):
    monkeypatch.setattr("ringnic.hdl.virtqueue.avail.QueueRows", RowsFromEnd)
    bench = make(sizes=(size,), event_idx=event_idx, start=RowsFromEnd.START)
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        for _ in range(6):
            driver.add(0, min(2, size))
            await driver.kick(ctx, 0)
            await bench.settle(ctx)
            assert driver.all_came() and not bench.failed
            assert not event_idx or driver.event(0) == driver.idx[0]
        assert 0 < driver.idx[0] < RowsFromEnd.START
    bench.run(testbench)


@pytest.mark.parametrize("size", [1, 16, 32768])
@pytest.mark.parametrize("before", [0, 1])
def test_jump_by_more_than_the_queue_fails(make, size, before):
    bench = make(sizes=(16, size))
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        driver.add(1, before)
        await driver.kick(ctx, 1)
        await bench.settle(ctx)
        for jump in (size + 1, 0xffff):
            driver.publish(1, driver.idx[1] + jump)
            await driver.kick(ctx, 1)
            await bench.settle(ctx)
        assert bench.failed == [1, 1]
        assert len(bench.ring_reads(1)) == before
        driver.add(0)
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        assert driver.came(0) == driver.heads[0] and bench.failed == [1, 1]
    bench.run(testbench)


def test_index_that_cannot_be_read_fails(make):
    bench = make()
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        bench.fails.add(driver.ring(0) + 2)
        for queue in (0, 1):
            driver.add(queue)
            await driver.kick(ctx, queue)
        await bench.settle(ctx)
        assert bench.failed == [0]
        assert driver.came(0) == [] and driver.came(1) == driver.heads[1]
    bench.run(testbench)


@pytest.mark.parametrize("width", [32, 128])
def test_entries_that_cannot_be_read_are_told_and_cost_no_room(make, width):
    """Each read that fails ends with one entry with ``error``, and its places are free for others."""
    bench = make(width=width, sizes=(8, 8))
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        bench.fails.add(driver.ring(0) + 4)
        for k in range(1, 11):
            driver.add(0, 8)
            await driver.kick(ctx, 0)
            await bench.settle(ctx)
            ends = [item for item in bench.entries if item.last]
            assert [(item.queue, item.error) for item in ends] == [(0, 1)] * k
        driver.add(1, 8)
        await driver.kick(ctx, 1)
        await bench.settle(ctx)
        assert driver.came(1) == driver.heads[1]
    bench.run(testbench)


def test_empty_queue_is_told_and_looked_at_once_more(make):
    """2.7.10: between the last look and the write of avail_event the driver may have added without a notification."""
    bench = make(event_idx=1, latency=20)
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        assert driver.event(0) == driver.event(1) == 0
        driver.add(1, 2)
        await driver.kick(ctx, 1)
        await bench.until(ctx, lambda: ctx.get(bench.dut.event.req.valid))
        driver.add(1, 3)  # avail_event still says 0: no notification
        await bench.settle(ctx)
        assert driver.all_came() and driver.event(1) == 5
        assert bench.writes[4:] == [(DEVICE + 0x1_0000 + 4 + 8 * 16, 2)] * 2  # behind two for each queue at its start
        reads = len(bench.reads)
        await driver.kick(ctx, 1)  # for nothing: looked at, not told again
        await bench.settle(ctx)
        assert len(bench.reads) == reads + 1 and len(bench.writes) == 6
    bench.run(testbench)


def test_queue_that_is_set_up_again_is_told_again(make):
    bench = make(event_idx=1)

    async def testbench(ctx):
        await bench.begin(ctx)
        assert len(bench.writes) == 4
        await bench.begin(ctx)  # in another life avail_event is somewhere else
        assert len(bench.writes) == 8
    bench.run(testbench)


def test_stopped_queue_is_left_alone(make):
    bench = make()
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        ctx.set(bench.dut.stopped, 0b10)
        reads = len(bench.reads)
        driver.add(1)
        await driver.kick(ctx, 1)
        await ctx.tick().repeat(100)
        assert len(bench.reads) == reads and not ctx.get(bench.dut.busy)
        driver.add(0)
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        assert driver.came(0) == driver.heads[0]
        ctx.set(bench.dut.stopped, 0)
        await bench.settle(ctx)
        assert driver.all_came()
    bench.run(testbench)


def test_no_more_than_there_is_room_for(make):
    bench = make()
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        ctx.set(bench.places, 0)
        driver.add(1, 10)
        await driver.kick(ctx, 1)
        await bench.settle(ctx)
        assert bench.ring_reads(1) == []
        for places, first in ((3, 0), (5, 3), (2, 8)):
            ctx.set(bench.places, places)
            await bench.until(ctx, lambda: ctx.get(bench.dut.o_room.valid) == 0)
            ctx.set(bench.dut.freed_queue, 1)
            await pulse(ctx, bench.dut.freed_valid)
            await bench.until(ctx, lambda: ctx.get(bench.dut.o_room.valid))
            await ctx.tick()
            ctx.set(bench.places, 0)
            await bench.settle(ctx)
            assert bench.ring_reads(1)[-1] == (first, places)
        assert driver.all_came() and len(bench.ring_reads(1)) == 3
    bench.run(testbench)


def test_answers_do_not_wait_for_whom_entries_go_to(make):
    state = {"open": False}
    bench = make(width=64, sizes=(64, 64), max_batch=4, gate=lambda: state["open"])
    driver = bench.driver

    async def feed(ctx):
        await bench.begin(ctx)
        for queue in (0, 1):
            driver.add(queue, 64)
            await driver.kick(ctx, queue)
        await ctx.tick().repeat(300)
        assert sum(count for queue in (0, 1) for _, count in bench.ring_reads(queue)) == 16  # four batches
        assert bench.longest_wait <= 4
        state["open"] = True
        await bench.settle(ctx)
        assert driver.all_came()
    bench.run(feed)


@pytest.mark.parametrize("width", [32, 64, 256])
@pytest.mark.parametrize("event_idx", [0, 1])
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_random(make, rng, width, event_idx, pause):
    """A driver that notifies only when avail_event asks for it: every entry comes, once, in order, and none late."""
    bench = make(width=width, sizes=(2, 16, 64), event_idx=event_idx, pause=pause, max_batch=8)
    driver = bench.driver

    async def testbench(ctx):
        await bench.begin(ctx)
        for _ in range(40):
            queue = rng.randrange(3)
            free = driver.sizes[queue] - len(driver.heads[queue]) + len(driver.came(queue))
            count = rng.randint(0, min(free, 12))
            if count:
                old = driver.idx[queue]
                driver.add(queue, count)
                event = driver.event(queue)
                if not event_idx or (driver.idx[queue] - event - 1) & 0xffff < (driver.idx[queue] - old) & 0xffff:
                    await driver.kick(ctx, queue)
            if rng.random() < 0.3:
                await bench.settle(ctx)
                assert driver.all_came()
            await ctx.tick().repeat(rng.randint(1, 30))
        await bench.settle(ctx)
        assert driver.all_came() and not bench.failed
        assert all(item.error == 0 for item in bench.entries)
    bench.run(testbench)


@pytest.mark.parametrize("delay", range(1, 6))
def test_notification_is_what_it_says_and_not_what_an_old_one_said(make, delay):
    """It comes in the very cycle in which its queue is looked at for another reason."""
    bench = make(sizes=(4, 4))
    dut, driver = bench.dut, bench.driver

    async def testbench(ctx):
        ctx.set(dut.notification_data, 1)
        await bench.begin(ctx)
        driver.add(0, 4)
        ctx.set(dut.kick_next, 8)           # not believed, for the ring is not as large; idx is read
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        assert driver.all_came()
        driver.add(0, 1)
        await pulse(ctx, dut.freed_valid)
        await ctx.tick().repeat(delay)
        ctx.set(dut.kick_next, 5)
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        assert driver.all_came()
    bench.run(testbench)


@pytest.mark.parametrize("event_idx", [0, 1])
def test_notification_of_the_life_before(make, event_idx):
    """It comes while its queue is being reset; set up again, the queue has no entries yet, whatever the notification said."""
    bench = make(sizes=(4, 4), event_idx=event_idx)
    dut, driver = bench.dut, bench.driver

    async def testbench(ctx):
        ctx.set(dut.notification_data, 1)
        await bench.begin(ctx)
        ctx.set(dut.stopped, 0b01)
        ctx.set(dut.kick_next, 2)
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        await bench.begin(ctx)
        ctx.set(dut.stopped, 0)
        await ctx.tick()
        await bench.settle(ctx)
        assert bench.ring_reads(0) == []
        driver.add(0, 3)
        ctx.set(dut.kick_next, 3)
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        assert driver.all_came() and bench.ring_reads(0) == [(0, 3)] and not bench.failed
    bench.run(testbench)


def test_whole_ring_of_the_largest_size_at_once(make):
    """idx is as far ahead of what was seen as behind it: it is ahead."""
    bench = make(sizes=(32768, 16), max_batch=32, limit=120_000)

    async def testbench(ctx):
        ctx.set(bench.dut.notification_data, 1)
        bench.driver.publish(0, 32768)
        for queue, size in enumerate((32768, 16)):
            await bench.setup(ctx, queue, size=size, queue_driver=DRIVER * (queue + 1), queue_device=DEVICE + 0x4_0000 * queue)
        await ctx.tick().repeat(100)
        assert bench.ring_reads(0)
    bench.run(testbench)


@pytest.mark.parametrize("event_idx", [0, 1])
@pytest.mark.parametrize("notification_data", [0, 1])
def test_look_finds_what_nobody_notified_of(make, event_idx, notification_data):
    """One read of idx of that queue, and nothing else while there is nothing new."""
    bench = make(sizes=(16, 16), event_idx=event_idx, latency=20)
    dut, driver = bench.dut, bench.driver

    async def look(ctx, queues):
        ctx.set(dut.look, queues)
        await ctx.tick()
        ctx.set(dut.look, 0)

    async def testbench(ctx):
        ctx.set(dut.notification_data, notification_data)
        await bench.begin(ctx)
        bench.reads.clear()
        bench.writes.clear()
        await look(ctx, 0b10)
        await ctx.tick().repeat(10)
        await look(ctx, 0b10)                       # the first is under way
        await bench.settle(ctx)
        assert bench.reads == [(driver.ring(1) + 2, 2)] and not bench.writes
        driver.add(1, 3)
        await ctx.tick().repeat(50)
        assert not driver.came(1)
        await look(ctx, 0b10)
        await bench.settle(ctx)
        assert driver.all_came() and len(driver.came(1)) == 3
        if event_idx:
            assert driver.event(1) == 3             # and the driver knows where we wait
        # What is left alone is not looked at, and is when that ends.
        bench.reads.clear()
        driver.add(0, 2)
        ctx.set(dut.stopped, 0b01)
        await look(ctx, 0b01)
        await ctx.tick().repeat(50)
        assert not bench.reads and not ctx.get(dut.busy)
        ctx.set(dut.stopped, 0)
        await ctx.tick()
        await bench.settle(ctx)
        assert driver.all_came()
    bench.run(testbench)


def test_answer_that_a_notification_has_overtaken_is_forgotten(make):
    """2.9: a notification names an idx that is newer than the one that a read under way is to bring."""
    bench = make(early=True, latency=60)
    driver, index = bench.driver, (bench.driver.ring(0) + 2, 2)

    async def testbench(ctx):
        ctx.set(bench.dut.notification_data, 1)
        await bench.begin(ctx)
        bench.reads.clear()
        for count, slots in ((1, [(0, 1)]), (3, [(0, 1), (1, 3)])):
            driver.add(0, count)
            ctx.set(bench.dut.kick_next, driver.idx[0])
            await driver.kick(ctx, 0)
            await bench.until(ctx, lambda: bench.ring_reads(0) == slots and index in bench.reads)
        assert len(driver.came(0)) <= 1    # nor has idx come, which was asked for after the first entry
        await bench.settle(ctx)
        assert bench.failed == [] and driver.all_came()
        driver.add(0, 2)
        ctx.set(bench.dut.kick_next, driver.idx[0])
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        assert bench.failed == [] and driver.all_came()
    bench.run(testbench)


@pytest.mark.parametrize("back, unreadable", [(17, False), (3, True)])
def test_what_no_notification_can_have_overtaken_fails(make, back, unreadable):
    """More than a ring behind what is known is a jump; and what an unreadable idx left is no idx."""
    bench = make()
    driver = bench.driver

    async def testbench(ctx):
        ctx.set(bench.dut.notification_data, 1)
        await bench.begin(ctx)
        for _ in range(3):
            driver.add(0, 8)
            ctx.set(bench.dut.kick_next, driver.idx[0])
            await driver.kick(ctx, 0)
            await bench.settle(ctx)
        assert driver.all_came()
        driver.publish(0, driver.idx[0] - back)
        if unreadable:
            # What the failed read brings is random, and may be a plausible idx.
            bench.answer = lambda addr, length, lanes: [{"data": driver.idx[0] - back, "count": 2, "last": 1, "error": 1}]
        await driver.kick(ctx, 0)           # names nothing new: idx is read
        await bench.settle(ctx)
        assert bench.failed == [0]
    bench.run(testbench)


def test_empty_queue_is_told_with_notification_data(make):
    """2.7.10 holds with NOTIFICATION_DATA too: an idx that is as expected is no reason to leave avail_event alone."""
    bench = make(event_idx=1)
    driver = bench.driver

    async def testbench(ctx):
        ctx.set(bench.dut.notification_data, 1)
        await bench.begin(ctx)
        driver.add(0, 3)
        ctx.set(bench.dut.kick_next, 3)
        await driver.kick(ctx, 0)
        await bench.settle(ctx)
        assert driver.all_came() and driver.event(0) == 3
    bench.run(testbench)


@pytest.mark.parametrize("event_idx", [0, 1])
@pytest.mark.parametrize("notification_data", [0, 1])
def test_driver_reads_no_garbage_in_the_used_ring(make, rng, event_idx, notification_data):
    """flags and idx are 0 before the ring is looked at, whatever was there (2.7.10.2); each time that a queue begins."""
    bench = make(sizes=(8, 16), event_idx=event_idx)
    dut, driver = bench.dut, bench.driver

    async def testbench(ctx):
        ctx.set(dut.notification_data, notification_data)
        noise = rng.randbytes(0x200)
        for at in (DEVICE, DEVICE + 0x1_0000):
            bench.memory[at:at + len(noise)] = noise
        ctx.set(dut.stopped, 0b11)
        for life in range(2):
            bench.reads.clear()
            bench.writes.clear()
            await bench.begin(ctx)
            await ctx.tick().repeat(100)
            assert not bench.reads and not bench.writes             # nobody is live
            if life == 0:
                driver.add(1, 3)                                    # and one notifies all the same
            ctx.set(dut.kick_next, driver.idx[1])
            await driver.kick(ctx, 1)
            ctx.set(dut.stopped, 0)
            for queue in range(2):
                at = DEVICE + 0x1_0000 * queue
                await bench.until(ctx, lambda: any(driver.ring(queue) <= addr < driver.ring(queue) + 0x100
                                                   for addr, _ in bench.reads))
                assert bench.writes.count((at, 4)) == 1 and bench.memory[at:at + 4] == bytes(4)
            await bench.settle(ctx)
            assert driver.came(1) == driver.heads[1] and not bench.failed
            for queue, size in enumerate((8, 16)):
                at = DEVICE + 0x1_0000 * queue
                assert bench.memory[at + 4:at + 4 + 8 * size] == noise[4:4 + 8 * size]
                if event_idx:
                    assert driver.event(queue) == driver.idx[queue]
                bench.memory[at:at + 4] = b"\xff" * 4
            ctx.set(dut.stopped, 0b11)
            await ctx.tick()
            driver.idx, driver.heads = [0, 0], [[], []]
            bench.entries.clear()
            for queue in range(2):
                driver.publish(queue, 0)
    bench.run(testbench)


def test_a_notification_during_the_first_write_is_not_lost(make):
    """In each cycle of it; and flags are written once."""
    for delay in range(1, 30):
        bench = make(sizes=(4,), latency=8)
        dut, driver = bench.dut, bench.driver

        async def testbench(ctx):
            await bench.setup(ctx, 0, size=4, queue_driver=driver.ring(0), queue_device=DEVICE)
            await ctx.tick().repeat(delay)
            driver.add(0, 1)
            await driver.kick(ctx, 0)
            await bench.settle(ctx)
            assert driver.all_came() and bench.writes == [(DEVICE, 4)]
        bench.run(testbench)
