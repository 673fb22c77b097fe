"""The entropy device: chains of any form, and the words that end up in them."""

import pytest

from ringnic.hdl.entropy.device import EntropyDevice
from ringnic.hdl.lib.buffers import TakeOp

from ...kit.simulator import Simulator


async def accepted(ctx, port):
    while not (await ctx.tick().sample(port.ready))[2]:
        pass


class Bench:
    """The engine, host memory behind the write port, and a source of words."""
    def __init__(self, rng, *, width=64, busy=1.0):
        self.rng, self.width, self.busy = rng, width, busy
        self.dut = EntropyDevice(width=width)
        self.chains, self.segments, self.used, self.writes, self.words = [], [], [], [], []
        self.flows, self.requests = True, 0

    def idle(self):
        return self.rng.random() > self.busy

    def post(self, *parts, error=False):
        """``parts``: (addr, len, write)."""
        id = len(self.chains)
        self.chains.append([{"chain": {"id": id, "count": 1}, "addr": addr, "len": size, "write": write,
                             "last": k == len(parts) - 1, "error": error and k == len(parts) - 1}
                            for k, (addr, size, write) in enumerate(parts)])

    async def takes(self, ctx):
        port, taken = self.dut.host.buffers[0], 0
        while True:
            ctx.set(port.available, taken < len(self.chains) and not ctx.get(port.pause))
            ctx.set(port.take.ready, not self.idle())
            _, _, moved, op = await ctx.tick().sample(port.take.valid & port.take.ready, port.take.p.op)
            if moved:
                assert op == TakeOp.KEEP
                self.segments += self.chains[taken]
                taken += 1

    async def give_segments(self, ctx):
        port = self.dut.host.buffers[0].segment
        while True:
            if not self.segments or self.idle():
                await ctx.tick()
                continue
            ctx.set(port.p, self.segments.pop(0))
            ctx.set(port.valid, 1)
            await accepted(ctx, port)
            ctx.set(port.valid, 0)

    async def take_writes(self, ctx):
        write, lanes = self.dut.host.writes[0], self.width // 8
        while True:
            ctx.set(write.req.ready, not self.idle())
            _, _, asked, request = await ctx.tick().sample(write.req.valid & write.req.ready, write.req.p)
            if not asked:
                continue
            ctx.set(write.req.ready, 0)
            got = b""
            while len(got) < request.len:
                ready = not self.idle()
                ctx.set(write.data.ready, ready)
                _, _, valid, beat = await ctx.tick().sample(write.data.valid, write.data.p)
                assert valid, "a write that was accepted waits"
                if ready:
                    got += beat.data.to_bytes(lanes, "little")
                    assert beat.last == (len(got) >= request.len)
            ctx.set(write.data.ready, 0)
            self.writes.append((request.addr, got[:request.len], got))

    async def take_used(self, ctx):
        port = self.dut.host.buffers[0].used
        while True:
            ctx.set(port.ready, not self.idle())
            _, _, moved, p = await ctx.tick().sample(port.valid & port.ready, port.p)
            if moved:
                assert p.flush and not p.more and p.queue == 0
                self.used.append((p.chain.id, p.len))

    async def give_words(self, ctx):
        port = self.dut.i
        while True:
            if not self.flows or self.idle():
                await ctx.tick()
                continue
            word = self.rng.getrandbits(self.width)
            ctx.set(port.p, word)
            ctx.set(port.valid, 1)
            await accepted(ctx, port)
            ctx.set(port.valid, 0)
            self.words.append(word)

    async def count(self, ctx):
        async for _, _, one in ctx.tick().sample(self.dut.events.entropy_requests):
            self.requests += one

    def run(self, control):
        sim = Simulator(self.dut)
        sim.add_clock(8e-9)
        sim.add_testbench(control)
        for bench in (self.takes, self.give_segments, self.take_writes, self.take_used, self.give_words, self.count):
            sim.add_testbench(bench, background=True)
        sim.run()
        # What was written are the words, in their order, none twice.
        given = b"".join(word.to_bytes(self.width // 8, "little") for word in self.words)
        assert given.startswith(b"".join(whole for _, _, whole in self.writes))
        assert self.requests == len(self.used)

    async def settle(self, ctx):
        quiet = cycles = 0
        while quiet < 5:
            await ctx.tick()
            quiet = 0 if ctx.get(self.dut.host.busy) or self.segments else quiet + 1
            cycles += 1
            assert cycles < 8000


@pytest.mark.parametrize("width, busy", [(32, 1.0), (64, 1.0), (64, 0.5), (128, 0.6), (256, 0.8), (512, 0.8)])
def test_chains(width, busy, rng):
    bench, want, used = Bench(rng, width=width, busy=busy), [], []
    for size in (1, 2, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 100, 4096, 70000, 0xffff_ffff):
        addr = rng.randrange(1 << 40)
        bench.post((addr, size, 1))
        want.append((addr, min(size, 64)))
    bench.post((0x1000, 20, 0), (0x2000, 0, 1), (0x3000, 5, 1), (0x4000, 100, 1))
    want.append((0x3000, 5))
    used = [(id, size) for id, (_, size) in enumerate(want)]
    bench.post((0x5000, 20, 0))                        # nothing to write
    used.append((len(used), 0))
    bench.post((0x6000, 20, 1), error=True)            # not given back
    bench.post((0x7000, 64, 1))
    want.append((0x7000, 64))
    used.append((len(used) + 1, 64))
    bench.run(bench.settle)
    assert [(addr, len(piece)) for addr, piece, _ in bench.writes] == want
    assert bench.used == used


def test_without_words_nothing_is_taken_and_a_pause_ends(rng):
    bench = Bench(rng)

    async def control(ctx):
        port = bench.dut.host.buffers[0]
        bench.flows = False
        bench.post((0x1000, 64, 1))
        await ctx.tick().repeat(200)
        assert not bench.used and not ctx.get(port.holds) and ctx.get(bench.dut.host.busy)
        bench.flows = True
        await bench.settle(ctx)
        for _ in range(50):
            bench.post((0x2000, 64, 1))
        await ctx.tick().repeat(rng.randrange(200))
        bench.flows = False
        ctx.set(port.pause, 1)
        await ctx.tick().repeat(60)
        done = len(bench.used)
        assert not ctx.get(port.holds)
        bench.flows = True
        await ctx.tick().repeat(100)
        assert len(bench.used) == done
        ctx.set(port.pause, 0)
        await bench.settle(ctx)
        assert [id for id, _ in bench.used] == list(range(51))
    bench.run(control)
