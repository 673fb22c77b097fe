"""Messages: what stands for the INTA pin, and those of errors and of power."""

from itertools import count

import pytest

from ringnic.hdl.pcie.messages import Messages

from ...kit.simulator import Simulator
from ...kit.tlps import take


def run(dut, main, pause):
    """What came out while ``main(ctx)`` ran, in hex; a beat is taken every ``pause`` cycles."""
    out, cycle = [], count(1)

    async def begin(ctx):
        ctx.set(dut.requester_id, 0x0108)
        await main(ctx)

    async def collect(ctx):
        await take(ctx, dut.o, dut.width, out.append, lambda: next(cycle) % pause)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(begin)
    sim.add_testbench(collect, background=True)
    sim.run()
    return [tlp.hex() for tlp in out]


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_intx(width):
    dut = Messages(width=width)

    async def main(ctx):
        for level in (1, 0):
            ctx.set(dut.intx, level)
            await ctx.tick().repeat(3)
            if level == 0:
                ctx.set(dut.intx, 1)
                await ctx.tick().repeat(15)
                ctx.set(dut.intx, 0)
            await ctx.tick().repeat(20)
    out = run(dut, main, pause=3)
    up, down = ("34000000" "010800" + code + "00" * 8 for code in ("20", "24"))
    assert out[0] == up and out[-1] == down and all(a != b for a, b in zip(out, out[1:])) and len(out) % 2 == 0


@pytest.mark.parametrize("width", [64, 128])
def test_strobes(width):
    """One message each; while one waits, others of its kind are the same. The level goes first."""
    dut = Messages(width=width)

    async def main(ctx):
        for names in (["err_nonfatal"], ["err_fatal"], ["pme_to_ack"], ["pme_to_ack", "err_fatal", "err_nonfatal", "intx"]):
            for name in names:
                ctx.set(getattr(dut, name), 1)
            await ctx.tick().repeat(2 if len(names) > 1 else 1)
            for name in names:
                if name != "intx":
                    ctx.set(getattr(dut, name), 0)
            assert ctx.get(dut.busy)
            await ctx.tick().repeat(40)
            assert not ctx.get(dut.busy)
    out = run(dut, main, pause=4)
    assert all(one[2:14] == "000000010800" and one[16:] == "00" * 8 for one in out)
    assert [(one[:2], one[14:16]) for one in out] == [
        ("30", "31"), ("30", "33"), ("35", "1b"), ("34", "20"), ("30", "31"), ("30", "33"), ("35", "1b")]
