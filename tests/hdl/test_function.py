"""What a function makes of what a device type declares, and that a reset waits for what lies behind the device."""

import pytest
from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from ringnic.hdl.function import COMMON_FEATURES, VirtioFunction
from ringnic.hdl.lib.device import DevicePort
from ringnic.hdl.pcie.config import EXP_CAP
from ringnic.hdl.pcie.parameters import PcieParameters
from ringnic.hdl.spec import bar
from ringnic.hdl.spec.pcie import Cfg, Exp
from ringnic.hdl.spec.virtio import VIRTIO_F_VERSION_1, Common

from ..kit.simulator import Simulator


class Device(wiring.Component):
    """A device that does nothing but count the cycles since its last reset."""
    DEVICE_ID = 0x2a
    CLASS_CODE = 0x123456
    FEATURES = (3, 5)
    FEATURE_PREREQUISITES = {5: [3]}

    def __init__(self):
        super().__init__({
            "host":   Out(DevicePort(64, num_queues=5, buffers=2, reads=1, writes=0, config_bytes=6)),
            "age":    Out(8),
            "events": Out(data.StructLayout({"tx_frames": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.age.eq(self.age + (self.age != 255))
        m.d.comb += [self.host.config.eq(0x0605_0403_0201), self.events.tx_frames.eq(self.age == 7)]
        return m


SIZES = dict(width=64, max_queue_size=64, pcie=PcieParameters(timeout_cycles=1 << 10))


def test_every_event_has_a_counter():
    with pytest.raises(ValueError, match="^Event 'tx_frames' has no counter$"):
        VirtioFunction(Device(), counters=bar.FUNCTION_COUNTERS, **SIZES)
    with pytest.raises(ValueError, match="^Event '.*' has no counter$"):
        VirtioFunction(Device(), counters=("tx_frames",), **SIZES)


@pytest.mark.parametrize("prefetch", [8, 32, 96, 4096])
def test_chains_found_ahead_are_as_many_as_can_be(prefetch):
    with pytest.raises(ValueError, match=f"^Chains found ahead must be a power of 2 from 64 to 2048, not {prefetch}$"):
        VirtioFunction(Device(), counters=bar.COUNTERS, **SIZES | {"pcie": PcieParameters(prefetch=prefetch)})


@pytest.fixture
def plug(make_host):
    """Return ``plug(device)``: the function around it, its simulator, and its host; options are the function's."""
    def plugged(device, **options):
        dut = VirtioFunction(device, counters=bar.COUNTERS, **SIZES | options)
        sim = Simulator(dut)
        sim.add_clock(8e-9)
        host = make_host(dut, SIZES["width"])
        host.attach(sim)
        return dut, sim, host
    return plugged


def test_what_a_device_declares(plug):
    device = Device()
    dut, sim, host = plug(device)

    async def offers(ctx):
        bits = 0
        for word in range(4):
            await host.write(ctx, Common.DEVICE_FEATURE_SELECT, word)
            bits |= await host.read(ctx, Common.DEVICE_FEATURE) << 32 * word
        return {bit for bit in range(128) if bits >> bit & 1}

    async def accepts(ctx, *features):
        for status in (1, 3):
            await host.write(ctx, Common.DEVICE_STATUS, status, 1)
        for word in (0, 1):
            await host.write(ctx, Common.DRIVER_FEATURE_SELECT, word)
            await host.write(ctx, Common.DRIVER_FEATURE, sum(1 << bit for bit in features) >> 32 * word & 0xffff_ffff)
        await host.write(ctx, Common.DEVICE_STATUS, 11, 1)
        return bool(await host.read(ctx, Common.DEVICE_STATUS, 1) & 8)

    async def reset(ctx):
        await host.write(ctx, Common.DEVICE_STATUS, 0, 1)
        for _ in range(50):
            if await host.read(ctx, Common.DEVICE_STATUS, 1) == 0:
                return True
        return False

    async def testbench(ctx):
        assert await host.cfg_read(ctx, Cfg.VENDOR_ID) == 0x106a_1af4
        assert await host.cfg_read(ctx, Cfg.REVISION_ID) >> 8 == 0x12_34_56
        await host.enable(ctx)
        assert await host.read(ctx, Common.NUM_QUEUES, 2) == 5
        assert await host.read(ctx, Common.QUEUE_SIZE, 2) == 64
        assert [await host.read(ctx, bar.DEVICE_OFFSET + at, 1) for at in range(8)] == [1, 2, 3, 4, 5, 6, 0, 0]
        tx_frames = bar.COUNTERS_OFFSET + bar.COUNTERS_HEADER_SIZE + 8 * bar.COUNTERS.index("tx_frames")
        assert await host.read(ctx, tx_frames) == 1

        assert await offers(ctx) == {3, 5, *COMMON_FEATURES}
        ctx.set(dut.offered, 1 << VIRTIO_F_VERSION_1 | 1 << 3)
        assert await reset(ctx) and await offers(ctx) == {3, VIRTIO_F_VERSION_1}
        ctx.set(dut.offered, (1 << 128) - 1)
        assert not await accepts(ctx, VIRTIO_F_VERSION_1, 5)
        assert await reset(ctx) and await accepts(ctx, VIRTIO_F_VERSION_1, 5, 3)
        assert ctx.get(device.host.features) == 1 << VIRTIO_F_VERSION_1 | 1 << 5 | 1 << 3

        # Reset: what lies behind the device has its say, and the device starts again.
        await ctx.tick().repeat(256)
        assert ctx.get(device.age) == 255 and not ctx.get(dut.stop)
        ctx.set(dut.quiet, 0)
        assert not await reset(ctx)
        assert ctx.get(dut.stop) and ctx.get(dut.drained) and ctx.get(dut.busy) and ctx.get(device.age) == 255
        ctx.set(dut.quiet, 1)
        await ctx.tick()
        assert ctx.get(dut.restart)
        await ctx.tick()
        assert not ctx.get(dut.restart) and ctx.get(device.age) == 0
        assert await reset(ctx)

    sim.add_testbench(testbench)
    sim.run()


def test_what_the_host_reads_of_the_link(plug):
    _, sim, host = plug(Device(), pcie=PcieParameters(link_speed=2, link_width=4, max_payload=2, timeout_cycles=1 << 10))

    async def testbench(ctx):
        assert await host.cfg_read(ctx, EXP_CAP + Exp.DEV_CAP) & 7 == 2
        assert await host.cfg_read(ctx, EXP_CAP + Exp.LNK_CAP) & 0x3ff == 0x42
        assert await host.cfg_read(ctx, EXP_CAP + Exp.LNK_CTL) >> 16 & 0x3ff == 0x42

    sim.add_testbench(testbench)
    sim.run()


def test_controls_live_until_flr(plug):
    dut, sim, host = plug(Device(), controls=("one", "two"), build_id=0x12345678)

    async def settled(ctx):
        for _ in range(300):
            await ctx.tick()
            if not ctx.get(dut.stop):
                return
        raise AssertionError("reset does not end")

    async def testbench(ctx):
        await host.enable(ctx)
        assert await host.read(ctx, bar.BUILD_ID_OFFSET) == 0x12345678
        await host.write(ctx, bar.CONTROL_OFFSET, 0xff)
        assert await host.read(ctx, bar.CONTROL_OFFSET) == 3
        await host.write(ctx, Common.DEVICE_STATUS, 0, 1)
        await host.read(ctx, bar.CONTROL_OFFSET)
        await settled(ctx)
        assert await host.read(ctx, bar.CONTROL_OFFSET) == 3 and ctx.get(dut.controls.two)
        await host.cfg_write(ctx, EXP_CAP + Exp.DEV_CTL, 1 << 15)
        await settled(ctx)
        await host.enable(ctx)
        assert await host.read(ctx, bar.CONTROL_OFFSET) == 0 and not ctx.get(dut.controls.two)

    sim.add_testbench(testbench)
    sim.run()


class Reading(Device):
    """It reads, one request after the other."""
    def elaborate(self, platform):
        m = super().elaborate(platform)
        read = self.host.reads[0]
        m.d.comb += [read.req.valid.eq(1), read.req.p.addr.eq(0x1000), read.req.p.len.eq(4), read.beat.ready.eq(1)]
        return m


def test_resets_wait_for_what_is_outstanding(plug):
    dut, sim, host = plug(Reading())
    take, kept = host.take, []

    def keep_reads(tlp):
        kept.append(tlp) if tlp[0] in (0x00, 0x20) else take(tlp)

    async def testbench(ctx):
        await host.enable(ctx)
        await ctx.tick().repeat(100)
        for flr in (False, True):
            host.take = keep_reads
            await ctx.tick().repeat(100)
            assert kept
            if flr:
                await host.cfg_write(ctx, EXP_CAP + Exp.DEV_CTL, 1 << 15)
            else:
                await host.write(ctx, Common.DEVICE_STATUS, 0, 1)
            for _ in range(200):
                await ctx.tick()
                assert not ctx.get(dut.restart)
            assert ctx.get(dut.stop) and not ctx.get(dut.drained)
            host.take = take
            while kept:
                take(kept.pop(0))
            for _ in range(300):
                if not ctx.get(dut.stop):
                    break
                await ctx.tick()
            else:
                raise AssertionError("reset does not end")
        assert await host.cfg_read(ctx, Cfg.BAR0) == 0

    sim.add_testbench(testbench)
    sim.run()
