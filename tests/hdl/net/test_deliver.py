"""Delivery: the pieces of a frame, and a frame behind the other."""

import pytest

from ringnic.hdl.net.deliver import Deliver, Pieces

from ...kit import streams
from ...kit.simulation import Simulation
from .test_join import beats

HEADER = 12


async def fill(ctx, dut, places):
    """A segment of 2048 bytes in each of so many places, each the end of a chain that is named by its place."""
    ctx.set(dut.store.en, 1)
    for place in range(places):
        ctx.set(dut.store.place, place)
        ctx.set(dut.store.segment, {"addr": 0x1000, "len": 2048, "last": 1, "id": place})
        await ctx.tick()
    ctx.set(dut.store.en, 0)


@pytest.mark.parametrize("busy", [1.0, 0.5])
def test_pieces(busy, rng):
    """What a frame needs, cut by its segments, in a circle of places; the rest of the last one is not used."""
    dut, places, want, got, at = Pieces(width=64, pairs=2, places=16), 16, [], [], 0
    jobs = []
    for _ in range(60):
        sizes, chains = [rng.randrange(1, 100) for _ in range(rng.randrange(1, 5))], 0
        left = need = sum(sizes) - rng.randrange(sizes[-1])
        if rng.randrange(2):
            sizes.append(0)                                       # the end of a chain of which no more is needed
        pair, segments = rng.randrange(2), []
        for k, size in enumerate(sizes):
            last = k == len(sizes) - 1 or size != 0 and rng.randrange(2)
            segments.append({"addr": rng.getrandbits(64), "len": size, "last": last, "id": rng.getrandbits(16)})
            want.append((segments[-1]["addr"], min(left, size), last, k == len(sizes) - 1, pair, segments[-1]["id"]))
            left, chains = left - min(left, size), chains + last
        jobs.append(({"need": need, "chains": chains, "pair": pair}, segments))

    async def give(ctx):
        nonlocal at
        for k, (job, segments) in enumerate(jobs):
            while len(got) < sum(len(other) for _, other in jobs[:max(0, k - 1)]):
                await ctx.tick()                                  # the places of two frames
            for segment in segments:
                ctx.set(dut.store.place, at)
                ctx.set(dut.store.segment, segment)
                ctx.set(dut.store.en, 1)
                await ctx.tick()
                at = (at + 1) % places
            ctx.set(dut.store.en, 0)
            await ctx.tick()
            await streams.send(ctx, dut.i, job)

    async def main(ctx):
        await streams.collect(ctx, dut.o, lambda p: got.append((p.addr, p.len, p.ends, p.last, p.pair, p.chain.id)),
                              lambda: rng.random() < busy)

    async def ends(ctx):
        for _ in range(3000):
            await ctx.tick()
            if len(got) == len(want):
                break
        assert got == want

    simulation = Simulation(dut, limit=5000)
    simulation.background(give)
    simulation.background(main)
    simulation.run(ends)


def test_a_used_entry_costs_no_cycle():
    """A frame of one segment takes a cycle for each of its beats, and one for the segment."""
    dut, ends = Deliver(width=128, pairs=1, slots=4, max_segments=2), []

    async def main(ctx):
        await fill(ctx, dut, 8)
        row, at = beats(bytes(60), 16), 0
        for port in (dut.frames, dut.i):
            ctx.set(port.valid, 1)
        for port in (dut.write.req, dut.write.data, dut.used):
            ctx.set(port.ready, 1)
        ctx.set(dut.i.p, {"need": HEADER + 60, "chains": 1})
        for now in range(200):
            ctx.set(dut.frames.p, row[at])
            ctx.set(dut.i.valid, ctx.get(dut.delivering) < 4)
            _, _, taken, used, p = await ctx.tick().sample(dut.frames.ready, dut.used.valid, dut.used.p)
            at = (at + taken) % len(row)
            if used:
                assert p.len == 72 and not p.more and not p.flush or now > 195
                ends.append(now)
        assert ctx.get(dut.busy)
        assert {after - before for before, after in zip(ends, ends[1:])} == {6}
    Simulation(dut, watch_busy=False).run(main)


def test_what_was_asked_for_waits_for_nobody():
    """Another client's write stands behind it, and the used entries that come after it may wait for that."""
    dut, frames = Deliver(width=128, pairs=1, slots=2, max_segments=8), 6
    asked, written, used = [], [], []

    async def watch(ctx):
        async for _, _, asks, ends, gives, ident in ctx.tick().sample(
                dut.write.req.valid & dut.write.req.ready, dut.write.data.valid & dut.write.data.ready & dut.write.data.p.last,
                dut.used.valid & dut.used.ready, dut.used.p.chain.id):
            asked.extend([1] * asks)
            written.extend([1] * ends)
            used.extend([ident] * gives)

    async def give(ctx):
        await fill(ctx, dut, 16)
        for _ in range(frames):
            await streams.send(ctx, dut.i, {"need": 16 + HEADER, "chains": 1})

    async def main(ctx):
        for port in (dut.write.req, dut.write.data):
            ctx.set(port.ready, 1)
        ctx.set(dut.frames.p, {"data": 0, "count": 16, "last": 1})
        ctx.set(dut.frames.valid, 1)
        await ctx.tick().repeat(100)
        assert used == [] and len(asked) == len(written) == 2
        ctx.set(dut.used.ready, 1)
        await ctx.tick().repeat(100)
        assert used == list(range(frames)) and len(asked) == len(written) == frames

    simulation = Simulation(dut, limit=400, watch_busy=False)  # nobody tells it that its writes have left
    simulation.background(give)
    simulation.background(watch)
    simulation.run(main)


def test_held_back_it_asks_for_nothing(rng):
    """What was offered stays."""
    dut, began, accepted = Deliver(width=128, pairs=1, slots=8, max_segments=2), [], []

    async def watch(ctx):
        waits = 0
        for port in (dut.write.data, dut.used):
            ctx.set(port.ready, 1)
        while True:
            hold = rng.random() < .7
            ctx.set(dut.hold, hold)
            ctx.set(dut.write.req.ready, rng.random() < .5)
            _, _, valid, ready = await ctx.tick().sample(dut.write.req.valid, dut.write.req.ready)
            assert valid or not waits
            if valid and not waits:
                began.append(hold)
            accepted.extend([1] * (valid and ready))
            waits = valid and not ready

    async def main(ctx):
        await fill(ctx, dut, 16)
        ctx.set(dut.frames.p, {"data": 0, "count": 16, "last": 1})
        ctx.set(dut.frames.valid, 1)
        for _ in range(30):
            await streams.send(ctx, dut.i, {"need": 16 + HEADER, "chains": 1})
            await ctx.tick().repeat(12)
        await ctx.tick().repeat(200)
        assert len(began) == len(accepted) == 30 and not any(began)

    simulation = Simulation(dut, limit=2000, watch_busy=False)  # nobody tells it that its writes have left
    simulation.background(watch)
    simulation.run(main)


def test_a_write_is_not_asked_for_before_what_is_dropped_has_left():
    """Its bytes stand behind those of the frame that is dropped, and all writes of the card would stand behind it."""
    dut, since = Deliver(width=128, pairs=1, slots=4, max_segments=2), []

    async def watch(ctx):
        waits = None
        async for _, _, asks, gives in ctx.tick().sample(dut.write.req.valid & dut.write.req.ready, dut.write.data.valid):
            if waits is not None:
                waits += 1
                if gives:
                    since.append(waits)
                    waits = None
            if asks:
                waits = 0

    async def main(ctx):
        await fill(ctx, dut, 1)
        for port in (dut.write.req, dut.write.data, dut.used):
            ctx.set(port.ready, 1)
        await streams.send(ctx, dut.i, {"drop": 1})
        assert ctx.get(dut.dropping) == 1
        await streams.send(ctx, dut.i, {"need": 60 + HEADER, "chains": 1})
        await streams.send(ctx, dut.i, {"drop": 1})
        for length in (9000, 60, 500):
            for beat in beats(bytes(length), 16):
                await streams.send(ctx, dut.frames, beat)
        await ctx.tick().repeat(20)
        assert len(since) == 1 and since[0] <= 2 and ctx.get(dut.dropping) == 0

    simulation = Simulation(dut, limit=1000, watch_busy=False)  # nobody tells it that its writes have left
    simulation.background(watch)
    simulation.run(main)


def test_the_last_frame_is_told_of_at_once_while_others_wait_to_be_told_of():
    dut, flushed = Deliver(width=128, pairs=1, slots=4, max_segments=2), []

    async def watch(ctx):
        async for _, _, gives, flush in ctx.tick().sample(dut.used.valid & dut.used.ready, dut.used.p.flush):
            flushed.extend([flush] * gives)

    async def main(ctx):
        await fill(ctx, dut, 8)
        for port in (dut.write.req, dut.write.data):
            ctx.set(port.ready, 1)
        for _ in range(2):
            await streams.send(ctx, dut.i, {"need": 60 + HEADER, "chains": 1})
        for _ in range(2):
            for beat in beats(bytes(60), 16):
                await streams.send(ctx, dut.frames, beat)
        await ctx.tick().repeat(20)
        ctx.set(dut.used.ready, 1)
        await ctx.tick().repeat(20)
        assert flushed == [0, 1]

    simulation = Simulation(dut, limit=1000, watch_busy=False)  # nobody tells it that its writes have left
    simulation.background(watch)
    simulation.run(main)


def test_no_frame_is_dropped_before_the_one_in_front_of_it_goes():
    """The second write of the first frame waits for the link. Meanwhile all of the second frame has left the memory of frames,
    and the one behind it, which is dropped, is the next there."""
    dut, used = Deliver(width=512, pairs=1, slots=8, max_segments=4), []
    jobs = [{"need": 128, "chains": 1}, {"need": 72, "chains": 1}, {"drop": 1}, {"need": 72, "chains": 1}]

    async def give_jobs(ctx):
        for place, (length, last) in enumerate([(70, 0), (2048, 1), (2048, 1), (2048, 1)]):
            ctx.set(dut.store.en, 1)
            ctx.set(dut.store.place, place)
            ctx.set(dut.store.segment, {"addr": 0x1000 * place, "len": length, "last": last, "id": place})
            await ctx.tick()
        ctx.set(dut.store.en, 0)
        for job in jobs:
            await streams.send(ctx, dut.i, job)

    async def give_frames(ctx):
        for size in (116, 60, 60, 60):
            for at in range(0, size, 64):
                await streams.send(ctx, dut.frames, {"count": min(64, size - at), "last": size - at <= 64})

    async def take_used(ctx):
        await streams.collect(ctx, dut.used, lambda p: used.append(p.chain.id))

    async def main(ctx):
        ctx.set(dut.write.data.ready, 1)
        await streams.receive(ctx, dut.write.req)
        await ctx.tick().repeat(60)
        ctx.set(dut.write.req.ready, 1)
        await ctx.tick().repeat(60)
        assert used == [1, 2, 3] and not ctx.get(dut.busy) and not ctx.get(dut.dropping)

    simulation = Simulation(dut, watch_busy=False)  # nobody tells it that its writes have left
    for part in (give_jobs, give_frames, take_used):
        simulation.background(part)
    simulation.run(main)
