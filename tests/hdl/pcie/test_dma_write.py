"""Writes: cut, with their bytes enabled, sent in order."""

import pytest
from amaranth.hdl import Module, Signal

from ringnic.hdl.pcie.dma_write import Writer, byte_enables, cut_length

from ...kit.simulator import Simulator


def test_byte_enables():
    """2.2.5: every offset and length against the bytes one by one."""
    offset, length = Signal(2), Signal(6)
    values = byte_enables(offset, length)
    sim = Simulator(Module())

    async def testbench(ctx):
        for first in range(4):
            for count in range(1, 64):
                ctx.set(offset, first)
                ctx.set(length, count)
                wanted = [first <= k < first + count for k in range(4 * ((first + count + 3) // 4))]
                head, tail = (sum(bit << k for k, bit in enumerate(dw)) for dw in (wanted[:4], wanted[-4:]))
                assert [ctx.get(value) for value in values] == [
                    len(wanted) // 4, head, 0 if len(wanted) == 4 else tail]
    sim.add_testbench(testbench)
    sim.run()


def test_cut_length(rng):
    addr, length, mask = Signal(64), Signal(16), Signal(12)
    value = cut_length(addr, length, mask)
    sim = Simulator(Module())

    async def testbench(ctx):
        for _ in range(300):
            at, count, unit = rng.getrandbits(64), rng.choice([1, 64, 4096, 65535]), 1 << rng.randint(7, 12)
            at = at | unit - 1 if rng.random() < 0.2 else at & -unit if rng.random() < 0.2 else at
            ctx.set(addr, at)
            ctx.set(length, count)
            ctx.set(mask, unit - 1)
            assert ctx.get(value) == min(count, unit - at % 4, 4096 - at % 4096)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("base", [0x1000, 0x5_0000_0000])
def test_write_alignments(host, width, base):
    card = host(width, part=Writer)
    expect, requests = {}, []
    for offset in range(4) if width != 64 else range(8):
        for length in range(1, 41):
            addr = base + 0x40 * len(requests) + offset
            body = card.rng.randbytes(length)
            requests.append((addr, body))
            expect |= {addr + k: b for k, b in enumerate(body)}

    async def bench(ctx):
        await card.write(ctx, 0, requests)
        await ctx.tick().repeat(40)
    card.run(bench)
    assert card.written == expect


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("hold", [False, True])
def test_write_random(host, width, hold):
    card = host(width, seed=width, hold=hold, mps=1, part=Writer)
    expect, done = {}, [0, 0]
    plans = []
    for client in range(2):
        plan = []
        for k in range(15):
            body = card.rng.randbytes(card.rng.choice([1, 4, 8, 76, 1514, card.rng.randrange(1, 700)]))
            addr = (client + 1 << 31) + 0x7f_f000 * 0x100 + 8192 * k + card.rng.randrange(4096)
            plan.append((addr, body))
            expect |= {addr + i: b for i, b in enumerate(body)}
        plans.append(plan)

    async def count(ctx):
        while True:
            _, _, a, b = await ctx.tick().sample(card.dut.writes[0].done, card.dut.writes[1].done)
            done[0] += a
            done[1] += b

    async def client0(ctx):
        await card.write(ctx, 0, plans[0])
        await ctx.tick().repeat(1500)

    async def client1(ctx):
        await card.write(ctx, 1, plans[1])
    card.run(client0, client1, background=[count])
    assert card.written == expect and done == [15, 15]


@pytest.mark.parametrize("width, clients", [(64, 1), (64, 2), (128, 1), (128, 2)])
@pytest.mark.parametrize("length", [60, 76])
def test_write_rate(host, width, clients, length):
    """Cycles of a short write among others: its beats on the link, with a header of 3 DWs and a payload that begins at byte 2 of
    a DW. A client that asks again after its last beat lets a cycle pass."""
    card = host(width, part=Writer)

    def client(k):
        async def bench(ctx):
            await card.write(ctx, k, [((k + 1 << 16) + 128 * n + 2, bytes(range(length))) for n in range(20)])
            await ctx.tick().repeat(40)
        return bench
    card.run(*map(client, range(clients)))
    beats = -(-(12 + 2 + length + 2 & ~3) * 8 // width)
    assert (card.log[-1][6] - card.log[4][6]) / (len(card.log) - 5) == beats + (clients == 1)


@pytest.mark.parametrize("width", [32, 64, 256])
def test_write_waits_for_bus_master_and_is_not_forgotten(host, width):
    """All its bytes are in the writer, and nothing moves: it is busy all the same, until the last beat has left."""
    card = host(width, part=Writer)

    async def bench(ctx):
        ctx.set(card.dut.bus_master, 0)
        await card.write(ctx, 0, [(0x1000, b"abcd")])
        for _ in range(20):
            await ctx.tick()
            assert ctx.get(card.dut.busy) and not card.log
        ctx.set(card.dut.bus_master, 1)
        for _ in range(20):
            await ctx.tick()
        assert len(card.log) == 1 and not ctx.get(card.dut.busy)
    card.run(bench)
    assert card.written == {0x1000 + k: byte for k, byte in enumerate(b"abcd")}


@pytest.mark.parametrize("kwargs,message", [
    (dict(width=48), "Width must be 32 times a power of 2, not 48"),
    (dict(clients=0), "Writer needs at least one client, not 0"),
])
def test_constructor(kwargs, message):
    with pytest.raises(ValueError) as caught:
        Writer(**(dict(width=64, clients=1) | kwargs))
    assert str(caught.value) == message
