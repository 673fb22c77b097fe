"""Frames that wait: in order, which of them are of one pair, and how long the oldest may wait."""

import pytest

from ringnic.hdl.net.waiting import Patience, Window

from ...kit.simulation import Simulation
from ...kit.streams import pulse

HEADER = 12


@pytest.mark.parametrize("ahead", [2, 4])
def test_window_shows_frames_in_order(ahead, rng):
    """Against a list: what the oldest frame needs, and of which pairs those behind it are."""
    dut, pairs, longest = Window(pairs=3, ahead=ahead, max_frame=100), 3, 100
    port, shown = dut.i, dut.o
    inside, comes = [], []

    async def main(ctx):
        pair = 0
        for _ in range(1500):
            if not comes:
                pair = rng.choice([pair, pair, rng.randrange(pairs)])
                comes.append((rng.choice([60, 99, 100, 101, 104, 105, 108, 109, 9000]), rng.randrange(3), pair))
            length, tags, frame_pair = comes[0]
            offers = rng.randrange(2)
            ctx.set(port.valid, offers)
            ctx.set(port.payload, length)
            ctx.set(dut.i_note, {"tags": tags, "pair": frame_pair})
            pops = bool(inside) and rng.randrange(2)
            ctx.set(shown.next, pops)
            assert ctx.get(shown.valid) == bool(inside)
            if inside:
                assert (ctx.get(shown.need), ctx.get(shown.pair), ctx.get(shown.too_long)) == inside[0]
            if len(inside) > 1:
                assert ctx.get(shown.behind) == inside[1][1]
            assert ctx.get(shown.joined) == (
                len(inside) > 1 and inside[0][1] == inside[1][1] and not inside[0][2] and not inside[1][2])
            for at in range(ahead + 1):
                ctx.set(shown.at, at)
                assert ctx.get(shown.there) == (at < len(inside) and not any(frame[2] for frame in inside[:at + 1]))
                if at < len(inside):
                    assert ctx.get(shown.at_pair) == inside[at][1]
            assert ctx.get(port.ready) == (len(inside) < ahead)
            taken = offers and len(inside) < ahead
            await ctx.tick()
            if pops:
                inside.pop(0)
            if taken:
                comes.clear()
                inside.append((length + HEADER, frame_pair, length > longest + 4 * tags))
    Simulation(dut).run(main)


def test_one_frame_a_cycle():
    dut = Window(pairs=1, ahead=2, max_frame=100)

    async def main(ctx):
        ctx.set(dut.i.valid, 1)
        for length in range(60, 90):
            ctx.set(dut.i.payload, length)
            ctx.set(dut.o.next, length > 60)
            assert ctx.get(dut.i.ready)
            if length > 60:
                assert ctx.get(dut.o.need) == length - 1 + HEADER
            await ctx.tick()
    Simulation(dut).run(main)


def test_patience_ends_only_if_others_wait():
    dut = Patience(pairs=3, cycles=20, most=8)

    async def comes(ctx, pair):
        ctx.set(dut.pair, pair)
        await pulse(ctx, dut.kept)

    async def goes_on_for(ctx, cycles, over):
        for _ in range(cycles):
            assert ctx.get(dut.over) == over
            await ctx.tick()

    async def main(ctx):
        await comes(ctx, 1)
        await comes(ctx, 1)
        await goes_on_for(ctx, 60, 0)
        assert ctx.get(dut.endless)
        await comes(ctx, 2)
        await goes_on_for(ctx, 19, 0)
        assert not ctx.get(dut.endless)
        await ctx.tick().repeat(5)
        await goes_on_for(ctx, 10, 1)
        await pulse(ctx, dut.left)          # the next has patience of its own
        await goes_on_for(ctx, 15, 0)
        await pulse(ctx, dut.restart)
        await goes_on_for(ctx, 15, 0)
        await pulse(ctx, dut.left)          # what is left is of one pair
        await ctx.tick().repeat(2)
        await goes_on_for(ctx, 60, 0)
        assert ctx.get(dut.endless)
        await comes(ctx, 2)
        await goes_on_for(ctx, 60, 0)
        await pulse(ctx, dut.left)
        await comes(ctx, 0)
        await ctx.tick().repeat(25)
        assert ctx.get(dut.over)
    Simulation(dut).run(main)


@pytest.mark.parametrize("pairs", [1, 2])
def test_without_room_there_is_no_patience(pairs):
    dut = Patience(pairs=pairs, cycles=20, most=8)

    async def main(ctx):
        assert ctx.get(dut.endless) and not ctx.get(dut.over)
        ctx.set(dut.late, 1)
        assert ctx.get(dut.over) and not ctx.get(dut.endless)
        ctx.set(dut.late, 0)
        assert ctx.get(dut.endless) and not ctx.get(dut.over)
        await ctx.tick()
    Simulation(dut).run(main)
