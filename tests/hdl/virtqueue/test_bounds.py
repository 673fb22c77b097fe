"""Rings at the end of the address space: those that end there are in bounds, those that go on are not."""

import pytest

from ringnic.hdl.virtqueue.bounds import Bounds

TOP = 1 << 64
AREAS = ("queue_desc", "queue_driver", "queue_device")
SIZES = {False: [1 << k for k in range(16)], True: [1, 2, 3, 7, 100, 1023, 1024, 1025, 32767, 32768]}


def lengths(size, packed):
    """Bytes of each area, and its alignment. 2.7, the table of both; 2.8 and 2.8.14."""
    if packed:
        return {"queue_desc": (16 * size, 16), "queue_driver": (4, 4), "queue_device": (4, 4)}
    return {"queue_desc": (16 * size, 16), "queue_driver": (6 + 2 * size, 2), "queue_device": (6 + 8 * size, 4)}


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_last_places(stage, packed):
    bench = stage(Bounds(), limit=60_000)

    async def beyond(ctx, **setup):
        ctx.set(bench.dut.setup, {"queue_desc": 0x1000, "queue_driver": 0x2000, "queue_device": 0x3000, **setup})
        await ctx.tick()
        return ctx.get(bench.dut.beyond)

    async def testbench(ctx):
        ctx.set(bench.dut.packed, packed)
        for size in SIZES[packed]:
            for name, (length, align) in lengths(size, packed).items():
                last = (TOP - length) & -align
                assert not await beyond(ctx, size=size, **{name: last}), (size, name)
                assert not await beyond(ctx, size=size, **{name: last | align - 1}), (size, name)   # as it is aligned
                # As near to another end than that of the address space.
                for end in (1 << 32, 1 << 40, 1 << 63, TOP - (1 << 32), TOP - (1 << 20)):
                    assert not await beyond(ctx, size=size, **{name: end - align}), (size, name, end)
                for addr in {last + align, (last + TOP) // 2 & -align, TOP - align} - {TOP, last}:
                    assert await beyond(ctx, size=size, **{name: addr}), (size, name, addr)
        assert not await beyond(ctx, size=64)
    bench.run(testbench)
