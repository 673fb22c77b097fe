"""Where the areas of virtqueues begin.

Ref: VIRTIO 1.4, 4.1.4.3 "Common configuration structure layout".
"""

import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.pcie.dma_areas import LOW_BITS, Areas

from ...kit.simulation import Simulation
from ...kit.streams import pulse

AREAS = (Area.DESC, Area.DRIVER, Area.DEVICE)


@pytest.mark.parametrize("num_queues", [1, 2, 9])
def test_each_area_of_each_queue_has_its_place(num_queues, rng):
    """Low bits at once, the others in the next cycle; without an area both are 0, whatever the queue."""
    dut = Areas(num_queues=num_queues)
    known = {(queue, area): rng.getrandbits(64) for queue in range(num_queues) for area in AREAS}

    async def main(ctx):
        for (queue, area), addr in known.items():
            ctx.set(dut.set.p, {"queue": queue, "area": area, "addr": addr})
            await pulse(ctx, dut.set.valid)
        for _ in range(200):
            queue, area = rng.randrange(num_queues), rng.choice((Area.NONE, *AREAS))
            ctx.set(dut.queue, queue)
            ctx.set(dut.area, area)
            low = ctx.get(dut.low)
            await ctx.tick()
            assert low | ctx.get(dut.high) << LOW_BITS == known.get((queue, area), 0)
    Simulation(dut).run(main)
