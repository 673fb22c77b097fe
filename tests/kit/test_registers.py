"""Registers: both ends of a port against each other."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
import pytest

from ringnic.hdl.lib.reg import RegPort
from tests.kit import registers
from tests.kit.simulation import Simulation


class Wires(wiring.Component):
    i: In(RegPort(8))
    o: Out(RegPort(8))

    def elaborate(self, platform):
        m = Module()
        connect(m, flipped(self.i), flipped(self.o))
        return m


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_bytes_that_are_written_are_read(rng, pause):
    bench, store, seen = Simulation(Wires(), rng, pause=pause), {4: 0x11223344}, []

    async def testbench(ctx):
        assert await registers.read(ctx, bench.dut.i, 4) == 0x11223344
        await registers.write(ctx, bench.dut.i, 4, 0xaabbccdd, be=0b0110)
        assert await registers.read(ctx, bench.dut.i, 4, be=0b0001, late=3) == 0x11bbcc44
        assert await registers.read(ctx, bench.dut.i, 8) == 0
    bench.background(registers.serve, bench.dut.o, store, bench.idle, lambda req: seen.append((req.addr, req.write, req.be)))
    bench.run(testbench)
    assert seen == [(4, 0, 15), (4, 1, 6), (4, 0, 1), (8, 0, 15)]
