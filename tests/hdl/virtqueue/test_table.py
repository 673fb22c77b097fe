"""Set-up of queues, as a stage keeps it."""

import pytest

from ringnic.hdl.virtqueue.table import QueueTable

FIELDS = ("size", "queue_desc", "queue_driver", "queue_device")


@pytest.mark.parametrize("num_queues", [1, 2, 5])
@pytest.mark.parametrize("fields", [("size",), ("size", "queue_device"), FIELDS])
def test_last_set_up_of_each_queue_is_kept(stage, rng, num_queues, fields):
    dut, model = QueueTable(num_queues=num_queues, fields=fields), {}

    async def testbench(ctx):
        for _ in range(5 * num_queues):
            queue = rng.randrange(num_queues)
            model[queue] = {name: rng.getrandbits(64) for name in FIELDS} | {"size": rng.choice([1, 2, 256, 32768])}
            await bench.setup(ctx, queue, **model[queue])
        for queue, row in model.items():
            ctx.set(dut.queue, queue)
            await ctx.tick()
            assert {name: ctx.get(dut.row[name]) for name in fields} == {name: row[name] for name in fields}
    bench = stage(dut)
    bench.run(testbench)


def test_keeps_only_what_was_asked_for():
    dut = QueueTable(num_queues=4, fields=("size", "queue_desc"))
    assert [(name, field.width) for name, field in dut.row_layout] == [("size", 16), ("queue_desc", 64)]


def test_nothing_is_stored_without_the_strobe(stage):
    dut = QueueTable(num_queues=2, fields=("size",))

    async def testbench(ctx):
        await bench.setup(ctx, 1, size=8)
        ctx.set(dut.setup, {"queue": 1, "size": 9})
        ctx.set(dut.queue, 1)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.row.size) == 8
    bench = stage(dut)
    bench.run(testbench)
