"""Whose turn it is, and what for: split queues."""

from ringnic.hdl.virtqueue.avail_turns import AvailTurns

from ...kit.turns import Turns, go_round


def test_choice_goes_round(stage):
    dut = AvailTurns(num_queues=4)
    go_round(stage, dut, dut.last)


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
