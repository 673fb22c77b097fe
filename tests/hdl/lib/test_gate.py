"""Packet gate: holds between packets, never inside one. Packet cut: at once, and never gives out a rest."""

import pytest
from amaranth.lib import data

from ringnic.hdl.lib.gate import PacketCut, PacketGate

from ...kit.simulator import Simulator

BEAT = data.StructLayout({"data": 8, "last": 1})


def test_hold_lets_the_begun_packet_pass_and_no_other():
    dut = PacketGate(BEAT)
    beats = [(k, k % 3 == 2) for k in range(9)]
    got = []

    async def feed(ctx):
        for value, last in beats:
            ctx.set(dut.i.p, {"data": value, "last": last})
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def collect(ctx):
        ctx.set(dut.o.ready, 1)
        async for _, _, valid, value in ctx.tick().sample(dut.o.valid, dut.o.p.data):
            if valid:
                got.append(value)

    async def control(ctx):
        await ctx.tick().repeat(2)
        ctx.set(dut.hold, 1)
        assert not ctx.get(dut.held)
        await ctx.tick().repeat(10)
        assert ctx.get(dut.held) and got == [0, 1, 2]
        ctx.set(dut.hold, 0)
        await ctx.tick().repeat(10)
        assert got == list(range(9))
        ctx.set(dut.hold, 1)
        await ctx.tick()
        assert ctx.get(dut.held)

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(feed)
    sim.add_testbench(collect, background=True)
    sim.add_testbench(control)
    sim.run()


def test_a_packet_that_waits_at_the_output_is_not_withdrawn():
    dut = PacketGate(BEAT)

    async def testbench(ctx):
        ctx.set(dut.i.p, {"data": 1, "last": 1})
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(2)
        ctx.set(dut.hold, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.o.valid) and not ctx.get(dut.held)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        assert ctx.get(dut.held)

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("hold_from, hold_to, expected", [
    (1, 2, [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]),  # inside the first packet
    (1, 4, [(0, 0), (2, 0), (2, 1), (2, 2)]),                          # to inside the second
    (3, 6, [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]),          # the second, whole
])
def test_cut(hold_from, hold_to, expected):
    dut = PacketCut(BEAT)
    got = []

    async def run(ctx):
        ctx.set(dut.o.ready, 1)
        for n, (packet, beat) in enumerate((packet, beat) for packet in range(3) for beat in range(3)):
            ctx.set(dut.hold, hold_from <= n < hold_to)
            ctx.set(dut.i.p, {"data": packet << 4 | beat, "last": beat == 2})
            ctx.set(dut.i.valid, 1)
            assert ctx.get(dut.i.ready)  # it never makes its source wait
            _, _, valid, value = await ctx.tick().sample(dut.o.valid, dut.o.p.data)
            if valid:
                got.append((value >> 4, value & 15))

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(run)
    sim.run()
    assert got == expected
