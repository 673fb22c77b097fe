"""Rows of queues: what was stored comes back, and set-up makes it zero."""

import pytest
from amaranth.lib import data

from ringnic.hdl.virtqueue.rows import QueueRows

ROW = data.StructLayout({"a": 16, "b": 5})


async def look_up(ctx, dut, queue):
    ctx.set(dut.queue, queue)
    await ctx.tick()
    return ctx.get(dut.row.a), ctx.get(dut.row.b)


async def store(ctx, dut, a, b):
    ctx.set(dut.new, {"a": a, "b": b})
    ctx.set(dut.write, 1)
    await ctx.tick()
    ctx.set(dut.write, 0)


@pytest.mark.parametrize("num_queues", [1, 2, 3, 8])
def test_rows_against_a_list(stage, rng, num_queues):
    dut = QueueRows(num_queues=num_queues, shape=ROW)
    model = [(0, 0)] * num_queues

    async def testbench(ctx):
        for _ in range(400):
            queue = rng.randrange(num_queues)
            if rng.random() < 0.2:
                ctx.set(dut.setup_queue, queue)
                ctx.set(dut.setup_valid, 1)
                await ctx.tick()
                ctx.set(dut.setup_valid, 0)
                model[queue] = (0, 0)
                queue = rng.randrange(num_queues)
            assert await look_up(ctx, dut, queue) == model[queue]
            if rng.random() < 0.6:
                model[queue] = (rng.randrange(1 << 16), rng.randrange(32))
                await store(ctx, dut, *model[queue])
    stage(dut).run(testbench)


def test_row_of_a_held_queue_shows_the_write(stage):
    dut = QueueRows(num_queues=2, shape=ROW)

    async def testbench(ctx):
        for value in (3, 7, 0xffff):
            await look_up(ctx, dut, 1)
            await store(ctx, dut, value, 1)
            await ctx.tick()
            assert ctx.get(dut.row.a) == value
    stage(dut).run(testbench)


@pytest.mark.parametrize("other", [False, True])
def test_set_up_wins_over_a_write_in_the_same_cycle(stage, other):
    dut = QueueRows(num_queues=2, shape=ROW)

    async def testbench(ctx):
        for queue in (0, 1):
            await look_up(ctx, dut, queue)
            await store(ctx, dut, 9, 9)
        await look_up(ctx, dut, 1)
        ctx.set(dut.setup_queue, 0 if other else 1)
        ctx.set(dut.setup_valid, 1)
        await store(ctx, dut, 5, 5)
        ctx.set(dut.setup_valid, 0)
        assert await look_up(ctx, dut, 1) == ((5, 5) if other else (0, 0))
        assert await look_up(ctx, dut, 0) == ((0, 0) if other else (9, 9))
    stage(dut).run(testbench)
