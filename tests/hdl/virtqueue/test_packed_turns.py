"""Whose turn it is, and what for: packed queues."""

import pytest

from ringnic.hdl.virtqueue.packed_turns import PackedTurns

from ...kit.streams import pulse
from ...kit.turns import Turns, go_round


def test_choice_goes_round(stage):
    dut = PackedTurns(num_queues=4)
    go_round(stage, dut, dut.queue)


@pytest.mark.parametrize("meets", [False, True])
def test_packed_queue_from_its_set_up_to_rest(stage, meets):
    """Its event is written before the ring is read; in the cycle of a strobe to the contrary, who wants a look gets it."""
    dut = PackedTurns(num_queues=3)
    turns = Turns(dut)

    async def testbench(ctx):
        await turns.strobe(ctx, "setup", 2)
        assert turns.of(ctx, 2, "begins") and turns.of(ctx, 2, "tells") and not turns.of(ctx, 1, "begins")
        await turns.act(ctx, 2, "tell")
        await turns.act(ctx, 2, "told")
        await turns.strobe(ctx, "kick", 2)
        assert not ctx.get(dut.any) and ctx.get(dut.reading)      # not before it has left
        await turns.strobe(ctx, "left", 2)
        assert ctx.get(dut.any) and ctx.get(dut.choice) == 2 and not turns.of(ctx, 2, "tells")
        ctx.set(dut.kick_valid, meets)
        await turns.act(ctx, 2, "asked")
        ctx.set(dut.kick_valid, 0)
        ctx.set(dut.look, 0b100)
        await ctx.tick()
        ctx.set(dut.look, 0)
        assert not ctx.get(dut.any)                               # one read at a time
        await turns.strobe(ctx, "result", 2, empty=1)             # nothing was taken, and the driver knows where we wait
        assert ctx.get(dut.any) == meets and not ctx.get(dut.reading)
        await turns.act(ctx, 2, "asked")
        await turns.strobe(ctx, "result", 2, empty=1, taken=1)
        assert ctx.get(dut.any) and turns.of(ctx, 2, "tells") and not turns.of(ctx, 2, "begins")
        await turns.act(ctx, 2, "tell")
        await turns.act(ctx, 2, "told")
        assert not ctx.get(dut.any)
        await turns.strobe(ctx, "left", 2)
        assert ctx.get(dut.any)                                   # once more
        await turns.act(ctx, 2, "asked")
        await turns.strobe(ctx, "result", 2, again=1, taken=1)
        assert ctx.get(dut.any) and not turns.of(ctx, 2, "tells")
        await turns.act(ctx, 2, "asked")
        await turns.strobe(ctx, "result", 2)
        assert not ctx.get(dut.any)
        await pulse(ctx, dut.look)                                # of another queue; then of this one
        assert ctx.get(dut.any) and ctx.get(dut.choice) == 0
        ctx.set(dut.stopped, 0b001)
        ctx.set(dut.look, 0b100)
        await ctx.tick()
        assert ctx.get(dut.any) and ctx.get(dut.choice) == 2
    stage(dut, watch_busy=False).run(testbench)


@pytest.mark.parametrize("late", [False, True])
def test_packed_queue_without_room(stage, late):
    """It rests until room is free; if that came before the answer was looked at, it does not."""
    dut = PackedTurns(num_queues=2)
    turns = Turns(dut)

    async def testbench(ctx):
        await turns.strobe(ctx, "kick", 1)
        await turns.strobe(ctx, "freed", 1)
        await turns.act(ctx, 1, "lacks")
        assert turns.of(ctx, 1, "hungry") and not turns.of(ctx, 0, "hungry")
        if not late:
            await turns.strobe(ctx, "freed", 1)
        await turns.act(ctx, 1, "refused")
        assert ctx.get(dut.any) != late
        if late:
            await turns.strobe(ctx, "freed", 1)
        assert ctx.get(dut.any) and not turns.of(ctx, 1, "hungry")
        await turns.act(ctx, 1, "lacks")
        await turns.act(ctx, 1, "granted")
        assert not turns.of(ctx, 1, "hungry")
    stage(dut, watch_busy=False).run(testbench)
