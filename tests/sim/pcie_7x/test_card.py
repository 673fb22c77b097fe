"""The card behind the block as one component: its ports, and its link."""

import gc

import pytest

from ringnic.hdl.nic import RingNIC
from ringnic.hdl.spec.pcie import Cfg
from ringnic.sim.pcie_7x.card import BlockNIC

from ...kit import tlps
from ...kit.simulation import Simulation


def test_ports_are_those_of_a_card():
    assert BlockNIC(mac=None).signature == RingNIC(mac=None).signature.__class__(
        {name: member for name, member in RingNIC(mac=None).signature.members.items() if name != "credits"})


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("lanes, width, mhz", [(1, 64, 62.5), (2, 64, 125), (4, 128, 125)])
def test_the_user_clock(lanes, width, mhz):
    """PG054, "Interface Width, Frequency": the times in the record of the link training are by this clock."""
    assert BlockNIC(mac=None, lanes=lanes, width=width).adapter.clock_mhz == mhz
    gc.collect()


def answers(spoil):
    """What comes of a read of the IDs, ``spoil(ctx, block)`` done first."""
    dut, found = BlockNIC(mac=None, max_queue_size=4), []

    async def main(ctx):
        await spoil(ctx, dut.block)
        await tlps.put(ctx, dut.tlp_rx, tlps.config(0, Cfg.VENDOR_ID), 64)
        await ctx.tick().repeat(120)
        assert not ctx.get(dut.busy)
    simulation = Simulation(dut, watch_busy=False)
    simulation.background(tlps.take, dut.tlp_tx, 64, found.append)
    simulation.run(main)
    return [tlps.parse(tlp).data for tlp in found]


def test_a_host_waits_for_the_link():
    async def nothing(ctx, block):
        pass
    assert answers(nothing) == [bytes.fromhex("f41a4110")]
