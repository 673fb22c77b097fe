"""QueueResets: one after the other, each with its steps in order."""

from ringnic.hdl.transport.enabling import SLOTS
from ringnic.hdl.transport.resets import QueueResets

from ...kit.simulation import Simulation, cycles
from ...kit.streams import pulse


def test_resets_take_turns():
    dut, log = QueueResets(num_queues=4), []

    async def watch(ctx):
        async for _, _, queue, begin, withdraw, erasing, slot in ctx.tick().sample(
                dut.current, dut.begin, dut.withdraw, dut.erasing, dut.slot):
            if begin:
                log.append(("begin", queue))
            if withdraw:
                log.append(("withdraw", queue))
            if erasing:
                log.append((slot, queue))

    async def main(ctx):
        for queue in (2, 0, 3):
            ctx.set(dut.queue, queue)
            await pulse(ctx, dut.ask)
        await cycles(ctx, 10)
        for k, queue in enumerate((2, 0, 3)):
            assert log == [("begin", queue)] and ctx.get(dut.resetting)
            await pulse(ctx, dut.done)
            await cycles(ctx, 3)
            assert log[1:] == [("withdraw", queue)] * 3
            await pulse(ctx, dut.withdrawn)
            del log[:]
            await cycles(ctx, 3)
            assert log == []                     # the registers are not free
            ctx.set(dut.free, 1)
            await cycles(ctx, SLOTS)
            ctx.set(dut.free, 0)
            assert log == [(slot, queue) for slot in range(SLOTS)]
            await cycles(ctx, 3)
            del log[:SLOTS]
        assert log == [] and not ctx.get(dut.resetting)
    simulation = Simulation(dut)
    simulation.background(watch)
    simulation.run(main)
