"""The wiring of the rooms: what a host finds behind the TLPs, and that a reset ends."""

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.function import COMMON_FEATURES
from ringnic.hdl.nic import RingNIC
from ringnic.hdl.spec import bar
from ringnic.hdl.spec.pcie import Cfg, Command
from ringnic.hdl.spec.virtio import Common

BAR, RID, HOST = 0xfe00_0000, 0x0100, 0x0008
GMII = {"gmii_rxd", "gmii_rx_dv", "gmii_rx_er", "gmii_txd", "gmii_tx_en", "gmii_tx_er"}
FRAMES = {"frames_rx", "frames_tx"}


def test_constructor():
    with pytest.raises(ValueError, match="^MAC must be 'gmii' or None, not 'rgmii'$"):
        RingNIC(mac="rgmii")


@pytest.mark.parametrize("mac, wire", [("gmii", GMII), (None, FRAMES)])
def test_members(mac, wire):
    members = set(RingNIC(mac=mac).signature.members)
    assert members == wire | {"tlp_rx", "tlp_tx", "link_up", "offered", "busy"}


class Host:
    """One request after the other, as a root complex would."""
    def __init__(self, ctx, dut, width):
        self.ctx, self.dut, self.size, self.got = ctx, dut, width // 8, []

    async def put(self, *dws, data=b""):
        tlp = b"".join(dw.to_bytes(4, "big") for dw in dws) + data
        port = self.dut.tlp_rx
        for at in range(0, len(tlp), self.size):
            piece = tlp[at:at + self.size]
            self.ctx.set(port.payload, {"data": int.from_bytes(piece, "little"), "dws": len(piece) // 4,
                                        "last": at + self.size >= len(tlp)})
            self.ctx.set(port.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await self.ctx.tick().sample(port.ready)
            self.ctx.set(port.valid, 0)

    async def completion(self, limit=400):
        """Status and data of the next TLP."""
        port, tlp = self.dut.tlp_tx, b""
        self.ctx.set(port.ready, 1)
        for _ in range(limit):
            _, _, valid, beat = await self.ctx.tick().sample(port.valid, port.payload)
            if valid:
                tlp += beat.data.to_bytes(self.size, "little")[:4 * beat.dws]
                if beat.last:
                    assert tlp[0] & 0x1f == 0x0a and int.from_bytes(tlp[8:10], "big") == HOST
                    return tlp[6] >> 5, int.from_bytes(tlp[12:], "little")
        raise AssertionError(f"no completion in {limit} cycles")

    async def cfg_read(self, register):
        await self.put(4 << 24 | 1, HOST << 16 | 0xf, RID << 16 | register)
        status, value = await self.completion()
        assert status == 0
        return value

    async def cfg_write(self, register, value):
        await self.put(0x44 << 24 | 1, HOST << 16 | 0xf, RID << 16 | register, data=value.to_bytes(4, "little"))
        assert await self.completion() == (0, 0)

    async def read(self, offset, size=4):
        lane = offset % 4
        await self.put(1, HOST << 16 | ((1 << size) - 1) << lane, BAR + offset - lane)
        status, value = await self.completion()
        assert status == 0
        return value >> 8 * lane & ((1 << 8 * size) - 1)

    async def write(self, offset, value, size=4):
        lane = offset % 4
        await self.put(0x40 << 24 | 1, HOST << 16 | ((1 << size) - 1) << lane, BAR + offset - lane,
                       data=(value << 8 * lane).to_bytes(4, "little"))


@pytest.mark.parametrize("width", [64, 128])
def test_what_a_host_finds(width):
    dut = RingNIC(width=width, mac=None, mac_address=0x0253_0405_0607, mtu=4000, speed=2500, max_queue_size=128)
    sim = Simulator(dut)
    sim.add_clock(8e-9)

    async def testbench(ctx):
        ctx.set(dut.link_up, 1)
        host = Host(ctx, dut, width)
        assert await host.cfg_read(Cfg.VENDOR_ID) == 0x1041_1af4
        assert await host.cfg_read(Cfg.REVISION_ID) >> 8 == 0x02_00_00  # an Ethernet controller
        await host.cfg_write(Cfg.BAR0, 0xffff_ffff)
        assert await host.cfg_read(Cfg.BAR0) == 0x1_0000_0000 - bar.BAR_SIZE
        await host.cfg_write(Cfg.BAR0, BAR)
        await host.cfg_write(Cfg.COMMAND, 1 << Command.MEMORY_ENABLE | 1 << Command.BUS_MASTER)

        assert await host.read(bar.COMMON_OFFSET + Common.NUM_QUEUES, 2) == 3
        assert await host.read(bar.COMMON_OFFSET + Common.QUEUE_SIZE, 2) == 128
        offered = 0
        for word in (0, 1):
            await host.write(Common.DEVICE_FEATURE_SELECT, word)
            offered |= await host.read(Common.DEVICE_FEATURE) << 32 * word
        # MTU, MAC, MRG_RXBUF, STATUS, CTRL_VQ, SPEED_DUPLEX; and what every function offers
        assert {bit for bit in range(64) if offered >> bit & 1} == {3, 5, 15, 16, 17, 63, *COMMON_FEATURES}
        config = [await host.read(bar.DEVICE_OFFSET + at, 1) for at in range(17)]
        assert bytes(config[:6]) == bytes.fromhex("025304050607")
        assert config[6] & 1 and config[10:12] == [4000 & 0xff, 4000 >> 8] and config[12] | config[13] << 8 == 2500
        assert await host.read(bar.COUNTERS_OFFSET) == bar.COUNTERS_MAGIC
        assert await host.read(bar.COUNTERS_OFFSET + 4) == len(bar.COUNTERS)

        for status in (1, 3):
            await host.write(Common.DEVICE_STATUS, status, 1)
        assert await host.read(Common.DEVICE_STATUS, 1) == 3
        await host.write(Common.DEVICE_STATUS, 0, 1)
        for _ in range(50):
            if await host.read(Common.DEVICE_STATUS, 1) == 0:
                break
        else:
            raise AssertionError("reset does not end")
        for _ in range(200):
            await ctx.tick()
        assert not ctx.get(dut.busy)
    sim.add_testbench(testbench)
    sim.run()
