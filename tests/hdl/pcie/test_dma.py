"""Reads and writes together: order, bus master off, the drain."""

import pytest

from ringnic.hdl.pcie.dma import Dma
from ringnic.hdl.pcie.dma_read import Reader
from ringnic.hdl.pcie.dma_write import Writer

TOP = 1 << 64  # one byte behind the address space


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


@pytest.mark.parametrize("bus_master", [0, 1])
def test_stop_discards_a_read_without_credits(host, bus_master):
    """It has no tag, is not pending, and is not sent."""
    card = host(64, tags=2)
    dut = card.dut

    async def bench(ctx):
        for _ in range(6):
            card.log.clear()
            await card.ask(ctx, 0, [(0x1000, 16)])
            await card.read(ctx, 0, [(0x1000, 16)])
            ctx.set(dut.credits.non_posted, 0)
            await card.ask(ctx, 0, [(0x2000, 16)])
            await ctx.tick().repeat(20)
            assert ctx.get(dut.busy) and not ctx.get(dut.pending) and not ctx.get(dut.leaving)
            ctx.set(dut.bus_master, bus_master)
            ctx.set(dut.credits.non_posted, not bus_master)   # with both it would leave
            await ctx.tick().repeat(20)
            ctx.set(dut.stop, 1)
            await ctx.tick().repeat(5)
            assert ctx.get(dut.stopped)
            ctx.set(dut.reset, 1)
            await ctx.tick()
            ctx.set(dut.reset, 0)
            ctx.set(dut.stop, 0)
            ctx.set(dut.bus_master, 1)
            ctx.set(dut.credits.non_posted, 1)
            await ctx.tick().repeat(50)
            assert [entry[1] for entry in card.log] == [0x1000]
    card.run(bench)


def test_a_read_without_credits_ages_not_and_holds_up_no_timeout(host):
    """A host that hangs gives no credits either: what has left before fails in time (2.8)."""
    card, lost = host(64, timeout_cycles=640, tags=2), []
    card.change = lambda tlps, tag: tlps if lost else lost.append(tag) or []

    async def bench(ctx):
        dut = card.dut
        await card.ask(ctx, 0, [(0x1000, 16)])
        await ctx.tick().repeat(20)
        ctx.set(dut.credits.non_posted, 0)
        await card.ask(ctx, 1, [(0x2000, 16)])
        (got, error, when), = await card.answers(ctx, 0, 1)
        assert error and 640 <= when <= 970
        await ctx.tick().repeat(5000)
        assert card.events["dma_timeouts"] == 1 and not ctx.get(dut.pending)
        ctx.set(dut.credits.non_posted, 1)
        await card.read(ctx, 1, [(0x2000, 16)])
    card.run(bench)
    assert [entry[1] for entry in card.log] == [0x1000, 0x2000]


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


def requests(host, part, wanted, **limits):
    """``(addr, length in DWs, first and last byte enables)`` of the TLPs that carry out ``(addr, bytes)``, in their order."""
    card = host(64, part=part, rcb=4096, **limits, **({"slot_bytes": 4096} if part is Reader else {}))

    async def write(ctx):
        await card.write(ctx, 0, [(addr, bytes(k & 0xff for k in range(length))) for addr, length in wanted])
        await ctx.tick().repeat(1500)
    card.run(*card.reading(wanted) if part is Reader else [write])
    return [entry[1:5] for entry in card.log]


@pytest.mark.parametrize("part", [Reader, Writer])
@pytest.mark.parametrize("code, most", [(0, 128), (1, 256), (2, 512), (3, 1024), (4, 2048), (5, 4096)])
def test_largest_requests(host, part, code, most):
    """7.5.3.4: what a request may carry, by the code in Device Control; 2.2.2: 1024 DWs are Length 0. DWs count, not bytes."""
    full = most // 4, 0xf, 0xf
    wanted = [(0x10000, most - 1), (0x20000, most), (0x30003, most - 3), (0x40000, most + 1), (0x50001, most)]
    assert requests(host, part, wanted, mps=code, mrrs=code) == [
        (0x10000, most // 4, 0xf, 0x7), (0x20000, *full), (0x30000, most // 4, 0x8, 0xf),
        (0x40000, *full), (0x40000 + most, 1, 0x1, 0), (0x50000, most // 4, 0xe, 0xf), (0x50000 + most, 1, 0x1, 0)]


@pytest.mark.parametrize("part", [Reader, Writer])
@pytest.mark.parametrize("addr, length, tlps", [
    # 2.2.7: none crosses 4 KiB
    (0xffc, 4, [(0xffc, 1, 0xf, 0)]),
    (0xffd, 4, [(0xffc, 1, 0xe, 0), (0x1000, 1, 0x1, 0)]),
    (0xf80, 128, [(0xf80, 32, 0xf, 0xf)]),
    (0xf81, 128, [(0xf80, 32, 0xe, 0xf), (0x1000, 1, 0x1, 0)]),
    # 2.2.4.1: 3 DWs of header below 4 GiB, 4 from there on; the host checks which
    (0xffff_fffc, 4, [(0xffff_fffc, 1, 0xf, 0)]),
    (0xffff_fffe, 4, [(0xffff_fffc, 1, 0xc, 0), (0x1_0000_0000, 1, 0x3, 0)]),
    (0x1_0000_0000, 1, [(0x1_0000_0000, 1, 0x1, 0)]),
    # The last byte there is
    (TOP - 1, 1, [(TOP - 4, 1, 0x8, 0)]),
    (TOP - 5, 5, [(TOP - 8, 2, 0x8, 0xf)]),
    (TOP - 4097, 4097, [(TOP - 4100, 1, 0x8, 0), (TOP - 4096, 1024, 0xf, 0xf)]),
], ids=lambda value: hex(value) if isinstance(value, int) else "")
def test_borders_of_the_address_space(host, part, addr, length, tlps):
    assert requests(host, part, [(addr, length)], mps=5, mrrs=5) == tlps
