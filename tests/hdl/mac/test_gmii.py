"""GMII MAC: both directions together, loopback, and a reset of the core."""

import pytest

from .conftest import GMII_PERIOD, PAUSE, PREAMBLE, Bench, on_wire, with_fcs


def test_reset_in_the_middle_of_a_frame(rng):
    """What was begun ends there and then; the next frame is whole."""
    bench = Bench()
    frames = [rng.randbytes(400), rng.randbytes(60), rng.randbytes(70)]

    async def main(ctx):
        for at in range(0, 160, 8):
            ctx.set(bench.dut.i.p, {"data": int.from_bytes(frames[0][at:at + 8], "little"), "count": 8, "last": 0})
            ctx.set(bench.dut.i.valid, 1)
            await ctx.tick().until(bench.dut.i.ready)
        ctx.set(bench.dut.i.valid, 0)
        await ctx.tick("gmii_tx").until(bench.dut.gmii_tx_en)
        ctx.set(bench.sync.rst, 1)
        await ctx.tick("gmii_tx").repeat(4)
        ctx.set(bench.sync.rst, 0)
        await ctx.tick("gmii_tx").repeat(20)
        for frame in frames[1:]:
            await bench.send(ctx, frame)
        await ctx.tick("gmii_tx").repeat(400)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire][-2:] == [on_wire(frame) for frame in frames[1:]]
    assert len(bench.wire) <= 3


# What is sent comes back, at any ratio of the three clocks.
@pytest.mark.parametrize("width, ratio, ppm", [(64, 1.03, 200), (64, 0.97, -200), (128, 7.7, -200), (32, 1, 200)])
def test_loopback(width, ratio, ppm, rng):
    bench = Bench(width, GMII_PERIOD * ratio, ppm=ppm)
    frames = [rng.randbytes(n) for n in (14, 59, 60, 61, 64, 65, 60, 60, 60, 9018, 15, 300)]

    async def main(ctx):
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(8)
        for frame in frames:
            await bench.send(ctx, frame)
        assert ctx.get(bench.dut.busy)
        await ctx.tick("gmii_tx").repeat(2000)
        assert not ctx.get(bench.dut.busy)

    bench.run(main)
    assert bench.frames == [(frame.ljust(60, b"\0"), 0) for frame in frames] and bench.wire == []
    assert bench.events.pop("mac_tx_frames") == len(frames)
    assert not any(bench.events.values())


def test_loopback_is_deaf_to_the_wire(rng):
    bench = Bench()
    frames = [rng.randbytes(100) for _ in range(3)]

    async def main(ctx):
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(8)
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0")))
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[0]))
        await bench.receive(ctx, PREAMBLE + frames[0])
        await bench.send(ctx, frames[1])
        await ctx.tick().repeat(300)
        ctx.set(bench.dut.loopback, 0)
        await ctx.tick().repeat(8)
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[2]))
        await ctx.tick().repeat(50)

    bench.run(main)
    assert bench.frames == [(frames[1], 0), (frames[2], 0)]
    assert bench.events.pop("mac_tx_frames") == 1 and not any(bench.events.values())


def test_loopback_heeds_no_pause(rng):
    """Neither one that the partner asked for before, nor one that came round; afterwards the wire is free at once."""
    bench = Bench()
    pause, longer = ((PAUSE + quanta).ljust(60, b"\0") for quanta in (b"\0\x08", b"\xff\xff"))   # 512 clocks, far more
    round_, out = rng.randbytes(80), rng.randbytes(90)

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(pause))
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(8)
        await bench.send(ctx, longer)
        await bench.send(ctx, round_)
        await ctx.tick().repeat(300)
        assert bench.good() == [round_] and bench.events["mac_rx_pause"] == 2
        ctx.set(bench.dut.loopback, 0)
        await ctx.tick().repeat(300)                  # until the partner's own is over
        await bench.send(ctx, out)
        await ctx.tick().repeat(200)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire] == [on_wire(out)]


@pytest.mark.parametrize("delay", range(0, 130, 13))
def test_loopback_switched_in_the_middle(delay, rng):
    """Each frame that is sent goes one way, whole; of what is received nothing is patched together."""
    bench = Bench()
    sent = [rng.randbytes(n) for n in (100, 70, 60, 80, 65, 110, 60, 61, 90, 70, 60, 100)]
    came = [rng.randbytes(n) for n in (90, 61, 75, 60, 66, 100, 60, 80, 90, 70, 100)]
    state = {}

    async def wire(ctx):
        for frame in came:
            await bench.receive(ctx, PREAMBLE + with_fcs(frame))
        state["quiet"] = True

    async def switch(ctx):
        await ctx.tick().repeat(100 + delay)
        ctx.set(bench.dut.loopback, 1)
        await ctx.tick().repeat(600)
        ctx.set(bench.dut.loopback, 0)

    async def main(ctx):
        for frame in sent:
            await bench.send(ctx, frame)
        await ctx.tick().repeat(400)
        assert state["quiet"] and not ctx.get(bench.dut.busy)
        after = rng.randbytes(60)
        await bench.receive(ctx, PREAMBLE + with_fcs(after))
        await bench.send(ctx, after)
        await ctx.tick().repeat(200)
        assert bench.good()[-1] == after and bench.wire[-1][:2] == (on_wire(after), 0)

    bench.sim.add_testbench(wire)
    bench.sim.add_testbench(switch)
    bench.run(main)
    out, got = [raw for raw, _, _ in bench.wire[:-1]], bench.good()[:-1]
    went_out = [frame for frame in sent if on_wire(frame) in out]
    assert out == [on_wire(frame) for frame in went_out] and not any(error for _, error, _ in bench.wire)
    assert 1 < len(went_out) < len(sent)
    rest = [frame for frame in sent if frame not in went_out]
    assert set(got) <= {*rest, *came} and any(frame in rest for frame in got)
    assert [frame for frame in sent if frame in got] == [frame for frame in got if frame in sent]
    assert len(bench.frames) - 1 - len(got) <= 2     # cut, and so dropped
    assert sum(bench.events[name] for name in ("mac_rx_bad_fcs", "mac_rx_runt")) == len(bench.frames) - 1 - len(got)
