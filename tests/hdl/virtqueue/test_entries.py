"""Reads of available rings: idx, and entries with their place."""

import struct

import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.entries import IndexReads, RingReads

DRIVER = 0x2_0000
IDX, RING = 2, 4


@pytest.fixture
def bench_of(stage):
    def make(dut, **options):
        bench = stage(dut, **options)
        bench.serve_reads(dut.read)
        for queue in range(3):
            bench.areas[queue, Area.DRIVER] = DRIVER * (queue + 1)
        return bench
    return make


@pytest.mark.parametrize("width", [32, 64, 512])
def test_index(bench_of, rng, width):
    dut = IndexReads(width=width, num_queues=3)
    bench = bench_of(dut, pause=0.2)
    came = bench.collect(dut.o)
    bench.fails.add(3 * DRIVER + IDX)

    async def testbench(ctx):
        queues = [rng.randrange(3) for _ in range(40)]
        for queue in range(3):
            struct.pack_into("<HH", bench.memory, DRIVER * (queue + 1), 0xbeef, 0x1234 + queue)
        for queue in queues:
            await bench.send(ctx, dut.i, queue)
        await bench.until(ctx, lambda: not ctx.get(dut.busy))
        assert [item.queue for item in came] == queues
        assert all(item.error if item.queue == 2 else item.idx == 0x1234 + item.queue for item in came)
        assert bench.reads == [(DRIVER * (queue + 1) + IDX, 2) for queue in queues]
    bench.run(testbench)


def test_answers_wait_for_nobody(bench_of):
    """Nobody takes them: eight reads are made, and the port never waits."""
    dut = IndexReads(width=64, num_queues=3)
    bench = bench_of(dut)

    async def testbench(ctx):
        ctx.set(dut.i.p, 1)
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(200)
        assert len(bench.reads) == 8 and not ctx.get(dut.room) and bench.longest_wait == 0
    bench.run(testbench)


@pytest.mark.parametrize("width", [32, 64, 256])
@pytest.mark.parametrize("most", [2, 8])
def test_entries(bench_of, rng, width, most):
    dut = RingReads(width=width, num_queues=8, max_batch=most)
    bench = bench_of(dut, pause=0.2)
    came = bench.collect(dut.o)
    wanted = []

    async def testbench(ctx):
        for queue in range(3):
            for slot in range(32):
                struct.pack_into("<H", bench.memory, DRIVER * (queue + 1) + RING + 2 * slot, 0x100 * queue + slot)
        for _ in range(40):
            queue, slot, count = rng.randrange(3), rng.randrange(24), rng.randint(1, most)
            wanted.extend((queue, 0x100 * queue + slot + k, k == count - 1) for k in range(count))
            ctx.set(dut.i.p, {"queue": queue, "slot": slot, "count": count})
            await ctx.tick()
            await bench.send(ctx, dut.i, {"queue": queue, "slot": slot, "count": count})
        await bench.until(ctx, lambda: not ctx.get(dut.busy))
        assert [(item.queue, item.head, item.last) for item in came] == wanted
        assert not any(item.error for item in came)
    bench.run(testbench)


@pytest.mark.parametrize("fails", [False, True])
def test_room_for_four_reads(bench_of, fails):
    """No more is asked for than has its place; of a read that failed one entry comes, and the other places are free."""
    dut = RingReads(width=64, num_queues=8, max_batch=4)
    bench = bench_of(dut)
    if fails:
        bench.fails.add(2 * DRIVER + RING + 8)
        bench.answer = lambda addr, length, lanes: [{"data": 0, "count": 0, "last": 1, "error": 1}]
    taken = []

    async def testbench(ctx):
        ctx.set(dut.i.p, {"queue": 1, "slot": 4, "count": 4})
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(300)
        assert len(bench.reads) == 13 if fails else len(bench.reads) == 4
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.o.ready, 1)
        for _ in range(60):
            _, _, valid, error = await ctx.tick().sample(dut.o.valid, dut.o.p.error)
            taken.extend([error] * valid)
        assert taken == [int(fails)] * (13 if fails else 16) and not ctx.get(dut.busy)
    bench.run(testbench)
