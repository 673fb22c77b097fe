"""The control queue: requests in any form, and what is answered."""

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.net.control import Control

from ...kit.simulator import Simulator

OK, ERR = 0, 1
PAIRS, QUEUE = 5, 10
SET = b"\x04\x00"


class Bench:
    """The engine and host memory; one request after the other."""
    def __init__(self, rng, *, width=64, busy=1.0, settles=lambda: True):
        self.rng, self.width, self.busy, self.settles = rng, width, busy, settles
        self.dut = Control(width=width, num_queues=2 * PAIRS + 1, pairs=PAIRS)
        self.memory, self.next_addr = {}, 0x1_0000_0ffd
        self.failing = set()

    def idle(self):
        return self.rng.random() > self.busy

    def parts(self, request, cuts, ack=(1,)):
        """Segments of a request: readable pieces as long as ``cuts`` say, then writable ones."""
        segments, at = [], 0
        for size in cuts:
            piece, at = request[at:at + size], at + size
            segments.append((self.next_addr, len(piece), 0))
            for k, value in enumerate(piece):
                self.memory[self.next_addr + k] = value
            self.next_addr += size + self.rng.randrange(40)
        for size in ack:
            segments.append((self.next_addr, size, 1))
            self.next_addr += size + self.rng.randrange(1, 40)
        return segments

    async def accept(self, ctx, port):
        while True:
            ready = not self.idle()
            ctx.set(port.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.valid, port.p)
            if valid and ready:
                ctx.set(port.ready, 0)
                return payload

    async def chain(self, ctx, segments, *, error=False):
        """Hand out a chain: used entry or None, and the ack byte written or None."""
        buffers, read, write = self.dut.buffers, self.dut.read, self.dut.write
        ctx.set(buffers.available, 1 << QUEUE)
        take = await self.accept(ctx, buffers.take)
        assert take.op == TakeOp.KEEP and take.queue == QUEUE and ctx.get(buffers.holds)
        ctx.set(buffers.available, 0)
        for k, (addr, size, is_write) in enumerate(segments):
            last = k == len(segments) - 1
            ctx.set(buffers.segment.p, {"queue": QUEUE, "chain": {"id": 77, "count": 3, "writable": 1}, "addr": addr, "len": size,
                                        "write": is_write, "last": last, "error": error and last})
            ctx.set(buffers.segment.valid, 1)
            _, _, ready = await ctx.tick().sample(buffers.segment.ready)
            assert ready, "a segment had to wait"
            ctx.set(buffers.segment.valid, 0)
        self.acked = None
        for _ in range(200):
            ctx.set(self.dut.settled, self.settles())
            if not ctx.get(buffers.holds):
                return None
            if ctx.get(read.req.valid):
                asked = await self.accept(ctx, read.req)
                await self.answer(ctx, asked.addr, asked.len)
            elif ctx.get(write.req.valid):
                asked = await self.accept(ctx, write.req)
                assert asked.len == 1
                beat = await self.accept(ctx, write.data)
                assert beat.last
                self.acked = asked.addr, beat.data & 0xff
            elif ctx.get(buffers.used.valid):
                used = await self.accept(ctx, buffers.used)
                assert (used.queue, used.chain.id, used.chain.count, used.more, used.flush) == (QUEUE, 77, 3, 0, 1)
                assert not ctx.get(buffers.holds)
                return used.len
            else:
                await ctx.tick()
        raise AssertionError("no end")

    async def answer(self, ctx, addr, size):
        port, lanes = self.dut.read.beat, self.width // 8
        chunk, bad = bytes(self.memory[addr + k] for k in range(size)), addr in self.failing
        while True:
            count = lanes if self.busy == 1.0 else self.rng.randrange(lanes + 1)
            part, chunk = chunk[:count], chunk[count:]
            if bad:
                part = chunk = b""
            ctx.set(port.p, {"data": int.from_bytes(part + self.rng.randbytes(lanes - len(part)), "little"),
                             "count": len(part), "last": not chunk, "error": bad})
            ctx.set(port.valid, 1)
            _, _, ready = await ctx.tick().sample(port.ready)
            assert ready, "a beat had to wait"
            ctx.set(port.valid, 0)
            if not chunk:
                return

    def run(self, testbench, *, mq=1):
        async def main(ctx):
            ctx.set(self.dut.enable, 1)
            ctx.set(self.dut.mq, mq)
            ctx.set(self.dut.queue, QUEUE)
            await ctx.tick()
            assert ctx.get(self.dut.active) == 1
            await testbench(ctx)

        sim = Simulator(self.dut)
        sim.add_clock(8e-9)
        sim.add_testbench(main)
        sim.run()

    async def ask(self, ctx, request, cuts, verdict, active):
        segments = self.parts(request, cuts, ack=self.rng.choice([(1,), (0, 2, 1), (4,)]))
        assert await self.chain(ctx, segments) == 1
        addr = next(addr for addr, size, is_write in segments if is_write and size)
        assert self.acked == (addr, verdict)
        assert ctx.get(self.dut.active) == active


@pytest.mark.parametrize("width, busy", [(64, 1.0), (64, 0.6), (128, 0.6), (32, 0.7)])
def test_pairs_set(width, busy, rng):
    bench = Bench(rng, width=width, busy=busy)

    async def testbench(ctx):
        active = 1
        for pairs in (*range(PAIRS + 3), 0x100, 0x8000, 0xffff, 3, 256 + 2):
            good = 1 <= pairs <= PAIRS
            active = pairs if good else active
            cuts = rng.choice([(4,), (2, 2), (1, 1, 1, 1), (0, 3, 0, 1, 0), (1, 3)])
            await bench.ask(ctx, SET + pairs.to_bytes(2, "little"), cuts, OK if good else ERR, active)
    bench.run(testbench)


def test_what_is_not_known(rng):
    bench = Bench(rng, busy=0.7)

    async def testbench(ctx):
        await bench.ask(ctx, SET + b"\3\0", (4,), OK, 3)
        for request in (b"", b"\4", b"\4\0", SET + b"\2", SET + b"\2\0\0", SET + b"\2\0" * 300, b"\4\1\2\0", b"\5\0\2\0",
                        b"\0\0\1\0", b"\xff\xff\1\0"):
            await bench.ask(ctx, request, (len(request),), ERR, 3)
        await bench.ask(ctx, SET + b"\2\0" + bytes(60), [1] * 64, ERR, 3)
        await bench.ask(ctx, SET + b"\2\0", (4,), OK, 2)
    bench.run(testbench)


def test_parts_that_are_too_long_together(rng):
    bench = Bench(rng)

    async def testbench(ctx):
        for times in (2, 3, 4):
            await bench.ask(ctx, (SET + b"\2\0") * times, [4] * times, ERR, 1)
    bench.run(testbench)


def test_a_claim_of_four_gigabytes(rng):
    bench = Bench(rng)

    async def testbench(ctx):
        segments = bench.parts(SET + b"\2\0", (4,))
        assert await bench.chain(ctx, [(0, 0xffff_ffff, 0), *segments]) == 1
        assert bench.acked[1] == ERR
        assert await bench.chain(ctx, [*segments[:1], (0, 0xffff_fffc, 0), segments[1]]) == 1
        assert bench.acked[1] == ERR and ctx.get(bench.dut.active) == 1
    bench.run(testbench)


def test_without_mq(rng):
    bench = Bench(rng)

    async def testbench(ctx):
        await bench.ask(ctx, SET + b"\1\0", (4,), ERR, 1)
    bench.run(testbench, mq=0)


def test_no_room_for_the_ack(rng):
    bench = Bench(rng)

    async def testbench(ctx):
        for ack in ((), (0,)):
            assert await bench.chain(ctx, bench.parts(SET + b"\4\0", (2, 2), ack=ack)) == 0
            assert bench.acked is None and ctx.get(bench.dut.active) == 4
    bench.run(testbench)


def test_what_cannot_be_read(rng):
    bench = Bench(rng)

    async def testbench(ctx):
        for failing in (0, 1):
            segments = bench.parts(SET + b"\4\0", (2, 2))
            bench.failing = {segments[failing][0]}
            assert await bench.chain(ctx, segments) == 1 and bench.acked[1] == ERR
        assert await bench.chain(ctx, bench.parts(SET + b"\4\0", (4,)), error=True) is None
        assert ctx.get(bench.dut.active) == 1
        await bench.ask(ctx, SET + b"\5\0", (4,), OK, 5)
    bench.run(testbench)


def test_waits_for_what_was_steered_before(rng):
    bench, waits = Bench(rng), []

    def settles():
        waits.append(None)
        return len(waits) > 20
    bench.settles = settles

    async def testbench(ctx):
        await bench.ask(ctx, SET + b"\2\0", (4,), OK, 2)
        assert len(waits) > 20
    bench.run(testbench)


def test_pause_takes_nothing(rng):
    bench = Bench(rng)

    async def testbench(ctx):
        ctx.set(bench.dut.buffers.pause, 1)
        ctx.set(bench.dut.buffers.available, 1 << QUEUE)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(bench.dut.buffers.take.valid) and not ctx.get(bench.dut.buffers.holds)
        ctx.set(bench.dut.buffers.pause, 0)
        await bench.ask(ctx, SET + b"\2\0", (4,), OK, 2)
    bench.run(testbench)
