"""Register bus: who is asked, who answers, what nobody answers."""

import gc
import random

import pytest

from ringnic.hdl.lib.regbus import RegArbiter, RegDecoder, RegGuard

from ...kit.simulation import Simulation
from ...kit.simulator import Simulator


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_errors():
    with pytest.raises(ValueError, match="^Address width must be more than 12 bits, not 12$"):
        RegDecoder(12, {0: 0})
    with pytest.raises(ValueError, match="^Page 8 is outside an address of 15 bits$"):
        RegDecoder(15, {8: 0})
    with pytest.raises(ValueError, match="^Number of initiators must be at least 1, not 0$"):
        RegArbiter(15, 0)
    gc.collect()  # what failed to be built is never elaborated: let go of it where that is no warning


async def access(ctx, port, addr, write=None, be=0xf):
    ctx.set(port.req.payload, {"addr": addr, "write": write is not None, "be": be, "data": write or 0})
    ctx.set(port.req.valid, 1)
    await ctx.tick().until(port.req.ready)
    ctx.set(port.req.valid, 0)
    if write is None:
        ctx.set(port.resp.ready, 1)
        value, = await ctx.tick().sample(port.resp.payload).until(port.resp.valid)
        ctx.set(port.resp.ready, 0)
        return value


def target(port, memory, seed):
    """A memory behind a register port, slow at random."""
    rng = random.Random(seed)

    async def process(ctx):
        answers = []
        while True:
            ready = rng.random() < .5
            valid = bool(answers) and rng.random() < .5
            ctx.set(port.req.ready, ready)
            ctx.set(port.resp.valid, valid)
            while True:
                if answers:
                    ctx.set(port.resp.payload, answers[0])
                _, _, req_valid, req, taken = await ctx.tick().sample(
                    port.req.valid, port.req.payload, port.resp.ready)
                if ready and req_valid:
                    if req.write:
                        memory[int(req.addr)] = int(req.data)
                    else:
                        answers.append(memory.get(int(req.addr), 0))
                    ready = False
                    ctx.set(port.req.ready, 0)
                if valid and not taken:
                    continue
                if valid:
                    answers.pop(0)
                break
    return process


def simulate(dut, *benches, background):
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    for process in background:
        sim.add_testbench(process, background=True)
    for bench in benches:
        sim.add_testbench(bench)

    async def watchdog(ctx):
        for _ in range(20000):
            await ctx.tick()
        raise TimeoutError
    sim.add_testbench(watchdog, background=True)
    sim.run()


def test_decoder_routes_by_page():
    dut = RegDecoder(15, {0: 0, 1: 0, 6: 1})
    memories = {}, {}

    async def bench(ctx):
        for page in range(8):
            await access(ctx, dut.i, page * 0x1000 + 4, 0x100 + page)
        for page in range(8):
            assert await access(ctx, dut.i, page * 0x1000 + 4) == (0x100 + page if page in (0, 1, 6) else 0)

    simulate(dut, bench, background=[target(dut.o[k], memories[k], k) for k in range(2)])
    assert memories == ({4: 0x100, 0x1004: 0x101}, {0x6004: 0x106})


@pytest.mark.parametrize("n", [1, 2, 3])
def test_arbiter_routes_answers_back(n):
    dut = RegArbiter(15, n)
    memory = {}

    def initiator(index):
        rng = random.Random(index)

        async def bench(ctx):
            model = {}
            for _ in range(60):
                addr = index * 0x1000 + 4 * rng.randrange(4)
                if rng.random() < .5:
                    model[addr] = rng.randrange(1 << 32)
                    await access(ctx, dut.i[index], addr, model[addr])
                else:
                    assert await access(ctx, dut.i[index], addr) == model.get(addr, 0)
                if rng.random() < .2:
                    await ctx.tick().repeat(rng.randrange(1, 8))
        return bench

    simulate(dut, *[initiator(k) for k in range(n)], background=[target(dut.o, memory, 7)])
    assert memory


def test_arbiter_serves_in_turn():
    dut = RegArbiter(15, 3)
    order = []

    async def bench(ctx):
        ctx.set(dut.o.req.ready, 1)
        for k in range(3):
            ctx.set(dut.i[k].req.payload, {"addr": k, "write": 1, "be": 0, "data": 0})
            ctx.set(dut.i[k].req.valid, 1)
        while len(order) < 6:
            addr, = await ctx.tick().sample(dut.o.req.payload.addr).until(dut.o.req.valid)
            order.append(addr)

    simulate(dut, bench, background=[])
    assert order == [1, 2, 0, 1, 2, 0]


def test_guard():
    dut = RegGuard(addr_width=15, cycles=10)

    async def main(ctx):
        ctx.set(dut.o.req.ready, 1)
        ctx.set(dut.i.resp.ready, 1)
        ctx.set(dut.i.req.valid, 1)
        await ctx.tick()
        ctx.set(dut.i.req.valid, 0)
        cycles = 0
        while not ctx.get(dut.i.resp.valid):
            await ctx.tick()
            cycles += 1
        assert cycles == 10 and ctx.get(dut.i.resp.payload) == 0xffffffff
        await ctx.tick()
        assert not ctx.get(dut.i.resp.valid) and ctx.get(dut.o.resp.ready)
        ctx.set(dut.o.resp.valid, 1)
        await ctx.tick()
        assert not ctx.get(dut.i.resp.valid)
        # Whether or not somebody waits for an answer.
        ctx.set(dut.i.resp.ready, 0)
        await ctx.delay(1e-10)
        assert ctx.get(dut.o.resp.ready)
    Simulation(dut).run(main)
