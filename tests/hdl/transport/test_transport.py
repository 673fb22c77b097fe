"""The structures behind the BAR as a driver sees them: negotiation, queues, notifications, reset."""

import gc
import re

import pytest
from amaranth.sim import Simulator

from ringnic.hdl.spec.virtio import Common
from ringnic.hdl.transport.transport import Transport

OFFERED = 1 << 32 | 1 << 0 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 29
NEEDS = {11: (0,), 12: (0,), 13: ((11, 12),), 60: (17,)}


def make(**changes):
    return Transport(**{**dict(device_features=OFFERED, feature_prerequisites=NEEDS, num_queues=3, max_queue_size=256,
                               msix_vectors=3, config_bytes=17), **changes})


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("changes, message", [
    (dict(device_features=1), "VIRTIO_F_VERSION_1 must be offered"),
    (dict(num_queues=0), "Number of queues must be from 1 to 512, not 0"),
    (dict(config_bytes=0), "Device configuration must be 1 to 4096 bytes, not 0"),
    (dict(config_bytes=4097), "Device configuration must be 1 to 4096 bytes, not 4097"),
])
def test_errors(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(**changes)
    gc.collect()  # parts built before the error are never elaborated: let go of them where that is no warning


class Driver:
    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut
        self.kicks, self.setups, self.irqs = [], [], []

    async def request(self, addr, be, write, value):
        regs = self.dut.regs
        self.ctx.set(regs.req.payload, {"addr": addr & ~3, "write": write, "be": be, "data": value})
        self.ctx.set(regs.req.valid, 1)
        await self.ctx.tick().until(regs.req.ready)
        self.ctx.set(regs.req.valid, 0)

    async def read(self, addr, size=4):
        lane = addr & 3
        await self.request(addr, ((1 << size) - 1) << lane, 0, 0)
        self.ctx.set(self.dut.regs.resp.ready, 1)
        value, = await self.ctx.tick().sample(self.dut.regs.resp.payload).until(self.dut.regs.resp.valid)
        self.ctx.set(self.dut.regs.resp.ready, 0)
        return value >> 8 * lane & ((1 << 8 * size) - 1)

    async def write(self, addr, value, size=4):
        lane = addr & 3
        await self.request(addr, ((1 << size) - 1) << lane, 1, value << 8 * lane)

    async def status(self):
        return await self.read(Common.DEVICE_STATUS, 1)

    async def accept(self, mask):
        for word in range(4):
            await self.write(Common.DRIVER_FEATURE_SELECT, word)
            await self.write(Common.DRIVER_FEATURE, mask >> 32 * word & 0xffffffff)
        await self.write(Common.DEVICE_STATUS, 11, 1)
        return await self.status()

    async def select(self, queue):
        await self.write(Common.QUEUE_SELECT, queue, 2)

    async def reset(self):
        await self.write(Common.DEVICE_STATUS, 0, 1)
        await self.idle(3)
        assert self.ctx.get(self.dut.reset_pending)
        await self.pulse(self.dut.reset_done)

    async def start(self, vectors=(1, 2, 0xffff)):
        """Up to DRIVER_OK, every queue enabled."""
        assert await self.accept(1 << 32) == 11
        for queue, vector in enumerate(vectors):
            await self.select(queue)
            await self.write(Common.QUEUE_MSIX_VECTOR, vector, 2)
            await self.write(Common.QUEUE_ENABLE, 1, 2)
        await self.write(Common.DEVICE_STATUS, 15, 1)
        assert await self.status() == 15

    async def idle(self, cycles=12):
        for _ in range(cycles):
            await self.ctx.tick()

    async def pulse(self, signal):
        self.ctx.set(signal, 1)
        await self.ctx.tick()
        self.ctx.set(signal, 0)

    async def notify(self, queue):
        self.ctx.set(self.dut.notify.payload, queue)
        self.ctx.set(self.dut.notify.valid, 1)
        await self.ctx.tick().until(self.dut.notify.ready)
        self.ctx.set(self.dut.notify.valid, 0)


def simulate(test, msix=True, **changes):
    dut = make(**changes)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    seen = {}

    async def bench(ctx):
        seen["driver"] = driver = Driver(ctx, dut)
        ctx.set(dut.msix_enabled, msix)
        ctx.set(dut.irq.ready, 1)
        await test(ctx, dut, driver)

    async def monitor(ctx):
        for _ in range(20000):
            _, _, kick_valid, kick, setup_valid, setup, irq_valid, irq_ready, irq = await ctx.tick().sample(
                dut.kick_valid, dut.kick_queue, dut.setup_valid, dut.setup,
                dut.irq.valid, dut.irq.ready, dut.irq.payload)
            driver = seen["driver"]
            if kick_valid:
                driver.kicks.append(kick)
            if setup_valid:
                driver.setups.append((setup.queue, setup.size, setup.queue_desc, setup.queue_driver, setup.queue_device))
            if irq_valid and irq_ready:
                driver.irqs.append(irq)
        raise TimeoutError
    sim.add_testbench(bench)
    sim.add_testbench(monitor, background=True)
    sim.run()


def test_negotiation():
    v1 = 1 << 32
    good = [v1, v1 | 1, v1 | 1 | 1 << 11, v1 | 1 | 1 << 12 | 1 << 13, OFFERED]
    bad = [0, 1, v1 | 1 << 11, v1 | 1 | 1 << 13, v1 | 1 << 5, v1 | 1 << 33, v1 | 1 << 127]

    async def test(ctx, dut, driver):
        for _ in range(2):
            for mask in bad:
                assert await driver.accept(mask) == 3
                assert ctx.get(dut.features) == 0
                await driver.write(Common.DEVICE_STATUS, 15, 1)
                assert await driver.status() == 3
            for mask in good:
                assert await driver.accept(mask) == 11
                assert ctx.get(dut.features) == mask
                await driver.write(Common.DRIVER_FEATURE_SELECT, 0)
                await driver.write(Common.DRIVER_FEATURE, 1 << 29)
                assert await driver.read(Common.DRIVER_FEATURE) == mask & 0xffffffff
                assert ctx.get(dut.features) == mask
                await driver.reset()
                assert await driver.status() == 0
    simulate(test)


def test_queue_registers():
    async def test(ctx, dut, driver):
        assert await driver.read(Common.NUM_QUEUES, 2) == 3
        for queue in range(3):
            await driver.select(queue)
            assert await driver.read(Common.QUEUE_SELECT, 2) == queue
            assert await driver.read(Common.QUEUE_SIZE, 2) == 256
            assert await driver.read(Common.QUEUE_MSIX_VECTOR, 2) == 0xffff
            assert await driver.read(Common.QUEUE_ENABLE, 2) == 0
            assert await driver.read(Common.QUEUE_NOTIFY_OFF, 2) == queue
            for offset in range(Common.QUEUE_DESC, 0x40, 4):
                assert await driver.read(offset) == 0
        for queue in (3, 4, 0x8000, 0xffff):
            await driver.select(queue)
            await driver.write(Common.QUEUE_SIZE, 16, 2)
            await driver.write(Common.QUEUE_MSIX_VECTOR, 0, 2)
            await driver.write(Common.QUEUE_DESC, 0x1234)
            assert await driver.read(Common.QUEUE_SIZE, 2) == 0
            assert await driver.read(Common.QUEUE_MSIX_VECTOR, 2) == 0xffff
            assert await driver.read(Common.QUEUE_DESC) == 0
        await driver.select(1)
        for size in (0, 3, 512, 257, 0x8000):
            await driver.write(Common.QUEUE_SIZE, size, 2)
            assert await driver.read(Common.QUEUE_SIZE, 2) == 256
        for size in (1, 2, 128, 256):
            await driver.write(Common.QUEUE_SIZE, size, 2)
            assert await driver.read(Common.QUEUE_SIZE, 2) == size
        for vector, back in ((0, 0), (2, 2), (3, 0xffff), (1, 1), (0xffff, 0xffff)):
            for register in (Common.QUEUE_MSIX_VECTOR, Common.CONFIG_MSIX_VECTOR):
                await driver.write(register, vector, 2)
                assert await driver.read(register, 2) == back
        assert await driver.read(Common.QUEUE_SIZE, 2) == 256
    simulate(test)


def test_setup():
    async def test(ctx, dut, driver):
        values = [0x1111111122222220, 0x3333333344444444, 0x5555555566666664]

        async def program():
            for index, value in enumerate(values):
                # 4.1.3.2: two halves, in any order
                await driver.write(Common.QUEUE_DESC + 8 * index + 4, value >> 32)
                await driver.write(Common.QUEUE_DESC + 8 * index, value & 0xffffffff)
        await driver.select(2)
        await driver.write(Common.QUEUE_ENABLE, 1, 2)
        assert await driver.read(Common.QUEUE_ENABLE, 2) == 0  # not before FEATURES_OK
        await driver.accept(1 << 32)
        await driver.write(Common.QUEUE_SIZE, 64, 2)
        await program()
        await driver.write(Common.QUEUE_ENABLE, 1, 2)
        assert await driver.read(Common.QUEUE_ENABLE, 2) == 1
        assert driver.setups == [(2, 64, *values)]
        await driver.write(Common.QUEUE_DESC, 0)
        await driver.write(Common.QUEUE_SIZE, 32, 2)
        await driver.write(Common.QUEUE_ENABLE, 1, 2)
        assert await driver.read(Common.QUEUE_DESC) == 0x22222220
        assert await driver.read(Common.QUEUE_SIZE, 2) == 64
        assert len(driver.setups) == 1
        await driver.reset()
        await driver.select(2)
        assert await driver.read(Common.QUEUE_ENABLE, 2) == 0
        assert await driver.read(Common.QUEUE_SIZE, 2) == 256
        assert await driver.read(Common.QUEUE_DESC) == 0
        assert await driver.read(Common.QUEUE_MSIX_VECTOR, 2) == 0xffff
    simulate(test)


def test_kicks():
    async def test(ctx, dut, driver):
        await driver.write(0x3000, 0, 2)
        await driver.start()
        for queue in range(3):
            await driver.write(0x3000 + 4 * queue, queue, 2)
            await driver.write(0x3000 + 4 * queue, 0xabcd0000 | queue)
            await driver.write(0x3000 + 4 * queue, queue, 1)
        await driver.write(0x3000, 3, 2)
        await driver.write(0x3000, 0xffff, 2)
        assert await driver.read(0x3000) == 0
        assert driver.kicks == [0, 0, 1, 1, 2, 2]
        await driver.write(Common.DEVICE_STATUS, 0, 1)
        await driver.write(0x3000, 0, 2)
        assert await driver.status() == 15
        assert len(driver.kicks) == 6
    simulate(test)


def test_notifications_by_msix():
    async def test(ctx, dut, driver):
        await driver.notify(0)  # before DRIVER_OK
        await driver.start()
        for queue in (0, 1, 2, 3, 0xffff, 1):
            await driver.notify(queue)
        await driver.idle()
        assert driver.irqs == [1, 2, 2]
        await driver.pulse(dut.config_changed)  # no vector
        await driver.idle()
        await driver.write(Common.CONFIG_MSIX_VECTOR, 0, 2)
        ctx.set(dut.irq.ready, 0)
        await driver.notify(0)
        await driver.idle()
        await driver.pulse(dut.config_changed)
        await driver.idle()
        assert driver.irqs == [1, 2, 2]
        ctx.set(dut.irq.ready, 1)
        await driver.idle()
        assert driver.irqs == [1, 2, 2, 1, 0]
        assert await driver.read(Common.CONFIG_GENERATION, 1) == 2
        assert await driver.read(0x1000, 1) == 2
        assert not ctx.get(dut.intx)
    simulate(test)


def test_notifications_by_intx():
    async def test(ctx, dut, driver):
        await driver.start()
        assert not ctx.get(dut.intx)
        await driver.notify(2)  # a vector means nothing here
        await driver.idle()
        assert ctx.get(dut.intx)
        await driver.read(0x1001, 1)
        assert ctx.get(dut.intx)
        await driver.pulse(dut.config_changed)
        assert await driver.read(0x1000, 1) == 3
        assert not ctx.get(dut.intx)
        assert await driver.read(0x1000, 1) == 0
        assert driver.irqs == []
    simulate(test, msix=False)


def test_needs_reset():
    async def test(ctx, dut, driver):
        assert await driver.status() == 0
        await driver.pulse(dut.queue_error)
        assert await driver.status() == 0x40
        assert await driver.read(0x1000, 1) == 0
        await driver.reset()
        await driver.start()
        await driver.write(Common.CONFIG_MSIX_VECTOR, 2, 2)
        await driver.write(Common.DEVICE_STATUS, 0x4f, 1)
        assert await driver.status() == 0x0f
        await driver.pulse(dut.queue_error)
        await driver.idle()
        assert driver.irqs == [2]
        await driver.write(Common.DEVICE_STATUS, 0x0f, 1)
        assert await driver.status() == 0x4f
        assert await driver.read(Common.CONFIG_GENERATION, 1) == 0
        await driver.reset()
        assert await driver.status() == 0
        assert await driver.read(Common.CONFIG_MSIX_VECTOR, 2) == 0xffff
        assert await driver.read(0x1000, 1) == 0
    simulate(test)


def test_reset_waits():
    async def test(ctx, dut, driver):
        await driver.write(Common.DEVICE_STATUS, 0, 1)
        await driver.idle(2)
        assert ctx.get(dut.reset_pending)  # even if nothing was set up
        await driver.pulse(dut.reset_done)
        await driver.start()
        await driver.write(Common.DEVICE_STATUS, 0, 1)
        await driver.notify(0)
        await driver.idle(100)
        assert await driver.status() == 15 and ctx.get(dut.reset_pending)
        assert driver.irqs == []
        await driver.pulse(dut.reset_done)
        assert not ctx.get(dut.reset_pending) and not ctx.get(dut.driver_ok)
        assert await driver.status() == 0
        await driver.start()
        await driver.pulse(dut.reset_done)  # Function Level Reset
        assert await driver.status() == 0
        await driver.start()
    simulate(test)


def test_device_configuration():
    async def test(ctx, dut, driver):
        image = bytes(range(1, 18))
        ctx.set(dut.config, int.from_bytes(image, "little"))
        await driver.write(0x2000, 0xffffffff)
        assert bytes([await driver.read(0x2000 + k, 1) for k in range(17)]) == image
        assert await driver.read(0x2010) == 17
        assert await driver.read(0x2014) == 0
        assert await driver.read(0x2ffc) == 0
        assert await driver.read(0x4000) == 0
    simulate(test)
