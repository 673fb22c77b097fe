"""The device configuration, and the parameters that make no device."""

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.net.device import NetDevice

GOOD = dict(width=64, queue_pairs=2, mac_address=0x5254_0052_4e01, mtu=1500, speed=1000)


def test_errors():
    with pytest.raises(ValueError, match="^Queue pairs must be 1 to 32768, not 0$"):
        NetDevice(**{**GOOD, "queue_pairs": 0})
    with pytest.raises(ValueError, match="^MTU must be 68 to 9000 bytes, not 67$"):
        NetDevice(**{**GOOD, "mtu": 67})
    for address in (1 << 48, 0x0100_0000_0000):
        with pytest.raises(ValueError, match=f"^MAC address must be 48 bits of an individual address, not {address}$"):
            NetDevice(**{**GOOD, "mac_address": address})


def test_configuration_follows_the_link():
    dut, changes = NetDevice(**GOOD), []

    def image(status):
        # 5.1.4: mac, status, max_virtqueue_pairs, mtu, speed, duplex; little-endian
        return (bytes.fromhex("525400524e01") + status.to_bytes(2, "little") + bytes([2, 0]) +
                (1500).to_bytes(2, "little") + (1000).to_bytes(4, "little") + bytes([1]))

    async def bench(ctx):
        for link in (0, 1, 1, 0):
            ctx.set(dut.link_up, link)
            for _ in range(5):
                _, _, changed = await ctx.tick().sample(dut.host.config_changed)
                changes.append(changed)
            assert ctx.get(dut.host.config).to_bytes(len(dut.host.config) // 8, "little") == image(link)
        assert sum(changes) == 2

    sim = Simulator(dut)
    sim.add_clock(8e-9)
    sim.add_testbench(bench)
    sim.run()


def test_features():
    # MTU, MAC, MRG_RXBUF, STATUS, CTRL_VQ, SPEED_DUPLEX; MQ
    assert set(NetDevice(**{**GOOD, "queue_pairs": 1}).FEATURES) == {3, 5, 15, 16, 17, 63}
    assert set(NetDevice(**GOOD).FEATURES) == {3, 5, 15, 16, 17, 22, 63}
