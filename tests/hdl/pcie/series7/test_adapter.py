"""The adapter with a function behind it, on the streams of the block."""

import random

import pytest
from amaranth.lib.wiring import connect

from ringnic.hdl.pcie.endpoint import Endpoint
from ringnic.hdl.pcie.series7.adapter import PARAMETERS, Adapter

from ....kit import registers, streams, tlps
from ....kit.simulation import Simulation, until
from .conftest import accept, offer, offer_straddled

BAR = 0xfe00_8000
CREDITS = {"fc_ph": 32, "fc_pd": 512, "fc_nph": 32, "fc_npd": 32, "tx_buf_av": 32}


class Bench:
    """An endpoint without DMA clients at work, and what it has sent."""
    def __init__(self, seed=None, width=64):
        self.width, self.rng, self.seed, self.out = width, random.Random(seed), seed, []
        self.regs = {0x0: 0x1111_2222, 0x4: 0x3333_4444}
        self.dut = Adapter(width=width, clock_mhz=62.5)

    def idle(self):
        return self.seed is not None and self.rng.random() < 0.4

    def run(self, body, *more):
        """``more``: further testbenches of ``ctx`` and the endpoint."""
        dut, block = self.dut, self.dut.block
        endpoint = Endpoint(width=self.width, read_clients=1, write_clients=1, msix_vectors=1, pcie=PARAMETERS)

        def join(m):
            m.submodules.endpoint = endpoint
            connect(m, dut.config, endpoint.config)
            connect(m, dut.tlp_rx, endpoint.tlp_rx)
            connect(m, endpoint.tlp_tx, dut.tlp_tx)
            m.d.comb += endpoint.credits.eq(dut.credits)

        async def main(ctx):
            shown = CREDITS | {"user_lnk_up": 1, "cfg_err_cpl_rdy": 1, "cfg_command": 6, "cfg_bus_number": 5}
            for name, value in shown.items():
                ctx.set(getattr(block, name), value)
            await ctx.tick().repeat(5)
            await body(ctx, block)
        simulation = Simulation(dut, beside=join, watch_busy=False)
        simulation.background(registers.serve, endpoint.regs, self.regs)
        simulation.background(accept, block, self.out.append, self.idle, self.width)
        for one in more:
            simulation.background(one, endpoint)
        simulation.run(main)
        return self.out


    async def offer(self, ctx, *given):
        if self.width == 64:
            for tlp in given:
                await offer(ctx, self.dut.block, tlp, idle=self.idle)
        else:
            await offer_straddled(ctx, self.dut.block, [(tlp, 1) for tlp in given], lambda: self.rng.random() < 0.7, self.idle)


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_registers_and_window(width, seed):
    """Requests to the BAR and to the window are answered with the ID that the block shows."""
    bench = Bench(seed, width)

    async def body(ctx, block):
        await bench.offer(ctx, tlps.memory(1, BAR + 8, 1, data=b"abcd"), tlps.memory(0, BAR, 2, tag=1),
                          tlps.config(0, 0xa8, tag=2), tlps.memory(0, BAR + 8, 1, tag=3))
        await until(ctx, lambda: len(bench.out) == 3, 2000)
    answers = [tlps.parse(tlp) for tlp in bench.run(body)]
    assert [(one.tag, one.status, one.cid) for one in answers] == [(1, 0, 0x500), (2, 0, 0x500), (3, 0, 0x500)]
    assert answers[0].data == bytes.fromhex("2222111144443333") and answers[1].data[0] == 9 and answers[2].data == b"abcd"


def test_a_refused_request_is_answered_by_the_block():
    """And only by the block."""
    bench = Bench()

    async def body(ctx, block):
        await bench.offer(ctx, tlps.memory(0, BAR + 0x7ffc, 2, tag=9, rid=0x1234))  # over the end of the BAR
        await until(ctx, lambda: ctx.get(block.cfg_err_ur), 200)
        assert not ctx.get(block.cfg_err_posted) and ctx.get(block.cfg_err_tlp_cpl_header) >> 0 & 0xffffff == 0x1234_09
        await ctx.tick().repeat(50)
    assert bench.run(body) == []


def test_answers_wait_for_credits_of_their_class():
    bench = Bench()

    async def body(ctx, block):
        ctx.set(block.fc_cplh, 1)
        ctx.set(block.fc_cpld, 64)
        await ctx.tick().repeat(5)
        ctx.set(block.fc_cplh, 0)
        await ctx.tick().repeat(5)
        await bench.offer(ctx, tlps.memory(0, BAR, 1))
        await ctx.tick().repeat(100)
        assert bench.out == []
        ctx.set(block.fc_cplh, 1)
        await until(ctx, lambda: bench.out, 200)
    assert len(bench.run(body)) == 1


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_follows_the_completion_of_the_block(width, seed):
    """7.5.1.1.3: who has cleared Bus Master Enable, and has the completion, which the block sends, sees no request any more."""
    bench, length, late = Bench(seed, width), 300, []

    async def write(ctx, endpoint):
        port, size = endpoint.writes[0], width // 8
        for at in range(1000):
            await streams.send(ctx, port.req, {"addr": 0x10000 + 0x1000 * at, "len": length})
            for left in range(length, 0, -size):
                await streams.send(ctx, port.data, {"data": 0, "last": left <= size})

    async def body(ctx, block):
        for turn in range(20):
            await until(ctx, lambda: len(bench.out) > 3, 2000)
            await ctx.tick().repeat(1 + bench.rng.randrange(60))
            before = len(bench.out)
            ctx.set(block.cfg_command, 2)
            await ctx.tick().repeat(1 + turn % 3)
            ctx.set(block.tx_cfg_req, 1)
            await until(ctx, lambda: ctx.get(block.tx_cfg_gnt), 300)
            ctx.set(block.tx_cfg_req, 0)
            granted = len(bench.out)
            await ctx.tick().repeat(100)
            assert len(bench.out) == granted, "a request after the completion"
            late.append(granted - before)
            bench.out.clear()
            ctx.set(block.cfg_command, 6)
    bench.run(body, write)
    assert max(late) > 0  # what had begun went before
