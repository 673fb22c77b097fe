"""The header joined to each frame, at the rate of the beats."""

from functools import cache

import pytest

from ringnic.hdl.net.join import Join

from ...kit import streams
from ...kit.simulation import Simulation

join = cache(Join)  # one that is simulated again is not elaborated again


def beats(data, lanes):
    rows = [data[at:at + lanes] for at in range(0, len(data), lanes)]
    return [{"data": int.from_bytes(row, "little"), "count": len(row), "last": k == len(rows) - 1} for k, row in enumerate(rows)]


@pytest.mark.parametrize("busy", [1.0, 0.6])
@pytest.mark.parametrize("width", [32, 64, 128, 256, 512])
def test_header_and_frame_are_one_packet(width, busy, rng):
    """Whatever the frame's length is; frames between them vanish. Bytes behind the end are 0 or what the memory has there, and of
    no other frame."""
    dut, lanes, got = join(width=width), width // 8, []
    frames = [(rng.randbytes(n), rng.random() < 0.2, rng.randrange(1, 65536)) for n in [*range(1, 140), 1514]]

    async def jobs(ctx):
        for _, drop, chains in frames:
            await streams.send(ctx, dut.i_job, {"drop": drop, "num_buffers": chains}, lambda: rng.random() > busy)

    async def bytes_(ctx):
        for n, (frame, *_) in enumerate(frames):
            for beat in beats(frame, lanes):
                beat["data"] |= int.from_bytes(lanes * bytes([n + 1])) >> 8 * beat["count"] << 8 * beat["count"]
                await streams.send(ctx, dut.i, beat, lambda: rng.random() > busy)

    async def main(ctx):
        whole = b""
        want = [bytes(10) + chains.to_bytes(2, "little") + frame for frame, drop, chains in frames if not drop]
        marks = [n + 1 for n, (_, drop, _) in enumerate(frames) if not drop]
        while len(got) < len(want):
            ctx.set(dut.o.ready, rng.random() < busy)
            _, _, moved, p = await ctx.tick().sample(dut.o.valid & dut.o.ready, dut.o.p)
            if moved:
                data = p.data.to_bytes(lanes, "little")
                assert p.count == lanes or p.last and set(data[p.count:]) <= {0, marks[len(got)]}
                whole += data[:p.count]
                if p.last:
                    got.append(whole)
                    whole = b""
        assert got == want

    simulation = Simulation(dut, limit=30000)
    for bench in (jobs, bytes_):
        simulation.background(bench)
    simulation.run(main)


@pytest.mark.parametrize("width, size, cycles", [
    (32, 60, 18), (64, 60, 9), (128, 60, 5), (128, 64, 5), (256, 60, 3), (512, 60, 2), (512, 52, 1)])
def test_join_has_a_full_beat_a_cycle(width, size, cycles):
    """No cycle is lost within a frame, nor between two."""
    dut, lanes = join(width=width), width // 8
    row = beats(bytes(size), lanes)

    async def main(ctx):
        ctx.set(dut.i_job.valid, 1)
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        at, ends = 0, []
        for now in range(30 * cycles):
            ctx.set(dut.i.p, row[at])
            _, _, taken, end = await ctx.tick().sample(dut.i.ready, dut.o.valid & dut.o.p.last)
            at = (at + taken) % len(row)
            if end:
                ends.append(now)
        assert {after - before for before, after in zip(ends, ends[1:])} == {cycles}
    Simulation(dut).run(main)
