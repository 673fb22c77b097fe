"""Queue: order, layout, level."""

import pytest
from amaranth.lib import data

from ringnic.hdl.lib.queue import Queue

from ...kit.simulator import Simulator

ITEM = data.StructLayout({"a": 3, "b": 5})


def test_errors():
    with pytest.raises(ValueError, match="^Queue depth must be at least 2, not 1$"):
        Queue(8, 1)


@pytest.mark.parametrize("depth", [2, 3, 4, 16, 64])
def test_order_and_level(depth, rng):
    dut = Queue(ITEM, depth)
    items = [{"a": rng.randrange(8), "b": rng.randrange(32)} for _ in range(200)]
    got, state = [], {"sent": 0}

    async def feed(ctx):
        for item in items:
            while rng.random() < 0.3:
                await ctx.tick()
            ctx.set(dut.i.p, item)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            state["sent"] += 1
            ctx.set(dut.i.valid, 0)

    async def collect(ctx):
        for n in range(5000):
            before = state["sent"]
            ctx.set(dut.o.ready, n > 3 * depth and rng.random() < 0.6)
            _, _, taken, a, b, level = await ctx.tick().sample(
                dut.o.valid & dut.o.ready, dut.o.p.a, dut.o.p.b, dut.level)
            assert level <= depth
            if n == 3 * depth - 1 and before >= depth:
                assert level == depth
            if taken:
                got.append({"a": a, "b": b})
            if len(got) == len(items):
                break
        assert got == items

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(feed)
    sim.add_testbench(collect)
    sim.run()
