"""Requests to reads: whose is next, when a read leaves, and what is told of it. How they are cut: see ``test_dma_read``."""

import pytest

from ringnic.hdl.pcie.dma_requests import Choice, Requests

from ...kit import streams, tlps
from ...kit.simulation import Simulation

SIZES = dict(tags=8, slot_bytes=512, clients=3, num_queues=1)


def test_clients_in_turn():
    dut, taken = Choice(4), []

    async def main(ctx):
        for k in (0, 1, 3):
            ctx.set(dut.reqs[k].valid, 1)
            ctx.set(dut.reqs[k].p.addr, k)
        ctx.set(dut.o.ready, 1)
        for cycle in range(24):
            ctx.set(dut.stop, 12 <= cycle < 16)
            if ctx.get(dut.o.valid):
                taken.append((cycle, ctx.get(dut.o.p.addr)))
                assert [ctx.get(req.ready) for req in dut.reqs] == [k == taken[-1][1] for k in range(4)]
            await ctx.tick()
            assert not taken or ctx.get(dut.client) == taken[-1][1]
    Simulation(dut, forget=dut.stop).run(main)
    assert [client for _, client in taken] == [[1, 3, 0][k % 3] for k in range(len(taken))]
    cycles = [cycle for cycle, _ in taken]
    assert cycles == [1, 3, 5, 7, 9, 11, 17, 19, 21, 23]


@pytest.mark.parametrize("width", [64, 128])
def test_a_request_of_two_reads(width):
    """What is told of each, and when: a lone one's TLP is offered four cycles after its request."""
    dut, issues, offered = Requests(width=width, **SIZES), [], []

    async def watch(ctx):
        cycle = 0
        while True:
            issue = dut.issue
            if ctx.get(issue.valid):
                issues.append((cycle, ctx.get(issue.tag), ctx.get(issue.client), *(
                    ctx.get(issue.info[name]) for name in ("word", "offset", "end", "last"))))
            await ctx.tick()
            cycle += 1

    def take(tlp):
        came = tlps.parse(tlp)
        offered.append((came.addr, came.length, came.tag))

    async def feed(ctx):
        for name, value in (("mrrs", 2), ("permit", 1), ("free", 1), ("tag", 5)):
            ctx.set(getattr(dut, name), value)
        await ctx.tick().repeat(3)
        await streams.send(ctx, dut.reqs[2], {"addr": 0x2fee, "len": 100})
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.busy)
    simulation = Simulation(dut)
    simulation.background(watch)
    simulation.background(lambda ctx: tlps.take(ctx, dut.tlp, width, take, lambda: False))
    simulation.run(feed)
    (first, *one), (second, *two) = issues
    assert first == 3 + 3
    assert one == [5, 2, 0x1b, 2, 20, 0] and two == [5, 2, 0, 0, 82, 1]
    assert second - first == (3 if width == 64 else 2)
    assert offered == [(0x2fec, 5, 5), (0x3000, 21, 5)]


@pytest.mark.parametrize("name", ["permit", "free"])
def test_what_a_read_waits_for(name):
    dut = Requests(width=128, **SIZES)

    async def main(ctx):
        for other in {"permit", "free"} - {name}:
            ctx.set(getattr(dut, other), 1)
        await streams.send(ctx, dut.reqs[0], {"addr": 0x1000, "len": 4})
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(dut.issue.valid) and not ctx.get(dut.tlp.valid) and ctx.get(dut.busy)
        ctx.set(getattr(dut, name), 1)
        assert ctx.get(dut.issue.valid)
        await ctx.tick()
        ctx.set(getattr(dut, name), 0)
        ctx.set(dut.tlp.ready, 1)
        assert ctx.get(dut.tlp.valid) and ctx.get(dut.sent)
        await ctx.tick()
        assert not ctx.get(dut.busy)
    Simulation(dut).run(main)


def test_stop_drops_what_has_not_left():
    dut = Requests(width=128, **SIZES)

    async def main(ctx):
        ctx.set(dut.permit, 1)
        ctx.set(dut.free, 1)
        await streams.send(ctx, dut.reqs[0], {"addr": 0x1ffc, "len": 100})
        while not ctx.get(dut.tlp.valid):
            await ctx.tick()
        ctx.set(dut.stop, 1)
        await ctx.tick().repeat(8)
        assert ctx.get(dut.tlp.valid) and ctx.get(dut.busy)      # what has begun leaves
        ctx.set(dut.tlp.ready, 1)
        await ctx.tick()
        for _ in range(8):
            assert not ctx.get(dut.tlp.valid) and not ctx.get(dut.busy) and not ctx.get(dut.issue.valid)
            await ctx.tick()
    Simulation(dut).run(main)


def test_a_smaller_limit_cuts_what_waits():
    """7.5.3.4: no read is longer than Max_Read_Request_Size, though its request came before that was changed."""
    dut, offered = Requests(width=128, **SIZES), []

    def take(tlp):
        came = tlps.parse(tlp)
        offered.append((came.addr, came.length))

    async def main(ctx):
        ctx.set(dut.mrrs, 2)
        ctx.set(dut.permit, 1)
        await streams.send(ctx, dut.reqs[0], {"addr": 0x1000, "len": 300})
        await ctx.tick().repeat(8)
        ctx.set(dut.mrrs, 0)
        await ctx.tick().repeat(3)
        ctx.set(dut.free, 1)
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.busy)
    simulation = Simulation(dut)
    simulation.background(lambda ctx: tlps.take(ctx, dut.tlp, 128, take, lambda: False))
    simulation.run(main)
    assert offered == [(0x1000, 32), (0x1080, 32), (0x1100, 11)]
