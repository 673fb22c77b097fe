"""Events for the driver: where they are written, how much of them, and when they have left."""

import pytest

from ringnic.hdl.virtqueue.event import EventWriter

DEVICE = 0x1_2345_0000


@pytest.mark.parametrize("width", [32, 64, 128])
def test_events_are_written_in_order(stage, rng, width):
    dut = EventWriter(width=width, num_queues=3)
    bench = stage(dut, pause=0.3)
    bench.serve_writes(dut.write)
    left, expected = [], []

    async def watch(ctx):
        async for _, _, valid, queue in ctx.tick().sample(dut.left_valid, dut.left_queue):
            if valid:
                left.append((queue, len(bench.writes)))
    bench.background(watch)

    async def testbench(ctx):
        sizes = [1, 16, 32768]
        for queue, size in enumerate(sizes):
            await bench.setup(ctx, queue, size=size, queue_device=0x1_0000 + 0x100 * queue)
        for _ in range(30):
            queue, begins, value = rng.randrange(3), rng.getrandbits(1), rng.getrandbits(32)
            size = rng.choice([1, 16, 1024])
            base = 0x1_0000 + 0x100 * queue
            expected.append((queue, (base, 4) if begins else (base + 4 + 8 * size, 2)))
            event = {"queue": queue, "begins": begins, "size": size, "value": value}
            ctx.set(dut.i.p, event)
            await ctx.tick().repeat(2)
            await bench.send(ctx, dut.i, event)
            at, length = expected[-1][1]
            await bench.until(ctx, lambda: not ctx.get(dut.busy))
            assert bench.memory[at:at + length] == value.to_bytes(4, "little")[:length]
        assert bench.writes == [write for _, write in expected]
        assert [queue for queue, _ in left] == [queue for queue, _ in expected]
        assert all(written > k for k, (_, written) in enumerate(left))
    bench.run(testbench)


def test_sum_has_64_bits(stage):
    dut = EventWriter(width=64, num_queues=2)
    bench = stage(dut)

    async def testbench(ctx):
        await bench.setup(ctx, 1, queue_device=0xffff_ffff_fffc)
        ctx.set(dut.i.p, {"queue": 1, "size": 32768})
        await ctx.tick().repeat(2)
        ctx.set(dut.i.valid, 1)
        await bench.until(ctx, lambda: ctx.get(dut.write.req.valid))
        assert ctx.get(dut.write.req.p.addr) == 0x1_0000_0004_0000 and ctx.get(dut.write.req.p.len) == 2
    bench.run(testbench)
