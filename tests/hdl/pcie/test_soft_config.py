"""The card's own configuration: what of it decides about messages."""

import pytest

from ringnic.hdl.pcie.soft_config import SoftConfig
from ringnic.hdl.spec.pcie import MsgCode

from ...kit import registers, tlps
from ...kit.simulation import Simulation

COMMAND, DEV_CTL, MSIX = 0x04, 0x68, 0x9c


def run(body, width=64):
    """Codes and requester IDs of the messages that are sent while ``body(ctx, function, write)`` runs."""
    dut, sent = SoftConfig(width=width), []

    async def main(ctx):
        async def write(at, value, be=0xf):
            await registers.write(ctx, dut.function.cfg, at, value, be)
        ctx.set(dut.function.captured, 0x1208)
        await body(ctx, dut.function, write)
        await ctx.tick().repeat(20)
    simulation = Simulation(dut)
    simulation.background(tlps.take, dut.function.messages, width, sent.append)
    simulation.run(main)
    return [(MsgCode(tlp[7]), int.from_bytes(tlp[4:6])) for tlp in sent]


async def pause(ctx):
    await ctx.tick().repeat(10)


@pytest.mark.parametrize("width", [64, 128])
def test_intx_follows_its_level_and_its_disable(width):
    async def body(ctx, function, write):
        ctx.set(function.interrupt, 1)
        await pause(ctx)
        await write(COMMAND, 1 << 10)
        await pause(ctx)
        ctx.set(function.interrupt, 0)
        await pause(ctx)
        await write(COMMAND, 0)
        await pause(ctx)
    assert run(body, width) == [(MsgCode.ASSERT_INTA, 0x1208), (MsgCode.DEASSERT_INTA, 0x1208)]


def test_power_is_acknowledged():
    async def body(ctx, function, write):
        ctx.set(function.turn_off, 1)
        await ctx.tick()
        ctx.set(function.turn_off, 0)
        await pause(ctx)
        assert not ctx.get(function.busy)
    assert run(body) == [(MsgCode.PME_TO_ACK, 0x1208)]


@pytest.mark.parametrize("reports, expected", [(0, []), (1 << 2, [MsgCode.ERR_FATAL])])
def test_faults_are_told_of_as_configured(reports, expected):
    async def body(ctx, function, write):
        await write(DEV_CTL, reports)
        ctx.set(function.faults, {"malformed": 1})
        await ctx.tick()
        ctx.set(function.faults, {})
        await pause(ctx)
        assert await registers.read(ctx, function.cfg, DEV_CTL) >> 16 == 1 << 2  # 7.5.3.5: Fatal Error Detected
    assert [code for code, _ in run(body)] == expected


def test_busy_until_the_host_was_told():
    async def body(ctx, function, write):
        ctx.set(function.interrupt, 1)
        await ctx.tick()
        while not ctx.get(function.messages.valid):
            await ctx.tick()
        assert ctx.get(function.busy)
        await pause(ctx)
        assert not ctx.get(function.busy)
    assert len(run(body)) == 1
