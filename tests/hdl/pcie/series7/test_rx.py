"""Received TLPs: bytes in the order of the wire, and none that is not for us."""

import random

import pytest

from ringnic.hdl.pcie.series7.rx import Rx

from ....kit import tlps
from ....kit.simulation import Simulation
from .conftest import offer, offer_straddled

BAR = 0xfe00_8000
NP_OK, NP_REQ = 1, 1


def run(width, given, *, seed=None):
    """``given``: pairs of a TLP and the BARs that it hits. What comes out, and how many were dropped."""
    dut, rng, found, dropped = Rx(width=width), random.Random(seed), [], 0

    def idle():
        return seed is not None and rng.random() < 0.4

    async def main(ctx):
        if width == 128:
            await offer_straddled(ctx, dut.block, given, lambda: rng.random() < 0.7, idle)
        else:
            for tlp, hit in given:
                await offer(ctx, dut.block, tlp, hit=hit, idle=idle)
        await ctx.tick().repeat(40)
        assert ctx.get(dut.block.rx_np_ok) == NP_OK and ctx.get(dut.block.rx_np_req) == NP_REQ

    async def count(ctx):
        nonlocal dropped
        async for _, _, strobe in ctx.tick().sample(dut.dropped):
            dropped += strobe
    simulation = Simulation(dut)
    simulation.background(tlps.take, dut.o, width, found.append, idle)
    simulation.background(count)
    simulation.run(main)
    return found, dropped


def test_width():
    with pytest.raises(ValueError, match="^Width must be 64 or 128, not 32$"):
        Rx(width=32)


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_bytes_are_in_the_order_of_the_wire(width, seed):
    """Headers of three and four DWs, with and without data, ending in either half of a beat."""
    given = [tlps.memory(0, BAR + 4), tlps.memory(0, 1 << 40 | BAR, dw4=True),
             *(tlps.memory(1, BAR, n, data=bytes(range(1, 4 * n + 1))) for n in range(1, 6)),
             *(tlps.memory(1, 1 << 40, n, data=bytes(range(1, 4 * n + 1)), dw4=True) for n in range(1, 6)),
             tlps.config(0, 0xa8), tlps.config(1, 0xb8, data=b"wxyz"), tlps.completion(3, 4, 16, 0, bytes(range(16)))]
    assert run(width, [(tlp, 1) for tlp in given], seed=seed) == (given, 0)


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("seed", [None, 3])
def test_requests_without_a_hit_are_dropped(width, seed):
    """Whatever is routed by an address; nothing else has one (PG054: the bits mean nothing then)."""
    foreign = [(tlps.memory(1, 0x1000, 3, data=bytes(12)), 0), (tlps.memory(0, 0x1000), 0), (tlps.memory(0, 0x1000, type=1), 2),
               (tlps.memory(0, 0x20, type=2), 0), (tlps.memory(1, 1 << 36, 1, data=bytes(4), dw4=True, type=0xc), 4)]
    ours = [(tlps.memory(1, BAR, 2, data=b"abcdefgh"), 1), (tlps.config(0, 0xa8), 0), (tlps.completion(1, 1, 4, 0, b"abcd"), 0),
            (tlps.header(0x34000000, 0x20, 0, 0), 0), (tlps.memory(0, BAR), 3)]
    mixed = [tlp for pair in zip(foreign, ours) for tlp in pair]
    assert run(width, mixed, seed=seed) == ([tlp for tlp, _ in ours], len(foreign))
