"""Operations on chains in order, and which pairs can be served."""

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.net.takes import Pairs, TakeOffer

from ...kit import streams
from ...kit.simulation import Simulation


def test_commits_go_first_and_together():
    dut, done = TakeOffer(pairs=2, ahead=2), []

    async def take(ctx):
        async for _, _, moved, op, queue, count in ctx.tick().sample(
                dut.take.valid & dut.take.ready, dut.take.p.op, dut.take.p.queue, dut.take.p.count):
            if moved:
                done.append((op, queue, count) if op == TakeOp.COMMIT else (op, queue))

    async def commit(ctx, pair, count):
        ctx.set(dut.pair, pair)
        await ctx.tick()
        assert ctx.get(dut.fits)
        ctx.set(dut.count, count)
        ctx.set(dut.commit, 1)
        await ctx.tick()
        ctx.set(dut.commit, 0)

    async def main(ctx):
        assert ctx.get(dut.idle)
        await streams.send(ctx, dut.i, {"op": TakeOp.TAKE, "pair": 1})
        assert not ctx.get(dut.idle)
        await commit(ctx, 1, 2)
        await commit(ctx, 1, 3)
        await commit(ctx, 0, 7)                      # of another pair, and behind it
        await commit(ctx, 1, 9)
        ctx.set(dut.i.p, {"op": TakeOp.REWIND, "pair": 1})
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(4)
        assert not ctx.get(dut.i.ready) and not done
        ctx.set(dut.take.ready, 1)
        await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.idle) and ctx.get(dut.fits)
        assert done == [(TakeOp.TAKE, 2), (TakeOp.COMMIT, 2, 5), (TakeOp.COMMIT, 0, 7), (TakeOp.COMMIT, 2, 9), (TakeOp.REWIND, 2)]

    simulation = Simulation(dut)
    simulation.background(take)
    simulation.run(main)


@pytest.mark.parametrize("ahead", [2, 4, 8])
def test_what_is_kept_does_not_wait_for_a_take(ahead, rng):
    """As many COMMITs as there can be chains on their way, of pairs in turn, while a TAKE is not accepted."""
    dut, done = TakeOffer(pairs=4, ahead=ahead), []
    wanted = [(2 * (k % 4), 1 + rng.randrange(9)) for k in range(ahead)]

    async def main(ctx):
        await streams.send(ctx, dut.i, {"op": TakeOp.TAKE, "pair": 3})
        for queue, count in wanted:
            ctx.set(dut.pair, queue >> 1)
            ctx.set(dut.count, count)
            assert ctx.get(dut.fits)
            ctx.set(dut.commit, 1)
            await ctx.tick()
        ctx.set(dut.commit, 0)
        ctx.set(dut.take.ready, 1)
        while not ctx.get(dut.idle):
            _, _, moved, p = await ctx.tick().sample(dut.take.valid, dut.take.p)
            if moved:
                done.append((p.op, p.queue, p.count))
        assert done == [(TakeOp.TAKE, 6, 0), *((TakeOp.COMMIT, *one) for one in wanted)]
    Simulation(dut).run(main)


def test_a_take_waits_until_the_one_before_is_seen():
    """``available`` says nothing of a TAKE in the cycle in which it is accepted."""
    dut = TakeOffer(pairs=1, ahead=2)

    async def main(ctx):
        ctx.set(dut.take.ready, 1)
        ctx.set(dut.i.valid, 1)
        seen = [(await ctx.tick().sample(dut.i.ready, dut.take.valid))[2:] for _ in range(8)]
        assert [tuple(map(int, pair)) for pair in seen] == [(1, 0), (0, 1)] * 4
    Simulation(dut).run(main)


@pytest.mark.parametrize("pair, op, want", [
    (0, TakeOp.TAKE, [(TakeOp.TAKE, 0, 3)]),
    (1, TakeOp.TAKE, [(TakeOp.COMMIT, 0, 3), (TakeOp.TAKE, 2, 0)]),
    (0, TakeOp.REWIND, [(TakeOp.COMMIT, 0, 3), (TakeOp.REWIND, 0, 0)]),
    (0, None, [(TakeOp.COMMIT, 0, 3)]),
])
def test_chains_are_committed_with_a_take_of_their_pair_or_alone(pair, op, want):
    """What is to be committed while the operation before waits goes with the next one if that is a TAKE, else before it."""
    dut, done = TakeOffer(pairs=2, ahead=2), []

    async def main(ctx):
        await streams.send(ctx, dut.i, {"op": TakeOp.TAKE, "pair": 0})
        for count in (1, 2):
            ctx.set(dut.count, count)
            ctx.set(dut.commit, 1)
            await ctx.tick()
        ctx.set(dut.commit, 0)
        ctx.set(dut.i.p, {"op": op or TakeOp.TAKE, "pair": pair})
        ctx.set(dut.i.valid, op is not None)
        ctx.set(dut.take.ready, 1)
        for _ in range(8):
            _, _, moved, p, accepted = await ctx.tick().sample(dut.take.valid, dut.take.p, dut.i.valid & dut.i.ready)
            if moved:
                done.append((p.op, p.queue, p.count))
            if accepted:
                ctx.set(dut.i.valid, 0)
        assert ctx.get(dut.idle)
        assert done == [(TakeOp.TAKE, 0, 0), *want]
    Simulation(dut).run(main)


def test_pairs():
    dut = Pairs(num_queues=8, pairs=4)

    async def main(ctx):
        for enabled in range(16):
            for active in range(5):
                ctx.set(dut.enabled, sum((enabled >> k & 1) << 2 * k for k in range(4)) | 0xaa)
                ctx.set(dut.available, sum((enabled >> k & 1) << 2 * k for k in range(4)) ^ 0xff)
                ctx.set(dut.active, active)
                await ctx.tick()
                usable = [k for k in range(active) if enabled >> k & 1]
                assert ctx.get(dut.any) == bool(usable)
                assert not usable or ctx.get(dut.first) == usable[0]
                for pair in range(4):
                    ctx.set(dut.pair, pair)
                    assert ctx.get(dut.here) == (pair in usable) and ctx.get(dut.ready) == 1 - (enabled >> pair & 1)
    Simulation(dut).run(main)
