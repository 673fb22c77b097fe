"""MSI-X table, masking, pending bits and messages; INTx messages."""

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.pcie.msix import Msix

TABLE, PBA = 0x4000, 0x5000


class Bench:
    def __init__(self, vectors=3, width=64):
        self.dut, self.sent, self.stall = Msix(vectors=vectors, width=width), [], False

    async def write(self, ctx, at, value, be=0xf):
        req = self.dut.regs.req
        ctx.set(req.payload, {"addr": at, "write": 1, "be": be, "data": value})
        ctx.set(req.valid, 1)
        await ctx.tick().until(req.ready)
        ctx.set(req.valid, 0)

    async def read(self, ctx, at):
        req, resp = self.dut.regs.req, self.dut.regs.resp
        ctx.set(req.payload, {"addr": at, "write": 0, "be": 15, "data": 0})
        ctx.set(req.valid, 1)
        await ctx.tick().until(req.ready)
        ctx.set(req.valid, 0)
        await ctx.tick().repeat(2)
        ctx.set(resp.ready, 1)
        value, = await ctx.tick().sample(resp.payload).until(resp.valid)
        ctx.set(resp.ready, 0)
        return value

    async def irq(self, ctx, vector):
        ctx.set(self.dut.irq.payload, vector)
        ctx.set(self.dut.irq.valid, 1)
        await ctx.tick()
        assert ctx.get(self.dut.irq.ready)
        ctx.set(self.dut.irq.valid, 0)

    async def setup(self, ctx, vectors):
        for v in range(vectors):
            for k, value in enumerate([0xfee00003 + 16 * v, v, 0x4000 + v, 0]):
                await self.write(ctx, TABLE + 16 * v + 4 * k, value)

    async def serve(self, ctx):
        port = self.dut.write
        while True:
            ctx.set(port.req.ready, not self.stall)
            _, _, valid, ready, req = await ctx.tick().sample(port.req.valid, port.req.ready, port.req.payload)
            ctx.set(port.req.ready, 0)
            if valid and ready:
                ctx.set(port.data.ready, 1)
                _, _, valid, beat = await ctx.tick().sample(port.data.valid, port.data.payload)
                ctx.set(port.data.ready, 0)
                assert valid and beat.last and req.len == 4
                self.sent.append((req.addr, beat.data))

    def run(self, body):
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)

        async def main(ctx):
            ctx.set(self.dut.enable, 1)
            ctx.set(self.dut.bus_master, 1)
            await body(ctx)
        sim.add_testbench(main)
        sim.add_testbench(self.serve, background=True)
        sim.run()


def message(v):
    return 0xfee00000 + 16 * v | v << 32, 0x4000 + v


@pytest.mark.parametrize("vectors", [0, 257])
def test_constructor(vectors):
    with pytest.raises(ValueError, match=f"^Number of vectors must be from 1 to 256, not {vectors}$"):
        Msix(vectors=vectors, width=64)


@pytest.mark.parametrize("vectors, width", [(1, 32), (3, 64), (40, 128)])
def test_table_and_send(vectors, width):
    b = Bench(vectors, width)

    async def body(ctx):
        assert [await b.read(ctx, TABLE + 16 * v + 12) for v in range(vectors + 1)] == [1] * vectors + [0]
        await b.setup(ctx, vectors)
        assert await b.read(ctx, TABLE + 16 * (vectors - 1)) == 0xfee00003 + 16 * (vectors - 1)
        await b.write(ctx, TABLE + 8, 0xaa55aa55, be=0b0100)
        assert await b.read(ctx, TABLE + 8) == 0x00554000
        await b.write(ctx, TABLE + 8, 0x4000)
        await b.write(ctx, TABLE + 16 * vectors, 0xffffffff)
        assert await b.read(ctx, TABLE + 16 * vectors) == 0
        for v in range(vectors):
            await b.irq(ctx, v)
        await b.irq(ctx, vectors)
        await b.irq(ctx, 0x7ff)
        await ctx.tick().repeat(12 * vectors + 12)
        assert sorted(b.sent) == [message(v) for v in range(vectors)]
    b.run(body)


def test_masking_and_pending():
    b = Bench(40)

    async def body(ctx):
        await b.setup(ctx, 40)
        await b.write(ctx, TABLE + 16 * 33 + 12, 1)
        for _ in range(3):
            await b.irq(ctx, 33)
        await ctx.tick().repeat(20)
        assert b.sent == [] and await b.read(ctx, PBA + 4) == 2 and await b.read(ctx, PBA) == 0
        assert await b.read(ctx, PBA + 8) == 0 and await b.read(ctx, TABLE + 16 * 33 + 12) == 1
        ctx.set(b.dut.function_mask, 1)
        await b.write(ctx, TABLE + 16 * 33 + 12, 0)
        await b.irq(ctx, 2)
        await ctx.tick().repeat(20)
        assert b.sent == [] and await b.read(ctx, PBA) == 4
        ctx.set(b.dut.function_mask, 0)
        await ctx.tick().repeat(30)
        assert b.sent == [message(2), message(33)] and await b.read(ctx, PBA + 4) == 0
    b.run(body)


def test_busy_vector_leaves_room_for_others():
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        b.stall = True
        await ctx.tick()
        for v in (1, 2):
            await b.irq(ctx, v)
        b.stall = False
        for _ in range(30):
            await b.irq(ctx, 0)
        assert {message(1), message(2)} <= set(b.sent[:4])
    b.run(body)


@pytest.mark.parametrize("gap", range(12))
def test_a_message_leaves_after_every_interrupt(gap):
    """Whatever the one before of the same vector is at."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        await b.irq(ctx, 0)
        for _ in range(gap):
            await ctx.tick()
        before = len(b.sent) + ctx.get(b.dut.write.data.valid)
        await b.irq(ctx, 0)
        await ctx.tick().repeat(40)
        assert before < len(b.sent) <= 2
    b.run(body)


def test_stalled_message_holds_no_access():
    """Else the host could not reach Bus Master to end the stall."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        b.stall = True
        await ctx.tick()
        await b.irq(ctx, 0)
        await ctx.tick().repeat(10)
        assert ctx.get(b.dut.write.req.valid) and await b.read(ctx, TABLE + 8) == 0x4000
        await b.write(ctx, TABLE + 12, 1)
        ctx.set(b.dut.bus_master, 0)
        await b.irq(ctx, 1)
        b.stall = False
        await ctx.tick().repeat(20)
        assert b.sent == [message(0)] and await b.read(ctx, PBA) == 2
        ctx.set(b.dut.bus_master, 1)
        await ctx.tick().repeat(20)
        assert b.sent == [message(0), message(1)]
    b.run(body)


def test_reset_and_disable():
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        b.stall = True
        await ctx.tick()
        await b.irq(ctx, 0)
        await b.irq(ctx, 1)
        await ctx.tick().repeat(10)
        ctx.set(b.dut.reset, 1)
        await ctx.tick()
        ctx.set(b.dut.reset, 0)
        b.stall = False
        await ctx.tick().repeat(20)
        assert b.sent == [] and await b.read(ctx, TABLE + 12) == 0
        ctx.set(b.dut.enable, 0)
        await b.irq(ctx, 0)
        ctx.set(b.dut.enable, 1)
        await ctx.tick().repeat(20)
        assert b.sent == []
        ctx.set(b.dut.reset, 1)
        ctx.set(b.dut.clear, 1)
        await ctx.tick()
        ctx.set(b.dut.reset, 0)
        ctx.set(b.dut.clear, 0)
        assert [await b.read(ctx, TABLE + 16 * v + 12) for v in range(3)] == [1, 1, 1]
    b.run(body)
