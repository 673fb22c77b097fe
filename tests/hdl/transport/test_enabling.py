"""Enabling: the registers of a queue become its set-up."""

from ringnic.hdl.transport.enabling import ADDRESS_WORDS, SIZE_WORD, SLOTS, Enabling

from ...kit.simulation import Simulation
from ...kit.streams import pulse


def test_enabling(rng):
    dut = Enabling()
    registers = [rng.randrange(1 << 32) for _ in range(SLOTS)]
    addresses = [registers[word % SLOTS] for word in ADDRESS_WORDS]

    async def memory(ctx):
        async for _, _, slot in ctx.tick().sample(dut.slot):
            ctx.set(dut.data, registers[slot])

    async def main(ctx):
        ctx.set(dut.queue, 7)
        for _ in range(2):
            assert not ctx.get(dut.busy)
            await pulse(ctx, dut.start)
            count = 1
            while not ctx.get(dut.done):
                assert ctx.get(dut.busy)
                await ctx.tick()
                count += 1
            setup = ctx.get(dut.setup)
            assert count == 10
            assert (setup.queue, setup.size) == (7, registers[SIZE_WORD % SLOTS] & 0xffff)
            assert [setup.queue_desc, setup.queue_driver, setup.queue_device] == [
                low | high << 32 for low, high in zip(addresses[::2], addresses[1::2])]
            await ctx.tick()
    simulation = Simulation(dut, watch_busy=False)
    simulation.background(memory)
    simulation.run(main)
