"""Places of used descriptors, against positions counted without end."""

import pytest

from ringnic.hdl.virtqueue.used_place import UsedPlace


@pytest.mark.parametrize("packed, size", [
    *[(False, size) for size in (1, 2, 256, 32768)],   # 2.7: a power of 2
    *[(True, size) for size in (1, 2, 5, 256, 32768)],
])
def test_random(stage, rng, packed, size):
    dut = UsedPlace()

    async def testbench(ctx):
        ctx.set(dut.packed, packed)
        ctx.set(dut.size, size)
        for _ in range(40):
            lap = 2 * size if packed else 1 << 16
            at, count, passed, apart = rng.randrange(lap), 0, 0, False
            ctx.set(dut.begin, 1)
            ctx.set(dut.i_slot, at % size if packed else at)
            ctx.set(dut.i_flip, at // size if packed else 0)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            for _ in range(rng.randint(0, 12)):
                count = 1 if rng.random() < 0.7 else rng.randint(1, size)
                passes = rng.random() < 0.8
                ctx.set(dut.count, count)
                ctx.set(dut.passes, passes)
                assert ctx.get(dut.many) == (count != 1) and ctx.get(dut.total) == passed % (1 << 16) + count
                await ctx.tick()
                if passes:
                    at, passed, apart = at + count, passed + count, apart or count != 1
                assert ctx.get(dut.slot) == (at % size if packed else at % (1 << 16))
                assert not packed or ctx.get(dut.flip) == at // size % 2
                assert (ctx.get(dut.passed), ctx.get(dut.apart)) == (passed % (1 << 16), apart)
                assert ctx.get(dut.last) == size - 1
    stage(dut, watch_busy=False).run(testbench)
