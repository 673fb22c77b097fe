"""A shared buffer port: each part gets its own chains, and nobody is starved."""

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.lib.share import BufferShare

from ...kit.simulator import Simulator


async def accepted(ctx, port):
    while not (await ctx.tick().sample(port.ready))[2]:
        pass


def test_errors():
    with pytest.raises(ValueError, match="^A buffer port is shared by at least two parts, not 1$"):
        BufferShare(num_queues=3, n=1)


@pytest.mark.parametrize("busy", [1.0, 0.6])
def test_parts(busy, rng):
    """Each of three parts takes chains of its queues; a fake engine hands out segments and takes them back."""
    queues = {0: (1, 3), 1: (4,), 2: (0, 2)}
    dut = BufferShare(num_queues=5, n=3)
    taken, segments, used = [], [], []
    asked = {part: [(rng.choice(mine), part << 8 | k) for k in range(30)] for part, mine in queues.items()}
    seen = {part: [] for part in queues}

    def idle():
        return rng.random() > busy

    async def engine_takes(ctx):
        port, held = dut.o.take, None
        while True:
            ready = not idle()
            ctx.set(port.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.valid, port.p)
            now = (payload.op, payload.queue)
            assert held is None or (valid and now == held), "an offered take was changed"
            held = now if valid and not ready else None
            if valid and ready:
                assert payload.op == TakeOp.TAKE
                taken.append(payload.queue)
                segments.append(payload.queue)

    async def engine_segments(ctx):
        port = dut.o.segment
        while True:
            if not segments or idle():
                await ctx.tick()
                continue
            queue = segments.pop(0)
            for k in range(2):
                ctx.set(port.p, {"queue": queue, "addr": queue, "last": k})
                ctx.set(port.valid, 1)
                await accepted(ctx, port)
                ctx.set(port.valid, 0)

    async def engine_used(ctx):
        port, held = dut.o.used, None
        while True:
            ready = not idle()
            ctx.set(port.ready, ready)
            _, _, valid, p = await ctx.tick().sample(port.valid, port.p)
            now = (p.queue, p.chain.id, p.more)
            assert held is None or (valid and now == held), "an offered entry was changed"
            held = now if valid and not ready else None
            if valid and ready:
                used.append(now)

    def part(number):
        port = dut.parts[number]

        async def take(ctx):
            for queue, _ in asked[number]:
                ctx.set(port.take.p, {"op": TakeOp.TAKE, "queue": queue})
                ctx.set(port.take.valid, 1)
                await accepted(ctx, port.take)
                ctx.set(port.take.valid, 0)

        async def give_back(ctx):
            for k, (queue, id) in enumerate(asked[number]):
                ctx.set(port.used.p, {"queue": queue, "chain": {"id": id}, "more": k % 3 != 2})
                ctx.set(port.used.valid, 1)
                await accepted(ctx, port.used)
                ctx.set(port.used.valid, 0)

        async def watch(ctx):
            while True:
                ctx.set(port.segment.ready, not idle())
                _, _, moved, p = await ctx.tick().sample(port.segment.valid & port.segment.ready, port.segment.p)
                if moved:
                    assert p.queue == p.addr
                    seen[number].append((p.queue, p.last))
        return take, give_back, watch

    async def main(ctx):
        ctx.set(dut.owned[0], 0b10000)
        ctx.set(dut.owned[1], 0b00101)
        ctx.set(dut.o.available, 0b01010)
        ctx.set(dut.o.enabled, 0b11010)
        await ctx.tick().repeat(1500)
        for number in queues:
            assert ctx.get(dut.parts[number].available) == 0b01010 and ctx.get(dut.parts[number].enabled) == 0b11010
        for number in queues:
            ctx.set(dut.parts[number].holds, 1)
            assert ctx.get(dut.o.holds)
            ctx.set(dut.parts[number].holds, 0)
        assert not ctx.get(dut.o.holds)
        for number, wants in enumerate((0b00010, 0b10000, 0b00001)):
            ctx.set(dut.parts[number].wants, wants)
        assert ctx.get(dut.o.wants) == 0b10011
        ctx.set(dut.o.pause, 1)
        assert all(ctx.get(port.pause) for port in dut.parts)

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(main)
    for bench in (engine_takes, engine_segments, engine_used, *part(0), *part(1), *part(2)):
        sim.add_testbench(bench, background=True)
    sim.run()

    for number in queues:
        assert seen[number] == [(queue, last) for queue, _ in asked[number] for last in (0, 1)]
        assert [id for _, id, _ in used if id >> 8 == number] == [id for _, id in asked[number]]
    assert len(used) == 90
    for at, (_, id, more) in enumerate(used):
        assert not more or used[at + 1][1] == id + 1, "a packet was cut in two"
    if busy == 1.0:                                    # in turn
        assert all(len({*(next(p for p, mine in queues.items() if q in mine) for q in taken[at:at + 3])}) == 3
                   for at in range(0, 80))
