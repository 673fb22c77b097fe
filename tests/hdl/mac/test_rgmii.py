"""RGMII at all speeds: what a PHY samples of what the card sends, and what the card makes of what a PHY sends.

Ref: RGMII version 2.0, 3.4 "TXERR and RXERR coding", 3.4.1 "In-band status", 5.0 "10/100 functionality"; IEEE 802.3, 22.
"""

import zlib

import pytest
from amaranth.hdl import ClockDomain, Module

from ringnic.hdl.mac.phy_monitor import PhyMonitor
from ringnic.hdl.mac.rgmii import Rgmii, RgmiiParameters
from ringnic.hdl.spec.mii import LinkSpeed

from ...kit.phy import FULL, MdioPhy, attach
from ...kit.simulation import cycles
from ...kit.simulator import Simulator

CLOCK = 8e-9
HALVES = {10: 100, 100: 10, 1000: 2}         # half clocks of 125 MHz in a period of TXC: 400, 40 and 8 ns
ADDRESS = 3
OWN = 0x5254_0052_4e01
PREAMBLE = b"\x55" * 7 + b"\xd5"


def with_fcs(frame):
    frame = frame.ljust(60, b"\0")
    return frame + zlib.crc32(frame).to_bytes(4, "little")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A PHY's first answer will do: test_phy_monitor.py waits for it to settle."""
    monkeypatch.setattr(PhyMonitor, "SETTLED", 1)


def test_errors():
    with pytest.raises(ValueError, match="^TXC must be delayed by 'phy' or 'fpga', not 'both'$"):
        RgmiiParameters(clock_hz=125e6, phy_address=0, tx_delay="both")
    with pytest.raises(ValueError, match="^Delay of RXD must be 0 to 31 taps, not 32$"):
        RgmiiParameters(clock_hz=125e6, phy_address=0, rx_taps=32)


class Bench:
    """A MAC whose pads are recorded half clock by half clock, with a PHY on MDIO."""
    def __init__(self, mbps, *, width=64, rx_ppm=100, core=16e-9):
        # A core clock of 50 Hz by name: MDIO and its pauses are as fast as they get.
        self.dut = Rgmii(width=width, max_frame=9026, parameters=RgmiiParameters(clock_hz=50, phy_address=ADDRESS))
        self.mbps, self.lanes = mbps, width // 8
        self.phy = MdioPhy(ADDRESS)
        self.halves = []                     # (TXC, TXD, TX_CTL) in each half of a clock of 125 MHz
        self.frames = []                     # (frame, error) from the MAC
        self.inband = 0                      # what the PHY shows between frames
        self.finished = False
        top = Module()
        self.sync = ClockDomain("sync")
        top.domains += self.sync, ClockDomain("gmii_tx", reset_less=True), ClockDomain("rgmii_rx", reset_less=True)
        top.submodules.dut = self.dut
        self.sim = Simulator(top)
        self.sim.add_clock(core)
        self.sim.add_clock(CLOCK, domain="gmii_tx", phase=1.3e-9)
        self.sim.add_clock(CLOCK * HALVES[mbps] / 2 * (1 + rx_ppm * 1e-6), domain="rgmii_rx", phase=2.9e-9)
        for task in (self._pads, self._frames, self._mdio):
            self.sim.add_testbench(task, background=True)

    async def _pads(self, ctx):
        pads = self.dut.pads
        async for _, _, txc, txd, ctl in ctx.tick("gmii_tx").sample(pads.txc, pads.txd, pads.tx_ctl):
            self.halves += [(txc & 1, txd & 15, ctl & 1), (txc >> 1, txd >> 4, ctl >> 1)]

    async def _frames(self, ctx):
        frame, p = b"", self.dut.o.p
        ctx.set(self.dut.o.ready, 1)
        async for _, _, taken, value, count, last, error in ctx.tick().sample(
                self.dut.o.valid, p.data, p.count, p.last, p.error):
            if taken:
                frame += value.to_bytes(self.lanes, "little")[:count]
                if last:
                    self.frames.append((frame, error))
                    frame = b""

    async def _mdio(self, ctx):
        await attach(ctx, self.phy, self.dut.mdio)

    async def up(self, ctx):
        """Plug a partner in and wait for the link."""
        self.phy.plug({(self.mbps, FULL)})
        for _ in range(60_000):
            await ctx.tick()
            if ctx.get(self.dut.link.up):
                break
        assert ctx.get(self.dut.link.speed) == {10: 0, 100: 1, 1000: 2}[self.mbps]
        await ctx.tick("gmii_tx").repeat(3 * HALVES[self.mbps])

    async def send(self, ctx, frame):
        for at in range(0, len(frame), self.lanes):
            piece = frame[at:at + self.lanes]
            ctx.set(self.dut.i.p, {"data": int.from_bytes(piece, "little"), "count": len(piece),
                                   "last": at + self.lanes >= len(frame), "error": 0})
            ctx.set(self.dut.i.valid, 1)
            await ctx.tick().until(self.dut.i.ready)
        ctx.set(self.dut.i.valid, 0)

    async def sent(self, ctx, count=0):
        """Wait until all that was given has left."""
        await ctx.tick().repeat(20)
        for _ in range(60_000):
            if not ctx.get(self.dut.busy):
                break
            await ctx.tick()
        await ctx.tick("gmii_tx").repeat(HALVES[self.mbps] * 4)

    async def edge(self, ctx, rxd, ctl):
        """One clock of RXC: RXD and RX_CTL with both its edges."""
        ctx.set(self.dut.pads.rxd, rxd)
        ctx.set(self.dut.pads.rx_ctl, ctl)
        await ctx.tick("rgmii_rx")

    async def gap(self, ctx, clocks=12):
        """In gaps the in-band status is on both nibbles."""
        for _ in range(clocks if self.mbps == 1000 else 2 * clocks):
            await self.edge(ctx, self.inband * 0x11, 0)

    async def receive(self, ctx, raw, *, error_at=None, nibbles=None, gap=12):
        """What a PHY makes of ``raw``; ``nibbles``: at 10 and 100 Mbit/s, those instead. ``error_at``: byte with RX_ER, at 10 and
        100 Mbit/s its lower nibble, or with .5 its upper one."""
        if self.mbps == 1000:
            for k, byte in enumerate(raw):
                await self.edge(ctx, byte, 0b01 if error_at is not None and k == int(error_at) else 0b11)
        else:
            if nibbles is None:
                nibbles = [part for byte in raw for part in (byte & 15, byte >> 4)]
            for k, nibble in enumerate(nibbles):
                # The falling edge may show it again, or not: nobody is to look.
                await self.edge(ctx, nibble | 0xa0, 0b01 if error_at is not None and k == int(2 * error_at) else 0b11)
        await self.gap(ctx, gap)

    def run(self, bench):
        async def main(ctx):
            ctx.set(self.dut.mac_address, OWN)
            await bench(ctx)
        self.sim.add_testbench(main)
        self.sim.run()

    # What the PHY sees

    def edges(self):
        """``(rising, time, TXD, TX_CTL)`` of each edge of TXC; times in half clocks."""
        return [(now[0], at, now[1], now[2]) for at, (before, now) in enumerate(zip(self.halves, self.halves[1:]), 1)
                if before[0] != now[0]]

    def wire(self):
        """Frames as the PHY takes them, ``(bytes from the preamble on, error)``."""
        frames, data, wrong = [], [], False
        edges = self.edges()
        for (rising, _, txd, ctl), (_, _, later_txd, later_ctl) in zip(edges, edges[1:]):
            if not rising:
                continue
            if ctl:
                data += [txd, later_txd] if self.mbps == 1000 else [txd]
                wrong |= ctl != later_ctl               # 3.4: TX_CTL is TX_EN, then TX_EN xor TX_ER
            elif data:
                assert len(data) % 2 == 0
                frames.append((bytes(low | high << 4 for low, high in zip(data[::2], data[1::2])), wrong))
                data, wrong = [], False
        return frames


# Ten times and a hundred times the clocks of the first.
SPEEDS = (1000, pytest.param(100, marks=pytest.mark.long), pytest.param(10, marks=pytest.mark.long))


@pytest.mark.parametrize("mbps", SPEEDS)
def test_transmit(mbps, rng):
    bench = Bench(mbps)
    frames = [rng.randbytes(size) for size in ((14, 60, 61, 200, 65) if mbps > 10 else (14, 61))]

    async def main(ctx):
        await bench.up(ctx)
        start.append(len(bench.halves))
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.sent(ctx)
    start = []
    bench.run(main)
    assert bench.wire() == [(PREAMBLE + with_fcs(frame), False) for frame in frames]
    assert bench.phy.problems == []

    # 5.0: 125, 25 or 2.5 MHz; in half clocks of 125 MHz. 3.3: duty cycle within 40 and 60 %.
    edges = [edge for edge in bench.edges() if edge[1] > start[0]]
    times = [at for _, at, _, _ in edges]
    assert {later - former for former, later in zip(times, times[1:])} == {HALVES[mbps] // 2}
    # 3.3, TsetupT and TholdT: nothing moves for 1.2 ns around an edge; at 1000 Mbit/s the 2 ns of delay see to it.
    if mbps < 1000:
        for rising, at, txd, ctl in edges[:-1]:
            assert bench.halves[at - 1][1:] == bench.halves[at + 1][1:] == (txd, ctl)
    if mbps < 1000:
        low = [txd for rising, _, txd, _ in edges if rising]
        high = [txd for rising, _, txd, _ in edges if not rising]
        assert low[:len(high) - 1] == high[not edges[0][0]:][:len(high) - 1]   # 5.0: the same on the falling edge


def test_transmit_error():
    """A frame that lacks a beat ends with TX_ER: TX_CTL low on the falling edges (3.4)."""
    bench = Bench(100)

    async def main(ctx):
        await bench.up(ctx)
        ctx.set(bench.dut.i.p, {"data": 0x1122_3344_5566_7788, "count": 8, "last": 0, "error": 0})
        ctx.set(bench.dut.i.valid, 1)
        await ctx.tick().until(bench.dut.i.ready)
        ctx.set(bench.dut.i.valid, 0)
        await ctx.tick("gmii_tx").repeat(700)
        await bench.send(ctx, b"x" * 16)               # the rest of it
        await bench.send(ctx, b"good" * 20)
        await bench.sent(ctx)
    bench.run(main)
    spoilt, good = bench.wire()
    assert spoilt[1] and good == (PREAMBLE + with_fcs(b"good" * 20), False)


@pytest.mark.parametrize("mbps", SPEEDS)
def test_receive(mbps, rng):
    bench = Bench(mbps, rx_ppm=rng.choice((-100, 100)))
    frames = [rng.randbytes(size) for size in ((60, 61, 62, 200) if mbps > 10 else (60, 61))]

    async def main(ctx):
        await bench.up(ctx)
        for frame in frames:
            await bench.receive(ctx, PREAMBLE + with_fcs(frame))
        for at in (30, 30.5):
            await bench.receive(ctx, PREAMBLE + with_fcs(frames[0]), error_at=at)
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[1]), gap=40)
    bench.run(main)
    assert [frame for frame, error in bench.frames if not error] == [*frames, frames[1]]
    assert sum(error for _, error in bench.frames) == 2


def test_longest_frame_of_a_fast_partner(rng):
    """Clocks 200 ppm apart over 9 kB: two bytes wait in the FIFO at most, none is lost."""
    bench, frame = Bench(1000, rx_ppm=-200, core=8e-9), rng.randbytes(4000)

    async def main(ctx):
        await bench.up(ctx)
        await bench.receive(ctx, PREAMBLE + with_fcs(frame), gap=60)
    bench.run(main)
    assert bench.frames == [(frame, 0)]


def test_nibbles(rng):
    """Clause 22: bytes begin behind the delimiter, of whatever length the preamble is; a nibble too many is dropped, and the
    frame judged by what is left (4.2.4.2.2); what has no delimiter is no frame."""
    bench = Bench(100)
    frames = [rng.randbytes(60) for _ in range(9)]

    def nibbles(preamble, frame, more=()):
        return [*preamble, *(part for byte in with_fcs(frame) for part in (byte & 15, byte >> 4)), *more]

    async def main(ctx):
        await bench.up(ctx)
        for count, frame in zip((15, 14, 8, 3, 2, 1), frames):
            await bench.receive(ctx, b"", nibbles=nibbles([5] * count + [13], frame), gap=1 if count == 3 else 12)
        await bench.receive(ctx, b"", nibbles=nibbles([5] * 15 + [13], frames[6], [7]))
        none = frames[7]
        await bench.receive(ctx, b"", nibbles=nibbles([13], none))                   # 22.2.3.2.2: 5, then 13
        await bench.receive(ctx, b"", nibbles=nibbles([5] * 6 + [4, 5, 13], none))   # broken preamble
        await bench.receive(ctx, b"", nibbles=nibbles([5] * 15 + [13], none), error_at=2)
        await bench.receive(ctx, b"", nibbles=[5] * 20)
        await bench.receive(ctx, b"", nibbles=nibbles([5] * 15 + [13], frames[8]), gap=40)
    bench.run(main)
    assert bench.frames == [(frame, 0) for frame in frames[:7] + frames[8:]]


def test_nothing_is_sent_before_the_link_is_up(rng):
    """5.0: TX_CTL stays low until MAC and PHY have the same speed. What was given meanwhile is lost, a frame that has begun
    does not go out from its middle on; and TXC never has a short phase."""
    bench = Bench(100)
    lost, found = rng.randbytes(300), rng.randbytes(70)

    async def main(ctx):
        for _ in range(4):
            await bench.send(ctx, lost)
        bench.phy.plug({(100, FULL)})
        while not ctx.get(bench.dut.link.up):
            if not ctx.get(bench.dut.busy):
                await bench.send(ctx, lost)
            await ctx.tick()
        times.append(len(bench.halves))
        await bench.sent(ctx)
        await bench.send(ctx, found)
        await bench.sent(ctx)
        bench.phy.pull()
        while ctx.get(bench.dut.link.up):
            await ctx.tick()
        await ctx.tick("gmii_tx").repeat(50)
        down.append(len(bench.halves))
        await bench.send(ctx, lost)
        await bench.sent(ctx)
    times, down = [], []
    bench.run(main)
    assert not any(ctl for _, _, ctl in bench.halves[:times[0]]) and not any(ctl for _, _, ctl in bench.halves[down[0]:])
    assert bench.wire()[-1] == (PREAMBLE + with_fcs(found), False)
    assert all(wire[0].startswith(PREAMBLE) for wire in bench.wire())
    edges = [at for _, at, _, _ in bench.edges()]
    lengths = [later - former for former, later in zip(edges, edges[1:])]
    assert set(lengths) >= {1, 5} and all(length in (1, 5) or 1 < length < 10 for length in lengths)
    assert lengths.index(5) + lengths[::-1].index(1) >= len(lengths) - 3     # from 125 to 25 MHz, once, with one longer phase


def test_a_link_that_is_half_duplex_carries_nothing():
    bench = Bench(100)

    async def main(ctx):
        bench.phy.plug({(100, "half")})
        await ctx.tick().repeat(12_000)
        assert not ctx.get(bench.dut.link.up)
        await bench.send(ctx, b"x" * 60)
        await bench.sent(ctx)
    bench.run(main)
    assert not any(ctl for _, _, ctl in bench.halves) and len(bench.phy.frames) > 20


def test_reset_in_mid_frame(rng):
    """The core loses a frame, half of it on the wire, half in the FIFO; the wire's clocks go on. Afterwards all is as new."""
    bench, frames = Bench(100), [rng.randbytes(300), rng.randbytes(61)]

    async def main(ctx):
        await bench.up(ctx)
        await bench.send(ctx, frames[0][:160])
        ctx.set(bench.dut.i.valid, 1)
        ctx.set(bench.dut.i.p.last, 0)
        await ctx.tick("gmii_tx").repeat(900)
        ctx.set(bench.sync.rst, 1)
        ctx.set(bench.dut.i.valid, 0)
        await cycles(ctx, 4)
        ctx.set(bench.sync.rst, 0)
        await ctx.tick().repeat(100)
        assert not ctx.get(bench.dut.busy)
        await bench.up(ctx)
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[0]))
        await bench.send(ctx, frames[1])
        await bench.sent(ctx)
    bench.run(main)
    assert bench.wire()[-1] == (PREAMBLE + with_fcs(frames[1]), False) and len(bench.wire()) == 2
    assert bench.frames == [(frames[0], 0)]


@pytest.mark.parametrize("mbps, up", [(1000, False), (100, True), pytest.param(10, True, marks=pytest.mark.long)])
def test_loopback(mbps, up, rng):
    """Frames come round whether there is a link or not, at whatever pace, and the wire is silent."""
    bench = Bench(mbps)
    frames = [rng.randbytes(size) for size in (60, 61, 300, 60)[:4 if mbps > 10 else 2]]

    async def main(ctx):
        if up:
            await bench.up(ctx)
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(20 + 5 * HALVES[mbps])
        start.append(len(bench.halves))
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.sent(ctx)
        await ctx.tick("gmii_tx").repeat(HALVES[mbps] * 20)
        ctx.set(bench.dut.loopback, 0)
        await ctx.tick().repeat(20 + 20 * HALVES[mbps])
        if up:
            await bench.receive(ctx, PREAMBLE + with_fcs(frames[0]), gap=40)
    start = []
    bench.run(main)
    assert bench.frames == [(frame, 0) for frame in frames] + [(frames[0], 0)] * up
    assert not any(ctl for _, _, ctl in bench.halves[start[0]:])


@pytest.mark.long
def test_inband_status_that_differs():
    """The PHY tells of another link than MDIO in two polls in a row. One without in-band status, or without a link, does not."""
    bench = Bench(10)
    seen = []

    async def look(ctx, value):
        bench.inband = value
        await bench.gap(ctx, 165)                        # three polls
        seen.append(ctx.get(bench.dut.inband_differs))

    async def main(ctx):
        await bench.up(ctx)
        await look(ctx, 0b0000)
        await look(ctx, 0b1001)                          # full duplex, 2.5 MHz, up
        await look(ctx, 0b1011)                          # 25 MHz
        await look(ctx, 0b1001)
        await look(ctx, 0b0001)                          # half duplex
        await look(ctx, 0b0010)                          # another, but down
    bench.run(main)
    assert seen == [0, 0, 1, 0, 1, 0]


def test_speeds_of_the_inband_status():
    assert [(speed.name, speed.value) for speed in LinkSpeed] == [("MBPS_10", 0), ("MBPS_100", 1), ("MBPS_1000", 2)]
