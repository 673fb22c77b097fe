"""What each stage of the ring engine is tested with."""

from functools import partial

import pytest
from amaranth.lib.wiring import In

from ringnic.hdl.lib.dma import Area

from ...kit.memory import MemoryBench
from ...kit.streams import pulse


class StageBench(MemoryBench):
    """Attribute ``failed``: queues that the stage has stopped, if it has such an output."""
    def __init__(self, dut, rng, **options):
        super().__init__(dut, rng, **options)
        self.failed = []
        if hasattr(dut, "fail_valid"):
            self.background(self._failures)

    async def _failures(self, ctx):
        async for _, _, valid, queue in ctx.tick().sample(self.dut.fail_valid, self.dut.fail_queue):
            if valid:
                self.failed.append(queue)

    async def setup(self, ctx, queue=0, **row):
        control = getattr(self.dut, "control", self.dut)
        ctx.set(control.setup, {"queue": queue, **row})
        for area in (Area.DESC, Area.DRIVER, Area.DEVICE):
            self.areas[queue, area] = row.get(f"queue_{area.name.lower()}", 0)
        await pulse(ctx, control.setup_valid)
        if "areas" in self.dut.signature.members and self.dut.signature.members["areas"].flow == In:
            await self.tell_areas(ctx, queue)
        await ctx.tick()

    async def tell_areas(self, ctx, queue):
        """As the engine does: one after the other, behind the set-up."""
        for area in (Area.DESC, Area.DRIVER, Area.DEVICE):
            ctx.set(self.dut.areas.p, {"queue": queue, "area": area, "addr": self.areas[queue, area]})
            await pulse(ctx, self.dut.areas.valid)


@pytest.fixture
def stage(rng, seed):
    """Make a :class:`StageBench` around a stage."""
    return partial(StageBench, rng=rng, seed=seed)
