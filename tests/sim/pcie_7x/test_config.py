"""Configuration space: what the block keeps, what it leaves to the user, and what it shows at its ports.

Ref: PG054, "PCI Configuration Space", "Configuration Interface"; PCI Express Base 5.0, 7.5.
"""

import pytest

from ringnic.hdl.spec.bar import BAR_SIZE
from ringnic.hdl.spec.pcie import Cfg, Exp
from ringnic.hdl.spec.pcie_7x import WINDOW_START
from ringnic.sim.pcie_7x import Identity

from ...kit import tlps
from ...kit.simulation import cycles, until
from .conftest import BAR, EXP, MSIX, RID, ROOT

PM = 0x40


def test_identity(rig):
    """All of it, by hand; 0x20 vectors."""
    bench = rig(identity=Identity(device_id=0x1041, subsystem_id=0x0040, msix_vectors=0x20))
    lanes = 1 if bench.width == 64 else 4
    expected = {
        0x00: 0x1041_1af4, 0x04: 0x0010_0000, 0x08: 0x0200_0001, 0x0c: 0, 0x10: 0, 0x14: 0, 0x24: 0, 0x28: 0, 0x2c: 0x0040_1af4,
        0x30: 0, 0x34: 0x40, 0x38: 0, 0x3c: 0x0100,
        0x40: 0x0003_6001, 0x44: 0x0000_0008, 0x48: 0, 0x5c: 0,
        0x60: 0x0002_9c10, 0x64: 0x0000_8022, 0x68: 0x0000_2810, 0x6c: 0x0000_0402 | lanes << 4, 0x70: 0x1002_0000 | lanes << 20,
        0x84: 0x0000_0012, 0x88: 0, 0x8c: 0, 0x90: 0x0000_0002,
        0x9c: 0x001f_a811, 0xa0: 0x4000, 0xa4: 0x5000,
        0x100: 0, 0x1fc: 0, 0xffc: 0,
    }

    async def testbench(ctx, dut):
        for at, value in expected.items():
            assert await bench.config_read(ctx, at) == value, hex(at)
    bench.run(testbench)


WRITABLE = {
    Cfg.COMMAND: 0x0000_0546, Cfg.CACHE_LINE_SIZE: 0xff, Cfg.BAR0: 0x1_0000_0000 - BAR_SIZE, 0x14: 0, Cfg.INTERRUPT_LINE: 0xff,
    PM: 0, EXP + Exp.DEV_CTL: 0x79ff, EXP + Exp.LNK_CTL: 0xcb, EXP + Exp.DEV_CTL2: 0x1f, MSIX: 0xc000_0000, 0x100: 0,
}


def test_writable(rig):
    """Which bits the host changes, byte by byte."""
    bench = rig()

    async def testbench(ctx, dut):
        for at, mask in WRITABLE.items():
            await bench.config_write(ctx, at, 0xffff_ffff)
            ones = await bench.config_read(ctx, at)
            await bench.config_write(ctx, at, 0)
            zeros = await bench.config_read(ctx, at)
            assert ones ^ zeros == mask and zeros & mask == 0, hex(at)
            for k in range(4):
                await bench.config_write(ctx, at + k, 0xff, 1)
                assert (await bench.config_read(ctx, at)) & mask == mask & (0xff << 8 * k), hex(at)
                await bench.config_write(ctx, at, 0)
    bench.run(testbench)


def test_what_the_ports_show(rig):
    """Control registers, power state, MSI-X bits: as written, and no later than the completion leaves."""
    bench = rig()

    async def testbench(ctx, dut):
        assert [ctx.get(port) for port in (dut.cfg_command, dut.cfg_dcommand, dut.cfg_status)] == [0, 0x2810, 0x10]
        for at, value, port in [(Cfg.COMMAND, 0x0546, dut.cfg_command), (EXP + Exp.DEV_CTL, 0x51af, dut.cfg_dcommand),
                                (EXP + Exp.LNK_CTL, 0x48, dut.cfg_lcommand), (EXP + Exp.DEV_CTL2, 0x11, dut.cfg_dcommand2),
                                (PM + 4, 3, dut.cfg_pmcsr_powerstate)]:
            await bench.config_write(ctx, at, value, 2)
            assert ctx.get(port) == value, hex(at)
        await bench.config_write(ctx, PM + 4, 1, 2)        # D1 is not supported
        assert ctx.get(dut.cfg_pmcsr_powerstate) == 3
        for value in (0x8000, 0xc000, 0x4000, 0):
            await bench.config_write(ctx, MSIX + 2, value, 2)
            assert (ctx.get(dut.cfg_interrupt_msixenable), ctx.get(dut.cfg_interrupt_msixfm)) == (value >> 15, value >> 14 & 1)
        lanes = 1 if bench.width == 64 else 4
        assert ctx.get(dut.cfg_lstatus) == 0x1002 | lanes << 4
    bench.run(testbench)


def test_captured_numbers(rig):
    """2.2.6.2: bus and device are those of the last configuration write, in the window too; a read changes nothing."""
    bench = rig()

    async def testbench(ctx, dut):
        async def ports():
            await bench.settle(ctx)
            return ctx.get(dut.cfg_bus_number) << 8 | ctx.get(dut.cfg_device_number) << 3 | ctx.get(dut.cfg_function_number)
        cpl = await bench.answer(ctx, tlps.config(False, 0, target=0x1230, rid=ROOT))
        assert cpl.cid == 0 and await ports() == 0
        cpl = await bench.answer(ctx, tlps.config(True, 0x3c, 1, data=bytes(4), target=0x1230, rid=ROOT))
        assert cpl.cid == 0x1230 and await ports() == 0x1230
        bench.put(tlps.config(True, WINDOW_START, data=bytes(4), target=0x2340, rid=ROOT))
        assert await ports() == 0x2340
        cpl = await bench.answer(ctx, tlps.config(False, 0, target=0x1230, rid=ROOT, tag=0x17))
        assert (cpl.cid, cpl.tag) == (0x2340, 0x17)
    bench.run(testbench)


def test_window(rig, rng):
    """0xa8 to 0xff come to the user as they are, reads and writes, and the block answers none of them; its neighbours it does."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.sent.clear()
        inside = [tlps.config(way, at, data=rng.randbytes(4) if way else b"", target=RID, rid=ROOT)
                  for at in range(WINDOW_START, 0x100, 4) for way in (False, True)]
        bench.put(*inside)
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == inside and not bench.sent
        assert not any(one.bar for one in bench.came)
        for at in (WINDOW_START - 4, 0x100, 0x1a8, 0x8a8):
            await bench.config_read(ctx, at)
        assert len(bench.came) == len(inside)
    bench.run(testbench)


@pytest.mark.parametrize("what", ["function", "type 1"])
def test_configuration_of_others(rig, what):
    """2.3.1, 7.3.3: another function, and type 1, are unsupported; nothing is written."""
    bench = rig()
    target, kind = (RID | 1, tlps.CONFIG) if what == "function" else (RID, 0x05)

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        for at in (Cfg.COMMAND, WINDOW_START):
            for write in (False, True):
                cpl = await bench.answer(ctx, tlps.config(write, at, data=bytes(4 * write), target=target, rid=ROOT, type=kind))
                assert (cpl.kind, cpl.status, cpl.byte_count) == (tlps.CPL, 1, 4)
        assert ctx.get(dut.cfg_command) == 6 and not bench.came
    bench.run(testbench)


def test_a_poisoned_write_changes_nothing(rig):
    """2.7.2.2 "Rules For Use of Data Poisoning": a configuration write; its completion says Unsupported Request."""
    bench = rig()
    tlp = bytearray(tlps.config(True, Cfg.COMMAND, data=b"\xff\xff\0\0", target=RID, rid=ROOT))
    tlp[2] |= 0x40

    async def testbench(ctx, dut):
        cpl = await bench.answer(ctx, bytes(tlp))
        assert (cpl.status, cpl.data) == (1, b"") and ctx.get(dut.cfg_command) == 0
    bench.run(testbench)


def test_the_users_own_access(rig):
    """cfg_mgmt_*: DW address, byte enables, a strobe when it is done; between the host's accesses."""
    bench = rig()

    async def testbench(ctx, dut):
        async def access(strobe, dw):
            ctx.set(dut.cfg_mgmt_dwaddr, dw)
            ctx.set(strobe, 1)
            done = False
            while not done:
                _, _, done, value = await ctx.tick().sample(dut.cfg_mgmt_rd_wr_done, dut.cfg_mgmt_do)
            ctx.set(strobe, 0)
            await ctx.tick()
            return value
        await bench.wake(ctx)
        assert await access(dut.cfg_mgmt_rd_en, Cfg.BAR0 // 4) == BAR
        assert await access(dut.cfg_mgmt_rd_en, 0) == 0x1041_1af4
        bench.put(*(tlps.config(False, 0x10, target=RID, rid=ROOT) for _ in range(20)))
        ctx.set(dut.cfg_mgmt_di, 0xaaaa_aaaa)
        ctx.set(dut.cfg_mgmt_byte_en, 0b0001)
        for _ in range(10):
            await access(dut.cfg_mgmt_wr_en, Cfg.CACHE_LINE_SIZE // 4)
            assert await access(dut.cfg_mgmt_rd_en, Cfg.CACHE_LINE_SIZE // 4) == 0xaa
        await bench.settle(ctx)
        assert {tlps.parse(tlp).data for tlp in bench.sent[3:]} == {BAR.to_bytes(4, "little")}
    bench.run(testbench)


def test_transactions_pending(rig):
    """7.5.3.5: Device Status shows cfg_trn_pending; Status shows cfg_interrupt_stat."""
    bench = rig()

    async def testbench(ctx, dut):
        for pending in (0, 1, 0):
            ctx.set(dut.cfg_trn_pending, pending)
            ctx.set(dut.cfg_interrupt_stat, pending)
            await cycles(ctx, 2)
            assert await bench.config_read(ctx, EXP + Exp.DEV_STA, 2) == pending << 5 == ctx.get(dut.cfg_dstatus)
            assert await bench.config_read(ctx, Cfg.STATUS, 2) == 0x10 | pending << 3 == ctx.get(dut.cfg_status)
    bench.run(testbench)


def test_asleep(rig, rng):
    """5.3.1.4.1 "D3hot State": configuration goes on, memory requests are unsupported."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        await bench.config_write(ctx, PM + 4, 3, 2)
        cpl = await bench.answer(ctx, tlps.memory(False, BAR, rid=ROOT))
        assert cpl.status == 1 and not bench.came
        await bench.config_write(ctx, PM + 4, 0, 2)
        bench.put(tlps.memory(False, BAR, rid=ROOT))
        await until(ctx, lambda: len(bench.came) == 1)
    bench.run(testbench)
