"""One read port for tables and single descriptors: each answer goes to whom it is for, in the order of the requests."""

import struct

import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.reads import Reads

TABLES, SINGLES, DESC = 0x1000, 0x8_0000, 0x4_0000


@pytest.fixture
def make(stage):
    def bench(*, width=64, ports=2, **options):
        bench = stage(Reads(width=width, num_queues=2, ports=ports, max_ahead=4), **options)
        bench.serve_reads(bench.dut.read)
        bench.areas[1, Area.DESC] = DESC
        return bench
    return bench


def desc_at(bench, addr):
    return struct.unpack_from("<QIHH", bench.memory, addr)


def entry(item):
    return item.port, item.single, item.desc.addr, item.desc.len, int(item.desc.flags.value), item.desc.next


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_answers_go_to_their_owners(make, rng, width, pause):
    bench = make(width=width, pause=pause)
    got, expected = bench.collect(bench.dut.o), []
    asked = {"table": [], "single": []}

    async def tables(ctx):
        for k in range(40):
            port, count, addr = k % 2, rng.randrange(1, 5), TABLES + rng.randrange(0x1000)
            asked["table"].append((addr, 16 * count, port, k % 32))
            await bench.send(ctx, bench.dut.i_table, {"port": port, "end": k % 32, "addr": addr, "len": 16 * count})

    async def singles(ctx):
        for k in range(40):
            port, index = rng.randrange(2), rng.randrange(64)
            asked["single"].append((DESC + 16 * index, 16, port, None))
            await bench.send(ctx, bench.dut.i_single, {"port": port, "addr": 16 * index, "area": Area.DESC, "queue": 1})
            for _ in range(rng.randrange(30)):
                await ctx.tick()

    async def check(ctx):
        await bench.until(ctx, lambda: len(bench.reads) == 80 and not ctx.get(bench.dut.busy), 5000)
        await ctx.tick().repeat(8)
        for addr, length in bench.reads:
            kind = "single" if addr >= DESC else "table"
            addr_asked, length_asked, port, end = asked[kind].pop(0)
            assert (addr, length) == (addr_asked, length_asked)
            for at in range(addr, addr + length, 16):
                expected.append(((port, int(kind == "single"), *desc_at(bench, at)), end, at + 16 == addr + length))
        assert [entry(item) for item in got] == [one for one, _, _ in expected]
        assert [item.last for item in got] == [last for _, _, last in expected]
        assert all(end is None or item.end == end for item, (_, end, _) in zip(got, expected))
        assert not any(item.error for item in got)
    bench.run(tables, singles, check)


def test_a_single_descriptor_comes_first(make):
    """But what was offered stays."""
    bench = make()
    bench.collect(bench.dut.o)

    async def testbench(ctx):
        ctx.set(bench.dut.i_table.p, {"addr": TABLES, "len": 64})
        ctx.set(bench.dut.i_single.p, {"addr": SINGLES})
        ctx.set(bench.dut.i_table.valid, 1)
        ctx.set(bench.dut.i_single.valid, 1)
        await bench.until(ctx, lambda: len(bench.reads) == 1)
        ctx.set(bench.dut.i_single.valid, 0)
        await bench.until(ctx, lambda: len(bench.reads) == 2)
        ctx.set(bench.dut.i_table.valid, 0)
        await ctx.tick().repeat(60)
        assert [addr for addr, _ in bench.reads] == [SINGLES, TABLES]
    bench.run(testbench)


def test_a_failed_read_ends_with_an_error(make):
    bench = make()
    bench.fails.add(TABLES)
    got = bench.collect(bench.dut.o)

    async def testbench(ctx):
        for k in range(20):
            await bench.send(ctx, bench.dut.i_table, {"port": 1, "end": k, "addr": TABLES, "len": 64})
            await bench.send(ctx, bench.dut.i_single, {"port": 0, "addr": SINGLES})
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
        ends = [item for item in got if item.last]
        assert [(item.port, item.single, item.error) for item in ends if item.single] == [(0, 1, 0)] * 20
        assert [(item.port, item.end, item.error) for item in ends if not item.single] == [(1, k, 1) for k in range(20)]
    bench.run(testbench)


def test_as_many_reads_as_heads_are_under_way(make):
    bench = make(latency=400)
    bench.collect(bench.dut.o)

    async def testbench(ctx):
        for k in range(32):
            await bench.send(ctx, bench.dut.i_table, {"port": k % 2, "end": k, "addr": TABLES, "len": 16})
        assert len(bench.reads) >= 31
    bench.run(testbench)
