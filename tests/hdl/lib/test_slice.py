"""Slice, Register and Skid: order, layout, one item a cycle, and which paths lead through them."""

import pytest
from amaranth.lib import data

from ringnic.hdl.lib.slice import Register, Skid, Slice

from ...kit.simulator import Simulator

ITEM = data.StructLayout({"a": 3, "b": 5})


@pytest.mark.parametrize("make, latency", [(Slice, 1), (Register, 1), (Skid, 0)])
@pytest.mark.parametrize("idle", [0, .3])
@pytest.mark.parametrize("wait", [0, .3])
def test_order_and_rate(make, latency, idle, wait, rng):
    dut = make(ITEM)
    items = [{"a": rng.randrange(8), "b": rng.randrange(32)} for _ in range(200)]
    got, cycles = [], 0

    async def feed(ctx):
        for item in items:
            while rng.random() < idle:
                await ctx.tick()
            ctx.set(dut.i.p, item)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.i.p, {"a": 0, "b": 0})

    async def collect(ctx):
        nonlocal cycles
        offered = None
        while len(got) < len(items):
            ctx.set(dut.o.ready, rng.random() >= wait)
            _, _, valid, ready, a, b = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.p.a, dut.o.p.b)
            cycles += 1
            if offered is not None:
                assert valid and offered == {"a": a, "b": b}
            offered = {"a": a, "b": b} if valid and not ready else None
            if valid and ready:
                got.append({"a": a, "b": b})
        assert got == items

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(feed)
    sim.add_testbench(collect)
    sim.run()
    if not idle and not wait:
        assert cycles == len(items) + latency


def test_no_path_through():
    dut = Slice(8)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        assert not ctx.get(dut.o.valid) and ctx.get(dut.i.ready)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.o.valid) and not ctx.get(dut.i.ready)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.o.valid) and ctx.get(dut.i.ready)

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()


def test_a_register_is_free_when_its_item_leaves():
    dut = Register(8)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        assert not ctx.get(dut.o.valid) and ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.o.valid) and not ctx.get(dut.i.ready)
        ctx.set(dut.o.ready, 1)
        assert ctx.get(dut.i.ready)

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()


def test_an_item_that_is_not_wanted_is_kept():
    dut = Skid(8)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.p, 5)
        assert ctx.get(dut.o.valid) and ctx.get(dut.i.ready)
        await ctx.tick()
        ctx.set(dut.i.p, 6)
        assert ctx.get(dut.o.p) == 5 and not ctx.get(dut.i.ready)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.o.p) == 6 and ctx.get(dut.i.ready)

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()
