"""Writes of used entries: addresses, whole data, and batches that are told of when all of their writes have left."""

import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.used_writes import UsedWrites

DESC, DRIVER, DEVICE = 0x1_0000, 0x2_0000, 0x3_0000
BASES = {Area.DESC: DESC, Area.DRIVER: DRIVER, Area.DEVICE: DEVICE}


@pytest.fixture
def make(stage):
    def bench(*, width=64, packed=0, gate=None, **options):
        dut = UsedWrites(width=width, num_queues=2, batch=8)
        bench = stage(dut, watch_busy=False, **options)
        bench.serve_writes(dut.write)
        bench.told = bench.collect(dut.o, gate)

        async def start(ctx):
            ctx.set(dut.packed, packed)
            for queue in range(2):
                bench.areas.update({(queue, area): base + (queue << 16) * 4 for area, base in BASES.items()})
                await bench.tell_areas(ctx, queue)

        async def write(ctx, queue, beats, *, place=0, count=1, index=0, ends=0, new=0):
            for k, data in enumerate(beats):
                await bench.send(ctx, dut.i, {"data": data, "last": k == len(beats) - 1})
            run = {"place": place, "count": count, "index": index, "ends": ends,
                   "published": {"queue": queue, "old": 0, "new": new, "wrap": 0, "apart": 0}}
            ctx.set(dut.run.p, run)
            await ctx.tick().repeat(2)
            await bench.send(ctx, dut.run, run)
        bench.start, bench.write = start, write
        return bench
    return bench


def test_addresses(make):
    """Of a used ring, behind flags and idx, and of the index."""
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.write(ctx, 0, [1, 2], place=5, count=2)
        await bench.write(ctx, 0, [7], index=1, ends=1, new=7)
        await bench.until(ctx, lambda: bench.told)
        assert bench.writes == [(DEVICE + 4 + 40, 16), (DEVICE + 2, 2)]
        assert bench.memory[DEVICE + 44:DEVICE + 60] == bytes([1, *bytes(7), 2, *bytes(7)]) and bench.memory[DEVICE + 2] == 7
    bench.run(testbench)


def test_packed_addresses(make):
    bench = make(packed=1)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.write(ctx, 0, [1, 2, 3, 4], place=5, count=2, ends=1)
        await bench.until(ctx, lambda: bench.told)
        assert bench.writes == [(DESC + 80, 32)]
    bench.run(testbench)


@pytest.mark.parametrize("latency", [3, 40])
def test_told_when_the_last_write_has_left(make, latency):
    bench = make(latency=latency)

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(20):
            await bench.write(ctx, 0, [k], place=k)
            await bench.write(ctx, 0, [k + 1], index=1, ends=1, new=k + 1)
            assert all(len(bench.writes) >= 2 * item.new for item in bench.told)
        await bench.until(ctx, lambda: len(bench.told) == 20)
        assert [item.new for item in bench.told] == list(range(1, 21)) and not ctx.get(bench.dut.busy)
    bench.run(testbench)


def test_no_more_than_there_is_room_for(make):
    """While nobody is told: 8 batches, and nothing of the next one."""
    state = {"open": False}
    bench = make(gate=lambda: state["open"])

    async def feed(ctx):
        await bench.start(ctx)
        for k in range(12):
            await bench.write(ctx, 0, [k], index=1, ends=1, new=k)
        await bench.until(ctx, lambda: len(bench.told) == 12)
        assert [item.new for item in bench.told] == list(range(12))

    async def unblock(ctx):
        await ctx.tick().repeat(300)
        assert len(bench.writes) == 8 and ctx.get(bench.dut.busy)
        state["open"] = True
    bench.run(feed, unblock)


def test_no_data_before_its_write_is_asked_for(make):
    bench = make()
    dut = bench.dut

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.send(ctx, dut.i, {"data": 1, "last": 1})
        for _ in range(10):
            assert not ctx.get(dut.write.data.valid)
            await ctx.tick()
        await bench.write(ctx, 0, [], ends=1)
        await bench.until(ctx, lambda: bench.told)
    bench.run(testbench)
