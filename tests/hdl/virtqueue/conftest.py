"""What each stage of the ring engine is tested with: feeders, collectors and a host memory, all with chosen pauses."""

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

MEMORY = 1 << 20  # reads beyond it fail


class StageBench:
    """One stage in a simulator, ``glue`` around it. Streams are watched: an offer stays until it is taken."""
    def __init__(self, dut, rng, *, glue=(), pause=0.0, latency=6, limit=20000):
        self.dut, self.rng, self.pause, self.latency = dut, rng, pause, latency
        self.memory = bytearray(MEMORY)
        self.fails = set()                # addresses of reads that fail although there is memory
        self.reads, self.writes = [], []  # (addr, len)
        self.longest_wait = 0             # cycles that a beat of an answer was not taken
        self.failed = []                  # queues, if the stage has such an output
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.dut = dut
        m.d.comb += glue
        self.sim = Simulator(m)
        self.sim.add_clock(8e-9)
        self.background(self._watchdog, limit)
        if hasattr(dut, "fail_valid"):
            self.background(self._failures)

    def background(self, function, *arguments):
        async def run(ctx):
            await function(ctx, *arguments)
        self.sim.add_testbench(run, background=True)

    def run(self, *testbenches):
        for testbench in testbenches:
            self.sim.add_testbench(testbench)
        self.sim.run()

    def idle(self):
        return self.pause and self.rng.random() < self.pause

    async def _watchdog(self, ctx, limit):
        for _ in range(limit):
            await ctx.tick()
        raise AssertionError(f"not done after {limit} cycles")

    async def _failures(self, ctx):
        async for _, _, valid, queue in ctx.tick().sample(self.dut.fail_valid, self.dut.fail_queue):
            if valid:
                self.failed.append(queue)

    async def setup(self, ctx, queue=0, **row):
        ctx.set(self.dut.setup, {"queue": queue, **row})
        ctx.set(self.dut.setup_valid, 1)
        await ctx.tick()
        ctx.set(self.dut.setup_valid, 0)
        await ctx.tick()

    async def send(self, ctx, stream, payload):
        while self.idle():
            await ctx.tick()
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        ready = False
        while not ready:  # not until(): that one complains when a failed test abandons it
            _, _, ready = await ctx.tick().sample(stream.ready)
        ctx.set(stream.valid, 0)

    async def until(self, ctx, condition, limit=3000):
        for _ in range(limit):
            if condition():
                return
            await ctx.tick()
        raise AssertionError(f"not after {limit} cycles")

    def collect(self, stream, gate=None):
        """List that everything on ``stream`` is added to, while ``gate()``."""
        got = []

        async def sink(ctx):
            before = None
            while True:
                ready = not self.idle() and (gate is None or gate())
                ctx.set(stream.ready, ready)
                _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
                assert before is None or (valid and payload == before), "offer withdrawn"
                before = payload if valid and not ready else None
                if valid and ready:
                    got.append(payload)
        self.background(sink)
        return got

    def answer(self, addr, length, lanes):
        """Beats of a read: packed, or as a link cuts it (a new request at 512 bytes, whole DWs); a failed one ends early."""
        end, beats = addr + length, []
        bad = end > len(self.memory) or addr in self.fails
        if bad and (addr >= len(self.memory) or self.rng.random() < 0.5):
            return [{"data": 0, "count": 0, "last": 1, "error": 1}]
        packed, begins = self.rng.random() < 0.3, True
        while addr < end:
            cut = lanes - addr % 4 if begins and not packed else lanes
            step = min(cut, end - addr, lanes if packed else 512 - addr % 512)
            addr += step
            begins = addr % 512 == 0
            beats.append({"data": int.from_bytes(self.memory[addr - step:addr], "little"), "count": step,
                          "last": addr == end, "error": bad and addr == end})
        return beats

    def serve_reads(self, port):
        async def serve(ctx):
            lanes, queue, beats, now, waited, offered = self.dut.width // 8, [], [], 0, 0, False
            while True:
                offered = bool(beats) and (offered or not self.idle())
                ctx.set(port.beat.valid, offered)
                if offered:
                    ctx.set(port.beat.p, beats[0])
                ready = not self.idle()
                ctx.set(port.req.ready, ready)
                _, _, asks, request, taken = await ctx.tick().sample(port.req.valid, port.req.p, port.beat.ready)
                now += 1
                if offered:
                    waited = 0 if taken else waited + 1
                    self.longest_wait = max(self.longest_wait, waited)
                    if taken:
                        beats.pop(0)
                        offered = False
                if asks and ready:
                    assert request.len
                    self.reads.append((request.addr, request.len))
                    queue.append((now + self.latency, request.addr, request.len))
                if queue and not beats and queue[0][0] <= now:
                    _, addr, length = queue.pop(0)
                    beats = self.answer(addr, length, lanes)
        self.background(serve)

    def serve_writes(self, port):
        """A write is in memory in the cycle after its ``done``, and not before."""
        async def serve(ctx):
            lanes = self.dut.width // 8
            request, body, pending, now = None, b"", [], 0
            while True:
                leaves = bool(pending) and pending[0][0] <= now
                ready = not self.idle()
                ctx.set(port.done, leaves)
                ctx.set(port.req.ready, request is None and ready)
                ctx.set(port.data.ready, request is not None and ready)
                _, _, asks, asked, gives, beat = await ctx.tick().sample(
                    port.req.valid, port.req.p, port.data.valid, port.data.p)
                now += 1
                if leaves:
                    _, addr, data = pending.pop(0)
                    self.memory[addr:addr + len(data)] = data
                    self.writes.append((addr, len(data)))
                if request is None:
                    if asks and ready:
                        request, body = (asked.addr, asked.len), b""
                elif gives and ready:
                    body += beat.data.to_bytes(lanes, "little")
                    assert beat.last == (len(body) >= request[1])
                    if beat.last:
                        pending.append((now + self.latency, request[0], body[:request[1]]))
                        request = None
        self.background(serve)


@pytest.fixture
def stage(rng):
    """Make a :class:`StageBench` around a stage."""
    def make(dut, **options):
        return StageBench(dut, rng, **options)
    return make
