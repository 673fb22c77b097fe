"""What the block notes and reports of errors: PCI Express Base 5.0, 6.2; PG054, "Error Reporting Signals".

How the inputs ``cfg_err_*`` are classified is 6.2.7 "Error Listing and Rules" (our reading for the block: it has no public list).
"""

import pytest

from ringnic.hdl.spec.pcie import Cfg, Exp

from ...kit import tlps
from ...kit.simulation import cycles, until
from ...kit.streams import pulse
from .conftest import BAR, EXP, RID, ROOT

COR, NONFATAL, FATAL = 0x30, 0x31, 0x33             # codes of messages
DEV_COR, DEV_NONFATAL, DEV_FATAL, DEV_UNSUPPORTED = 1, 2, 4, 8
SERR, PARITY = 0x100, 0x40
SIGNALED_SYSTEM, DETECTED_PARITY, MASTER_PARITY = 1 << 14, 1 << 15, 1 << 8
RECEIVED_MASTER_ABORT, RECEIVED_TARGET_ABORT, SIGNALED_TARGET_ABORT = 1 << 13, 1 << 12, 1 << 11
REPORT_ALL, REPORT_NONE = 0x281f, 0x2810

#: Inputs, Device Status, the message when all is reported.
TOLD = [
    (["cor"], DEV_COR, COR), (["internal_cor"], DEV_COR, COR),
    (["ur", "posted"], DEV_NONFATAL | DEV_UNSUPPORTED, NONFATAL), (["cpl_abort", "posted"], DEV_NONFATAL, NONFATAL),
    (["cpl_unexpect"], DEV_COR, None), (["cpl_timeout"], DEV_COR, None), (["cpl_timeout", "norecovery"], DEV_NONFATAL, NONFATAL),
    (["poisoned"], DEV_COR, None), (["poisoned", "norecovery"], DEV_NONFATAL, NONFATAL),
    (["ecrc"], DEV_NONFATAL, NONFATAL), (["acs"], DEV_NONFATAL, NONFATAL), (["mc_blocked"], DEV_NONFATAL, NONFATAL),
    (["atomic_egress_blocked"], DEV_NONFATAL, NONFATAL),
    (["malformed"], DEV_FATAL, FATAL), (["internal_uncor"], DEV_FATAL, FATAL),
]


class Told:
    """What became of an error: Status, Device Status, messages; and both registers cleared."""
    def __init__(self, bench):
        self.bench = bench

    async def since(self, ctx):
        bench = self.bench
        await bench.settle(ctx, 30)
        messages = [tlps.parse(tlp) for tlp in bench.sent if tlp[0] & 0x38 == 0x30]
        for one in messages:
            # 2.2.8.3: routed to the root complex, no data, in traffic class 0.
            assert (one.kind, one.tc, one.length, one.rid) == (0x30, 0, 1024, RID)
        bench.sent.clear()
        status = await bench.config_read(ctx, Cfg.STATUS, 2)
        device = await bench.config_read(ctx, EXP + Exp.DEV_STA, 2)
        await bench.config_write(ctx, Cfg.STATUS, 0xffff, 2)
        await bench.config_write(ctx, EXP + Exp.DEV_STA, 0xffff, 2)
        assert await bench.config_read(ctx, Cfg.STATUS, 2) == 0x10, "not cleared"
        assert await bench.config_read(ctx, EXP + Exp.DEV_STA, 2) == 0
        bench.sent.clear()
        return device, [one.code for one in messages], status & ~0x10


@pytest.mark.parametrize("control, serr", [(REPORT_ALL, 0), (REPORT_NONE, SERR), (REPORT_NONE, 0)], ids=["all", "serr", "none"])
def test_errors_of_the_user(rig, control, serr):
    """6.2.6: reported as Device Control allows, or by SERR# Enable those that are non-fatal and fatal."""
    bench = rig()

    async def testbench(ctx, dut):
        told = Told(bench)
        await bench.wake(ctx, command=0x6 | serr, device_control=control)
        bench.sent.clear()
        for names, device, message in TOLD:
            await pulse(ctx, *(getattr(dut, f"cfg_err_{name}") for name in names))
            # Unsupported ones need their own bit besides.
            expected = message if control == REPORT_ALL or serr and message in (NONFATAL, FATAL) and "ur" not in names else None
            signaled = SIGNALED_SYSTEM if serr and expected else 0
            signaled |= SIGNALED_TARGET_ABORT if "cpl_abort" in names else 0
            assert await told.since(ctx) == (device, [expected] if expected else [], signaled), names
    bench.run(testbench)


@pytest.mark.parametrize("name, status", [("ur", 1), ("cpl_abort", 4)])
def test_completions_for_the_user(rig, name, status):
    """cfg_err_ur and cfg_err_cpl_abort without cfg_err_posted: the block answers, from cfg_err_tlp_cpl_header (lower address,
    byte count, class, attributes, requester, tag); the error is advisory."""
    bench = rig()
    header = 0x55 << 41 | 0x123 << 29 | 5 << 26 | 2 << 24 | 0x4321 << 8 | 0x9a

    async def testbench(ctx, dut):
        told = Told(bench)
        await bench.wake(ctx, device_control=REPORT_ALL)
        bench.sent.clear()
        ctx.set(dut.cfg_err_tlp_cpl_header, header)
        assert ctx.get(dut.cfg_err_cpl_rdy)
        await pulse(ctx, getattr(dut, f"cfg_err_{name}"))
        await pulse(ctx, getattr(dut, f"cfg_err_{name}"), dut.cfg_err_locked)
        await until(ctx, lambda: len(bench.sent) == 2)
        for tlp, kind in zip(bench.sent, (tlps.CPL, tlps.CPL_LOCKED)):
            one = tlps.parse(tlp)
            assert (one.kind, one.status, one.lower, one.byte_count, one.tc, one.attr, one.rid, one.tag, one.cid, one.data) == (
                kind, status, 0x55, 0x123, 5, 2, 0x4321, 0x9a, RID, b"")
        device, messages, noted = await told.since(ctx)
        assert not messages
        assert (device, noted) == ((DEV_COR | DEV_UNSUPPORTED, 0) if name == "ur" else (DEV_COR, SIGNALED_TARGET_ABORT))
    bench.run(testbench)


def test_completions_that_wait(rig):
    """cfg_err_cpl_rdy falls while there is no room for more, and what is asked for then is ignored."""
    bench = rig()

    async def testbench(ctx, dut):
        ctx.set(dut.tx_cfg_gnt, 0)
        asked = []
        for tag in range(12):
            ctx.set(dut.cfg_err_tlp_cpl_header, tag)
            asked += [tag] if ctx.get(dut.cfg_err_cpl_rdy) else []
            await pulse(ctx, dut.cfg_err_ur)
            await cycles(ctx, 3)
        assert 4 <= len(asked) < 12
        ctx.set(dut.tx_cfg_gnt, 1)
        await bench.settle(ctx)
        assert [tlps.parse(tlp).tag for tlp in bench.sent] == asked
    bench.run(testbench)


def test_requests_of_nobody(rig):
    """2.3.1: unsupported. A posted one is told of, one whose completion says so is advisory (6.2.3.2.4.1)."""
    bench = rig()

    async def testbench(ctx, dut):
        told = Told(bench)
        await bench.wake(ctx, device_control=REPORT_ALL)
        bench.sent.clear()
        bench.put(tlps.memory(True, BAR + 0x8000, 1, rid=ROOT, data=b"abcd"))
        assert await told.since(ctx) == (DEV_NONFATAL | DEV_UNSUPPORTED, [NONFATAL], 0)
        bench.put(tlps.memory(False, BAR + 0x8000, 1, rid=ROOT))
        assert await told.since(ctx) == (DEV_COR | DEV_UNSUPPORTED, [], 0)
    bench.run(testbench)


def test_malformed(rig):
    bench = rig()

    async def testbench(ctx, dut):
        told = Told(bench)
        await bench.wake(ctx, device_control=REPORT_ALL)
        bench.sent.clear()
        bench.put(tlps.memory(True, BAR, 2, rid=ROOT, data=b"abcd"))
        assert await told.since(ctx) == (DEV_FATAL, [FATAL], 0)
    bench.run(testbench)


@pytest.mark.parametrize("parity", [0, PARITY])
def test_what_comes_poisoned(rig, rng, parity):
    """7.5.1.1.4: Detected Parity Error in any case, Master Data Parity Error for a completion if Parity Error Response is set.

    That the block reports it, rather than the user, is our reading: it does unless DISABLE_RX_POISONED_RESP is set.
    """
    bench = rig()

    async def testbench(ctx, dut):
        told = Told(bench)
        await bench.wake(ctx, command=0x6 | parity, device_control=REPORT_ALL)
        bench.sent.clear()
        bench.put(tlps.memory(True, BAR, 1, rid=ROOT, data=b"abcd", ep=1))
        assert await told.since(ctx) == (DEV_NONFATAL, [NONFATAL], DETECTED_PARITY)
        bench.put(tlps.completion(1, 1, 4, 0, b"abcd", rid=RID, ep=1))
        assert await told.since(ctx) == (DEV_NONFATAL, [NONFATAL], DETECTED_PARITY | (MASTER_PARITY if parity else 0))
    bench.run(testbench)


def test_what_completions_say(rig):
    """7.5.1.1.4: Received Master Abort of Unsupported Request, Received Target Abort of Completer Abort; no error of ours."""
    bench = rig()

    async def testbench(ctx, dut):
        told = Told(bench)
        await bench.wake(ctx, device_control=REPORT_ALL)
        bench.sent.clear()
        for status, noted in ((1, RECEIVED_MASTER_ABORT), (4, RECEIVED_TARGET_ABORT), (2, 0)):
            bench.put(tlps.completion(1, 0, 4, 0, None, status=status, rid=RID))
            assert await told.since(ctx) == (0, [], noted)
        assert len(bench.came) == 3
    bench.run(testbench)
