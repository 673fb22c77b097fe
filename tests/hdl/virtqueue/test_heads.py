"""Descriptors that become heads: which rows are handed on, in what order, and when."""

from functools import cache

import pytest

from ringnic.hdl.virtqueue.heads import NO_ADDRESS, Heads

heads = cache(Heads)  # one that is simulated again is not elaborated again

DEPTH = 8


@pytest.fixture
def make(stage, rng):
    def bench(*, width=128, gate=None, **options):
        bench = stage(heads(width=width, num_queues=4, depth=DEPTH), **options)
        bench.came = bench.collect(bench.dut.o, gate)

        async def read(ctx, addrs):
            """The answer of one read."""
            lanes = width // 8
            body = b"".join(addr.to_bytes(8, "little") + bytes(8) for addr in addrs)
            for at in range(0, len(body), lanes):
                part = body[at:at + lanes]
                await bench.send(ctx, bench.dut.beat, {"data": int.from_bytes(part, "little"), "count": len(part),
                                                       "last": at + lanes >= len(body), "error": 0})

        async def judge(ctx, addr, place, count):
            """Take the next descriptor when there is room up to its place, and hand on ``count`` heads."""
            port = bench.dut.i
            await bench.until(ctx, lambda: ctx.get(port.desc.valid) and ctx.get(port.free) > place)
            desc = ctx.get(port.desc.p)
            assert desc.desc.addr == addr and desc.marked == (addr == NO_ADDRESS)
            ctx.set(port.head, {"queue": addr % 4, "head": {"addr": addr, "id": addr & 0xffff}})
            ctx.set(port.place, place)
            ctx.set(port.count, count)
            ctx.set(port.desc.ready, 1)
            await ctx.tick()
            ctx.set(port.desc.ready, 0)
            ctx.set(port.count, 0)
        bench.read, bench.judge = read, judge
        return bench
    return bench


def test_order_is_that_of_places_and_what_is_not_handed_on_vanishes(make, rng):
    """Runs of up to half the rows, in either order or none; one in four fails."""
    bench = make(pause=rng.choice([0.0, 0.3]))
    runs = [rng.sample(range(1000), rng.randint(1, DEPTH // 2)) + [NO_ADDRESS][:rng.randrange(2)] for _ in range(60)]
    expected = []

    async def answers(ctx):
        for addrs in runs:
            await bench.read(ctx, addrs)

    async def verdicts(ctx):
        for addrs in runs:
            places = list(range(len(addrs)))
            if rng.randrange(2):
                places.reverse()
            fails = rng.randrange(4) == 0
            await bench.until(ctx, lambda: ctx.get(bench.dut.i.free) >= len(addrs))
            for addr, place in zip(addrs, places):
                last = place == places[-1]
                await bench.judge(ctx, addr, place, len(addrs) if last and not fails else 0)
            if not fails:
                expected.extend(sorted(addrs, key=lambda addr: places[addrs.index(addr)]))
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
        assert [item.head.addr for item in bench.came] == expected
        assert all((item.queue, item.head.id) == (item.head.addr % 4, item.head.addr & 0xffff) for item in bench.came)
        assert ctx.get(bench.dut.i.free) == DEPTH
    bench.run(answers, verdicts)


def test_rows_that_wait(make):
    """Two heads have left their rows, one of them is offered; all rows are taken, and none is lost."""
    state = {"open": False}
    bench = make(gate=lambda: state["open"])
    addrs = list(range(DEPTH + 2))

    async def answers(ctx):
        await bench.read(ctx, addrs)

    async def verdicts(ctx):
        for addr in addrs:
            await bench.judge(ctx, addr, 0, 1)
        await ctx.tick().repeat(10)
        assert ctx.get(bench.dut.i.free) == 0 and not bench.came
        state["open"] = True
        await bench.until(ctx, lambda: len(bench.came) == len(addrs))
        assert [item.head.addr for item in bench.came] == addrs
    bench.run(answers, verdicts)


def test_latency_rate_and_what_is_busy(make):
    """A descriptor is offered in the cycle after its beat, its head three cycles after the verdict, and then one a cycle; busy
    until the last has left."""
    dut = heads(width=128, num_queues=4, depth=DEPTH)
    bench = make()
    seen = []

    async def testbench(ctx):
        ctx.set(dut.i.desc.ready, 1)
        ctx.set(dut.beat.p, {"count": 16, "last": 1})
        for now in range(12):
            ctx.set(dut.beat.valid, now < 4)
            ctx.set(dut.i.count, 1 <= now < 5)
            seen.append((ctx.get(dut.i.desc.valid), ctx.get(dut.o.valid), ctx.get(dut.busy)))
            await ctx.tick()
    bench.run(testbench)
    offered, given, busy = map(list, zip(*seen))
    assert offered == [0] + [1] * 4 + [0] * 7
    assert given == [0] * 4 + [1] * 4 + [0] * 4
    assert busy == [0] * 2 + [1] * 6 + [0] * 4
