"""The pipeline that follows chains, with its memory played by the test: rows, answers, and who has to wait."""

import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.ahead import HEADS
from ringnic.hdl.virtqueue.follow import Follow

from ...kit.streams import always

NEXT, WRITE, INDIRECT = 1, 2, 4


@pytest.fixture
def make(stage):
    def bench(*, ports=2, gates=None, **options):
        """``rows[port, table, position]`` is what is read; ``segments[port]`` what is given out."""
        bench = stage(Follow(num_queues=2, ports=ports, max_ahead=4, max_table=8), watch_busy=False, **options)
        dut = bench.dut
        bench.rows, bench.segments, bench.asked = {}, [[] for _ in range(ports)], []

        async def memory(ctx):
            async for _, _, place in ctx.tick().sample(dut.place):
                bench.rows_read = bench.rows.get((place.port, place.table, place.position), {})
                ctx.set(dut.row, bench.rows_read)
        bench.background(memory)
        for port, segments, gate in zip(dut.o, bench.segments, gates or [always] * ports):
            bench.background(bench.collect_into, port, segments.append, gate)

        async def head(ctx, port, **row):
            at = ctx.get(dut.heads[port])
            bench.rows[port, 0, at % HEADS] = {"queue": port, "end": ctx.get(dut.entries[port]), **row}
            ctx.set(dut.heads[port], (at + 1) % (2 * HEADS))

        async def answer(ctx, wait=0, **desc):
            await bench.until(ctx, lambda: bench.asked)
            for _ in range(wait):
                await ctx.tick()
            port = bench.asked.pop(0).port
            ctx.set(dut.answer, {"port": port, "single": 1, "last": 1, "desc": desc})
            ctx.set(dut.answer_valid, 1)
            bench.rows[port, 0, ctx.get(dut.first_head[port]) % HEADS] = {
                "addr": desc["addr"], "flags": int(desc.get("flags", 0)), "next": desc.get("next", 0)}
            await ctx.tick()
            ctx.set(dut.answer_valid, 0)
        bench.background(bench.collect_into, dut.single, lambda item: bench.asked.append(item))

        async def start(ctx, **setup):
            ctx.set(dut.control.indirect, 1)
            for queue in (0, 1):
                await bench.setup(ctx, queue, size=4)
        bench.head, bench.answer, bench.start = head, answer, start
        return bench
    return bench


def test_heads_of_two_ports_one_a_cycle(make):
    """In the order of each port."""
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(6):
            for port in (0, 1):
                await bench.head(ctx, port, id=k, addr=10 * port + k)
        await ctx.tick().repeat(16)
        for port, segments in enumerate(bench.segments):
            assert [(item.chain.id, item.addr, item.last, item.queue) for item in segments] == [
                (k, 10 * port + k, 1, port) for k in range(6)]
        assert not ctx.get(bench.dut.busy)
    bench.run(testbench)


@pytest.mark.parametrize("wait", [0, 3])
@pytest.mark.parametrize("full", [False, True])
def test_single_descriptors(make, wait, full):
    """Asked for by index, in the queue's own table. An answer that finds the segment before not taken is kept, and the other port
    goes on meanwhile."""
    state = {"open": not full}
    bench = make(gates=[lambda: state["open"], always])

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.head(ctx, 0, id=5, addr=1, flags=NEXT, next=3)
        for index in (3, 2, 1):
            await bench.until(ctx, lambda: bench.asked)
            assert (bench.asked[0].port, bench.asked[0].addr, bench.asked[0].area, bench.asked[0].queue) == (
                0, 16 * index, Area.DESC, 0)
            await bench.answer(ctx, wait, addr=100 + index, flags=NEXT if index > 1 else WRITE, next=index - 1)
            if full and index == 3:
                await bench.head(ctx, 1, id=9, addr=7)
                await ctx.tick().repeat(20)
                assert len(bench.segments[1]) == 1 and not bench.segments[0] and not bench.asked
                state["open"] = True
        await ctx.tick().repeat(12)
        assert [(item.addr, item.last, item.chain.writable) for item in bench.segments[0]] == [
            (1, 0, 0), (103, 0, 0), (102, 0, 0), (101, 1, 1)]
    bench.run(testbench)


@pytest.mark.parametrize("kind", ["next", "long", "table"])
def test_a_chain_that_fails_skips_what_was_read_ahead(make, kind):
    """Even what has not come yet; and the next chain of the queue fails at once, those of another do not."""
    bench = make()
    dut = bench.dut
    bad = {"next": {"flags": NEXT, "next": 9}, "long": {"flags": NEXT, "next": 1, "error": 1}, "table": {"flags": INDIRECT}}[kind]

    async def testbench(ctx):
        await bench.start(ctx)
        bench.rows[0, 1, 0] = {"addr": 50, **bad}
        ctx.set(dut.entries[0], 1)
        for _ in range(2):
            await bench.head(ctx, 0, id=1, flags=INDIRECT, len=64, end=4)
        await bench.head(ctx, 1, id=2)
        await ctx.tick().repeat(20)
        assert [(item.error, item.last) for item in bench.segments[0]][-2:] == [(1, 1), (1, 1)]
        assert [item.error for item in bench.segments[1]] == [0]
        assert ctx.get(dut.first_entry[0]) == 4 and ctx.get(dut.first_head[0]) == 2
        assert bench.failed == [0, 0]
        # Set up again, what is asked for then is behind what has still to come.
        await bench.setup(ctx, 0, size=4)
        await bench.head(ctx, 0, id=3, flags=INDIRECT, len=16, end=5)
        bench.rows[0, 1, 4] = {"addr": 60}
        before = len(bench.segments[0])
        for entries in (2, 3, 4):
            ctx.set(dut.entries[0], entries)
            await ctx.tick().repeat(10)
            assert len(bench.segments[0]) == before
        ctx.set(dut.entries[0], 5)
        await ctx.tick().repeat(10)
        assert [(item.addr, item.error) for item in bench.segments[0][before:]] == [(60, 0)]
    bench.run(testbench)


def test_a_table_that_was_not_read_ahead_is_read_one_by_one(make):
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.head(ctx, 1, flags=INDIRECT, addr=0x5001, len=(1 << 20) * 16)
        for index in (0, 65535, 7):
            await bench.until(ctx, lambda: bench.asked)
            assert (bench.asked[0].port, bench.asked[0].addr, bench.asked[0].area) == (1, 0x5001 + 16 * index, Area.NONE)
            await bench.answer(ctx, addr=index, flags=NEXT * (index != 7), next={0: 65535}.get(index, 7))
        await ctx.tick().repeat(10)
        assert [(item.addr, item.last) for item in bench.segments[1]] == [(0, 0), (65535, 0), (7, 1)]
    bench.run(testbench)


def test_answers_and_rows_at_once(make):
    """Port 0 gives chains of one all the time; the answers of port 1 come in between, in every phase of them."""
    bench = make()

    async def busy_port(ctx):
        await bench.start(ctx)
        for k in range(100):
            while (ctx.get(bench.dut.heads[0]) - ctx.get(bench.dut.first_head[0])) % (2 * HEADS) > 8:
                await ctx.tick()
            await bench.head(ctx, 0, id=k, addr=k)
            await ctx.tick()
        await ctx.tick().repeat(40)
        assert [item.addr for item in bench.segments[0]] == [*range(100)]

    async def testbench(ctx):
        await ctx.tick().repeat(12)
        for k in range(8):
            await bench.head(ctx, 1, id=k, addr=k, flags=NEXT, next=k % 4)
            await bench.answer(ctx, k % 4, addr=200 + k)
            await ctx.tick().repeat(4)
        assert [item.addr for item in bench.segments[1]] == sum(([k, 200 + k] for k in range(8)), [])
    bench.run(busy_port, testbench)


def test_ports_have_equal_turns(make):
    """Three ports, more than the pipeline can serve at the full rate of each."""
    bench = make(ports=3)

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(12):
            for port in range(3):
                await bench.head(ctx, port, id=k)
                bench.rows[port, 0, k]["queue"] = 0
        while min(map(len, bench.segments)) < 12:
            await ctx.tick()
            done = [*map(len, bench.segments)]
            assert max(done) - min(done) <= 2
    bench.run(testbench)
