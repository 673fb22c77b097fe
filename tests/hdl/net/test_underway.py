"""Underway: chains come in the order of their TAKEs, and each is known for whose it is."""

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.net.underway import Underway

from ...kit import streams
from ...kit.simulation import Simulation, cycles
from ...kit.streams import pulse

PAIRS, AHEAD, SLOTS = 2, 4, 4


def simulate(main):
    dut, takes = Underway(num_queues=2 * PAIRS, pairs=PAIRS, ahead=AHEAD, slots=SLOTS), []

    async def collect(ctx):
        await streams.collect(ctx, dut.take, lambda p: takes.append(
            (p.op, p.queue, p.count) if p.op == TakeOp.COMMIT else (p.op, p.queue)))

    async def whole(ctx):
        ctx.set(dut.enabled, 0b0101)
        ctx.set(dut.available, 0b0101)
        ctx.set(dut.active, PAIRS)
        await main(ctx, dut, takes)
    simulation = Simulation(dut)
    simulation.background(collect)
    simulation.run(whole)


async def ask(ctx, dut, *pairs):
    """Take a chain for a frame of each of these pairs."""
    ctx.set(dut.there, 1)
    for pair in pairs:
        ctx.set(dut.at_pair, pair)
        ctx.set(dut.may_take, 1)
        while not ctx.get(dut.asked):
            await ctx.tick()
        await ctx.tick()
        ctx.set(dut.may_take, 0)
    ctx.set(dut.there, 0)


def test_order():
    async def main(ctx, dut, takes):
        await ask(ctx, dut, 0, 1, 0)
        assert ctx.get(dut.pending) == ctx.get(dut.at) == 3 and ctx.get(dut.holds)
        assert ctx.get(dut.mine)
        await pulse(ctx, dut.ended)
        assert not ctx.get(dut.mine)                       # the next one is of pair 1
        ctx.set(dut.pair, 1)
        await ctx.tick()
        assert ctx.get(dut.mine)
        ctx.set(dut.pair, 0)
        await pulse(ctx, dut.ended)
        assert ctx.get(dut.others)
        await pulse(ctx, dut.ended)
        assert (ctx.get(dut.pending), ctx.get(dut.chains)) == (0, 2)
        # What came for another is taken back first.
        for left in (1, 0):
            ctx.set(dut.rewind, 1)
            while not ctx.get(dut.rewound):
                await ctx.tick()
            await ctx.tick()
            ctx.set(dut.rewind, 0)
            await ctx.tick()
            assert not ctx.get(dut.others) and ctx.get(dut.chains) == 2 * left
        await cycles(ctx, 4)
        assert not ctx.get(dut.holds)
        assert takes == [(TakeOp.TAKE, 0), (TakeOp.TAKE, 2), (TakeOp.TAKE, 0), (TakeOp.REWIND, 2), (TakeOp.REWIND, 0)]
    simulate(main)


def test_commit():
    async def main(ctx, dut, takes):
        await ask(ctx, dut, 0)
        await pulse(ctx, dut.ended)
        assert ctx.get(dut.chains) == 1 and ctx.get(dut.fits)
        await pulse(ctx, dut.commit)
        assert ctx.get(dut.chains) == 0
        await cycles(ctx, 4)
        assert takes == [(TakeOp.TAKE, 0), (TakeOp.COMMIT, 0, 1)] and not ctx.get(dut.holds) and ctx.get(dut.idle)
    simulate(main)


@pytest.mark.parametrize("settings, takes", [
    ({}, True), ({"there": 0}, False), ({"available": 0}, False), ({"enabled": 0b0100}, False), ({"active": 0}, False),
    ({"delivering": SLOTS - 1}, True), ({"delivering": SLOTS}, False), ({"delivering": SLOTS - 1, "served": 1}, False),
    ({"apart": 1}, True), ({"apart": 1, "at_pair": 1}, False), ({"at_pair": 1}, True),
    ({"strays": 1, "at_pair": 1}, True), ({"strays": 1, "served": 1}, False),
])
def test_when_a_chain_is_taken(settings, takes):
    async def main(ctx, dut, _):
        ctx.set(dut.there, 1)
        for name, value in settings.items():
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.may_take, 1)
        await ctx.delay(1e-10)
        assert ctx.get(dut.asked) == takes
        ctx.set(dut.may_take, 0)
        await ctx.tick()
    simulate(main)
