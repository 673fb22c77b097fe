"""GMII MAC: what comes from the wire, at any ratio of the clocks."""

import pytest

from .conftest import GMII_PERIOD, GROUP, OWN, OTHER, PAUSE, PREAMBLE, Bench, with_fcs


@pytest.mark.parametrize("width, ratio", [(128, 1), (32, 2), (64, 0.5), (64, 7), (512, 7)])
def test_receive(width, ratio, rng):
    """IEEE 802.3, 35.2.3.2.2: of the preamble nothing need be left; 4.4.2: of the gap no more than 64 bit times."""
    bench = Bench(width, GMII_PERIOD * ratio)
    frames = [rng.randbytes(n) for n in (60, 61, 62, 63, 64, 65, 66, 67, 68, 75, 76, 77, 60, 500)]

    async def main(ctx):
        for k, frame in enumerate(frames):
            await bench.receive(ctx, PREAMBLE[k % 8:] + with_fcs(frame), gap=12 if k % 2 else 5)
        await ctx.tick().repeat(50)

    bench.run(main)
    assert bench.frames == [(frame, 0) for frame in frames]
    assert not any(bench.events.values())


def test_receive_judges(rng):
    bench = Bench(max_frame=200)
    good, vast, longest = rng.randbytes(60), rng.randbytes(197), rng.randbytes(196)
    flipped = bytearray(with_fcs(good))
    flipped[17] ^= 4

    async def main(ctx):
        for raw in (with_fcs(good), bytes(flipped), with_fcs(good), with_fcs(good[:59]), b"", b"\x01", b"abcd", b"abcde",
                    with_fcs(vast), with_fcs(longest), with_fcs(rng.randbytes(500))):
            await bench.receive(ctx, PREAMBLE + raw)
        await bench.receive(ctx, PREAMBLE + with_fcs(good), error_at=30)
        await bench.receive(ctx, b"\x55\x55\x12\xd5" + with_fcs(good))      # no start
        await bench.receive(ctx, b"\x55" * 20)
        await bench.receive(ctx, PREAMBLE + with_fcs(good))
        await ctx.tick().repeat(50)

    bench.run(main)
    assert bench.good() == [good, good, longest, good]
    assert bench.events == {"mac_rx_bad_fcs": 2, "mac_rx_runt": 5, "mac_rx_giant": 2, "mac_rx_overflow": 0,
                            "mac_rx_pause": 0, "mac_rx_control": 0, "mac_tx_frames": 0}


def test_receive_overflow_spoils_the_frame_only(rng):
    open_ = [False]
    bench = Bench(ready=lambda: open_[0])
    frames = [rng.randbytes(n) for n in (100, 400, 80)]

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[0]))
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[1]))
        open_[0] = True
        await ctx.tick().repeat(60)
        await bench.receive(ctx, PREAMBLE + with_fcs(frames[2]))
        await ctx.tick().repeat(60)

    bench.run(main)
    assert bench.good() == [frames[0], frames[2]]
    assert bench.events["mac_rx_overflow"] == 1 and bench.events["mac_rx_bad_fcs"] == 0


@pytest.mark.parametrize("late", range(4))
def test_a_frame_has_no_beginning_in_its_middle(late, rng):
    """The end of the frame before waits for room while the next one comes, in whose middle there is what looks like a frame."""
    open_ = [False]
    bench = Bench(ready=lambda: open_[0])
    first, inner, after = (rng.randbytes(n) for n in (400, 80, 60))
    raw = PREAMBLE + b"\x55" * 120 + PREAMBLE + with_fcs(inner)

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(first))
        await bench.receive(ctx, raw[:40 + late], gap=0)
        open_[0] = True
        await bench.receive(ctx, raw[40 + late:])
        await bench.receive(ctx, PREAMBLE + with_fcs(after))
        await ctx.tick().repeat(60)

    bench.run(main)
    assert bench.good() == [after]


# IEEE 802.3, table 31A-1: PAUSE, GATE, REPORT, REGISTER and so on, PFC, extension; and what is reserved.
OPCODES = [1, 2, 3, 4, 5, 6, 0x0101, 0xfffe, 0, 7, 0x0100, 0x0201, 0xffff]


def control(address, opcode, size=60):
    return (address + bytes(6) + b"\x88\x08" + opcode.to_bytes(2, "big") + b"\0\x10").ljust(size, b"\0")


def test_mac_control_frames_are_the_macs_own(rng):
    """IEEE 802.3, 31.5: a frame of the type of MAC Control never goes to the client, whoever it is for and whatever it says; one
    with an opcode that is not supported is discarded. 31B.3.3: PAUSE is obeyed by who has the address or is of the group."""
    bench, after = Bench(), rng.randbytes(60)
    pauses = [control(address, 1, size) for address in (GROUP, OWN) for size in (60, 61, 200)]
    others = [control(address, opcode) for address in (GROUP, OWN) for opcode in OPCODES[1:]]
    others += [control(address, 1) for address in (OTHER, b"\xff" * 6, bytes.fromhex("0180c2000002"))]
    broken = [(with_fcs(frame)[:-1] + b"\0") for frame in (control(GROUP, 1), control(OWN, 1), control(GROUP, 2))]
    short = [with_fcs(control(address, 1)[:59]) for address in (GROUP, OWN)]

    async def main(ctx):
        for raw in [*map(with_fcs, [*pauses, *others]), *broken, *short, with_fcs(after)]:
            await bench.receive(ctx, PREAMBLE + raw)
        await ctx.tick().repeat(60)

    bench.run(main)
    assert bench.good() == [after]
    assert {name: count for name, count in bench.events.items() if count} == {
        "mac_rx_pause": len(pauses), "mac_rx_control": len(others), "mac_rx_bad_fcs": len(broken), "mac_rx_runt": len(short)}


@pytest.mark.parametrize("address, opcode, obeyed", [
    (GROUP, 1, True), (OWN, 1, True), (OTHER, 1, False), (GROUP, 0x0101, False), (OWN, 2, False)])
def test_who_obeys_a_pause(address, opcode, obeyed, rng):
    bench = Bench()

    async def main(ctx):
        await bench.receive(ctx, PREAMBLE + with_fcs(control(address, opcode)))
        await bench.send(ctx, rng.randbytes(60))
        await ctx.tick().repeat(16 * 64 - 100)
        assert len(bench.wire) == (not obeyed)

    bench.run(main)


def test_what_is_no_mac_control_is_delivered(rng):
    bench = Bench()
    near = [PAUSE[:12] + b"\x88\x09\x00\x01", PAUSE[:12] + b"\x08\x88\x00\x01", OWN + bytes(6) + b"\x89\x08\x00\x01",
            PAUSE[:12] + b"\x81\x00\x00\x01\x88\x08\x00\x01"]
    near = [(frame + b"\xff\xff").ljust(60, b"\0") for frame in near]

    async def main(ctx):
        for frame in near:
            await bench.receive(ctx, PREAMBLE + with_fcs(frame))
        await bench.receive(ctx, PREAMBLE + with_fcs((PAUSE + b"\xff\xff").ljust(60, b"\0"))[:-1] + b"\0")  # bad FCS
        await bench.send(ctx, near[0])
        await ctx.tick().repeat(300)

    bench.run(main)
    assert bench.good() == near and len(bench.wire) == 1 and bench.events["mac_rx_pause"] == 0
