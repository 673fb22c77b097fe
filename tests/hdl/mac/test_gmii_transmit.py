"""GMII MAC: what is on the wire, at any ratio of the clocks."""

import pytest

from .conftest import GMII_PERIOD, PAUSE, PREAMBLE, Bench, on_wire, with_fcs


# The last: a core as slow as its width allows, 64 bits for 8 GMII clocks.
@pytest.mark.parametrize("width, ratio", [(64, 1), (32, 1), (128, 7.7), (64, 7.9)])
def test_transmit(width, ratio, rng):
    bench = Bench(width, GMII_PERIOD * ratio)
    frames = [rng.randbytes(n) for n in (14, 59, 60, 61, 64, 65, 15, 60, 60, 300, 16)]

    async def main(ctx):
        for k, frame in enumerate(frames):
            if k == 3:
                await ctx.tick().repeat(60)
            await bench.send(ctx, frame)
        await ctx.tick("gmii_tx").repeat(2000)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire] == [on_wire(frame) for frame in frames]
    assert not any(error for _, error, _ in bench.wire)
    assert all(idle >= 12 for _, _, idle in bench.wire)
    assert bench.events.pop("mac_tx_frames") == len(frames)
    assert not any(bench.events.values())


def test_transmit_at_line_rate(rng):
    bench = Bench()

    async def main(ctx):
        for _ in range(20):
            await bench.send(ctx, rng.randbytes(60))
        await ctx.tick().repeat(1000)

    bench.run(main)
    assert [idle for _, _, idle in bench.wire[1:]] == [12] * 19


def test_transmit_spoils_a_frame_that_pauses(rng):
    bench = Bench()
    late, good = rng.randbytes(200), rng.randbytes(70)

    async def main(ctx):
        dut = bench.dut
        for at in range(0, 200, 8):
            ctx.set(dut.i.p, {"data": int.from_bytes(late[at:at + 8], "little"), "count": 8, "last": at == 192, "error": 0})
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            if at == 80:
                ctx.set(dut.i.valid, 0)
                await ctx.tick().repeat(300)
        await bench.send(ctx, good)
        await ctx.tick().repeat(500)

    bench.run(main)
    assert [error for _, error, _ in bench.wire] == [1, 0]
    assert bench.wire[1][0] == on_wire(good)


@pytest.mark.parametrize("quanta", [1, 9])
def test_pause_is_obeyed(quanta, rng):
    bench = Bench()
    pause = (PAUSE + quanta.to_bytes(2, "big")).ljust(60, b"\0")

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(pause))
        for _ in range(3):
            await bench.send(ctx, rng.randbytes(60))
        await ctx.tick().repeat(64 * quanta + 700)

    bench.run(main)
    assert bench.good() == [] and bench.events["mac_rx_pause"] == 1
    assert len(bench.wire) == 3
    # The pause began a little before the first frame was offered; what was sent was sent after it.
    idle = bench.wire[0][2] - (8 + 64)
    assert 64 * quanta <= idle <= 64 * quanta + 60


def test_pause_is_lifted_and_never_cuts_a_frame(rng):
    bench = Bench()
    frame, waits = rng.randbytes(400), rng.randbytes(200)      # what waits fits the FIFO

    async def main(ctx):
        await bench.send(ctx, frame)
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0")))
        await ctx.tick().repeat(600)
        await bench.send(ctx, waits)
        await ctx.tick().repeat(600)
        assert [raw for raw, _, _ in bench.wire] == [on_wire(frame)]
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\0\0").ljust(60, b"\0")))
        await ctx.tick().repeat(600)

    bench.run(main)
    assert [(raw, error) for raw, error, _ in bench.wire] == [(on_wire(frame), 0), (on_wire(waits), 0)]


def test_drain_heeds_no_pause(rng):
    """A reset waits for the frame that has begun, not for a partner that says pause for ever."""
    bench = Bench()
    frame = rng.randbytes(1000)                                # more than the FIFO holds

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0")))
        await ctx.tick().repeat(100)
        ctx.set(bench.dut.drain, 1)
        await bench.send(ctx, frame)
        await ctx.tick().repeat(1200)

    bench.run(main)
    assert [raw for raw, _, _ in bench.wire] == [on_wire(frame)]
