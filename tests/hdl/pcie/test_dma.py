# amaranth: UnusedElaboratable=no

import random

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.pcie.dma import Dma

RID = 0x0508


def be_bytes(first, last, length):
    return [(first if n == 0 else last if n == length - 1 else 0xf) >> k & 1 for n in range(length) for k in range(4)]


class Host:
    """Host memory behind a ``Dma``: checks every TLP, answers reads split and out of order, and drives the ports."""
    def __init__(self, width, *, seed=0, hold=False, rcb=64, mps=0, mrrs=2, **kwargs):
        self.width, self.size, self.rng, self.hold, self.rcb = width, width // 8, random.Random(seed), hold, rcb
        self.kwargs = {"read_clients": 2, "write_clients": 2, "timeout_cycles": 1 << 16} | kwargs
        self.dut = Dma(width=width, **self.kwargs)
        self.mps, self.mrrs = mps, mrrs
        self.log, self.pending, self.written, self.cycle = [], [], {}, 0
        self.answer = True
        self.change = None        # tlps of one read request -> tlps sent
        self.events = dict.fromkeys(dict(self.dut.events.shape()), 0)
        self.queue = []           # completion TLPs, each a list in order

    def byte(self, addr):
        return (addr * 0x9d + (addr >> 8) * 0x35 + 7) & 0xff

    def idle(self):
        return self.hold and self.rng.random() < 0.3

    def completion(self, tag, length, byte_count, lower, data, *, status=0, ep=0, rid=RID):
        fmt = 2 if data is not None else 0
        dws = [fmt << 29 | 0xa << 24 | ep << 14 | (length & 0x3ff), status << 13 | (byte_count & 0xfff),
               rid << 16 | tag << 8 | lower & 0x7f]
        return b"".join(d.to_bytes(4, "big") for d in dws) + (data or b"")

    def completions(self, addr, length, first, last, tag):
        """Whole answer to one read, cut at RCB wherever chance has it."""
        enables = be_bytes(first, last, length)
        begin, end = addr + enables.index(1), addr + 4 * length - enables[::-1].index(1)
        out, at = [], begin
        while at < end:
            cuts = [c for c in range((at // self.rcb + 1) * self.rcb, end, self.rcb)]
            stop = self.rng.choice(cuts + [end])
            low, high = at & ~3, (stop + 3) & ~3
            data = bytes(self.byte(a) for a in range(low, high))
            out.append(self.completion(tag, (high - low) // 4, end - at, at, data))
            at = stop
        return out

    def take(self, tlp):
        dws = [int.from_bytes(tlp[k:k + 4], "big") for k in range(0, min(len(tlp), 16), 4)]
        fmt, length = dws[0] >> 29, dws[0] & 0x3ff or 1024
        assert dws[0] >> 24 & 0x1f == 0 and dws[1] >> 16 == RID
        first, last, tag = dws[1] & 15, dws[1] >> 4 & 15, dws[1] >> 8 & 255
        addr = dws[2] << 32 | dws[3] if fmt & 1 else dws[2]
        assert bool(fmt & 1) == (addr >= 1 << 32) and addr & 3 == 0
        assert (addr & 0xfff) + 4 * length <= 4096
        assert first and bool(last) == (length > 1)
        body = tlp[16 if fmt & 1 else 12:]
        if fmt & 2:
            assert len(body) == 4 * length <= 128 << self.mps
            for k, enabled in enumerate(be_bytes(first, last, length)):
                if enabled:
                    assert addr + k not in self.written
                    self.written[addr + k] = body[k]
        else:
            assert not body and 4 * length <= 128 << self.mrrs
            assert tag not in [p[1] for p in self.pending]
            answer = self.completions(addr, length, first, last, tag)
            if self.change:
                answer = self.change(answer, tag)
            self.pending.append((answer, tag))
        self.log.append((bool(fmt & 2), addr, length, first, last, tag, self.cycle))

    async def watch(self, ctx):
        dut, tlp, at, before = self.dut, b"", None, None
        while True:
            ready = not self.idle()
            ctx.set(dut.tlp.ready, ready)
            _, _, valid, beat, events = await ctx.tick().sample(dut.tlp.valid, dut.tlp.payload, dut.events)
            self.cycle += 1
            for name in self.events:
                self.events[name] += events[name]
            now = (beat.data, beat.dws, beat.last)
            if before is not None:
                assert valid and before == now, "offer withdrawn"
            before = now if valid and not ready else None
            if valid and ready:
                assert 1 <= beat.dws <= self.size // 4 and (beat.last or beat.dws == self.size // 4)
                tlp += beat.data.to_bytes(self.size, "little")[:4 * beat.dws]
                if beat.last:
                    self.take(tlp)
                    tlp = b""

    async def complete(self, ctx):
        port = self.dut.cpl
        while True:
            ready = [p for p in self.pending if p[0]] if self.answer else []
            if not ready:
                await ctx.tick()
                continue
            chosen = self.rng.choice(ready)
            tlp = chosen[0].pop(0)
            if not chosen[0]:
                self.pending.remove(chosen)
            for at in range(0, len(tlp), self.size):
                while self.idle():
                    await ctx.tick()
                piece = tlp[at:at + self.size]
                ctx.set(port.payload, {"data": int.from_bytes(piece.ljust(self.size, b"\xa5"), "little"),
                                       "dws": len(piece) // 4, "last": at + self.size >= len(tlp)})
                ctx.set(port.valid, 1)
                assert ctx.get(port.ready)
                await ctx.tick()
                ctx.set(port.valid, 0)

    async def ask(self, ctx, client, requests):
        port = self.dut.reads[client].req
        for addr, length in requests:
            while self.idle():
                await ctx.tick()
            ctx.set(port.payload, {"addr": addr, "len": length})
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)

    async def answers(self, ctx, client, n):
        """``[(bytes, error, cycle)]`` of ``n`` requests."""
        port, out, got = self.dut.reads[client].beat, [], b""
        while len(out) < n:
            ready = not self.idle()
            ctx.set(port.ready, ready)
            _, _, valid, beat = await ctx.tick().sample(port.valid, port.payload)
            if valid and ready:
                assert beat.count or beat.error
                got += beat.data.to_bytes(self.size, "little")[:beat.count]
                if beat.last:
                    out.append((got, beat.error, self.cycle))
                    got = b""
        ctx.set(port.ready, 0)
        return out

    async def read(self, ctx, client, requests, *, check=True):
        out = await self.answers(ctx, client, len(requests))
        if check:
            for (addr, length), (got, error, _) in zip(requests, out):
                assert not error and got == bytes(self.byte(addr + k) for k in range(length)), (hex(addr), length)
        return out

    async def write(self, ctx, client, requests):
        port = self.dut.writes[client]
        for addr, body in requests:
            while self.idle():
                await ctx.tick()
            ctx.set(port.req.payload, {"addr": addr, "len": len(body)})
            ctx.set(port.req.valid, 1)
            await ctx.tick().until(port.req.ready)
            ctx.set(port.req.valid, 0)
            for at in range(0, len(body), self.size):
                piece = body[at:at + self.size].ljust(self.size, b"\x5a")
                ctx.set(port.data.payload, {"data": int.from_bytes(piece, "little"), "last": at + self.size >= len(body)})
                ctx.set(port.data.valid, 1)
                await ctx.tick().until(port.data.ready)
                ctx.set(port.data.valid, 0)

    def run(self, *benches, limit=200000, background=()):
        dut = self.dut
        sim = Simulator(dut)
        sim.add_clock(8e-9)

        async def setup(ctx):
            ctx.set(dut.requester_id, RID)
            ctx.set(dut.bus_master, 1)
            ctx.set(dut.mps, self.mps)
            ctx.set(dut.mrrs, self.mrrs)

        async def watchdog(ctx):
            for _ in range(limit):
                await ctx.tick()
            raise AssertionError("watchdog")
        sim.add_testbench(setup)
        sim.add_testbench(watchdog, background=True)
        sim.add_testbench(self.watch, background=True)
        sim.add_testbench(self.complete, background=True)
        for bench in background:
            sim.add_testbench(bench, background=True)
        for bench in benches:
            sim.add_testbench(bench)
        sim.run()


def reads(host, *per_client):
    """Benches that ask and check, two for each client."""
    for client, requests in enumerate(per_client):
        async def ask(ctx, client=client, requests=requests):
            await host.ask(ctx, client, requests)

        async def check(ctx, client=client, requests=requests):
            await host.read(ctx, client, requests)
        yield from (ask, check)


@pytest.mark.parametrize("width", [32, 64, 128])
def test_read_alignments(width):
    host = Host(width)
    requests = [(0x1000 + 0x40 * offset + offset, length) for offset in range(9) for length in range(1, 36, 3)]
    host.run(*reads(host, requests, [(0x1_0000_0000 + a, n) for a, n in requests]))


@pytest.mark.parametrize("mrrs", [0, 1, 2, 5])
def test_read_cuts(mrrs):
    host = Host(64, mrrs=mrrs)
    host.run(*reads(host, [(0xffd, 4), (0xf83, 3000), (0xffff_fff1, 100), (0x10, 512), (0x1ff, 514)]))


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("hold", [False, True])
def test_read_random(width, hold):
    host = Host(width, seed=width, hold=hold, mrrs=2)

    def pick():
        return host.rng.randrange(1 << 33), host.rng.choice([1, 2, 4, 16, 76, 300, 1000, host.rng.randrange(1, 600)])
    host.run(*reads(host, [pick() for _ in range(25)], [pick() for _ in range(25)]))
    assert host.events["dma_read_tlps"] == len(host.log)
    assert not any(host.events[name] for name in host.events if "tlps" not in name) and not host.events["tlps_malformed"]


def test_read_longest():
    host = Host(128)
    host.run(*reads(host, [(0x12345, 65535)]))


@pytest.mark.parametrize("width,limit", [(64, 1.15), (128, 1.3)])
def test_read_rate(width, limit):
    host = Host(width, rcb=4096)
    out = []

    async def check(ctx):
        out.extend(await host.read(ctx, 0, [(0x10000 + 512 * k, 512) for k in range(40)]))

    async def ask(ctx):
        await host.ask(ctx, 0, [(0x10000 + 512 * k, 512) for k in range(40)])
    host.run(ask, check)
    assert out[-1][2] - out[9][2] < 30 * 512 * 8 / width * limit


@pytest.mark.parametrize("kind", ["ur", "ca", "crs", "poison", "count", "overflow", "short", "nodata"])
@pytest.mark.parametrize("width", [64, 128])
def test_read_error(kind, width):
    host = Host(width, rcb=64, mrrs=0)
    bad = {1}
    seen = []

    def change(tlps, tag):
        seen.append(tag)
        if len(seen) - 1 not in bad:
            return tlps
        head = tlps[-1]
        if kind in ("ur", "ca", "crs"):
            status = {"ur": 1, "crs": 2, "ca": 4}[kind]
            return tlps[:-1] + [host.completion(tag, 0, 4, 0, None, status=status)]
        if kind == "nodata":
            return [host.completion(tag, 0, 128, 0, None)]
        if kind == "poison":
            return tlps[:-1] + [head[:2] + bytes([head[2] | 0x40]) + head[3:]]
        if kind == "count":
            return [tlps[0][:7] + bytes([tlps[0][7] ^ 4]) + tlps[0][8:]]
        if kind == "overflow":
            return [host.completion(tag, 200, 128, 0, bytes(800))]
        return tlps[:-1] + [head[:-4]]
    host.change = change

    async def ask(ctx):
        await host.ask(ctx, 0, [(0x1000, 300), (0x3000, 128)])

    async def check(ctx):
        first, second = await host.answers(ctx, 0, 2)
        assert first[1] and not second[1]
        assert second[0] == bytes(host.byte(0x3000 + k) for k in range(128))
        await ctx.tick().repeat(4)
    host.run(ask, check)
    assert host.events["dma_read_errors"] == 1
    assert host.events["tlps_malformed"] == (kind == "short")


def test_timeout_and_late():
    host = Host(64, timeout_cycles=640, tags=2)
    lost = []

    def change(tlps, tag):
        if not lost:
            lost.extend([tlps, tag])
            return []
        return tlps
    host.change = change

    async def bench(ctx):
        await host.ask(ctx, 0, [(0x1000, 64)])
        (got, error, when), = await host.answers(ctx, 0, 1)
        assert error and got == b"" and 640 <= when <= 970
        # The number lost is not used again until its late answer.
        host.pending.clear()
        for k in range(4):
            await host.ask(ctx, 1, [(0x2000 + 64 * k, 64)])
            await host.read(ctx, 1, [(0x2000 + 64 * k, 64)])
            assert host.log[-1][5] != lost[1]
        host.pending.append((list(lost[0]), lost[1]))
        await ctx.tick().repeat(40)
        for k in range(2):
            await host.ask(ctx, 1, [(0x2000 + 64 * k, 64)])
            await host.read(ctx, 1, [(0x2000 + 64 * k, 64)])
        assert {entry[5] for entry in host.log[-2:]} == {0, 1}
    host.run(bench)
    assert host.events["dma_timeouts"] == 1 and host.events["cpl_unexpected"] == 1


def test_unexpected():
    host = Host(64)
    host.pending = [([host.completion(7, 1, 4, 0, b"\xee" * 4)], 7), ([host.completion(0, 1, 4, 0, b"\xee" * 4, rid=1)], 0),
                    ([host.completion(200, 1, 4, 0, b"\xee" * 4)], 200)]

    async def bench(ctx):
        await ctx.tick().repeat(40)
        await host.ask(ctx, 0, [(0x1001, 2)])
        await host.read(ctx, 0, [(0x1001, 2)])
    host.run(bench)
    assert host.events["cpl_unexpected"] == 3


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("base", [0x1000, 0x5_0000_0000])
def test_write_alignments(width, base):
    host = Host(width)
    expect, requests = {}, []
    for offset in range(4) if width != 64 else range(8):
        for length in range(1, 41):
            addr = base + 0x40 * len(requests) + offset
            body = host.rng.randbytes(length)
            requests.append((addr, body))
            expect |= {addr + k: b for k, b in enumerate(body)}

    async def bench(ctx):
        await host.write(ctx, 0, requests)
        await ctx.tick().repeat(40)
    host.run(bench)
    assert host.written == expect


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("hold", [False, True])
def test_write_random(width, hold):
    host = Host(width, seed=width, hold=hold, mps=1)
    expect, done = {}, [0, 0]
    plans = []
    for client in range(2):
        plan = []
        for k in range(15):
            body = host.rng.randbytes(host.rng.choice([1, 4, 8, 76, 1514, host.rng.randrange(1, 700)]))
            addr = (client + 1 << 31) + 0x7f_f000 * 0x100 + 8192 * k + host.rng.randrange(4096)
            plan.append((addr, body))
            expect |= {addr + i: b for i, b in enumerate(body)}
        plans.append(plan)

    async def count(ctx):
        while True:
            _, _, a, b = await ctx.tick().sample(host.dut.writes[0].done, host.dut.writes[1].done)
            done[0] += a
            done[1] += b

    async def client0(ctx):
        await host.write(ctx, 0, plans[0])
        await ctx.tick().repeat(1500)

    async def client1(ctx):
        await host.write(ctx, 1, plans[1])
    host.run(client0, client1, background=[count])
    assert host.written == expect and done == [15, 15]


def test_write_rate():
    host = Host(64)

    async def bench(ctx):
        await host.write(ctx, 0, [(0x1000 + 128 * k + 2, bytes(range(76))) for k in range(20)])
        await ctx.tick().repeat(40)
    host.run(bench)
    assert (host.log[-1][6] - host.log[4][6]) / 15 <= 14


def test_write_then_read_in_order():
    host = Host(64, hold=True)

    async def bench(ctx):
        for k in range(10):
            await host.write(ctx, 0, [(0x1000 + 512 * k, bytes(300))])
            await ctx.tick().until(host.dut.writes[0].done)
            await host.ask(ctx, 0, [(0x9000 + 64 * k, 16)])
            await host.read(ctx, 0, [(0x9000 + 64 * k, 16)])
    host.run(bench)
    assert [entry[0] for entry in host.log] == [True, True, True, False] * 10


def test_bus_master_off():
    host = Host(64)

    async def bench(ctx):
        await ctx.tick()
        ctx.set(host.dut.bus_master, 0)
        await host.write(ctx, 0, [(0x1000, b"abcd")])
        await host.ask(ctx, 0, [(0x2000, 4)])
        await ctx.tick().repeat(50)
        assert not host.log and ctx.get(host.dut.busy)
        ctx.set(host.dut.bus_master, 1)
        await host.read(ctx, 0, [(0x2000, 4)])
        assert len(host.log) == 2
    host.run(bench)


def test_stop_discards_writes_without_bus_master():
    host = Host(64)

    async def bench(ctx):
        await ctx.tick()
        ctx.set(host.dut.bus_master, 0)
        await host.write(ctx, 0, [(0x1000, bytes(20))])
        ctx.set(host.dut.stop, 1)
        await ctx.tick().until(host.dut.stopped)
        assert not host.log and not host.events["dma_write_tlps"]
    host.run(bench, limit=2000)


@pytest.mark.parametrize("seed", range(4))
def test_stop_under_load(seed):
    host = Host(64, seed=seed, hold=True, timeout_cycles=2000)
    dut = host.dut

    async def offer(ctx, port):
        ctx.set(port.payload, {"addr": 0x12345, "len": 3000})
        ctx.set(port.valid, 1)

    async def sink(ctx):
        while True:
            ctx.set(dut.reads[0].beat.ready, 1)
            ctx.set(dut.reads[1].beat.ready, host.rng.random() < 0.5)
            await ctx.tick()

    async def bench(ctx):
        for port in dut.reads[0].req, dut.reads[1].req:
            await offer(ctx, port)
        ctx.set(dut.writes[0].req.payload, {"addr": 1 << 40, "len": 8})
        ctx.set(dut.writes[0].req.valid, seed & 1)
        ctx.set(dut.writes[0].data.valid, 1)
        host.written = _Anything()
        await ctx.tick().repeat(200 + 37 * seed)
        ctx.set(dut.stop, 1)
        if seed & 2:                # what is outstanding is never answered
            host.pending.clear()
            host.answer = False
        await ctx.tick().until(dut.stopped)
        n = len(host.log)
        await ctx.tick().repeat(50)
        assert ctx.get(dut.stopped) and len(host.log) == n
        for port in dut.reads[0].req, dut.reads[1].req, dut.writes[0].req:
            ctx.set(port.valid, 0)
        ctx.set(dut.reset, 1)
        await ctx.tick()
        ctx.set(dut.reset, 0)
        ctx.set(dut.stop, 0)
        host.answer = True
        host.pending.clear()
        await host.ask(ctx, 0, [(0x777, 9)])
        await ctx.tick().until(dut.reads[0].beat.valid & dut.reads[0].beat.payload.last)
    host.run(bench, background=[sink], limit=20000)


class _Anything(dict):
    """Memory that may be written over."""
    def __contains__(self, key):
        return False


@pytest.mark.parametrize("kwargs,message", [
    (dict(width=48), "Width must be 32 times a power of 2, not 48"),
    (dict(tags=24), "Number of tags must be a power of 2 from 2 to 256, not 24"),
    (dict(slot_bytes=64), "Slot must be a power of 2 from 128 to 4096 bytes, not 64"),
    (dict(timeout_cycles=10), "Timeout must be at least 64 cycles, not 10"),
    (dict(read_clients=0), "Reader needs at least one client, not 0"),
    (dict(write_clients=0), "Writer needs at least one client, not 0"),
])
def test_constructor(kwargs, message):
    with pytest.raises(ValueError) as caught:
        Dma(**(dict(width=64, read_clients=1, write_clients=1) | kwargs))
    assert str(caught.value) == message
