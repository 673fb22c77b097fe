"""Messages both ways: INTx, turn-off, and what comes. PG054, "Generating Interrupt Requests", "Power Management", "Message
Signals"; PCI Express Base 5.0, 2.2.8."""

import pytest

from ringnic.hdl.spec.pcie import Cfg

from ...kit import tlps
from ...kit.simulation import cycles, until
from .conftest import BAR, EXP, RID, ROOT

ASSERT, DEASSERT, PME_TO_ACK, PME_TURN_OFF = 0x20, 0x24, 0x1b, 0x19
LOCAL, GATHERED, BROADCAST = 0x34, 0x35, 0x33


def message(code, data=b"", routing=BROADCAST, rid=ROOT):
    fmt = 0x40 if data else 0
    return bytes([routing | fmt, 0, 0, len(data) // 4]) + rid.to_bytes(2, "big") + bytes([0, code]) + bytes(8) + data


async def interrupt(ctx, dut, level, limit=100):
    """The handshake of the user; return after how many cycles it is done."""
    ctx.set(dut.cfg_interrupt_assert, level)
    ctx.set(dut.cfg_interrupt, 1)
    for waited in range(limit):
        _, _, ready = await ctx.tick().sample(dut.cfg_interrupt_rdy)
        if ready:
            ctx.set(dut.cfg_interrupt, 0)
            return waited
    raise AssertionError("no cfg_interrupt_rdy")


def messages(bench):
    """``(kind, code)`` of the messages that were sent since the last call."""
    found = [tlps.parse(tlp) for tlp in bench.sent]
    assert all((one.rid, one.tc, len(one.data)) == (RID, 0, 0) for one in found)
    bench.sent.clear()
    return [(one.kind, one.code) for one in found]


def test_intx(rig):
    """2.2.8.1: each change is a message, in order; Status shows it."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.sent.clear()
        for level in (1, 0, 1, 0):
            await interrupt(ctx, dut, level)
            await bench.settle(ctx)
            assert messages(bench) == [(LOCAL, ASSERT if level else DEASSERT)]
            assert await bench.config_read(ctx, Cfg.STATUS, 2) == 0x10 | level << 3
            bench.sent.clear()
        for level in (1, 0):                # no pause between them
            await interrupt(ctx, dut, level)
        await bench.settle(ctx)
        assert messages(bench) == [(LOCAL, ASSERT), (LOCAL, DEASSERT)]
    bench.run(testbench)


def test_intx_waits_for_its_message(rig):
    """cfg_interrupt_rdy comes when the message is on its way: not while the user keeps the block's own TLPs back."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.sent.clear()
        ctx.set(dut.tx_cfg_gnt, 0)
        await interrupt(ctx, dut, 1)           # there is a register for one
        ctx.set(dut.cfg_interrupt_assert, 0)
        ctx.set(dut.cfg_interrupt, 1)
        for _ in range(30):
            _, _, ready = await ctx.tick().sample(dut.cfg_interrupt_rdy)
            assert not ready
        ctx.set(dut.tx_cfg_gnt, 1)
        await interrupt(ctx, dut, 0)
        await bench.settle(ctx)
        assert messages(bench) == [(LOCAL, ASSERT), (LOCAL, DEASSERT)]
    bench.run(testbench)


def test_intx_disabled(rig):
    """7.5.1.1.3: no Assert_INTA while Interrupt Disable is set; what was asserted before can be taken back. The handshake is
    done all the same (our reading)."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx, command=0x406)
        bench.sent.clear()
        for level in (1, 0):
            await interrupt(ctx, dut, level)
        await bench.settle(ctx)
        assert messages(bench) == []
        await bench.wake(ctx)
        await interrupt(ctx, dut, 1)
        await bench.settle(ctx)
        await bench.wake(ctx, command=0x406)
        bench.sent.clear()
        await interrupt(ctx, dut, 0)
        await bench.settle(ctx)
        assert messages(bench) == [(LOCAL, DEASSERT)]
    bench.run(testbench)


def test_turn_off(rig):
    """5.3.3.2.1: PME_Turn_Off is answered when the user agrees, once."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.sent.clear()
        bench.put(message(PME_TURN_OFF))
        await bench.settle(ctx)
        assert ctx.get(dut.cfg_to_turnoff) and not bench.sent
        ctx.set(dut.cfg_turnoff_ok, 1)
        await until(ctx, lambda: bench.sent)
        await cycles(ctx, 30)
        assert messages(bench) == [(GATHERED, PME_TO_ACK)] and not ctx.get(dut.cfg_to_turnoff)
        bench.put(message(PME_TURN_OFF))
        await bench.settle(ctx)
        assert messages(bench) == [(GATHERED, PME_TO_ACK)]
    bench.run(testbench)


def test_what_comes(rig):
    """No message comes on the receive interface. Those that the block knows are told of; others are unsupported, but for those
    that are to be ignored (2.2.8.6, 2.2.8.7)."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        seen = []

        async def watch():
            ports = {name: getattr(dut, f"cfg_msg_received_{name}") for name in ("pm_as_nak", "setslotpowerlimit")}
            for _ in range(60):
                _, _, any_, data, *which = await ctx.tick().sample(dut.cfg_msg_received, dut.cfg_msg_data, *ports.values())
                if any_:
                    seen.append((data, [name for name, value in zip(ports, which) if value]))

        bench.put(message(0x14, routing=LOCAL, rid=0x1234), message(0x50, b"\x1e\0\0\0", routing=LOCAL), message(PME_TURN_OFF))
        await watch()
        assert seen == [(0x1234, ["pm_as_nak"]), (ROOT, ["setslotpowerlimit"]), (ROOT, [])]
        seen.clear()
        bench.sent.clear()
        assert await bench.config_read(ctx, EXP + 0x0a, 2) == 0
        bench.put(*(message(code) for code in (0x00, 0x40, 0x41, 0x43, 0x44, 0x45, 0x47, 0x48, 0x7f)))
        await watch()
        assert not seen and await bench.config_read(ctx, EXP + 0x0a, 2) == 0
        for code in (0x7e, 0x01, ASSERT):
            bench.put(message(code))
            await watch()
            assert not seen and await bench.config_read(ctx, EXP + 0x0a, 2) == 0b1010, hex(code)
            await bench.config_write(ctx, EXP + 0x0a, 0xf, 2)
        assert not bench.came
    bench.run(testbench)


@pytest.mark.parametrize("how", ["withdrawn", "turned", "pin"])
def test_misuse(rig, how):
    """cfg_interrupt stays until cfg_interrupt_rdy, and INTA is the only one that there is."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        ctx.set(dut.cfg_interrupt_di, how == "pin")
        ctx.set(dut.cfg_interrupt_assert, 1)
        ctx.set(dut.cfg_interrupt, 1)
        await ctx.tick()
        ctx.set(*((dut.cfg_interrupt_assert, 0) if how == "turned" else (dut.cfg_interrupt, 0)))
        await cycles(ctx, 3)
        assert ctx.get(dut.misuse)
    with pytest.raises(AssertionError, match="broke a rule"):
        bench.run(testbench)


def test_completions_go_first(rig):
    """An answer of the block's and a message that wait at the same time: neither is lost."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.sent.clear()
        ctx.set(dut.tx_cfg_gnt, 0)
        bench.put(*(tlps.memory(False, BAR - 4, tag=tag, rid=ROOT) for tag in range(4)))
        ctx.set(dut.cfg_interrupt_assert, 1)
        ctx.set(dut.cfg_interrupt, 1)
        await cycles(ctx, 30)
        ctx.set(dut.tx_cfg_gnt, 1)
        await interrupt(ctx, dut, 1)
        await bench.settle(ctx)
        found = [tlps.parse(tlp) for tlp in bench.sent]
        assert [one.tag for one in found if one.kind == tlps.CPL] == [0, 1, 2, 3]
        assert [one.code for one in found if one.kind == LOCAL] == [ASSERT]
    bench.run(testbench)
