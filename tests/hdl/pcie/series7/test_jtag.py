"""The trace by JTAG: a TAP controller by IEEE 1149.1 and a user clock that is asynchronous to TCK, or stands."""

import random

from amaranth.hdl import ClockDomain, EnableInserter, Module, Signal
from amaranth.lib.wiring import connect
import pytest

from ringnic.hdl.pcie.series7.jtag import LinkScan
from ringnic.hdl.pcie.series7.trace import LinkTrace

from ....kit.simulator import Simulator
from .conftest import words

MAGIC = int.from_bytes(b"LINK", "little")
WORDS = 18
CLOCK = 1 << 4
# IEEE 1149.1, "TAP controller state diagram": the state that follows with TMS 0 and with TMS 1.
FOLLOWS = {
    "reset": ("idle", "reset"), "idle": ("idle", "select-dr"),
    "select-dr": ("capture-dr", "select-ir"), "capture-dr": ("shift-dr", "exit1-dr"), "shift-dr": ("shift-dr", "exit1-dr"),
    "exit1-dr": ("pause-dr", "update-dr"), "pause-dr": ("pause-dr", "exit2-dr"), "exit2-dr": ("shift-dr", "update-dr"),
    "update-dr": ("idle", "select-dr"),
    "select-ir": ("capture-ir", "reset"), "capture-ir": ("shift-ir", "exit1-ir"), "shift-ir": ("shift-ir", "exit1-ir"),
    "exit1-ir": ("pause-ir", "update-ir"), "pause-ir": ("pause-ir", "exit2-ir"), "exit2-ir": ("shift-ir", "update-ir"),
    "update-ir": ("idle", "select-dr"),
}


class Tap:
    """A trace behind a TAP controller, of which this is the host's side. ``selected``: USER1 is the instruction."""
    def __init__(self, *, user_ns=16.0, tck_ns=15.2, phase=0.3):
        self.scan, self.trace = LinkScan(), LinkTrace(clock_mhz=62.5)
        self.runs, self.state, self.selected = Signal(init=1), "reset", True
        m = Module()
        m.domains.jtag = ClockDomain(reset_less=True)
        m.submodules.scan = self.scan
        m.submodules.trace = EnableInserter(self.runs)(self.trace)   # a clock that stands
        connect(m, self.scan.trace, self.trace.scan)
        self.sim = Simulator(m)
        self.sim.add_clock(user_ns * 1e-9)
        self.sim.add_clock(tck_ns * 1e-9, phase=phase * tck_ns * 1e-9, domain="jtag")

    def run(self, bench, *background):
        for one in background:
            self.sim.add_testbench(one, background=True)
        self.sim.add_testbench(bench)
        self.sim.run()

    async def clock(self, ctx, tms):
        """A period of TCK; return what TDO is at the edge that ends it."""
        tap = self.scan.tap
        ctx.set(tap.sel, self.selected)
        for name in ("capture", "shift", "update"):
            ctx.set(getattr(tap, name), self.state == f"{name}-dr")
        _, _, tdo = await ctx.tick("jtag").sample(tap.tdo)
        self.state = FOLLOWS[self.state][tms]
        return tdo

    async def go(self, ctx, *path):
        for tms in path:
            await self.clock(ctx, tms)

    async def shift(self, ctx, bits, *, last):
        """Shift; with ``last`` the last bit ends it."""
        assert self.state == "shift-dr"
        return sum([await self.clock(ctx, last and k == bits - 1) << k for k in range(bits)])

    async def read(self, ctx, words=WORDS):
        """All words, as a drscan of 32 bits each."""
        await self.go(ctx, *((0, 1, 0, 0) if self.state in ("reset", "idle") else (1, 0, 0)))
        found = [await self.shift(ctx, 32, last=k == words - 1) for k in range(words)]
        await self.go(ctx, 1)                    # to Update-DR
        await self.go(ctx, 0)
        return found


def busy_link(tap, seed):
    """A link that does not come to rest."""
    rng = random.Random(seed)

    async def change(ctx):
        while True:
            ctx.set(tap.trace.block.pl_ltssm_state, rng.randrange(52))
            ctx.set(tap.trace.up, rng.randrange(2))
            ctx.set(tap.trace.block.pl_sel_lnk_width, rng.randrange(4))
            for _ in range(rng.choice((1, 2, 300))):
                await ctx.tick()
    return change


async def rest(ctx, tap, *states):
    for state in states:
        ctx.set(tap.trace.block.pl_ltssm_state, state)
        for _ in range(6):
            await ctx.tick()


@pytest.mark.parametrize("user_ns, tck_ns, phase", [(16, 15.2, 0), (16, 15.2, .5), (8, 15.2, .3), (16, 97.3, .1),
                                                   (16, 16, .25)])
def test_words_are_of_one_moment(user_ns, tck_ns, phase):
    """Whatever the link does meanwhile, and however fast both clocks are: what is shifted out is what the trace shows."""
    tap = Tap(user_ns=user_ns, tck_ns=tck_ns, phase=phase)

    async def bench(ctx):
        counts = []
        for _ in range(4):
            await tap.go(ctx, 0, 1, 0, 0)
            first = await tap.shift(ctx, 32, last=False)
            due = words(ctx, tap.trace.page)
            rest = [await tap.shift(ctx, 32, last=k == WORDS - 2) for k in range(WORDS - 1)]
            assert [first, *rest] == due and first == MAGIC and rest[0] & CLOCK
            counts.append(rest[0] >> 16)
            await tap.go(ctx, 1, 0, 0, 0)
        assert counts == sorted(set(counts))     # it goes on between two looks
    tap.run(bench, busy_link(tap, 1))


def test_states_in_order():
    tap = Tap()

    async def bench(ctx):
        await rest(ctx, tap, 0x02, 0x04, 0x05, 0x16)
        magic, status, *entries = await tap.read(ctx)
        assert magic == MAGIC and status >> 16 == 4 and [entry >> 24 for entry in entries[:6]] == [0, 2, 4, 5, 0x16, 0]
    tap.run(bench)


def test_pause():
    """A cable may stop in mid-scan (Pause-DR)."""
    tap = Tap()

    async def bench(ctx):
        await rest(ctx, tap, 0x02, 0x04)
        await tap.go(ctx, 0, 1, 0, 0)
        found, left, due = 0, 32 * WORDS, None
        for bits in (7, 25, 40, 32 * WORDS - 72):
            left -= bits
            found |= await tap.shift(ctx, bits, last=True) << 32 * WORDS - left - bits
            await tap.go(ctx, *((0, 0, 1, 0) if left else (1, 0)))
            due = due or words(ctx, tap.trace.page)
        assert [found >> 32 * k & 0xffff_ffff for k in range(WORDS)] == due
    tap.run(bench)


def test_other_instructions():
    """Behind another instruction nothing is held, and a register of another length does no harm."""
    tap = Tap()

    async def bench(ctx):
        await rest(ctx, tap, 0x02)
        await tap.go(ctx, 0, 1, 0, 0)
        await tap.shift(ctx, 50, last=True)      # a scan that breaks off, by a reset of the TAP
        tap.selected = False
        await tap.go(ctx, 1, 1, 1, 1, 1)
        await tap.read(ctx)
        for state in (0x04, 0x16):
            await rest(ctx, tap, state)
        assert words(ctx, tap.trace.page)[1] >> 16 == 3
        tap.selected = True
        assert (await tap.read(ctx))[1] >> 16 == 3
    tap.run(bench)


def test_hold_ends_with_the_scan():
    tap = Tap()

    async def bench(ctx):
        await tap.read(ctx)
        await rest(ctx, tap, 0x02, 0x04)
        assert words(ctx, tap.trace.page)[1] >> 16 == 2
    tap.run(bench)


def test_a_clock_that_stands():
    """It is told of each time, and what is there can be read; once it runs again, that is told too."""
    tap = Tap()

    async def bench(ctx):
        await rest(ctx, tap, 0x02, 0x04)
        assert (await tap.read(ctx))[1] & CLOCK
        await rest(ctx, tap, 0x04)
        ctx.set(tap.runs, 0)
        due = words(ctx, tap.trace.page)
        for _ in range(3):
            found = await tap.read(ctx)
            assert found == [due[0], due[1] & ~CLOCK, *due[2:]] and [entry >> 24 for entry in found[2:5]] == [0, 2, 4]
        ctx.set(tap.runs, 1)
        for _ in range(3):
            assert (await tap.read(ctx))[1] & CLOCK
    tap.run(bench)


def test_a_clock_that_ends_in_a_scan():
    """The answer that was on its way is none to the next question."""
    tap = Tap()

    async def bench(ctx):
        await tap.go(ctx, 0, 1, 0, 0)
        await tap.shift(ctx, 20, last=False)
        ctx.set(tap.runs, 0)
        await tap.shift(ctx, 20, last=True)
        await tap.go(ctx, 1, 0)
        assert not (await tap.read(ctx))[1] & CLOCK
        ctx.set(tap.runs, 1)
        assert (await tap.read(ctx))[1] & CLOCK
    tap.run(bench)
