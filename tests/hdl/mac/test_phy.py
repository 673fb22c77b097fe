"""The management of a PHY, from its pins to the link, with a PHY of clause 22; and what a reset of the slot leaves alone."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
import pytest

from ringnic.hdl.mac import phy as module
from ringnic.hdl.mac.mdio import MdioAnswer, MdioPins, MdioRequest
from ringnic.hdl.mac.phy import PhyManagement
from ringnic.hdl.spec.mii import LinkSpeed

from ...kit.phy import FULL, HALF, MdioPhy, attach
from ...kit.simulation import Simulation, cycles

CLOCK_HZ = 100        # a period of MDC has six cycles
FRAME = 64 * 6        # cycles
POLL = 7 * FRAME
ADDRESS = 0b10110


class Bench(Simulation):
    def __init__(self):
        self.managed = PhyManagement(clock_hz=CLOCK_HZ, address=ADDRESS, setup=[(20, 0x00f0, 0x0050)])
        self.reset = Signal()
        super().__init__(ResetInserter(self.reset)(self.managed), limit=200_000)
        self.phy = MdioPhy(ADDRESS)
        self.phy.registers[20] = 0xabcd
        self.phy.plug({(100, FULL), (10, HALF)})
        self.background(attach, self.phy, self.managed.pins)

    async def up(self, ctx):
        await self.until(ctx, lambda: ctx.get(self.managed.link.up), limit=12 * POLL)

    async def pulse(self, ctx):
        ctx.set(self.reset, 1)
        await cycles(ctx, 2)
        ctx.set(self.reset, 0)


@pytest.fixture(autouse=True)
def polls_without_pause(monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)


def test_from_pins_to_link():
    bench, found = Bench(), []

    async def main(ctx):
        await bench.up(ctx)
        found.append((ctx.get(bench.managed.link.speed), ctx.get(bench.managed.link.full)))
    bench.run(main)
    assert found == [(LinkSpeed.MBPS_100.value, 1)] and bench.phy.registers[20] == 0xab5d and bench.phy.problems == []


def test_a_reset_of_the_slot_changes_nothing():
    """Neither before the link is up, in the middle of any frame, nor behind that."""
    bench = Bench()

    async def main(ctx):
        for _ in range(90):
            await bench.pulse(ctx)
            await cycles(ctx, FRAME * 3 // 4)
        await bench.up(ctx)
        for _ in range(30):
            await bench.pulse(ctx)
            for _ in range(FRAME // 5):
                await ctx.tick()
                assert ctx.get(bench.managed.link.up)
        bench.phy.pull()
        await bench.until(ctx, lambda: not ctx.get(bench.managed.link.up), limit=2 * POLL)
    bench.run(main)
    assert [number for kind, number, _ in bench.phy.frames if kind == "write"] == [20] and bench.phy.registers[20] == 0xab5d
    assert bench.phy.problems == []


class Deaf(wiring.Component):
    """A master that answers all ones, and none of its requests from the ``last`` on until it is reset."""
    half_period = 3

    def __init__(self, last):
        self.last = last
        super().__init__({"i": In(stream.Signature(MdioRequest)), "o": Out(stream.Signature(MdioAnswer)), "pins": Out(MdioPins)})

    def elaborate(self, platform):
        m = Module()
        asked = Signal(range(self.last + 1))
        m.d.comb += [self.i.ready.eq(~self.o.valid), self.o.p.ok.eq(1), self.o.p.data.eq(0xffff)]
        with m.If(self.i.valid & self.i.ready & (asked != self.last)):
            m.d.sync += [asked.eq(asked + 1), self.o.valid.eq(1)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m


def test_a_request_without_an_answer():
    """As when a clock that stopped left the two parts in different states: all begins anew, again and again."""
    managed = PhyManagement(clock_hz=CLOCK_HZ, address=ADDRESS, setup=())
    managed._master = Deaf(10)
    bench, history = Simulation(managed, limit=200_000), []

    async def main(ctx):
        while len(history) < 8:
            await bench.until(ctx, lambda: ctx.get(managed.link.up) != len(history) % 2, limit=4 * POLL)
            history.append(ctx.get(managed.link.up))
    bench.run(main)
    assert history == [1, 0] * 4
