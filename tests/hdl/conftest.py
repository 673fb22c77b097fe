"""A host for whole functions: what a root complex does, one TLP after the other, with a memory of its own."""

import pytest

from ringnic.hdl.spec.pcie import Cfg, Command

BAR, RID, ROOT = 0xfe00_0000, 0x0100, 0x0008


class Host:
    """Registers by ``read`` and ``write`` (of BAR 0), ``cfg_read`` and ``cfg_write``; DMA goes to ``memory``, of bytes."""
    def __init__(self, dut, width):
        self.dut, self.lanes = dut, width // 8
        self.out, self.completions, self.memory, self.writes = [], [], {}, []
        self.intx = False

    def attach(self, sim):
        sim.add_testbench(self.send, background=True)
        sim.add_testbench(self.receive, background=True)

    async def send(self, ctx):
        port = self.dut.tlp_rx
        while True:
            if not self.out:
                await ctx.tick()
                continue
            tlp = self.out.pop(0)
            for at in range(0, len(tlp), self.lanes):
                piece = tlp[at:at + self.lanes]
                ctx.set(port.payload, {"data": int.from_bytes(piece, "little"), "dws": len(piece) // 4,
                                       "last": at + self.lanes >= len(tlp)})
                ctx.set(port.valid, 1)
                while not (await ctx.tick().sample(port.ready))[2]:
                    pass
            ctx.set(port.valid, 0)

    async def receive(self, ctx):
        port, tlp = self.dut.tlp_tx, b""
        ctx.set(port.ready, 1)
        async for _, _, valid, beat in ctx.tick().sample(port.valid, port.payload):
            if valid:
                tlp += beat.data.to_bytes(self.lanes, "little")[:4 * beat.dws]
                if beat.last:
                    self.take(tlp)
                    tlp = b""

    def take(self, tlp):
        kind, dws = tlp[0], int.from_bytes(tlp[2:4], "big") & 0x3ff
        if kind & 0x1f == 0x0a:
            assert int.from_bytes(tlp[8:10], "big") == ROOT
            self.completions.append((tlp[6] >> 5, int.from_bytes(tlp[12:], "little")))
            return
        if kind & 0x38 == 0x30:                        # a message: Assert_INTA or Deassert_INTA
            self.intx = {0x20: True, 0x24: False}[tlp[7]]
            return
        assert kind in (0x00, 0x20, 0x40, 0x60)
        start = 16 if kind & 0x20 else 12
        addr = int.from_bytes(tlp[8:start], "big")
        first, last = tlp[7] & 0xf, tlp[7] >> 4
        enables = [first] + [0xf] * (dws - 2) + [last] * (dws > 1)
        places = [addr + 4 * dw + k for dw, lanes in enumerate(enables) for k in range(4) if lanes >> k & 1]
        if kind & 0x40:
            self.writes.append((places[0], len(places)))
            for place in places:
                self.memory[place] = tlp[start + place - addr]
        else:
            answer = bytes(self.memory.get(addr + k, 0) for k in range(4 * dws))
            header = (0x4a << 24 | dws, ROOT << 16 | len(places), int.from_bytes(tlp[4:6], "big") << 16 | tlp[6] << 8
                      | places[0] & 0x7f)
            self.out.append(b"".join(dw.to_bytes(4, "big") for dw in header) + answer)

    def put(self, *dws, data=b""):
        self.out.append(b"".join(dw.to_bytes(4, "big") for dw in dws) + data)

    async def completion(self, ctx, limit=400):
        for _ in range(limit):
            if self.completions:
                status, value = self.completions.pop(0)
                assert status == 0
                return value
            await ctx.tick()
        raise AssertionError(f"no completion in {limit} cycles")

    async def cfg_read(self, ctx, register):
        self.put(4 << 24 | 1, ROOT << 16 | 0xf, RID << 16 | register)
        return await self.completion(ctx)

    async def cfg_write(self, ctx, register, value):
        self.put(0x44 << 24 | 1, ROOT << 16 | 0xf, RID << 16 | register, data=value.to_bytes(4, "little"))
        await self.completion(ctx)

    async def enable(self, ctx):
        await self.cfg_write(ctx, Cfg.BAR0, BAR)
        await self.cfg_write(ctx, Cfg.COMMAND, 1 << Command.MEMORY_ENABLE | 1 << Command.BUS_MASTER)

    async def read(self, ctx, offset, size=4):
        lane = offset % 4
        self.put(1, ROOT << 16 | ((1 << size) - 1) << lane, BAR + offset - lane)
        return await self.completion(ctx) >> 8 * lane & ((1 << 8 * size) - 1)

    async def write(self, ctx, offset, value, size=4):
        lane = offset % 4
        self.put(0x40 << 24 | 1, ROOT << 16 | ((1 << size) - 1) << lane, BAR + offset - lane,
                 data=(value << 8 * lane).to_bytes(4, "little"))

    def load(self, addr, value, size):
        for k, byte in enumerate(value.to_bytes(size, "little")):
            self.memory[addr + k] = byte

    def get(self, addr, size):
        return int.from_bytes(bytes(self.memory.get(addr + k, 0) for k in range(size)), "little")


@pytest.fixture
def make_host():
    """``make_host(dut, width)``."""
    return Host
