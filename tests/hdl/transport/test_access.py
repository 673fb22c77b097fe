"""Access: what is accessed when, and what is not in a reset."""

import pytest

from ringnic.hdl.transport.access import Access

from ...kit import registers
from ...kit.simulation import Simulation


def simulate(main, *, moves=0, value=0):
    dut = Access()
    seen = {name: [] for name in ("write", "read", "chosen", "withdraw")}
    cycle = 0

    async def watch(ctx):
        nonlocal cycle
        async for _, _, *strobes in ctx.tick().sample(*(getattr(dut, name) for name in seen)):
            cycle += 1
            for found, strobe in zip(seen.values(), strobes):
                found += [cycle] * strobe

    async def whole(ctx):
        ctx.set(dut.settled, 1)
        ctx.set(dut.value, value)
        ctx.set(dut.moves, moves)
        await main(ctx, dut, seen)
    simulation = Simulation(dut)
    simulation.background(watch)
    simulation.run(whole)


def test_read():
    async def main(ctx, dut, seen):
        ctx.set(dut.regs.resp.ready, 1)
        assert await registers.read(ctx, dut.regs, 0x14, 3) == 0x1234
        assert ctx.get(dut.current.addr) == 0x14 and ctx.get(dut.current.be) == 3
        (read,), (chosen,) = seen["read"], seen["chosen"]
        assert chosen - read == 2 and not seen["write"]
    simulate(main, moves=1, value=0x1234)


@pytest.mark.parametrize("name", [None, "reset_pending"])
def test_write(name):
    async def main(ctx, dut, seen):
        if name:
            ctx.set(getattr(dut, name), 1)
        ctx.set(dut.settled, 0)
        await registers.write(ctx, dut.regs, 0x20, 5)
        await ctx.tick().repeat(10)
        assert len(seen["write"]) == (name is None) and not seen["withdraw"] and ctx.get(dut.busy)
        ctx.set(dut.settled, 1)
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.busy)
    simulate(main)


@pytest.mark.parametrize("clears", [False, True])
def test_a_vector_moves_when_no_interrupt_is_pending(clears):
    async def main(ctx, dut, seen):
        await registers.write(ctx, dut.regs, 0x20, 5)
        await ctx.tick().repeat(10)
        assert not seen["write"] and ctx.get(dut.withdraw)
        ctx.set(dut.clearing if clears else dut.withdrawn, 1)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.withdraw) and not ctx.get(dut.busy)
        assert len(seen["write"]) == (not clears)
        assert ctx.get(dut.regs.req.ready) != clears
    simulate(main, moves=1)
