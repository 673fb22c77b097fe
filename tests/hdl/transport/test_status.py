"""DeviceStatus: bits that only a reset clears."""

from ringnic.hdl.spec.virtio import Status
from ringnic.hdl.transport.status import DeviceStatus

from ...kit.simulation import Simulation
from ...kit.streams import pulse

READY = (Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK).value


async def write(ctx, dut, value):
    ctx.set(dut.wanted, value)
    await pulse(ctx, dut.write)
    return ctx.get(dut.value)


async def settle(ctx, dut):
    assert ctx.get(dut.clearing)
    await pulse(ctx, dut.settled)
    assert not ctx.get(dut.clearing)


def simulate(main):
    dut = DeviceStatus()

    async def whole(ctx):
        await settle(ctx, dut)     # after the reset of the domain
        await main(ctx, dut)
    Simulation(dut).run(whole)


def test_bits_are_set_one_by_one():
    async def main(ctx, dut):
        value = 0
        ctx.set(dut.acceptable, 1)
        for bit in (Status.ACKNOWLEDGE, Status.DRIVER, Status.FEATURES_OK, Status.DRIVER_OK, Status.FAILED):
            assert not ctx.get(dut.live) or value & Status.DRIVER_OK.value
            value |= bit.value
            assert await write(ctx, dut, bit.value) == value
        assert ctx.get(dut.live) and ctx.get(dut.features_ok) and ctx.get(dut.driver_ok)
        assert await write(ctx, dut, Status.DEVICE_NEEDS_RESET.value | 0x30) == value    # not the driver's
        await pulse(ctx, dut.queue_error)
        assert ctx.get(dut.value) == value | Status.DEVICE_NEEDS_RESET.value
    simulate(main)


def test_no_driver_ok_without_features():
    async def main(ctx, dut):
        early = (Status.ACKNOWLEDGE | Status.DRIVER).value
        assert await write(ctx, dut, READY) == early
        ctx.set(dut.acceptable, 1)
        assert await write(ctx, dut, READY) == READY
        ctx.set(dut.acceptable, 0)
        assert await write(ctx, dut, READY) == READY
    simulate(main)


def test_reset():
    async def main(ctx, dut):
        ctx.set(dut.acceptable, 1)
        await write(ctx, dut, READY)
        await pulse(ctx, dut.queue_error)
        assert await write(ctx, dut, 0) == READY | Status.DEVICE_NEEDS_RESET.value
        assert ctx.get(dut.reset_pending) and not ctx.get(dut.live)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.reset_pending)
        ctx.set(dut.queue_error, 1)                       # in the same cycle: it is forgotten
        await pulse(ctx, dut.reset_done)
        assert ctx.get(dut.value) == 0 and not ctx.get(dut.reset_pending)
        await ctx.tick()
        ctx.set(dut.queue_error, 0)
        await settle(ctx, dut)
        assert ctx.get(dut.value) == 0
        ctx.set(dut.settled, 1)
        await pulse(ctx, dut.reset_done)                  # what is settled is so of the time before
        assert ctx.get(dut.clearing)
    simulate(main)
