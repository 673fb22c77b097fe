"""QueueStates: which queues work, and what is told of those that do not."""

from ringnic.hdl.virtqueue.states import QueueStates

from ...kit.simulation import Simulation


async def say(ctx, strobe, queue):
    ctx.set(strobe.queue, queue)
    ctx.set(strobe.valid, 1)
    await ctx.tick()
    ctx.set(strobe.valid, 0)


def simulate(main):
    dut, errors = QueueStates(num_queues=4, stages=2), []

    async def watch(ctx):
        async for _, _, error in ctx.tick().sample(dut.error):
            errors.append(error)
    simulation = Simulation(dut)
    simulation.background(watch)

    async def whole(ctx):
        await main(ctx, dut, errors)
    simulation.run(whole)


def test_a_queue_works_until_it_fails():
    async def main(ctx, dut, errors):
        for queue in (1, 2, 3):
            await say(ctx, dut.judged, queue)
        assert ctx.get(dut.working) == ctx.get(dut.serving) == 0b1110
        await say(ctx, dut.fails[1], 2)          # of its ring: what it gave is still handed out
        await ctx.tick().repeat(2)
        assert (ctx.get(dut.working), ctx.get(dut.serving), sum(errors)) == (0b1010, 0b1110, 1)
        await say(ctx, dut.fails[0], 2)          # which is told of once
        ctx.set(dut.halts.queue, 3)
        ctx.set(dut.halts.valid, 1)
        await say(ctx, dut.fails[0], 3)
        ctx.set(dut.halts.valid, 0)
        await ctx.tick().repeat(2)
        assert (ctx.get(dut.working), ctx.get(dut.serving), sum(errors)) == (0b0010, 0b0110, 2)
        await say(ctx, dut.reset, 1)
        await say(ctx, dut.judged, 3)
        assert (ctx.get(dut.working), ctx.get(dut.serving), sum(errors)) == (0b1000, 0b1100, 2)
    simulate(main)


def test_one_that_cannot_work_is_told_of_when_the_driver_is_ready():
    async def main(ctx, dut, errors):
        ctx.set(dut.beyond, 1)
        for queue in (0, 1, 3):
            await say(ctx, dut.judged, queue)
        ctx.set(dut.beyond, 0)
        await say(ctx, dut.reset, 1)             # that one never existed
        await ctx.tick().repeat(3)
        assert not any(errors) and not ctx.get(dut.telling) and ctx.get(dut.working) == 0
        ctx.set(dut.enable, 1)
        await ctx.tick()
        assert ctx.get(dut.telling)
        await ctx.tick().repeat(4)
        assert sum(errors) == 2 and not ctx.get(dut.telling)
    simulate(main)
