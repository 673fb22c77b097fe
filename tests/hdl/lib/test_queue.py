"""Queues: order, layout, level; what passes at once."""

import pytest
from amaranth.lib import data

from ringnic.hdl.lib.queue import Buffer, Bypass, Queue

from ...kit import streams
from ...kit.simulation import Simulation
from ...kit.simulator import Simulator

ITEM = data.StructLayout({"a": 3, "b": 5})


def test_errors():
    with pytest.raises(ValueError, match="^Queue depth must be at least 2, not 1$"):
        Queue(8, 1)
    for depth in (1, 3):
        with pytest.raises(ValueError, match=f"^Buffer depth must be a power of 2 of at least 2, not {depth}$"):
            Buffer(8, depth)


@pytest.mark.parametrize("depth", [2, 3, 4, 16, 64, 65])
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


def test_bypass_passes_at_once():
    """An item in each cycle, in the cycle in which it comes, also after some were kept; one that was kept goes first."""
    dut, got = Bypass(ITEM, 4), []

    async def main(ctx):
        for n in range(40):
            offered = n not in range(20, 30)
            ctx.set(dut.i.payload, {"a": n & 7, "b": n & 31})
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.o.ready, n not in range(10, 13))
            assert ctx.get(dut.i.ready)
            if ctx.get(dut.o.valid & dut.o.ready):
                got.append((n, ctx.get(dut.o.payload.b)))
            await ctx.tick()
        assert [item for _, item in got] == [n & 31 for n in range(40) if n not in range(20, 30)]
        assert [n for n, _ in got[:10]] == [*range(10)] and [n for n, _ in got[-10:]] == [*range(30, 40)]
    Simulation(dut).run(main)


def test_bypass_keeps_as_many_as_it_says():
    dut = Bypass(ITEM, 4)

    async def main(ctx):
        ctx.set(dut.i.valid, 1)
        taken = [(await ctx.tick().sample(dut.i.ready))[2] for _ in range(12)]
        assert taken == [1] * 5 + [0] * 7
    Simulation(dut).run(main)


@pytest.mark.parametrize("busy", [0.3, 0.7])
def test_bypass_order(busy, rng):
    """Whatever either side does."""
    dut = Bypass(ITEM, 4)
    items, got = [{"a": rng.randrange(8), "b": rng.randrange(32)} for _ in range(300)], []

    async def give(ctx):
        for item in items:
            await streams.send(ctx, dut.i, item, lambda: rng.random() < 0.4)

    async def take(ctx):
        await streams.collect(ctx, dut.o, lambda p: got.append({"a": p.a, "b": p.b}), lambda: rng.random() < busy)

    async def main(ctx):
        while len(got) < len(items):
            await ctx.tick()
        assert got == items
    simulation = Simulation(dut, limit=5000)
    simulation.background(give)
    simulation.background(take)
    simulation.run(main)


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_buffer(depth):
    """An item in each cycle, in the one after it came; as many are kept as it says."""
    dut, got = Buffer(ITEM, depth), []

    async def main(ctx):
        item = 0
        ctx.set(dut.i.valid, 1)
        for n in range(60):
            ctx.set(dut.i.payload, {"a": item & 7, "b": item & 31})
            ctx.set(dut.o.ready, n < 20 or n >= 40)
            if ctx.get(dut.o.valid & dut.o.ready):
                got.append((n, ctx.get(dut.o.payload.b)))
            assert ctx.get(dut.i.ready) == (n < 20 + depth - 1 or n > 40)
            item += ctx.get(dut.i.ready)
            await ctx.tick()
        assert [item for _, item in got] == [n & 31 for n in range(len(got))]
        assert [n for n, _ in got] == [*range(1, 20), *range(40, 60)]
    Simulation(dut).run(main)
