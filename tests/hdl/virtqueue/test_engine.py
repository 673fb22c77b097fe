"""The ring engine against a host memory with latency, a driver of a few lines and a device that echoes lengths."""

from functools import cache
import random
import struct

from amaranth.hdl import Value
import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.virtqueue.engine import Engine

from ...kit.memory import address_of
from ...kit.simulator import Simulator

engine = cache(Engine)  # one that is simulated again is not elaborated again

DESC, DRIVER, DEVICE, TABLES = 0x1_0000, 0x2_0000, 0x3_0000, 0x10_0000
NEXT, WRITE, INDIRECT = 1, 2, 4
ALL = 0xffff  # chains to COMMIT


class Host:
    """Sparse memory behind the DMA ports; reads outside ``ranges`` fail."""
    def __init__(self, width, latency, rng):
        self.width, self.latency, self.rng = width, latency, rng
        self.bytes = bytearray(0x20_0000)
        self.reads, self.writes, self.areas = [], [], {}

    async def learn_areas(self, ctx, port):
        shape = port.p.shape()
        async for _, _, valid, bits in ctx.tick().sample(port.valid, Value.cast(port.p)):
            if valid:
                base = shape.from_bits(bits)
                self.areas[base.queue, base.area] = base.addr

    def address(self, port, bits):
        """``(addr, len)`` of the request of a read port, by its bits."""
        request = port.req.p.shape().from_bits(bits)
        return address_of(request, self.areas), request.len

    def put(self, addr, fmt, *values):
        struct.pack_into("<" + fmt, self.bytes, addr, *values)

    def get(self, addr, fmt):
        return struct.unpack_from("<" + fmt, self.bytes, addr)[0]

    async def serve_reads(self, ctx, port):
        lanes, queue = self.width // 8, []
        ctx.set(port.req.ready, 1)
        beats, now, shown = [], 0, None
        async for _, _, taken, bits, ready in ctx.tick().sample(
                port.req.valid & port.req.ready, Value.cast(port.req.p), port.beat.ready):
            now += 1
            if beats and ready:
                beats.pop(0)
            if taken:
                addr, length = self.address(port, bits)
                self.reads.append((addr, length))
                queue.append((now + self.latency + self.rng.randrange(8), addr, length))
            if queue and not beats and queue[0][0] <= now:
                _, addr, length = queue.pop(0)
                beats = self.beats(addr, length, lanes)
            if beats and beats[0] is not shown:
                ctx.set(port.beat.p, beats[0])
                ctx.set(port.beat.valid, 1)
                shown = beats[0]
            elif shown and not beats:
                ctx.set(port.beat.valid, 0)
                shown = None

    def beats(self, addr, length, lanes):
        if addr + length > len(self.bytes):
            return [{"data": 0, "count": 0, "last": 1, "error": 1}]
        beats, end = [], addr + length
        while addr < end:
            step = min(lanes - addr % lanes, end - addr)
            beats.append({"data": int.from_bytes(self.bytes[addr:addr + step], "little"), "count": step,
                          "last": addr + step == end, "error": 0})
            addr += step
        return beats

    async def serve_shared_reads(self, ctx, ports, outstanding):
        """As behind one link: a few reads at a time of all ports together, answered in one order."""
        lanes, queue, now = self.width // 8, [], 0
        while True:
            room = outstanding - len(queue)
            for port in ports:
                ctx.set(port.req.ready, room > 0)
            first = queue[0] if queue and queue[0]["at"] <= now else None
            for k, port in enumerate(ports):
                mine = first is not None and first["port"] == k
                ctx.set(port.beat.valid, mine)
                if mine:
                    ctx.set(port.beat.p, first["beats"][0])
            values = await ctx.tick().sample(*[value for port in ports for value in (
                port.req.valid & port.req.ready, Value.cast(port.req.p), port.beat.ready)])
            now += 1
            for k in range(len(ports)):
                taken, bits, ready = values[2 + 3 * k:5 + 3 * k]
                if first is not None and first["port"] == k and ready:
                    first["beats"].pop(0)
                    if not first["beats"]:
                        queue.pop(0)
                if taken:
                    addr, length = self.address(ports[k], bits)
                    self.reads.append((addr, length))
                    beats = []
                    for at in range(0, length, lanes):
                        part = self.bytes[addr + at:addr + min(at + lanes, length)]
                        beats.append({"data": int.from_bytes(part, "little"), "count": len(part),
                                      "last": at + lanes >= length, "error": 0})
                    queue.append({"port": k, "at": now + self.latency, "beats": beats})

    async def serve_writes(self, ctx, port):
        lanes = self.width // 8
        request, data, pause = None, b"", 0
        given = port.data.p.shape()
        ctx.set(port.req.ready, 1)
        async for _, _, asks, addr, length, gives, bits in ctx.tick().sample(
                port.req.valid, port.req.p.addr, port.req.p.len, port.data.valid, Value.cast(port.data.p)):
            if pause:
                pause -= 1
            elif request is None:
                if asks:
                    request, data = (addr, length), b""
            elif gives:
                beat = given.from_bits(bits)
                data += beat.data.to_bytes(lanes, "little")
                if beat.last:
                    addr, length = request
                    assert len(data) - lanes < length <= len(data)
                    self.bytes[addr:addr + length] = data[:length]
                    self.writes.append(request)
                    request, pause = None, self.rng.randint(1, 6)
            ctx.set(port.req.ready, request is None and not pause)
            ctx.set(port.data.ready, request is not None and not pause)
            ctx.set(port.done, pause == 1)


class Bench:
    def __init__(self, *, width=64, queues=2, size=16, latency=30, seed=0, event_idx=0, indirect=1, prefetch=8, batch=8,
                 ports=1, shared=None):
        self.rng = random.Random(seed)
        self.dut = engine(width=width, num_queues=queues, ports=ports, prefetch=prefetch, batch=batch)
        self.host = Host(width, latency, self.rng)
        self.queues, self.size = queues, size
        self.event_idx, self.indirect = event_idx, indirect
        self.chains, self.notified, self.errors = [], [], 0
        self.avail = [0] * queues
        self.areas = {}                  # by queue: what is elsewhere
        self.sim = Simulator(self.dut)
        self.sim.add_clock(8e-9)
        if shared:
            self.background(self.host.serve_shared_reads, self.dut.reads, shared)
        else:
            for port in self.dut.reads:
                self.background(self.host.serve_reads, port)
        for port in self.dut.writes:
            self.background(self.host.serve_writes, port)
        self.background(self.host.learn_areas, self.dut.areas)
        self.sim.add_testbench(self.watch, background=True)

    def background(self, function, *arguments):
        async def run(ctx):
            await function(ctx, *arguments)
        self.sim.add_testbench(run, background=True)

    def at(self, base, queue):
        return base + 0x4000 * queue

    async def watch(self, ctx):
        ctx.set(self.dut.notify.ready, 1)
        async for _, _, valid, queue, error in ctx.tick().sample(
                self.dut.notify.valid, self.dut.notify.p, self.dut.error):
            if valid:
                self.notified.append(queue)
            self.errors += error

    async def setup(self, ctx):
        ctx.set(self.dut.event_idx, self.event_idx)
        ctx.set(self.dut.indirect, self.indirect)
        for queue in range(self.queues):
            await self.set_up(ctx, queue)
        await ctx.tick().repeat(3)
        ctx.set(self.dut.enable, 1)

    async def set_up(self, ctx, queue, **areas):
        ctx.set(self.dut.setup, {"queue": queue, "size": self.size, "queue_desc": self.at(DESC, queue),
                                 "queue_driver": self.at(DRIVER, queue), "queue_device": self.at(DEVICE, queue),
                                 **self.areas.get(queue, {}), **areas})
        ctx.set(self.dut.setup_valid, 1)
        await ctx.tick()
        ctx.set(self.dut.setup_valid, 0)
        await ctx.tick().repeat(2)

    async def reset(self, ctx, queue):
        ctx.set(self.dut.reset_queue, queue)
        ctx.set(self.dut.reset_valid, 1)
        await ctx.tick()
        ctx.set(self.dut.reset_valid, 0)
        await ctx.tick().until(self.dut.reset_done)

    def desc(self, queue, index, addr, length, flags=0, following=0, table=None):
        self.host.put((self.at(DESC, queue) if table is None else table) + 16 * index, "QIHH",
                      addr, length, flags, following)

    def offer(self, queue, head):
        ring = self.at(DRIVER, queue)
        self.host.put(ring + 4 + 2 * (self.avail[queue] % self.size), "H", head)
        self.avail[queue] = (self.avail[queue] + 1) & 0xffff
        self.host.put(ring + 2, "H", self.avail[queue])

    async def kick(self, ctx, queue):
        ctx.set(self.dut.kick_queue, queue)
        ctx.set(self.dut.kick_valid, 1)
        await ctx.tick()
        ctx.set(self.dut.kick_valid, 0)

    async def take(self, ctx, queue, op=TakeOp.TAKE):
        ctx.set(self.dut.buffers[0].take.p, {"op": op, "queue": queue, "count": ALL if op == TakeOp.COMMIT else 0})
        ctx.set(self.dut.buffers[0].take.valid, 1)
        await ctx.tick().until(self.dut.buffers[0].take.ready)
        ctx.set(self.dut.buffers[0].take.valid, 0)

    async def chain(self, ctx):
        segments = []
        while not segments or not segments[-1].last:
            ctx.set(self.dut.buffers[0].segment.ready, 1)
            segment, = await ctx.tick().sample(
                self.dut.buffers[0].segment.p).until(self.dut.buffers[0].segment.valid)
            segments.append(segment)
            ctx.set(self.dut.buffers[0].segment.ready, 0)
        return segments

    async def give_back(self, ctx, queue, ident, length, more=0, flush=0):
        ctx.set(self.dut.buffers[0].used.p, {"queue": queue, "chain": {"id": ident, "count": 1}, "len": length,
                                               "more": more, "flush": flush})
        ctx.set(self.dut.buffers[0].used.valid, 1)
        await ctx.tick().until(self.dut.buffers[0].used.ready)
        ctx.set(self.dut.buffers[0].used.valid, 0)

    async def available(self, ctx, queue, limit=2000):
        for _ in range(limit):
            if ctx.get(self.dut.buffers[0].available) >> queue & 1:
                return
            await ctx.tick()
        raise AssertionError(f"no chain of queue {queue} came in {limit} cycles")

    async def quiet(self, ctx, limit=4000):
        """Wait until the engine has not been busy for longer than any read takes."""
        still = 0
        for _ in range(limit):
            await ctx.tick()
            still = 0 if ctx.get(self.dut.busy) else still + 1
            if still > self.host.latency + 40:
                return
        raise AssertionError(f"still busy after {limit} cycles")

    def run(self, testbench, packed=0):
        async def whole(ctx):
            ctx.set(self.dut.packed, packed)
            await self.setup(ctx)
            await testbench(ctx)
        self.sim.add_testbench(whole)
        self.sim.run()

    def used(self, queue):
        ring = self.at(DEVICE, queue)
        count = self.host.get(ring + 2, "H")
        return [struct.unpack_from("<II", self.host.bytes, ring + 4 + 8 * (k % self.size)) for k in range(count)]


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("event_idx", [0, 1])
def test_lone_chain(width, event_idx):
    bench = Bench(width=width, event_idx=event_idx)

    async def testbench(ctx):
        bench.desc(1, 3, 0x1234_5678_9abc, 77, WRITE)
        bench.offer(1, 3)
        await bench.kick(ctx, 1)
        await bench.available(ctx, 1)
        await bench.take(ctx, 1)
        [segment] = await bench.chain(ctx)
        assert (segment.queue, segment.chain.id, segment.addr, segment.len) == (1, 3, 0x1234_5678_9abc, 77)
        assert segment.write and not segment.error
        await bench.take(ctx, 1, TakeOp.COMMIT)
        await bench.give_back(ctx, 1, 3, 55, flush=1)
        await bench.quiet(ctx)
        assert bench.used(1) == [(3, 55)]
        assert bench.notified == [1]
        assert not bench.errors
        if event_idx:
            assert bench.host.get(bench.at(DEVICE, 1) + 4 + 8 * bench.size, "H") == 1
    bench.run(testbench)


@pytest.mark.parametrize("width, seed", [(64, 0), (64, 1), (128, 2), (128, 3)])
def test_random_traffic(width, seed):
    """Chains of every form on two queues, several times round the ring; each comes out once, whole and in order."""
    bench = Bench(width=width, seed=seed, event_idx=seed & 1)
    rng, total = random.Random(seed), 40
    expected = {0: [], 1: []}
    returned = {0: [], 1: []}
    free = {0: list(range(bench.size)), 1: list(range(bench.size))}
    slots = {0: {}, 1: {}}
    seen = {0: 0, 1: 0}
    made = {0: 0, 1: 0}

    def reap(queue):
        entries = bench.host.get(bench.at(DEVICE, queue) + 2, "H")
        while seen[queue] != entries:
            ident, length = struct.unpack_from(
                "<II", bench.host.bytes, bench.at(DEVICE, queue) + 4 + 8 * (seen[queue] % bench.size))
            free[queue] += slots[queue].pop(ident)
            returned[queue].append((ident, length))
            seen[queue] += 1

    def make(queue):
        kind = rng.choice(["plain", "plain", "chain", "table", "table shuffled", "chain+table"])
        count = {"plain": 1}.get(kind, rng.randint(1, 4))
        if len(free[queue]) < count + 1:
            return False
        buffers = [(rng.getrandbits(48), rng.choice([0, 1, 77, 1500]), rng.choice([0, WRITE])) for _ in range(count)]
        places, table_slots = [], []
        inline = {"plain": 1, "chain": count, "chain+table": 1}.get(kind, 0)
        for _ in range(inline):
            places.append(free[queue].pop(rng.randrange(len(free[queue]))))
        tail = count - inline
        if tail > 0 or inline == 0:
            table = free[queue].pop(0)
            base = TABLES + 0x8000 * queue + 0x200 * table
            order = list(range(tail))
            if kind == "table shuffled":
                order[1:] = rng.sample(order[1:], tail - 1)
            table_slots.append(table)
            for k, place in enumerate(order):
                addr, length, flags = buffers[inline + k]
                more = k + 1 < tail
                bench.desc(queue, place, addr, length, flags | (NEXT if more else 0), order[k + 1] if more else 99, base)
            bench.desc(queue, table, base, 16 * tail, INDIRECT | rng.choice([0, WRITE]), 7)
        following = places[1:] + table_slots
        for k, place in enumerate(places):
            addr, length, flags = buffers[k]
            more = k < len(following)
            bench.desc(queue, place, addr, length, flags | (NEXT if more else 0), following[k] if more else 3)
        every = places + table_slots
        slots[queue][every[0]] = every
        expected[queue].append((every[0], buffers))
        bench.offer(queue, every[0])
        made[queue] += 1
        return True

    async def testbench(ctx):
        done = {0: 0, 1: 0}
        idle = 0
        while sum(done.values()) < 2 * total:
            for queue in (0, 1):
                reap(queue)
                if made[queue] < total and rng.random() < 0.5 and make(queue):
                    await bench.kick(ctx, queue)
            ready = [queue for queue in (0, 1) if ctx.get(bench.dut.buffers[0].available) >> queue & 1]
            if not ready:
                idle += 1
                assert idle < 3000, f"stuck after {done}"
                await ctx.tick()
                continue
            idle = 0
            queue = rng.choice(ready)
            if rng.random() < 0.2:
                await bench.take(ctx, queue)
                await bench.chain(ctx)
                await bench.take(ctx, queue, TakeOp.REWIND)
            await bench.take(ctx, queue)
            segments = await bench.chain(ctx)
            await bench.take(ctx, queue, TakeOp.COMMIT)
            ident, buffers = expected[queue][done[queue]]
            assert [(s.addr, s.len, WRITE * s.write) for s in segments] == buffers
            assert all((s.chain.id, s.queue, s.error) == (ident, queue, 0) for s in segments)
            done[queue] += 1
            await bench.give_back(ctx, queue, ident, done[queue], flush=rng.random() < 0.5)
        await bench.quiet(ctx)
        for queue in (0, 1):
            reap(queue)
            assert returned[queue] == [(ident, k + 1) for k, (ident, _) in enumerate(expected[queue])]
        assert not bench.errors
    bench.run(testbench)


def test_packet_over_several_chains_appears_at_once():
    bench = Bench()

    async def testbench(ctx):
        for k in range(12):
            bench.desc(0, k, 0x1000 * k, 64, WRITE)
            bench.offer(0, k)
        await bench.kick(ctx, 0)
        for k in range(12):
            await bench.available(ctx, 0)
            await bench.take(ctx, 0)
            await bench.chain(ctx)
            await bench.take(ctx, 0, TakeOp.COMMIT)
        for k in range(11):
            await bench.give_back(ctx, 0, k, 64, more=1)
        await ctx.tick().repeat(1200)
        assert bench.used(0) == []  # 5.1.9.4.1: all buffers of a packet become visible together
        await bench.give_back(ctx, 0, 11, 5, flush=1)
        await bench.quiet(ctx)
        assert bench.used(0) == [(k, 64) for k in range(11)] + [(11, 5)]
    bench.run(testbench)


def test_entry_without_flush_is_published_in_bounded_time():
    bench = Bench()

    async def testbench(ctx):
        bench.desc(0, 0, 0x1000, 64)
        bench.offer(0, 0)
        await bench.kick(ctx, 0)
        await bench.available(ctx, 0)
        await bench.take(ctx, 0)
        await bench.chain(ctx)
        await bench.give_back(ctx, 0, 0, 0)
        await ctx.tick().repeat(700)
        assert bench.used(0) == [(0, 0)]
    bench.run(testbench)


def test_avail_flags_suppress_notification():
    bench = Bench()

    async def testbench(ctx):
        bench.host.put(bench.at(DRIVER, 0), "H", 1)
        bench.desc(0, 0, 0x1000, 64)
        bench.offer(0, 0)
        await bench.kick(ctx, 0)
        await bench.available(ctx, 0)
        await bench.take(ctx, 0)
        await bench.chain(ctx)
        await bench.give_back(ctx, 0, 0, 0, flush=1)
        await bench.quiet(ctx)
        assert bench.used(0) == [(0, 0)] and bench.notified == []
    bench.run(testbench)


def _malformed(bench, case):
    """Lay out a chain on queue 0 that breaks one rule."""
    if case == "head past the queue":
        bench.offer(0, 16)
        return
    if case == "index jump":
        bench.offer(0, 0)
        bench.host.put(bench.at(DRIVER, 0) + 2, "H", 300)
        return
    if case == "loop":
        bench.desc(0, 0, 0x1000, 8, NEXT, 1)
        bench.desc(0, 1, 0x1000, 8, NEXT, 0)
    elif case == "next past the queue":
        bench.desc(0, 0, 0x1000, 8, NEXT, 16)
    elif case == "nested table":
        bench.desc(0, 0, TABLES, 16, INDIRECT)
        bench.desc(0, 0, TABLES, 16, INDIRECT, table=TABLES)
    elif case == "odd table":
        bench.desc(0, 0, TABLES, 24, INDIRECT)
    elif case == "empty table":
        bench.desc(0, 0, TABLES, 0, INDIRECT)
    elif case == "table with next":
        bench.desc(0, 0, TABLES, 16, INDIRECT | NEXT, 1)
    elif case == "next past the table":
        bench.desc(0, 0, TABLES, 32, INDIRECT)
        bench.desc(0, 0, 0x1000, 8, NEXT, 2, table=TABLES)
    elif case == "table that cannot be read":
        bench.desc(0, 0, 1 << 50, 64, INDIRECT)
    bench.offer(0, 0)


@pytest.mark.parametrize("case", [
    "head past the queue", "index jump", "loop", "next past the queue", "nested table", "odd table", "empty table",
    "table with next", "next past the table", "table that cannot be read"])
def test_malformed_stops_its_queue_only(case):
    bench = Bench()

    async def testbench(ctx):
        _malformed(bench, case)
        await bench.kick(ctx, 0)
        if case not in ("head past the queue", "index jump"):
            await bench.available(ctx, 0)
            await bench.take(ctx, 0)
            segments = await bench.chain(ctx)
            assert segments[-1].error and len(segments) <= bench.size + 1
        await bench.quiet(ctx)
        assert bench.errors == 1
        reads = len(bench.host.reads)
        bench.desc(0, 5, 0x1000, 8)
        bench.offer(0, 5)
        await bench.kick(ctx, 0)
        await ctx.tick().repeat(200)
        assert len(bench.host.reads) == reads  # stopped: not looked at again
        bench.desc(1, 2, 0x2000, 9)
        bench.offer(1, 2)
        await bench.kick(ctx, 1)
        await bench.available(ctx, 1)
        await bench.take(ctx, 1)
        [segment] = await bench.chain(ctx)
        assert (segment.addr, segment.len) == (0x2000, 9)
    bench.run(testbench)


OVER = {"queue_desc": 16 * 15, "queue_driver": 4 + 2 * 16, "queue_device": 4 + 8 * 16}   # too near to the end for 16 entries


@pytest.mark.parametrize("packed", [0, 1])
def test_a_ring_past_the_end_of_the_address_space_stops_its_queue(packed):
    """Each such queue is told of once, when the driver is ready; nothing of it is read. Set up again, it works."""
    bench = Bench(queues=4)
    wrong = {0: "queue_desc"} if packed else dict(enumerate(OVER))
    bench.areas = {queue: {name: (1 << 64) - OVER[name]} for queue, name in wrong.items()}

    async def testbench(ctx):
        assert bench.errors == 0 and not bench.host.reads
        await bench.quiet(ctx)
        assert bench.errors == len(wrong)
        for queue in wrong:
            await bench.kick(ctx, queue)
        await bench.quiet(ctx)
        assert bench.errors == len(wrong)
        touched = [addr for addr, _ in (*bench.host.reads, *bench.host.writes)]
        assert touched and min(touched) >= bench.at(DESC, max(wrong) + 1)
        assert ctx.get(bench.dut.buffers[0].enabled) == 0b1111 & ~sum(1 << queue for queue in wrong)
        del bench.areas[0]
        await bench.reset(ctx, 0)
        await bench.set_up(ctx, 0)
        if packed:
            struct.pack_into("<QIHH", bench.host.bytes, bench.at(DESC, 0), 0x5000, 7, 3, 0x80)
        else:
            bench.desc(0, 3, 0x5000, 7)
            bench.offer(0, 3)
        await bench.kick(ctx, 0)
        await bench.available(ctx, 0)
        await bench.take(ctx, 0)
        [segment] = await bench.chain(ctx)
        assert (segment.chain.id, segment.addr, segment.len) == (3, 0x5000, 7) and bench.errors == len(wrong)
        bench.areas[3] = {"queue_desc": (1 << 64) - 16}
        await bench.give_back(ctx, 0, 3, 0, flush=1)
        await bench.reset(ctx, 3)
        await bench.set_up(ctx, 3)                       # of a device that is live
        await bench.quiet(ctx)
        assert bench.errors == len(wrong) + 1
    bench.run(testbench, packed=packed)


@pytest.mark.parametrize("name, units", [("queue_desc", 16), ("queue_driver", 2), ("queue_device", 4)])
def test_rings_may_end_with_the_address_space(name, units):
    bench = Bench()
    bench.areas = {0: {name: (1 << 64) - OVER[name] - units}}

    async def testbench(ctx):
        await bench.quiet(ctx)
        assert bench.errors == (name == "queue_driver")  # it is read, and nothing is there
        assert ctx.get(bench.dut.buffers[0].enabled) & 2
    bench.run(testbench)


def test_chains_behind_a_malformed_one():
    """Those that were taken already end as it does, and are not told of again; those that were not stay where they are."""
    bench = Bench()

    async def testbench(ctx):
        bench.desc(0, 0, 0x1000, 8, NEXT, 16)
        bench.offer(0, 0)
        for head in (1, 2, 3):
            bench.desc(0, head, 0x1000, 8)
            bench.offer(0, head)
        await bench.kick(ctx, 0)
        await bench.quiet(ctx)
        for _ in range(3):
            await bench.take(ctx, 0)
        assert [[segment.error for segment in await bench.chain(ctx)] for _ in range(3)] == [[0, 1], [1], [1]]
        await bench.quiet(ctx)
        assert bench.errors == 1
        assert not ctx.get(bench.dut.buffers[0].available) & 1 and not ctx.get(bench.dut.buffers[0].enabled) & 1
    bench.run(testbench)


def test_reset_of_a_queue_waits_for_devices_and_begins_nothing():
    """As long as a device has chains in hand nothing is fetched, of any queue; afterwards what was notified meanwhile is."""
    bench = Bench()

    async def testbench(ctx):
        dut = bench.dut
        await bench.quiet(ctx)
        reads = len(bench.host.reads)
        ctx.set(dut.buffers[0].holds, 1)
        ctx.set(dut.reset_queue, 0)
        ctx.set(dut.reset_valid, 1)
        await ctx.tick()
        ctx.set(dut.reset_valid, 0)
        bench.desc(1, 0, 0x1000, 8)
        bench.offer(1, 0)
        await bench.kick(ctx, 1)
        for _ in range(200):
            await ctx.tick()
            assert ctx.get(dut.pausing) and not ctx.get(dut.reset_done)
        assert len(bench.host.reads) == reads
        ctx.set(dut.buffers[0].holds, 0)
        await bench.available(ctx, 1)
        assert not ctx.get(dut.pausing)
    bench.run(testbench)


def test_reset_of_a_queue_waits_for_what_is_under_way():
    """Of any queue: whose it is nobody knows."""
    bench = Bench(latency=50)

    async def testbench(ctx):
        dut = bench.dut
        await bench.quiet(ctx)
        reads = len(bench.host.reads)
        await bench.kick(ctx, 1)
        while len(bench.host.reads) == reads:
            await ctx.tick()
        ctx.set(dut.reset_queue, 0)
        ctx.set(dut.reset_valid, 1)
        await ctx.tick()
        ctx.set(dut.reset_valid, 0)
        cycles = 0
        while not ctx.get(dut.reset_done):
            await ctx.tick()
            cycles += 1
        assert 40 < cycles < 80
    bench.run(testbench)


@pytest.mark.parametrize("order", ["up", "down"])
def test_neighbours_share_a_read_either_way(order):
    """A free list that is a stack hands out descriptors downwards after each batch that came back."""
    bench = Bench(size=64, prefetch=64)
    heads = list(range(64)) if order == "up" else list(range(63, -1, -1))

    async def testbench(ctx):
        for head in heads:
            bench.desc(0, head, 0x1000 * head, 64)
            bench.offer(0, head)
        await bench.kick(ctx, 0)
        for head in heads:
            await bench.available(ctx, 0)
            await bench.take(ctx, 0)
            [segment] = await bench.chain(ctx)
            assert (segment.chain.id, segment.addr) == (head, 0x1000 * head)
            await bench.take(ctx, 0, TakeOp.COMMIT)
        reads = [length for addr, length in bench.host.reads if DESC <= addr < DRIVER]
        assert sum(reads) == 64 * 16 and len(reads) <= 9
    bench.run(testbench)


def test_few_shared_reads_do_not_deadlock():
    """An answer that its asker does not take stands in the way of all others, of the one too that the asker waits for."""
    bench = Bench(queues=4, size=32, prefetch=8, shared=2, latency=3, event_idx=1)

    async def testbench(ctx):
        for queue in range(4):
            for head in range(0, 32, 3):
                bench.desc(queue, head, TABLES, 32, INDIRECT)
                bench.offer(queue, head)
        bench.desc(0, 0, 0x1000, 8, NEXT, 1, table=TABLES)
        bench.desc(0, 1, 0x2000, 8, table=TABLES)
        given = [0] * 4
        kicks = 0
        while sum(given) < 4 * 11:
            await bench.kick(ctx, kicks % 4)
            kicks += 1
            queue = given.index(min(given))
            await bench.available(ctx, queue)
            await bench.take(ctx, queue)
            segments = await bench.chain(ctx)
            assert [segment.addr for segment in segments] == [0x1000, 0x2000]
            await bench.take(ctx, queue, TakeOp.COMMIT)
            await bench.give_back(ctx, queue, segments[0].chain.id, 0, flush=1)
            given[queue] += 1
        await bench.quiet(ctx)
        assert not bench.errors
    bench.run(testbench)


def test_chains_before_a_bad_head_are_served():
    """One notification brings two good heads and one that is not below Queue Size."""
    bench = Bench()

    async def testbench(ctx):
        for head in (3, 9, bench.size):
            bench.desc(0, head % bench.size, 0x1000 * head, 8, WRITE)
            bench.offer(0, head)
        await bench.kick(ctx, 0)
        for _ in range(400):
            await ctx.tick()
        assert bench.errors == 1
        for head in (3, 9):
            await bench.available(ctx, 0)
            await bench.take(ctx, 0)
            [segment] = await bench.chain(ctx)
            assert (segment.chain.id, segment.addr, segment.error) == (head, 0x1000 * head, 0)
            await bench.take(ctx, 0, TakeOp.COMMIT)
        assert not ctx.get(bench.dut.buffers[0].available) & 1
        assert not ctx.get(bench.dut.buffers[0].enabled) & 1
    bench.run(testbench)


@pytest.mark.parametrize("event_idx", [0, 1])
def test_chains_that_nobody_notified_of(event_idx):
    """They are found while the device wants chains of that queue, by one read of idx in 512 cycles, and else not."""
    bench = Bench(event_idx=event_idx)

    async def testbench(ctx):
        await bench.quiet(ctx)
        bench.host.reads.clear()
        for queue in (0, 1):
            bench.desc(queue, 3, 0x1000, 77, WRITE)
            bench.offer(queue, 3)
        await ctx.tick().repeat(700)
        assert not bench.host.reads                 # nobody wants any
        ctx.set(bench.dut.buffers[0].wants, 0b10)
        await bench.available(ctx, 1)
        ctx.set(bench.dut.buffers[0].wants, 0)
        await bench.quiet(ctx)
        assert all(addr & 0x4000 for addr, _ in bench.host.reads) and ctx.get(bench.dut.buffers[0].available) == 0b10
        await bench.take(ctx, 1)
        assert (await bench.chain(ctx))[-1].chain.id == 3
        await bench.take(ctx, 1, TakeOp.COMMIT)
        # An empty ring: nothing but idx is read, and nothing is written.
        bench.host.reads.clear()
        bench.host.writes.clear()
        ctx.set(bench.dut.buffers[0].wants, 0b10)
        await ctx.tick().repeat(3 * 512)
        assert bench.host.reads == [(bench.at(DRIVER, 1) + 2, 2)] * 3 and not bench.host.writes
    bench.run(testbench)


def test_nothing_is_looked_at_for_a_queue_that_does_not_work():
    """Before DRIVER_OK, while all pauses, and after a fault, whatever a device wants."""
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.dut.enable, 0)
        await bench.quiet(ctx)
        bench.host.reads.clear()
        ctx.set(bench.dut.buffers[0].wants, 0b11)
        await ctx.tick().repeat(600)
        assert not bench.host.reads                 # not live
        ctx.set(bench.dut.enable, 1)
        bench.host.put(bench.at(DRIVER, 1) + 2, "H", 1000)
        await bench.kick(ctx, 1)
        await bench.quiet(ctx)
        assert bench.errors == 1
        bench.host.reads.clear()
        ctx.set(bench.dut.buffers[0].wants, 0b10)
        await ctx.tick().repeat(600)
        assert not bench.host.reads                 # it has failed
        ctx.set(bench.dut.buffers[0].wants, 0b01)
        ctx.set(bench.dut.buffers[0].holds, 1)
        ctx.set(bench.dut.reset_queue, 1)
        ctx.set(bench.dut.reset_valid, 1)
        await ctx.tick()
        ctx.set(bench.dut.reset_valid, 0)
        await ctx.tick().repeat(3)
        bench.host.reads.clear()
        await ctx.tick().repeat(600)
        assert ctx.get(bench.dut.pausing) and not bench.host.reads
    bench.run(testbench)


@pytest.mark.parametrize("refusals, good, errors, enabled", [
    ([0], False, 1, 0b000), ([0, 0, 0, 0], False, 1, 0b000), ([0] * 8, False, 1, 0b000), ([2, 0, 1], False, 3, 0b000),
    ([0], True, 0, 0b001), ([0, 1], True, 1, 0b001)])
def test_a_queue_that_cannot_work_is_told_of_once(refusals, good, errors, enabled):
    """However often it was set up and reset before the driver was ready (2.1.2); not if its last set-up is good."""
    bench = Bench(queues=3)

    async def testbench(ctx):
        for at, queue in enumerate(refusals):
            if queue in refusals[:at]:
                await bench.reset(ctx, queue)
            await bench.set_up(ctx, queue, queue_desc=(1 << 64) - 16)
            await ctx.tick().repeat(4)
        if good:
            await bench.reset(ctx, refusals[0])
            await bench.set_up(ctx, refusals[0])
        await ctx.tick().repeat(4)
        ctx.set(bench.dut.enable, 1)
        await bench.quiet(ctx)
        assert bench.errors == errors and ctx.get(bench.dut.buffers[0].enabled) == enabled
    bench.sim.add_testbench(testbench)
    bench.sim.run()


def test_a_chain_that_was_given_back_is_untold_until_it_is_written():
    """Behind one of another queue too, wherever both are kept."""
    bench = Bench(queues=2)

    async def testbench(ctx):
        port = bench.dut.buffers[0]
        for queue in (0, 1):
            for head in range(4):
                bench.desc(queue, head, 0x1000, 8)
                bench.offer(queue, head)
            await bench.kick(ctx, queue)
        await bench.quiet(ctx)
        for queue in (0, 0, 1):
            await bench.take(ctx, queue)
            await bench.chain(ctx)
        await bench.quiet(ctx)
        for queue, ident, flush in ((0, 0, 1), (0, 1, 1), (1, 0, 0)):
            ctx.set(port.used.p, {"queue": queue, "chain": {"id": ident, "count": 1}, "flush": flush})
            ctx.set(port.used.valid, 1)
            await ctx.tick().until(port.used.ready)
        ctx.set(port.used.valid, 0)
        for _ in range(30):
            assert ctx.get(port.untold) & 2 or bench.host.get(bench.at(DEVICE, 1) + 2, "H") == 1
            await ctx.tick()
    bench.run(testbench)
