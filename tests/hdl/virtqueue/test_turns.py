"""Whose turn it is, and what for."""

import pytest

from ringnic.hdl.virtqueue.turns import AvailTurns, PackedTurns

from ...kit.streams import pulse


class Turns:
    """Strobes for a queue, and what the turns say of it."""
    def __init__(self, dut):
        self.dut = dut

    async def strobe(self, ctx, name, queue, **also):
        dut = self.dut
        ctx.set(getattr(dut, f"{name}_queue"), queue)
        for other, value in also.items():
            ctx.set(getattr(dut, other), value)
        await pulse(ctx, getattr(dut, f"{name}_valid"))
        for other in also:
            ctx.set(getattr(dut, other), 0)

    async def act(self, ctx, queue, *names):
        ctx.set(self.dut.queue, queue)
        for name in names:
            ctx.set(getattr(self.dut, name), 1)
        await ctx.tick()
        for name in names:
            ctx.set(getattr(self.dut, name), 0)

    def of(self, ctx, queue, name):
        ctx.set(self.dut.queue, queue)
        return ctx.get(getattr(self.dut, name))


@pytest.mark.parametrize("make", [AvailTurns, PackedTurns])
def test_choice_goes_round(stage, make):
    dut = make(num_queues=4)
    turns = Turns(dut)

    async def testbench(ctx):
        assert not ctx.get(dut.any)
        for queue in (0, 1, 3):
            await turns.strobe(ctx, "setup", queue)
        last = dut.queue if make is PackedTurns else dut.last
        for before, after in ((0, 1), (1, 3), (2, 3), (3, 0)):
            ctx.set(last, before)
            assert ctx.get(dut.any) and ctx.get(dut.choice) == after
        ctx.set(dut.stopped, 0b1011)
        assert not ctx.get(dut.any)
    stage(dut, watch_busy=False).run(testbench)


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


def test_split_queue_from_its_set_up_to_rest(stage):
    dut = AvailTurns(num_queues=3)
    turns = Turns(dut)

    async def testbench(ctx):
        await turns.strobe(ctx, "setup", 1)
        assert turns.of(ctx, 1, "begins") and not turns.of(ctx, 0, "begins")
        await turns.act(ctx, 1, "polls")
        await turns.act(ctx, 1, "event_valid")
        assert not turns.of(ctx, 1, "armed")                      # that was flags and idx
        await turns.strobe(ctx, "kick", 1, notification_data=1, kick_next=5)
        assert not ctx.get(dut.any)                               # nothing is read before it has left
        await turns.strobe(ctx, "left", 1)
        assert ctx.get(dut.any) and ctx.get(dut.fetches) and turns.of(ctx, 1, "told")
        await ctx.tick()
        assert ctx.get(dut.told_idx) == 5
        await turns.act(ctx, 1, "heard", "rest")
        assert ctx.get(dut.any) and not ctx.get(dut.fetches) and not turns.of(ctx, 1, "told")
        await turns.act(ctx, 1, "polls")
        ctx.set(dut.look, 0b010)
        await ctx.tick()
        ctx.set(dut.look, 0)
        assert not ctx.get(dut.any) and not ctx.get(dut.waits)    # one read of idx at a time
        await turns.strobe(ctx, "kick", 1)
        assert not ctx.get(dut.any) and ctx.get(dut.waits)        # but it is not forgotten
        await turns.act(ctx, 1, "answered", "event_valid")
        assert ctx.get(dut.any) and turns.of(ctx, 1, "armed")
        await turns.act(ctx, 1, "polls")
        await turns.act(ctx, 1, "answered", "fetch", "moved")
        assert ctx.get(dut.fetches) and not turns.of(ctx, 1, "armed")
        await turns.act(ctx, 1, "rest", "poll")
        assert ctx.get(dut.any) and not ctx.get(dut.fetches)
        await turns.act(ctx, 1, "polls")
        await turns.act(ctx, 1, "answered")
        assert not ctx.get(dut.any)
        await turns.strobe(ctx, "freed", 1)
        assert ctx.get(dut.fetches)
        # Of the life before nothing is known but that entries may be there, which are not read before the ring has begun.
        await turns.strobe(ctx, "kick", 1, notification_data=1)
        await turns.strobe(ctx, "setup", 1)
        assert turns.of(ctx, 1, "begins") and not turns.of(ctx, 1, "told") and not ctx.get(dut.fetches)
    stage(dut, watch_busy=False).run(testbench)
