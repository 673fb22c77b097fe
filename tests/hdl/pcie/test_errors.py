"""Errors: what each is noted as, and whether the root complex is told."""

import pytest

from ringnic.hdl.pcie.errors import Errors
from ringnic.hdl.spec.pcie import ConfigStatus, DevSta

from ...kit.simulator import Simulator

COR, NONFATAL, FATAL, UR = (1 << bit for bit in (
    DevSta.CORRECTABLE, DevSta.NONFATAL, DevSta.FATAL, DevSta.UNSUPPORTED))
DATA_PARITY, TARGET_ABORT, MASTER_ABORT, SYSTEM_ERROR, PARITY = (1 << bit for bit in (
    ConfigStatus.MASTER_DATA_PARITY, ConfigStatus.RECEIVED_TARGET_ABORT, ConfigStatus.RECEIVED_MASTER_ABORT,
    ConfigStatus.SIGNALED_SYSTEM_ERROR, ConfigStatus.DETECTED_PARITY))
ALL = COR | NONFATAL | FATAL | UR


def run(fault, *, reports=ALL, serr=0, parity=0, quiet=0, asleep=0):
    """``(Device Status, Status, ERR_NONFATAL, ERR_FATAL)`` of ``fault(ctx, dut)``."""
    dut, found = Errors(), [0, 0, 0, 0]
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def main(ctx):
        for name, value in (("reports", reports), ("serr", serr), ("parity", parity), ("quiet", quiet),
                            ("asleep", asleep)):
            ctx.set(getattr(dut, name), value)
        await fault(ctx, dut)
        await ctx.tick().repeat(6)

    async def watch(ctx):
        while True:
            _, _, device, status, nonfatal, fatal = await ctx.tick().sample(
                dut.noted_device, dut.noted, dut.err_nonfatal, dut.err_fatal)
            found[0] |= device
            found[1] |= status
            found[2] += nonfatal
            found[3] += fatal
    sim.add_testbench(main)
    sim.add_testbench(watch, background=True)
    sim.run()
    return tuple(found)


def strobe(**faults):
    async def fault(ctx, dut):
        ctx.set(dut.faults, faults)
        await ctx.tick()
        ctx.set(dut.faults, {})
    return fault


async def quiet(ctx, dut):
    ctx.set(dut.quiet, 1)
    await ctx.tick()
    ctx.set(dut.quiet, 0)


POSTED, REFUSED = {"request": {"unsupported": 1}}, {"request": {"unsupported": 1, "advisory": 1}}
POISONED = {"request": {"poisoned": 1}}


@pytest.mark.parametrize("fault, device, status, nonfatal, fatal", [
    (POSTED, UR | NONFATAL, 0, 1, 0), (REFUSED, UR | COR, 0, 0, 0), (POISONED, NONFATAL, PARITY, 1, 0),
    ({"request": {"poisoned": 1, "advisory": 1}}, COR, PARITY, 0, 0),
    ({"request": {"poisoned": 1, "unsupported": 1}}, UR | NONFATAL, PARITY, 1, 0),
    ({"malformed": 1}, FATAL, 0, 0, 1), ({"timeout": 1}, NONFATAL, 0, 1, 0), ({"unexpected": 1}, COR, 0, 0, 0)])
def test_faults(fault, device, status, nonfatal, fatal):
    assert run(strobe(**fault)) == (device, status, nonfatal, fatal)
    # Noted whatever is reported, and told of where SERR# alone allows it; of what is not supported only where reports do.
    assert run(strobe(**fault), reports=0) == (device, status, 0, 0)
    told = fatal or nonfatal and not device & UR
    assert run(strobe(**fault), reports=0, serr=1) == (device, status | (SYSTEM_ERROR if told else 0),
                                                       nonfatal if told else 0, fatal)
    assert run(strobe(**fault), quiet=1, serr=1) == (device, status, 0, 0)


@pytest.mark.parametrize("reports, nonfatal, fatal", [(NONFATAL, 0, 0), (NONFATAL | UR, 1, 0), (UR, 0, 0), (FATAL, 0, 1)])
def test_reports(reports, nonfatal, fatal):
    async def both(ctx, dut):
        await strobe(**POSTED)(ctx, dut)
        await strobe(malformed=1)(ctx, dut)
    assert run(both, reports=reports) == (UR | NONFATAL | FATAL, 0, nonfatal, fatal)


def test_completions():
    for fault, bits in (("refused", MASTER_ABORT), ("aborted", TARGET_ABORT)):
        assert run(strobe(completion={fault: 1})) == (0, bits, 0, 0)
    assert run(strobe(completion={"poisoned": 1})) == (NONFATAL, PARITY, 1, 0)
    assert run(strobe(completion={"poisoned": 1}), parity=1) == (NONFATAL, PARITY | DATA_PARITY, 1, 0)


def test_asleep():
    """In D3hot what comes with a TLP is told of at once, what does not when that is over, and not if by a reset."""
    assert run(strobe(**POSTED), asleep=1) == (UR | NONFATAL, 0, 1, 0)
    assert run(strobe(timeout=1), asleep=1) == (0, 0, 0, 0)

    async def awake(ctx, dut):
        await strobe(timeout=1)(ctx, dut)
        await ctx.tick().repeat(5)
        ctx.set(dut.asleep, 0)

    async def reset(ctx, dut):
        await strobe(timeout=1)(ctx, dut)
        await quiet(ctx, dut)
        ctx.set(dut.asleep, 0)
    assert run(awake, asleep=1) == (NONFATAL, 0, 1, 0)
    assert run(reset, asleep=1) == (0, 0, 0, 0)
