"""Balance: who waits, for whom, and for how long."""

import pytest

from ringnic.hdl.net.balance import CLAIM, Balance

from ...kit.simulation import Simulation

LIMIT, PATIENCE = 1024, 400


def run(bench):
    dut = Balance(limit=LIMIT, patience=PATIENCE)

    async def main(ctx):
        await bench(ctx, dut)
    Simulation(dut, limit=20000, watch_busy=False).run(main)


async def cycle(ctx, dut, asked=None, length=0):
    """A cycle in which one way asks for a transfer, or none does."""
    for k in range(2):
        ctx.set(dut.asked[k], k == asked)
        ctx.set(dut.length[k], length)
    await ctx.tick()
    ctx.set(dut.asked[0], 0)
    ctx.set(dut.asked[1], 0)


@pytest.mark.parametrize("first", [0, 1])
def test_the_way_that_is_ahead_waits_while_the_other_wants(first):
    other = 1 - first

    async def bench(ctx, dut):
        ctx.set(dut.wants[other], 1)
        for _ in range(LIMIT // 64 - 1):
            await cycle(ctx, dut, first, 64)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.hold[first])
        await cycle(ctx, dut, first, 64)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.hold[first]) and not ctx.get(dut.hold[other])
        ctx.set(dut.wants[other], 0)
        await ctx.tick()
        assert not ctx.get(dut.hold[first])
        ctx.set(dut.wants[other], 1)
        await cycle(ctx, dut, other, 1)
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.hold[first])
    run(bench)


@pytest.mark.parametrize("first", [0, 1])
def test_what_was_not_used_cannot_be_asked_for_later(first):
    """However long one way was alone, it waits for no more than the other may claim."""
    other = 1 - first

    async def bench(ctx, dut):
        for _ in range(50):
            await cycle(ctx, dut, first, 9000)
        ctx.set(dut.wants[other], 1)
        for _ in range((CLAIM - 1) * LIMIT // 64):
            await ctx.tick().repeat(3)
            assert ctx.get(dut.hold[first])
            await cycle(ctx, dut, other, 64)
        await cycle(ctx, dut, other, 64)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.hold[first])
    run(bench)


@pytest.mark.parametrize("first", [0, 1])
def test_nobody_is_held_for_a_way_that_gets_nothing(first):
    """A read that the host does not answer does not stop what is received."""
    other = 1 - first

    async def bench(ctx, dut):
        ctx.set(dut.wants[other], 1)
        for _ in range(CLAIM):
            await cycle(ctx, dut, first, LIMIT)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.hold[first])
        await ctx.tick().repeat(PATIENCE)
        assert not ctx.get(dut.hold[first])
        await cycle(ctx, dut, other, 64)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.hold[first])
    run(bench)


def test_equal_bytes_for_ways_that_always_want(rng):
    """Transfers of all lengths: neither is ahead by more than the limit and three transfers."""
    async def bench(ctx, dut):
        moved = [0, 0]
        for k in range(2):
            ctx.set(dut.wants[k], 1)
        for _ in range(3000):
            held = [ctx.get(dut.hold[k]) for k in range(2)]
            assert not all(held)
            asked = rng.choice([k for k in range(2) if not held[k]] if rng.random() < .9 else [None])
            length = rng.choice([60, 1514]) if asked == 0 else rng.randrange(1, 300)
            await cycle(ctx, dut, asked, length)
            if asked is not None:
                moved[asked] += length
            assert abs(moved[0] - moved[1]) <= LIMIT + 3 * 1514
        assert min(moved) > 100_000
    run(bench)


@pytest.mark.parametrize("limit", [0, 1, 1000])
def test_constructor(limit):
    with pytest.raises(ValueError, match=f"not {limit}"):
        Balance(limit=limit)
