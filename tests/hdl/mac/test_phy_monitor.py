"""PhyMonitor against a PHY that was written from clause 22: its setup, and what is made of its registers."""

import itertools
import re

import pytest

from ringnic.hdl.mac.phy_monitor import PhyMonitor
from ringnic.hdl.spec.mii import LinkSpeed
from ringnic.hdl.spec.phy import ksz9031, rtl8211f

from ...kit import streams
from ...kit.phy import FULL, HALF, MODES, MdioPhy, mode_of
from ...kit.simulation import Simulation, cycles

ADDRESS = 0b10110
SPEEDS = {10: LinkSpeed.MBPS_10.value, 100: LinkSpeed.MBPS_100.value, 1000: LinkSpeed.MBPS_1000.value}
LOOK = 60             # cycles that a look takes at most
EVERY = set(MODES)


def test_errors():
    for step in ((32, 1, 0), (0, 0, 0), (0, 1, 2), (0, 0x10000, 0)):
        with pytest.raises(ValueError, match="^" + re.escape(
                f"A step of a PHY's setup must be a register, a mask and bits of it, not {step!r}") + "$"):
            PhyMonitor(setup=[step], poll_cycles=1)


class Monitor(Simulation):
    """A monitor that asks the registers without MDIO in between."""
    def __init__(self, setup=(), own=EVERY):
        super().__init__(PhyMonitor(setup=setup, poll_cycles=5))
        self.phy = MdioPhy(ADDRESS, own=own)
        self.history = []     # link states, one after the other
        self.background(self._answer)
        self.background(self._look)

    async def _answer(self, ctx):
        request, answer = self.dut.request, self.dut.answer
        while True:
            asked = await streams.receive(ctx, request)
            found, ok = self.phy.access(asked.write, asked.register, asked.data)
            await streams.send(ctx, answer, {"data": found, "ok": ok})

    async def _look(self, ctx):
        link = self.dut.link
        while True:
            _, _, up, speed, full = await ctx.tick().sample(link.up, link.speed, link.full)
            state = (speed, full) if up else None
            if not self.history or self.history[-1] != state:
                self.history.append(state)

    def looks(self):
        return sum(register == 1 for _, register, _ in self.phy.frames) // 2

    async def look(self, ctx, count=2):
        """Wait until whatever is now has been looked at."""
        goal = self.looks() + count + 1
        await self.until(ctx, lambda: self.looks() >= goal, limit=LOOK * (count + 2))

    async def settle(self, ctx):
        await self.look(ctx, PhyMonitor.SETTLED + 1)


def state_of(mode):
    return (SPEEDS[mode[0]], 1) if mode and mode[1] == FULL else None


# What two gigabit PHYs, a fast one, an old one, a hub and others can.
SETS = [EVERY, EVERY - {(1000, FULL)}, EVERY - {(1000, FULL), (1000, HALF)}, {(100, FULL), (10, FULL)}, {(100, HALF)},
        {(10, FULL), (10, HALF)}, {(10, HALF)}, {(1000, HALF), (100, FULL)}, {(100, HALF), (10, FULL)}, set()]


@pytest.mark.parametrize("own", [EVERY, EVERY - {(1000, FULL), (1000, HALF)}], ids=["gigabit", "fast"])
def test_resolution(own):
    """28B.3: the best mode of both; half duplex, or none, is no link for this card. Each partner after a pulled cable."""
    bench = Monitor(own=own)

    async def main(ctx):
        await bench.settle(ctx)
        for partner in SETS:
            bench.phy.plug(partner)
            await bench.look(ctx)
            assert bench.history[-1] == state_of(mode_of(own, partner)), partner
            bench.phy.pull()
            await bench.look(ctx)
            assert bench.history[-1] is None
    bench.run(main)
    assert bench.phy.problems == []


def test_all_pairs_of_modes():
    """Of any two modes that both ends have, the better one is taken."""
    for pair in itertools.combinations(MODES, 2):
        assert mode_of(EVERY, set(pair)) == min(pair, key=list(MODES).index)


def test_forced():
    """22.2.4.1: without a negotiation the control register says what the link is."""
    bench = Monitor()

    async def main(ctx):
        await bench.settle(ctx)
        for mbps, duplex in itertools.product((10, 100, 1000), (HALF, FULL)):
            bench.phy.force(mbps, duplex)
            await bench.look(ctx)
            assert bench.history[-1] == state_of((mbps, duplex))
            bench.phy.pull()
            await bench.look(ctx)
        bench.phy.force(1000, FULL)
        bench.phy.registers[0] |= 1 << 13         # both bits of the speed: reserved
        await bench.look(ctx)
        assert bench.history[-1] is None
    bench.run(main)


def test_negotiation_that_has_not_ended():
    bench = Monitor()

    async def main(ctx):
        await bench.settle(ctx)
        bench.phy.plug(EVERY, complete=False)
        await bench.look(ctx, 3)
        assert bench.history == [None]
        bench.phy.plug(EVERY)
        await bench.look(ctx)
    bench.run(main)
    assert bench.history == [None, state_of((1000, FULL))]


def test_a_loss_that_nobody_saw():
    """22.2.4.2.13: link status latches low. However short the loss, the link is down once, and speed changes in between only."""
    bench = Monitor()

    async def main(ctx):
        await bench.settle(ctx)
        bench.phy.plug(EVERY)
        await bench.look(ctx)
        for _ in range(2):
            bench.phy.blink()
            await bench.look(ctx)
        bench.phy.pull()
        bench.phy.plug({(100, FULL)})
        await bench.look(ctx)
    bench.run(main)
    gigabit, fast = state_of((1000, FULL)), state_of((100, FULL))
    assert bench.history == [None, gigabit, None, gigabit, None, gigabit, None, fast]


@pytest.mark.parametrize("register", [0, 4, 5, 9, 10])
def test_a_loss_while_it_looks(register):
    """What the registers say counts only if the link was there before and after."""
    bench = Monitor()
    read, armed = bench.phy.read, []

    def reads(number):
        if number == register and armed:
            armed.clear()
            bench.phy.pull()
            bench.phy.plug({(10, FULL)})          # another partner, and half of the registers have been read
        return read(number)
    bench.phy.read = reads

    async def main(ctx):
        await bench.settle(ctx)
        bench.phy.plug(EVERY)
        await bench.look(ctx)
        armed.append(True)
        await bench.look(ctx, 3)
    bench.run(main)
    assert bench.history == [None, state_of((1000, FULL)), None, state_of((10, FULL))]


def test_setup_is_written_when_the_phy_is_awake():
    """Eight answers in a row, then the setup, and only the bits that it names; once, and again after the PHY was away."""
    setup = rtl8211f(rx=1, tx=0)
    bench = Monitor(setup)
    bench.phy.silent = True
    bench.phy.registers[0x11], bench.phy.registers[0x15] = 0x1134, 0x0f00

    def writes():
        return [(register, value) for kind, register, value in bench.phy.frames if kind == "write"]
    wanted = [(0x1f, 0xd08), (0x11, 0x1034), (0x15, 0x0f08), (0x1f, 0)]

    async def main(ctx):
        await cycles(ctx, 2 * LOOK)
        bench.phy.plug(EVERY)
        bench.phy.silent = False
        await bench.look(ctx, PhyMonitor.SETTLED - 2)
        assert writes() == []
        await bench.look(ctx, 6)
        assert writes() == wanted
        assert bench.history == [None, state_of((1000, FULL))]
        bench.phy.silent = True
        await cycles(ctx, 2 * LOOK)
        assert bench.history[-1] is None
        bench.phy.silent = False
        await bench.look(ctx, PhyMonitor.SETTLED + 3)
        assert writes() == 2 * wanted
    bench.run(main)
    assert bench.phy.problems == []
    assert not any(kind == "write" and register in (0, 4, 9) for kind, register, _ in bench.phy.frames)  # it resets nothing


def test_a_phy_that_goes_away_within_its_setup():
    bench = Monitor([(20, 0x00ff, 0x55), (21, 0x00ff, 0xaa)])
    read = bench.phy.read

    def reads(number):
        if number == 20 and not gone:
            gone.append(True)
            bench.phy.silent = True
        return read(number)
    gone, bench.phy.read = [], reads

    async def main(ctx):
        await bench.until(ctx, lambda: gone, limit=12 * LOOK)
        await cycles(ctx, 2 * LOOK)
        assert bench.phy.registers[21] == 0
        bench.phy.silent = False
        await bench.settle(ctx)
        await bench.look(ctx, 3)
        assert (bench.phy.registers[20], bench.phy.registers[21]) == (0x55, 0xaa)
    bench.run(main)


def test_whole_registers_are_not_read():
    bench = Monitor(ksz9031(rx=1, tx=1))

    async def main(ctx):
        await bench.settle(ctx)
        await bench.until(ctx, lambda: len([1 for kind, *_ in bench.phy.frames if kind == "write"]) == 16, limit=1000)
    bench.run(main)
    assert {register for kind, register, _ in bench.phy.frames if kind == "read"} == {0, 1, 4, 5, 9, 10}
