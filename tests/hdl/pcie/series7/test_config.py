"""Hosted configuration: what the block shows is what the card sees, and what the card has to say goes by handshakes."""

import pytest

from ringnic.hdl.pcie.series7.config import HANDSHAKE_CYCLES, BlockConfig
from ringnic.hdl.pcie.virtio_caps import virtio_capabilities
from ringnic.hdl.spec.pcie import Command

from ....kit import registers, streams
from ....kit.simulation import Simulation


def run(body):
    dut = BlockConfig(width=64)
    simulation = Simulation(dut, watch_busy=False)
    simulation.background(registers.serve, dut.function.regs, {0x1000: 0x5a})

    async def main(ctx):
        await body(ctx, dut.block, dut.function, dut)
    simulation.run(main)


async def settle(ctx):
    await ctx.tick().repeat(3)


def test_what_the_block_shows():
    async def body(ctx, block, function, dut):
        for name, value in {
                "cfg_bus_number": 0x5a, "cfg_device_number": 0x11, "cfg_function_number": 3, "cfg_command": 1 << 2 | 1 << 1,
                "cfg_dcommand": 1 << 8 | 1 << 5 | 2 << 12, "cfg_dcommand2": 1 << 4, "cfg_interrupt_msixenable": 1,
                "cfg_interrupt_msixfm": 1}.items():
            ctx.set(getattr(block, name), value)
        await settle(ctx)
        assert ctx.get(function.requester_id) == 0x5a << 8 | 0x11 << 3 | 3
        expected = {"bus_master": 1, "bar_hit": 1, "mps": 1, "mrrs": 2, "ext_tag": 1, "timeout_disable": 1, "msix_enable": 1,
                    "msix_function_mask": 1, "flr": 0}
        assert {name: ctx.get(getattr(function, name)) for name in expected} == expected
        # 5.3.1.4.1: in D3hot no requests; what the block has passed on came before (2.4.1).
        ctx.set(block.cfg_pmcsr_powerstate, 3)
        await settle(ctx)
        assert not ctx.get(function.bus_master) and ctx.get(function.bar_hit)
    run(body)


@pytest.mark.parametrize("coded, expected", [(0, 0), (2, 2), (3, 2), (5, 2)])
def test_sizes_are_limited(coded, expected):
    """To the payload that the IP is made with, and to what the completion buffer was counted for."""
    async def body(ctx, block, function, dut):
        ctx.set(block.cfg_dcommand, coded << 5 | coded << 12)
        await settle(ctx)
        assert ctx.get(function.mps) == ctx.get(function.mrrs) == expected
    run(body)


def test_window():
    """The virtio capabilities, and an access to the BAR through the last of them."""
    async def body(ctx, block, function, dut):
        (first, *_), *_ = virtio_capabilities()
        assert first == 0xa8
        assert await registers.read(ctx, function.cfg, first) & 0xff == 9  # vendor specific
        window = virtio_capabilities()[-1][0]
        for at, value in ((4, 0), (8, 0x1000), (12, 4)):
            await registers.write(ctx, function.cfg, window + at, value)
        assert await registers.read(ctx, function.cfg, window + 16) == 0x5a
    run(body)


async def handshake(ctx, block, late):
    """Answer one interrupt handshake, and say what it asks for."""
    for _ in range(20):
        if ctx.get(block.cfg_interrupt):
            break
        await ctx.tick()
    assert ctx.get(block.cfg_interrupt)
    level = ctx.get(block.cfg_interrupt_assert)
    for _ in range(late):
        await ctx.tick()
        assert ctx.get(block.cfg_interrupt) and ctx.get(block.cfg_interrupt_assert) == level
    await streams.pulse(ctx, block.cfg_interrupt_rdy)
    return level


@pytest.mark.parametrize("late", [0, 5])
def test_intx(late):
    async def body(ctx, block, function, dut):
        assert not ctx.get(function.busy)
        ctx.set(function.interrupt, 1)
        assert await handshake(ctx, block, late) == 1
        await settle(ctx)
        assert not ctx.get(block.cfg_interrupt) and ctx.get(block.cfg_interrupt_stat) and not ctx.get(function.busy)
        # 7.5.1.1.3: disabled means deasserted, though the interrupt stays pending.
        ctx.set(block.cfg_command, 1 << Command.INTX_DISABLE)
        await ctx.delay(1e-10)
        assert ctx.get(function.busy)
        assert await handshake(ctx, block, late) == 0
        await settle(ctx)
        assert ctx.get(block.cfg_interrupt_stat) and not ctx.get(block.cfg_interrupt)
        ctx.set(block.cfg_command, 0)
        assert await handshake(ctx, block, late) == 1
        ctx.set(function.interrupt, 0)
        assert await handshake(ctx, block, late) == 0
    run(body)


def test_an_interrupt_that_is_not_granted_holds_up_no_answer_for_ever():
    """PG054 does not say whether one is that the host has disabled. It is asked for all the same, until it is granted."""
    async def body(ctx, block, function, dut):
        ctx.set(function.interrupt, 1)
        await ctx.delay(1e-10)
        held = 0
        while ctx.get(function.busy):
            await ctx.tick()
            held += 1
        assert held == HANDSHAKE_CYCLES and ctx.get(block.cfg_interrupt)
        assert await handshake(ctx, block, 5) == 1
        await settle(ctx)
        # The next one has as long, also if it was due before the one before it was granted.
        ctx.set(function.interrupt, 0)
        await ctx.tick().repeat(2 * HANDSHAKE_CYCLES)
        ctx.set(function.interrupt, 1)
        await streams.pulse(ctx, block.cfg_interrupt_rdy)
        await ctx.tick()
        assert ctx.get(function.busy) and ctx.get(block.cfg_interrupt_assert)
    run(body)


def test_a_level_that_changes_during_its_handshake():
    """The host is told of both changes, or of neither."""
    async def body(ctx, block, function, dut):
        ctx.set(function.interrupt, 1)
        await ctx.tick().repeat(2)
        ctx.set(function.interrupt, 0)
        assert await handshake(ctx, block, 3) == 1
        assert await handshake(ctx, block, 0) == 0
        await settle(ctx)
        assert not ctx.get(block.cfg_interrupt) and not ctx.get(function.busy)
    run(body)


def test_turn_off_waits_for_reads():
    async def body(ctx, block, function, dut):
        ctx.set(function.transactions_pending, 1)
        ctx.set(block.cfg_to_turnoff, 1)
        await settle(ctx)
        assert ctx.get(block.cfg_trn_pending) and not ctx.get(block.cfg_turnoff_ok)
        ctx.set(function.transactions_pending, 0)
        await settle(ctx)
        assert ctx.get(block.cfg_turnoff_ok) and not ctx.get(block.cfg_trn_pending)
        ctx.set(block.cfg_to_turnoff, 0)
        await settle(ctx)
        assert not ctx.get(block.cfg_turnoff_ok)
    run(body)


ERRORS = ("cfg_err_ur", "cfg_err_posted", "cfg_err_malformed", "cfg_err_cpl_unexpect", "cfg_err_cpl_timeout",
          "cfg_err_norecovery")


def pulses(faults, refusals=(), ready=lambda cycle: 1):
    """What was raised in each cycle with any error, and what went with it."""
    found, dut = [], BlockConfig(width=64)

    async def main(ctx):
        ctx.set(dut.function.faults, faults)
        await ctx.tick()
        ctx.set(dut.function.faults, {})
        for header in refusals:
            await streams.send(ctx, dut.refusals, {"header": header, "locked": 0})
        await ctx.tick().repeat(10)

    async def watch(ctx):
        block, cycle = dut.block, 0
        ctx.set(block.cfg_err_cpl_rdy, ready(0))
        async for _, _, header, *raised in ctx.tick().sample(block.cfg_err_tlp_cpl_header, *(getattr(block, e) for e in ERRORS)):
            if any(raised):
                found.append(({name for name, on in zip(ERRORS, raised) if on}, header if raised[0] and not raised[1] else None))
            cycle += 1
            ctx.set(block.cfg_err_cpl_rdy, ready(cycle))
    simulation = Simulation(dut, watch_busy=False)
    simulation.background(watch)
    simulation.run(main)
    return found


@pytest.mark.parametrize("faults, raised", [
    ({"request": {"unsupported": 1}}, {"cfg_err_ur", "cfg_err_posted"}), ({"malformed": 1}, {"cfg_err_malformed"}),
    ({"unexpected": 1}, {"cfg_err_cpl_unexpect"}), ({"timeout": 1}, {"cfg_err_cpl_timeout", "cfg_err_norecovery"})])
def test_errors(faults, raised):
    """Base 5.0, 6.2.3.2.4.4 "Requester with Completion Timeout": of a read that is not repeated the error is not advisory."""
    assert pulses(faults) == [(raised, None)]


@pytest.mark.parametrize("faults", [
    {"request": {"unsupported": 1, "advisory": 1}}, {"request": {"poisoned": 1}}, {"completion": {"refused": 1}},
    {"completion": {"aborted": 1}}, {"completion": {"poisoned": 1}}])
def test_what_the_block_sees_itself(faults):
    """Or is told of with the completion that refuses the request."""
    assert pulses(faults) == []


@pytest.mark.parametrize("ready", [lambda cycle: 1, lambda cycle: cycle % 5 == 4])
def test_refusals(ready):
    """Each is a pulse of its own, and does not meet the error of a posted request."""
    expected = [({"cfg_err_ur"}, 0x1234_5678_9abc), ({"cfg_err_ur"}, 0x42)]
    assert pulses({}, [0x1234_5678_9abc, 0x42], ready) == expected
    assert sorted(pulses({"request": {"unsupported": 1}}, [0x1234_5678_9abc, 0x42], ready), key=str) == sorted(
        [({"cfg_err_ur", "cfg_err_posted"}, None), *expected], key=str)
