"""The wiring of the rooms: what a host finds behind the TLPs, and that a reset ends."""

import pytest

from ringnic.hdl.function import COMMON_FEATURES
from ringnic.hdl.mac.rgmii import RgmiiParameters
from ringnic.hdl.nic import RingNIC
from ringnic.hdl.pcie.parameters import PcieParameters
from ringnic.hdl.spec import bar
from ringnic.hdl.spec.pcie import Cfg
from ringnic.hdl.spec.virtio import Common

from ..kit.simulator import Simulator

GMII = {"gmii_rxd", "gmii_rx_dv", "gmii_rx_er", "gmii_txd", "gmii_tx_en", "gmii_tx_er"}
RGMII = {"rgmii_txc", "rgmii_txd", "rgmii_tx_ctl", "rgmii_rxc", "rgmii_rxd", "rgmii_rx_ctl", "mdio", "ethernet_up",
         "inband_differs"}
FRAMES = {"frames_rx", "frames_tx"}
BOARD = RgmiiParameters(clock_hz=62.5e6, phy_address=1)


def test_constructor():
    with pytest.raises(ValueError, match="^MAC must be 'gmii', 'rgmii' or None, not 'mii'$"):
        RingNIC(mac="mii")
    for options in (dict(mac="rgmii"), dict(mac="gmii", rgmii=BOARD), dict(mac=None, rgmii=BOARD)):
        with pytest.raises(ValueError, match="^An RGMII, and nothing else, needs its parameters$"):
            RingNIC(**options)


@pytest.mark.parametrize("hertz", [62.5e6, 125e6, 250e6])
def test_completion_timeout(hertz):
    """PCI Express Base 5.0, 7.5.3.15: of a function whose timeout is not programmable it is 50 us to 50 ms; ours may take half as
    long again."""
    cycles = RingNIC().pcie.timeout_cycles
    assert 50e-6 * hertz <= cycles and 1.5 * cycles <= 50e-3 * hertz


@pytest.mark.parametrize("options, wire", [
    (dict(mac="gmii"), GMII | {"link_up"}), (dict(mac=None), FRAMES | {"link_up"}), (dict(mac="rgmii", rgmii=BOARD), RGMII),
    (dict(mac=None, mac_address="input"), FRAMES | {"link_up", "mac_address"}),
    (dict(mac=None, mac_address="dna"), FRAMES | {"link_up"}),
    (dict(mac=None, pcie=PcieParameters(hosted=True)), FRAMES | {"link_up", "config", "link_page"}),
])
def test_members(options, wire):
    members = set(RingNIC(**options).signature.members)
    assert members == wire | {"tlp_rx", "tlp_tx", "credits", "offered", "busy"}


@pytest.mark.parametrize("width, address", [(64, 0x0253_0405_0607), (128, "input")])
def test_what_a_host_finds(width, address, make_host):
    dut = RingNIC(width=width, mac=None, mac_address=address, mtu=4000, speed=2500, max_queue_size=128)
    sim = Simulator(dut)
    sim.add_clock(8e-9)

    host = make_host(dut, width)
    host.attach(sim)

    async def testbench(ctx):
        ctx.set(dut.link_up, 1)
        if address == "input":
            ctx.set(dut.mac_address, 0x0253_0405_0607)
        assert await host.cfg_read(ctx, Cfg.VENDOR_ID) == 0x1041_1af4
        assert await host.cfg_read(ctx, Cfg.REVISION_ID) >> 8 == 0x02_00_00  # an Ethernet controller
        await host.cfg_write(ctx, Cfg.BAR0, 0xffff_ffff)
        assert await host.cfg_read(ctx, Cfg.BAR0) == 0x1_0000_0000 - bar.BAR_SIZE
        await host.enable(ctx)

        assert await host.read(ctx, bar.COMMON_OFFSET + Common.NUM_QUEUES, 2) == 3
        assert await host.read(ctx, bar.COMMON_OFFSET + Common.QUEUE_SIZE, 2) == 128
        offered = 0
        for word in (0, 1):
            await host.write(ctx, Common.DEVICE_FEATURE_SELECT, word)
            offered |= await host.read(ctx, Common.DEVICE_FEATURE) << 32 * word
        # MTU, MAC, MRG_RXBUF, STATUS, CTRL_VQ, SPEED_DUPLEX; and what every function offers
        assert {bit for bit in range(64) if offered >> bit & 1} == {3, 5, 15, 16, 17, 63, *COMMON_FEATURES}
        config = [await host.read(ctx, bar.DEVICE_OFFSET + at, 1) for at in range(17)]
        assert bytes(config[:6]) == bytes.fromhex("025304050607")
        assert config[6] & 1 and config[10:12] == [4000 & 0xff, 4000 >> 8] and config[12] | config[13] << 8 == 2500
        assert await host.read(ctx, bar.COUNTERS_OFFSET) == bar.COUNTERS_MAGIC
        assert await host.read(ctx, bar.COUNTERS_OFFSET + 4) == len(bar.COUNTERS)

        for status in (1, 3):
            await host.write(ctx, Common.DEVICE_STATUS, status, 1)
        assert await host.read(ctx, Common.DEVICE_STATUS, 1) == 3
        await host.write(ctx, Common.DEVICE_STATUS, 0, 1)
        for _ in range(50):
            if await host.read(ctx, Common.DEVICE_STATUS, 1) == 0:
                break
        else:
            raise AssertionError("reset does not end")
        for _ in range(200):
            await ctx.tick()
        assert not ctx.get(dut.busy)
    sim.add_testbench(testbench)
    sim.run()
