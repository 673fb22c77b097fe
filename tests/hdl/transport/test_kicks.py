"""Kicks: which writes are notifications, and of which queue."""

import pytest

from ringnic.hdl.transport.kicks import Kicks

from ...kit.simulation import Simulation
from ...kit.streams import pulse

ALIVE = {0, 2}


@pytest.mark.parametrize("notification_data, be, data, queue", [
    (0, 0b0011, 0x0000_0002, 2), (0, 0b1111, 0xffff_0000, 0), (0, 0b0001, 2, None), (0, 0b1100, 2, None),
    (1, 0b1111, 0x8123_0002, 2), (1, 0b0011, 2, None),
    (0, 0b1111, 1, None), (0, 0b1111, 3, None), (0, 0b1111, 0x1000, None),    # not enabled; none; none with the same low bits
])
def test_kicks(notification_data, be, data, queue):
    dut, seen = Kicks(num_queues=3), []

    async def watch(ctx):
        async for _, _, valid, of, upper in ctx.tick().sample(dut.valid, dut.queue, dut.next):
            if valid:
                seen.append((of, upper))

    async def alive(ctx):
        async for _, _, lookup in ctx.tick().sample(dut.lookup):
            ctx.set(dut.alive, lookup in ALIVE)

    async def main(ctx):
        ctx.set(dut.notification_data, notification_data)
        ctx.set(dut.be, be)
        ctx.set(dut.data, data)
        for live in (1, 0):
            ctx.set(dut.live, live)
            await pulse(ctx, dut.write)
            await ctx.tick().repeat(3)
    simulation = Simulation(dut)
    simulation.background(watch)
    simulation.background(alive)
    simulation.run(main)
    assert seen == ([] if queue is None else [(queue, data >> 16)])
