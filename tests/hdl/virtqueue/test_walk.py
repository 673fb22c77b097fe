"""Heads to segments: chains and tables of every form against a walk of a few lines, and every rule broken."""

from functools import cache, partial
import struct

import pytest

from ringnic.hdl.spec.virtio import VirtqDescF
from ringnic.hdl.virtqueue.walk import Walk

from ...kit.streams import always

walk_of = cache(Walk)  # one that is simulated again is not elaborated again

NEXT, WRITE, INDIRECT = (VirtqDescF[name].value for name in ("NEXT", "WRITE", "INDIRECT"))
DESC, TABLES, NOWHERE = 0x1_0000, 0x4_0000, 1 << 50
TOP = 1 << 64
FAILED = "failed"


class Ring:
    """Descriptor tables in memory, and what a chain in them means."""
    def __init__(self, bench, size, indirect, max_table):
        self.bench, self.size, self.indirect, self.max_table = bench, size, indirect, max_table

    def put(self, index, addr, length, flags=0, following=0, table=DESC):
        struct.pack_into("<QIHH", self.bench.memory, table + 16 * index, addr, length, flags, following)

    def get(self, index, table=DESC):
        at = table + 16 * index
        if at in self.bench.fails or at + 16 > len(self.bench.memory):
            return None
        return struct.unpack_from("<QIHH", self.bench.memory, at)

    def head(self, index, queue=0, port=0):
        addr, length, flags, following = self.get(index)
        return {"port": port, "taken": {"queue": queue, "head": {
            "id": index, "addr": addr, "len": length, "flags": flags & 7, "next": following}}}

    def segments(self, index):
        """``[(addr, len, write)]``, and FAILED at the end of a chain that breaks a rule."""
        out, table, limit, desc = [], None, self.size, self.get(index)
        left = unread = self.size  # descriptors that the chain may still have in this table, and that the table still has
        while desc is not None and left:
            left, unread = left - 1, unread - 1
            addr, length, flags, following = desc
            if addr + length > TOP:
                break
            if flags & INDIRECT:
                if table is not None or flags & NEXT or not self.indirect or length == 0 or length % 16:
                    break
                table, limit, following = addr, length // 16, 0
                left, unread = max(self.size, self.max_table), limit
            elif table is not None and flags & NEXT and not unread:
                break
            else:
                out.append((addr, length, bool(flags & WRITE)))
                if not flags & NEXT:
                    return out
            if following >= limit:
                break
            desc = self.get(following, DESC if table is None else table)
        return [*out, FAILED]


@pytest.fixture
def make(stage):
    def bench(*, width=64, size=8, indirect=1, max_ahead=4, max_table=40, gate=None, gates=(), ports=1, **options):
        """``gates``: of each port, else ``gate``. Queue 0 is for port 0, queue 1 for port 1."""
        bench = stage(walk_of(width=width, num_queues=2, ports=ports, max_ahead=max_ahead, max_table=max_table), **options)
        bench.serve_reads(bench.dut.read)
        bench.ring = Ring(bench, size, indirect, max_table)
        bench.came = [[] for _ in range(ports)]  # of each port [(queue, id, segments)] of the chains that came in whole
        bench.chains = bench.came[0]

        def take(item, segments, came):
            assert not item.error or item.last
            segments.append(FAILED if item.error else (item.addr, item.len, bool(item.write)))
            if item.last:
                assert item.error or item.chain.writable == any(write for _, _, write in segments)
                came.append((item.queue, item.chain.id, segments.copy()))
                segments.clear()
        for port, came, gate in zip(bench.dut.o, bench.came, gates or (gate,) * ports):
            bench.background(bench.collect_into, port, partial(take, segments=[], came=came), gate or always)

        async def start(ctx):
            ctx.set(bench.dut.control.indirect, indirect)
            await bench.setup(ctx, 0, size=size, queue_desc=DESC)
            await bench.setup(ctx, 1, size=16, queue_desc=DESC)
        bench.start = start
        return bench
    return bench


async def give(ctx, bench, head):
    """Offer a head when there is room for it."""
    await bench.until(ctx, lambda: ctx.get(bench.dut.room) >> head["port"] & 1)
    await bench.send(ctx, bench.dut.i, head)


async def walk(ctx, bench, index, queue=0):
    """Segments of the chain at ``index``."""
    before = len(bench.chains)
    await give(ctx, bench, bench.ring.head(index, queue))
    await bench.until(ctx, lambda: len(bench.chains) > before)
    (came_queue, ident, segments), = bench.chains[before:]
    assert (came_queue, ident) == (queue, index)
    return segments


def chain(ring, *indices, flags=0):
    for k, index in enumerate(indices):
        more = k + 1 < len(indices)
        ring.put(index, 0x1_0000_0000 + index, 100 + index, flags | (NEXT if more else 0),
                 indices[k + 1] if more else 77)


def table(ring, *indices, entries=None, base=TABLES, head=0):
    """Head ``head`` with a table whose chain is ``indices``."""
    ring.put(head, base, 16 * (len(indices) if entries is None else entries), INDIRECT, 5)
    for k, index in enumerate(indices):
        more = k + 1 < len(indices)
        ring.put(index, 0x2_0000 + index, 10 + index, NEXT if more else WRITE, indices[k + 1] if more else 0, base)


GOOD = {
    "one descriptor": lambda ring: ring.put(0, 0xffff_ffff_0000_0000, 0xffff_ffff, WRITE),
    "zero length": lambda ring: ring.put(0, 0, 0),
    "zero length in the last byte": lambda ring: ring.put(0, TOP - 1, 0),
    "the last byte": lambda ring: ring.put(0, TOP - 1, 1),
    "up to the last byte": lambda ring: ring.put(0, TOP - 100, 100, WRITE),
    "the longest up to the last byte": lambda ring: ring.put(0, TOP - 0xffff_ffff, 0xffff_ffff),
    "across 4 GiB": lambda ring: ring.put(0, 0xffff_fff0, 64),
    "across 2**63": lambda ring: ring.put(0, 0x7fff_ffff_ffff_fff0, 64),
    "across the last 4 GiB's beginning": lambda ring: ring.put(0, 0xffff_fffe_ffff_fff0, 64),
    "chain up to the last byte": lambda ring: (chain(ring, 0, 1), ring.put(1, TOP - 7, 7)),
    "table up to the last byte": lambda ring: (table(ring, 0, 1), ring.put(1, TOP - 7, 7, 0, 0, TABLES)),
    "chain": lambda ring: chain(ring, 0, 1, 2),
    "chain of all descriptors": lambda ring: chain(ring, 0, 7, 1, 6, 2, 5, 3, 4),
    "table of one": lambda ring: table(ring, 0),
    "table read ahead": lambda ring: table(ring, 0, 1, 2, 3),
    "table longer than what is read ahead": lambda ring: table(ring, 0, 1, 2, 3, 4, 5, 6, 7),
    "table in another order": lambda ring: table(ring, 0, 3, 1, 2),
    "table that leaves the order late": lambda ring: table(ring, 0, 1, 3, 2),
    "table with entries left over": lambda ring: table(ring, 0, 1, entries=4),
    "table with more entries than the queue": lambda ring: table(ring, 0, 900, 1, entries=1000),
    "table with a longer chain than the queue": lambda ring: table(ring, *range(19)),
    "long table in another order": lambda ring: table(ring, 0, *range(39, 0, -2), entries=40),
    "chain of all descriptors, the last one a table": lambda ring: (
        chain(ring, 0, 6, 1, 5, 2, 4, 3, 7), table(ring, *range(19), head=7)),
    "table that does not begin on a beat": lambda ring: table(ring, 0, 1, 2, base=TABLES + 16),
    "table at an odd address": lambda ring: table(ring, 0, 1, 2, 3, base=TABLES + 1),
    "table across an edge": lambda ring: table(ring, 0, 1, 2, base=TABLES + 512 - 8),
    "table across an edge, at an odd address": lambda ring: table(ring, 0, 2, 1, base=TABLES + 512 - 21),
    "chain that ends in a table": lambda ring: (chain(ring, 0, 2, 3), table(ring, 0, 1, 2, head=3)),
    "unknown flags": lambda ring: ring.put(0, 1, 2, 0xfff8),
}

BAD = {
    "one byte over the end": lambda ring: ring.put(0, TOP - 100, 101, WRITE),
    "the longest over the end": lambda ring: ring.put(0, TOP - 1, 0xffff_ffff),
    "over the end in a chain": lambda ring: (chain(ring, 0, 1, 2), ring.put(1, TOP - 1, 2, NEXT, 2)),
    "over the end in a table": lambda ring: (table(ring, 0, 1, 2), ring.put(1, TOP - 1, 2, NEXT, 2, TABLES)),
    "over the end at the end of a table": lambda ring: (table(ring, 0, 1, 2), ring.put(2, TOP - 64, 0x1_0000, 0, 0, TABLES)),
    "over the end in a table in another order": lambda ring: (table(ring, 0, 2, 1), ring.put(2, TOP - 1, 2, NEXT, 1, TABLES)),
    "over the end in the chain before a table": lambda ring: (
        chain(ring, 0, 2, 3), table(ring, 0, head=3), ring.put(2, TOP - 1, 2, NEXT, 3)),
    "chain of one too many": lambda ring: (chain(ring, 0, 1, 2, 3, 4, 5, 6, 7), ring.put(7, 1, 1, NEXT, 0)),
    "loop of one": lambda ring: ring.put(0, 1, 1, NEXT, 0),
    "next past the queue": lambda ring: ring.put(0, 1, 1, NEXT, 8),
    "next far past the queue": lambda ring: ring.put(0, 1, 1, NEXT, 0xffff),
    "empty table": lambda ring: ring.put(0, TABLES, 0, INDIRECT),
    "table and a half": lambda ring: ring.put(0, TABLES, 24, INDIRECT),
    "table with next": lambda ring: (table(ring, 0), ring.put(0, TABLES, 16, INDIRECT | NEXT, 1)),
    "table in a table": lambda ring: (table(ring, 0), ring.put(0, TABLES, 16, INDIRECT, 0, TABLES)),
    "table in a table, later": lambda ring: (table(ring, 0, 1), ring.put(1, TABLES, 16, INDIRECT, 0, TABLES)),
    "next past the table": lambda ring: (table(ring, 0), ring.put(0, 1, 1, NEXT, 1, TABLES)),
    "next far past the table": lambda ring: (table(ring, 0, 1), ring.put(1, 1, 1, NEXT, 0xffff, TABLES)),
    "loop in a table": lambda ring: (table(ring, 0, 1), ring.put(1, 1, 1, NEXT, 0, TABLES)),
    "loop in a long table": lambda ring: (table(ring, *range(19)), ring.put(18, 1, 1, NEXT, 9, TABLES)),
    "loop of one in a table": lambda ring: (table(ring, 0), ring.put(0, 1, 1, NEXT, 0, TABLES)),
    "table nowhere": lambda ring: ring.put(0, NOWHERE, 64, INDIRECT),
    "long table nowhere": lambda ring: ring.put(0, NOWHERE, 0xffff_fff0, INDIRECT),
    "table over the end": lambda ring: ring.put(0, TOP - 16, 32, INDIRECT),
    "table a byte over the end": lambda ring: ring.put(0, TOP - 15, 16, INDIRECT),
    "long table over the end": lambda ring: ring.put(0, TOP - 0xffff_ffe0, 0xffff_fff0, INDIRECT),
    "table over the end behind a chain": lambda ring: (chain(ring, 0, 3), ring.put(3, TOP - 16, 32, INDIRECT)),
    "table at the end of a chain nowhere": lambda ring: (chain(ring, 0, 3), ring.put(3, NOWHERE, 64, INDIRECT)),
    "descriptor that cannot be read": lambda ring: (chain(ring, 0, 3, 4), ring.bench.fails.add(DESC + 48)),
    "table entry that cannot be read": lambda ring: (table(ring, 0, 3, 2, 1), ring.bench.fails.add(TABLES + 48)),
}


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize("case", GOOD)
def test_good_chains(make, case, width):
    bench = make(width=width)
    GOOD[case](bench.ring)

    async def testbench(ctx):
        await bench.start(ctx)
        expected = bench.ring.segments(0)
        assert FAILED not in expected
        for _ in range(3):
            assert await walk(ctx, bench, 0) == expected
        assert not bench.failed
    bench.run(testbench)


@pytest.mark.parametrize("case", BAD)
def test_broken_rules(make, case):
    """Told once a chain; chains of another queue, or of the same one set up again, come as if nothing had been."""
    bench = make()
    bench.memory[TABLES:TABLES + 0x100] = bytes(range(256))
    BAD[case](bench.ring)
    after = TABLES + 0x1000

    async def testbench(ctx):
        await bench.start(ctx)
        expected = bench.ring.segments(0)
        assert expected[-1] == FAILED
        table(bench.ring, 0, 1, 2, 3, base=after, head=15)
        for k in range(1, 5):
            assert await walk(ctx, bench, 0) == expected
            assert bench.failed == [0] * k
            assert await walk(ctx, bench, 15, queue=1) == bench.ring.segments(15)
            await bench.setup(ctx, 0, size=8, queue_desc=DESC)
        assert not any(DESC + 8 * 16 <= addr < TABLES or addr >= TOP - (1 << 32) for addr, _ in bench.reads)
    bench.run(testbench)


BEHIND = {"one": lambda ring: ring.put(1, 5, 6), "chain": lambda ring: chain(ring, 1, 2, 3),
          "table": lambda ring: table(ring, 0, 1, 2, head=1)}


@pytest.mark.parametrize("case", BEHIND)
@pytest.mark.parametrize("busy", [0, 1])
def test_nothing_of_a_queue_comes_behind_a_chain_that_failed(make, case, busy):
    """2.7.9: used in order, what is behind would say that the one that failed was used, too."""
    bench = make(pause=0.3 * busy)
    bench.ring.put(0, 1, 1, NEXT, 8)
    BEHIND[case](bench.ring)

    async def testbench(ctx):
        await bench.start(ctx)
        good = bench.ring.segments(1)
        for count in (1, 2):
            for index, queue in ((1, 0), (0, 0), (1, 0), (1, 1), (1, 0), (1, 1)):
                await give(ctx, bench, bench.ring.head(index, queue))
            await bench.until(ctx, lambda: len(bench.chains) == 6 * count)
            came = [(queue, segments[-1] == FAILED or segments == good and "good") for queue, _, segments in bench.chains]
            assert came == [(0, "good"), (0, True), (0, True), (1, "good"), (0, True), (1, "good")] * count
            await bench.setup(ctx, 0, size=8, queue_desc=DESC)
    bench.run(testbench)


@pytest.mark.parametrize("entries", [1, 3])
def test_a_table_may_end_with_the_address_space(make, entries):
    """It is asked for; that nothing is there is another matter."""
    bench = make()
    bench.ring.put(0, TOP - 16 * entries, 16 * entries, INDIRECT)

    async def testbench(ctx):
        await bench.start(ctx)
        assert await walk(ctx, bench, 0) == [FAILED]
        assert bench.reads == [(TOP - 16 * entries, 16)]
    bench.run(testbench)


@pytest.mark.parametrize("size", [1, 2])
def test_smallest_queues(make, size):
    bench = make(size=size)

    async def testbench(ctx):
        await bench.start(ctx)
        for count in (1, 2, 3):
            table(bench.ring, *range(count))
            segments = await walk(ctx, bench, 0)
            assert segments == bench.ring.segments(0) and FAILED not in segments
        chain(bench.ring, *range(size))
        assert await walk(ctx, bench, 0) == bench.ring.segments(0)
        bench.ring.put(size - 1, 1, 1, NEXT, 0)
        assert (await walk(ctx, bench, 0))[size:] == [FAILED]
    bench.run(testbench)


@pytest.mark.parametrize("size, most", [(8, 24), (24, 24), (32, 32)])
def test_longest_chain_in_a_table(make, size, most):
    """``max_table`` descriptors, or Queue Size if that is more; in the order of the table, and not."""
    bench = make(size=size, max_table=24)

    async def testbench(ctx):
        await bench.start(ctx)
        for entries in (most - 1, most, most + 1):
            for indices in (range(entries), (0, *range(entries - 1, 0, -1))):
                table(bench.ring, *indices)
                segments = await walk(ctx, bench, 0)
                assert segments == bench.ring.segments(0)
                assert (len(segments), FAILED not in segments) == (entries, entries <= most)
                await bench.setup(ctx, 0, size=size, queue_desc=DESC)
    bench.run(testbench)


def test_largest_queue_and_table(make):
    bench = make(size=32768)

    async def testbench(ctx):
        await bench.start(ctx)
        chain(bench.ring, 0, 1)
        bench.ring.put(0, 1, 1, NEXT, 2000)
        bench.ring.put(2000, 2, 2, NEXT, 32767)  # its address is past the tables: read as it is
        bench.ring.put(32767, 3, 3)
        assert await walk(ctx, bench, 0) == [(1, 1, False), (2, 2, False), (3, 3, False)]
        bench.ring.put(0, 1, 1, NEXT, 32768)
        assert await walk(ctx, bench, 0) == [(1, 1, False), FAILED]
        await bench.setup(ctx, 0, size=32768, queue_desc=DESC)
        table(bench.ring, 0, 40000, 1, entries=0xffff_fff0 // 16)
        segments = await walk(ctx, bench, 0)
        assert segments == bench.ring.segments(0) and FAILED not in segments
    bench.run(testbench)


def test_indirect_not_negotiated(make):
    bench = make(indirect=0)
    table(bench.ring, 0, 1)

    async def testbench(ctx):
        await bench.start(ctx)
        assert await walk(ctx, bench, 0) == [FAILED]
        assert bench.reads == []
    bench.run(testbench)


def test_tables_are_read_ahead_and_their_answers_taken(make):
    """The device takes nothing: tables for which there is room are read all the same, and no answer waits."""
    state = {"open": False}
    bench = make(max_ahead=4, gate=lambda: state["open"])
    table(bench.ring, 0, 1, 2, 3)

    async def feed(ctx):
        await bench.start(ctx)
        for _ in range(10):
            await give(ctx, bench, bench.ring.head(0))
        await bench.until(ctx, lambda: len(bench.chains) == 10)
        assert bench.chains == [(0, 0, bench.ring.segments(0))] * 10

    async def unblock(ctx):
        await ctx.tick().repeat(300)
        assert 2 <= len(bench.reads) <= 3 and all(read == (TABLES, 64) for read in bench.reads)
        assert bench.longest_wait <= 1
        state["open"] = True
    bench.run(feed, unblock)


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_random(make, rng, width, pause):
    """Chains good and bad, one after the other without waiting, from descriptors that are mostly well-formed. Some chains
    behind a bad one the queue is set up again."""
    bench = make(width=width, size=8, max_ahead=rng.choice([1, 4]), pause=pause)
    ring, expected, fails, behind = bench.ring, [], 0, 0
    shift = rng.choice([0, 8, 12, rng.randrange(16)])  # of all tables
    for index in range(16):
        flags = rng.choice([0, WRITE, NEXT, NEXT | WRITE, INDIRECT, INDIRECT, INDIRECT | NEXT])
        length = 16 * rng.choice([1, 2, 3, 4, 6]) if rng.random() < 0.9 else rng.choice([0, 8, 17])
        where = TABLES + 256 * rng.randrange(16) + shift if rng.random() < 0.9 else rng.choice([NOWHERE, TOP - 32])
        ring.put(index, where, length, flags, rng.randrange(9))
    for at in range(16):
        for index in range(16):
            following = index + 1 if rng.random() < 0.8 else rng.randrange(6)
            flags = rng.choice([0, NEXT, NEXT | WRITE]) if rng.random() < 0.98 else INDIRECT
            where, length = rng.getrandbits(64), rng.getrandbits(32)
            if rng.random() < 0.1:
                where = TOP - max(1, length + rng.choice([-1, 0, 0, 0, 1]))
            ring.put(index, where, length, flags, following, TABLES + 256 * at + shift)

    async def testbench(ctx):
        nonlocal fails, behind
        await bench.start(ctx)
        for _ in range(60):
            index = rng.randrange(8)
            expected.append((0, index, [FAILED] if behind else ring.segments(index)))
            if expected[-1][2][-1] == FAILED:
                fails += 1
                behind += 1
            await give(ctx, bench, ring.head(index))
            if behind > rng.randrange(4):
                await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
                await bench.setup(ctx, 0, size=8, queue_desc=DESC)
                behind = 0
        await bench.until(ctx, lambda: len(bench.chains) == len(expected))
        await ctx.tick().repeat(3)
        assert bench.chains == expected
        assert bench.failed == [0] * fails
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
    bench.run(testbench)


# Packed rings.

class PackedRing:
    """Descriptors of a packed ring in memory, and what a chain of them means."""
    def __init__(self, bench, size, max_table):
        self.bench, self.size, self.max_table = bench, size, max_table

    def put(self, slot, addr, length, flags=0, base=DESC):
        struct.pack_into("<QIHH", self.bench.memory, base + 16 * slot, addr, length, self.bench.rng.getrandbits(16), flags)

    def get(self, slot, base=DESC):
        return struct.unpack_from("<QIHH", self.bench.memory, base + 16 * slot)

    def head(self, slot, count, ident=0x1234, queue=0, port=0):
        """As :class:`Scan` hands it on."""
        addr, length, _, flags = self.get(slot)
        flags, length = (NEXT, count) if count > 1 else (flags & 7, length)
        return {"port": port, "taken": {"queue": queue, "head": {
            "id": ident, "addr": addr, "len": length, "flags": flags, "next": slot}}}

    def segments(self, slot, count):
        addr, length, _, flags = self.get(slot)
        if count == 1 and flags & INDIRECT:
            return self._told([self.get(k, addr) for k in range(length // 16)], INDIRECT)
        return self._told([self.get((slot + k) % self.size) for k in range(count)], 0)

    def _told(self, descs, ignored):
        out, most = [], max(self.size, self.max_table) if ignored else self.size
        for addr, length, _, flags in descs:
            if flags & ~ignored & INDIRECT or len(out) == most or addr + length > TOP:
                return [*out, FAILED]
            out.append((addr, length, bool(flags & WRITE)))
        return out


def packed_random(ring, rng):
    for slot in range(ring.size):
        ring.put(slot, rng.getrandbits(64), rng.getrandbits(32), rng.choice([0, WRITE]) | rng.choice([0, 0x80, 0x8080]))
    for at in range(2 * ring.size):
        # 2.8.7: of the flags in a table only WRITE means something.
        ring.put(at, rng.getrandbits(64), rng.getrandbits(32), rng.getrandbits(16), TABLES)


@pytest.fixture
def make_packed(stage):
    def bench(*, width=64, size=8, max_ahead=4, max_table=24, **options):
        bench = stage(walk_of(width=width, num_queues=2, ports=1, max_ahead=max_ahead, max_table=max_table), **options)
        bench.serve_reads(bench.dut.read)
        bench.ring = PackedRing(bench, size, max_table)
        bench.got = bench.collect(bench.dut.o[0])
        packed_random(bench.ring, bench.rng)

        async def walk(ctx, slot, count):
            """Segments of one chain, in a queue that was set up anew."""
            await bench.setup(ctx, 0, size=size, queue_desc=DESC)
            bench.got.clear()
            await give(ctx, bench, bench.ring.head(slot, count))
            await bench.until(ctx, lambda: bench.got and bench.got[-1].last)
            last = bench.got[-1]
            assert (last.chain.id, last.chain.count) == (0x1234, count)
            assert last.error or last.chain.writable == any(item.write for item in bench.got)
            return [FAILED if item.error else (item.addr, item.len, bool(item.write)) for item in bench.got]

        async def start(ctx):
            ctx.set(bench.dut.control.indirect, 1)
            ctx.set(bench.dut.control.packed, 1)
        bench.walk, bench.start = walk, start
        return bench
    return bench


@pytest.mark.parametrize("max_ahead", [1, 4, 32])
def test_packed_chains_of_every_length_from_every_slot(make_packed, max_ahead):
    bench = make_packed(max_ahead=max_ahead)

    async def testbench(ctx):
        await bench.start(ctx)
        for slot in range(8):
            for count in range(1, 9):
                assert await bench.walk(ctx, slot, count) == bench.ring.segments(slot, count), (slot, count)
        assert not bench.failed
    bench.run(testbench)


@pytest.mark.parametrize("size, most", [(8, 24), (24, 24), (32, 32)])
def test_longest_packed_table(make_packed, size, most):
    """``max_table`` descriptors, or Queue Size if that is more."""
    bench = make_packed(size=size)
    packed_random(PackedRing(bench, most, most), bench.rng)

    async def testbench(ctx):
        await bench.start(ctx)
        for entries in (most - 1, most, most + 1):
            bench.ring.put(0, TABLES, 16 * entries, INDIRECT)
            expected = bench.ring.segments(0, 1)
            assert (len(expected), FAILED not in expected) == (entries, entries <= most)
            assert await bench.walk(ctx, 0, 1) == expected
    bench.run(testbench)


@pytest.mark.parametrize("max_ahead", [1, 4, 32])
def test_packed_tables(make_packed, max_ahead):
    """Entries follow one another, whatever their number is in a queue of 8."""
    bench = make_packed(max_ahead=max_ahead)

    async def testbench(ctx):
        await bench.start(ctx)
        for slot in (0, 7):
            for entries in range(1, 11):
                bench.ring.put(slot, TABLES, 16 * entries, INDIRECT)
                expected = bench.ring.segments(slot, 1)
                assert FAILED not in expected
                assert await bench.walk(ctx, slot, 1) == expected, entries
            for length in (0, 8, 17, 40):
                bench.ring.put(slot, TABLES, length, INDIRECT)
                assert await bench.walk(ctx, slot, 1) == [FAILED]
    bench.run(testbench)


@pytest.mark.parametrize("max_ahead", [1, 4])
def test_packed_up_to_the_end_and_over_it(make_packed, max_ahead):
    bench = make_packed(max_ahead=max_ahead)
    ring = bench.ring

    async def testbench(ctx):
        await bench.start(ctx)
        for length in (2, 100, 0x1_0000, 0xffff_ffff):
            for over in (0, 1):
                for base, slot, count in ((DESC, 0, 1), (DESC, 2, 3), (TABLES, 4, 1)):
                    ring.put(4, TABLES, 48, INDIRECT)
                    bad = 2 if base == TABLES else slot + count - 1
                    ring.put(bad, TOP - length + over, length, 0, base)
                    expected = ring.segments(slot, count)
                    assert (FAILED in expected) == over
                    assert await bench.walk(ctx, slot, count) == expected
                    packed_random(ring, bench.rng)
        for entries, over in ((1, 1), (2, 16), (3, 1)):
            ring.put(0, TOP - 16 * entries + over, 16 * entries, INDIRECT)
            assert await bench.walk(ctx, 0, 1) == [FAILED]
        assert not any(addr >= TOP - (1 << 32) for addr, _ in bench.reads)
        ring.put(0, TOP - 32, 32, INDIRECT)
        assert await bench.walk(ctx, 0, 1) == [FAILED]
        assert bench.reads[-1] == (TOP - 32, 16)
    bench.run(testbench)


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("fault", ["table", "read"])
@pytest.mark.parametrize("max_ahead", [1, 2, 32])
def test_packed_chains_that_fail(make_packed, at, fault, max_ahead):
    """A table beside other descriptors (2.8.7), or a read that fails; and behind such a chain nothing comes."""
    bench = make_packed(max_ahead=max_ahead)
    slot = (6 + at) % 8

    async def testbench(ctx):
        await bench.start(ctx)
        good = bench.ring.segments(6, 5)
        if fault == "table":
            bench.ring.put(slot, TABLES, 16, INDIRECT)
        else:
            bench.fails.add(DESC + 16 * slot)
        *came, last = await bench.walk(ctx, 6, 5)
        # A read that fails may have brought something before.
        assert last == FAILED and came == good[:len(came)] and at <= len(came) <= at + (fault == "read")
        for slot_behind, count in ((5, 1), (3, 3), (4, 1)):
            bench.got.clear()
            await give(ctx, bench, bench.ring.head(slot_behind, count))
            await bench.until(ctx, lambda: bench.got)
            assert bench.got[0].last and bench.got[0].error
        assert bench.failed == [0] * 4
    bench.run(testbench)


# Several ports.

KINDS = {
    "one": lambda ring, at: ring.put(at, 0x1000 + at, 100 + at, WRITE),
    "chain": lambda ring, at: chain(ring, at, at + 1, at + 2, at + 3),
    "table": lambda ring, at: table(ring, 0, 1, 2, 3, base=TABLES + 256 * at, head=at),
    "long table": lambda ring, at: table(ring, *range(9), base=TABLES + 256 * at, head=at),
    "disorder": lambda ring, at: table(ring, 0, 2, 3, 1, base=TABLES + 256 * at, head=at),
    "chain and table": lambda ring, at: (chain(ring, at, at + 1), table(ring, 0, 1, 2, base=TABLES + 256 * at, head=at + 1)),
    "fails": lambda ring, at: (chain(ring, at, at + 1), ring.put(at + 1, 1, 1, NEXT, 99)),
}


@pytest.mark.parametrize("point", range(6))
@pytest.mark.parametrize("stuck", KINDS)
def test_a_port_that_is_stuck_does_not_hold_up_the_other(make, stuck, point):
    """The device of port 0 takes ``point`` segments, and then nothing: port 1 gives out chains of all kinds, more than there is
    room for at once. Then port 0 goes on, and nothing of it was lost."""
    state = {"taken": 0, "open": False}
    bench = make(ports=2, size=16, gates=(lambda: state["open"] or state["taken"] < point, always))

    async def count(ctx):
        async for _, _, moves in ctx.tick().sample(bench.dut.o[0].valid & bench.dut.o[0].ready):
            state["taken"] += moves
    bench.background(count)
    ring = bench.ring
    KINDS[stuck](ring, 0)
    first = [ring.segments(0)] + [[FAILED] if stuck == "fails" else ring.segments(0)] * 29

    async def fill(ctx):
        await bench.start(ctx)
        for _ in range(30):
            await give(ctx, bench, ring.head(0))

    async def work(ctx):
        await ctx.tick().repeat(200)
        expected, given = [], len(bench.came[0])
        kinds = [kind for kind in KINDS if kind != "fails"] * 5
        for kind in kinds:
            KINDS[kind](ring, 4)
            expected.append((1, 4, ring.segments(4)))
            await give(ctx, bench, ring.head(4, queue=1, port=1))
            if "chain" in kind or kind != "one":     # its descriptors are in use until then
                await bench.until(ctx, lambda: len(bench.came[1]) == len(expected))
        await bench.until(ctx, lambda: len(bench.came[1]) == len(expected))
        assert bench.came[1] == expected and len(bench.came[0]) == given
        state["open"] = True
        await bench.until(ctx, lambda: len(bench.came[0]) == 30)
        assert bench.came[0] == [(0, 0, segments) for segments in first]
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy))
    bench.run(fill, work)


def ends(bench):
    """Record the cycles in which a chain ends on each port."""
    bench.ends = [[] for _ in bench.dut.o]

    async def watch(ctx, port, cycles):
        now = 0
        async for _, _, moves in ctx.tick().sample(port.valid & port.ready & port.p.last):
            now += 1
            if moves:
                cycles.append(now)
    for port, cycles in zip(bench.dut.o, bench.ends):
        bench.background(watch, port, cycles)


@pytest.mark.parametrize("kind, ports, cycles", [
    ("one", 1, 2), ("one", 2, 2), ("one", 3, 2), ("table", 1, 10), ("table", 2, 6), ("table", 3, 6)])
def test_rate(make, ports, kind, cycles):
    """A chain of one descriptor every two cycles; a port alone gives a segment, or loads a head, every two, and several do so at
    the same time (here a table of four entries comes in five cycles, at best)."""
    bench = make(ports=ports, size=16, max_ahead=8, width=128)
    ends(bench)
    KINDS[kind](bench.ring, 0)

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(24):
            await give(ctx, bench, bench.ring.head(0, port=k % ports))
        await bench.until(ctx, lambda: sum(map(len, bench.ends)) == 24)
        assert all(chain == (0, 0, bench.ring.segments(0)) for came in bench.came for chain in came)
        times = sorted(sum(bench.ends, []))[8:]
        assert times[-1] - times[0] <= cycles * (len(times) - 1)
    bench.run(testbench)


@pytest.mark.parametrize("port", [0, 1])
def test_a_lone_head_has_its_segment_after_five_cycles(make, port):
    bench = make(ports=2)
    bench.ring.put(0, 1, 1)
    ends(bench)

    async def testbench(ctx):
        await bench.start(ctx)
        for _ in range(3):
            cycles, came = 0, len(bench.ends[port])
            await give(ctx, bench, bench.ring.head(0, queue=port, port=port))   # taken in the cycle in which it is offered
            while len(bench.ends[port]) == came:
                await ctx.tick()
                cycles += 1
            assert cycles == 5
            await ctx.tick().repeat(3)
    bench.run(testbench)


@pytest.mark.parametrize("width", [32, 64, 256])
@pytest.mark.parametrize("slow", [(0.0, 0.0), (0.9, 0.0), (0.5, 0.5), (0.0, 0.97)])
def test_random_on_two_ports(make, rng, width, slow):
    """Each port has its own queue, tables and descriptors of all kinds, good and bad; devices are fast and slow."""
    gates = tuple(lambda pause=pause: rng.random() >= pause for pause in slow)
    bench = make(width=width, ports=2, size=16, max_ahead=rng.choice([1, 4]), gates=gates, pause=rng.choice([0.0, 0.3]))
    ring, kinds = bench.ring, []
    for at in range(0, 16, 4):
        kinds.append(rng.choice([kind for kind in KINDS if kind != "fails"]))
        KINDS[kinds[-1]](ring, at)
    for at in rng.sample(range(256), 12):      # some entries are something else
        ring.put(at % 16, rng.getrandbits(64), rng.getrandbits(32), rng.choice([NEXT, INDIRECT, 0]), rng.randrange(20),
                 TABLES + 256 * (at // 16))
    expected = [[], []]

    async def testbench(ctx):
        await bench.start(ctx)
        failed = [False, False]
        for _ in range(60):
            port, index = rng.randrange(2), 4 * rng.randrange(4)
            segments = [FAILED] if failed[port] else ring.segments(index)
            failed[port] |= segments[-1] == FAILED
            expected[port].append((port, index, segments))
            while not ctx.get(bench.dut.room) >> port & 1:
                await ctx.tick()
            await bench.send(ctx, bench.dut.i, ring.head(index, queue=port, port=port))
            if failed[port] and rng.random() < 0.2:
                await bench.until(ctx, lambda: not ctx.get(bench.dut.busy), 5000)
                await bench.setup(ctx, port, size=16, queue_desc=DESC)
                failed[port] = False
        await bench.until(ctx, lambda: not ctx.get(bench.dut.busy), 5000)
        await ctx.tick().repeat(3)
        assert bench.came == expected
        assert sorted(bench.failed) == sorted(port for port, came in enumerate(expected)
                                              for *_, segments in came if segments[-1] == FAILED)
    bench.run(testbench)


@pytest.mark.parametrize("dropped", [0, 4, 8, 9, 12])
def test_no_entry_is_handed_out_before_it_has_come(dropped, make):
    """Behind a chain that fails, tables that were asked for are left out before they have come. However many they are, a chain of
    another queue has the entries of its own table, and not what lay there."""
    bench = make(max_ahead=32, size=64, latency=600)
    ring = bench.ring
    ring.put(0, TABLES, 512, INDIRECT | NEXT, 1)
    for k in range(1, dropped + 1):
        table(ring, *range(32), base=TABLES + 512 * k, head=k)
    table(ring, 0, 1, 2, base=TABLES + 0x8000, head=15)

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(dropped + 1):
            await give(ctx, bench, ring.head(k))
        await give(ctx, bench, ring.head(15, queue=1))
        await bench.until(ctx, lambda: len(bench.chains) == dropped + 2)
    bench.run(testbench)
    assert bench.chains == [*((0, k, [FAILED]) for k in range(dropped + 1)), (1, 15, ring.segments(15))]
