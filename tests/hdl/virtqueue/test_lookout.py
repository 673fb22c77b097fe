"""When a ring is looked at without a notification: once per interval while somebody wants chains of it, and never else."""

import pytest

from ringnic.hdl.virtqueue.lookout import Lookout

from ...kit.simulator import Simulator

INTERVAL = 8


@pytest.mark.parametrize("interval", [0, 1, 3, 100])
def test_errors(interval):
    with pytest.raises(ValueError, match=f"^Interval must be a power of 2 of at least 2 cycles, not {interval}$"):
        Lookout(num_queues=2, interval=interval)


def looks(wants):
    """Run with ``wants`` of each cycle; return ``(cycle, look)`` of those in which a queue was to be looked at."""
    dut, seen = Lookout(num_queues=3, interval=INTERVAL), []

    async def testbench(ctx):
        for cycle, queues in enumerate(wants):
            ctx.set(dut.wants, queues)
            await ctx.tick()
            if look := ctx.get(dut.look):
                seen.append((cycle, look))
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(testbench)
    sim.run()
    return seen


def test_once_per_interval():
    assert looks([0b010] * 30) == [(7, 0b010), (15, 0b010), (23, 0b010)]


def test_nobody_wants_anything():
    assert looks([0] * 100) == []


def test_only_what_is_wanted_at_the_end():
    assert looks([0b001] * 7 + [0b110] * 9 + [0] * 20) == [(7, 0b110), (15, 0b110)]


def test_a_flood_of_short_waits_counts_as_one():
    """Frames that are dropped one after another, none of which waits for a whole interval."""
    assert looks([0b001, 0b001, 0, 0, 0] * 8) == [(16, 0b001), (36, 0b001)]
