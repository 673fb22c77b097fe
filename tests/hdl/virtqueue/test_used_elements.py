"""Used ring elements and used descriptors, bit for bit."""

import struct

import pytest

from ringnic.hdl.virtqueue.used_elements import UsedElements

AVAIL, USED, WRITE = 1 << 7, 1 << 15, 2


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_layout(stage, rng, width, packed, pause):
    dut = UsedElements(width=width)
    bench = stage(dut, pause=pause)
    out = bench.collect(dut.o)
    writes = [[(rng.getrandbits(16), rng.choice([0, 1, rng.getrandbits(32)]), rng.getrandbits(1)) for _ in range(count)]
              for count in (1, 2, 3, 5, 8, 1)]

    async def testbench(ctx):
        ctx.set(dut.packed, packed)
        for entries in writes:
            for k, (ident, length, flip) in enumerate(entries):
                await bench.send(ctx, dut.i, {"id": ident, "len": length, "flip": flip, "last": k == len(entries) - 1})
        await bench.until(ctx, lambda: sum(beat.last for beat in out) == len(writes))
    bench.run(testbench)
    beats = iter(out)
    for entries in writes:
        if packed:
            want = b"".join(struct.pack("<QIHH", (1 << 64) - 1, length, ident,
                                        (0 if flip else AVAIL | USED) | (WRITE if length else 0))
                            for ident, length, flip in entries)
        else:
            want = b"".join(struct.pack("<II", ident, length) for ident, length, _ in entries)
        came, count = b"", -(-len(want) // (width // 8))
        for k in range(count):
            beat = next(beats)
            came += beat.data.to_bytes(width // 8, "little")
            assert beat.last == (k == count - 1)
        assert came[:len(want)] == want


@pytest.mark.parametrize("width, packed, cycles", [(32, 0, 2), (32, 1, 4), (64, 0, 1), (64, 1, 2), (128, 0, 1), (128, 1, 1),
                                                   (256, 0, 1), (256, 1, 1)])
def test_rate(stage, width, packed, cycles):
    """Cycles an entry: its beats, or one if a beat has room for several."""
    dut = UsedElements(width=width)
    bench = stage(dut)
    taken = []

    async def watch(ctx):
        now = 0
        async for _, _, takes in ctx.tick().sample(dut.i.valid & dut.i.ready):
            now += 1
            if takes:
                taken.append(now)
    bench.background(watch)

    async def testbench(ctx):
        ctx.set(dut.packed, packed)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(40)
    bench.run(testbench)
    assert {b - a for a, b in zip(taken, taken[1:])} == {cycles} and len(taken) >= 10
