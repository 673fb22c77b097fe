"""The payload of writes: each byte from its lane to its place, and no other in its stead; at the rate of the link."""

import pytest
from amaranth.hdl import C, Module, Signal

from ringnic.hdl.pcie.dma_write import Writer
from ringnic.hdl.pcie.payload import Source, rotate

from ...kit import streams, tlps
from ...kit.simulation import Simulation
from ...kit.simulator import Simulator


def test_rotate():
    turn = Signal(3)
    value = rotate(C(0x7766_5544_3322_1100, 64), turn)
    sim = Simulator(Module())

    async def testbench(ctx):
        for k in range(8):
            ctx.set(turn, k)
            assert ctx.get(value) >> 8 * k & 0xff == 0 and ctx.get(value) >> 8 * ((k + 3) % 8) & 0xff == 0x33
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("busy", [1.0, 0.5])
def test_source(busy, rng):
    """Beats of one request after the other, and none between; a beat a cycle, if there is one."""
    dut, orders, got, ends = Source(width=32, clients=3), [], [], []
    for n in range(40):
        orders.append((rng.randrange(3), [n << 8 | k for k in range(rng.randrange(1, 9))]))

    async def order(ctx):
        for client, _ in orders:
            await streams.send(ctx, dut.i, client, lambda: rng.random() > busy)

    def give(client):
        async def bench(ctx):
            for beat, last in [(beat, beat == row[-1]) for which, row in orders if which == client for beat in row]:
                await streams.send(ctx, dut.i_data[client], {"data": beat, "last": last}, lambda: rng.random() > busy)
        return bench

    async def main(ctx):
        want, cycles = [beat for _, row in orders for beat in row], 0
        while len(got) < len(want):
            ctx.set(dut.o.ready, rng.random() < busy)
            _, _, moved, beat = await ctx.tick().sample(dut.o.valid & dut.o.ready, dut.o.p)
            cycles += 1
            if moved:
                got.append(beat)
        assert got == want
        assert busy < 1 or cycles <= len(want) + 3

    simulation = Simulation(dut)
    for bench in (order, *map(give, range(3))):
        simulation.background(bench)
    simulation.run(main)


@pytest.mark.parametrize("width", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("base", [0x1000, 0x5_0000_0000])
def test_write_lanes(host, width, base):
    """From every lane to every place in a DW, as many bytes as end in each lane of the first beat, the second, and the third."""
    card, size = host(width, part=Writer), width // 8
    expect, requests = {}, []
    lanes = range(size) if size <= 8 else sorted({0, 1, 3, 4, 11, 12, 13, 15, size // 2 + 1, size - 3, size - 1})
    lengths = [*range(1, 2 * size + 2)] if size <= 8 else [1, 2, 5, size - 13, size - 4, size - 1, size, size + 1, 2 * size + 7]
    for lane in lanes:
        for offset in range(4):
            for length in lengths:
                addr = base + 0x100 * len(requests) + offset
                body = card.rng.randbytes(length)
                requests.append((addr, body, lane))
                expect |= {addr + k: b for k, b in enumerate(body)}

    async def bench(ctx):
        await card.write(ctx, 0, requests)
        await ctx.tick().repeat(40)
    card.run(bench)
    assert card.written == expect


@pytest.mark.parametrize("width", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("hold", [False, True])
def test_write_cut_within_beats(host, width, hold):
    """Requests of several TLPs, from any lane: a beat in which one TLP ends and the next begins is in both. The link takes beats
    with pauses, and a client has its data late."""
    card = host(width, seed=width + hold, hold=hold, part=Writer)
    expect, requests = {}, []
    for k in range(40):
        lane, body = card.rng.randrange(width // 8), card.rng.randbytes(card.rng.choice([129, 256, 300, 700, 1530]))
        addr = card.rng.choice([1, 0x3_0000]) * 0x10000 + 8192 * k + card.rng.choice([0, 2, 4096 - card.rng.randrange(1, 129)])
        requests.append((addr, body, lane))
        expect |= {addr + i: b for i, b in enumerate(body)}

    async def bench(ctx):
        await card.write(ctx, 0, requests, card.idle)
        await ctx.tick().repeat(1000)
    card.run(bench)
    assert card.written == expect


@pytest.mark.parametrize("width", [32, 64, 128, 512])
@pytest.mark.parametrize("hold", [False, True])
def test_no_bytes_of_others(host, width, hold):
    """What is not enabled is of the same beats of the same client, too."""
    card, seen = host(width, seed=width, hold=hold, part=Writer), []

    def take(tlp, take=card.take):
        take(tlp)
        seen.append(tlps.parse(tlp))
    card.take = take

    def client(k):
        async def bench(ctx):
            for n in range(1, 60):
                addr, mark = (k + 1 << 31) + 8192 * n + card.rng.choice([0, 1, 2, 3, 4094]), 128 * k + n
                body = bytes([mark]) * card.rng.choice([1, 3, 9, 30, 200])
                await card.write(ctx, k, [(addr, body, card.rng.randrange(width // 8))], fill=mark)
            await ctx.tick().repeat(400)
        return bench
    card.run(client(0), client(1))
    assert len(seen) >= 2 * 59
    for came in seen:
        assert set(came.data) == {128 * ((came.addr >> 31) - 1) + (came.addr >> 13) % 128}


@pytest.mark.parametrize("width", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("lane, base", [(0, 0x1_0000), (0, 0x1_0002), (5, 0x1_0000), (11, 0x1_0003), (3, 0x5_0000_0001)])
def test_write_rate_of_a_long_one(host, width, lane, base):
    """TLPs of one request follow each other without a pause, wherever it begins."""
    card, length = host(width, part=Writer), 1530
    lane %= width // 8

    async def bench(ctx):
        await card.write(ctx, 0, [(base, bytes(length), lane)])
        await ctx.tick().repeat(40)
    card.run(bench)
    beats = [-(-(4 * length_dw + (16 if at >> 32 else 12)) * 8 // width) for _, at, length_dw, *_ in card.log]
    assert [now[6] - before[6] for before, now in zip(card.log, card.log[1:])] == beats[1:]
