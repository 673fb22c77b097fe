"""BarTransfer: a register after the other, by the byte enables of the request."""

import pytest

from ringnic.hdl.pcie.bar_transfer import BarTransfer

from ...kit import registers
from ...kit.simulation import Simulation
from ...kit.streams import never, pulse

BEGIN = 5


def simulate(main, length, first_be, last_be, idle=never):
    dut, log = BarTransfer(), []
    memory = {4 * k: 0x1000_0000 + k for k in range(128)}

    async def whole(ctx):
        ctx.set(dut.begin, BEGIN)
        ctx.set(dut.length, length)
        ctx.set(dut.first_be, first_be)
        ctx.set(dut.last_be, last_be)
        await pulse(ctx, dut.load)
        await main(ctx, dut, log)
    simulation = Simulation(dut)
    simulation.background(registers.serve, dut.regs, memory, idle, lambda req: log.append((req.addr, req.write, req.be)))
    simulation.run(whole)


async def reads(ctx, dut):
    found = []
    ctx.set(dut.read, 1)
    done = False
    while not done:
        _, _, put, data, done = await ctx.tick().sample(dut.put, dut.data, dut.done)
        found += [data] * put
    ctx.set(dut.read, 0)
    return found


@pytest.mark.parametrize("length, bes", [
    (1, [0b0110]), (1, [0]), (2, [0b1000, 0b0001]), (4, [0b1110, 0xf, 0xf, 0b0011]), (3, [0, 0xf, 0b0001])])
def test_bytes(length, bes, rng):
    async def main(ctx, dut, log):
        assert ctx.get(dut.word) == BEGIN and ctx.get(dut.remaining) == length
        assert await reads(ctx, dut) == [0x1000_0000 + BEGIN + k if be else 0 for k, be in enumerate(bes)]
        assert log == [(4 * (BEGIN + k), 0, be) for k, be in enumerate(bes) if be]
        assert ctx.get(dut.remaining) == 0
    simulate(main, length, bes[0], bes[-1] if length > 1 else 0, lambda: rng.random() < 0.3)


def test_reads_pause_where_completions_are_split():
    async def main(ctx, dut, log):
        for size in (32 - BEGIN, 32, 3):
            assert len(await reads(ctx, dut)) == size
        assert ctx.get(dut.remaining) == 0
    simulate(main, 67 - BEGIN, 0xf, 0xf)


def test_write():
    async def main(ctx, dut, log):
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(3)
        assert not log and not ctx.get(dut.i.ready)
        ctx.set(dut.write, 1)
        done, k = False, 0
        while not done:
            ctx.set(dut.i.p, {"dw": k, "last": k == 2})
            _, _, ready, done = await ctx.tick().sample(dut.i.ready, dut.done)
            k += ready
        ctx.set(dut.write, 0)
        assert log == [(4 * (BEGIN + k), 1, be) for k, be in enumerate((0b1000, 0xf, 0b0111))] and k == 3
    simulate(main, 3, 0b1000, 0b0111)
