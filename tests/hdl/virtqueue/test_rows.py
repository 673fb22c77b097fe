"""Rows of queues: what was stored comes back, and set-up makes it zero."""

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.lib import data

from ringnic.hdl.virtqueue.rows import PipelinedRows, QueueRows, SharedRows

from ...kit.streams import pulse

ROW = data.StructLayout({"a": 16, "b": 5})


async def look_up(ctx, dut, queue):
    ctx.set(dut.queue, queue)
    await ctx.tick()
    return ctx.get(dut.row.a), ctx.get(dut.row.b)


async def store(ctx, dut, a, b):
    ctx.set(dut.new, {"a": a, "b": b})
    await pulse(ctx, dut.write)


@pytest.mark.parametrize("num_queues", [1, 2, 3, 8])
def test_rows_against_a_list(stage, rng, num_queues):
    dut = QueueRows(num_queues=num_queues, shape=ROW)
    model = [(0, 0)] * num_queues

    async def testbench(ctx):
        for _ in range(400):
            queue = rng.randrange(num_queues)
            if rng.random() < 0.2:
                ctx.set(dut.setup_queue, queue)
                await pulse(ctx, dut.setup_valid)
                model[queue] = (0, 0)
                queue = rng.randrange(num_queues)
            assert await look_up(ctx, dut, queue) == model[queue]
            if rng.random() < 0.6:
                model[queue] = (rng.randrange(1 << 16), rng.randrange(32))
                await store(ctx, dut, *model[queue])
    stage(dut).run(testbench)


def test_row_of_a_held_queue_shows_the_write(stage):
    dut = QueueRows(num_queues=2, shape=ROW)

    async def testbench(ctx):
        for value in (3, 7, 0xffff):
            await look_up(ctx, dut, 1)
            await store(ctx, dut, value, 1)
            await ctx.tick()
            assert ctx.get(dut.row.a) == value
    stage(dut).run(testbench)


@pytest.mark.parametrize("other", [False, True])
def test_set_up_wins_over_a_write_in_the_same_cycle(stage, other):
    dut = QueueRows(num_queues=2, shape=ROW)

    async def testbench(ctx):
        for queue in (0, 1):
            await look_up(ctx, dut, queue)
            await store(ctx, dut, 9, 9)
        await look_up(ctx, dut, 1)
        ctx.set(dut.setup_queue, 0 if other else 1)
        ctx.set(dut.setup_valid, 1)
        await store(ctx, dut, 5, 5)
        ctx.set(dut.setup_valid, 0)
        assert await look_up(ctx, dut, 1) == ((5, 5) if other else (0, 0))
        assert await look_up(ctx, dut, 0) == ((0, 0) if other else (9, 9))
    stage(dut).run(testbench)


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("delay", [1, 2, 5])
def test_a_write_whose_look_up_was_before_a_set_up_is_lost(stage, delay, other):
    """A caller counts in a row: it looks the row up in cycle 8 and writes what it saw, plus one, ``delay`` cycles later. The
    set-up comes ``phase`` cycles after the look-up."""
    dut = QueueRows(num_queues=2, shape=ROW)
    looks, writes = 8, 8 + delay

    async def meet(ctx, phase):
        for queue in (0, 1):
            await look_up(ctx, dut, queue)
            await store(ctx, dut, 40, 9)
        seen = 0
        for now in range(20):
            ctx.set(dut.queue, 1 if looks <= now <= writes else 0)
            ctx.set(dut.held, delay > 1 and looks <= now <= writes)
            ctx.set(dut.setup_queue, 0 if other else 1)
            ctx.set(dut.setup_valid, now == looks + phase)
            if now == looks + 1:
                seen = ctx.get(dut.row.a)
            ctx.set(dut.new, {"a": seen + 1, "b": 9})
            ctx.set(dut.write, now == writes)
            await ctx.tick()
        counted = await look_up(ctx, dut, 1)
        if other:
            assert counted == (41, 9)
            assert await look_up(ctx, dut, 0) == (0, 0)
            return
        assert await look_up(ctx, dut, 0) == (40, 9)
        # What was looked up beside the set-up may be of either life, as long as it is of one.
        expected = {(1, 9)} if phase < 0 else {(0, 0)}
        assert counted in (expected | {(1, 9)} if phase == 0 and delay == 1 else expected)
        assert await look_up(ctx, dut, 1) == counted

    async def testbench(ctx):
        for phase in range(-4, 6):
            await meet(ctx, phase)
    stage(dut).run(testbench)


def test_a_caller_that_lost_its_row_can_write_it_again(stage):
    dut = QueueRows(num_queues=2, shape=ROW)

    async def testbench(ctx):
        for begins in (True, False):
            ctx.set(dut.held, 1)
            await look_up(ctx, dut, 1)
            ctx.set(dut.setup_queue, 1)
            ctx.set(dut.setup_valid, begins)
            await ctx.tick()
            ctx.set(dut.setup_valid, 0)
            await store(ctx, dut, 5, 5)
            ctx.set(dut.held, 0)
            await ctx.tick()
            assert await look_up(ctx, dut, 1) == ((0, 0) if begins else (5, 5))
    stage(dut).run(testbench)


def test_a_look_up_that_begins_anew_is_not_lost_with_the_one_before(stage):
    """The caller holds a queue without a cycle between two look-ups."""
    dut = QueueRows(num_queues=2, shape=ROW)

    async def testbench(ctx):
        ctx.set(dut.held, 1)
        ctx.set(dut.queue, 1)
        ctx.set(dut.setup_queue, 1)
        await pulse(ctx, dut.setup_valid)
        await store(ctx, dut, 5, 1)
        ctx.set(dut.begins, 1)
        assert await look_up(ctx, dut, 1) == (0, 0)
        ctx.set(dut.begins, 0)
        await store(ctx, dut, 7, 1)
        assert await look_up(ctx, dut, 1) == (7, 1)
    stage(dut).run(testbench)


def test_rows_are_zero_after_a_reset(stage):
    """Which reaches the bits, and not the memory."""
    reset = Signal()
    rows = QueueRows(num_queues=2, shape=ROW)
    dut = ResetInserter(reset)(rows)

    async def testbench(ctx):
        await look_up(ctx, rows, 1)
        await store(ctx, rows, 5, 5)
        assert await look_up(ctx, rows, 1) == (5, 5)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert await look_up(ctx, rows, 1) == (0, 0)
    stage(dut).run(testbench)


@pytest.mark.parametrize("num_queues", [1, 2, 3, 8])
def test_pipelined_rows_against_a_list(stage, rng, num_queues):
    """A look-up in each cycle, mostly of the same few queues; each row is written back in the next, or not; set-ups in any."""
    dut = PipelinedRows(num_queues=num_queues, shape=ROW)
    model, rate = [(0, 0)] * num_queues, 2 if num_queues == 1 else 4

    async def testbench(ctx):
        at = None
        for _ in range(600):
            queue, setup, writes = rng.randrange(num_queues), rng.randrange(num_queues), at is not None and rng.random() < 0.7
            sets_up, new = rng.random() < 1 / rate, (rng.randrange(1 << 16), rng.randrange(32))
            ctx.set(dut.queue, queue)
            ctx.set(dut.setup_queue, setup)
            ctx.set(dut.setup_valid, sets_up)
            ctx.set(dut.write, writes)
            ctx.set(dut.new, dict(zip("ab", new)))
            assert at is None or ctx.get(dut.meets) == (sets_up and setup == at)
            if writes:
                model[at] = new
            if sets_up:
                model[setup] = (0, 0)
            await ctx.tick()
            at = queue
            assert ctx.get(dut.at) == at
            assert (ctx.get(dut.row.a), ctx.get(dut.row.b)) == model[at]
    stage(dut).run(testbench)


def test_pipelined_rows_are_zero_after_a_reset(stage):
    reset = Signal()
    dut = PipelinedRows(num_queues=2, shape=ROW)
    wrapped = ResetInserter(reset)(dut)

    async def testbench(ctx):
        ctx.set(dut.queue, 1)
        await ctx.tick()
        ctx.set(dut.new, {"a": 7, "b": 7})
        await pulse(ctx, dut.write)
        await ctx.tick()
        assert ctx.get(dut.row.a) == 7
        await pulse(ctx, reset)
        await ctx.tick()
        assert ctx.get(dut.row.a) == 0
    stage(wrapped).run(testbench)


@pytest.mark.parametrize("num_queues", [1, 2, 3, 8])
def test_shared_rows_against_a_list(stage, rng, num_queues):
    """A look-up, a write and a set-up in every cycle, of any queues: a row shows what was there before the cycle, in the next one
    also that the queue was set up in it, and a set-up wins over a write."""
    dut = SharedRows(num_queues=num_queues, shape=ROW)
    model = [(0, 0)] * num_queues

    async def testbench(ctx):
        for _ in range(1500):
            queue, at, setup = (rng.randrange(num_queues) for _ in range(3))
            writes, sets_up = rng.random() < 0.5, rng.random() < 0.2
            new = (rng.randrange(1 << 16), rng.randrange(32))
            for name, value in dict(queue=queue, at=at, new=dict(zip("ab", new)), write=writes, setup_queue=setup,
                                    setup_valid=sets_up).items():
                ctx.set(getattr(dut, name), value)
            before = model[queue]
            expected = (0, 0) if sets_up and setup == queue else before
            if writes:
                model[at] = new
            if sets_up:
                model[setup] = (0, 0)
            assert (ctx.get(dut.now.a), ctx.get(dut.now.b)) == before
            await ctx.tick()
            assert (ctx.get(dut.row.a), ctx.get(dut.row.b)) == expected
    stage(dut).run(testbench)
