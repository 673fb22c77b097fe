"""Errors: what each is noted as, and whether the root complex is told."""

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.pcie.errors import Errors

COR, NONFATAL, FATAL, UR = 1, 2, 4, 8
DATA_PARITY, TARGET_ABORT, MASTER_ABORT, SYSTEM_ERROR, PARITY = (1 << bit for bit in (8, 12, 13, 14, 15))
ALL = COR | NONFATAL | FATAL | UR


def run(fault, *, reports=ALL, serr=0, parity=0, quiet=0, width=64):
    """``(Device Status, Status, ERR_NONFATAL, ERR_FATAL)`` of ``fault(ctx, dut)``."""
    dut, found = Errors(width=width), [0, 0, 0, 0]
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def main(ctx):
        for name, value in (("reports", reports), ("serr", serr), ("parity", parity), ("quiet", quiet)):
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


def strobe(**values):
    async def fault(ctx, dut):
        signals = {name: dut.request if name == "request" else getattr(dut, name) for name in values}
        for name, value in values.items():
            ctx.set(signals[name], value)
        await ctx.tick()
        for name, value in values.items():
            ctx.set(signals[name], dict.fromkeys(value, 0) if name == "request" else 0)
    return fault


def completion(status, ep=0, *, ours=True, width=64):
    """A completion without data; the verdict comes in the cycle after its header."""
    raw = b"".join(dw.to_bytes(4, "big") for dw in (0x0a000000 | ep << 14, status << 13, 0))
    step = width // 8

    async def fault(ctx, dut):
        for at in range(0, len(raw), step):
            piece = raw[at:at + step]
            ctx.set(dut.cpl.payload, {"data": int.from_bytes(piece, "little"), "dws": len(piece) // 4,
                                      "last": at + step >= len(raw)})
            ctx.set(dut.cpl.valid, 1)
            await ctx.tick().repeat(2)
            ctx.set(dut.cpl_ready, 1)
            await ctx.tick()
            ctx.set(dut.cpl_ready, 0)
            ctx.set(dut.cpl.valid, 0)
        ctx.set(dut.unexpected, not ours)
        await ctx.tick()
        ctx.set(dut.unexpected, 0)
    return fault


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


@pytest.mark.parametrize("width", [32, 64, 128])
def test_completions(width):
    for status, bits in ((0, 0), (1, MASTER_ABORT), (2, MASTER_ABORT), (4, TARGET_ABORT), (7, MASTER_ABORT)):
        assert run(completion(status, width=width), width=width) == (0, bits, 0, 0)
        assert run(completion(status, 1, ours=False, width=width), width=width) == (COR, 0, 0, 0)
    assert run(completion(0, 1, width=width), width=width) == (NONFATAL, PARITY, 1, 0)
    assert run(completion(0, 1, width=width), width=width, parity=1) == (NONFATAL, PARITY | DATA_PARITY, 1, 0)
