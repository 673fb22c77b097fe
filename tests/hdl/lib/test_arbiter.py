"""Arbiter: every packet whole, nobody starves."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data

from ringnic.hdl.lib.arbiter import Arbiter, round_robin

from ...kit.simulator import Simulator

SHAPE = data.StructLayout({"data": 16, "last": 1})


def test_constructor():
    with pytest.raises(ValueError) as caught:
        Arbiter(SHAPE, 0)
    assert str(caught.value) == "An arbiter needs at least one input, not 0"
    with pytest.raises(ValueError) as caught:
        Arbiter(data.StructLayout({"data": 1}), 2)
    assert str(caught.value).startswith("An arbiter needs a payload with a field 'last', not StructLayout(")


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_packets_stay_whole(n, pause):
    dut, rng = Arbiter(SHAPE, n), random.Random(n)
    packets = [[(k << 12) + (p << 4) + i for i in range(rng.randrange(1, 5))] for k in range(n) for p in range(20)]
    got, cycles = [], 0
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    def source(k):
        async def bench(ctx):
            for packet in (p for p in packets if p[0] >> 12 == k):
                for i, word in enumerate(packet):
                    while rng.random() < pause:
                        await ctx.tick()
                    ctx.set(dut.i[k].payload, {"data": word, "last": i == len(packet) - 1})
                    ctx.set(dut.i[k].valid, 1)
                    await ctx.tick().until(dut.i[k].ready)
                    ctx.set(dut.i[k].valid, 0)
        return bench

    async def sink(ctx):
        nonlocal cycles
        packet, before = [], None
        while len(got) < len(packets):
            ready = rng.random() >= pause
            ctx.set(dut.o.ready, ready)
            _, _, valid, beat = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            cycles += 1
            assert cycles < 5000
            now = (beat.data, beat.last) if valid else None
            assert before is None or before == now, "offer withdrawn"
            before = now if not ready else None
            if valid and ready:
                packet.append(beat.data)
                if beat.last:
                    got.append(packet)
                    packet = []
    for k in range(n):
        sim.add_testbench(source(k))
    sim.add_testbench(sink)
    sim.run()
    assert sorted(got) == sorted(packets)
    for k in range(n):
        assert [p for p in got if p[0] >> 12 == k] == [p for p in packets if p[0] >> 12 == k]
    if not pause:                       # no input waits for more than one packet of each other
        assert cycles <= sum(map(len, packets)) + 2
        assert {p[0] >> 12 for p in got[:n]} == set(range(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_round_robin_starves_nobody(n):
    """A proof by cases: with every set of requests and every last turn the pick is a request, and of any two that ask the one
    behind the last turn comes first. So who keeps asking waits for each other one once at most, whatever they do."""
    m, requests, last, pick = Module(), Signal(n), Signal(range(n)), Signal(range(n))
    round_robin(m, requests, last, pick)
    sim = Simulator(m)

    async def testbench(ctx):
        for before in range(n):
            ctx.set(last, before)
            for asked in range(1, 1 << n):
                ctx.set(requests, asked)
                turn = ctx.get(pick)
                assert asked >> turn & 1
                wait = {k: (k - before - 1) % n for k in range(n) if asked >> k & 1}
                assert wait[turn] == min(wait.values())
                # The wait of every other one that asks gets shorter with this turn.
                assert all((k - turn - 1) % n < wait[k] for k in wait if k != turn)
    sim.add_testbench(testbench)
    sim.run()
