"""TransmitReads: which segments are read, when, and what is said of each chain."""

import pytest

from ringnic.hdl.net.transmit_reads import ON_THE_WAY, TransmitReads
from ringnic.hdl.spec.net import VIRTIO_NET_HDR_SIZE

from ...kit import streams
from ...kit.simulation import Simulation, cycles

DEPTH, MAX_FRAME, PATIENCE = 64, 200, 20
PIECE = 2048
SHORTEST = VIRTIO_NET_HDR_SIZE + 14


def segment(size, *, write=0, last=1, error=0, id=0, addr=None):
    return {"queue": 3, "chain": {"id": id}, "addr": 0x1000 * (id + 1) if addr is None else addr, "len": size, "write": write,
            "last": last, "error": error}


class Bench:
    def __init__(self, *, max_frame=MAX_FRAME, depth=DEPTH):
        self.dut = TransmitReads(lanes=8, pairs=2, max_frame=max_frame, depth=depth, patience=PATIENCE, piece=PIECE)
        self.reads, self.parts, self.cycle = [], [], 0
        self.ready = True

    async def clock(self, ctx):
        async for _ in ctx.tick():
            self.cycle += 1

    async def take_parts(self, ctx):
        await streams.collect(ctx, self.dut.o, lambda part: self.parts.append(
            (part.chain.id, part.has_read, part.beats, part.last, part.drop, part.lost)))

    async def take_reads(self, ctx):
        await streams.collect(ctx, self.dut.req, lambda req: self.reads.append((self.cycle, req.addr, req.len)),
                              lambda: self.ready)

    def run(self, main, *, free=DEPTH):
        async def whole(ctx):
            ctx.set(self.dut.link_up, 1)
            ctx.set(self.dut.free, free)
            await main(ctx)
        simulation = Simulation(self.dut)
        for bench in (self.clock, self.take_parts, self.take_reads):
            simulation.background(bench)
        simulation.run(whole)


async def give(ctx, dut, *segments):
    for one in segments:
        await streams.send(ctx, dut.i, one)


def test_a_segment_every_two_cycles():
    bench = Bench()

    async def main(ctx):
        await give(ctx, bench.dut, *[segment(32, id=k) for k in range(4)])
        await cycles(ctx, 8)
    bench.run(main)
    assert [(addr, size) for _, addr, size in bench.reads] == [(0x1000 * (k + 1), 32) for k in range(4)]
    assert [cycle - bench.reads[0][0] for cycle, *_ in bench.reads] == [0, 2, 4, 6]
    assert bench.parts == [(k, 1, 6, 1, 0, 0) for k in range(4)]


@pytest.mark.parametrize("segments, reads, drop, lost", [
    ([segment(SHORTEST)], 1, 0, 0),
    ([segment(SHORTEST - 1)], 1, 1, 0),
    ([segment(0)], 0, 1, 0),
    ([segment(VIRTIO_NET_HDR_SIZE + MAX_FRAME)], 1, 0, 0),
    ([segment(VIRTIO_NET_HDR_SIZE + MAX_FRAME + 1)], 0, 1, 0),
    ([segment(SHORTEST, last=0), segment(0x1_0000)], 1, 1, 0),
    ([segment(SHORTEST, last=0), segment(0xffff_ffff, last=0), segment(SHORTEST)], 1, 1, 0),
    ([segment(SHORTEST, last=0), segment(8, write=1)], 1, 1, 0),
    ([segment(SHORTEST, last=0), segment(8, error=1)], 1, 0, 1),
])
def test_judges(segments, reads, drop, lost):
    bench = Bench()

    async def main(ctx):
        await give(ctx, bench.dut, *segments, segment(SHORTEST, id=9))    # which is judged for itself
        await cycles(ctx, 8)
    bench.run(main)
    assert len(bench.reads) == reads + 1
    *_, end, good = bench.parts
    assert end[3:] == (1, drop, lost)
    assert good[0] == 9 and good[1] and good[3:] == (1, 0, 0)


def test_without_a_link_all_is_dropped():
    bench = Bench()

    async def main(ctx):
        ctx.set(bench.dut.link_up, 0)
        await give(ctx, bench.dut, segment(SHORTEST))
        await cycles(ctx, 8)
    bench.run(main)
    assert bench.reads == [] and bench.parts == [(0, 0, 5, 1, 1, 0)]


def test_room():
    """A read is offered when there is room for its beats, those that it may be short of, and those under way."""
    bench, beats = Bench(), 64 // 8 + 2

    async def main(ctx):
        await give(ctx, bench.dut, segment(64, id=0), segment(64, id=1))
        await cycles(ctx, 12)
        assert len(bench.reads) == 1
        ctx.set(bench.dut.released, beats)
        await ctx.tick()
        ctx.set(bench.dut.released, 0)
        await cycles(ctx, 4)
        assert len(bench.reads) == 2
        await give(ctx, bench.dut, segment(64, id=2))
        await cycles(ctx, 12)
        assert len(bench.reads) == 2
        ctx.set(bench.dut.free, 2 * beats + ON_THE_WAY)
        await cycles(ctx, 4)
        assert len(bench.reads) == 3
    bench.run(main, free=2 * beats + ON_THE_WAY - 1)


def test_patience():
    """What waits for room while others wait for what is behind it is given up; what was offered is not."""
    bench = Bench()

    async def main(ctx):
        await give(ctx, bench.dut, segment(64, id=0))
        await cycles(ctx, 2 * PATIENCE)
        assert bench.parts == []                          # nobody is in a hurry
        ctx.set(bench.dut.hurry, 1)
        for _ in range(4):
            await cycles(ctx, PATIENCE - 2)
            assert bench.parts == []
            await streams.pulse(ctx, bench.dut.moves)     # the wire moves
        await cycles(ctx, PATIENCE + 3)
        assert bench.parts == [(0, 0, 10, 1, 1, 0)]
        bench.ready = False
        await cycles(ctx, 2)
        ctx.set(bench.dut.free, DEPTH)
        await streams.pulse(ctx, bench.dut.moves)
        await give(ctx, bench.dut, segment(64, id=1))
        await cycles(ctx, 2 * PATIENCE)
        ctx.set(bench.dut.free, 0)
        bench.ready = True
        await cycles(ctx, 4)
        assert bench.parts[1:] == [(1, 1, 10, 1, 0, 0)] and len(bench.reads) == 1
    bench.run(main, free=0)


def test_hold():
    """A read that waits for leave to be asked for says so, and one that was offered stays."""
    bench = Bench()
    dut = bench.dut

    async def main(ctx):
        ctx.set(dut.hold, 1)
        await give(ctx, dut, segment(64))
        await cycles(ctx, 4)
        assert ctx.get(dut.wants) and not ctx.get(dut.req.valid)
        bench.ready = False
        await cycles(ctx, 2)
        ctx.set(dut.hold, 0)
        await cycles(ctx, 2)
        ctx.set(dut.hold, 1)
        await cycles(ctx, 2)
        assert ctx.get(dut.req.valid)
        bench.ready = True
        await cycles(ctx, 3)
        assert len(bench.reads) == 1 and not ctx.get(dut.wants)
    bench.run(main)


def test_a_frame_with_a_hole_is_dropped():
    """One of whose segments was given up is none, although there is room again, and the rest of it is not read."""
    bench = Bench()

    async def main(ctx):
        ctx.set(bench.dut.hurry, 1)
        await give(ctx, bench.dut, segment(64, last=0))
        await cycles(ctx, 2 * PATIENCE)
        ctx.set(bench.dut.free, DEPTH)
        ctx.set(bench.dut.hurry, 0)
        await ctx.tick()
        await give(ctx, bench.dut, segment(64), segment(64, id=1))
        await cycles(ctx, 8)
    bench.run(main, free=0)
    assert len(bench.reads) == 1
    assert bench.parts == [(0, 0, 10, 1, 1, 0), (1, 1, 10, 1, 0, 0)]


# Pieces

LONGEST = VIRTIO_NET_HDR_SIZE + 9022


def pieces_of(size):
    """Lengths of the reads of a segment, where nothing keeps it from being cut."""
    sizes = []
    while size >= 2 * PIECE:
        sizes.append(PIECE)
        size -= PIECE
    return [*sizes, size]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("size", [
    PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1, 3 * PIECE - 1, 3 * PIECE, 4 * PIECE, LONGEST])
def test_a_long_segment_is_read_in_pieces(size, last):
    """They follow each other, and only the last one ends the chain; the next segment comes after them."""
    bench, at = Bench(max_frame=9022, depth=4096), 0xffff_0123_4567_8f81

    async def main(ctx):
        await give(ctx, bench.dut, segment(size, addr=at, last=last), segment(SHORTEST, id=1))
        await cycles(ctx, 20)
    bench.run(main, free=4096)
    *pieces, (_, *after) = bench.reads
    starts = [at + sum(pieces_of(size)[:k]) for k in range(len(pieces_of(size)))]
    if last or size + SHORTEST <= LONGEST:
        assert after == [0x2000, SHORTEST]
    else:
        pieces = bench.reads                               # together they are too long
    assert [(addr, length) for _, addr, length in pieces] == list(zip(starts, pieces_of(size)))
    assert [cycle - pieces[0][0] for cycle, *_ in pieces] == [2 * k for k in range(len(pieces))]
    assert [part for part in bench.parts if part[0] == 0] == [
        (0, 1, length // 8 + 2, last and start == starts[-1], 0, 0) for start, length in zip(starts, pieces_of(size))]


@pytest.mark.parametrize("begin, cut", [(-1, 1), (0, 0), (0x3fff, 0)])
def test_near_the_end_of_a_page_a_segment_is_read_at_once(begin, cut):
    """From the last 16 KiB of 2 MiB on, for the longest one might go on behind them."""
    bench, at = Bench(max_frame=9022, depth=4096), (1 << 40) - 0x4000 + begin

    async def main(ctx):
        await give(ctx, bench.dut, segment(LONGEST, addr=at))
        await cycles(ctx, 20)
    bench.run(main, free=4096)
    assert [length for *_, length in bench.reads] == (pieces_of(LONGEST) if cut else [LONGEST])
    assert [part[2] for part in bench.parts] == [length // 8 + 2 for *_, length in bench.reads]
    assert bench.reads[0][1] == at and [part[3] for part in bench.parts][-1] == 1


def test_each_piece_waits_for_room():
    bench, beats = Bench(max_frame=9022, depth=4096), PIECE // 8 + 2

    async def main(ctx):
        await give(ctx, bench.dut, segment(4 * PIECE))
        await cycles(ctx, 20)
        assert len(bench.reads) == 1
        ctx.set(bench.dut.free, 2 * beats + ON_THE_WAY)
        await cycles(ctx, 20)
        assert len(bench.reads) == 2
        ctx.set(bench.dut.free, 2 * (PIECE // 8) + ON_THE_WAY)
        ctx.set(bench.dut.released, beats)
        await ctx.tick()
        ctx.set(bench.dut.released, 0)
        await cycles(ctx, 20)
        assert len(bench.reads) == 2                       # of the other one not all beats have come
        ctx.set(bench.dut.free, 2 * beats + (2 * PIECE - PIECE) // 8 + ON_THE_WAY)
        await cycles(ctx, 20)
        assert len(bench.reads) == 3
    bench.run(main, free=beats + ON_THE_WAY)


@pytest.mark.parametrize("last", [0, 1])
def test_patience_between_pieces(last):
    """What is left is given up, and of the chain nothing more is read; its frame is none. The next one is."""
    bench = Bench(max_frame=9022, depth=4096)

    async def main(ctx):
        ctx.set(bench.dut.hurry, 1)
        await give(ctx, bench.dut, segment(4 * PIECE, last=last))
        await cycles(ctx, PIECE // 8 + 2 * PIECE)
        ctx.set(bench.dut.free, 4096)
        ctx.set(bench.dut.hurry, 0)
        await ctx.tick()
        await give(ctx, bench.dut, *[segment(64)] * (not last), segment(64, id=1))
        await cycles(ctx, 8)
    bench.run(main, free=PIECE // 8 + 2 + ON_THE_WAY)
    assert [length for *_, length in bench.reads] == [PIECE, 64]
    (first, gives_up, after) = bench.parts
    assert first == (0, 1, PIECE // 8 + 2, 0, 0, 0)
    assert (gives_up[:2], gives_up[3:]) == ((0, 0), (1, 1, 0)) and after == (1, 1, 10, 1, 0, 0)


def test_without_a_link_what_has_begun_is_read():
    """A segment is judged once, as it comes: its pieces all come, and the next segment is none."""
    bench = Bench(max_frame=9022, depth=4096)

    async def main(ctx):
        await give(ctx, bench.dut, segment(2 * PIECE, last=0))
        await cycles(ctx, 8)
        assert len(bench.reads) == 1
        ctx.set(bench.dut.link_up, 0)
        ctx.set(bench.dut.free, 4096)
        await give(ctx, bench.dut, segment(64))
        await cycles(ctx, 8)
    bench.run(main, free=PIECE // 8 + 2 + ON_THE_WAY)
    assert [length for *_, length in bench.reads] == [PIECE, PIECE]
    assert [part[3:5] for part in bench.parts] == [(0, 0), (0, 0), (1, 1)]


def test_a_piece_that_was_offered_stays():
    bench = Bench(max_frame=9022, depth=4096)
    dut = bench.dut

    async def main(ctx):
        await give(ctx, dut, segment(2 * PIECE, addr=0))
        await cycles(ctx, 1)
        bench.ready = False
        ctx.set(dut.free, 4096)
        ctx.set(dut.hurry, 1)
        await cycles(ctx, 6)
        ctx.set(dut.hold, 1)
        ctx.set(dut.free, 0)
        for _ in range(2 * PATIENCE):
            assert ctx.get(dut.req.valid) and ctx.get(dut.req.p.addr) == PIECE and ctx.get(dut.req.p.len) == PIECE
            await ctx.tick()
        bench.ready = True
        await cycles(ctx, 4)
    bench.run(main, free=PIECE // 8 + 2 + ON_THE_WAY)
    assert [part[1:] for part in bench.parts] == [(1, PIECE // 8 + 2, last, 0, 0) for last in (0, 1)]
