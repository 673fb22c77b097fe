"""What DMA is tested with: the host at the other end of the TLPs; and what a configuration space is tested with."""

from functools import cache
import random

import pytest

from ringnic.hdl.pcie.dma import Dma
from ringnic.hdl.pcie.dma_read import Reader
from ringnic.hdl.pcie.dma_write import Writer

from ...kit import registers, streams, tlps
from ...kit.simulation import Simulation

# One that is simulated again is not elaborated again.
dma, reader, writer = cache(Dma), cache(Reader), cache(Writer)

RID = 0x0508


def on_config(dut, body):
    """Run ``body(ctx, dut, read, write, log)`` on a component with ``cfg`` and ``regs``; return the accesses to the BAR.

    The registers behind it hold 0x44332211 until they are written. An access in ``log`` is its address, whether it is a write,
    its byte enables, and the data of a write.
    """
    log, bar = [], {page << 12: 0x4433_2211 for page in range(4)}

    async def main(ctx):
        async def read(ctx, at, be=0xf):
            return await registers.read(ctx, dut.cfg, at, be)

        async def write(ctx, at, value, be=0xf):
            await registers.write(ctx, dut.cfg, at, value, be)
        await body(ctx, dut, read, write, log)
        await ctx.tick().repeat(5)
    simulation = Simulation(dut)
    simulation.background(registers.serve, dut.regs, bar, streams.never, lambda req: log.append(
        (req.addr, req.write, req.be, req.data if req.write else None)))
    simulation.run(main)
    return log


class Host:
    """Host memory behind a ``Dma``, or behind its reader or writer alone: checks every TLP, answers reads split and out
    of order, and drives the ports."""
    def __init__(self, width, *, part=Dma, seed=0, hold=False, rcb=64, mps=0, mrrs=2, watch_busy=None, **kwargs):
        # A stop cuts reads short whose answers nobody takes, and the whole Dma is tested with stops.
        self.watch_busy = part is not Dma if watch_busy is None else watch_busy
        self.width, self.size, self.rng, self.hold, self.rcb = width, width // 8, random.Random(seed), hold, rcb
        if part is Dma:
            self.dut = dma(width=width, **{"read_clients": 2, "write_clients": 2, "timeout_cycles": 1 << 16} | kwargs)
            self.strobes = {name: self.dut.events[name] for name, _ in self.dut.events.shape()}
        elif part is Reader:
            self.dut = dut = reader(width=width, **{"clients": 2, "timeout_cycles": 1 << 16} | kwargs)
            self.strobes = {"dma_read_tlps": dut.sent, "dma_read_errors": dut.error, "dma_timeouts": dut.timeout,
                            "cpl_unexpected": dut.unexpected, "tlps_malformed": dut.malformed}
        else:
            self.dut = writer(width=width, **{"clients": 2} | kwargs)
            self.strobes = {"dma_write_tlps": self.dut.sent}
        self.mps, self.mrrs = mps, mrrs
        self.log, self.pending, self.written, self.cycle = [], [], {}, 0
        self.answer = True
        self.change = None        # tlps of one read request -> tlps sent
        self.events = dict.fromkeys(self.strobes, 0)

    def byte(self, addr):
        return (addr * 0x9d + (addr >> 8) * 0x35 + 7) & 0xff

    def idle(self):
        return self.hold and self.rng.random() < 0.3

    completion = staticmethod(tlps.completion)

    def completions(self, addr, length, first, last, tag):
        """Whole answer to one read, cut at RCB wherever chance has it."""
        enables = tlps.byte_enables(first, last, length)
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
        came = tlps.parse(tlp)
        fields = came.addr, came.length, came.first, came.last, came.tag
        assert came.kind & 0x1f == 0 and came.rid == RID
        assert bool(came.kind & 0x20) == (came.addr >= 1 << 32) and came.addr & 3 == 0
        assert (came.addr & 0xfff) + 4 * came.length <= 4096
        assert came.first and bool(came.last) == (came.length > 1)
        if came.write:
            assert 4 * came.length <= 128 << self.mps
            for place in came.places:
                assert place not in self.written
                self.written[place] = came.data[place - came.addr]
        else:
            assert 4 * came.length <= 128 << self.mrrs
            assert came.tag not in [p[1] for p in self.pending]
            answer = self.completions(*fields)
            if self.change:
                answer = self.change(answer, came.tag)
            self.pending.append((answer, came.tag))
        self.log.append((came.write, *fields, self.cycle))

    async def count(self, ctx):
        async for _, _, *events in ctx.tick().sample(*self.strobes.values()):
            self.cycle += 1
            for name, event in zip(self.strobes, events):
                self.events[name] += event

    async def watch(self, ctx):
        await tlps.take(ctx, self.dut.tlp, self.width, self.take, lambda: self.idle())

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
            for beat in tlps.beats(tlp, self.width):
                while self.idle():
                    await ctx.tick()
                ctx.set(port.payload, beat)
                ctx.set(port.valid, 1)
                assert ctx.get(port.ready)
                await ctx.tick()
                ctx.set(port.valid, 0)

    async def ask(self, ctx, client, requests):
        for addr, length in requests:
            await streams.send(ctx, self.dut.reads[client].req, {"addr": addr, "len": length}, self.idle)

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

    async def write(self, ctx, client, requests, late=streams.never, fill=0x5a):
        """``(addr, bytes)`` or ``(addr, bytes, lane)`` of each request; a pause before a beat of data as long as ``late()``. What
        does not belong to it in its beats is ``fill``."""
        port = self.dut.writes[client]
        for addr, body, *lane in requests:
            await streams.send(ctx, port.req, {"addr": addr, "len": len(body), "lane": lane[0] if lane else 0}, self.idle)
            body = bytes([fill] * lane[0] if lane else []) + body
            for at in range(0, len(body), self.size):
                piece = body[at:at + self.size].ljust(self.size, bytes([fill]))
                await streams.send(ctx, port.data, {"data": int.from_bytes(piece, "little"), "last": at + self.size >= len(body)},
                                   late)

    def run(self, *benches, limit=200000, background=()):
        dut = self.dut

        async def setup(ctx):
            ctx.set(dut.requester_id, RID)
            ctx.set(dut.bus_master, 1)
            for name, value in (("mps", self.mps), ("mrrs", self.mrrs)):
                if hasattr(dut, name):
                    ctx.set(getattr(dut, name), value)
        # A stop throws answers away; :meth:`watch` holds TLPs to the rule even then.
        simulation = Simulation(dut, limit=limit, forget=getattr(dut, "stop", None), watch_busy=self.watch_busy)
        for bench in (self.count, self.watch, *([self.complete] if hasattr(dut, "cpl") else []), *background):
            simulation.background(bench)
        simulation.run(setup, *benches)

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
