"""Descriptors that become heads: which places they are written to, what is handed on, and when."""

from functools import cache

import pytest

from ringnic.hdl.virtqueue.heads import NO_ADDRESS, Heads

heads = cache(Heads)  # one that is simulated again is not elaborated again

DEPTH, WAITING = 8, 4


@pytest.fixture
def make(stage, rng):
    def bench(*, width=128, gate=None, **options):
        bench = stage(heads(width=width, num_queues=4, depth=DEPTH, waiting=WAITING), **options)
        bench.memory = {}                    # heads by queue and place
        bench.ends = [0] * 4                 # of each queue's heads that were pushed
        bench.came, bench.pushes = [], []    # heads, and how many came at once

        def pushed(item):
            """Take what it offers at once."""
            bench.pushes.append(item.count)
            for _ in range(item.count):
                place = bench.ends[item.queue]
                bench.came.append((item.queue, bench.memory.pop((item.queue, place), None)))
                bench.ends[item.queue] = (place + 1) % DEPTH
        bench.background(bench.collect_into, bench.dut.o, pushed, gate or (lambda: True))

        async def written(ctx):
            port = bench.dut.write
            async for _, _, valid, queue, place, head in ctx.tick().sample(port.valid, port.queue, port.place, port.head):
                if valid:
                    assert head.id == head.addr & 0xffff
                    bench.memory[queue, place] = head.addr
        bench.background(written)

        async def read(ctx, addrs):
            """The answer of one read."""
            lanes = width // 8
            body = b"".join(addr.to_bytes(8, "little") + bytes(8) for addr in addrs)
            for at in range(0, len(body), lanes):
                part = body[at:at + lanes]
                await bench.send(ctx, bench.dut.beat, {"data": int.from_bytes(part, "little"), "count": len(part),
                                                       "last": at + lanes >= len(body), "error": 0})

        async def judge(ctx, queue, addr, place, count):
            """Take the next descriptor, and hand on ``count`` heads."""
            port = bench.dut.i
            ctx.set(port.queue, queue)
            await bench.until(ctx, lambda: ctx.get(port.desc.valid))
            desc = ctx.get(port.desc.p)
            assert desc.desc.addr == addr and desc.marked == (addr == NO_ADDRESS)
            ctx.set(port.head, {"addr": addr, "id": addr & 0xffff})
            ctx.set(port.place, place)
            ctx.set(port.count, count)
            ctx.set(port.desc.ready, 1)
            await ctx.tick()
            ctx.set(port.desc.ready, 0)
            ctx.set(port.count, 0)
        bench.read, bench.judge = read, judge
        return bench
    return bench


def test_order_is_that_of_places_and_what_is_not_handed_on_is_written_over(make, rng):
    """Runs of up to all places, in either order; one in four fails. In between a queue is set up."""
    bench = make(pause=rng.choice([0.0, 0.3]))
    runs = [(rng.randrange(4), rng.sample(range(1000), rng.randint(1, DEPTH - 1)) + [NO_ADDRESS][:rng.randrange(2)])
            for _ in range(80)]
    expected = []

    async def answers(ctx):
        for _, addrs in runs:
            await bench.read(ctx, addrs)

    async def verdicts(ctx):
        for queue, addrs in runs:
            if rng.randrange(6) == 0:
                await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
                which = rng.randrange(4)
                await bench.setup(ctx, which, size=16)
                bench.ends[which] = 0
            places = list(range(len(addrs)))
            if rng.randrange(2):
                places.reverse()
            fails = rng.randrange(4) == 0
            # No place is reserved twice: it is free when its head has been taken.
            await bench.until(ctx, lambda: len(expected) - len(bench.came) + len(addrs) <= DEPTH)
            for addr, place in zip(addrs, places):
                last = place == places[-1]
                await bench.judge(ctx, queue, addr, place, len(addrs) if last and not fails else 0)
            if not fails:
                expected.extend((queue, addr) for addr in sorted(addrs, key=lambda addr: places[addrs.index(addr)]))
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
        assert bench.came == expected
    bench.run(answers, verdicts)


def test_pushes_that_wait(make):
    """Those of one queue join the last of them; so one is offered, and one waits. Of different queues each waits; while as many
    wait as may, nothing is offered. Heads go behind those that wait, and none is lost."""
    state = {"open": False}
    bench = make(gate=lambda: state["open"])
    queues = [1] * DEPTH + [2 + k % 2 for k in range(WAITING - 1)]
    addrs, places = list(range(len(queues))), [*range(DEPTH), *(k // 2 for k in range(WAITING - 1))]

    async def answers(ctx):
        await bench.read(ctx, [*addrs, 99])

    async def verdicts(ctx):
        for addr, queue in zip(addrs, queues):
            await bench.judge(ctx, queue, addr, 0, 1)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(bench.dut.i.desc.valid) and not bench.came
        assert bench.memory == dict(zip(zip(queues, places), addrs))
        state["open"] = True
        await bench.judge(ctx, 0, 99, 0, 1)
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
        assert bench.came == [*zip(queues, addrs), (0, 99)]
        assert bench.pushes == [1, DEPTH - 1] + [1] * WAITING
    bench.run(answers, verdicts)


@pytest.mark.parametrize("phase", range(-3, 4))
def test_a_set_up_beside_a_verdict(make, phase):
    """Whether it comes before the verdict, with it, or after it: what is handed on afterwards begins at the first place, and
    another queue goes on where it was."""
    bench = make()

    async def answers(ctx):
        await bench.read(ctx, range(5))

    async def verdicts(ctx):
        dut = bench.dut
        for queue in (1, 2):
            await bench.judge(ctx, queue, queue - 1, 0, 1)
        await ctx.tick().repeat(8)
        ctx.set(dut.setup.queue, 1)
        ctx.set(dut.i.queue, 1)
        for now in range(-4, 4):
            ctx.set(dut.setup_valid, now == phase)
            ctx.set(dut.i.desc.ready, now == 0)
            ctx.set(dut.i.count, now == 0)
            await ctx.tick()
        handed_on = phase < 0
        bench.memory.clear()
        await bench.judge(ctx, 1, 3, 0, 0)
        await bench.judge(ctx, 2, 4, 0, 0)
        await ctx.tick()
        assert bench.memory == {(1, int(handed_on)): 3, (2, 1): 4}
    bench.run(answers, verdicts)


def test_latency_rate_and_what_is_busy(make):
    """A descriptor is offered in the cycle after its beat, its head is written with the verdict, and handed on in the next cycle,
    or with those that come while another one is. Busy until the last has left."""
    bench = make()
    dut = bench.dut
    seen = []

    async def testbench(ctx):
        ctx.set(dut.i.desc.ready, 1)
        ctx.set(dut.beat.p, {"count": 16, "last": 1})
        for now in range(12):
            ctx.set(dut.beat.valid, now < 4)
            ctx.set(dut.i.count, 1 <= now < 5)
            seen.append((ctx.get(dut.i.desc.valid), ctx.get(dut.write.valid), ctx.get(dut.write.place), ctx.get(dut.o.valid),
                         ctx.get(dut.busy)))
            await ctx.tick()
    bench.run(testbench)
    offered, written, places, given, busy = map(list, zip(*seen))
    assert offered == written == [0] + [1] * 4 + [0] * 7
    assert places[1:5] == [0, 1, 2, 3]
    assert given == [0, 0, 1, 0, 1, 0, 1] + [0] * 5 and bench.pushes == [1, 1, 2]
    assert busy == [0] * 2 + [1] * 5 + [0] * 5


def test_the_end_of_a_failed_read_has_no_place(make):
    """It may come behind all descriptors that were asked for (:func:`read_beat`), as one more element."""
    bench = make()

    async def testbench(ctx):
        await bench.send(ctx, bench.dut.beat, {"data": 0x1000, "count": 16, "last": 0, "error": 0})
        await bench.judge(ctx, 1, 0x1000, 0, 0)
        assert bench.memory == {(1, 0): 0x1000}
        await bench.send(ctx, bench.dut.beat, {"data": 0, "count": 0, "last": 1, "error": 1})
        port = bench.dut.i
        await bench.until(ctx, lambda: ctx.get(port.desc.valid))
        assert ctx.get(port.desc.p.last) and ctx.get(port.desc.p.error)
        ctx.set(port.place, 1)
        ctx.set(port.desc.ready, 1)
        await ctx.tick().repeat(4)
        assert bench.memory == {(1, 0): 0x1000} and not bench.came
    bench.run(testbench)
