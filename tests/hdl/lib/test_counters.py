"""Counters: every strobe counts, both halves of a value can be read."""

import gc
import random

import pytest
from amaranth.hdl import ResetInserter, Signal

from ringnic.hdl.lib import counters
from ringnic.hdl.lib.counters import Counters

from ...kit.simulator import Simulator


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_errors():
    with pytest.raises(ValueError, match=r"^Counters need distinct names, at least one, not \[\]$"):
        Counters([])
    with pytest.raises(ValueError, match=r"^Counters need distinct names, at least one, not \['a', 'a'\]$"):
        Counters(["a", "a"])
    with pytest.raises(ValueError, match="^Counters must fit one 4 KiB page, and 511 do not$"):
        Counters([f"c{k}" for k in range(511)])
    with pytest.raises(ValueError, match="^Counters must fit one 4 KiB page, and 502 do not$"):
        Counters([f"c{k}" for k in range(502)], tail=17)
    with pytest.raises(ValueError, match="^Build id must have 32 bits, not -1$"):
        Counters(["a"], build_id=-1)
    with pytest.raises(ValueError, match="^Controls must fit one DW, and 33 do not$"):
        Counters(["a"], controls=[f"c{k}" for k in range(33)])
    gc.collect()  # what failed to be built is never elaborated: let go of it where that is no warning


async def read(ctx, port, addr):
    ctx.set(port.req.payload, {"addr": addr, "write": 0, "be": 0xf, "data": 0})
    ctx.set(port.req.valid, 1)
    await ctx.tick().until(port.req.ready)
    ctx.set(port.req.valid, 0)
    ctx.set(port.resp.ready, 1)
    value, = await ctx.tick().sample(port.resp.payload).until(port.resp.valid)
    ctx.set(port.resp.ready, 0)
    return value


async def write(ctx, port, addr, value, be=0xf):
    ctx.set(port.req.payload, {"addr": addr, "write": 1, "be": be, "data": value})
    ctx.set(port.req.valid, 1)
    await ctx.tick().until(port.req.ready)
    ctx.set(port.req.valid, 0)


def simulate(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)

    async def watchdog(ctx):
        for _ in range(50000):
            await ctx.tick()
        raise TimeoutError
    sim.add_testbench(watchdog, background=True)
    sim.run()


@pytest.mark.parametrize("count", [1, 2, 5, 21])
def test_counts_every_strobe(count):
    names = [f"c{k}" for k in range(count)]
    dut = Counters(names, build_id=0xdeadbeef)
    base = 0x6000

    async def bench(ctx):
        rng = random.Random(count)
        assert [await read(ctx, dut.regs, base + 4 * k) for k in range(4)] == [0x43494e52, count, 0xdeadbeef, 0]
        total = [0] * count
        for cycle in range(1500):
            # Counter 0 has an event in every cycle, the others at their own rates.
            strobes = [k == 0 or rng.random() < 1 / k for k in range(count)]
            total = [a + b for a, b in zip(total, strobes)]
            ctx.set(dut.events, {name: int(strobe) for name, strobe in zip(names, strobes)})
            await ctx.tick()
        ctx.set(dut.events, {name: 0 for name in names})
        for _ in range(4 * count + 4):
            await ctx.tick()
        await write(ctx, dut.regs, base + 16, 0x12345678)
        await write(ctx, dut.regs, base + 12, 0x12345678)
        assert await read(ctx, dut.regs, base + 12) == 0   # there is nothing to control
        for k in range(count):
            assert await read(ctx, dut.regs, base + 16 + 8 * k) == total[k]
            assert await read(ctx, dut.regs, base + 20 + 8 * k) == 0
        assert await read(ctx, dut.regs, base + 16 + 8 * count) == 0
        assert await read(ctx, dut.regs, base + 0xffc) == 0

    simulate(dut, bench)


@pytest.mark.parametrize("count", [1, 3, 15, 31, 63])
def test_counts_events_of_all_kinds_in_every_cycle(count):
    names = [f"c{k}" for k in range(count)]
    dut = Counters(names)

    async def bench(ctx):
        ctx.set(dut.events, {name: 1 for name in names})
        await ctx.tick().repeat(3000)
        ctx.set(dut.events, {name: 0 for name in names})
        await ctx.tick().repeat(4 * count + 8)
        assert [await read(ctx, dut.regs, 0x6010 + 8 * k) for k in range(count)] == [3000] * count

    simulate(dut, bench)


def test_domain_reset_clears():
    reset = Signal()
    dut = Counters(["a", "b"])

    async def bench(ctx):
        ctx.set(dut.events, {"a": 1, "b": 1})
        for _ in range(100):
            await ctx.tick()
        ctx.set(dut.events, {"a": 0, "b": 0})
        assert await read(ctx, dut.regs, 0x6010) > 80
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert [await read(ctx, dut.regs, 0x6010 + 4 * k) for k in range(4)] == [0, 0, 0, 0]

    simulate(ResetInserter(reset)(dut), bench)


def test_counts_beyond_32_bits_and_clears_them(monkeypatch):
    made = []

    class Reached(counters.Memory):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)
    monkeypatch.setattr(counters, "Memory", Reached)
    reset = Signal()
    dut = Counters(["a", "b"])

    async def count_from(ctx, low):
        while ctx.get(made[0].data[4]) != low:       # the scanner may be about to write what it has read
            ctx.set(made[0].data[4], low)
            await ctx.tick().repeat(9)
        ctx.set(dut.events, {"a": 1, "b": 0})
        await ctx.tick()
        ctx.set(dut.events, {"a": 0, "b": 0})
        await ctx.tick().repeat(20)
        return [await read(ctx, dut.regs, 0x6010 + 4 * k) for k in range(4)]

    async def bench(ctx):
        await ctx.tick().repeat(20)
        assert await count_from(ctx, 0x7fff_ffff) == [0x8000_0000, 0, 0, 0]
        assert await count_from(ctx, 0xffff_ffff) == [0, 1, 0, 0]
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert [await read(ctx, dut.regs, 0x6010 + 4 * k) for k in range(4)] == [0, 0, 0, 0]

    simulate(ResetInserter(reset)(dut), bench)


def test_controls():
    reset = Signal()
    dut = Counters(["a"], build_id=5, controls=["one", "two", "three"])

    def controls(ctx):
        return [ctx.get(dut.controls[name]) for name in ("one", "two", "three")]

    async def bench(ctx):
        assert controls(ctx) == [0, 0, 0] and await read(ctx, dut.regs, 0x600c) == 0
        await write(ctx, dut.regs, 0x600c, 0xffff_fffe)
        assert controls(ctx) == [0, 1, 1]
        assert [await read(ctx, dut.regs, 0x6000 + 4 * k) for k in range(4)] == [0x43494e52, 1, 5, 6]
        for be in range(15):                               # a part of it is no command
            await write(ctx, dut.regs, 0x600c, 1, be)
        for addr in (0x6000, 0x6004, 0x6008, 0x6010, 0x608c):
            await write(ctx, dut.regs, addr, 1)
        assert controls(ctx) == [0, 1, 1]
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        assert controls(ctx) == [0, 0, 0] and await read(ctx, dut.regs, 0x600c) == 0
        await write(ctx, dut.regs, 0x600c, 1)
        assert controls(ctx) == [1, 0, 0]
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert controls(ctx) == [0, 0, 0]

    simulate(ResetInserter(reset)(dut), bench)


@pytest.mark.parametrize("tail", [2, 18])
def test_tail(tail):
    """The end of the page comes from elsewhere, the DW before it does not."""
    dut = Counters(["a"], build_id=5, controls=["one"], tail=tail)
    last = (1 << len(dut.tail.word)) - 1

    async def elsewhere(ctx):
        async for word in ctx.changed(dut.tail.word):
            ctx.set(dut.tail.value, 0xabcd_0000 | word[0])

    async def bench(ctx):
        found = [await read(ctx, dut.regs, 0x7000 - 4 * (at + 1)) for at in range(tail + 2)]
        assert found == [*(0xabcd_0000 | last - at for at in range(tail)), 0, 0]
        assert [await read(ctx, dut.regs, 0x6000 + 4 * at) for at in range(6)] == [0x43494e52, 1, 5, 0, 0, 0]
        await write(ctx, dut.regs, 0x6ffc, 1)
        assert await read(ctx, dut.regs, 0x600c) == 0

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(elsewhere, background=True)
    sim.add_testbench(bench)
    sim.run()
