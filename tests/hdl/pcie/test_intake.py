"""Intake: digests come off, and only requests that are as long as they say go on."""

import random
import re

import pytest

from ringnic.hdl.pcie.intake import Digest, Intake

from ...kit.simulator import Simulator
from ...kit.tlps import put, take

MPS = 1
HEADERS = {3: 0x40, 4: 0x60}


def tlp(data, *, header=3, length=None, fmt=None, td=0):
    """A write; ``length`` in DWs is that of ``data`` if it is not said."""
    length = len(data) // 4 if length is None else length
    kind = (HEADERS[header] if data else HEADERS[header] & 0x20) if fmt is None else fmt
    return bytes([kind, 0, td << 7 | length >> 8 & 3, length & 255]) + bytes(range(4 * header - 4)) + data


def run(dut, width, tlps, seed, mps=MPS):
    """``(what came out, malformed)``."""
    rng, out, events = random.Random(seed), [], []
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    def idle():
        return seed is not None and rng.random() < 0.3

    async def feed(ctx):
        if hasattr(dut, "mps"):
            ctx.set(dut.mps, mps)
        for one in tlps:
            await put(ctx, dut.i, one, width, idle)
        for _ in range(1000):
            await ctx.tick()
        if hasattr(dut, "busy"):
            assert not ctx.get(dut.busy)

    async def collect(ctx):
        await take(ctx, dut.o, width, out.append, idle)

    async def count(ctx):
        while hasattr(dut, "malformed"):
            _, _, malformed = await ctx.tick().sample(dut.malformed)
            events.extend([1] * malformed)
        await ctx.tick()

    async def watchdog(ctx):
        for _ in range(100_000):
            await ctx.tick()
        raise AssertionError("hangs")
    sim.add_testbench(feed)
    for bench in (collect, count, watchdog):
        sim.add_testbench(bench, background=True)
    sim.run()
    return out, len(events)


def test_constructor():
    with pytest.raises(ValueError, match=re.escape("Depth must be a power of 2 of more than 34 beats, not 33")):
        Intake(width=64, depth=33, max_payload=1)
    with pytest.raises(ValueError, match=re.escape("Depth must be a power of 2 of more than 17 beats, not 20")):
        Intake(width=128, depth=20, max_payload=1)


@pytest.fixture(params=[32, 64, 128, 256])
def width(request):
    return request.param


@pytest.mark.parametrize("seed", [None, 1])
def test_digest(width, seed):
    rng = random.Random(5)
    given, expected = [], []
    for header in (3, 4):
        for dws in (*range(10), 64):
            for td in (1, 0, 1):
                one = tlp(rng.randbytes(4 * dws), header=header, td=td)
                given.append(one + b"ECRC" * td)
                expected.append(one)
    assert run(Digest(width=width), width, given, seed)[0] == expected


def test_digest_without_a_tlp():
    """A single DW is left as it is: it has no room for one."""
    one = bytes([0x40, 0, 0x80, 1])
    assert run(Digest(width=64), 64, [one, tlp(b"good")], None)[0] == [one, tlp(b"good")]


@pytest.mark.parametrize("seed", [None, 2, 3])
def test_length(width, seed):
    rng = random.Random(6)
    given, expected = [], []
    for header in (3, 4):
        for dws in (*range(1, 10), 31, 32, 33, 63, 64):
            for more in (0, -1, 0, 1, 2, 40, 1000 if dws == 64 else 0):
                one = tlp(rng.randbytes(4 * max(dws + more, 1)), header=header, length=dws)
                given.append(one)
                expected += [one] * (len(one) == 4 * (header + dws))
        bad = [tlp(bytes(4), header=header)[:4 * n] for n in range(1, header + 1)] + [tlp(b"", header=header) + bytes(4)]
        given += [*bad, tlp(b"", header=header)]
        expected.append(tlp(b"", header=header))
    dut = Intake(width=width, depth=128, max_payload=MPS)
    assert run(dut, width, given, seed) == (expected, len(given) - len(expected))


def test_what_is_spoilt_takes_no_room():
    """Nothing leaves, all room but little is taken, and a TLP comes that does not end: it is swallowed, and the others stay."""
    dut, out, closed = Intake(width=64, depth=64, max_payload=MPS), [], [True]
    good = [tlp(bytes([n] * 100)) for n in range(4)]
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def main(ctx):
        ctx.set(dut.mps, MPS)
        await ctx.tick().repeat(2)
        for one in (*good, tlp(b"evil" * 200, length=16)):
            await put(ctx, dut.i, one, 64)
        await ctx.tick()
        assert ctx.get(dut.malformed) and ctx.get(dut.busy)
        closed.clear()
        while ctx.get(dut.busy):
            await ctx.tick()

    async def collect(ctx):
        await take(ctx, dut.o, 64, out.append, lambda: closed)

    async def watchdog(ctx):
        for _ in range(1000):
            await ctx.tick()
        raise AssertionError("hangs")
    sim.add_testbench(main)
    sim.add_testbench(collect, background=True)
    sim.add_testbench(watchdog, background=True)
    sim.run()
    assert out == good


@pytest.mark.parametrize("mps", [0, 1])
def test_max_payload(width, mps):
    """What is longer than Max_Payload_Size, and a prefix, do not go on; a read may be as long as it likes."""
    most = 32 << mps
    good = [tlp(bytes(4 * n)) for n in (1, most - 1, most)] + [tlp(b"", length=n) for n in (1, 1000, 1024)]
    bad = [tlp(bytes(4 * n)) for n in (most + 1, 2 * most, 512, 1024)] + [tlp(b"", fmt=0x80), tlp(b"data", fmt=0xc0)]
    given = [one for pair in zip(good, bad) for one in pair]
    assert run(Intake(width=width, depth=128, max_payload=MPS), width, given, None, mps) == (good, len(bad))
