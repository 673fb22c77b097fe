"""Slots that hold a used descriptor of ours, against positions counted without end."""

import pytest

from ringnic.hdl.virtqueue.marks import Marks


@pytest.mark.parametrize("size", [1, 2, 5, 16, 32768])
def test_random(stage, rng, size):
    dut = Marks(num_queues=3)
    bench = stage(dut, limit=60_000)

    async def testbench(ctx):
        yes = 0
        for life in range(3):
            queue = (0, 2, 0)[life]
            ctx.set(dut.setup_queue, queue)
            ctx.set(dut.setup_valid, 1)
            await ctx.tick()
            ctx.set(dut.setup_valid, 0)
            # Of the life before nothing is left.
            ctx.set(dut.queue, queue)
            ctx.set(dut.size, size)
            ctx.set(dut.count, 1)
            for at in range(0, 2 * size, max(1, size // 3)):
                ctx.set(dut.slot, at % size)
                ctx.set(dut.flip, at // size)
                await ctx.tick().repeat(4)
                assert not ctx.get(dut.marked)
            used, apart_end = 0, 0             # descriptors passed; of them, up to the last batch with longer chains
            for step in range(120):
                for _ in range(rng.randrange(8)):
                    count = rng.randint(1, min(size, 64)) if rng.random() < 0.8 else size
                    apart = rng.random() < 0.05
                    old = used % size
                    used += count
                    ctx.set(dut.passed, {
                        "queue": queue, "old": (used % size - count) % 65536, "new": used % size,
                        "wrap": 1 - used // size % 2, "apart": apart})
                    assert (old - (used % size - count)) % size == 0
                    if apart:
                        apart_end = used
                    ctx.set(dut.passed_valid, 1)
                    await ctx.tick()
                    ctx.set(dut.passed_valid, 0)
                    for _ in range(rng.randrange(3)):   # the next batch may follow at once
                        await ctx.tick()
                await ctx.tick().repeat(24)
                at = used + (rng.randint(0, size) if rng.random() < 0.5 else rng.choice([0, size]))
                count = rng.randint(1, min(size, 32))
                for name, value in dict(queue=queue, size=size, slot=at % size, flip=at // size % 2, count=count).items():
                    ctx.set(getattr(dut, name), value)
                await ctx.tick().repeat(4)
                wanted = at + count <= used + size and at >= apart_end + size
                assert ctx.get(dut.marked) == wanted
                yes += wanted
        assert yes
    bench.run(testbench)


async def set_up(ctx, dut, queue):
    ctx.set(dut.setup_queue, queue)
    ctx.set(dut.setup_valid, 1)
    await ctx.tick()
    ctx.set(dut.setup_valid, 0)


@pytest.mark.parametrize("other", [False, True])
def test_a_batch_that_meets_the_set_up_of_its_queue_is_forgotten(stage, other):
    """A batch of queue 1 passes; its queue, or another, is set up in each of the cycles in which it is noted."""
    dut = Marks(num_queues=2)
    bench = stage(dut)

    async def note(ctx, ahead):
        """Let a batch pass, the set-up ``ahead`` cycles before it has been noted; return whether it is believed."""
        for queue in (0, 1):
            await set_up(ctx, dut, queue)
        ctx.set(dut.passed, {"queue": 1, "old": 0, "new": 4, "wrap": 1, "apart": 0})
        ctx.set(dut.passed_valid, 1)
        ctx.set(dut.setup_queue, int(not other))
        ctx.set(dut.setup_valid, ahead is not None and ahead > note.cycles)
        await ctx.tick()
        ctx.set(dut.passed_valid, 0)
        cycles = 0
        for now in range(12):
            cycles += ctx.get(dut.busy)
            ctx.set(dut.setup_valid, ahead is not None and now == note.cycles - ahead)
            await ctx.tick()
        assert not ctx.get(dut.busy)
        note.cycles = cycles
        for name, value in dict(queue=1, size=8, slot=0, flip=1, count=1).items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick().repeat(4)
        return ctx.get(dut.marked)

    async def testbench(ctx):
        note.cycles = 0
        assert await note(ctx, None)
        for ahead in (0, 1, 2):        # a cycle too late; with the write; with the look-up
            assert await note(ctx, ahead) == other
    bench.run(testbench)
