"""MsixEvents: what is pending, for as long as one source of a vector waits."""

import pytest

from ringnic.hdl.pcie.msix_events import MsixEvents

from ...kit.simulation import Simulation
from ...kit.streams import pulse


async def say(ctx, dut, vector, source, withdraw=0):
    """Return whether the event was waiting."""
    ctx.set(dut.irq.req.p, {"vector": vector, "source": source, "withdraw": withdraw})
    ctx.set(dut.irq.req.valid, 1)
    await ctx.tick()
    assert ctx.get(dut.updating) and ctx.get(dut.irq.req.ready)
    waited = ctx.get(dut.irq.waited)
    await ctx.tick()
    ctx.set(dut.irq.req.valid, 0)
    return waited


async def take(ctx, dut, vector):
    ctx.set(dut.taken, 1 << vector)
    await ctx.tick()
    ctx.set(dut.taken, 0)


def simulate(main):
    dut = MsixEvents(vectors=3, sources=4)

    async def whole(ctx):
        await main(ctx, dut)
    Simulation(dut).run(whole)


def test_pending():
    async def main(ctx, dut):
        assert not await say(ctx, dut, 1, 0) and ctx.get(dut.pending) == 0b010
        assert await say(ctx, dut, 1, 0)                            # again
        assert not await say(ctx, dut, 2, 0) and ctx.get(dut.pending) == 0b110
        await take(ctx, dut, 1)
        assert ctx.get(dut.pending) == 0b100                        # those of others stay
        assert not await say(ctx, dut, 1, 1) and ctx.get(dut.pending) == 0b110
        assert not await say(ctx, dut, 1, 0, withdraw=1)            # which went with the message
        assert ctx.get(dut.pending) == 0b110
        await pulse(ctx, dut.reset)
        assert ctx.get(dut.pending) == 0
        assert not await say(ctx, dut, 2, 1)
        assert not await say(ctx, dut, 2, 0, withdraw=1) and ctx.get(dut.pending) == 0b100
    simulate(main)


def test_only_the_withdrawal_of_the_last_source_counts():
    async def main(ctx, dut):
        for source in (0, 3):
            await say(ctx, dut, 0, source)
        assert await say(ctx, dut, 0, 3, withdraw=1) and ctx.get(dut.pending) == 0b001
        assert not await say(ctx, dut, 0, 3, withdraw=1) and ctx.get(dut.pending) == 0b001
        assert await say(ctx, dut, 0, 0, withdraw=1) and ctx.get(dut.pending) == 0
    simulate(main)


@pytest.mark.parametrize("withdraw", [0, 1])
def test_a_vector_that_does_not_exist(withdraw):
    async def main(ctx, dut):
        await say(ctx, dut, 3, 1)
        await say(ctx, dut, 0, 1)
        assert not await say(ctx, dut, 3, 1, withdraw) and ctx.get(dut.pending) == 0b001
        assert not await say(ctx, dut, 4, 1, withdraw) and ctx.get(dut.pending) == 0b001
    simulate(main)
