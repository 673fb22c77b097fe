"""Reset, and a link that comes and goes: PG054, "Clocking and Resets", "Physical Layer Interface"."""

import pytest

from ringnic.hdl.spec.pcie import Cfg
from ringnic.sim.pcie_7x import Block

from ...kit import tlps
from ...kit.simulation import cycles, until
from .conftest import BAR, LANES, ROOT

EVENTS = {"perst": ("sys_rst_n", 0), "down": ("link_up", 0), "hot reset": ("hot_reset", 1)}


def write(rng, dws):
    return tlps.memory(True, BAR, dws, rid=ROOT, data=rng.randbytes(4 * dws))


def test_arguments():
    with pytest.raises(ValueError, match="^The interface must have 64 or 128 bits, not 32$"):
        Block(width=32, lanes=1)
    with pytest.raises(ValueError, match="^The link must have 1, 2, 4 or 8 lanes, not 3$"):
        Block(width=64, lanes=3)


@pytest.mark.parametrize("event", EVENTS)
def test_events(rig, rng, event):
    """user_reset_out and user_lnk_up follow at once; afterwards the block is as new: configuration, what waited both ways."""
    bench = rig(take=False)
    name, value = EVENTS[event]

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.put(write(rng, 8), tlps.memory(False, BAR, rid=ROOT))
        await bench.settle(ctx)
        bench.drain = False
        await bench.offer(ctx, tlps.memory(True, 0x1000, 4, data=bytes(16)))
        ctx.set(dut.tx_cfg_gnt, 0)
        bench.put(tlps.memory(False, BAR - 4, rid=ROOT))
        await bench.settle(ctx, 20)
        assert ctx.get(dut.tx_cfg_req) and ctx.get(dut.pl_ltssm_state) == 0x16 and ctx.get(dut.pl_phy_lnk_up)
        bench.sent.clear()
        ctx.set(getattr(dut, name), value)
        await cycles(ctx, 2)
        assert ctx.get(dut.user_reset_out) and not ctx.get(dut.user_lnk_up)
        assert ctx.get(dut.pl_received_hot_rst) == (event == "hot reset") and ctx.get(dut.pl_ltssm_state) != 0x16
        assert ctx.get(dut.user_app_rdy) == (event != "perst")
        assert not ctx.get(dut.m_axis_rx_tvalid) and not ctx.get(dut.tx_cfg_req)
        assert ctx.get(dut.cfg_command) == 0 and ctx.get(dut.cfg_bus_number) == 0
        await cycles(ctx, 20)
        assert ctx.get(dut.user_reset_out)
        ctx.set(getattr(dut, name), 1 - value)
        ctx.set(dut.tx_cfg_gnt, 1)
        bench.take = bench.drain = True
        await until(ctx, lambda: ctx.get(dut.user_lnk_up))
        assert not ctx.get(dut.user_reset_out)
        await bench.settle(ctx)
        assert not bench.came and not bench.sent
        assert await bench.config_read(ctx, Cfg.BAR0) == 0
        await bench.wake(ctx)
        bench.put(packet := write(rng, 3))
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == [packet]
    bench.run(testbench)


def test_down_within_a_tlp(rig, rng):
    """What is left of a TLP when the link is back is nobody's."""
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        bench.sim.pause = 0.9
        bench.put(write(rng, 32))
        await cycles(ctx, 50)
        ctx.set(dut.link_up, 0)
        await cycles(ctx, 5)
        assert bench.down, "it is still coming"
        ctx.set(dut.link_up, 1)
        await until(ctx, lambda: ctx.get(dut.user_lnk_up))
        bench.sim.pause = 0.0
        assert bench.down
        await bench.settle(ctx)
        await bench.wake(ctx)
        bench.put(packet := write(rng, 3))
        await bench.settle(ctx)
        assert [one.tlp for one in bench.came] == [packet]
    bench.run(testbench)


def test_nothing_comes_while_down(rig, rng):
    bench = rig()

    async def testbench(ctx, dut):
        await bench.wake(ctx)
        ctx.set(dut.link_up, 0)
        bench.sent.clear()
        bench.put(write(rng, 3), tlps.memory(False, BAR - 4, rid=ROOT))
        await bench.settle(ctx)
        assert not bench.came and not bench.sent
    bench.run(testbench)


def test_states_of_the_training(rig):
    """The way to L0 (Base 2.1, 4.2.5; codes of PG054): Detect, Polling, Configuration, L0, and Recovery for 5 GT/s. In a hot
    reset it is the state of that name."""
    bench = rig()
    complete = {1: 0x11, 4: 0x13}[LANES[bench.width]]
    way = [0x00, 0x02, 0x04, 0x05, 0x0b, 0x0d, 0x0f, 0x10, complete, 0x15, 0x16, 0x1c, 0x1d, 0x1e, 0x1c, 0x1d, 0x20, 0x16]

    async def testbench(ctx, dut):
        await until(ctx, lambda: ctx.get(dut.user_lnk_up))
        for name, value, state in (("link_up", 0, 0x00), ("sys_rst_n", 0, 0x00), ("hot_reset", 1, 0x21)):
            ctx.set(getattr(dut, name), value)
            await cycles(ctx, 5)
            assert ctx.get(dut.pl_ltssm_state) == state
            ctx.set(getattr(dut, name), 1 - value)
            found = []
            while not ctx.get(dut.user_lnk_up):
                if found[-1:] != [ctx.get(dut.pl_ltssm_state)]:
                    found.append(ctx.get(dut.pl_ltssm_state))
                await ctx.tick()
            assert found == way
    bench.run(testbench)


def test_what_was_negotiated(rig):
    """pl_sel_lnk_rate and pl_sel_lnk_width, and Link Status: the most at first, less if the partner has less."""
    bench = rig()
    code = {1: 0, 4: 2}[LANES[bench.width]]

    async def testbench(ctx, dut):
        assert (ctx.get(dut.pl_sel_lnk_rate), ctx.get(dut.pl_sel_lnk_width)) == (1, code)
        assert ctx.get(dut.cfg_lstatus) == 0x1002 | LANES[bench.width] << 4
        assert ctx.get(dut.pl_initial_link_width) == code + 1
        ctx.set(dut.link_rate, 0)
        ctx.set(dut.link_width, 1)
        await cycles(ctx, 2)
        assert (ctx.get(dut.pl_sel_lnk_rate), ctx.get(dut.pl_sel_lnk_width), ctx.get(dut.cfg_lstatus)) == (0, 1, 0x1021)
    bench.run(testbench)


def test_stalls_can_be_repeated(rig, rng):
    """The same seed gives the same cycles, another one others."""
    packets = [write(rng, 20) for _ in range(3)]

    def run(seed):
        bench = rig(stall=100)
        valid = []

        async def testbench(ctx, dut):
            ctx.set(dut.seed, seed)
            await bench.wake(ctx)
            bench.put(*packets)
            for _ in range(150):
                _, _, now = await ctx.tick().sample(dut.m_axis_rx_tvalid)
                valid.append(now)
            assert [one.tlp for one in bench.came] == packets
        bench.run(testbench)
        return valid
    assert run(5) == run(5) != run(6)
