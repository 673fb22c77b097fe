"""Packed rings through the whole engine, on a host that tears reads at 8 bytes; and what the fetch alone asks for."""

from functools import cache
import struct

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.virtqueue.engine import Engine
from ringnic.hdl.virtqueue.packed import PackedFetch

from ...kit.events import WithEvents
from ...kit.heads import WithHeads
from ...kit.streams import pulse

engine = cache(Engine)  # one that is simulated again is not elaborated again

RING, DRIVER, DEVICE, TABLES = 0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000
STRIDE, TABLE = 0x2000, 0x100
ALL = 0xffff  # chains to COMMIT
NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15


class Ring:
    """The driver's side of one packed ring, 8 bytes a store."""
    def __init__(self, bench, queue, size, data=False):
        self.bench, self.queue, self.size, self.data = bench, queue, size, data
        self.base = RING + STRIDE * queue
        for area, length in ((RING, 16 * size), (DRIVER, 4)):
            at = area + STRIDE * queue
            bench.memory[at:at + length] = bytes(length)
        self.slot, self.wrap = 0, 1          # next to make available
        self.used_slot, self.used_wrap = 0, 1
        self.free = size
        self.count = {}                      # id: slots
        self.order = []                      # those with the device
        self.expected, self.came = [], []

    def flags(self, wrap):
        return AVAIL if wrap else USED

    async def add(self, ctx, ident, buffers, *, indirect=False, pause=0, wrong=0):
        """Chain of ``(addr, len, flags)``; the head's flags last, ``pause`` ticks between stores."""
        table = [struct.pack("<QIHH", addr, length, self.bench.rng.getrandbits(16), flags | wrong)
                 for addr, length, flags in buffers]
        if indirect:
            at = TABLES + TABLE * (ident % 64) + 0x4000 * self.queue
            self.bench.store(at, b"".join(table))
            elements = [(at, 16 * len(table), INDIRECT | self.bench.rng.choice([0, WRITE]))]
        else:
            elements = [(addr, length, flags | NEXT) for addr, length, flags in buffers[:-1]] + [buffers[-1]]
        slots, slot, wrap = [], self.slot, self.wrap
        for _ in elements:
            slots.append((slot, wrap))
            slot, wrap = (slot + 1, wrap) if slot + 1 < self.size else (0, wrap ^ 1)
        for (at, now), (addr, length, flags) in reversed(list(zip(slots, elements))):
            self.bench.store(self.base + 16 * at, struct.pack("<Q", addr))
            await ctx.tick().repeat(1 + pause)
            self.bench.store(self.base + 16 * at + 8, struct.pack("<IHH", length, ident, flags | self.flags(now)))
            await ctx.tick().repeat(1 + pause)
        self.slot, self.wrap = slot, wrap
        self.free -= len(slots)
        self.count[ident] = len(slots)
        self.order.append(ident)
        self.expected.append((ident, buffers))

    async def kick(self, ctx):
        await self.bench.kick(ctx, self.queue, self.slot | self.wrap << 15)

    def reap(self):
        while True:
            addr, length, ident, flags = struct.unpack_from("<QIHH", self.bench.memory, self.base + 16 * self.used_slot)
            if bool(flags & AVAIL) != bool(self.used_wrap) or bool(flags & USED) != bool(self.used_wrap):
                return
            assert addr == (1 << 64) - 1 and bool(flags & WRITE) == (length != 0)
            self.came.append((ident, length))
            # A batch in order is told by its last.
            ids = self.order[:self.order.index(ident) + 1] if self.bench.in_order else [ident]
            for one in ids:
                self.order.remove(one)
                slots = self.count.pop(one)
                self.free += slots
                self.used_slot += slots
                if self.used_slot >= self.size:
                    self.used_slot -= self.size
                    self.used_wrap ^= 1


@pytest.fixture
def make(stage, rng):
    def bench(sizes=(16,), *, width=64, tear=False, event_idx=1, in_order=0, notification_data=0, latency=30, **options):
        dut = engine(width=width, num_queues=len(sizes), ports=1, prefetch=16, batch=8, used_batch=8)
        bench = stage(dut, latency=latency, limit=200_000, watch_busy=False, **options)
        history = {}
        clock = [0]

        async def count(ctx):
            async for _ in ctx.tick():
                clock[0] += 1
        bench.background(count)

        def store(addr, data):
            assert addr % 8 == 0 and len(data) % 8 == 0
            for k in range(0, len(data), 8):
                history.setdefault(addr + k, []).append((clock[0], bytes(bench.memory[addr + k:addr + k + 8])))
            bench.memory[addr:addr + len(data)] = data

        plain = bench.answer

        def torn(addr, length, lanes):
            """Each 8 bytes as they were at some moment since the request."""
            now = bytes(bench.memory[addr:addr + length])
            for k in range(addr & ~7, addr + length, 8):
                at = clock[0] - bench.rng.randrange(latency + 1)
                for when, before in reversed(history.get(k, [])):
                    if when >= at:
                        bench.memory[k:k + 8] = before
            beats = plain(addr, length, lanes)
            bench.memory[addr:addr + length] = now
            return beats
        snapshots = []

        async def remember(ctx):
            while True:
                snapshots.append([bytes(bench.memory[RING + STRIDE * q:RING + STRIDE * q + 16 * size])
                                  for q, size in enumerate(sizes)])
                await ctx.tick()

        def torn_most(addr, length, lanes):
            """Of each descriptor the lower half as it was when the read was asked for, the upper half as it is now."""
            kept = [bytes(bench.memory[RING + STRIDE * q:RING + STRIDE * q + 16 * size]) for q, size in enumerate(sizes)]
            for queue, before in enumerate(snapshots[-latency]):
                for k in range(0, len(before), 16):
                    at = RING + STRIDE * queue + k
                    bench.memory[at:at + 8] = before[k:k + 8]
            beats = plain(addr, length, lanes)
            for queue, now in enumerate(kept):
                bench.memory[RING + STRIDE * queue:RING + STRIDE * queue + len(now)] = now
            return beats
        if tear == "most":
            bench.background(remember)
            bench.answer = torn_most
        elif tear:
            bench.answer = torn
        for port in dut.reads:
            bench.serve_reads(port)
        for port in dut.writes:
            bench.serve_writes(port)
        bench.notified = bench.collect(dut.notify)
        bench.store, bench.in_order = store, in_order
        bench.rings = [Ring(bench, queue, size) for queue, size in enumerate(sizes)]
        bench.errors = 0

        async def watch(ctx):
            async for _, _, error in ctx.tick().sample(dut.error):
                bench.errors += error
        bench.background(watch)

        async def start(ctx):
            for name, value in dict(packed=1, event_idx=event_idx, indirect=1, in_order=in_order,
                                    notification_data=notification_data).items():
                ctx.set(getattr(dut, name), value)
            for queue, size in enumerate(sizes):
                await bench.setup(ctx, queue, size=size, queue_desc=RING + STRIDE * queue,
                                  queue_driver=DRIVER + STRIDE * queue, queue_device=DEVICE + STRIDE * queue)
            await ctx.tick().repeat(3)
            ctx.set(dut.enable, 1)

        async def kick(ctx, queue, data=0):
            ctx.set(dut.kick_queue, queue)
            ctx.set(dut.kick_next, data)
            ctx.set(dut.kick_valid, 1)
            await ctx.tick()
            ctx.set(dut.kick_valid, 0)

        async def take(ctx, queue, op=TakeOp.TAKE):
            await bench.send(ctx, dut.buffers[0].take, {"op": op, "queue": queue, "count": ALL if op == TakeOp.COMMIT else 0})

        async def chain(ctx):
            segments = []
            ctx.set(dut.buffers[0].segment.ready, 1)
            while not segments or not segments[-1].last:
                _, _, valid, segment = await ctx.tick().sample(dut.buffers[0].segment.valid, dut.buffers[0].segment.p)
                if valid:
                    segments.append(segment)
            ctx.set(dut.buffers[0].segment.ready, 0)
            return segments

        async def give_back(ctx, queue, chain, length, more=0, flush=0):
            await bench.send(ctx, dut.buffers[0].used, {
                "queue": queue, "chain": {"id": chain.id, "count": chain.count, "writable": chain.writable},
                "len": length, "more": more, "flush": flush})

        async def quiet(ctx):
            still = 0
            while still < latency + 40:
                await ctx.tick()
                still = 0 if ctx.get(dut.busy) else still + 1
        bench.start, bench.kick, bench.take, bench.chain = start, kick, take, chain
        bench.give_back, bench.quiet = give_back, quiet
        bench.available = lambda ctx, queue: ctx.get(dut.buffers[0].available) >> queue & 1
        return bench
    return bench


def told(segments):
    return [(s.addr, s.len, WRITE * s.write) for s in segments]


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_lone_chain(make, width, indirect, count):
    bench = make(width=width)
    buffers = [(0x1234_5678_9abc + k, 77 + k, WRITE if k else 0) for k in range(count)]

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        await ring.add(ctx, 0xbeef, buffers, indirect=indirect)
        await ring.kick(ctx)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
        await bench.take(ctx, 0)
        segments = await bench.chain(ctx)
        assert told(segments) == buffers
        chain = segments[-1].chain
        assert (chain.id, chain.count, chain.writable) == (0xbeef, 1 if indirect else count, count > 1)
        await bench.take(ctx, 0, TakeOp.COMMIT)
        await bench.give_back(ctx, 0, chain, 55, flush=1)
        await bench.quiet(ctx)
        ring.reap()
        assert ring.came == [(0xbeef, 55)] and ring.free == ring.size
        assert bench.notified == [0] and not bench.errors
        # 2.8.10: the device waits behind what it took.
        assert struct.unpack_from("<HH", bench.memory, DEVICE) == (ring.slot | 1 << 15, 2)
    bench.run(testbench)


@pytest.mark.parametrize("width, sizes, options", [
    (64, (16, 16), {}), (64, (5, 13), {"pause": 0.2}), (128, (16, 7), {}), (64, (1, 3), {}), (128, (9, 2), {"event_idx": 0}),
    (64, (16, 11), {"notification_data": 1}), (64, (16, 16), {"tear": True}), (128, (5, 12), {"tear": True}),
    (64, (13, 4), {"tear": True, "notification_data": 1}), (64, (4, 1), {"tear": "most"}), (64, (16, 6), {"in_order": 1}),
    (64, (16, 6), {"in_order": 1, "tear": True, "notification_data": 1}),
])
def test_random_traffic(make, rng, width, sizes, options):
    """Chains of every form, many times round each ring; each comes out once, whole and in order, and goes back."""
    bench = make(sizes, width=width, **options)
    total = 32
    given = {queue: [] for queue in range(len(sizes))}

    async def driver(ctx):
        await bench.start(ctx)
        made = [0] * len(sizes)
        while min(made) < total:
            for ring in bench.rings:
                ring.reap()
                count = min(rng.choice([1, 1, 1, 2, 4]), ring.size)
                indirect = rng.random() < 0.3
                slots = 1 if indirect else count
                if made[ring.queue] < total and ring.free >= slots and rng.random() < 0.7:
                    read = rng.randrange(count + 1)
                    buffers = [(rng.getrandbits(48), rng.choice([0, 1, 77, 1500]), WRITE * (k >= read)) for k in range(count)]
                    ident = rng.choice([k for k in range(64) if k not in ring.count])
                    await ring.add(ctx, ident, buffers, indirect=indirect, pause=rng.choice([0, 0, 1, 5]))
                    made[ring.queue] += 1
                    await ring.kick(ctx)
            await ctx.tick()

    async def device(ctx):
        held = []
        while sum(map(len, given.values())) < total * len(sizes):
            ready = [queue for queue in given if bench.available(ctx, queue)]
            if not ready:
                await ctx.tick()
            for queue in ready[:1]:
                if rng.random() < 0.2:
                    await bench.take(ctx, queue)
                    await bench.chain(ctx)
                    await bench.take(ctx, queue, TakeOp.REWIND)
                await bench.take(ctx, queue)
                segments = await bench.chain(ctx)
                await bench.take(ctx, queue, TakeOp.COMMIT)
                chain = segments[-1].chain
                ident, buffers = bench.rings[queue].expected[len(given[queue])]
                assert told(segments) == buffers
                assert (chain.id, segments[-1].error) == (ident, 0)
                given[queue].append(ident)
                held.append((queue, chain, 9 if chain.writable else 0))
            if held and (not ready or len(held) > 2):
                queue, chain, length = held.pop(0 if bench.in_order else rng.randrange(len(held)))
                await bench.give_back(ctx, queue, chain, length, flush=not held)
        while held:
            queue, chain, length = held.pop(0)
            await bench.give_back(ctx, queue, chain, length, flush=not held)
        await bench.quiet(ctx)
        for ring in bench.rings:
            ring.reap()
            assert ring.free == ring.size and not bench.errors
    bench.run(driver, device)


def test_packet_of_several_chains_shows_its_first_last(make):
    """2.8.9: and so do all packets behind it."""
    bench = make((12,))

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        for k in range(5):
            await ring.add(ctx, k, [(0x100 * k, 10, WRITE)] * (2 if k == 3 else 1))
        await ring.kick(ctx)
        chains = []
        for _ in range(5):
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            await bench.take(ctx, 0)
            chains.append((await bench.chain(ctx))[-1].chain)
            await bench.take(ctx, 0, TakeOp.COMMIT)
        writes = len(bench.writes)
        for k, chain in enumerate(chains):
            await bench.give_back(ctx, 0, chain, 10, more=k in (1, 2, 3), flush=k == 4)
        await bench.quiet(ctx)
        ring.reap()
        assert ring.came == [(k, 10) for k in range(5)]
        used = [at - RING for addr, length in bench.writes[writes:] if addr < DRIVER for at in range(addr, addr + length, 16)]
        assert used == [16, 32, 48, 80, 0]
    bench.run(testbench)


def test_batch_of_single_descriptors_is_one_write(make):
    bench = make((12,))

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        for k in range(6):
            await ring.add(ctx, k, [(0x100 * k, 10, 0)])
        await ring.kick(ctx)
        chains = []
        for _ in range(6):
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            await bench.take(ctx, 0)
            chains.append((await bench.chain(ctx))[-1].chain)
            await bench.take(ctx, 0, TakeOp.COMMIT)
        writes = len(bench.writes)
        for k, chain in enumerate(chains):
            await bench.give_back(ctx, 0, chain, 0, flush=k == 5)
        await bench.quiet(ctx)
        assert [write for write in bench.writes[writes:] if write[0] < DEVICE] == [(RING, 96)]
    bench.run(testbench)


@pytest.mark.parametrize("what", ["tail not there", "longer than the ring", "nested", "odd table", "empty table",
                                  "table beside NEXT", "read fails"])
def test_malformed_ring_stops_its_queue_and_no_other(make, what):
    bench = make((8, 8))

    async def testbench(ctx):
        await bench.start(ctx)
        ring = bench.rings[0]

        def put(slot, addr, length, flags):
            bench.store(RING + 16 * slot, struct.pack("<QIHH", addr, length, 7, flags))
        bench.store(TABLES, struct.pack("<QIHH", 0x5000, 8, 0, INDIRECT) * 2)
        taken = 1
        if what == "tail not there":
            put(0, 0x1000, 8, NEXT | AVAIL)
            taken = 0
        elif what == "longer than the ring":
            for slot in range(8):
                put(slot, 0x1000, 8, NEXT | AVAIL)
            taken = 0
        elif what == "nested":           # in a chain; in a table only WRITE means something
            put(0, 0x1000, 8, NEXT | AVAIL)
            put(1, TABLES, 32, INDIRECT | AVAIL)
        elif what == "odd table":
            put(0, TABLES, 17, INDIRECT | AVAIL)
        elif what == "empty table":
            put(0, TABLES, 0, INDIRECT | AVAIL)
        elif what == "table beside NEXT":
            put(0, TABLES, 32, INDIRECT | NEXT | AVAIL)
            put(1, 0x1000, 8, AVAIL)
        elif what == "read fails":
            bench.fails.add(RING)
            taken = 0
        await ring.kick(ctx)
        if taken:
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            await bench.take(ctx, 0)
            segments = await bench.chain(ctx)
            assert segments[-1].error
            await bench.take(ctx, 0, TakeOp.COMMIT)
        else:
            await bench.until(ctx, lambda: bench.errors)
        await bench.rings[1].add(ctx, 5, [(0x1000, 8, WRITE)])
        await bench.rings[1].kick(ctx)
        await bench.until(ctx, lambda: bench.available(ctx, 1))
        await bench.take(ctx, 1)
        chain = (await bench.chain(ctx))[-1].chain
        await bench.take(ctx, 1, TakeOp.COMMIT)
        await bench.give_back(ctx, 1, chain, 8, flush=1)
        await bench.quiet(ctx)
        bench.rings[1].reap()
        assert bench.rings[1].came == [(5, 8)]
        assert bench.errors == 1 and ctx.get(bench.dut.buffers[0].enabled) == 2
        assert not bench.available(ctx, 0)
    bench.run(testbench)


def test_entries_of_a_table_have_no_flags_but_write(make):
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        buffers = [(0x1000, 8, 0), (0x2000, 9, WRITE)]
        await ring.add(ctx, 1, buffers, indirect=True, wrong=NEXT | INDIRECT | AVAIL | USED)
        await ring.kick(ctx)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
        await bench.take(ctx, 0)
        assert told(await bench.chain(ctx)) == buffers
    bench.run(testbench)


@pytest.mark.parametrize("laps", [0, 2])
@pytest.mark.parametrize("notification_data", [0, 1])
def test_reads_before_a_lone_descriptor_is_trusted(make, laps, notification_data):
    """Dependent reads: one, if the slot holds what we wrote there or the driver has told; else a second look."""
    bench = make((4,), notification_data=notification_data)

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        await bench.quiet(ctx)
        for k in range(4 * laps + 1):
            before = len(bench.reads)
            await ring.add(ctx, k, [(0x1000, 8, 0)])
            await ring.kick(ctx)
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            looks = len([addr for addr, _ in bench.reads[before:] if addr < DRIVER])
            await bench.take(ctx, 0)
            chain = (await bench.chain(ctx))[-1].chain
            await bench.take(ctx, 0, TakeOp.COMMIT)
            await bench.give_back(ctx, 0, chain, 0, flush=1)
            await bench.quiet(ctx)
            ring.reap()
        assert looks == (1 if laps or notification_data else 2)
    bench.run(testbench)


async def turn(ctx, bench, ring, ident):
    """A chain of one descriptor goes to the device and comes back."""
    addr = bench.rng.getrandbits(48)
    await ring.add(ctx, ident, [(addr, 8, 0)])
    await ring.kick(ctx)
    await bench.until(ctx, lambda: bench.available(ctx, 0))
    await bench.take(ctx, 0)
    segments = await bench.chain(ctx)
    assert told(segments) == [(addr, 8, 0)]
    await bench.take(ctx, 0, TakeOp.COMMIT)
    await bench.give_back(ctx, 0, segments[-1].chain, 0, flush=1)
    await bench.quiet(ctx)
    ring.reap()


@pytest.mark.parametrize("early", [0, 20, 40])
def test_slot_used_while_it_is_read(make, early):
    """What is read may be older than our used descriptor there, if that had not left when the read was asked for."""
    bench = make((4,), tear="most", latency=60)

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        for k in range(8):
            await turn(ctx, bench, ring, k)
        chains = []
        for k in range(4):
            await ring.add(ctx, k, [(0x1000 + k, 8, 0)])
        await ring.kick(ctx)
        for _ in range(4):
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            await bench.take(ctx, 0)
            chains.append((await bench.chain(ctx))[-1].chain)
            await bench.take(ctx, 0, TakeOp.COMMIT)
        await bench.quiet(ctx)
        for k, chain in enumerate(chains):
            await bench.give_back(ctx, 0, chain, 0, flush=k == 3)
        await ctx.tick().repeat(30 + early)
        await ring.kick(ctx)
        while not ring.free:
            ring.reap()
            await ctx.tick()
        await ring.add(ctx, 9, [(0x2000, 8, 0)])
        await ring.kick(ctx)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
        await bench.take(ctx, 0)
        assert told(await bench.chain(ctx)) == [(0x2000, 8, 0)]
    bench.run(testbench)


def test_chain_that_comes_back_late_leaves_slots_without_a_used_descriptor(make):
    """A device may hold it for many laps of shorter ones."""
    bench = make((4,), tear="most", latency=60)

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        await ring.add(ctx, 40, [(0x1000, 8, 0), (0x2000, 8, 0)])
        await ring.kick(ctx)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
        await bench.take(ctx, 0)
        chain = (await bench.chain(ctx))[-1].chain
        await bench.take(ctx, 0, TakeOp.COMMIT)
        for k in range(14):
            await turn(ctx, bench, ring, k)
        await bench.give_back(ctx, 0, chain, 0, flush=1)
        await bench.quiet(ctx)
        ring.reap()
        for k in range(8):
            # The read that finds it is under way when it is added.
            addr = 0x5_0000 + k
            await ring.kick(ctx)
            await ctx.tick().repeat(20)
            await ring.add(ctx, k, [(addr, 8, 0)])
            await ring.kick(ctx)
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            await bench.take(ctx, 0)
            segments = await bench.chain(ctx)
            assert told(segments) == [(addr, 8, 0)]
            await bench.take(ctx, 0, TakeOp.COMMIT)
            await bench.give_back(ctx, 0, segments[-1].chain, 0, flush=1)
            await bench.quiet(ctx)
            ring.reap()
    bench.run(testbench)


@pytest.mark.parametrize("data", [0x8001, 0x0001, 0x8000, 0x0000, 0x800f, 0x8010, 0xffff, 0x7fff])
def test_notification_that_lies(make, data):
    """It may point anywhere: what is not available is not taken."""
    bench = make((16,), notification_data=1)

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        await bench.kick(ctx, 0, data)
        await bench.quiet(ctx)
        assert not bench.available(ctx, 0) and not bench.errors
        await ring.add(ctx, 3, [(0x1000, 8, 0)])
        await bench.kick(ctx, 0, data)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
    bench.run(testbench)


def test_notification_that_is_late(make):
    """It names what is past: nothing is trusted because of it."""
    bench = make((16,), notification_data=1)

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        await turn(ctx, bench, ring, 3)
        await bench.quiet(ctx)
        before = len(bench.reads)
        await ring.add(ctx, 4, [(0x1000, 8, 0)])
        await bench.kick(ctx, 0, 0x8000)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
        assert len([addr for addr, _ in bench.reads[before:] if addr < DRIVER]) == 2
    bench.run(testbench)


def test_notification_of_the_life_before(make):
    """A queue that is set up again has not been told of anything."""
    bench = make((16,), notification_data=1)

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        await bench.kick(ctx, 0, 0x8003)
        await bench.quiet(ctx)
        await ring.add(ctx, 4, [(0x1000, 8, 0)])
        before = len(bench.reads)
        await bench.start(ctx)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
        assert len([addr for addr, _ in bench.reads[before:] if addr < DRIVER]) == 2
    bench.run(testbench)


def test_more_than_there_is_room_for(make):
    """The store takes 8; the others are fetched as it empties, and nobody notifies again."""
    bench = make((16,))

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        for k in range(14):
            await ring.add(ctx, k, [(0x1000 + k, 8, 0)])
        await ring.kick(ctx)
        await bench.quiet(ctx)
        for k in range(14):
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            await bench.take(ctx, 0)
            assert told(await bench.chain(ctx)) == [(0x1000 + k, 8, 0)]
            await bench.take(ctx, 0, TakeOp.COMMIT)
    bench.run(testbench)


def test_a_buffer_added_before_the_driver_is_asked_to_notify(make):
    """What became available while that wish was on its way is seen without a notification."""
    bench = make((16,))

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        await ring.add(ctx, 4, [(0x1000, 8, 0)])
        assert not bench.writes and not bench.reads
        await bench.until(ctx, lambda: bench.available(ctx, 0))
    bench.run(testbench)


@pytest.mark.parametrize("flags, off, wrap, wanted", [
    (0, 0, 0, 1), (1, 0, 0, 0), (2, 2, 1, 1), (2, 3, 1, 0), (2, 0, 1, 1), (2, 11, 0, 0), (3, 9, 0, 1)])
def test_driver_event_structure(make, flags, off, wrap, wanted):
    """Three descriptors come back at once, from slot 0 on."""
    bench = make((12,))
    struct.pack_into("<HH", bench.memory, DRIVER, off | wrap << 15, flags)

    async def testbench(ctx):
        await bench.start(ctx)
        ring, = bench.rings
        chains = []
        for k in range(3):
            await ring.add(ctx, k, [(0x1000, 8, 0)])
        await ring.kick(ctx)
        for _ in range(3):
            await bench.until(ctx, lambda: bench.available(ctx, 0))
            await bench.take(ctx, 0)
            chains.append((await bench.chain(ctx))[-1].chain)
            await bench.take(ctx, 0, TakeOp.COMMIT)
        for k, chain in enumerate(chains):
            await bench.give_back(ctx, 0, chain, 0, flush=k == 2)
        await bench.quiet(ctx)
        assert len(bench.notified) == wanted
    bench.run(testbench)


@pytest.mark.parametrize("event_idx", [0, 1])
def test_storm_of_notifications_holds_up_no_other_queue(make, event_idx):
    """One queue is notified in every cycle, its ring empty; chains of the others come as if it were alone."""
    bench = make((8, 8, 8, 8), event_idx=event_idx, latency=10)
    waits = []

    async def storm(ctx):
        ctx.set(bench.dut.kick_queue, 0)
        ctx.set(bench.dut.kick_valid, 1)

    async def testbench(ctx):
        await bench.start(ctx)
        for ring in bench.rings[1:]:
            await ring.add(ctx, 3, [(0x1000, 8, 0)])
            await ring.kick(ctx)
        await storm(ctx)
        for ring in bench.rings[1:]:
            for cycle in range(400):
                if bench.available(ctx, ring.queue):
                    break
                await ctx.tick()
            waits.append(cycle)
        ctx.set(bench.dut.kick_valid, 0)
        await bench.quiet(ctx)
    bench.run(testbench)
    assert max(waits) < 200


def test_reset_of_a_queue_under_load(make, rng):
    """Nothing of it is under way afterwards, another goes on, and it starts again from the beginning."""
    bench = make((8, 8))
    seen = []

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(6):
            for ring in bench.rings:
                await ring.add(ctx, k, [(0x1000 * k, 8, 0)])
        for ring in bench.rings:
            await ring.kick(ctx)
        await bench.until(ctx, lambda: bench.available(ctx, 0))
        await bench.take(ctx, 0)
        chain = (await bench.chain(ctx))[-1].chain
        await bench.take(ctx, 0, TakeOp.COMMIT)
        ctx.set(bench.dut.buffers[0].holds, 1)
        ctx.set(bench.dut.reset_queue, 0)
        ctx.set(bench.dut.reset_valid, 1)
        await ctx.tick()
        ctx.set(bench.dut.reset_valid, 0)
        for _ in range(300):
            await ctx.tick()
            assert ctx.get(bench.dut.pausing) and not ctx.get(bench.dut.reset_done)
        assert ctx.get(bench.dut.buffers[0].enabled) == 2
        await bench.give_back(ctx, 0, chain, 0, flush=1)
        ctx.set(bench.dut.buffers[0].holds, 0)
        await bench.until(ctx, lambda: ctx.get(bench.dut.reset_done))
        await ctx.tick()
        assert not ctx.get(bench.dut.pausing)
        reads = len(bench.reads)
        await bench.kick(ctx, 0)
        await bench.until(ctx, lambda: bench.available(ctx, 1))
        await bench.quiet(ctx)
        assert not [addr for addr, _ in bench.reads[reads:] if addr < RING + STRIDE]
        for queue in (1, 0):
            ring = bench.rings[queue]
            if queue == 0:
                bench.store(ring.base, bytes(16 * 5))
                ring = bench.rings[0] = Ring(bench, 0, 5)
                await bench.setup(ctx, 0, size=5, queue_desc=RING, queue_driver=DRIVER, queue_device=DEVICE)
                for k in range(4):
                    await ring.add(ctx, 10 + k, [(0x1000 * k, 8, 0)])
                await ring.kick(ctx)
            for ident, _ in ring.expected:
                await bench.until(ctx, lambda: bench.available(ctx, queue))
                await bench.take(ctx, queue)
                chain = (await bench.chain(ctx))[-1].chain
                assert chain.id == ident
                await bench.take(ctx, queue, TakeOp.COMMIT)
                await bench.give_back(ctx, queue, chain, 0, flush=1)
            await bench.quiet(ctx)
            ring.reap()
            assert ring.free == ring.size
        seen.append(bench.errors)
    bench.run(testbench)
    assert seen == [0]


@pytest.mark.parametrize("event_idx", [0, 1])
def test_driver_reads_no_garbage_in_the_event_structure(make, event_idx):
    """It asks for notifications before the ring is looked at, whatever was there (2.8.10). What the driver added and
    notified of before the device was live is found then."""
    bench = make((8, 5), event_idx=event_idx)
    wish = struct.pack("<HH", 1 << 15, 2) if event_idx else bytes(4)
    bench.memory[DEVICE:DEVICE + 2 * STRIDE] = b"\xff" * 2 * STRIDE

    async def testbench(ctx):
        ring = bench.rings[1]
        await ring.add(ctx, 7, [(0x1000, 8, 0)])
        await bench.start(ctx)
        ctx.set(bench.dut.enable, 0)
        await ring.kick(ctx)
        await ctx.tick().repeat(100)
        assert not bench.reads and not bench.writes
        ctx.set(bench.dut.enable, 1)
        for queue in range(2):
            at = DEVICE + STRIDE * queue
            await bench.until(ctx, lambda: any(addr // STRIDE == (RING + STRIDE * queue) // STRIDE for addr, _ in bench.reads))
            assert (at, 4) in bench.writes and bench.memory[at:at + 4] == wish
        await bench.until(ctx, lambda: bench.available(ctx, 1))
        await bench.take(ctx, 1)
        assert (await bench.chain(ctx))[-1].chain.id == 7
        await bench.take(ctx, 1, TakeOp.COMMIT)
        await bench.quiet(ctx)
        # With EVENT_IDX the driver hears where the device waits; without, all has been said.
        assert bench.memory[DEVICE:DEVICE + 4] == wish
        assert bench.memory[DEVICE + STRIDE:DEVICE + STRIDE + 4] == (struct.pack("<HH", 1 << 15 | 1, 2) if event_idx else wish)
        assert len(bench.writes) == 2 + event_idx and not bench.errors
    bench.run(testbench)


@pytest.mark.parametrize("options", [{}, {"event_idx": 0}, {"notification_data": 1}, {"in_order": 1}])
def test_chains_that_nobody_notified_of(make, options):
    """They are found while the device wants chains of that ring, by one read in 512 cycles, and else not."""
    bench = make((8, 8), latency=20, **options)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.quiet(ctx)
        bench.reads.clear()
        for ring in bench.rings:
            await ring.add(ctx, 5, [(0x1000, 8, WRITE)])
        await ctx.tick().repeat(700)
        assert not bench.reads                      # nobody wants any
        ctx.set(bench.dut.buffers[0].wants, 0b10)
        await bench.until(ctx, lambda: bench.available(ctx, 1), limit=700)
        ctx.set(bench.dut.buffers[0].wants, 0)
        await bench.quiet(ctx)
        assert all(addr >= RING + STRIDE for addr, _ in bench.reads) and not bench.available(ctx, 0)
        await bench.take(ctx, 1)
        assert (await bench.chain(ctx))[-1].chain.id == 5
        await bench.take(ctx, 1, TakeOp.COMMIT)
        # An empty ring: a read of 4 descriptors each time, and nothing is written.
        bench.reads.clear()
        bench.writes.clear()
        ctx.set(bench.dut.buffers[0].wants, 0b10)
        await ctx.tick().repeat(3 * 512)
        assert bench.reads == [(RING + STRIDE + 16, 64)] * 3 and not bench.writes
    bench.run(testbench)


def fetch(max_batch):
    stage = PackedFetch(num_queues=2, max_batch=max_batch, depth=2 * max_batch)
    return WithEvents(WithHeads(stage, width=64, num_queues=2, read="ring"))


@pytest.mark.parametrize("batch", [0, 2, 3, 12])
def test_constructor(batch):
    with pytest.raises(ValueError, match=f"^Largest read must be a power of 2 of at least 4 descriptors, not {batch}$"):
        PackedFetch(num_queues=2, max_batch=batch, depth=64)


def test_a_batch_that_has_not_been_noted_is_under_way(stage):
    """A queue reset waits for it: else it would be noted of the queue's next life."""
    dut = fetch(max_batch=4)

    async def testbench(ctx):
        ctx.set(dut.stopped, 3)
        ctx.set(dut.passed, {"queue": 1, "old": 0, "new": 4, "wrap": 1, "apart": 0})
        ctx.set(dut.passed_valid, 1)
        assert not ctx.get(dut.busy)
        await ctx.tick()
        ctx.set(dut.passed_valid, 0)
        assert ctx.get(dut.busy)
        await ctx.tick().repeat(8)
        assert not ctx.get(dut.busy)
    stage(dut).run(testbench)


@pytest.mark.parametrize("late", [None, *range(-3, 6)])
def test_room_that_becomes_free_beside_a_request_is_heard_of(stage, late):
    """A request for a few places is refused; a notification raises what is wanted, and in or near the cycle of the second
    request the store tells of places, enough for the first. It is asked once more then."""
    dut, asked = fetch(max_batch=32), []

    async def testbench(ctx):
        for name in ("event_idx", "notification_data"):
            ctx.set(getattr(dut, name), 1)
        ctx.set(dut.setup, {"queue": 0, "size": 64, "queue_desc": 0x1000, "queue_device": 0x3000})
        ctx.set(dut.setup_valid, 1)
        await ctx.tick()
        ctx.set(dut.setup_valid, 0)
        for port in (dut.event.req, dut.event.data, dut.o_room):
            ctx.set(port.ready, 1)
        await ctx.tick().repeat(30)
        ctx.set(dut.event.done, 1)
        await ctx.tick()
        ctx.set(dut.event.done, 0)
        told = None if late is None else 48 + late
        for now in range(200):
            ctx.set(dut.kick_valid, now == 40)
            ctx.set(dut.kick_next, 0x8000 | 12)
            ctx.set(dut.freed_valid, now == told)
            _, _, valid, want = await ctx.tick().sample(dut.o_room.valid, dut.o_room.p.want)
            if valid:
                asked.append((now, want))
        # What became free before the request is a part of the store's answer to it, so nothing more is asked then.
        assert [want for _, want in asked] == [4, 12] + [12] * (late is not None and late >= 0) and asked[1][0] == 48
    stage(dut).run(testbench)


def test_reads_are_as_long_as_what_was_found_suggests(stage):
    """Twice as many descriptors after a read of which all were available, half as many after one with some, and a cache line
    after one with none; no read goes beyond a multiple of the most, where the next one begins well."""
    dut, most, size = fetch(max_batch=32), 32, 256
    # Of each read: how many are asked for, and how many of them are available. One that was not available in an earlier read is
    # read again.
    found = [(4, 4), (8, 8), (16, 16), (24, 24), (12, 12), (32, 32), (32, 32),
             (32, 1), (16, 2), (8, 2), (4, 2), (4, 1),
             (4, 4), (8, 8), (16, 16), (20, 12), (8, 0), (4, 0)]
    quiet = (12, 16, 17, 18)   # reads that had come when nothing more was available; each time a notification follows
    bench, steps = stage(dut, glue=[dut.grant.eq(dut.o_room.p.want)]), iter(found)
    plain = bench.answer

    def answer(addr, length, lanes):
        _, there = next(steps)
        for at in range(addr, addr + length, 16):
            flags = AVAIL if at < addr + 16 * there else 0
            bench.memory[at:at + 16] = struct.pack("<QIHH", 0x8000, 64, 0, flags)
        return plain(addr, length, lanes)

    async def testbench(ctx):
        for port in (dut.o_room, dut.o):
            ctx.set(port.ready, 1)
        await bench.setup(ctx, size=size, queue_desc=RING, queue_device=DEVICE)
        for before in quiet:
            await ctx.tick().repeat(1500)
            assert len(bench.reads) == before
            await pulse(ctx, dut.kick_valid)

    bench.answer = answer
    bench.serve_reads(dut.ring)
    bench.serve_writes(dut.event)
    bench.run(testbench)
    assert [length // 16 for _, length in bench.reads] == [asked for asked, _ in found]
    assert all(addr // 16 % most + length // 16 <= most for addr, length in bench.reads)
