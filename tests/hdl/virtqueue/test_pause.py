"""Pause: a pause ends when nothing moves any more."""

from ringnic.hdl.virtqueue.pause import QUIET_CYCLES, Pause

from ...kit.simulation import Simulation
from ...kit.streams import pulse


def test_pause():
    dut = Pause()

    async def ended(ctx):
        """Cycles until it is done."""
        count = 0
        while not ctx.get(dut.done):
            assert ctx.get(dut.pausing)
            await ctx.tick()
            count += 1
        await ctx.tick()
        assert not ctx.get(dut.pausing) and not ctx.get(dut.done)
        return count

    async def main(ctx):
        await ctx.tick().repeat(10)
        assert not ctx.get(dut.pausing) and not ctx.get(dut.done)
        await pulse(ctx, dut.begin)
        assert await ended(ctx) == QUIET_CYCLES
        ctx.set(dut.moving, 1)
        await pulse(ctx, dut.begin)
        await ctx.tick().repeat(30)
        assert ctx.get(dut.pausing) and not ctx.get(dut.done)
        ctx.set(dut.moving, 0)
        await ctx.tick().repeat(QUIET_CYCLES - 1)
        await pulse(ctx, dut.moving)             # a stage had it in its hands
        assert await ended(ctx) == QUIET_CYCLES
    Simulation(dut).run(main)
