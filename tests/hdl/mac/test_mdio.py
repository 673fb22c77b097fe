"""MDIO against a PHY that was written from clause 22: frames and timing."""

import pytest

from ringnic.hdl.mac.mdio import MdioMaster

from ...kit.phy import MdioPhy, attach
from ...kit.simulation import Simulation, cycles

SLOW_HZ = 100         # of the core: a period of MDC has six cycles
ADDRESS = 0b10110


def test_errors():
    with pytest.raises(ValueError, match="^PHY address must be 0 to 31, not 32$"):
        MdioMaster(clock_hz=125e6, address=32)


@pytest.mark.parametrize("clock_hz", [31.25e6, 62.5e6, 100e6, 125e6, 250e6])
def test_period(clock_hz):
    """IEEE 802.3, 22.2.2.13: a period of 400 ns or more, high and low for 160 ns or more; no slower than needed."""
    cycle = 1e9 / clock_hz
    half = MdioMaster(clock_hz=clock_hz, address=0).half_period * cycle
    assert 400 <= 2 * half < 400 + 2 * cycle and half >= 160


class Master(Simulation):
    def __init__(self, *, clock_hz=SLOW_HZ, phy=None, delay_ns=0, **options):
        super().__init__(MdioMaster(clock_hz=clock_hz, address=ADDRESS), **options)
        self.phy = phy or MdioPhy(ADDRESS)
        self.background(attach, self.phy, self.dut.pins, 1 + int(delay_ns * clock_hz / 1e9))
        self.answers = self.collect(self.dut.o)

    async def ask(self, ctx, register, data=None):
        wanted = len(self.answers) + 1
        await self.send(ctx, self.dut.i, {"write": data is not None, "register": register, "data": data or 0})
        await self.until(ctx, lambda: len(self.answers) == wanted, limit=64 * 2 * self.dut.half_period + 100)
        return self.answers[-1].data, self.answers[-1].ok


def test_frames(rng):
    bench = Master(rng=rng, pause=0.3)
    sent = []

    async def main(ctx):
        for register in (0, 1, 2, 15, 16, 30, 31):
            value = rng.randrange(1 << 16)
            assert (await bench.ask(ctx, register, value))[1]
            sent.append(("write", register, value))
            await cycles(ctx, rng.randrange(3))
            if register != 1:
                assert await bench.ask(ctx, register) == (value, 1)
                sent.append(("read", register, value))
    bench.run(main)
    assert bench.phy.frames == sent and bench.phy.problems == []


def test_nobody_answers():
    """Pulled up, the data read as all ones; the second bit of the turnaround shows that no PHY answered (22.2.4.5.8)."""
    bench = Master(phy=MdioPhy(ADDRESS, silent=True))

    async def main(ctx):
        assert not (await bench.ask(ctx, 1))[1]
        bench.phy.silent = False
        assert (await bench.ask(ctx, 4))[1]
        bench.phy.address = ADDRESS ^ 1
        assert not (await bench.ask(ctx, 4))[1]
    bench.run(main)
    assert bench.phy.problems == []


@pytest.mark.parametrize("clock_hz, delay_ns", [(62.5e6, 0), (62.5e6, 300), (125e6, 0), (125e6, 300)])
def test_edges(clock_hz, delay_ns, rng):
    """22.3.4: MDIO is stable from 10 ns before MDC rises to 10 ns after it; the PHY answers 0 to 300 ns after the edge."""
    cycle, rises, changes = 1e9 / clock_hz, [], []
    bench = Master(clock_hz=clock_hz, delay_ns=delay_ns)
    pins = bench.dut.pins

    async def look(ctx):
        before, now = (0, 1, 0), 0
        while True:
            _, _, *state = await ctx.tick().sample(pins.mdc, pins.mdio_o, pins.mdio_oe)
            now += 1
            if state[0] > before[0]:
                rises.append(now)
            if state[1:] != before[1:]:
                changes.append(now)
            before = state
    bench.background(look)
    bench.phy.registers[9] = value = rng.randrange(1 << 16)

    async def main(ctx):
        assert await bench.ask(ctx, 9) == (value, 1)
    bench.run(main)
    assert len(rises) == 64 and all(later - former >= 400 / cycle for former, later in zip(rises, rises[1:]))
    assert min(abs(change - rise) for change in changes for rise in rises) * cycle >= 10
