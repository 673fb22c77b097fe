"""Packets that share beats: each comes out on beats of its own, with its own BAR."""

import random

import pytest

from ringnic.hdl.pcie.series7.straddle import Straddle

from ....kit import streams
from ....kit.simulation import Simulation
from .conftest import dws, straddled


def through(packets, high, *, seed=None):
    """What comes out of the beats in which ``packets`` come: DWs and BAR hit of each."""
    dut, rng, found, words = Straddle(), random.Random(seed), [], []

    def idle():
        return seed is not None and rng.random() < 0.4

    def take(beat):
        if not words:
            found.append(([], beat.hit))
        words.extend(int(beat.data) >> 32 * k & 0xffff_ffff for k in range(beat.dws))
        assert beat.last or beat.dws == 4
        if beat.last:
            found[-1][0].extend(words)
            words.clear()

    async def main(ctx):
        for data, user in straddled(packets, high):
            while idle():
                await ctx.tick()
            ctx.set(dut.beat, data)
            ctx.set(dut.user, user)
            await streams.transfer(ctx, dut)
        await ctx.tick().repeat(30)
    simulation = Simulation(dut)
    simulation.background(streams.collect, dut.o, take, lambda: not idle())
    simulation.run(main)
    assert not words
    return found


def packet(rng, size, number):
    return bytes([number]) + rng.randbytes(4 * size - 1)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_every_end_meets_every_beginning(seed):
    """Packets of 3 to 10 DWs, each behind each, as close as the block puts them, or as far, or as chance has it."""
    rng = random.Random(seed)
    sizes = [n for first in range(3, 11) for second in range(3, 11) for n in (first, second)]
    packets = [(packet(rng, n, k & 0xff), rng.choice((0, 1, 2))) for k, n in enumerate(sizes)]
    expected = [(dws(tlp), hit & 1) for tlp, hit in packets]
    for high in (lambda: True, lambda: False, lambda: rng.random() < 0.5):
        assert through(packets, high, seed=seed) == expected
