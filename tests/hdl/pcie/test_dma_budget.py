"""How much may be asked for at a time; that it is never too much is proved in tests/formal/test_budget.py."""

import pytest

from ringnic.hdl.pcie.dma_budget import CompletionBudget

from ...kit import streams
from ...kit.simulation import Simulation


def issued(reads, *, headers=72, tags=128):
    """How many of ``reads``, pairs of address bits and length, are issued before the first is answered."""
    dut, count = CompletionBudget(tags=tags, slot_bytes=512, headers=headers), 0

    async def main(ctx):
        nonlocal count
        for tag, (offset, length) in enumerate(reads):
            await ctx.tick().repeat(3)
            if not ctx.get(dut.ready):
                break
            for name, value in (("tag", tag), ("offset", offset), ("length", length), ("issue", 1)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            ctx.set(dut.issue, 0)
            count += 1
    Simulation(dut).run(main)
    return count


def test_constructor():
    with pytest.raises(ValueError, match="^Number of completion headers must be at least 9, not 8$"):
        CompletionBudget(tags=8, slot_bytes=512, headers=8)


@pytest.mark.parametrize("offset, length, most", [
    (0, 512, 8), (60, 512, 8),   # eight of the largest, wherever they begin: of 8 or 9 completions each
    (0, 64, 64), (32, 64, 32),   # of one or two; room for a largest read is kept
    (63, 1, 64), (63, 2, 32), (4, 16, 64)])
def test_reads_in_flight(offset, length, most):
    assert issued([(offset, length)] * 100) == most


@pytest.mark.parametrize("late", [False, True])
def test_what_ends_makes_room(late):
    """A read that was given up makes room only when nothing of it can come any more."""
    dut = CompletionBudget(tags=8, slot_bytes=512, headers=9)

    async def main(ctx):
        await ctx.tick().repeat(3)
        assert ctx.get(dut.ready)
        ctx.set(dut.length, 64)
        ctx.set(dut.tag, 5)
        await streams.pulse(ctx, dut.issue)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.ready)
        ctx.set(dut.ended_tag, 5)
        ctx.set(dut.late, late)
        await streams.pulse(ctx, dut.ended)
        for _ in range(10):
            await ctx.tick()
            assert not late or not ctx.get(dut.ready)
        if late:
            await streams.pulse(ctx, dut.gone)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.ready)
    Simulation(dut).run(main)
