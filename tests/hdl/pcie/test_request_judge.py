"""RequestJudge: what each request comes to. All of them, with what follows: ``test_target.py``."""

import pytest

from ringnic.hdl.pcie.request_judge import Action, RequestJudge
from ringnic.hdl.spec.pcie import MsgCode

from ...kit.simulation import Simulation
from ...kit.tlps import config, memory

TARGET = 0x0208


def judge(tlp, address=0, bar_hit=1):
    """The verdict, and the names of the strobes."""
    dut, found = RequestJudge(), []
    strobes = {"unsupported": dut.unsupported, "malformed": dut.malformed, "turn_off": dut.pme_turn_off,
               "fault": dut.faults.unsupported, "poisoned": dut.faults.poisoned, "advisory": dut.faults.advisory}

    async def main(ctx):
        ctx.set(dut.raw, int.from_bytes(tlp[:16].ljust(16, b"\0"), "little"))
        ctx.set(dut.address, address)
        ctx.set(dut.bar_hit, bar_hit)
        ctx.set(dut.load, 1)
        await ctx.tick()
        ctx.set(dut.load, 0)
        assert not any(ctx.get(strobe) for strobe in strobes.values())
        ctx.set(dut.now, 1)
        await ctx.delay(1e-10)
        found.append((ctx.get(dut.verdict.action), {name for name, strobe in strobes.items() if ctx.get(strobe)}))
        found.append((ctx.get(dut.verdict.is_read), ctx.get(dut.verdict.lead), ctx.get(dut.verdict.trail)))
    Simulation(dut).run(main)
    return found


def poisoned(tlp):
    return tlp[:2] + bytes([tlp[2] | 0x40]) + tlp[3:]


WRITE, READ = memory(1, 0x100, data=bytes(4), tag=1, rid=2), memory(0, 0x100, tag=1, rid=2)
CFG = config(1, 4, 15, data=bytes(4), tag=1, rid=2, target=TARGET)
OTHER = config(0, 4, tag=1, rid=2, target=TARGET + 1)
MESSAGE = bytes([0x30, 0, 0, 0, 0, 0, 0])
REFUSED, LOST = {"unsupported", "fault", "advisory"}, {"unsupported", "fault"}


@pytest.mark.parametrize("tlp, place, action, strobes", [
    (READ, (0, 1), Action.READ, set()), (READ, (0, 0), Action.REFUSE, REFUSED), (READ, (0x7ffc, 1), Action.READ, set()),
    (WRITE, (0, 1), Action.WRITE, set()), (WRITE, (0, 0), Action.DROP, LOST),
    (poisoned(WRITE), (0, 1), Action.DROP, {"unsupported", "poisoned"}),
    (CFG, (0, 0), Action.CONFIG, set()), (poisoned(CFG), (0, 0), Action.REFUSE, {"unsupported", "poisoned", "advisory"}),
    (OTHER, (0, 0), Action.REFUSE, REFUSED), (b"\x05" + OTHER[1:], (0, 0), Action.REFUSE, REFUSED),
    (CFG[:3] + b"\2" + CFG[4:], (0, 0), Action.DROP, {"malformed"}),
    (MESSAGE + bytes([MsgCode.PME_TURN_OFF]), (0, 0), Action.DROP, {"turn_off"}),
    (MESSAGE + bytes([MsgCode.UNLOCK]), (0, 0), Action.DROP, set()),
    (MESSAGE + b"\x7e", (0, 0), Action.DROP, LOST),
    (b"\x1f" + bytes(15), (0, 0), Action.DROP, {"malformed"}),
])
def test_verdicts(tlp, place, action, strobes):
    verdict, (is_read, _, _) = judge(tlp, *place)
    assert verdict == (action, strobes)
    assert is_read == (tlp is READ)


@pytest.mark.parametrize("be, lead, trail", [(0b1111, 0, 0), (0b0110, 1, 1), (0b1000, 3, 0), (0b0001, 0, 3), (0b0000, 0, 3)])
def test_bytes(be, lead, trail):
    _, (_, *found) = judge(READ[:7] + bytes([be]) + READ[8:])
    assert found == [lead, trail]


def test_a_read_beyond_the_bar():
    long = READ[:3] + b"\2" + READ[4:7] + b"\xff" + READ[8:]
    assert judge(long, 0x7ff8)[0][0] == Action.READ and judge(long, 0x7ffc)[0] == (Action.REFUSE, REFUSED)
