"""When used chains are written: a lone one at once, those of a busy queue together, all within two ticks for each busy queue."""

from itertools import pairwise

import pytest

from ringnic.hdl.virtqueue.pacing import Pacing

from ...kit.simulator import Simulator

TICK, QUEUES = 8, 3
STROBES = ("given", "ends", "full", "taken", "written", "hurry")


@pytest.mark.parametrize("cycles", [0, 1, 3, 100])
def test_errors(cycles):
    with pytest.raises(ValueError, match=f"^A tick must be a power of 2 of at least 2 cycles, not {cycles}$"):
        Pacing(num_queues=2, hold_cycles=cycles)


def run(steps, serve=3):
    """Run with what ``steps`` yields for each cycle, ``(queue, names of strobes)`` or None; ``serve`` cycles after a queue is due
    its chains are taken, and written with them, before the next step. Return ``(cycle, queue)`` of each that became due, and the
    cycles of the steps."""
    dut, due, at = Pacing(num_queues=QUEUES, hold_cycles=TICK), [], []

    async def testbench(ctx):
        cycle = 0

        async def apply(queue, *names):
            nonlocal cycle
            ctx.set(dut.queue, queue)
            for name in STROBES:
                ctx.set(getattr(dut, name), name in names)
            await ctx.tick()
            cycle += 1
            for k in range(QUEUES):
                if ctx.get(dut.due) >> k & 1 and k not in waiting:
                    waiting[k] = cycle
                    due.append((cycle, k))
        waiting = {}
        for step in steps:
            at.append(cycle)
            await apply(*(step or (0,)))
            for k in [k for k, since in waiting.items() if cycle >= since + serve]:
                await apply(k, "taken", "written")
                del waiting[k]
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(testbench)
    sim.run()
    return due, at


@pytest.mark.parametrize("phase", range(TICK))
def test_a_lone_chain_is_due_at_once(phase):
    """And again, when nothing was written for two ticks."""
    steps = [None] * phase + [(1, "given", "ends"), *[None] * (2 * TICK + 6)] * 3
    due, at = run(steps)
    given = [cycle for cycle, step in zip(at, steps) if step]
    assert due == [(cycle + 1, 1) for cycle in given]


@pytest.mark.parametrize("phase", range(TICK))
@pytest.mark.parametrize("queues", [[0], [2], [0, 1], [0, 1, 2]])
def test_those_of_a_busy_queue_are_due_together(phase, queues):
    """Between one and two ticks for each busy queue after the last were written, whatever the device has in hand."""
    due, _ = run([None] * phase + [(queue, "given", "ends") for queue in queues] * (40 * TICK))
    for queue in queues:
        mine = [cycle for cycle, one in due if one == queue]
        gaps = [after - before for before, after in pairwise(mine)]
        # The chains of a step or two come before they are written, or another queue's are written just then.
        assert len(gaps) > 5 and min(gaps) >= len(queues) * TICK and max(gaps) <= 2 * len(queues) * TICK + 8


@pytest.mark.parametrize("phase", range(TICK))
def test_without_an_end_a_chain_grows_old(phase):
    """It does not end its packet, or the device has more: due within two ticks, and not within one."""
    due, _ = run([None] * phase + [(1, "given")] + [None] * (3 * TICK))
    [(cycle, queue)] = due
    assert queue == 1 and TICK <= cycle - phase <= 2 * TICK + 1


def test_a_full_batch_is_due_at_once():
    due, _ = run([(1, "given", "ends"), *[None] * 5, (1, "given"), (1, "given", "full"), *[None] * 5])
    assert due == [(1, 1), (9, 1)]


def test_in_a_hurry_all_is_due():
    """What waits, and what comes."""
    due, _ = run([(0, "given"), (2, "given"), None, (0, "hurry"), *[(0, "hurry")] * 9, (1, "given", "ends", "hurry"),
                  *[(0, "hurry")] * 6, (1, "given", "ends", "hurry")])
    assert due == [(4, 0), (4, 2), (16, 1), (24, 1)]


def test_what_was_not_written_makes_nobody_wait():
    """The chains of a packet that is not complete were looked at for nothing: its end is due at once."""
    dut = Pacing(num_queues=QUEUES, hold_cycles=TICK)

    async def testbench(ctx):
        ctx.set(dut.queue, 1)
        for names in (["given"], *[[]] * (2 * TICK + 2), ["taken"], [], ["given", "ends"]):
            for name in STROBES:
                ctx.set(getattr(dut, name), name in names)
            await ctx.tick()
        assert ctx.get(dut.due) == 2
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("phase", range(TICK))
def test_what_was_written_keeps_the_next_for_a_tick_however_old_it_was(phase):
    """A full batch that is written when its queue has grown older once."""
    due, _ = run([*[None] * phase, (1, "given"), *[None] * (TICK + 1), (1, "given", "full"), *[None] * 4, (1, "given", "ends"),
                  *[None] * (2 * TICK)])
    (full, _), (last, _) = due
    assert last - full >= TICK
