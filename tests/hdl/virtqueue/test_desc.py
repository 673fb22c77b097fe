"""Ring entries to heads: runs, their bounds, what must not be read."""

from functools import cache
import struct

import pytest

from ringnic.hdl.virtqueue.desc import DescFetch

from ...kit.heads import WithHeads

@cache  # one that is simulated again is not elaborated again
def fetch(width, num_queues, max_run):
    stage = DescFetch(num_queues=num_queues, max_run=max_run, depth=256)
    return WithHeads(stage, width=width, num_queues=num_queues, read="desc")


TABLE = 0x4_0000  # of queue 0; the next queue's follows at twice that


@pytest.fixture
def make(stage, rng):
    def bench(*, width=64, sizes=(32, 32), max_run=8, gate=None, **options):
        bench = stage(fetch(width=width, num_queues=len(sizes), max_run=max_run), **options)
        bench.serve_reads(bench.dut.desc)
        bench.pushed = bench.collect(bench.dut.o, gate)
        bench.memory[:] = rng.randbytes(len(bench.memory))

        async def start(ctx):
            for queue, size in enumerate(sizes):
                await bench.setup(ctx, queue, size=size, queue_desc=TABLE * (queue + 1))

        async def entries(ctx, queue, heads, error=0):
            """One ring read."""
            for k, head in enumerate(heads):
                last = k == len(heads) - 1
                await bench.send(ctx, bench.dut.i, {"queue": queue, "head": head, "last": last,
                                                    "error": error and last})

        async def settle(ctx):
            await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
            await ctx.tick().repeat(bench.latency + 40)
            await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))

        def came():
            """(queue, id) of what was pushed, its fields checked against the memory."""
            for item in bench.pushed:
                at = TABLE * (item.queue + 1) + 16 * item.head.id
                addr, length, flags, following = struct.unpack_from("<QIHH", bench.memory, at)
                assert (item.head.addr, item.head.len, item.head.next) == (addr, length, following)
                assert item.head.flags == flags & 7
            return [(item.queue, item.head.id) for item in bench.pushed]
        bench.start, bench.entries, bench.settle, bench.came = start, entries, settle, came
        return bench
    return bench


@pytest.mark.parametrize("heads, reads", [
    ([5], [(5, 1)]),
    ([5, 6, 7], [(5, 3)]),
    ([7, 6, 5], [(5, 3)]),
    ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [(0, 8), (8, 2)]),
    ([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [(2, 8), (0, 2)]),
    ([3, 4, 3, 2], [(3, 2), (2, 2)]),
    ([3, 2, 3, 4], [(2, 2), (3, 2)]),
    ([4, 4, 4], [(4, 1), (4, 1), (4, 1)]),
    ([0, 31, 1, 30], [(0, 1), (31, 1), (1, 1), (30, 1)]),
    ([30, 31], [(30, 2)]),
    ([1, 0], [(0, 2)]),
    ([10, 11, 20, 19, 18, 5], [(10, 2), (18, 3), (5, 1)]),
])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_runs(make, width, heads, reads):
    bench = make(width=width)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.entries(ctx, 1, heads)
        await bench.settle(ctx)
        assert bench.came() == [(1, head) for head in heads]
        assert bench.reads == [(2 * TABLE + 16 * first, 16 * count) for first, count in reads]
        assert not bench.failed
    bench.run(testbench)


def test_no_run_goes_beyond_a_ring_read(make):
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.entries(ctx, 0, [4, 5])
        await bench.entries(ctx, 0, [6])
        await bench.entries(ctx, 1, [7])
        await bench.settle(ctx)
        assert bench.came() == [(0, 4), (0, 5), (0, 6), (1, 7)]
        assert len(bench.reads) == 3
    bench.run(testbench)


@pytest.mark.parametrize("size", [1, 2, 32768])
def test_only_entries_below_queue_size_are_read(make, size):
    bench = make(sizes=(32, size))
    good, bad = {0, size - 1}, {size, size + 1, 0xffff}

    async def testbench(ctx):
        await bench.start(ctx)
        for head in sorted(good) + sorted(bad - good):
            await bench.entries(ctx, 1, [head])
        await bench.entries(ctx, 0, [31])
        await bench.settle(ctx)
        assert bench.came() == [(1, head) for head in sorted(good)] + [(0, 31)]
        assert bench.failed == [1, 1, 1]
    bench.run(testbench)


@pytest.mark.parametrize("heads", [[31, 32], [32, 31], [0xffff, 0], [0, 0xffff], [30, 31, 32, 33]])
def test_run_across_an_end_of_the_table_fails(make, heads):
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.entries(ctx, 1, heads)
        await bench.settle(ctx)
        assert 1 in bench.failed
        assert all(2 * TABLE <= addr and addr + length <= 2 * TABLE + 32 * 16 for addr, length in bench.reads)
        assert all(ident < 32 for _, ident in bench.came())
    bench.run(testbench)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_failed_ring_read_fails_its_run(make, count):
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.entries(ctx, 1, list(range(count)), error=1)
        await bench.entries(ctx, 0, [3])
        await bench.settle(ctx)
        assert bench.failed == [1]
        assert bench.came() == [(0, 3)]
    bench.run(testbench)


@pytest.mark.parametrize("width", [32, 64, 128])
def test_failed_read_gives_nothing(make, width):
    bench = make(width=width)
    bench.fails |= {2 * TABLE + 16 * 8}

    async def testbench(ctx):
        await bench.start(ctx)
        for _ in range(5):
            await bench.entries(ctx, 1, [8, 9, 10])
            await bench.entries(ctx, 0, [8, 9, 10])
        await bench.settle(ctx)
        assert bench.failed == [1] * 5
        assert bench.came() == [(0, 8), (0, 9), (0, 10)] * 5
    bench.run(testbench)


@pytest.mark.parametrize("fault", ["read", "ring", "range"])
@pytest.mark.parametrize("latency", [1, 6, 60])
def test_nothing_of_a_queue_comes_behind_an_entry_that_failed(make, fault, latency):
    """2.7.9: used in order, what is behind would say that the one that failed was used, too. What is before it comes."""
    bench = make(latency=latency)

    async def testbench(ctx):
        await bench.start(ctx)
        bench.fails |= {2 * TABLE + 16 * 8}
        for count in (1, 2):
            await bench.entries(ctx, 1, [3, 4])
            await bench.entries(ctx, 1, [32] if fault == "range" else [8, 9], error=fault == "ring")
            await bench.entries(ctx, 1, [11])
            await bench.entries(ctx, 0, [5])
            await bench.entries(ctx, 1, [12, 13])
            await bench.settle(ctx)
            await bench.entries(ctx, 1, [20])
            await bench.settle(ctx)
            assert bench.came() == [(1, 3), (1, 4), (0, 5)] * count
            assert bench.failed == [1] * count
            await bench.setup(ctx, 1, size=32, queue_desc=2 * TABLE)
    bench.run(testbench)


@pytest.mark.parametrize("shift", range(12))
def test_two_failures_at_once_are_both_told(make, shift):
    bench = make(sizes=(32, 32, 32), latency=12)
    bench.fails |= {TABLE}

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.entries(ctx, 0, [0])
        await ctx.tick().repeat(6 + shift)
        await bench.entries(ctx, 1, [32])
        await bench.settle(ctx)
        assert sorted(bench.failed) == [0, 1]
    bench.run(testbench)


def test_blocked_store_loses_nothing(make):
    """Heads lie in their places, and a second PUSH waits for all of them: everything is read."""
    state = {"open": False}
    bench = make(gate=lambda: state["open"])
    heads = [k for k in range(0, 32, 2)] * 4

    async def feed(ctx):
        await bench.start(ctx)
        await bench.entries(ctx, 0, heads)
        await bench.settle(ctx)
        assert bench.came() == [(0, head) for head in heads]

    async def unblock(ctx):
        await ctx.tick().repeat(400)
        assert len(bench.reads) == len(heads)
        state["open"] = True
    bench.run(feed, unblock)


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("max_run", [1, 4, 32])
def test_random(make, rng, width, max_run):
    bench = make(width=width, sizes=(16, 64), max_run=max_run, pause=rng.choice([0.0, 0.3]))
    expected, runs = [], 0

    async def testbench(ctx):
        await bench.start(ctx)
        for _ in range(15):
            queue, heads = rng.randrange(2), []
            size = (16, 64)[queue]
            while len(heads) < 12:
                at, step = rng.randrange(size), rng.choice([1, -1])
                heads += [(at + step * k) % size for k in range(rng.randint(1, 6))]
            expected.extend((queue, head) for head in heads)
            await bench.entries(ctx, queue, heads)
        await bench.settle(ctx)
        assert bench.came() == expected
        assert sum(length for _, length in bench.reads) == 16 * len(expected)
        assert all(length <= 16 * max_run for _, length in bench.reads)
        assert not bench.failed
    bench.run(testbench)
