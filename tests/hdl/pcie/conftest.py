"""What DMA is tested with: the host at the other end of the TLPs."""

import random

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.pcie.dma import Dma
from ringnic.hdl.pcie.dma_read import Reader
from ringnic.hdl.pcie.dma_write import Writer

RID = 0x0508


def be_bytes(first, last, length):
    return [(first if n == 0 else last if n == length - 1 else 0xf) >> k & 1 for n in range(length) for k in range(4)]


class Host:
    """Host memory behind a ``Dma``, or behind its reader or writer alone: checks every TLP, answers reads split and out
    of order, and drives the ports."""
    def __init__(self, width, *, part=Dma, seed=0, hold=False, rcb=64, mps=0, mrrs=2, **kwargs):
        self.width, self.size, self.rng, self.hold, self.rcb = width, width // 8, random.Random(seed), hold, rcb
        if part is Dma:
            self.dut = Dma(width=width, **{"read_clients": 2, "write_clients": 2, "timeout_cycles": 1 << 16} | kwargs)
            self.strobes = {name: self.dut.events[name] for name, _ in self.dut.events.shape()}
        elif part is Reader:
            self.dut = dut = Reader(width=width, **{"clients": 2, "timeout_cycles": 1 << 16} | kwargs)
            self.strobes = {"dma_read_tlps": dut.sent, "dma_read_errors": dut.error, "dma_timeouts": dut.timeout,
                            "cpl_unexpected": dut.unexpected, "tlps_malformed": dut.malformed}
        else:
            self.dut = Writer(width=width, **{"clients": 2} | kwargs)
            self.strobes = {"dma_write_tlps": self.dut.sent}
        self.mps, self.mrrs = mps, mrrs
        self.log, self.pending, self.written, self.cycle = [], [], {}, 0
        self.answer = True
        self.change = None        # tlps of one read request -> tlps sent
        self.events = dict.fromkeys(self.strobes, 0)
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
            _, _, valid, beat, *events = await ctx.tick().sample(dut.tlp.valid, dut.tlp.payload, *self.strobes.values())
            self.cycle += 1
            for name, event in zip(self.strobes, events):
                self.events[name] += event
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
                ctx.set(port.data.payload, {"data": int.from_bytes(piece, "little"),
                                            "last": at + self.size >= len(body)})
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
            for name, value in (("mps", self.mps), ("mrrs", self.mrrs)):
                if hasattr(dut, name):
                    ctx.set(getattr(dut, name), value)

        async def watchdog(ctx):
            for _ in range(limit):
                await ctx.tick()
            raise AssertionError("watchdog")
        sim.add_testbench(setup)
        sim.add_testbench(watchdog, background=True)
        sim.add_testbench(self.watch, background=True)
        if hasattr(dut, "cpl"):
            sim.add_testbench(self.complete, background=True)
        for bench in background:
            sim.add_testbench(bench, background=True)
        for bench in benches:
            sim.add_testbench(bench)
        sim.run()

    def reading(self, *per_client):
        """Benches that ask and check, two for each client."""
        for client, requests in enumerate(per_client):
            async def ask(ctx, client=client, requests=requests):
                await self.ask(ctx, client, requests)

            async def check(ctx, client=client, requests=requests):
                await self.read(ctx, client, requests)
            yield from (ask, check)


@pytest.fixture
def host():
    """Make a :class:`Host`."""
    return Host
