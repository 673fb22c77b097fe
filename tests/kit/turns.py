"""What tests of turns do with them."""

from .streams import pulse

__all__ = ["Turns", "go_round"]


class Turns:
    """Strobes for a queue, and what the turns say of it."""
    def __init__(self, dut):
        self.dut = dut

    async def strobe(self, ctx, name, queue, **also):
        dut = self.dut
        ctx.set(getattr(dut, f"{name}_queue"), queue)
        for other, value in also.items():
            ctx.set(getattr(dut, other), value)
        await pulse(ctx, getattr(dut, f"{name}_valid"))
        for other in also:
            ctx.set(getattr(dut, other), 0)

    async def act(self, ctx, queue, *names):
        ctx.set(self.dut.queue, queue)
        for name in names:
            ctx.set(getattr(self.dut, name), 1)
        await ctx.tick()
        for name in names:
            ctx.set(getattr(self.dut, name), 0)

    def of(self, ctx, queue, name):
        ctx.set(self.dut.queue, queue)
        return ctx.get(getattr(self.dut, name))


def go_round(stage, dut, last):
    """The choice is the first queue behind ``last``, and none that is stopped. ``dut``: turns of 4 queues."""
    turns = Turns(dut)

    async def testbench(ctx):
        assert not ctx.get(dut.any)
        for queue in (0, 1, 3):
            await turns.strobe(ctx, "setup", queue)
        for before, after in ((0, 1), (1, 3), (2, 3), (3, 0)):
            ctx.set(last, before)
            assert ctx.get(dut.any) and ctx.get(dut.choice) == after
        ctx.set(dut.stopped, 0b1011)
        assert not ctx.get(dut.any)
    stage(dut, watch_busy=False).run(testbench)
