"""Completion: header, then the data that was gathered for it."""

import pytest

from ringnic.hdl.pcie.completion import CHUNK_DWS, Completion
from ringnic.hdl.spec.pcie import CplStatus

from ...kit.simulation import Simulation, until
from ...kit.streams import collect
from ...kit.tlps import parse

SAYS = {"completer_id": 0x0208, "status": CplStatus.SC, "byte_count": 0x123, "requester_id": 0x4567, "tag": 0x89,
        "lower_address": 0x2c, "tc": 5, "attr": 3, "locked": 0}


@pytest.mark.parametrize("busy", [1.0, 0.5])
def test_completions(busy, rng):
    dut, now, tlps = Completion(), [], []

    def add(p):
        now.append(p.dw)
        if p.last:
            tlps.append(list(now))
            now.clear()

    async def main(ctx):
        for size in (0, 1, 2, CHUNK_DWS, 3, 0):
            data = [rng.randrange(1 << 32) for _ in range(size)]
            for value in data:
                ctx.set(dut.data, value)
                ctx.set(dut.put, 1)
                await ctx.tick()
            ctx.set(dut.put, 0)
            ctx.set(dut.says, SAYS)
            ctx.set(dut.send, 1)
            await ctx.tick().until(dut.sent)
            ctx.set(dut.send, 0)
            await until(ctx, lambda: tlps)
            header, rest = tlps[0][:3], tlps.pop()[3:]
            assert rest == data
            came = parse(b"".join(dw.to_bytes(4, "little") for dw in [*header, *rest]))
            assert (came.cid, came.status, came.byte_count, came.rid, came.tc, came.attr) == (0x0208, 0, 0x123, 0x4567, 5, 3)
    simulation = Simulation(dut, forget=dut.put)
    simulation.background(collect, dut.o, add, lambda: rng.random() < busy)
    simulation.run(main)
