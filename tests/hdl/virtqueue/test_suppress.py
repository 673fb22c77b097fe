"""Used buffer notifications against what the driver says about them."""

import struct

import pytest

from ringnic.hdl.virtqueue.suppress import Suppress

DRIVER = 0x2_0000


def need_event(event, new, old):
    """As linux/virtio_ring.h has it: vring_need_event()."""
    return (new - event - 1) & 0xffff < (new - old) & 0xffff


@pytest.fixture
def make(stage):
    def bench(*, width=64, event_idx=1, sizes=(16, 16, 16), gate=None, **options):
        dut = Suppress(width=width, num_queues=len(sizes))
        bench = stage(dut, **options)
        bench.serve_reads(dut.read)
        bench.notified = bench.collect(dut.notify, gate)
        for queue, size in enumerate(sizes):  # used_event of a driver that wants to be told of the first
            struct.pack_into("<H", bench.memory, DRIVER * (queue + 1) + 4 + 2 * size, 0)

        async def start(ctx):
            ctx.set(dut.event_idx, event_idx)
            for queue, size in enumerate(sizes):
                await bench.setup(ctx, queue, size=size, queue_driver=DRIVER * (queue + 1))
        bench.start = start
        return bench
    return bench


async def settle(ctx, bench, cycles=40):
    await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
    await ctx.tick().repeat(cycles)


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("flags, notified", [(0, True), (1, False), (0xfffe, True), (0xffff, False)])
def test_flags(make, width, flags, notified):
    bench = make(width=width, event_idx=0)
    struct.pack_into("<H", bench.memory, 2 * DRIVER, flags)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.send(ctx, bench.dut.i, {"queue": 1, "old": 0, "new": 1})
        await settle(ctx, bench)
        assert bench.reads == [(2 * DRIVER, 2)]
        assert bench.notified == ([1] if notified else [])
    bench.run(testbench)


@pytest.mark.parametrize("old, new, event", [
    (0, 1, 0), (0, 1, 1), (0, 1, 0xffff), (5, 9, 4), (5, 9, 5), (5, 9, 8), (5, 9, 9),
    (0xffff, 0, 0xffff), (0xffff, 0, 0), (0xfffe, 3, 0xfffd), (0xfffe, 3, 0xfffe), (0xfffe, 3, 0), (0xfffe, 3, 2),
    (0xfffe, 3, 3), (0x7fff, 0x8000, 0x7fff), (0x7fff, 0x8000, 0x8000), (0, 0x8000, 0x7fff), (0, 0x8000, 0x8000),
])
def test_event_index(make, old, new, event):
    bench = make()
    struct.pack_into("<H", bench.memory, DRIVER + 4 + 2 * 16, event)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.send(ctx, bench.dut.i, {"queue": 0, "old": old, "new": new})
        await settle(ctx, bench)
        assert bench.notified == ([0] if need_event(event, new, old) else [])
    bench.run(testbench)


def test_packed_event_of_every_lap(make):
    """2.8.10: the event's wrap counter says whether it is of the lap in which the batch ended, or of the one before."""
    size = 3
    bench = make(sizes=(size,))

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        await bench.start(ctx)
        for new in range(size, 3 * size):              # counted without end; the wrap counter of the first lap is 1
            for count in range(1, size + 1):
                lap = new // size
                for event in range((lap - 1) * size, (lap + 1) * size):
                    struct.pack_into("<HH", bench.memory, DRIVER, event % size | (1 - event // size % 2) << 15, 2)
                    await bench.send(ctx, bench.dut.i, {"queue": 0, "old": (new % size - count) & 0xffff, "new": new % size,
                                                        "wrap": 1 - lap % 2})
                    await settle(ctx, bench, 10)
                    wanted = new - count <= event < new
                    assert bench.notified == [0] * wanted, (new, count, event)
                    bench.notified.clear()
    bench.run(testbench)


@pytest.mark.parametrize("size", [1, 2, 0x7fff, 0x8000])
def test_packed_event_at_both_ends_of_a_ring(make, size):
    """2.8.10, with rings as small and as large as they get (2.8): descriptors counted without end, the first one is 0."""
    bench = make(sizes=(size,))
    news = sorted({size, size + 1, 2 * size - 1, 2 * size, 2 * size + 1})
    batches = sorted({(new, count) for new in news for count in (1, 2, size - 1, size) if 0 < count <= size})

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        await bench.start(ctx)
        for new, count in batches:
            lap = new // size
            first, end = (lap - 1) * size, (lap + 1) * size           # what an event can name
            events = {new - count - 1, new - count, new - 1, new, first, lap * size - 1, lap * size, end - 1}
            for event in sorted(events & set(range(first, end))):
                struct.pack_into("<HH", bench.memory, DRIVER, event % size | (1 - event // size % 2) << 15, 2)
                await bench.send(ctx, bench.dut.i, {"queue": 0, "old": (new % size - count) & 0xffff, "new": new % size,
                                                    "wrap": 1 - lap % 2})
                await settle(ctx, bench, 10)
                assert bench.notified == [0] * (new - count <= event < new), (new, count, event)
                bench.notified.clear()
    bench.run(testbench)


def test_event_word_follows_the_ring_of_every_size(make):
    sizes = (1, 2, 256, 32768)
    bench = make(sizes=sizes)

    async def testbench(ctx):
        await bench.start(ctx)
        for queue in range(4):
            await bench.send(ctx, bench.dut.i, {"queue": queue, "old": 0, "new": 1})
        await settle(ctx, bench)
        assert bench.reads == [(DRIVER * (queue + 1) + 4 + 2 * size, 2) for queue, size in enumerate(sizes)]
    bench.run(testbench)


def test_failed_read_stops_its_queue_only(make):
    bench = make()
    bench.fails.add(2 * DRIVER + 36)

    async def testbench(ctx):
        await bench.start(ctx)
        for queue in (0, 1, 2, 1, 0):
            await bench.send(ctx, bench.dut.i, {"queue": queue, "old": 0, "new": 1})
        await settle(ctx, bench)
        assert bench.failed == [1, 1]
        assert bench.notified == [0, 2, 0]
    bench.run(testbench)


def test_answers_do_not_wait_for_notifications(make):
    state = {"open": False}
    bench = make(gate=lambda: state["open"])

    async def feed(ctx):
        await bench.start(ctx)
        for k in range(20):
            await bench.send(ctx, bench.dut.i, {"queue": k % 3, "old": 0, "new": 1})
        await settle(ctx, bench)
        assert bench.notified == [k % 3 for k in range(20)]

    async def unblock(ctx):
        await ctx.tick().repeat(300)
        assert len(bench.reads) == 8 and ctx.get(bench.dut.busy)  # as many as there is room for
        assert bench.longest_wait <= 4
        state["open"] = True
    bench.run(feed, unblock)


@pytest.mark.parametrize("width", [32, 64, 256])
def test_random(make, rng, width):
    bench = make(width=width, sizes=(4, 64), pause=0.3)
    expected = []

    async def testbench(ctx):
        await bench.start(ctx)
        for _ in range(20):
            events = [rng.randrange(1 << 16) for _ in range(2)]
            for queue, size in enumerate((4, 64)):
                struct.pack_into("<H", bench.memory, DRIVER * (queue + 1) + 4 + 2 * size, events[queue])
            for _ in range(5):
                queue = rng.randrange(2)
                new = (events[queue] + rng.randrange(-5, 6)) & 0xffff
                old = (new - rng.randrange(1, 5)) & 0xffff
                await bench.send(ctx, bench.dut.i, {"queue": queue, "old": old, "new": new})
                expected.extend([queue] if need_event(events[queue], new, old) else [])
            await settle(ctx, bench, 20)
        assert bench.notified == expected
    bench.run(testbench)
