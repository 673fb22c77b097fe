"""Sent TLPs: as the block wants them, those that it sends itself taken out, and the credits for them."""

import random

import pytest

from ringnic.hdl.pcie.series7.tx import Refusals, Tx

from ....kit import streams, tlps
from ....kit.simulation import Simulation
from .conftest import accept

UR, CA = 1, 4
LOTS = {"fc_ph": 0x20, "fc_pd": 0x200, "fc_nph": 0x20, "fc_npd": 0x20, "fc_cplh": 0x20, "fc_cpld": 0x200, "tx_buf_av": 32}


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_beats(width, seed):
    """Full beats but for the last, and each DW as a number."""
    dut, rng, found = Tx(width=width), random.Random(seed), []

    def idle():
        return seed is not None and rng.random() < 0.4
    given = [tlps.memory(0, 0x1234_5678), *(tlps.memory(1, 0x1000, n, data=bytes(range(4 * n))) for n in range(1, 8)),
             tlps.memory(0, 1 << 40, 4, dw4=True), tlps.completion(5, 1, 4, 0, b"abcd")]

    async def main(ctx):
        ctx.set(dut.block.user_lnk_up, 1)
        for tlp in given:
            await tlps.put(ctx, dut.i, tlp, width, idle)
        await ctx.tick().repeat(20)
    simulation = Simulation(dut)
    simulation.background(accept, dut.block, found.append, idle, width)
    simulation.run(main)
    assert found == given


def test_link_down():
    """What begins then is dropped whole, what has begun is not cut."""
    dut, found = Tx(width=64), []
    tlp = [tlps.memory(1, 0x1000 * n, 3, data=bytes([n] * 12)) for n in range(3)]

    async def main(ctx):
        beats = [list(tlps.beats(one, 64)) for one in tlp]
        for n, up in enumerate((1, 0, 1)):
            ctx.set(dut.block.user_lnk_up, up)
            await streams.send(ctx, dut.i, beats[n][0])
            ctx.set(dut.block.user_lnk_up, 1 - up)
            for beat in beats[n][1:]:
                await streams.send(ctx, dut.i, beat)
        await ctx.tick().repeat(3)
    simulation = Simulation(dut)
    simulation.background(accept, dut.block, found.append)
    simulation.run(main)
    assert found == [tlp[0], tlp[2]]


@pytest.mark.parametrize("leaving, cycles", [(0, 8), (5, 8), (20, 21), (255, 256), (1000, 256)])
def test_grants(leaving, cycles):
    """The block's own TLP waits for what is leaving, but not for ever; each asks anew. A grant stays until it was used."""
    dut = Tx(width=64)

    async def main(ctx):
        for _ in range(2):
            assert not ctx.get(dut.block.tx_cfg_gnt)
            ctx.set(dut.block.tx_cfg_req, 1)
            ctx.set(dut.leaving, leaving > 0)
            waited = 0
            while not ctx.get(dut.block.tx_cfg_gnt):
                await ctx.tick()
                waited += 1
                ctx.set(dut.leaving, waited < leaving)
            assert waited == cycles
            ctx.set(dut.leaving, 1)
            await ctx.tick().repeat(5)
            assert ctx.get(dut.block.tx_cfg_gnt)
            ctx.set(dut.block.tx_cfg_req, 0)
            await ctx.tick()
    Simulation(dut).run(main)


def classes(mps=0, **changes):
    """Which classes may begin with these credits, and when they have run out or come back."""
    dut, seen = Tx(width=64), []

    async def main(ctx):
        def see():
            credits = ctx.get(dut.credits)
            seen.append((credits.posted, credits.non_posted, credits.completion))
        for name, value in LOTS.items():
            ctx.set(getattr(dut.block, name), value)
        ctx.set(dut.block.user_lnk_up, 1)
        ctx.set(dut.mps, mps)
        assert ctx.get(dut.block.fc_sel) == 4  # PG054: transmit credits available
        await ctx.tick().repeat(10)
        see()
        for name, value in changes.items():
            ctx.set(getattr(dut.block, name), value)
        await ctx.tick().repeat(3)
        see()
    Simulation(dut).run(main)
    assert seen[0] == (1, 1, 1)
    return seen[1]


@pytest.mark.parametrize("changes, expected", [
    ({"fc_ph": 0}, (0, 1, 1)), ({"fc_ph": 1}, (1, 1, 1)), ({"fc_pd": 7}, (0, 1, 1)), ({"fc_pd": 8}, (1, 1, 1)),
    ({"fc_nph": 0}, (1, 0, 1)), ({"fc_nph": 1}, (1, 1, 1)), ({"fc_npd": 0}, (1, 1, 1)),
    ({"fc_cplh": 0}, (1, 1, 0)), ({"fc_cpld": 7}, (1, 1, 0)), ({"fc_cpld": 8}, (1, 1, 1)),
    ({"tx_buf_av": 1}, (1, 0, 1)), ({"tx_buf_av": 2}, (1, 1, 1))])
def test_credits(changes, expected):
    """A class may begin while its largest TLP has credits: a header, and 16 bytes of data each (2.6.1)."""
    assert classes(**changes) == expected


@pytest.mark.parametrize("mps, data", [(0, 8), (1, 16), (2, 32)])
def test_credits_for_the_largest_payload(mps, data):
    assert classes(mps, fc_pd=data - 1) == (0, 1, 1)
    assert classes(mps, fc_pd=data) == (1, 1, 1)


@pytest.mark.parametrize("shown", [0, 0x80])
def test_infinite_credits(shown):
    """Root complexes advertise infinite completion credits (2.6.1), which the block shows as a constant."""
    dut = Tx(width=64)

    async def main(ctx):
        for name, value in (LOTS | {"fc_cplh": shown, "fc_cpld": shown << 4}).items():
            ctx.set(getattr(dut.block, name), value)
        ctx.set(dut.block.user_lnk_up, 1)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.credits).completion
    Simulation(dut).run(main)


@pytest.mark.parametrize("width", [64, 128])
def test_refusals(width):
    """Only completions without success leave the stream; PG054, cfg_err_tlp_cpl_header."""
    dut, rng, passed, refused = Refusals(width=width), random.Random(width), [], []
    plain = [tlps.memory(0, 0x1000), tlps.completion(2, 1, 4, 0, b"abcd"), tlps.completion(3, 0, 4, 0, None),
             tlps.memory(1, 0x2000, 1, data=b"\x0a" * 4)]
    bad = [tlps.completion(0x5a, 0, 0x123, 0x45, None, status=UR, rid=0x1234, completer=0x0508),
           bytearray(tlps.completion(7, 0, 4, 0, None, status=CA))]
    bad[1][0] |= 1     # of a locked read
    bad[1][1] |= 0x70  # traffic class 7
    bad[1][2] |= 0x30  # both attributes
    given = [plain[0], bad[0], plain[1], plain[2], bytes(bad[1]), plain[3]]

    def idle():
        return rng.random() < 0.3

    async def main(ctx):
        for tlp in given:
            await tlps.put(ctx, dut.i, tlp, width, idle)
        await ctx.tick().repeat(20)
    simulation = Simulation(dut)
    simulation.background(tlps.take, dut.o, width, passed.append, idle)
    simulation.background(streams.collect, dut.refusals, lambda one: refused.append((one.header, one.locked)), lambda: not idle())
    simulation.run(main)
    assert passed == plain
    assert refused == [(0x45 << 41 | 0x123 << 29 | 0x1234 << 8 | 0x5a, 0),
                       (4 << 29 | 7 << 26 | 3 << 24 | 0x0508 << 8 | 7, 1)]
