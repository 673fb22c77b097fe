"""SetUp: addresses aligned, areas told, queues that cannot work found."""

import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.setup import SetUp

from ...kit.simulation import Simulation

ODD = {"queue": 5, "size": 16, "queue_desc": 0x1_0000_003f, "queue_driver": 0x2_0000_003f, "queue_device": 0x3_0000_003f}


@pytest.mark.parametrize("packed, driver", [(0, 0x2_0000_003e), (1, 0x2_0000_003c)])
def test_what_is_set_up(packed, driver):
    dut, told = SetUp(), []
    addresses = (0x1_0000_0030, driver, 0x3_0000_003c)

    async def main(ctx):
        ctx.set(dut.packed, packed)
        ctx.set(dut.i, ODD)
        ctx.set(dut.i_valid, 1)
        await ctx.tick()
        ctx.set(dut.i_valid, 0)
        assert ctx.get(dut.o_valid)
        o = ctx.get(dut.o)
        assert (o.queue, o.size, o.queue_desc, o.queue_driver, o.queue_device) == (5, 16, *addresses)
        for k in range(5):
            assert ctx.get(dut.o_valid) == (k == 0) and ctx.get(dut.judged) == (k == 1)
            if ctx.get(dut.judged):
                assert ctx.get(dut.queue) == 5 and not ctx.get(dut.beyond)
            if ctx.get(dut.areas.valid):
                p = ctx.get(dut.areas.p)
                told.append((k, p.queue, p.area, p.addr))
            await ctx.tick()
    Simulation(dut).run(main)
    assert told == [(k, 5, area, addr) for k, (area, addr) in enumerate(zip((Area.DESC, Area.DRIVER, Area.DEVICE), addresses))]


@pytest.mark.parametrize("field", ["queue_desc", "queue_driver", "queue_device"])
def test_a_ring_that_runs_past_the_end(field):
    dut, seen = SetUp(), []

    async def main(ctx):
        for addr in (0xffff_ffff_ffff_fff0, 0x1000):
            ctx.set(dut.i, {**ODD, field: addr})
            ctx.set(dut.i_valid, 1)
            await ctx.tick()
            ctx.set(dut.i_valid, 0)
            while not ctx.get(dut.judged):
                await ctx.tick()
            seen.append(ctx.get(dut.beyond))
            await ctx.tick().repeat(2)
    Simulation(dut).run(main)
    assert seen == [1, 0]
