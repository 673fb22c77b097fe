"""Answer: status and byte counts, completion after completion."""

import pytest

from ringnic.hdl.pcie.answer import Answer
from ringnic.hdl.pcie.request_judge import Action
from ringnic.hdl.spec.pcie import CplStatus

from ...kit.simulation import Simulation


def simulate(main):
    dut = Answer()

    async def judged(ctx, **verdict):
        for name, value in verdict.items():
            ctx.set(getattr(dut.verdict, name), value)
        ctx.set(dut.now, 1)
        await ctx.tick()
        ctx.set(dut.now, 0)
        return ctx.get(dut.says)

    async def whole(ctx):
        await main(ctx, dut, judged)
    Simulation(dut).run(whole)


@pytest.mark.parametrize("lead, trail", [(0, 0), (1, 2), (3, 0)])
def test_a_read_in_parts(lead, trail):
    async def main(ctx, dut, judged):
        ctx.set(dut.completer_id, 0x0208)
        ctx.set(dut.word, 30)
        ctx.set(dut.remaining, 10)
        says = await judged(ctx, action=Action.READ, is_read=1, lead=lead, trail=trail)
        assert (says.status, says.byte_count, says.lower_address) == (CplStatus.SC, 40 - lead - trail, 120 + lead)
        assert says.completer_id == 0x0208 and not ctx.get(dut.due)
        ctx.set(dut.word, 32)
        ctx.set(dut.remaining, 8)
        assert ctx.get(dut.more)
        ctx.set(dut.sent, 1)
        await ctx.tick()
        ctx.set(dut.sent, 0)
        says = ctx.get(dut.says)
        assert (says.byte_count, says.lower_address) == (32 - trail, 0)
        ctx.set(dut.remaining, 0)
        assert not ctx.get(dut.more)
    simulate(main)


def test_refusals():
    async def main(ctx, dut, judged):
        ctx.set(dut.remaining, 2)
        ctx.set(dut.word, 3)
        says = await judged(ctx, action=Action.REFUSE, is_read=1, locked=1)
        assert (says.status, says.byte_count, says.locked) == (CplStatus.UR, 8, 1) and ctx.get(dut.due)
        assert not ctx.get(dut.more)
        for raw, count in ((0, 8), (2, 4)):            # CAS brings two operands; the type is in the lowest bits
            ctx.set(dut.raw, raw)
            says = await judged(ctx, is_read=0, locked=0, is_atomic=1, lead=3)
            assert (says.byte_count, says.lower_address) == (count, 0)
        says = await judged(ctx, action=Action.CONFIG, is_atomic=0)
        assert (says.status, says.byte_count, says.lower_address) == (CplStatus.SC, 4, 0) and not ctx.get(dut.due)
        assert not ctx.get(dut.more)
    simulate(main)
