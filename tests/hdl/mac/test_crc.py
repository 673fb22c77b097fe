"""FCS against the CRC-32 of the standard library."""

import zlib

import pytest
from amaranth.hdl import Module, Signal

from ringnic.hdl.mac.crc import CRC_INIT, CRC_RESIDUE, crc_next

from ...kit.simulator import Simulator


@pytest.mark.parametrize("size", [0, 1, 2, 64, 333])
def test_matches_crc32_and_leaves_the_residue(size, rng):
    m, byte, state = Module(), Signal(8), Signal(32, init=CRC_INIT)
    m.d.sync += state.eq(crc_next(state, byte))
    packet = rng.randbytes(size)

    async def bench(ctx):
        for value in packet:
            ctx.set(byte, value)
            await ctx.tick()
        assert ~ctx.get(state) & 0xffff_ffff == zlib.crc32(packet)
        for value in zlib.crc32(packet).to_bytes(4, "little"):
            ctx.set(byte, value)
            await ctx.tick()
        assert ctx.get(state) == CRC_RESIDUE

    sim = Simulator(m)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()
