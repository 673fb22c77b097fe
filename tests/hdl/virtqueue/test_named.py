"""What notifications named, against a list."""

import pytest

from ringnic.hdl.virtqueue.named import Named


@pytest.mark.parametrize("num_queues", [1, 3, 8])
def test_random(stage, rng, num_queues):
    """Everything in any cycle, mostly of the same few queues."""
    dut = Named(num_queues=num_queues)
    model = [None] * num_queues

    async def testbench(ctx):
        last = [0] * num_queues
        for _ in range(2000):
            queue, kick, setup = (rng.randrange(num_queues) for _ in range(3))
            clears, keeps, kicks, sets_up = (rng.random() < rate for rate in (0.3, 0.1, 0.3, 0.1))
            named = rng.getrandbits(16)
            for name, value in dict(queue=queue, clear=clears, keep=keeps, kick_valid=kicks, kick_queue=kick, kick_next=named,
                                    setup_valid=sets_up, setup_queue=setup).items():
                ctx.set(getattr(dut, name), value)
            assert ctx.get(dut.valid) == (model[queue] is not None)
            if clears or keeps:
                model[queue] = last[queue] if keeps else None
            if kicks:
                model[kick] = last[kick] = named
            if sets_up:
                model[setup] = None
            await ctx.tick()
            if model[queue] is not None:
                assert ctx.get(dut.next) == model[queue]   # of a notification in the very cycle of the question, too
    stage(dut, watch_busy=False).run(testbench)
