"""Reads and writes together: order, bus master off, the drain."""

import pytest

from ringnic.hdl.pcie.dma import Dma


def test_write_then_read_in_order(host):
    card = host(64, hold=True)

    async def bench(ctx):
        for k in range(10):
            await card.write(ctx, 0, [(0x1000 + 512 * k, bytes(300))])
            await ctx.tick().until(card.dut.writes[0].done)
            await card.ask(ctx, 0, [(0x9000 + 64 * k, 16)])
            await card.read(ctx, 0, [(0x9000 + 64 * k, 16)])
    card.run(bench)
    assert [entry[0] for entry in card.log] == [True, True, True, False] * 10


def test_bus_master_off(host):
    card = host(64)

    async def bench(ctx):
        await ctx.tick()
        ctx.set(card.dut.bus_master, 0)
        await card.write(ctx, 0, [(0x1000, b"abcd")])
        await card.ask(ctx, 0, [(0x2000, 4)])
        await ctx.tick().repeat(50)
        assert not card.log and ctx.get(card.dut.busy)
        ctx.set(card.dut.bus_master, 1)
        await card.read(ctx, 0, [(0x2000, 4)])
        assert len(card.log) == 2
    card.run(bench)


def test_stop_discards_writes_without_bus_master(host):
    card = host(64)

    async def bench(ctx):
        await ctx.tick()
        ctx.set(card.dut.bus_master, 0)
        await card.write(ctx, 0, [(0x1000, bytes(20))])
        ctx.set(card.dut.stop, 1)
        await ctx.tick().until(card.dut.stopped)
        assert not card.log and not card.events["dma_write_tlps"]
    card.run(bench, limit=2000)


@pytest.mark.parametrize("seed", range(4))
def test_stop_under_load(host, seed):
    card = host(64, seed=seed, hold=True, timeout_cycles=2000)
    dut = card.dut

    async def offer(ctx, port):
        ctx.set(port.payload, {"addr": 0x12345, "len": 3000})
        ctx.set(port.valid, 1)

    async def sink(ctx):
        while True:
            ctx.set(dut.reads[0].beat.ready, 1)
            ctx.set(dut.reads[1].beat.ready, card.rng.random() < 0.5)
            await ctx.tick()

    async def bench(ctx):
        for port in dut.reads[0].req, dut.reads[1].req:
            await offer(ctx, port)
        ctx.set(dut.writes[0].req.payload, {"addr": 1 << 40, "len": 8})
        ctx.set(dut.writes[0].req.valid, seed & 1)
        ctx.set(dut.writes[0].data.valid, 1)
        card.written = _Anything()
        await ctx.tick().repeat(200 + 37 * seed)
        ctx.set(dut.stop, 1)
        if seed & 2:                # what is outstanding is never answered
            card.pending.clear()
            card.answer = False
        await ctx.tick().until(dut.stopped)
        n = len(card.log)
        await ctx.tick().repeat(50)
        assert ctx.get(dut.stopped) and len(card.log) == n
        for port in dut.reads[0].req, dut.reads[1].req, dut.writes[0].req:
            ctx.set(port.valid, 0)
        ctx.set(dut.reset, 1)
        await ctx.tick()
        ctx.set(dut.reset, 0)
        ctx.set(dut.stop, 0)
        card.answer = True
        card.pending.clear()
        await card.ask(ctx, 0, [(0x777, 9)])
        await ctx.tick().until(dut.reads[0].beat.valid & dut.reads[0].beat.payload.last)
    card.run(bench, background=[sink], limit=20000)


def test_stopped_is_after_the_last_write(host):
    card, held = host(64), [False]
    card.idle = lambda: held[0]

    async def bench(ctx):
        await ctx.tick()
        await card.write(ctx, 0, [(0x1000, bytes(100))])
        held[0] = True                       # the link takes nothing
        ctx.set(card.dut.stop, 1)
        for _ in range(50):
            await ctx.tick()
            assert not ctx.get(card.dut.stopped)
        held[0] = False
        await ctx.tick().until(card.dut.stopped)
        assert len(card.written) == 100
    card.run(bench, limit=2000)


class _Anything(dict):
    """Memory that may be written over."""
    def __contains__(self, key):
        return False


@pytest.mark.parametrize("kwargs,message", [
    (dict(width=48), "Width must be 32 times a power of 2, not 48"),
    (dict(tags=24), "Number of tags must be a power of 2 from 2 to 256, not 24"),
    (dict(read_clients=0), "Reader needs at least one client, not 0"),
    (dict(write_clients=0), "Writer needs at least one client, not 0"),
])
def test_constructor(kwargs, message):
    with pytest.raises(ValueError) as caught:
        Dma(**(dict(width=64, read_clients=1, write_clients=1) | kwargs))
    assert str(caught.value) == message
