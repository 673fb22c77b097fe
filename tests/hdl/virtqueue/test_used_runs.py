"""Batches of used chains as runs of neighbours: places, order, what shares a write, and what the driver sees in the end."""

import pytest

from ringnic.hdl.virtqueue.used_runs import UsedRuns

BATCH = 8


@pytest.fixture
def make(stage):
    def bench(*, size=16, packed=0, in_order=0, **options):
        dut = UsedRuns(num_queues=2, batch=BATCH)
        bench = stage(dut, **options)
        bench.chains, bench.runs, entries = {}, [], []
        bench.at = []     # cycles: of the first offers of batches, entries and runs
        port = dut.staging

        async def memory(ctx):
            data = {"chain": {"id": 0, "count": 1, "writable": 0}, "len": 0}
            async for _, _, reads, place in ctx.tick().sample(port.en, port.place):
                if reads:
                    data = bench.chains.get(place, data)
                    ctx.set(port.data, data)
        bench.background(memory)

        async def watch(ctx):
            async for _, _, *now in ctx.tick().sample(dut.i.valid, dut.o.valid, dut.run.valid):
                bench.at.append(now)
        bench.background(watch)

        def ends_run(run):
            """A run is its place, the ids of its entries, ``index``, and what it publishes if it ends the batch."""
            published = run.published
            assert run.count == len(entries) and entries[-1].last and not any(entry.last for entry in entries[:-1])
            bench.runs.append((run.place, [entry.id for entry in entries], run.index, run.ends and (
                published.queue, published.old, published.new, published.wrap, published.apart)))
            assert all(entry.flip == entries[0].flip for entry in entries)
            bench.flips.append(entries[0].flip)
            entries.clear()
        bench.flips = []
        bench.background(bench.collect_into, dut.o, entries.append)
        bench.background(bench.collect_into, dut.run, ends_run)

        async def start(ctx):
            ctx.set(dut.packed, packed)
            ctx.set(dut.in_order, in_order)
            await bench.setup(ctx, 1, size=size)

        async def give(ctx, first, chains, parts=0):
            """Give a batch of ``(id, count, writable, len)``, from the place ``first`` on."""
            bench.runs.clear()
            bench.flips.clear()
            bench.chains.clear()
            for k, (ident, count, writable, length) in enumerate(chains):
                bench.chains[(first + k) % BATCH] = {"chain": {"id": ident, "count": count, "writable": writable}, "len": length}
            ctx.set(dut.i.p, {"queue": 1, "first": first, "count": len(chains), "parts": parts})
            await ctx.tick()
            await bench.send(ctx, dut.i, ctx.get(dut.i.p))
            return list(bench.runs)
        bench.start, bench.give = start, give
        return bench
    return bench


def chains(*idents, count=1, writable=0, length=0):
    return [(ident, count, writable, length) for ident in idents]


@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_split(make, pause):
    """Neighbours up to the end of the ring, and then the index."""
    bench = make(size=4, pause=pause)

    async def testbench(ctx):
        await bench.start(ctx)
        assert await bench.give(ctx, 6, chains(1, 2, 3)) == [(0, [1, 2, 3], 0, 0), (0, [3], 1, (1, 0, 3, 1, 0))]
        assert await bench.give(ctx, 1, chains(4, 5)) == [(3, [4], 0, 0), (0, [5], 0, 0), (0, [5], 1, (1, 3, 5, 1, 0))]
    bench.run(testbench)


@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_packed(make, pause):
    """Also of a ring whose size is no power of two; old is negative if it is of the lap before."""
    bench = make(size=5, packed=1, pause=pause)

    async def testbench(ctx):
        await bench.start(ctx)
        assert await bench.give(ctx, 0, chains(1, 2, 3)) == [(0, [1, 2, 3], 0, (1, 0, 3, 1, 0))]
        assert await bench.give(ctx, 3, chains(4, 5, 6)) == [(3, [4, 5], 0, 0), (0, [6], 0, (1, 0xfffe, 1, 0, 0))]
        assert bench.flips == [0, 1]
        assert await bench.give(ctx, 0, [(7, 2, 0, 0), (8, 1, 0, 0), (9, 1, 0, 0)]) == [
            (1, [7], 0, 0), (3, [8, 9], 0, (1, 0xfffc, 0, 1, 1))]
    bench.run(testbench)


def test_packed_first_is_last(make):
    """2.8.9; and it has the wrap counter of its own lap."""
    bench = make(size=5, packed=1)

    async def testbench(ctx):
        await bench.start(ctx)
        assert await bench.give(ctx, 5, chains(1, 2, 3), parts=1) == [(1, [2, 3], 0, 0), (0, [1], 0, (1, 0, 3, 1, 0))]
        assert await bench.give(ctx, 7, chains(4, 5, 6), parts=1) == [
            (4, [5], 0, 0), (0, [6], 0, 0), (3, [4], 0, (1, 0xfffe, 1, 0, 0))]
        assert bench.flips == [0, 1, 0]
        assert await bench.give(ctx, 0, chains(7), parts=1) == [(1, [7], 0, (1, 1, 2, 0, 0))]
    bench.run(testbench)


@pytest.mark.parametrize("packed", [0, 1])
def test_in_order(make, packed):
    """2.7.9, 2.8.8: one entry for all, unless one of them has something to report, the first or another one."""
    bench = make(packed=packed, in_order=1)

    def behind(old, new, apart, *runs):
        published = (1, old, new, 1, apart)
        return [*runs[:-1], (*runs[-1][:3], published)] if packed else [*runs, (0, [new], 1, published)]

    async def testbench(ctx):
        await bench.start(ctx)
        assert await bench.give(ctx, 0, chains(1, 2, 3)) == behind(0, 3, 1, (0, [3], 0, 0))
        assert await bench.give(ctx, 3, chains(4, 5, writable=1)) == behind(3, 5, 0, (3, [4, 5], 0, 0))
        assert await bench.give(ctx, 6, [*chains(6, 7), *chains(8, length=1)]) == behind(5, 8, 0, (5, [6, 7, 8], 0, 0))
        assert await bench.give(ctx, 0, chains(9)) == behind(8, 9, 1, (8, [9], 0, 0))
    bench.run(testbench)


def test_in_order_no_more_than_the_ring_has(make):
    bench = make(size=5, packed=1, in_order=1)

    async def testbench(ctx):
        await bench.start(ctx)
        assert await bench.give(ctx, 0, [(1, 2, 0, 0), (2, 3, 0, 0)]) == [(0, [2], 0, (1, 0xfffb, 0, 0, 1))]
        assert await bench.give(ctx, 0, [(3, 3, 0, 0), (4, 3, 0, 0)]) == [(0, [3], 0, 0), (3, [4], 0, (1, 0xfffb, 1, 1, 1))]
    bench.run(testbench)


@pytest.mark.parametrize("packed, in_order, parts, cycles", [
    (0, 0, 0, 3), (1, 0, 0, 3), (0, 1, 0, 4), (1, 1, 0, 4), (1, 0, 1, 5)])
def test_rate_and_latency(make, packed, in_order, parts, cycles):
    """Cycles from the offer of a batch to that of its first entry; then one entry a cycle, and the run behind the last."""
    bench, count = make(packed=packed, in_order=in_order), 3 if not in_order else 1

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.give(ctx, 0, chains(*range(count)), parts=parts)
    bench.run(testbench)
    batch, entry, run = ([now[k] for now in bench.at].index(1) for k in range(3))
    assert entry - batch == cycles and run - entry == count - parts


def test_in_order_more_entries_than_16_bits_count(make):
    bench = make(size=30000, packed=1, in_order=1)

    async def testbench(ctx):
        await bench.start(ctx)
        assert [run[:2] for run in await bench.give(ctx, 0, chains(1, 2, 3, count=30000))] == [(0, [1]), (0, [2]), (0, [3])]
    bench.run(testbench)
