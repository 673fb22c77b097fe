"""The record of the link training: what was entered when, how long it lasted, and what does not stop it.

What the block's ports say is from PG054, "Physical Layer Interface"; the words are those of hdl/spec/bar.py.
"""

import gc
import random
from types import SimpleNamespace

from amaranth.hdl import ResetInserter, Signal
import pytest

from ringnic.hdl.pcie.series7 import trace
from ringnic.hdl.pcie.series7.trace import LinkTrace

from ....kit.simulation import cycles
from ....kit.simulator import Simulator
from .conftest import words

MHZ = 62.5 / 32          # 8 cycles in a tick of 4.096 us
TICK = 8
L0, QUIET, ACTIVE, POLLING = 0x16, 0x00, 0x02, 0x04
SYNCHRONIZED = 3         # cycles until a hold is there, without metastability


def simulate(dut, bench, around=None):
    sim = Simulator(around or dut)
    sim.add_clock(16e-9)
    sim.add_testbench(bench)
    sim.run()


async def lasts(ctx, dut, state, count):
    ctx.set(dut.block.pl_ltssm_state, state)
    await cycles(ctx, count)


def entries(ctx, port):
    """``(state, ticks, gap)`` of the last states, the newest last."""
    _, status, *found = words(ctx, port)
    count = status >> 16
    return [(found[at % 16] >> 24 & 0x3f, found[at % 16] & 0xff_ffff, found[at % 16] >> 31)
            for at in range(max(0, count - 15), count + 1)]


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_error():
    for mhz in (100, 63):
        with pytest.raises(ValueError, match=f"^User clock must be 62.5 MHz times a power of 2, not {mhz}$"):
            LinkTrace(clock_mhz=mhz)
    gc.collect()


@pytest.mark.parametrize("mhz, tick", [(62.5, 256), (125, 512), (250, 1024)])
def test_a_tick_is_the_same_time_with_any_clock(mhz, tick):
    assert LinkTrace(clock_mhz=mhz).tick_cycles == tick


def test_before_anything_has_happened():
    dut = LinkTrace(clock_mhz=MHZ)

    async def bench(ctx):
        assert words(ctx, dut.page) == [int.from_bytes(b"LINK", "little"), 1 << 4, *[0] * 16]
    simulate(dut, bench)


@pytest.mark.parametrize("seed", range(3))
def test_states_and_times(seed):
    """Of more states than there is room for the last ones are there, in order, each with its time to within a tick."""
    dut, rng = LinkTrace(clock_mhz=MHZ), random.Random(seed)

    async def bench(ctx):
        given = [(QUIET, 0)]
        for number in range(50):
            state = rng.choice([state for state in range(52) if state != given[-1][0]])
            given.append((state, rng.choice((1, 2, 7, 8, 9, rng.randrange(1, 200)))))
            await lasts(ctx, dut, *given[-1])
        await lasts(ctx, dut, L0 if given[-1][0] != L0 else POLLING, 6)
        for port in (dut.page, dut.scan.page):
            assert words(ctx, port)[1] >> 16 == len(given)
            *found, newest = entries(ctx, port)
            assert newest[0] == (L0 if given[-1][0] != L0 else POLLING)
            for (state, ticks, gap), (due, lasted) in zip(found, given[-15:], strict=True):
                assert state == due and TICK * ticks <= lasted <= TICK * (ticks + 1) and not gap
    simulate(dut, bench)


def test_the_state_that_lasts():
    dut = LinkTrace(clock_mhz=MHZ)

    async def bench(ctx):
        await lasts(ctx, dut, POLLING, 100)
        before = entries(ctx, dut.page)[-1]
        await cycles(ctx, 100)
        after = entries(ctx, dut.page)[-1]
        assert before[0] == after[0] == POLLING and before[1] in (11, 12) and after[1] in (23, 24, 25)
    simulate(dut, bench)


@pytest.mark.parametrize("up, rate, width", [(1, 1, 0), (1, 0, 2), (0, 1, 3)])
def test_speed_and_width(up, rate, width):
    """PG054: rate 0 is 2.5 GT/s, 1 is 5 GT/s; width 0 is x1, 1 is x2, 2 is x4, 3 is x8."""
    dut = LinkTrace(clock_mhz=MHZ)

    async def bench(ctx):
        ctx.set(dut.up, up)
        ctx.set(dut.block.pl_sel_lnk_rate, rate)
        ctx.set(dut.block.pl_sel_lnk_width, width)
        await cycles(ctx, 3)
        assert words(ctx, dut.page)[1] & 0xffff == up | rate << 1 | width << 2 | 1 << 4
    simulate(dut, bench)


def test_no_reset_reaches_it():
    dut, reset = LinkTrace(clock_mhz=MHZ), Signal()

    async def bench(ctx):
        for state in (ACTIVE, POLLING, L0):
            await lasts(ctx, dut, state, 20)
        ctx.set(reset, 1)
        await lasts(ctx, dut, QUIET, 40)
        assert [state for state, _, _ in entries(ctx, dut.page)] == [QUIET, ACTIVE, POLLING, L0, QUIET]
        await lasts(ctx, dut, ACTIVE, 20)
        ctx.set(reset, 0)
        await lasts(ctx, dut, L0, 20)
        found = entries(ctx, dut.page)
        assert [state for state, _, _ in found] == [QUIET, ACTIVE, POLLING, L0, QUIET, ACTIVE, L0] and found[4][1] in (4, 5)
    simulate(dut, bench, ResetInserter(reset)(dut))


def test_the_highest_numbers(monkeypatch):
    """A time stays at its highest; the number of states goes on such that it still says where the newest entry is."""
    monkeypatch.setattr(trace, "LinkEntry", SimpleNamespace(TICKS=slice(0, 4), STATE=slice(24, 30), GAP=31))
    monkeypatch.setattr(trace, "LinkStatus", SimpleNamespace(
        UP=0, RATE=1, WIDTH=slice(2, 4), CLOCK=4, COUNT=slice(16, 22)))
    dut = LinkTrace(clock_mhz=MHZ)

    async def bench(ctx):
        await lasts(ctx, dut, L0, 400)
        assert entries(ctx, dut.page)[-1] == (L0, 15, 0)
        for number in range(2, 90):
            await lasts(ctx, dut, (QUIET, L0)[number & 1], 1)
            await cycles(ctx, 2)
            count = words(ctx, dut.page)[1] >> 16
            assert count == (number if number < 64 else 48 + number % 16)
            assert words(ctx, dut.page)[2 + count % 16] >> 24 == (QUIET, L0)[number & 1]
    simulate(dut, bench)


def test_hold():
    """Nothing that can be seen changes; afterwards the entry has its whole time, and says that there may have been others."""
    dut = LinkTrace(clock_mhz=MHZ)

    async def bench(ctx):
        await lasts(ctx, dut, ACTIVE, 30)
        ctx.set(dut.scan.hold, 1)
        await cycles(ctx, SYNCHRONIZED)
        held = words(ctx, dut.scan.page)
        for state in (POLLING, L0, ACTIVE, POLLING):
            ctx.set(dut.up, 1)
            ctx.set(dut.block.pl_sel_lnk_rate, 1)
            await lasts(ctx, dut, state, 25)
            assert words(ctx, dut.scan.page) == held
        ctx.set(dut.scan.hold, 0)
        await cycles(ctx, SYNCHRONIZED + 2)
        before, now = entries(ctx, dut.page)[-2:]
        assert before[0] == ACTIVE and before[1] in (16, 17) and before[2] and now == (POLLING, 0, 0)
        await lasts(ctx, dut, L0, 20)
        assert [gap for _, _, gap in entries(ctx, dut.page)] == [0, 1, 0, 0]
        # There and back again: the entry goes on, and is marked.
        ctx.set(dut.scan.hold, 1)
        await cycles(ctx, SYNCHRONIZED)
        await lasts(ctx, dut, QUIET, 5)
        await lasts(ctx, dut, L0, 5)
        ctx.set(dut.scan.hold, 0)
        await cycles(ctx, 20)
        assert entries(ctx, dut.page)[-1][::2] == (L0, 1)
        # With nothing to miss there is no mark.
        await lasts(ctx, dut, QUIET, 20)
        ctx.set(dut.scan.hold, 1)
        await cycles(ctx, 30)
        ctx.set(dut.scan.hold, 0)
        await cycles(ctx, 20)
        assert entries(ctx, dut.page)[-1][::2] == (QUIET, 0)
    simulate(dut, bench)


@pytest.mark.parametrize("offset", range(-8, 9))
def test_hold_beside_a_change(offset):
    """The newest entry is that of the number in the status, whenever the hold begins."""
    dut = LinkTrace(clock_mhz=MHZ)

    async def bench(ctx):
        await lasts(ctx, dut, ACTIVE, 30)
        if offset < 0:
            ctx.set(dut.scan.hold, 1)
            await cycles(ctx, -offset)
        ctx.set(dut.block.pl_ltssm_state, POLLING)
        await cycles(ctx, max(0, offset))
        ctx.set(dut.scan.hold, 1)
        await cycles(ctx, SYNCHRONIZED)
        held = words(ctx, dut.scan.page)
        assert [state for state, _, _ in entries(ctx, dut.scan.page)] == [QUIET, ACTIVE, POLLING][:1 + (held[1] >> 16)]
        await cycles(ctx, 40)
        assert words(ctx, dut.scan.page) == held
        ctx.set(dut.scan.hold, 0)
        await cycles(ctx, 20)
        assert [state for state, _, _ in entries(ctx, dut.scan.page)] == [QUIET, ACTIVE, POLLING]
    simulate(dut, bench)


def test_an_answer_to_each_question():
    dut = LinkTrace(clock_mhz=MHZ)

    async def bench(ctx):
        for ask in (1, 0, 1):
            ctx.set(dut.scan.ask, ask)
            await cycles(ctx, SYNCHRONIZED)
            assert ctx.get(dut.scan.answer) == ask
    simulate(dut, bench)
