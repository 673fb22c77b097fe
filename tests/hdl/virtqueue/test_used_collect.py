"""Used chains until they are written: which of them are a batch, where they lie, and when it is offered."""

from itertools import pairwise

import pytest

from ringnic.hdl.virtqueue.used_collect import UsedCollect

HOLD, BATCH = 16, 4


@pytest.fixture
def make(stage):
    def bench(*, ports=1, **options):
        dut = UsedCollect(num_queues=3, ports=ports, batch=BATCH, hold_cycles=HOLD)
        bench = stage(dut, **options)

        async def give(ctx, queue, ident, length=0, more=0, flush=0, port=0):
            await bench.send(ctx, dut.i[port], {"queue": queue, "chain": {"id": ident, "count": 1, "writable": 0}, "len": length,
                                                "more": more, "flush": flush})

        async def accept(ctx):
            """Read the next batch, and accept it; return its queue, its ``parts``, and of each chain ``(id, len)``."""
            await bench.until(ctx, lambda: ctx.get(dut.o.valid))
            batch, chains = ctx.get(dut.o.p), []
            for k in range(batch.count):
                ctx.set(dut.staging.queue, batch.queue)
                ctx.set(dut.staging.place, (batch.first + k) % BATCH)
                ctx.set(dut.staging.en, 1)
                await ctx.tick()
                ctx.set(dut.staging.en, 0)
                chains.append((ctx.get(dut.staging.data.chain.id), ctx.get(dut.staging.data.len)))
            assert ctx.get(dut.untold) >> batch.queue & 1 and ctx.get(dut.busy)
            ctx.set(dut.o.ready, 1)
            await ctx.tick()
            ctx.set(dut.o.ready, 0)
            return batch.queue, batch.parts, chains
        bench.give, bench.accept = give, accept
        return bench
    return bench


def test_a_lone_chain_is_offered_at_once(make):
    """Two cycles after it was taken; its queue is named in the cycle before."""
    bench = make()
    dut, seen = bench.dut, []

    async def watch(ctx):
        async for _, _, *now in ctx.tick().sample(dut.i[0].valid, dut.i[0].ready, dut.o.valid, dut.o.p.queue):
            seen.append(now)
    bench.background(watch)

    async def testbench(ctx):
        await ctx.tick().repeat(3)
        await bench.give(ctx, 2, 7, 70, flush=1)
        assert await bench.accept(ctx) == (2, 0, [(7, 70)])
        assert not ctx.get(dut.untold)
        await ctx.tick().repeat(3)
    bench.run(testbench)
    offered, taken = ([now[0] for now in seen].index(1), [now[1] for now in seen].index(1))
    given = [now[2] for now in seen].index(1)
    assert (taken - offered, given - taken) == (1, 2) and seen[given - 1][3] == 2


def test_a_chain_in_two_cycles(make):
    """Of both ports together; each has its turn."""
    bench = make(ports=2)
    dut, taken = bench.dut, []

    async def watch(ctx):
        now = 0
        async for _, _, one, other in ctx.tick().sample(dut.i[0].ready, dut.i[1].ready):
            now += 1
            taken.extend((now, port) for port, takes in enumerate((one, other)) if takes)
    bench.background(watch)

    async def testbench(ctx):
        for port in range(2):
            ctx.set(dut.i[port].p, {"queue": port})
            ctx.set(dut.i[port].valid, 1)
        await ctx.tick().repeat(12)
    bench.run(testbench)
    assert len(taken) >= 5 and all(b - a == 2 and one != other for (a, one), (b, other) in pairwise(taken))


def test_batches_are_whole_packets(make):
    """And at most so many chains as there is place for; the places are used round and round."""
    bench = make()

    async def testbench(ctx):
        await bench.give(ctx, 0, 1)
        await bench.give(ctx, 0, 2, more=1)
        assert await bench.accept(ctx) == (0, 1, [(1, 0)])
        await bench.give(ctx, 0, 3, more=1)
        await bench.give(ctx, 0, 4)
        assert await bench.accept(ctx) == (0, 1, [(2, 0), (3, 0), (4, 0)])
        for k in range(4):
            await bench.give(ctx, 0, 10 + k, k)
        assert await bench.accept(ctx) == (0, 0, [(10 + k, k) for k in range(4)])
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
    bench.run(testbench)


def test_queues_that_are_due_have_their_turn(make):
    """In a hurry, while a chain of another queue always waits."""
    bench = make()

    async def testbench(ctx):
        await bench.give(ctx, 0, 1)
        await bench.give(ctx, 2, 2)
        ctx.set(bench.dut.hurry, 1)
        ctx.set(bench.dut.i[0].p, {"queue": 1, "flush": 1})
        ctx.set(bench.dut.i[0].valid, 1)
        batches = [await bench.accept(ctx) for _ in range(4)]
        assert {0, 2} <= {queue for queue, _, _ in batches}
    bench.run(testbench)


@pytest.mark.parametrize("phase", [1, 2])
def test_a_set_up_forgets_what_was_collected(make, phase):
    bench = make()
    dut = bench.dut

    async def testbench(ctx):
        await bench.give(ctx, 1, 7)
        await ctx.tick().repeat(phase)
        ctx.set(dut.setup_queue, 1)
        ctx.set(dut.setup_valid, 1)
        await ctx.tick()
        ctx.set(dut.setup_valid, 0)
        await bench.give(ctx, 1, 8, flush=1)
        assert await bench.accept(ctx) == (1, 0, [(8, 0)])
    bench.run(testbench)


def test_what_was_written_keeps_the_next_for_company(make):
    bench = make()
    dut = bench.dut

    async def testbench(ctx):
        await bench.give(ctx, 1, 7, flush=1)
        await bench.accept(ctx)
        await bench.give(ctx, 1, 8, flush=1)
        await ctx.tick().repeat(HOLD - 6)
        assert not ctx.get(dut.o.valid)
        assert await bench.accept(ctx) == (1, 0, [(8, 0)])
    bench.run(testbench)
