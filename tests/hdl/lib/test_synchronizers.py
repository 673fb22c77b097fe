"""Synchronizers as they are written for Vivado."""

import re

from amaranth import *
from amaranth.back import verilog
from amaranth.lib.cdc import AsyncFFSynchronizer, FFSynchronizer, ResetSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.sim import Simulator
import pytest

from ringnic.hdl.lib.synchronizers import MarkedSynchronizers

# The last register of a chain is the output of its module, and has its mark there.
BITS = r"(?:\[\d+:0\] )?"
REGISTERS = re.compile(rf'(\(\* ASYNC_REG = "TRUE" \*\)\n  (?:output {BITS}stage\d+;\n  )?)?reg {BITS}(stage\d+)')


def made(platform):
    m, i, o, lost, late = Module(), Signal(3), Signal(3), Signal(), Signal()
    domains = ClockDomain("sync"), ClockDomain("other")
    m.domains += domains
    m.submodules.level = FFSynchronizer(i, o, o_domain="other", stages=4, init=5)
    m.submodules.reset = ResetSynchronizer(lost, domain="other")
    m.submodules.fifo = fifo = AsyncFIFO(width=8, depth=4, w_domain="sync", r_domain="other")
    m.d.other += late.eq(fifo.r_rdy ^ o.any())
    clocks = [domain.clk for domain in domains]
    return verilog.convert(m, platform=platform, emit_src=False, ports=[i, o, lost, late, fifo.w_en, *clocks])


def test_all_are_marked():
    found = REGISTERS.findall(made(MarkedSynchronizers()))
    assert len(found) >= 10 and all(mark for mark, _ in found)
    assert sorted(name for _, name in found) == sorted(name for _, name in REGISTERS.findall(made(None)))


@pytest.mark.parametrize("make", [
    lambda i, o: FFSynchronizer(i, o, stages=3, init=1), lambda i, o: AsyncFFSynchronizer(i, o),
    lambda i, o: AsyncFFSynchronizer(i, o, async_edge="neg", stages=3)])
def test_they_do_the_same(make, rng):
    m, i, plain, marked = Module(), Signal(), Signal(), Signal()
    m.submodules.plain = make(i, plain).elaborate(None)
    m.submodules.marked = make(i, marked).elaborate(MarkedSynchronizers())
    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    seen = set()

    async def bench(ctx):
        for _ in range(300):
            ctx.set(i, rng.random() < 0.5)
            await ctx.delay(rng.uniform(1e-9, 3e-8))
            assert ctx.get(marked) == ctx.get(plain)
            seen.add(ctx.get(marked))
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == {0, 1}
