"""Read beats cut into elements: every width, element size and alignment."""

import random

import pytest
from amaranth.hdl import ClockDomain, Module

from ringnic.hdl.virtqueue.elements import Elements

from ...kit.simulator import Simulator


def beats_of(payload, width, offset):
    lanes, at = width // 8, 0
    while at < len(payload):
        step = min(lanes - (offset + at) % lanes, len(payload) - at)
        chunk = payload[at:at + step]
        at += step
        yield {"data": int.from_bytes(chunk, "little"), "count": step, "last": at == len(payload), "error": 0}


def run(width, bits, beats, pause):
    dut, got, rng = Elements(width=width, shape=bits), [], random.Random(1)

    async def feed(ctx):
        for beat in beats:
            while pause and rng.random() < 0.3:
                await ctx.tick()
            ctx.set(dut.i.p, beat)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(40)

    async def collect(ctx):
        while True:
            ctx.set(dut.o.ready, not pause or rng.random() < 0.6)
            _, _, valid, ready, element = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.p)
            if valid and ready:
                got.append((element.data, element.last, element.error))

    m = Module()
    m.domains.sync = ClockDomain()  # some sizes need no clock
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(8e-9)
    sim.add_testbench(feed)
    sim.add_testbench(collect, background=True)
    sim.run()
    return got


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("bits", [16, 32, 128])
@pytest.mark.parametrize("pause", [False, True])
def test_elements_come_out_whole_and_in_order(width, bits, pause):
    size, rng, expected, beats = bits // 8, random.Random(width + bits), [], []
    for count in (1, 2, 3, 7, 16):
        for offset in range(0, width // 8, size) if size < width // 8 else [0]:
            payload = rng.randbytes(size * count)
            beats += beats_of(payload, width, offset)
            expected += [(int.from_bytes(payload[size * k:size * k + size], "little"), k == count - 1, 0)
                         for k in range(count)]
    assert run(width, bits, beats, pause) == expected


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_failed_read_ends_once_with_error(width):
    failed = {"data": 0, "count": 0, "last": 1, "error": 1}
    got = run(width, 128, [failed, failed], pause=False)
    assert [(last, error) for _, last, error in got] == [(1, 1), (1, 1)]
