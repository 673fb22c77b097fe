"""TLPs to DWs and back: as they were, one DW a cycle."""

import pytest

from ringnic.hdl.pcie.dws import DwsToTlp, TlpToDws

from ...kit.simulation import Simulation, until
from ...kit.streams import collect, send
from ...kit.tlps import put, take


def some(rng):
    return [rng.randbytes(4 * size) for size in (*range(1, 12), 3, 3, 4, 1)]


@pytest.mark.parametrize("width", [32, 64, 256])
@pytest.mark.parametrize("busy", [1.0, 0.5])
def test_to_dws(width, busy, rng):
    dut, tlps, got, now = TlpToDws(width=width), some(rng), [], []

    def add(p):
        now.append(p.dw.to_bytes(4, "little"))
        if p.last:
            got.append(b"".join(now))
            now.clear()

    async def main(ctx):
        for tlp in tlps:
            await put(ctx, dut.i, tlp, width)
        await until(ctx, lambda: len(got) == len(tlps))
    simulation = Simulation(dut)
    simulation.background(collect, dut.o, add, lambda: rng.random() < busy)
    simulation.run(main)
    assert got == tlps


@pytest.mark.parametrize("width", [32, 64, 256])
@pytest.mark.parametrize("busy", [1.0, 0.5])
def test_to_tlps(width, busy, rng):
    dut, tlps, got = DwsToTlp(width=width), some(rng), []

    async def main(ctx):
        for tlp in tlps:
            for at in range(0, len(tlp), 4):
                await send(ctx, dut.i, {"dw": int.from_bytes(tlp[at:at + 4], "little"), "last": at + 4 == len(tlp)})
        await until(ctx, lambda: len(got) == len(tlps))
    simulation = Simulation(dut)
    simulation.background(take, dut.o, width, got.append, lambda: rng.random() > busy)
    simulation.run(main)
    assert got == tlps
