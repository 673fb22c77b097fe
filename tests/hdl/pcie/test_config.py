"""Configuration space: what is read, what may be written, the capability list."""

import pytest

from ringnic.hdl.pcie.config import ConfigSpace, capabilities
from ringnic.hdl.pcie.parameters import PcieParameters
from ringnic.hdl.spec.bar import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET
from ringnic.hdl.spec.pcie import CapId

from .conftest import on_config


def run(body, **parameters):
    return on_config(ConfigSpace(**parameters), body)


def hit(ctx, dut, address):
    ctx.set(dut.address, address)
    return ctx.get(dut.bar_hit)


def test_constructor():
    with pytest.raises(ValueError, match="^Number of MSI-X vectors must be from 1 to 2048, not 0$"):
        ConfigSpace(msix_vectors=0)
    with pytest.raises(ValueError, match="^Maximum payload must be coded from 0 to 5, not 6$"):
        ConfigSpace(pcie=PcieParameters(max_payload=6))
    with pytest.raises(ValueError, match="^Link speed must be coded from 1 to 6, not 0$"):
        ConfigSpace(pcie=PcieParameters(link_speed=0))
    with pytest.raises(ValueError, match="^Link width must be one of 1, 2, 4, 8, 12, 16, 32 lanes, not 3$"):
        ConfigSpace(pcie=PcieParameters(link_width=3))
    with pytest.raises(ValueError, match="^Revision must be at least 1, not 0$"):
        ConfigSpace(revision_id=0)


def test_identity_and_list():
    async def body(ctx, dut, read, write, log):
        space = b"".join([(await read(ctx, at)).to_bytes(4, "little") for at in range(0, 0x108, 4)])
        assert space[:4] == bytes.fromhex("f41a4110") and space[8:12] == bytes.fromhex("01000002")
        assert space[0x2c:0x30] == bytes.fromhex("f41a4110") and space[0x3d] == 1 and space[6] == 0x10
        at, found = space[0x34], []
        while at:
            found.append((at, space[at]))
            at = space[at + 1]
        assert found == [(a, i) for a, i, *_ in capabilities()]
        virtio = [(space[a + 3], space[a + 2], space[a + 4], int.from_bytes(space[a + 8:a + 12], "little"),
                   int.from_bytes(space[a + 12:a + 16], "little")) for a, i in found if i == CapId.VENDOR]
        assert virtio == [(1, 16, 0, 0, 0x3c), (2, 20, 0, 0x3000, 0x1000), (3, 16, 0, 0x1000, 4),
                          (4, 16, 0, 0x2000, 0x1000), (5, 20, 0, 0, 0)]
        assert space[0xb8 + 16] == 4 and space[0x100:] == bytes(8)
        assert space[0x9e:0xa8] == bytes([32, 0]) + MSIX_TABLE_OFFSET.to_bytes(4, "little") + \
            MSIX_PBA_OFFSET.to_bytes(4, "little")
    assert run(body, msix_vectors=33) == []


def test_command_bar_and_power():
    async def body(ctx, dut, read, write, log):
        await write(ctx, 4, 0xffffffff)
        assert await read(ctx, 4) == 0x00100546
        await write(ctx, 0x10, 0xffffffff)
        assert await read(ctx, 0x10) == 0xffff8000
        await write(ctx, 0x10, 0xfe123456, be=0xc)
        assert [hit(ctx, dut, at) for at in (0xfe127fff, 0xfe128000, 0xfe12ffff, 0xfe130000, 1 << 32 | 0xfe128000)] == [
            0, 1, 1, 0, 0]
        assert ctx.get(dut.bus_master) and ctx.get(dut.intx_disable)
        await write(ctx, 0x44, 1)
        assert await read(ctx, 0x44) == 8
        await write(ctx, 0x44, 3)
        assert await read(ctx, 0x44) == 11 and ctx.get(dut.power_state) == 3
        assert not hit(ctx, dut, 0xfe128000) and not ctx.get(dut.bus_master)
        await write(ctx, 0x44, 0)
        assert hit(ctx, dut, 0xfe128000)
        ctx.set(dut.interrupt, 1)
        assert await read(ctx, 4) == 0x00180546
    run(body)


def test_device_control_and_flr():
    async def body(ctx, dut, read, write, log):
        assert await read(ctx, 0x68) == 0x2810 and (ctx.get(dut.mps), ctx.get(dut.mrrs)) == (0, 2)
        await write(ctx, 0x68, 0x7fff)
        assert await read(ctx, 0x68) == 0x79ff
        assert (ctx.get(dut.mps), ctx.get(dut.mrrs), ctx.get(dut.ext_tag)) == (1, 5, 1)
        ctx.set(dut.transactions_pending, 1)
        assert await read(ctx, 0x68) == 0x2079ff
        await write(ctx, 0x9c, 0xc0000000)
        await write(ctx, 0x10, 0x12348000)
        assert ctx.get(dut.msix_enable) and ctx.get(dut.msix_function_mask)
        await write(ctx, 0x68, 0xa810)
        assert ctx.get(dut.flr)
        ctx.set(dut.cfg.req.valid, 1)
        for _ in range(5):
            await ctx.tick()
            assert not ctx.get(dut.cfg.req.ready)
        ctx.set(dut.cfg.req.valid, 0)
        ctx.set(dut.reset, 1)
        await ctx.tick()
        ctx.set(dut.reset, 0)
        ctx.set(dut.transactions_pending, 0)
        assert not ctx.get(dut.flr)
        assert [await read(ctx, at) for at in (0x68, 0x9c, 0x10)] == [0x2810, 0x0000a811, 0]
    run(body)


def test_errors_are_noted():
    """Until the host writes 1 to them; other bits stay."""
    async def body(ctx, dut, read, write, log):
        for at, port, bits, others in ((0x04, dut.noted, 0xb100, 0x10), (0x68, dut.noted_device, 0xf, 0)):
            control = await read(ctx, at) & 0xffff
            assert await read(ctx, at) >> 16 == others
            ctx.set(port, bits)
            await ctx.tick()
            ctx.set(port, 0)
            await write(ctx, at, 0)
            await write(ctx, at, 0xffff0000 | control, be=3)
            assert await read(ctx, at) >> 16 == bits | others
            first = bits & -bits
            await write(ctx, at, first << 16, be=0xc)
            assert await read(ctx, at) >> 16 == bits & ~first | others
            await write(ctx, at, 0xffff0000, be=0xc)
            assert await read(ctx, at) >> 16 == others
        await write(ctx, 0x04, 0x140, be=3)
        await write(ctx, 0x68, 0xa, be=3)
        assert ctx.get(dut.parity) and ctx.get(dut.serr) and ctx.get(dut.reports) == 0xa
    run(body)


def test_completion_timeout_disable():
    async def body(ctx, dut, read, write, log):
        assert await read(ctx, 0x84) == 1 << 4 | 1 << 20 and not ctx.get(dut.timeout_disable)
        await write(ctx, 0x88, 0xffffffff)
        assert await read(ctx, 0x88) == 1 << 4 and ctx.get(dut.timeout_disable)
    run(body)


def test_flr_keeps_what_belongs_to_the_link():
    async def body(ctx, dut, read, write, log):
        await write(ctx, 0x70, 0xffffffff)
        await write(ctx, 0x68, 0x792f)
        await write(ctx, 0x68, 0xf900, be=2)
        assert ctx.get(dut.flr)
        ctx.set(dut.reset, 1)
        await ctx.tick()
        ctx.set(dut.reset, 0)
        assert await read(ctx, 0x70) & 0xffff == 0xcb
        assert await read(ctx, 0x68) == 0x2830 and ctx.get(dut.mps) == 1
    run(body)
