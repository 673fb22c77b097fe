"""MsixTable: what the host writes and reads, and what is read beside it."""

from ringnic.hdl.pcie.msix_table import MsixTable
from ringnic.hdl.spec.bar import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET

from ...kit import registers
from ...kit.simulation import Simulation
from ...kit.streams import pulse

VECTORS = 3


def simulate(main):
    dut = MsixTable(vectors=VECTORS)

    async def whole(ctx):
        await main(ctx, dut)
    Simulation(dut).run(whole)


def test_entries():
    async def main(ctx, dut):
        expected = [0x1111_1100 + k for k in range(4 * VECTORS)]
        for k, value in enumerate(expected):
            await registers.write(ctx, dut.regs, MSIX_TABLE_OFFSET + 4 * k, value)
        await registers.write(ctx, dut.regs, MSIX_TABLE_OFFSET, 0xffff_ffff, 0b0010)
        expected[0] = expected[0] & 0xffff_00ff | 0xff00
        expected[3::4] = [value & 1 for value in expected[3::4]]      # of an entry's last DW only the mask bit exists
        for k, value in enumerate([*expected, 0, 0]):
            assert await registers.read(ctx, dut.regs, MSIX_TABLE_OFFSET + 4 * k) == value
        for k, value in enumerate(expected):
            if k % 4 != 3:
                ctx.set(dut.dw, k)
                await ctx.tick()
                assert ctx.get(dut.data) == value
    simulate(main)


def test_masks():
    async def main(ctx, dut):
        assert ctx.get(dut.masked) == 0b111
        for vector in (0, 2, 3):                                     # the last one does not exist
            await registers.write(ctx, dut.regs, MSIX_TABLE_OFFSET + 16 * vector + 12, 0xffff_fffe)
        assert ctx.get(dut.masked) == 0b010
        await registers.write(ctx, dut.regs, MSIX_TABLE_OFFSET + 12, 1, 0b1110)
        assert ctx.get(dut.masked) == 0b010
        for signal in (dut.reset, dut.clear):
            await pulse(ctx, signal)
            assert ctx.get(dut.masked) == 0b010
        await pulse(ctx, dut.reset, dut.clear)
        assert ctx.get(dut.masked) == 0b111
    simulate(main)


def test_what_is_told_of_accesses():
    async def main(ctx, dut):
        seen = []

        async def access(addr, write):
            ctx.set(dut.regs.req.p, {"addr": addr, "write": write, "be": 0xf, "data": 0})
            ctx.set(dut.regs.req.valid, 1)
            ctx.set(dut.regs.resp.ready, 1)
            await ctx.delay(1e-10)
            seen.append((ctx.get(dut.changed), ctx.get(dut.reads)))
            await ctx.tick()
            ctx.set(dut.regs.req.valid, 0)
            await ctx.tick().repeat(4)
            assert not ctx.get(dut.busy)
        await access(MSIX_TABLE_OFFSET, 1)
        await access(MSIX_TABLE_OFFSET + 16 * VECTORS, 1)
        await access(MSIX_PBA_OFFSET, 1)
        await access(MSIX_TABLE_OFFSET, 0)
        ctx.set(dut.pending, 0b101)
        assert await registers.read(ctx, dut.regs, MSIX_PBA_OFFSET) == 0b101
        assert await registers.read(ctx, dut.regs, MSIX_PBA_OFFSET + 4) == 0
        assert seen == [(1, 0), (0, 0), (0, 0), (0, 1)]
    simulate(main)
