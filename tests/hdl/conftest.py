"""Benches for parts with this test's seed, and a host for whole functions: what a root complex does, one TLP after the other."""

from functools import partial

import pytest

from ringnic.hdl.spec.pcie import Cfg, Command

from ..kit import tlps
from ..kit.memory import Memory, MemoryBench
from ..kit.simulation import until

BAR, RID, ROOT = 0xfe00_0000, 0x0100, 0x0008


class Host:
    """Registers by ``read`` and ``write`` (of BAR 0), ``cfg_read`` and ``cfg_write``; DMA goes to ``memory``."""
    def __init__(self, dut, width, seed):
        self.dut, self.width, self.memory = dut, width, Memory(seed, everywhere=True)
        self.out, self.completions, self.writes = [], [], []
        self.intx = False

    def attach(self, sim):
        sim.add_testbench(self.send, background=True)
        sim.add_testbench(self.receive, background=True)

    async def send(self, ctx):
        while True:
            if self.out:
                await tlps.put(ctx, self.dut.tlp_rx, self.out.pop(0), self.width)
            else:
                await ctx.tick()

    async def receive(self, ctx):
        await tlps.take(ctx, self.dut.tlp_tx, self.width, lambda tlp: self.take(tlp))

    def take(self, tlp):
        came = tlps.parse(tlp)
        if came.kind & 0x1f == tlps.CPL:
            assert came.rid == ROOT
            self.completions.append((came.status, int.from_bytes(came.data, "little")))
            return
        if came.kind & 0x38 == 0x30:                   # a message: Assert_INTA or Deassert_INTA
            self.intx = {0x20: True, 0x24: False}[came.code]
            return
        assert came.kind in (0x00, 0x20, 0x40, 0x60)
        start, count = came.places[0], len(came.places)
        if came.write:
            self.writes.append((start, count))
            for place in came.places:
                self.memory.write(place, came.data[place - came.addr:][:1])
        else:
            self.out.append(tlps.completion(came.tag, came.length, count, start, self.memory.read(came.addr, 4 * came.length),
                                            rid=came.rid, completer=ROOT))

    async def completion(self, ctx):
        await until(ctx, lambda: self.completions, 400)
        status, value = self.completions.pop(0)
        assert status == 0
        return value

    async def cfg_read(self, ctx, register):
        self.out.append(tlps.config(0, register, rid=ROOT, target=RID))
        return await self.completion(ctx)

    async def cfg_write(self, ctx, register, value):
        self.out.append(tlps.config(1, register, rid=ROOT, target=RID, data=value.to_bytes(4, "little")))
        await self.completion(ctx)

    async def enable(self, ctx):
        await self.cfg_write(ctx, Cfg.BAR0, BAR)
        await self.cfg_write(ctx, Cfg.COMMAND, 1 << Command.MEMORY_ENABLE | 1 << Command.BUS_MASTER)

    async def read(self, ctx, offset, size=4):
        lane = offset % 4
        self.out.append(tlps.memory(0, BAR + offset - lane, first=((1 << size) - 1) << lane, rid=ROOT))
        return await self.completion(ctx) >> 8 * lane & ((1 << 8 * size) - 1)

    async def write(self, ctx, offset, value, size=4):
        lane = offset % 4
        self.out.append(tlps.memory(1, BAR + offset - lane, first=((1 << size) - 1) << lane, rid=ROOT,
                                    data=(value << 8 * lane).to_bytes(4, "little")))

    def load(self, addr, value, size):
        self.memory.write(addr, value.to_bytes(size, "little"))

    def get(self, addr, size):
        return int.from_bytes(self.memory.read(addr, size), "little")


@pytest.fixture
def make_host(seed):
    """``make_host(dut, width)``."""
    return partial(Host, seed=seed)


@pytest.fixture
def stage(rng, seed):
    """``stage(dut, **options)``: a :class:`MemoryBench` around it."""
    return partial(MemoryBench, rng=rng, seed=seed)
