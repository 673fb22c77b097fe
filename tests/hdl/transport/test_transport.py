"""The structures behind the BAR as a driver sees them: negotiation, queues, notifications, reset."""

import gc
import re

import pytest

from ringnic.hdl.spec.virtio import Common
from ringnic.hdl.transport.transport import Transport

from ...kit import registers, streams
from ...kit.simulation import Simulation, cycles

V1, PACKED, NOTIFICATION_DATA, RING_RESET = 1 << 32, 1 << 34, 1 << 38, 1 << 40
OFFERED = V1 | 1 << 0 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 29 | PACKED | NOTIFICATION_DATA | RING_RESET
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
        self.kicks, self.nexts, self.setups, self.resets, self.irqs = [], [], [], [], []
        self.masked, self.pending = False, set()  # (vector, source), as MSI-X keeps it

    async def read(self, addr, size=4):
        lane = addr & 3
        value = await registers.read(self.ctx, self.dut.regs, addr & ~3, ((1 << size) - 1) << lane)
        return value >> 8 * lane & ((1 << 8 * size) - 1)

    async def write(self, addr, value, size=4):
        lane = addr & 3
        await registers.write(self.ctx, self.dut.regs, addr & ~3, value << 8 * lane, ((1 << size) - 1) << lane)

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

    async def start(self, vectors=(1, 2, 0xffff), features=V1):
        """Up to DRIVER_OK, every queue enabled."""
        assert await self.accept(features) == 11
        for queue, vector in enumerate(vectors):
            await self.select(queue)
            await self.write(Common.QUEUE_MSIX_VECTOR, vector, 2)
            await self.write(Common.QUEUE_ENABLE, 1, 2)
        await self.write(Common.DEVICE_STATUS, 15, 1)
        assert await self.status() == 15

    async def reset_queue(self, queue):
        await self.select(queue)
        await self.write(Common.QUEUE_RESET, 1, 2)
        await self.idle(4)

    async def resetting(self, queue):
        await self.select(queue)
        return await self.read(Common.QUEUE_RESET, 2)

    async def idle(self, count=12):
        await cycles(self.ctx, count)

    async def pulse(self, signal):
        await streams.pulse(self.ctx, signal)

    async def notify(self, queue):
        await streams.send(self.ctx, self.dut.notify, queue)


def simulate(test, msix=True, **changes):
    dut = make(**changes)
    simulation, seen = Simulation(dut, limit=20000, forget=dut.reset_done), {}

    async def bench(ctx):
        seen["driver"] = driver = Driver(ctx, dut)
        ctx.set(dut.msix_enabled, msix)
        ctx.set(dut.irq.req.ready, 1)
        await test(ctx, dut, driver)

    async def monitor(ctx):
        while True:
            event = ctx.get(dut.irq.req.payload)
            ctx.set(dut.irq.waited, "driver" in seen and (event.vector, event.source) in seen["driver"].pending)
            _, _, kick_valid, kick, kick_next, setup_valid, setup, reset_valid, reset, irq_valid, irq_ready, irq = (
                await ctx.tick().sample(
                    dut.kick_valid, dut.kick_queue, dut.kick_next, dut.setup_valid, dut.setup,
                    dut.reset_queue_valid, dut.reset_queue, dut.irq.req.valid, dut.irq.req.ready, dut.irq.req.payload))
            driver = seen["driver"]
            if kick_valid:
                driver.kicks.append(kick)
                driver.nexts.append(kick_next)
            if reset_valid:
                driver.resets.append(reset)
            if setup_valid:
                driver.setups.append((setup.queue, setup.size, setup.queue_desc, setup.queue_driver, setup.queue_device))
            if irq_valid and irq_ready and irq.withdraw:
                driver.pending.discard((irq.vector, irq.source))
            elif irq_valid and irq_ready and driver.masked:
                driver.pending.add((irq.vector, irq.source))
            elif irq_valid and irq_ready:
                driver.irqs.append(irq.vector)
    simulation.background(monitor)
    simulation.run(bench)


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


@pytest.mark.parametrize("delay", range(6))
def test_no_kick_outlives_a_reset(delay):
    """What ``reset_done`` resets as well sees none after it."""
    async def test(ctx, dut, driver):
        await driver.start()
        await driver.write(0x3000, 0, 2)
        for _ in range(delay):
            await ctx.tick()
        await driver.pulse(dut.reset_done)
        for _ in range(8):
            assert not ctx.get(dut.kick_valid)
            await ctx.tick()
        assert len(driver.kicks) == (delay >= 2)
    simulate(test)


@pytest.mark.clause("NTF-B1")
def test_notification_data():
    """2.9: 32 bits, of which the upper half is where the driver's next descriptor will be."""
    async def test(ctx, dut, driver):
        await driver.start(features=V1 | NOTIFICATION_DATA)
        for queue, position in ((0, 0), (2, 0xffff), (1, 0x8000), (0, 0x1234)):
            await driver.write(0x3000 + 4 * queue, position << 16 | queue)
        for value, size in ((0, 2), (1, 1), (1 << 16 | 3, 4), (0xffff_ffff, 4)):
            await driver.write(0x3000, value, size)  # too short for its data, of no queue
        await driver.idle()
        assert list(zip(driver.kicks, driver.nexts)) == [(0, 0), (2, 0xffff), (1, 0x8000), (0, 0x1234)]
        await driver.reset()
        await driver.start()
        await driver.write(0x3000, 1, 2)
        await driver.idle()
        assert driver.kicks[4:] == [1]
    simulate(test)


def test_sizes_of_packed_rings():
    async def test(ctx, dut, driver):
        for features, sizes in ((V1, (1, 4, 256)), (V1 | PACKED, (1, 3, 5, 255, 256)), (V1, (2, 64))):
            await driver.accept(features)
            await driver.select(1)
            now = await driver.read(Common.QUEUE_SIZE, 2)
            for size in (1, 2, 3, 4, 5, 64, 255, 256, 257, 0, 0x8000):
                await driver.write(Common.QUEUE_SIZE, size, 2)
                if size in range(1, 257) and (features & PACKED or size & (size - 1) == 0):
                    now = size
                assert await driver.read(Common.QUEUE_SIZE, 2) == now
            await driver.write(Common.QUEUE_SIZE, sizes[-2], 2)
            await driver.write(Common.QUEUE_ENABLE, 1, 2)
            await driver.idle()
            assert driver.setups[-1][:2] == (1, sizes[-2])
            await driver.reset()
    simulate(test)


def test_queue_reset():
    async def test(ctx, dut, driver):
        await driver.start(features=V1 | RING_RESET)
        await driver.reset_queue(1)
        for _ in range(2):
            assert await driver.resetting(1) == 1 and await driver.read(Common.QUEUE_ENABLE, 2) == 1
            assert ctx.get(dut.busy) and driver.resets == [1]
            # What concerns it vanishes, others go on.
            for queue in (0, 1, 2):
                await driver.write(0x3000, queue, 2)
                await driver.notify(queue)
            await driver.idle()
            assert await driver.status() == 15
        assert driver.kicks == [0, 2, 0, 2] and driver.irqs == [1, 1]
        await driver.pulse(dut.reset_queue_done)
        await driver.idle()
        assert await driver.resetting(1) == 0 and not ctx.get(dut.busy)
        assert [await driver.read(offset, 2) for offset in (
            Common.QUEUE_ENABLE, Common.QUEUE_SIZE, Common.QUEUE_MSIX_VECTOR)] == [0, 256, 0xffff]
        await driver.write(0x3000, 1, 2)
        await driver.notify(1)
        await driver.idle()
        assert len(driver.kicks) == 4 and len(driver.irqs) == 2
        await driver.write(Common.QUEUE_SIZE, 32, 2)
        await driver.write(Common.QUEUE_DESC, 0x5000)
        await driver.write(Common.QUEUE_MSIX_VECTOR, 0, 2)
        await driver.write(Common.QUEUE_ENABLE, 1, 2)
        await driver.write(0x3000, 1, 2)
        await driver.notify(1)
        await driver.idle()
        assert driver.setups[3:] == [(1, 32, 0x5000, 0, 0)]
        assert driver.kicks[4:] == [1] and driver.irqs[2:] == [0]
        assert await driver.resetting(1) == 0
    simulate(test)


def test_no_queue_reset_unless_negotiated():
    async def test(ctx, dut, driver):
        async def nothing():
            for queue in range(4):
                await driver.reset_queue(queue)
                assert await driver.resetting(queue) == 0
            assert driver.resets == [] and not ctx.get(dut.busy)
        await nothing()
        await driver.start()
        await nothing()
        await driver.write(0x3000, 1, 2)
        await driver.idle()
        assert driver.kicks == [1]
        await driver.reset()
        assert await driver.accept(V1 | RING_RESET) == 11
        await nothing()  # none is enabled
    simulate(test)


@pytest.mark.clause("QRST-1")
def test_queue_reset_waits_for_an_interrupt_on_its_way():
    """2.6.1.1.1: none after the end."""
    async def test(ctx, dut, driver):
        await driver.start(features=V1 | RING_RESET)
        ctx.set(dut.irq.req.ready, 0)
        await driver.notify(1)
        await driver.idle()
        await driver.reset_queue(1)
        await driver.pulse(dut.reset_queue_done)
        await driver.idle(40)
        assert await driver.resetting(1) == 1 and driver.irqs == []
        ctx.set(dut.irq.req.ready, 1)
        await driver.idle()
        assert await driver.resetting(1) == 0 and driver.irqs == [2]
    simulate(test)


@pytest.mark.clause("QRST-1")
@pytest.mark.parametrize("queue", [0, 1])
def test_queue_reset_withdraws_what_is_pending(queue):
    """2.6.1.1.1: no notification of the queue after the end, when its vector is unmasked neither; others stay."""
    async def test(ctx, dut, driver):
        driver.masked = True
        await driver.start(vectors=(1, 1, 2), features=V1 | RING_RESET)
        await driver.write(Common.CONFIG_MSIX_VECTOR, 1, 2)
        for source in (0, 1, 2):
            await driver.notify(source)
        await driver.pulse(dut.config_changed)
        await driver.idle()
        everything = {(1, 0), (1, 1), (2, 2), (1, 3)}
        assert driver.pending == everything
        await driver.reset_queue(queue)
        assert driver.pending == everything and await driver.resetting(queue) == 1
        await driver.pulse(dut.reset_queue_done)
        await driver.idle(24)
        assert await driver.resetting(queue) == 0 and driver.pending == everything - {(1, queue)} and not ctx.get(dut.busy)
        assert driver.irqs == []
    simulate(test)


@pytest.mark.parametrize("vector, back", [(0, 0), (1, 1), (2, 2), (3, 0xffff), (0xffff, 0xffff)])
def test_what_is_pending_follows_the_vector(vector, back):
    """A queue's, and the configuration's; the one of half a register, or of no queue, stays."""
    async def test(ctx, dut, driver):
        driver.masked = True
        await driver.start(vectors=(1, 1, 2))
        await driver.write(Common.CONFIG_MSIX_VECTOR, 1, 2)
        for source in (0, 1):
            await driver.notify(source)
        await driver.pulse(dut.config_changed)
        await driver.select(3)
        await driver.write(Common.QUEUE_MSIX_VECTOR, vector, 2)
        await driver.select(0)
        await driver.write(Common.QUEUE_MSIX_VECTOR, vector & 0xff, 1)
        await driver.write(Common.CONFIG_MSIX_VECTOR, vector & 0xff, 1)
        await driver.write(Common.QUEUE_SIZE, 4, 2)
        await driver.idle()
        assert driver.pending == {(1, 0), (1, 1), (1, 3)}
        await driver.write(Common.QUEUE_MSIX_VECTOR, vector, 2)
        assert await driver.read(Common.QUEUE_MSIX_VECTOR, 2) == back
        await driver.idle()
        moved = [(back, 0)] if back != 0xffff else []
        assert driver.pending == {(1, 1), (1, 3), *moved}
        await driver.write(Common.CONFIG_MSIX_VECTOR, vector, 2)
        assert await driver.read(Common.CONFIG_MSIX_VECTOR, 2) == back
        await driver.idle()
        assert driver.pending == {(1, 1), *moved, *((back, 3) for _ in moved)}
        assert driver.irqs == [] and not ctx.get(dut.busy)
    simulate(test)


@pytest.mark.parametrize("moment", range(12))
def test_reset_while_a_vector_is_written(moment):
    """A write that has waited for an interrupt does not come upon the registers after the reset."""
    async def test(ctx, dut, driver):
        await driver.start()
        ctx.set(dut.irq.req.ready, 0)
        await driver.notify(0)
        await driver.idle()
        await driver.write(Common.CONFIG_MSIX_VECTOR, 2, 2)
        await driver.idle(moment)
        await driver.pulse(dut.reset_done)
        ctx.set(dut.irq.req.ready, 1)
        assert await driver.status() == 0
        assert await driver.read(Common.CONFIG_MSIX_VECTOR, 2) == 0xffff
        assert driver.irqs == [] and not ctx.get(dut.busy)
    simulate(test)


def test_queue_reset_and_intx():
    async def test(ctx, dut, driver):
        await driver.start(features=V1 | RING_RESET)
        await driver.reset_queue(1)
        await driver.notify(1)
        await driver.idle()
        assert not ctx.get(dut.intx)
        await driver.notify(0)
        await driver.idle()
        assert ctx.get(dut.intx)
    simulate(test, msix=False)


@pytest.mark.parametrize("flr", [0, 1])
@pytest.mark.parametrize("moment", [0, 1, 2, 5, 9, 14])
def test_reset_in_the_middle_of_queue_resets(flr, moment):
    """The reset of the device wins, and nothing is left."""
    async def test(ctx, dut, driver):
        await driver.start(features=V1 | RING_RESET)
        await driver.reset_queue(1)
        await driver.reset_queue(0)
        if moment:
            await driver.pulse(dut.reset_queue_done)
            await driver.idle(moment - 1)
        if flr:
            await driver.pulse(dut.reset_done)
        else:
            await driver.reset()
        resets = len(driver.resets)
        assert await driver.status() == 0 and not ctx.get(dut.busy)
        await driver.start(features=V1 | RING_RESET)
        for queue in range(3):
            assert await driver.resetting(queue) == 0
            await driver.write(0x3000, queue, 2)
        await driver.idle()
        assert driver.kicks == [0, 1, 2] and len(driver.resets) == resets
        await driver.reset_queue(1)
        assert driver.resets[resets:] == [1]
        await driver.pulse(dut.reset_queue_done)
        await driver.idle()
        assert await driver.resetting(1) == 0
    simulate(test)


@pytest.mark.parametrize("num_queues", [1, 9, 65])
def test_many_queues(num_queues):
    """A control queue beside pairs makes an odd number."""
    async def test(ctx, dut, driver):
        assert await driver.read(Common.NUM_QUEUES, 2) == num_queues
        await driver.start(vectors=range(1, num_queues + 1), features=V1 | PACKED | NOTIFICATION_DATA | RING_RESET)
        last = num_queues - 1
        await driver.reset_queue(last)
        for queue in range(num_queues + 1):
            await driver.write(0x3000 + 4 * queue, 7 << 16 | queue)
            await driver.notify(queue)
        assert driver.kicks == list(range(last))
        assert driver.irqs == [queue + 1 for queue in range(last)]
        await driver.pulse(dut.reset_queue_done)
        await driver.idle()
        for queue in range(num_queues):
            assert await driver.resetting(queue) == 0
            assert await driver.read(Common.QUEUE_ENABLE, 2) == (queue != last)
            assert await driver.read(Common.QUEUE_MSIX_VECTOR, 2) == (0xffff if queue == last else queue + 1)
        assert [setup[:2] for setup in driver.setups] == [(queue, 1024) for queue in range(num_queues)]
        await driver.reset()
        assert await driver.status() == 0
        for queue in range(num_queues):
            await driver.select(queue)
            assert await driver.read(Common.QUEUE_ENABLE, 2) == 0
    simulate(test, num_queues=num_queues, msix_vectors=num_queues + 1, max_queue_size=1024)


def test_offered_now():
    async def test(ctx, dut, driver):
        ctx.set(dut.offered, V1 | RING_RESET)
        await driver.write(Common.DEVICE_FEATURE_SELECT, 1)
        assert await driver.read(Common.DEVICE_FEATURE) == 1 << 0 | 1 << 8
        assert await driver.accept(V1 | PACKED) == 3
        assert await driver.accept(V1 | RING_RESET) == 11
        assert ctx.get(dut.features) == V1 | RING_RESET
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
        ctx.set(dut.irq.req.ready, 0)
        await driver.notify(0)
        await driver.idle()
        await driver.pulse(dut.config_changed)
        await driver.idle()
        assert driver.irqs == [1, 2, 2]
        ctx.set(dut.irq.req.ready, 1)
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


@pytest.mark.clause("STAT-3")
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


@pytest.mark.clause("CC-6", "RST-1")
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


def test_reset_forgets_an_interrupt_on_its_way():
    """2.4.1: none comes once status has read 0. MSI-X is reset in the same cycle."""
    async def test(ctx, dut, driver):
        await driver.start()
        ctx.set(dut.irq.req.ready, 0)
        await driver.notify(0)
        await driver.idle()
        assert ctx.get(dut.irq.req.valid)
        await driver.reset()
        ctx.set(dut.irq.req.ready, 1)
        assert not ctx.get(dut.irq.req.valid)
        assert await driver.status() == 0 and driver.irqs == [] and not ctx.get(dut.irq.req.valid)
    simulate(test)


def test_reset_does_not_move_the_pin():
    """Function Level Reset takes MSI-X away in the same cycle, with a configuration change that nobody has looked at."""
    async def test(ctx, dut, driver):
        ctx.set(dut.msix_enabled, 1)
        await driver.start()
        await driver.pulse(dut.config_changed)
        await driver.idle()
        assert not ctx.get(dut.intx)
        ctx.set(dut.reset_done, 1)
        await ctx.tick()
        ctx.set(dut.reset_done, 0)
        ctx.set(dut.msix_enabled, 0)
        for _ in range(20):
            assert not ctx.get(dut.intx)
            await ctx.tick()
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


def test_generation_comes_round_after_256_changes():
    """4.1.4.3.1 wants another value for what has changed since the driver read it. Counting is right because one bit changes, the
    link's: what so many changes leave is what there was, and after an odd number the generation is not what it was."""
    async def test(ctx, dut, driver):
        await driver.start()
        before = await driver.read(Common.CONFIG_GENERATION, 1)
        for changes in range(1, 257):
            await driver.pulse(dut.config_changed)
            if changes in (1, 2, 4, 8, 16, 32, 64, 128, 255, 256):
                assert (await driver.read(Common.CONFIG_GENERATION, 1) == before) == (changes == 256)
    simulate(test)


def test_generation_counts_whatever_the_driver_is_at():
    async def test(ctx, dut, driver):
        for status in (0, 1, 3, 15):
            if status == 15:
                await driver.start()
            elif status:
                await driver.write(Common.DEVICE_STATUS, status, 1)
            before = await driver.read(Common.CONFIG_GENERATION, 1)
            await driver.pulse(dut.config_changed)
            assert await driver.read(Common.CONFIG_GENERATION, 1) == (before + 1) % 256
    simulate(test)
