"""Singles: single descriptors are asked for where they are, a port after the other."""

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.ahead import Layouts
from ringnic.hdl.virtqueue.singles import Singles

from ...kit.simulation import Simulation, cycles
from ...kit.streams import collect

TABLE = 0x1_2345_6000


def simulate(main):
    dut, asked = Singles(layouts=Layouts(num_queues=4, ports=2, max_ahead=4), ports=2), []
    ready = [True]

    async def step(ctx, port, **fields):
        """A step of a port; what is not named is 0."""
        for name in ("index", "far", "queue", "starts", "addr", "asks"):
            ctx.set(getattr(dut, name), fields.get(name, 0))
        ctx.set(dut.port, port)
        ctx.set(dut.step, 1)
        await ctx.tick()
        ctx.set(dut.step, 0)

    async def whole(ctx):
        await main(ctx, step, asked, ready)
    simulation = Simulation(dut)
    simulation.background(collect, dut.o, lambda p: asked.append((p.port, p.addr, p.area, p.queue)), lambda: ready[0])
    simulation.run(whole)


def test_where_they_are():
    async def main(ctx, step, asked, ready):
        await step(ctx, 0, queue=2, index=5, asks=1)
        await cycles(ctx, 4)
        await step(ctx, 1, queue=1, index=0, far=1, starts=1, addr=TABLE)      # which was read ahead
        await cycles(ctx, 4)
        await step(ctx, 1, queue=1, index=0xffff, far=1, asks=1, addr=0x5555)
        await step(ctx, 0, queue=2, index=0xffff, asks=1, addr=0x6666)         # of the queue's own table, still
        await cycles(ctx, 4)
        assert asked == [(0, 5 * 16, Area.DESC, 2), (1, TABLE + 0xffff * 16, Area.NONE, 1), (0, 0xffff * 16, Area.DESC, 2)]
    simulate(main)


def test_ports_take_turns():
    async def main(ctx, step, asked, ready):
        ready[0] = False
        await cycles(ctx, 2)
        for port in (0, 1):
            await step(ctx, port, index=1, asks=1)
        await cycles(ctx, 3)
        assert not asked
        ready[0] = True
        await cycles(ctx, 4)
        assert sorted(port for port, *_ in asked) == [0, 1]
    simulate(main)
