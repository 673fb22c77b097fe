"""The way round: bytes across two clocks, frames cut nowhere but where the way is switched."""

import pytest
from amaranth.hdl import ClockDomain, Module

from ringnic.hdl.mac.loopback import GmiiLoopback

from ...kit.simulator import Simulator

PERIOD = 8e-9
LONGEST = 8 + 9022


class Bench:
    """``came``: bursts of bytes at the receiver, ``wire``: at the pads; each ``(bytes, error seen, idle clocks before)``."""
    def __init__(self, rx_period=PERIOD, limit=30000):
        self.dut = dut = GmiiLoopback()
        self.limit = limit
        top = Module()
        top.domains += ClockDomain("sync")
        top.submodules.dut = dut
        self.sim = Simulator(top)
        self.sim.add_clock(7.3e-9)
        self.sim.add_clock(PERIOD, domain="gmii_tx", phase=1.3e-9)
        self.sim.add_clock(rx_period, domain="gmii_rx", phase=2.9e-9)
        self.came, self.wire = [], []
        for args in (("gmii_rx", self.came, dut.rx_dv, dut.rxd, dut.rx_er),
                     ("gmii_tx", self.wire, dut.gmii_tx_en, dut.gmii_txd, dut.gmii_tx_er)):
            self.sim.add_testbench(self._bursts(*args), background=True)

    def _bursts(self, domain, bursts, *signals):
        async def monitor(ctx):
            burst, bad, idle = b"", 0, 0
            async for _, _, enable, value, error in ctx.tick(domain).sample(*signals):
                if enable:
                    burst += bytes([value])
                    bad |= error
                    continue
                assert not error
                if burst:
                    bursts.append((burst, bad, idle))
                    burst, bad, idle = b"", 0, 0
                idle += 1
        return monitor

    async def send(self, ctx, burst, loop=1, gap=12, error_at=None, when=None):
        """``when``: something to be done ahead of a byte, by its number."""
        dut = self.dut
        ctx.set(dut.tx_loop, loop)
        for k, value in enumerate(burst):
            if when and k in when:
                when[k]()
            ctx.set(dut.txd, value)
            ctx.set(dut.tx_en, 1)
            ctx.set(dut.tx_er, k == error_at)
            await ctx.tick("gmii_tx")
        ctx.set(dut.tx_en, 0)
        ctx.set(dut.tx_er, 0)
        await ctx.tick("gmii_tx").repeat(gap)

    async def feed(self, ctx, burst, gap=12):
        dut = self.dut
        for value in burst:
            ctx.set(dut.gmii_rxd, value)
            ctx.set(dut.gmii_rx_dv, 1)
            await ctx.tick("gmii_rx")
        ctx.set(dut.gmii_rx_dv, 0)
        await ctx.tick("gmii_rx").repeat(gap)

    async def switch(self, ctx, on):
        ctx.set(self.dut.loopback, on)
        await ctx.tick("gmii_rx").repeat(8)
        assert ctx.get(self.dut.heard) == (not on)

    def run(self, *mains):
        async def watchdog(ctx):
            for _ in range(self.limit):
                await ctx.tick("gmii_tx")
            raise TimeoutError
        for main in mains:
            self.sim.add_testbench(main)
        self.sim.add_testbench(watchdog, background=True)
        self.sim.run()


def bursts(got):
    return [burst for burst, _, _ in got]


# As Ethernet allows: 100 ppm each, and twice as far.
@pytest.mark.parametrize("ppm", [-400, -200, 0, 200, 400])
def test_longest_frames_back_to_back(ppm, rng):
    bench = Bench(PERIOD * (1 + ppm * 1e-6), limit=30000)
    sent = [rng.randbytes(size) for size in (LONGEST, LONGEST, 72, 1, 73)]

    async def main(ctx):
        await bench.switch(ctx, 1)
        for burst in sent:
            await bench.send(ctx, burst)
        await ctx.tick("gmii_rx").repeat(100)
        assert not ctx.get(bench.dut.busy)
    bench.run(main)
    assert bursts(bench.came) == sent and bench.wire == []
    assert all(idle > 2 and not error for _, error, idle in bench.came)  # the receiver needs a moment to begin anew


def test_the_wire_while_the_way_is_open(rng):
    bench = Bench()
    out, coming = [rng.randbytes(size) for size in (72, 400)], [rng.randbytes(size) for size in (80, 300)]

    async def main(ctx):
        await bench.send(ctx, out[0], loop=0)
        await bench.send(ctx, out[1], loop=0, error_at=70)
        await bench.send(ctx, rng.randbytes(90))           # round, but nobody listens there
        for burst in coming:
            await bench.feed(ctx, burst)
        await ctx.tick("gmii_tx").repeat(400)
        assert not ctx.get(bench.dut.busy)
    bench.run(main)
    assert [(burst, error) for burst, error, _ in bench.wire] == [(out[0], 0), (out[1], 1)]
    assert bursts(bench.came) == coming


def test_errors_go_round(rng):
    bench = Bench()
    sent = [rng.randbytes(100), rng.randbytes(72)]

    async def main(ctx):
        await bench.switch(ctx, 1)
        await bench.send(ctx, sent[0], error_at=40)
        await bench.send(ctx, sent[1])
        await ctx.tick("gmii_rx").repeat(100)
    bench.run(main)
    assert [(burst, error) for burst, error, _ in bench.came] == [(sent[0], 1), (sent[1], 0)]


@pytest.mark.parametrize("at", range(0, 30, 3))
def test_switched_while_frames_come(at, rng):
    """On: what comes from the wire is cut and the way round begins with a whole frame. Off: the other way about."""
    bench = Bench()
    coming, late, heard = rng.randbytes(60), rng.randbytes(200), rng.randbytes(72)
    sent = [rng.randbytes(72) for _ in range(3)]

    async def wire(ctx):
        await ctx.tick("gmii_rx").repeat(40)
        await bench.feed(ctx, coming, gap=400)
        await bench.feed(ctx, late)                          # comes while the way is closed
        await bench.feed(ctx, heard, gap=60)

    async def main(ctx):
        await ctx.tick("gmii_tx").repeat(20)
        await bench.send(ctx, sent[0], when={24 + at: lambda: ctx.set(bench.dut.loopback, 1)})
        await bench.send(ctx, sent[1], gap=330)
        await bench.send(ctx, sent[2], when={10 + at: lambda: ctx.set(bench.dut.loopback, 0)})
        await ctx.tick("gmii_tx").repeat(400)
        assert ctx.get(bench.dut.heard)
    bench.run(wire, main)
    got = bursts(bench.came)
    assert coming.startswith(got[0]) and at < len(got[0]) < at + 10
    # Of what began before the switch nothing came round; what followed was whole.
    assert got[1:] == [sent[1], sent[2], heard] and bench.wire == []


def test_switched_on_again_within_a_frame(rng):
    bench = Bench()
    sent = [rng.randbytes(200), rng.randbytes(72)]

    async def main(ctx):
        await bench.switch(ctx, 1)
        await bench.switch(ctx, 0)
        await bench.send(ctx, sent[0], when={100: lambda: ctx.set(bench.dut.loopback, 1)})
        await bench.send(ctx, sent[1])
        await ctx.tick("gmii_rx").repeat(100)
    bench.run(main)
    assert bursts(bench.came) == [sent[1]]


def test_a_dead_wire_holds_nothing_up(rng):
    bench = Bench()
    sent = rng.randbytes(72)

    async def main(ctx):
        ctx.set(bench.dut.gmii_rx_dv, 1)
        await bench.switch(ctx, 1)
        await bench.send(ctx, sent)
        await ctx.tick("gmii_rx").repeat(40)
        ctx.set(bench.dut.loopback, 0)
        await ctx.tick("gmii_rx").repeat(40)
        assert not ctx.get(bench.dut.heard) and not ctx.get(bench.dut.rx_dv)
        ctx.set(bench.dut.gmii_rx_dv, 0)
        await ctx.tick("gmii_rx").repeat(2)
        assert ctx.get(bench.dut.heard)
        await bench.switch(ctx, 1)
        await bench.send(ctx, sent)
        await ctx.tick("gmii_rx").repeat(40)
    bench.run(main)
    assert bursts(bench.came)[1:] == [sent, sent]


@pytest.mark.parametrize("ratio", [0.3, 0.9, 1.1, 20])
def test_clocks_too_far_apart(ratio, rng):
    """Frames are cut, and no two become one; what needs no more than there is room for passes."""
    bench = Bench(PERIOD * ratio)
    long, short = [rng.randbytes(300) for _ in range(9)], rng.randbytes(1)

    async def main(ctx):
        await bench.switch(ctx, 1)
        for burst in long:
            await bench.send(ctx, burst)
        await ctx.tick("gmii_rx").repeat(300)
        await bench.send(ctx, short)
        await ctx.tick("gmii_rx").repeat(60)
        assert not ctx.get(bench.dut.busy)
    bench.run(main)
    *pieces, last = bursts(bench.came)
    assert last == short and pieces and len(pieces) <= len(long)
    assert all(len(piece) < 300 and any(burst.startswith(piece) for burst in long) for piece in pieces)
