"""The whole way of a request: notification, descriptor, random words, used entry, used index; and reset with a dead source."""

import pytest

from ringnic.hdl.function import COMMON_FEATURES
from ringnic.hdl.rng import RingRNG
from ringnic.hdl.spec import bar
from ringnic.hdl.spec.pcie import Cfg
from ringnic.hdl.spec.virtio import (
    VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, VIRTQ_DESC_SIZE, Common, Status,
)

from ..kit.simulator import Simulator

DESC, DRIVER, DEVICE, BUFFER = 0x1_0000_0000, 0x1_0001_0000, 0x1_0002_0000, 0x8000
READY = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK


async def negotiate(ctx, host, features):
    for status in (Status.ACKNOWLEDGE, Status.ACKNOWLEDGE | Status.DRIVER):
        await host.write(ctx, Common.DEVICE_STATUS, status, 1)
    for word in (0, 1):
        await host.write(ctx, Common.DRIVER_FEATURE_SELECT, word)
        await host.write(ctx, Common.DRIVER_FEATURE, sum(1 << bit for bit in features) >> 32 * word & 0xffff_ffff)
    await host.write(ctx, Common.DEVICE_STATUS, READY & ~Status.DRIVER_OK, 1)
    assert await host.read(ctx, Common.DEVICE_STATUS, 1) & Status.FEATURES_OK


def blank(host, size=8):
    """A driver's rings before anything is made available."""
    host.load(DESC, 0, VIRTQ_DESC_SIZE * size)
    host.load(DRIVER, 0, 6 + 2 * size)


async def start(ctx, host, features, size=8, driver_ok=True):
    await negotiate(ctx, host, features)
    await host.write(ctx, Common.QUEUE_SELECT, 0, 2)
    await host.write(ctx, Common.QUEUE_SIZE, size, 2)
    for register, addr in ((Common.QUEUE_DESC, DESC), (Common.QUEUE_DRIVER, DRIVER), (Common.QUEUE_DEVICE, DEVICE)):
        await host.write(ctx, register, addr & 0xffff_ffff)
        await host.write(ctx, register + 4, addr >> 32)
    await host.write(ctx, Common.QUEUE_ENABLE, 1, 2)
    if driver_ok:
        await host.write(ctx, Common.DEVICE_STATUS, READY, 1)


async def reset(ctx, host):
    await host.write(ctx, Common.DEVICE_STATUS, 0, 1)
    for _ in range(50):
        if await host.read(ctx, Common.DEVICE_STATUS, 1) == 0:
            return
    raise AssertionError("reset does not end")


@pytest.mark.parametrize("width, packed", [(64, False), (128, True)])
def test_a_driver_reads_random_bytes(width, packed, rng, make_host):
    dut = RingRNG(width=width)
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    host, words, flows = make_host(dut, width), [], [True]
    host.attach(sim)
    blank(host)

    async def give_words(ctx):
        ctx.set(dut.random.valid, 1)
        while True:
            word = rng.getrandbits(width)
            ctx.set(dut.random.p, word)
            ctx.set(dut.random.valid, flows[0])
            _, _, moved = await ctx.tick().sample(dut.random.valid & dut.random.ready)
            if moved:
                words.append(word)

    async def wait(ctx, ready):
        for _ in range(2000):
            await ctx.tick()
            if ready():
                return
        raise AssertionError("nothing came")

    async def testbench(ctx):
        assert await host.cfg_read(ctx, Cfg.VENDOR_ID) == 0x1044_1af4
        assert await host.cfg_read(ctx, Cfg.REVISION_ID) >> 8 == 0x10_80_00
        await host.enable(ctx)
        assert await host.read(ctx, Common.NUM_QUEUES, 2) == 1
        offered = 0
        for word in range(4):
            await host.write(ctx, Common.DEVICE_FEATURE_SELECT, word)
            offered |= await host.read(ctx, Common.DEVICE_FEATURE) << 32 * word
        assert offered == sum(1 << bit for bit in COMMON_FEATURES)
        assert await host.read(ctx, bar.COUNTERS_OFFSET + 4) == len(bar.ENTROPY_COUNTERS)

        await start(ctx, host, {VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, *([VIRTIO_F_RING_PACKED] if packed else [])})
        flags = 0x82 if packed else 2                  # AVAIL in the first round; WRITE
        rest = 0x1234 | flags << 16 if packed else flags
        host.load(DESC, BUFFER | 40 << 64 | rest << 96, VIRTQ_DESC_SIZE)
        if not packed:
            host.load(DRIVER, 1 << 16, 4)              # avail.idx; ring[0] is 0
        await host.write(ctx, bar.NOTIFY_OFFSET, 0, 2)
        if packed:                                     # AVAIL and USED
            await wait(ctx, lambda: host.get(DESC + 14, 2) & 0x8080 == 0x8080)
            assert host.get(DESC + 12, 2) == 0x1234 and host.get(DESC + 8, 4) == 40
        else:
            await wait(ctx, lambda: host.get(DEVICE + 2, 2) == 1)
            assert (host.get(DEVICE + 4, 4), host.get(DEVICE + 8, 4)) == (0, 40)
        given = b"".join(word.to_bytes(width // 8, "little") for word in words)
        assert host.get(BUFFER, 40) == int.from_bytes(given[:40], "little")

        await wait(ctx, lambda: host.intx)

        # The source dies. What it gave before is enough for one more request; a reset ends with another one waiting.
        flows[0] = False
        notified = len(host.writes)
        if packed:
            for slot in (1, 2):
                host.load(DESC + 16 * slot, BUFFER | 64 << 64 | slot << 96 | flags << 112, VIRTQ_DESC_SIZE)
        else:
            host.load(DRIVER, 3 << 16, 4)
        await host.write(ctx, bar.NOTIFY_OFFSET, 0, 2)
        await ctx.tick().repeat(600)
        assert len(host.writes) > notified and ctx.get(dut.busy)
        assert (host.get(DESC + 30, 2) & 0x8080, host.get(DESC + 46, 2)) == (0x8080, flags) if packed else \
            host.get(DEVICE + 2, 2) == 2
        await reset(ctx, host)

    sim.add_testbench(testbench)
    sim.add_testbench(give_words, background=True)
    sim.run()


def test_nothing_before_driver_ok_and_broken_rings_are_told(make_host):
    dut = RingRNG(width=64)
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    host = make_host(dut, 64)
    host.attach(sim)
    blank(host)

    async def testbench(ctx):
        ctx.set(dut.random.valid, 1)
        await host.enable(ctx)
        host.load(DESC, BUFFER | 8 << 64 | 2 << 96, VIRTQ_DESC_SIZE)
        host.load(DRIVER, 1 << 16, 4)
        await start(ctx, host, {VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM}, driver_ok=False)
        await host.write(ctx, bar.NOTIFY_OFFSET, 0, 2)
        await ctx.tick().repeat(400)
        assert host.writes == []
        await host.write(ctx, Common.DEVICE_STATUS, READY, 1)
        await ctx.tick().repeat(400)
        assert host.get(DEVICE + 2, 2) == 1
        assert await host.read(ctx, Common.DEVICE_STATUS, 1) == READY
        host.load(DRIVER, 10 << 16, 4)                 # nine more, of a ring of eight
        await host.write(ctx, bar.NOTIFY_OFFSET, 0, 2)
        await ctx.tick().repeat(400)
        assert await host.read(ctx, Common.DEVICE_STATUS, 1) == READY | Status.DEVICE_NEEDS_RESET
        assert host.get(DEVICE + 2, 2) == 1
        await reset(ctx, host)

    sim.add_testbench(testbench)
    sim.run()


def test_a_reset_forgets_queues(make_host):
    """A queue that was set up in the life before, and has buffers, is left alone in the next one."""
    dut = RingRNG(width=64)
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    host = make_host(dut, 64)
    host.attach(sim)
    blank(host)

    async def testbench(ctx):
        ctx.set(dut.random.valid, 1)
        await host.enable(ctx)
        host.load(DESC, BUFFER | 8 << 64 | 2 << 96, VIRTQ_DESC_SIZE)
        host.load(DRIVER, 1 << 16, 4)
        await start(ctx, host, {VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM}, driver_ok=False)
        await reset(ctx, host)
        await negotiate(ctx, host, {VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM})
        await host.write(ctx, Common.DEVICE_STATUS, READY, 1)
        await host.write(ctx, bar.NOTIFY_OFFSET, 0, 2)
        await ctx.tick().repeat(400)
        assert host.writes == []

    sim.add_testbench(testbench)
    sim.run()
