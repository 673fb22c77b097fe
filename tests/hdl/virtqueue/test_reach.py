"""How many descriptors are read: what a notification vouches for, and the least and the most of a read."""

import pytest

from ringnic.hdl.virtqueue.reach import Reach, Told

from ...kit.streams import pulse

MOST = 8


@pytest.mark.parametrize("size", [1, 3, 8, 200, 32768])
def test_notifications(stage, rng, size):
    """Positions are counted without end: what was named lies ahead by a ring at most, or is not believed, and forgotten."""
    dut = Told(num_queues=3, max_batch=MOST)
    bench = stage(dut, limit=60_000)

    async def ask(ctx, queue, at):
        for name, value in dict(queue=queue, size=size, slot=at % size, flip=at // size % 2).items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        await pulse(ctx, dut.asks)
        await ctx.tick().repeat(2)
        return ctx.get(dut.ahead)

    async def kick(ctx, queue, at):
        ctx.set(dut.kick_queue, queue)
        ctx.set(dut.kick_next, at % size | (1 - at // size % 2) << 15)
        await pulse(ctx, dut.kick_valid)

    async def testbench(ctx):
        ctx.set(dut.notification_data, 1)
        for _ in range(60):
            queue, at = rng.randrange(3), rng.randrange(2 * size)
            ahead = rng.choice([0, 1, size, rng.randint(0, size)])
            assert await ask(ctx, queue, at) == 0
            await kick(ctx, queue, at + ahead)
            # It is as good the second time, from there on; another queue has heard nothing.
            assert await ask(ctx, queue, at) == min(ahead, MOST)
            assert await ask(ctx, (queue + 1) % 3, at) == 0
            step = rng.randint(0, ahead)
            assert await ask(ctx, queue, at + step) == min(ahead - step, MOST)
            assert await ask(ctx, queue, at + ahead) == 0       # all of it has been: it would be ahead again a lap later
            assert await ask(ctx, queue, at) == 0
            await kick(ctx, queue, at + 1)
            ctx.set(dut.setup_queue, queue)
            await pulse(ctx, dut.setup_valid)
            assert await ask(ctx, queue, at) == 0
            if size < 32768:
                ctx.set(dut.kick_next, size)                    # not in the ring
                await pulse(ctx, dut.kick_valid)
                assert await ask(ctx, queue, at) == 0
        ctx.set(dut.notification_data, 0)
        await kick(ctx, 1, 1)
        assert await ask(ctx, 1, 0) == 0
    bench.run(testbench)


def test_reach(stage, rng):
    dut = Reach(max_batch=MOST)

    async def testbench(ctx):
        for _ in range(500):
            size = rng.choice([1, 3, 8, 11, 64, 32768])
            slot = rng.choice([0, size - 1, rng.randrange(size)])
            pace, sure = rng.randint(1, MOST), rng.randint(0, MOST)
            for name, value in dict(size=size, slot=slot, pace=pace, sure=sure).items():
                ctx.set(getattr(dut, name), value)
            await ctx.tick().repeat(2)
            assert ctx.get(dut.want) == min(max(pace, sure), size - slot, MOST - slot % MOST)
    stage(dut).run(testbench)
