"""Receive: frames to chains, few or many, with and without MRG_RXBUF."""

from functools import cache
import itertools

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.net.receive import Receive

from ...kit import streams
from ...kit.memory import Memory, Writes
from ...kit.simulation import Simulation

receive = cache(Receive)  # one that is simulated again is not elaborated again

HEADER = 12


class Bench:
    """The engine with receive queues (0, 2, ...), host memory behind the write port, and a wire."""
    def __init__(self, rng, *, width=64, busy=1.0, depth=512, max_segments=64, max_frame=9014, pairs=1, patience=4096):
        self.rng, self.width, self.busy = rng, width, busy
        self.dut = receive(width=width, num_queues=2 * pairs, pairs=pairs, depth=depth, max_segments=max_segments,
                           max_frame=max_frame, patience=patience)
        self.queues = range(0, 2 * pairs, 2)
        self.chains = {queue: [] for queue in self.queues}   # every chain ever posted
        self.taken = {queue: 0 for queue in self.queues}     # how far the device is
        self.committed = {queue: 0 for queue in self.queues}
        self.frames, self.segments = [], []
        self.memory = Memory(rng.random())                   # the device-writable segments that were posted
        self.written = self.told = 0                         # bytes that were written; of chains that were given back
        self.all_used, self.cycle, self.stopped, self.pausing = [], 0, set(), False
        self.operations = []                                 # with their queue, and what is committed
        # Segments are kept back; a chain that fails is the last of its queue; takes and segments go on while nothing else does.
        self.slow, self.stops, self.always = False, True, False
        # The engine takes so many TAKEs, and then none before all chains of those have come.
        self.room, self.inside, self.coming = None, 0, 0
        self.events = {name: 0 for name, _ in self.dut.events.shape()}
        self.next_addr = 0x2_0000_0000

    @property
    def used(self):
        return [entry[1:] for entry in self.all_used]

    def post(self, sizes, *, read=(), error=False, queue=0):
        id, segments = len(self.chains[queue]) ^ 0x55, []
        for k, size in enumerate(sizes):
            last = k == len(sizes) - 1
            segments.append({"queue": queue, "chain": {"id": id}, "addr": self.next_addr, "len": size, "write": k not in read,
                             "last": last, "error": error and last})
            if segments[-1]["write"]:
                self.memory.add(self.next_addr, min(size, 70000))
            self.next_addr += min(size, 70000) + self.rng.randrange(1, 64)
        self.chains[queue].append(segments)

    def idle(self):
        return self.rng.random() > self.busy

    async def takes(self, ctx):
        take, p = self.dut.buffers.take, self.dut.buffers.take.p
        while True:
            ctx.set(self.dut.buffers.pause, self.pausing)
            ctx.set(self.dut.buffers.available, 0 if self.pausing else sum(
                1 << queue for queue in self.queues if self.taken[queue] < len(self.chains[queue]) and queue not in self.stopped))
            if not self.coming:
                self.inside = 0
            full = self.room is not None and self.inside >= self.room and ctx.get(take.valid) and ctx.get(p.op) == TakeOp.TAKE
            ctx.set(take.ready, not full and (self.always or not self.idle()))
            _, _, offered, taken, op, queue, count, holds = await ctx.tick().sample(
                take.valid, take.valid & take.ready, p.op, p.queue, p.count, self.dut.buffers.holds)
            self.cycle += 1
            # A queue may be set up while nothing is in hand: then no operation may be on its way.
            assert not offered or holds
            assert not offered or op == TakeOp.TAKE or self.taken[queue] != self.committed[queue]
            # A TAKE that has nothing to take would wait, and nothing else could be said meanwhile.
            assert not offered or op != TakeOp.TAKE or self.taken[queue] < len(self.chains[queue]) and queue not in self.stopped
            if taken:
                self.operations.append((op, queue, 0 if op == TakeOp.REWIND else count))
            if taken and op != TakeOp.REWIND:
                self.committed[queue] += count
                assert self.committed[queue] <= self.taken[queue]
            if taken and op == TakeOp.TAKE:
                chain = self.chains[queue][self.taken[queue]]
                self.segments += chain
                self.inside, self.coming = self.inside + 1, self.coming + 1
                if chain[-1]["error"] and self.stops:
                    self.stopped.add(queue)
                self.taken[queue] += 1
            elif taken and op == TakeOp.REWIND:
                assert not self.segments
                self.taken[queue] = self.committed[queue]

    async def give_segments(self, ctx):
        port = self.dut.buffers.segment
        while True:
            if not self.segments or self.slow or self.idle() and not self.always:
                await ctx.tick()
                continue
            segment = self.segments.pop(0)
            await streams.send(ctx, port, segment)
            self.coming -= segment["last"]

    async def take_writes(self, ctx):
        write, came = self.dut.write, Writes(self.width // 8)
        while True:
            ctx.set(write.req.ready, not self.idle())
            ctx.set(write.data.ready, bool(came.waiting) and not self.idle())
            _, _, asked, request, moved, beat = await ctx.tick().sample(
                write.req.valid & write.req.ready, write.req.p, write.data.valid & write.data.ready, write.data.p)
            if moved:
                addr, data, _ = came.give(beat)
                self.memory.write(addr, data)
                self.written += len(data)
            if asked:
                came.ask(request)
                assert came.waiting <= 2               # one may be asked for while the one before is written

    async def take_used(self, ctx):
        def take(p):
            # All of the chain has been written. The next write may have begun in this cycle.
            self.told += p.len
            assert self.told <= self.written
            self.all_used.append((p.queue, p.chain.id, p.len, p.more, p.flush))
        await streams.collect(ctx, self.dut.buffers.used, take, lambda: not self.idle())

    async def give_frames(self, ctx):
        port, lanes = self.dut.i, self.width // 8
        while True:
            if not self.frames:
                await ctx.tick()
                continue
            frame, error, *pair = self.frames.pop(0)
            ctx.set(self.dut.i_pair, pair[0] if pair else 0)
            for at in range(0, len(frame), lanes):
                chunk, last = frame[at:at + lanes], at + lanes >= len(frame)
                ctx.set(port.p, {"data": int.from_bytes(chunk, "little"), "count": len(chunk), "last": last,
                                 "error": error and last})
                ctx.set(port.valid, 1)
                assert ctx.get(port.ready)
                await ctx.tick()
            ctx.set(port.valid, 0)

    async def settles(self, ctx, limit):
        for _ in range(limit):
            await ctx.tick()
            if ctx.get(self.dut.settled):
                return
        raise AssertionError("does not settle")

    def counted(self):
        return {name: count for name, count in self.events.items() if count}

    async def count(self, ctx):
        names = list(self.events)
        async for _, _, *strobes in ctx.tick().sample(*(self.dut.events[name] for name in names)):
            for name, strobe in zip(names, strobes):
                self.events[name] += strobe

    def run(self, *, control=None, enable=1, mrg_rxbuf=1, settle=True):
        async def main(ctx):
            ctx.set(self.dut.buffers.enabled, sum(1 << queue for queue in self.queues))
            ctx.set(self.dut.active, len(self.queues))
            ctx.set(self.dut.enable, enable)
            ctx.set(self.dut.mrg_rxbuf, mrg_rxbuf)
            await ctx.tick()
            if control:
                await control(ctx)
            quiet = 0
            while settle and quiet < 30:
                await ctx.tick()
                assert self.cycle < 30000
                quiet = 0 if ctx.get(self.dut.busy) or self.frames or self.segments else quiet + 1

        simulation = Simulation(self.dut, limit=60000, watch_busy=False)
        for bench in (self.takes, self.give_segments, self.take_writes, self.take_used, self.give_frames, self.count):
            simulation.background(bench)
        simulation.run(main)

    def delivered(self):
        """Frames as a driver of one queue puts them together, and the chains each took."""
        frames = self.of_queue(0)
        assert not self.memory.written, "bytes were written that no used entry tells of"
        return frames

    def of_queue(self, queue):
        frames, chains, at = [], iter(self.chains[queue]), 0
        used = [entry[1:] for entry in self.all_used if entry[0] == queue]
        while at < len(used):
            whole, number = b"", 0
            while True:
                id, length, more, _ = used[at]
                chain = next(chains)
                assert chain[0]["chain"]["id"] == id
                for part in chain:
                    if part["write"]:
                        size = min(length, part["len"])
                        whole, length = whole + self.memory.claim(part["addr"], size), length - size
                at, number = at + 1, number + 1
                if not more:
                    break
            assert whole[:HEADER] == bytes(10) + number.to_bytes(2, "little")
            frames.append((whole[HEADER:], number))
        return frames


@pytest.mark.parametrize("width", [64, 128])
def test_one_buffer_a_frame(width, rng):
    bench = Bench(rng, width=width)
    frames = [rng.randbytes(n) for n in (60, 61, 1514, 64, 14, 75)]
    for frame in frames:
        bench.post([1600])
        bench.frames.append((frame, 0))
    bench.frames.insert(2, (rng.randbytes(99), 1))
    bench.run()
    assert bench.delivered() == [(frame, 1) for frame in frames]
    assert bench.used[-1][3] == 1
    assert bench.counted() == {"rx_frames": 6}


def test_buffers_cut_anywhere(rng):
    bench, frame = Bench(rng), rng.randbytes(60)
    for at in range(1, 72):
        bench.post([at, 72 - at])
        bench.frames.append((frame, 0))
        if at % 8 == 0:
            bench.post([1] * 60 + [100])
            bench.frames.append((frame, 0))
    bench.run()
    assert bench.delivered() == [(frame, 1)] * (71 + 8)


def test_merged_buffers(rng):
    bench, frame = Bench(rng), rng.randbytes(100)
    bench.post([50])
    bench.post([0])                                         # no room at all: used with length 0
    bench.post([20, 500, 3], read=[1])
    bench.post([40])
    bench.post([112])
    bench.frames = [(frame, 0), (frame, 0)]
    bench.run()
    assert [entry[:3] for entry in bench.used] == [(0x55, 50, 1), (0x54, 0, 1), (0x57, 23, 1), (0x56, 39, 0), (0x51, 112, 0)]
    assert bench.delivered() == [(frame, 4), (frame, 1)]


@pytest.mark.parametrize("size", [0xffff, 0x1_0000, 0x1_0001, 0x1_0010, 0x8000_0000, 0xffff_ffff])
def test_largest_buffers(size, rng):
    """As far as 16 bits go, no frame needs more."""
    bench, frames = Bench(rng), [rng.randbytes(60), rng.randbytes(1514)]
    for frame in frames:
        bench.post([size])
        bench.frames.append((frame, 0))
    bench.run()
    assert bench.delivered() == [(frame, 1) for frame in frames]


def test_without_mrg_rxbuf_a_small_chain_stays(rng):
    bench, small = Bench(rng), rng.randbytes(60)
    bench.post([30, 42])
    bench.frames = [(rng.randbytes(61), 0), (small, 0)]
    bench.run(mrg_rxbuf=0)
    assert bench.delivered() == [(small, 1)]
    assert bench.counted() == {"rx_frames": 1, "rx_dropped_no_buffer": 1}


def test_more_segments_than_a_frame_may_have(rng):
    bench, small = Bench(rng, max_segments=8), rng.randbytes(60)
    bench.post([9] * 8)
    bench.post([1] * 40)
    bench.frames = [(small, 0), (small, 0), (small, 0)]
    bench.run()
    assert bench.delivered() == [(small, 1)]
    assert bench.events["rx_dropped_no_buffer"] == 2


@pytest.mark.parametrize("chains, kept", [
    ([[9] * 8], True), ([[1] * 7 + [65]], True), ([[0] * 40 + [72]], True), ([[9] * 8 + [9]], False), ([[9] * 8 + [0]], False),
    ([[9]] * 8, True), ([[8]] * 9, False), ([[9, 0]] * 4 + [[36]], False), ([[0]] * 7 + [[72]], True),
    ([[0]] * 8 + [[72]], False), ([[72] + [9] * 40], True), ([[12] * 6 + [1] * 100 + [0]], True), ([[64] + [1] * 100], False),
    ([[10] * 7 + [2] + [5] * 3], False), ([[36, 0], [36] + [7] * 50], True)])
def test_last_segment_that_a_frame_may_have(chains, kept, rng):
    """Eight here: those that hold something of the frame, and the last one of each chain. The others may be any number."""
    bench, frame = Bench(rng, max_segments=8), rng.randbytes(60)
    for sizes in chains:
        bench.post(sizes)
    bench.frames = [(frame, 0)]
    bench.run()
    assert bench.delivered() == [(frame, len(chains))] * kept
    assert bench.counted() == ({"rx_frames": 1} if kept else {"rx_dropped_no_buffer": 1})


def test_waits_for_a_late_driver_then_drops(rng):
    bench = Bench(rng, depth=128)
    frames = [rng.randbytes(64) for _ in range(20)]          # 8 beats each; more than 96 are too many

    async def control(ctx):
        bench.frames = [(frame, 0) for frame in frames]
        await ctx.tick().repeat(400)
        assert bench.events["rx_frames"] == 0 and 7 <= bench.events["rx_dropped_no_buffer"] <= 9
        bench.kept = frames[bench.events["rx_dropped_no_buffer"]:]
        for _ in frames:
            bench.post([80])

    bench.run(control=control)
    assert bench.delivered() == [(frame, 1) for frame in bench.kept]


def test_flush_is_told_when_the_next_frame_has_no_buffer(rng):
    bench = Bench(rng)
    bench.post([200])

    async def control(ctx):
        bench.frames = [(rng.randbytes(100), 0) for _ in range(3)]
        await ctx.tick().repeat(300)

    bench.run(control=control, settle=False)
    assert [entry[3] for entry in bench.used] == [1]


def test_flush_is_told_when_the_next_frame_is_dropped(rng):
    bench = Bench(rng, max_frame=100)
    for _ in range(4):
        bench.post([200])
    bench.frames = [(rng.randbytes(100), 0), (rng.randbytes(101), 0)] * 2
    bench.run()
    assert bench.counted() == {"rx_frames": 2, "rx_dropped_long": 2}
    assert [entry[3] for entry in bench.used] == [1, 1]


def test_driver_not_ready(rng):
    bench, frame = Bench(rng), rng.randbytes(60)
    bench.post([100])

    async def control(ctx):
        bench.frames = [(rng.randbytes(70), 0)] * 3
        await ctx.tick().repeat(200)
        assert not ctx.get(bench.dut.busy)
        ctx.set(bench.dut.enable, 1)
        bench.frames = [(frame, 0)]

    bench.run(control=control, enable=0)
    assert bench.delivered() == [(frame, 1)]
    assert bench.counted() == {"rx_frames": 1, "rx_dropped_down": 3}


def test_a_frame_does_not_wait_for_buffers_of_a_driver_that_has_gone(rng):
    bench = Bench(rng)

    async def control(ctx):
        bench.frames = [(rng.randbytes(70), 0)]
        await ctx.tick().repeat(200)
        assert ctx.get(bench.dut.buffers.wants) and not bench.counted()
        ctx.set(bench.dut.enable, 0)
        await ctx.tick().repeat(50)
        assert not ctx.get(bench.dut.busy) and bench.counted() == {"rx_dropped_no_buffer": 1}

    bench.run(control=control)


def test_malformed_chain_drops_the_frame(rng):
    bench, frame = Bench(rng), rng.randbytes(60)
    bench.post([100])
    bench.post([10])
    bench.post([100], error=True)

    async def control(ctx):
        bench.frames = [(frame, 0), (frame, 0)]
        await ctx.tick().repeat(200)

    bench.run(control=control)
    assert bench.delivered() == [(frame, 1)]
    assert bench.events["rx_dropped_no_buffer"] == 1
    assert bench.committed[0] == 3  # and does not come again


def test_a_frame_longer_than_the_mtu_allows_is_dropped(rng):
    bench, frame = Bench(rng, max_frame=100), rng.randbytes(100)
    for _ in range(3):
        bench.post([200])
    bench.frames = [(rng.randbytes(101), 0), (frame, 0), (rng.randbytes(200), 0)]
    bench.run()
    assert bench.delivered() == [(frame, 1)]
    assert bench.events["rx_dropped_long"] == 2


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("pairs", [1, 3])
def test_vlan_tags_are_in_addition(rng, width, pairs):
    """VIRTIO 1.4, 5.1.4.1: the length of the header for the link is each frame's own; IEEE 802.1Q, 9.3: 4 bytes a tag."""
    bench = Bench(rng, width=width, max_frame=100, pairs=pairs)
    kept, dropped, queues = [], 0, itertools.cycle(bench.queues)
    for tags in ([], ["8100"], ["88a8"], ["88a8", "8100"], ["8100", "8100"], ["88a8", "8100", "8100"], ["9100"]) * 3:
        head = rng.randbytes(12) + b"".join(bytes.fromhex(kind) + rng.randbytes(2) for kind in tags) + b"\x08\x00"
        counted = 4 * len([kind for kind in tags[:2] if kind != "9100"])
        for size in rng.sample(range(98 + counted, 104 + counted), 4):
            frame, queue = (head + rng.randbytes(size))[:size], next(queues)
            bench.frames.append((frame, 0, queue // 2))
            if size <= 100 + counted:
                kept.append(frame)
                bench.post([200], queue=queue)
            else:
                dropped += 1
    bench.run()
    assert bench.events["rx_dropped_long"] == dropped and bench.events["rx_frames"] == len(kept)
    assert sorted(frame for queue in bench.queues for frame, _ in bench.of_queue(queue)) == sorted(kept)


def test_many_short_frames_are_not_called_a_slow_link(rng):
    bench = Bench(rng, depth=4096)

    async def control(ctx):
        bench.frames = [(rng.randbytes(60), 0) for _ in range(400)]
        await ctx.tick().repeat(5000)

    bench.run(control=control, settle=False)
    assert bench.events["rx_dropped_full"] == 0 and bench.events["rx_dropped_no_buffer"] > 200


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_small_frames_at_speed(width, rng):
    """A cycle for each beat, and one for the segment; but no fewer than four."""
    bench = Bench(rng, width=width, depth=4096)
    for _ in range(150):
        bench.post([1536])
    bench.frames = [(rng.randbytes(60), 0) for _ in range(150)]
    bench.run()
    assert len(bench.delivered()) == 150
    assert (bench.cycle - 40) / 150 <= max(4, 1 + -(-8 * (60 + HEADER) // width)) + 0.1


@pytest.mark.parametrize("width, busy, mrg_rxbuf", [(64, 0.6, 1), (128, 0.6, 1), (64, 0.5, 0), (32, 1.0, 1)])
def test_random(width, busy, mrg_rxbuf, rng):
    bench, frames = Bench(rng, width=width, busy=busy), []

    async def control(ctx):
        for _ in range(40):
            frame = rng.randbytes(rng.choice([14, 60, 61, 300, rng.randrange(14, 700)]))
            frames.append(frame)
            for _ in range(rng.randrange(1, 4)):
                sizes = [rng.randrange(1, 200) for _ in range(rng.randrange(1, 5))]
                bench.post([*sizes, 712] if not mrg_rxbuf or rng.random() < 0.8 else sizes)
            bench.frames.append((frame, 0))
            for _ in range(rng.randrange(150)):
                await ctx.tick()
        for _ in range(300):
            await ctx.tick()
        for _ in range(40):
            bench.post([712])

    bench.run(control=control, mrg_rxbuf=mrg_rxbuf)
    assert [frame for frame, _ in bench.delivered()] == frames


def everything(bench):
    """Frames that each queue has got."""
    got = {queue: [frame for frame, _ in bench.of_queue(queue)] for queue in bench.queues}
    assert not bench.memory.written, "bytes were written that no used entry tells of"
    return got


@pytest.mark.parametrize("pairs, width, busy", [(2, 64, 0.7), (5, 128, 0.7), (3, 64, 1.0)])
def test_every_pair_has_its_frames(pairs, width, busy, rng):
    bench = Bench(rng, pairs=pairs, width=width, busy=busy, depth=4096)
    want = {queue: [] for queue in bench.queues}
    for _ in range(40):
        pair, frame = rng.randrange(pairs), rng.randbytes(rng.randrange(14, 300))
        for _ in range(4):
            bench.post([rng.randrange(80, 200)], queue=2 * pair)
        bench.frames.append((frame, 0, pair))
        want[2 * pair].append(frame)
    bench.run()
    assert everything(bench) == want
    # The engine is told when there is nothing more to come.
    assert bench.all_used[-1][-1]


@pytest.mark.parametrize("pairs", [1, 2])
def test_a_queue_that_stopped_with_too_few_buffers_keeps_no_frame(pairs, rng):
    bench, frames = Bench(rng, pairs=pairs), [rng.randbytes(100), rng.randbytes(20), rng.randbytes(70)]
    bench.post([60])
    if pairs > 1:
        bench.post([200], queue=2)
        bench.frames = [(frames[2], 0, 1)]
    bench.frames += [(frames[0], 0, 0), (frames[1], 0, 0)]

    async def control(ctx):
        # As the engine does: a queue that has stopped is there as long as it has something to give.
        for _ in range(3000):
            ctx.set(bench.dut.buffers.enabled, (bench.taken[0] < len(bench.chains[0])) | (4 if pairs > 1 else 0))
            await ctx.tick()
    bench.run(control=control)
    # The longer one needs more than there is.
    assert bench.counted() == {"rx_frames": pairs, "rx_dropped_no_buffer": 1}
    assert everything(bench) == {0: [frames[1]], **({2: [frames[2]]} if pairs > 1 else {})}


def test_no_frame_above_the_count_nor_to_a_queue_in_reset(rng):
    bench, frames = Bench(rng, pairs=4), [rng.randbytes(60) for _ in range(5)]
    for queue in bench.queues:
        for _ in range(10):
            bench.post([200], queue=queue)

    async def deliver(ctx, active, enabled):
        ctx.set(bench.dut.active, active)
        ctx.set(bench.dut.buffers.enabled, enabled)
        before = {queue: len(frames) for queue, frames in got(bench).items()}
        bench.frames = [(frame, 0, pair) for pair, frame in enumerate(frames[:4])]
        for _ in range(400):
            await ctx.tick()
        return [len(frames) - before[queue] for queue, frames in got(bench).items()]

    def got(bench):
        return {queue: [entry for entry in bench.all_used if entry[0] == queue] for queue in bench.queues}

    async def control(ctx):
        assert await deliver(ctx, 4, 0b1010101) == [1, 1, 1, 1]
        assert await deliver(ctx, 2, 0b1010101) == [3, 1, 0, 0]
        assert await deliver(ctx, 1, 0b1010101) == [4, 0, 0, 0]
        assert await deliver(ctx, 4, 0b1010100) == [0, 2, 1, 1]     # MQ with RING_RESET: another one
        assert await deliver(ctx, 3, 0b1000100) == [0, 4, 0, 0]
        assert bench.counted() == {"rx_frames": 20}
        assert await deliver(ctx, 3, 0b1000000) == [0, 0, 0, 0]     # all in reset: dropped, at once
        assert bench.counted() == {"rx_frames": 20, "rx_dropped_no_buffer": 4}
    bench.run(control=control)


def test_a_queue_without_buffers_stops_others_for_a_moment_only(rng):
    bench, patience = Bench(rng, pairs=3, depth=4096, patience=200), 200
    mine, others = [rng.randbytes(60) for _ in range(6)], [rng.randbytes(60) for _ in range(3)]
    for _ in range(10):
        bench.post([200], queue=4)

    async def control(ctx):
        # Nobody else: they wait.
        bench.frames = [(frame, 0, 1) for frame in mine[:3]]
        await ctx.tick().repeat(5 * patience)
        assert not bench.counted()
        # Someone waits behind three frames: each of them gets a moment.
        bench.frames = [(others[0], 0, 2)]
        await ctx.tick().repeat(2 * patience)
        assert 1 <= bench.counted()["rx_dropped_no_buffer"] <= 2
        await ctx.tick().repeat(2 * patience)
        assert bench.counted() == {"rx_frames": 1, "rx_dropped_no_buffer": 3}
        # And who is served in time loses nothing.
        bench.frames = [(mine[3], 0, 1), (others[1], 0, 2), (mine[4], 0, 1), (others[2], 0, 2), (mine[5], 0, 1)]
        await ctx.tick().repeat(patience // 2)
        for _ in range(3):
            bench.post([200], queue=2)

    bench.run(control=control)
    assert everything(bench) == {0: [], 2: mine[3:], 4: others}
    assert bench.counted() == {"rx_frames": 6, "rx_dropped_no_buffer": 3}


def test_fewer_pairs_under_load(rng):
    """Once it has settled, nothing comes above the count, however much was under way."""
    bench = Bench(rng, pairs=4, busy=0.8)
    for queue in bench.queues:
        for _ in range(300):
            bench.post([60] if rng.randrange(3) else [200], queue=queue)

    async def control(ctx):
        for active in (2, 4, 1, 3, 4, 1, 2, 3, 1):
            bench.frames = [(rng.randbytes(rng.randrange(14, 200)), 0, rng.randrange(4)) for _ in range(8)]
            for _ in range(rng.randrange(20, 300)):
                await ctx.tick()
            ctx.set(bench.dut.active, active)
            assert not ctx.get(bench.dut.settled)
            await bench.settles(ctx, 500)
            before = len(bench.all_used)
            for _ in range(300):
                await ctx.tick()
            assert all(queue < 2 * active for queue, *_ in bench.all_used[before:])
        await ctx.tick().repeat(1500)

    bench.run(control=control)
    everything(bench)


def test_fewer_pairs_while_the_wire_is_full(rng):
    """It settles all the same, though a frame is always in hand."""
    bench = Bench(rng, pairs=2)
    for queue in bench.queues:
        for _ in range(400):
            bench.post([200], queue=queue)

    async def control(ctx):
        bench.frames = [(rng.randbytes(100), 0, rng.randrange(2)) for _ in range(400)]
        ctx.set(bench.dut.active, 2)
        await ctx.tick().repeat(400)
        for active in (1, 2, 1):
            ctx.set(bench.dut.active, active)
            await bench.settles(ctx, 300)
            assert bench.frames
            await ctx.tick().repeat(100)
        bench.frames = []

    bench.run(control=control)


@pytest.mark.parametrize("mrg_rxbuf", [0, 1])
def test_pause_gives_up_chains_but_no_frame(mrg_rxbuf, rng):
    bench, frames = Bench(rng, pairs=2, busy=0.8, depth=4096), {0: [], 2: []}

    async def control(ctx):
        for _ in range(30):
            for _ in range(rng.randrange(4)):
                pair, frame = rng.randrange(2), rng.randbytes(rng.randrange(14, 200))
                frames[2 * pair].append(frame)
                bench.frames.append((frame, 0, pair))
            for queue in bench.queues:
                if rng.randrange(2):
                    bench.post([300 if not mrg_rxbuf or rng.randrange(2) else 50], queue=queue)
            for _ in range(rng.randrange(60)):
                await ctx.tick()
            bench.pausing = True
            for cycles in range(400):
                await ctx.tick()
                if cycles > 3 and not ctx.get(bench.dut.buffers.holds):
                    break
            else:
                raise AssertionError("holds on to something")
            await ctx.tick()                               # the bench has seen the last operation
            taken = dict(bench.taken)
            for _ in range(50):
                await ctx.tick()
                assert not ctx.get(bench.dut.buffers.holds)
            assert bench.taken == taken == bench.committed
            bench.pausing = False
        for queue in bench.queues:
            for _ in range(100):
                bench.post([300], queue=queue)

    bench.run(control=control, mrg_rxbuf=mrg_rxbuf)
    assert everything(bench) == frames
    assert "rx_dropped_no_buffer" not in bench.counted()


@pytest.mark.parametrize("lower", [False, True])
def test_frames_that_are_dropped_prolong_no_pause(lower, rng):
    """They have no chains: a wire full of them holds up no queue reset, and no answer of the control queue."""
    bench = Bench(rng, pairs=2, max_frame=100, depth=4096)

    async def control(ctx):
        bench.frames = [(rng.randbytes(128), 0, 0)] * 300
        await ctx.tick().repeat(200)
        if lower:
            ctx.set(bench.dut.active, 1)
        bench.pausing = not lower
        await ctx.tick().repeat(3)
        for _ in range(100):
            await ctx.tick()
            assert bench.frames
            if ctx.get(bench.dut.settled) and not ctx.get(bench.dut.buffers.holds):
                break
        else:
            raise AssertionError("holds on to something")
        bench.frames.clear()
        bench.pausing = False

    bench.run(control=control)


def test_waiting_frame_wants_a_buffer_of_its_queue(rng):
    """From the moment on in which there is none for it, or too few, until there are; and the card may sleep meanwhile."""
    bench = Bench(rng, pairs=2)
    dut = bench.dut

    async def becomes(ctx, queues):
        for _ in range(60):
            await ctx.tick()
            if ctx.get(dut.buffers.wants) == queues:
                return
        raise AssertionError(f"{ctx.get(dut.buffers.wants):#b} is wanted, not {queues:#b}")

    async def control(ctx):
        assert ctx.get(dut.buffers.wants) == 0
        bench.frames.append((bytes(100), 0, 1))
        await becomes(ctx, 0b100)
        await ctx.tick().repeat(2)
        for _ in range(100):
            await ctx.tick()
            assert ctx.get(dut.buffers.wants) == 0b100 and not ctx.get(dut.busy)
        bench.post([50], queue=2)                       # too small
        await becomes(ctx, 0)
        await becomes(ctx, 0b100)
        assert not bench.used
        bench.pausing = True
        await becomes(ctx, 0)
        await ctx.tick().repeat(3)
        for _ in range(50):
            await ctx.tick()
            assert ctx.get(dut.buffers.wants) == 0
        bench.pausing = False
        await becomes(ctx, 0b100)
        bench.post([62], queue=2)
        await becomes(ctx, 0)
        await ctx.tick().repeat(60)
        assert len(bench.used) == 2 and not ctx.get(dut.buffers.wants)
        bench.frames += [(bytes(100), 0, 0), (bytes(100), 0, 1)]
        await becomes(ctx, 0b001)
        await ctx.tick().repeat(20)
        for _ in range(50):
            await ctx.tick()
            assert ctx.get(dut.busy)                    # its patience ends, for another waits behind it
        for queue in bench.queues:
            bench.post([200], queue=queue)
        await becomes(ctx, 0)

    bench.run(control=control)
    assert bench.counted() == {"rx_frames": 3}


def test_frames_with_buffers_want_none(rng):
    """Nothing is asked for while there is what is needed, however fast frames come."""
    bench, wanted = Bench(rng, depth=4096), 0
    for _ in range(60):
        bench.post([1600])
    bench.frames = [(rng.randbytes(60), 0) for _ in range(60)]

    async def control(ctx):
        nonlocal wanted
        for _ in range(2500):
            await ctx.tick()
            wanted |= ctx.get(bench.dut.buffers.wants)

    bench.run(control=control)
    assert bench.counted() == {"rx_frames": 60} and not wanted


@pytest.mark.parametrize("options", [{"ahead": 3}, {"ahead": 1}, {"max_segments": 48}])
def test_constructor(options):
    with pytest.raises(ValueError, match="must be a power of 2"):
        Receive(width=64, num_queues=2, **options)
