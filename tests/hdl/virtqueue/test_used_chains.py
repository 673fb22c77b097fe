"""The chains of a batch, looked up one after the other, with and without pauses."""

import pytest

from ringnic.hdl.virtqueue.used_chains import UsedChains

BATCH = 8


@pytest.mark.parametrize("first, count", [(0, 1), (0, 8), (5, 3), (6, 5), (7, 1)])
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_round_and_round(stage, rng, first, count, pause):
    """In hand is the one before the one that is looked up; a batch may begin anew in the middle."""
    dut = UsedChains(num_queues=2, batch=BATCH)
    bench, asked = stage(dut, watch_busy=False), []
    port = dut.staging

    async def memory(ctx):
        """The output changes only behind a cycle in which it is to."""
        async for _, _, reads, queue, place in ctx.tick().sample(port.en, port.queue, port.place):
            if reads:
                asked.append((queue, place))
                ctx.set(port.data, {"chain": {"id": 0x100 + place, "count": 1, "writable": 0}, "len": place})
    bench.background(memory)

    async def clock(ctx, **strobes):
        for name, value in strobes.items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        for name in strobes:
            ctx.set(getattr(dut, name), 0)

    async def testbench(ctx):
        ctx.set(dut.i, {"queue": 1, "first": first, "count": count, "parts": 0})
        for rounds in (1, 2 * count, count):
            asked.clear()
            await clock(ctx, restart=1)
            assert ctx.get(dut.left) == count
            await clock(ctx, moves=1)
            for k in range(rounds):
                while rng.random() < pause:
                    before = ctx.get(dut.chain)
                    await clock(ctx)
                    assert ctx.get(dut.chain) == before
                passes = rng.random() < 0.5 and ctx.get(dut.left) != 0
                left = ctx.get(dut.left)
                await clock(ctx, moves=1, passes=passes)
                place = (first + k % count) % BATCH
                assert (ctx.get(dut.chain.chain.id), ctx.get(dut.chain.len)) == (0x100 + place, place)
                assert ctx.get(dut.left) == left - passes
            assert asked == [(1, (first + k % count) % BATCH) for k in range(rounds + 1)]
    bench.run(testbench)
