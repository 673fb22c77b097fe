"""Buffers for frames, as a part of the whole: chains that are taken ahead."""

import pytest

from ringnic.hdl.lib.buffers import TakeOp

from .test_receive import Bench


TAKE, COMMIT, REWIND = TakeOp.TAKE, TakeOp.COMMIT, TakeOp.REWIND


def ops(bench):
    return [op for op, *_ in bench.operations]


def test_chains_are_taken_for_frames_that_wait(rng):
    """One for each frame, up to four, of the frame's own pair, and before any of them has come."""
    for waiting, taken in ((1, 1), (3, 3), (4, 4), (9, 4)):
        bench = Bench(rng, pairs=2)
        for queue in bench.queues:
            for _ in range(20):
                bench.post([200], queue=queue)
        bench.frames = [(rng.randbytes(60), 0, 1)] * waiting + [(rng.randbytes(60), 0, 0)]

        async def control(ctx):
            bench.slow = True
            await ctx.tick().repeat(250)
            last = taken < 4
            assert bench.taken == {0: last, 2: taken} and bench.operations == [(TAKE, 2, 0)] * taken + [(TAKE, 0, 0)] * last
            bench.slow = False

        bench.run(control=control)
        assert len(bench.of_queue(0)) == 1 and len(bench.of_queue(2)) == waiting
        assert bench.committed == {0: 1, 2: waiting} and REWIND not in ops(bench)


def test_frames_that_go_to_another_queue_take_no_chains_ahead(rng):
    """Their own may be set up at any time, and then it has those that wait."""
    bench, frames = Bench(rng, pairs=2), [rng.randbytes(60 + k) for k in range(4)]
    for queue in bench.queues:
        for _ in range(20):
            bench.post([200], queue=queue)

    async def control(ctx):
        ctx.set(bench.dut.buffers.enabled, 0b001)
        bench.frames = [(frame, 0, 1) for frame in frames]
        bench.slow = True
        await ctx.tick().repeat(150)
        assert bench.taken == {0: 1, 2: 0}
        ctx.set(bench.dut.buffers.enabled, 0b101)
        bench.slow = False

    bench.run(control=control)
    assert bench.of_queue(0) == [(frames[0], 1)] and bench.of_queue(2) == [(frame, 1) for frame in frames[1:]]


def test_the_host_takes_nothing_of_the_patience_with_the_driver(rng):
    """A frame that waited long for its first chain to come has as much time as any other to get its second."""
    bench = Bench(rng, pairs=2, patience=200)
    mine, other = rng.randbytes(250), rng.randbytes(60)
    bench.post([200], queue=2)
    bench.post([200], queue=0)
    bench.frames = [(mine, 0, 1), (other, 0, 0)]

    async def control(ctx):
        bench.slow = True
        await ctx.tick().repeat(600)
        bench.slow = False
        await ctx.tick().repeat(150)
        bench.post([200], queue=2)

    bench.run(control=control)
    assert bench.of_queue(2) == [(mine, 2)] and bench.of_queue(0) == [(other, 1)]


def test_no_chain_is_taken_for_a_frame_that_is_dropped(rng):
    """Nor for one behind it: a frame of which it is known ends the run."""
    bench = Bench(rng, max_frame=100)
    for _ in range(20):
        bench.post([200])
    bench.frames = [(rng.randbytes(size), 0) for size in (60, 60, 200, 60, 200, 200, 60)]

    async def control(ctx):
        bench.slow = True
        await ctx.tick().repeat(300)
        assert bench.taken[0] == 2
        bench.slow = False

    bench.run(control=control)
    assert bench.counted() == {"rx_frames": 4, "rx_dropped_long": 3}
    assert bench.taken[0] == bench.committed[0] == 4 and REWIND not in ops(bench)


@pytest.mark.parametrize("busy", [1.0, 0.5])
def test_a_frame_of_many_chains_has_those_taken_for_others(busy, rng):
    bench, frames = Bench(rng, busy=busy), [rng.randbytes(size) for size in (400, 60, 399, 61, 62, 500)]
    for _ in range(60):
        bench.post([100])
    bench.frames = [(frame, 0) for frame in frames]
    bench.run()
    assert bench.delivered() == [(frame, -(-(len(frame) + 12) // 100)) for frame in frames]
    assert REWIND not in ops(bench) and bench.taken[0] == bench.committed[0] == 19


def test_what_was_taken_ahead_of_a_frame_that_is_dropped_comes_again(rng):
    """Without MRG_RXBUF the first chain is too small for the first frame. It and all behind it are for those that follow."""
    bench, frames = Bench(rng), [rng.randbytes(size) for size in (300, 60, 61, 62, 63)]
    for size in (80, 81, 82, 83):
        bench.post([size])

    async def control(ctx):
        bench.slow = True
        bench.frames = [(frame, 0) for frame in frames]
        await ctx.tick().repeat(200)
        bench.slow = False

    bench.run(control=control, mrg_rxbuf=0)
    assert bench.delivered() == [(frame, 1) for frame in frames[1:]]
    assert ops(bench)[:5] == [TAKE] * 4 + [REWIND] and ops(bench).count(REWIND) == 1
    assert bench.counted() == {"rx_frames": 4, "rx_dropped_no_buffer": 1}


@pytest.mark.parametrize("bad", range(4))
def test_what_was_taken_with_a_chain_that_fails_never_comes_again(bad, rng):
    """Frames before it are delivered; the frame that meets it is dropped, and all chains that were taken meanwhile are gone. As
    the engine does it, those behind it fail as well."""
    bench, frames = Bench(rng), [rng.randbytes(60 + k) for k in range(6)]
    for k in range(4):
        bench.post([100], error=k >= bad)

    async def control(ctx):
        bench.slow = True
        bench.frames = [(frame, 0) for frame in frames]
        for _ in range(400):
            await ctx.tick()
            bench.slow = bench.slow and bench.taken[0] < 4
            ctx.set(bench.dut.buffers.enabled, bench.taken[0] < 4)

    bench.stops = False
    bench.run(control=control)
    assert bench.delivered() == [(frame, 1) for frame in frames[:bad]]
    assert bench.committed[0] == bench.taken[0] == 4 and REWIND not in ops(bench)
    assert bench.counted() == {"rx_dropped_no_buffer": 6 - bad, **({"rx_frames": bad} if bad else {})}


def test_pause_lets_what_was_taken_come(rng):
    """Nothing more is taken. Frames that have enough are delivered; what is too little is taken back, once."""
    bench, frames = Bench(rng), [rng.randbytes(60), rng.randbytes(200), rng.randbytes(61)]
    for _ in range(6):
        bench.post([80])
    bench.frames = [(frame, 0) for frame in frames]

    async def control(ctx):
        bench.slow = True
        await ctx.tick().repeat(150)
        assert bench.taken[0] == 3
        bench.pausing = True
        await ctx.tick().repeat(5)
        bench.slow = False
        await ctx.tick().repeat(100)
        assert bench.taken[0] == bench.committed[0] == 1 and not ctx.get(bench.dut.buffers.holds)
        assert ops(bench) == [TAKE] * 3 + [COMMIT, REWIND]
        bench.pausing = False

    bench.run(control=control)
    assert bench.delivered() == [(frames[0], 1), (frames[1], 3), (frames[2], 1)]


@pytest.mark.parametrize("sizes", [[80], [40, 40]])
def test_no_more_chains_than_their_segments_have_places(sizes, rng):
    """While nothing can be written: eight frames have theirs, and no chain comes that has to wait."""
    bench = Bench(rng, depth=4096)
    for _ in range(40):
        bench.post(sizes)
    frames = [rng.randbytes(60) for _ in range(30)]
    bench.frames = [(frame, 0) for frame in frames]

    async def control(ctx):
        bench.busy = 0
        bench.always = True
        await ctx.tick().repeat(800)
        assert bench.taken[0] == bench.events["rx_frames"] == 8 and not bench.segments
        bench.busy = 1.0

    bench.run(control=control)
    assert bench.delivered() == [(frame, 1) for frame in frames]


def test_a_frame_of_one_chain_costs_a_take(rng):
    bench = Bench(rng, width=512, depth=4096)
    for _ in range(100):
        bench.post([80])
    bench.frames = [(rng.randbytes(60), 0) for _ in range(100)]
    bench.run()
    assert len(bench.delivered()) == ops(bench).count(TAKE) == 100 and REWIND not in ops(bench)
    assert sum(count for _, _, count in bench.operations) == 100
    assert (bench.cycle - 45) / 100 <= 3


@pytest.mark.parametrize("large", [0, 1])
@pytest.mark.parametrize("pairs", [2, 4])
def test_frames_of_pairs_in_turn_cost_little_more(pairs, large, rng):
    """A TAKE and a COMMIT each, for no two of them that follow one another are of one queue; and nothing is taken back, but
    behind a large frame that met a chain of another pair."""
    bench = Bench(rng, width=512, depth=4096, pairs=pairs)
    for _ in range(100 // pairs + 2 * large):
        for queue in bench.queues:
            bench.post([80], queue=queue)
    bench.frames = [(rng.randbytes(120), 0, 0)] * large + [(rng.randbytes(60), 0, k % pairs) for k in range(1, 101)]
    bench.run()
    assert [len(bench.of_queue(queue)) for queue in bench.queues] == [100 // pairs + large, *[100 // pairs] * (pairs - 1)]
    if not large:
        assert ops(bench).count(TAKE) == 100 and REWIND not in ops(bench)
    assert (bench.cycle - 45 - 60 * large) / 100 <= 6


def test_a_frame_that_meets_the_chain_of_another_pair(rng):
    """It needs a second chain, and the next one is of another queue: all is taken back, of both queues, and comes again. Then
    chains are taken for one pair at a time, until a frame had enough with one."""
    bench, large, small = Bench(rng, pairs=2), rng.randbytes(150), [rng.randbytes(60 + k) for k in range(3)]
    for queue in bench.queues:
        for _ in range(6):
            bench.post([100], queue=queue)
    bench.frames = [(large, 0, 0), (small[0], 0, 1), (small[1], 0, 0), (small[2], 0, 1)]

    async def control(ctx):
        bench.slow = True
        await ctx.tick().repeat(200)
        assert bench.operations == [(TAKE, 0, 0), (TAKE, 2, 0)] * 2
        bench.slow = False

    bench.run(control=control)
    assert bench.of_queue(0) == [(large, 2), (small[1], 1)] and bench.of_queue(2) == [(small[0], 1), (small[2], 1)]
    back = [at for at, op in enumerate(ops(bench)) if op == REWIND]
    assert sorted(bench.operations[at][1] for at in back) == [0, 2] and back[1] == back[0] + 1
    assert bench.operations[back[1] + 1:back[1] + 3] == [(TAKE, 0, 0)] * 2
    assert bench.counted() == {"rx_frames": 4}


def test_a_chain_that_fails_beside_those_of_another_pair(rng):
    """What was taken of the queue that has stopped never comes again; what was taken of the other one meanwhile does."""
    bench, frames = Bench(rng, pairs=2), [rng.randbytes(60 + k) for k in range(4)]
    for _ in range(6):
        bench.post([100], queue=0)
    bench.post([100], queue=2, error=True)
    bench.frames = [(frame, 0, (1, 0, 0, 0)[k]) for k, frame in enumerate(frames)]

    async def control(ctx):
        bench.slow = True
        await ctx.tick().repeat(200)
        assert bench.taken == {0: 3, 2: 1}
        bench.slow = False
        ctx.set(bench.dut.buffers.enabled, 0b001)

    bench.run(control=control)
    assert bench.of_queue(0) == [(frame, 1) for frame in frames[1:]]
    assert bench.committed == {0: 3, 2: 1} == bench.taken
    assert [queue for op, queue, _ in bench.operations if op == REWIND] == [0]
    assert bench.counted() == {"rx_frames": 3, "rx_dropped_no_buffer": 1}


@pytest.mark.parametrize("busy", [1.0, 0.6])
def test_frames_of_all_lengths_for_all_pairs(busy, rng):
    """Each pair gets its own, in order and whole, whatever was taken ahead of whom."""
    bench, sent = Bench(rng, width=128, depth=4096, pairs=4, busy=busy), {queue: [] for queue in range(0, 8, 2)}
    for _ in range(80):
        for queue in bench.queues:
            bench.post(rng.choice([[100], [150], [60, 40], [250]]), queue=queue)
    for _ in range(120):
        frame, pair = rng.randbytes(rng.choice([60, 80, 120, 300])), rng.choice([0, 1, 1, 2, 3])
        sent[2 * pair].append(frame)
        bench.frames.append((frame, 0, pair))
    bench.run()
    for queue, frames in sent.items():
        assert [frame for frame, _ in bench.of_queue(queue)] == frames
    assert not bench.memory.written and bench.counted() == {"rx_frames": 120} and bench.taken == bench.committed


@pytest.mark.parametrize("room", [1, 2, 3, 5])
@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_no_chain_waits_for_a_take(pairs, room, rng):
    """The engine may take no TAKE before the chains on their way have been accepted: then no frame that has its chain waits for
    one, whosever pair's COMMIT is due."""
    bench = Bench(rng, pairs=pairs)
    bench.room = room
    for _ in range(12):
        for queue in bench.queues:
            bench.post([80], queue=queue)
    bench.frames = [(rng.randbytes(60), 0, k % pairs) for k in range(12 * pairs)]

    async def control(ctx):
        bench.slow = True
        await ctx.tick().repeat(100)
        bench.slow = False

    bench.run(control=control, mrg_rxbuf=0)
    assert [len(bench.of_queue(queue)) for queue in bench.queues] == [12] * pairs
