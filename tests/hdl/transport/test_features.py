"""Feature negotiation: registers byte by byte, and the verdict on every kind of set."""

import re

import pytest

from ringnic.hdl.spec.virtio import Common
from ringnic.hdl.transport.features import Features

from ...kit.simulator import Simulator

V1 = 1 << 32
OFFERED = V1 | 1 << 0 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 29 | 1 << 127
NEEDS = {11: (0,), 12: (0,), 13: ((11, 12),), 60: (17,)}


@pytest.mark.parametrize("offered, needs, message", [
    (1 << 128, {}, f"Device features must have 128 bits, not {1 << 128}"),
    (-1, {}, "Device features must have 128 bits, not -1"),
    (1, {}, "VIRTIO_F_VERSION_1 must be offered"),
    (V1 | 1 << 11, {11: (0,)}, "Feature bit 11 is offered without any of (0,), which it needs"),
    (V1 | 1 << 13, {13: ((11, 12),)}, "Feature bit 13 is offered without any of (11, 12), which it needs"),
])
def test_errors(offered, needs, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Features(offered, needs)


def simulate(test, offered=OFFERED, needs=NEEDS):
    dut = Features(offered, needs)
    sim = Simulator(dut)
    sim.add_clock(8e-9)

    async def bench(ctx):
        async def write(offset, value, be=0xf):
            ctx.set(dut.word, offset // 4)
            ctx.set(dut.data, value)
            ctx.set(dut.be, be)
            ctx.set(dut.write, 1)
            await ctx.tick()
            ctx.set(dut.write, 0)

        async def read(offset):
            ctx.set(dut.word, offset // 4)
            await ctx.tick()
            return ctx.get(dut.value)

        async def clear():
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)

        async def accept(mask):
            for word in range(4):
                await write(Common.DRIVER_FEATURE_SELECT, word)
                await write(Common.DRIVER_FEATURE, mask >> 32 * word & 0xffffffff)
            await ctx.tick()
            return ctx.get(dut.acceptable)
        await test(ctx, dut, write, read, clear, accept)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.clause("CC-3")
def test_offered_words():
    async def test(ctx, dut, write, read, clear, accept):
        for select in (3, 0, 1, 2, 4, 0x8000_0000, 0xffff_ffff):
            await write(Common.DEVICE_FEATURE_SELECT, select)
            assert await read(Common.DEVICE_FEATURE_SELECT) == select
            assert await read(Common.DEVICE_FEATURE) == OFFERED >> 32 * min(select, 4) & 0xffffffff
        await write(Common.DEVICE_FEATURE, 0xffffffff)
        assert await read(Common.DEVICE_FEATURE) == 0
        for offset in range(0x10, Common.SIZE, 4):
            assert await read(offset) == 0
    simulate(test)


@pytest.mark.clause("FEAT-2", "FEAT-3")
def test_verdicts(rng):
    """2.2.2: a set is good if it is offered, complete, and of a driver that knows version 1."""
    def good(mask):
        return bool(mask & V1 and not mask & ~OFFERED and (mask & 1 or not mask & (1 << 11 | 1 << 12))
                    and (mask & (1 << 11 | 1 << 12) or not mask & 1 << 13))
    sets = [0, V1, V1 | 1 << 13, V1 | 1 << 12 | 1 << 13, OFFERED, OFFERED & ~V1, OFFERED | 1 << 2,
            V1 | 1 << 60, V1 | 1 << 96]
    sets += [V1 | 1 << bit for bit in range(128)]
    sets += [V1 & ~rng.choice([0, 0, V1]) | rng.getrandbits(128) & OFFERED for _ in range(60)]

    async def test(ctx, dut, write, read, clear, accept):
        for mask in sets:
            assert await accept(mask) == good(mask), hex(mask)
            assert ctx.get(dut.accepted) == mask & OFFERED
            if rng.random() < 0.3:
                await clear()
                assert ctx.get(dut.accepted) == 0
    simulate(test)


def test_a_bad_bit_is_forgotten_when_its_byte_is_written_again():
    async def test(ctx, dut, write, read, clear, accept):
        assert await accept(V1)
        await write(Common.DRIVER_FEATURE_SELECT, 0)
        await write(Common.DRIVER_FEATURE, 0x0000_0200)
        assert await read(Common.DRIVER_FEATURE) == 0
        await ctx.tick()
        assert not ctx.get(dut.acceptable)
        await write(Common.DRIVER_FEATURE, 0, be=0b1101)
        await ctx.tick()
        assert not ctx.get(dut.acceptable)
        await write(Common.DRIVER_FEATURE, 0, be=0b0010)
        await ctx.tick()
        assert ctx.get(dut.acceptable)
    simulate(test)


@pytest.mark.clause("FEAT-3")
def test_beyond_the_last_word():
    async def test(ctx, dut, write, read, clear, accept):
        assert await accept(V1)
        await write(Common.DRIVER_FEATURE_SELECT, 4)
        for value, verdict in ((1, False), (0, True), (1 << 31, False)):
            await write(Common.DRIVER_FEATURE, value)
            assert await read(Common.DRIVER_FEATURE) == 0
            assert ctx.get(dut.acceptable) == verdict
        await clear()
        assert await accept(V1)
        await write(Common.DRIVER_FEATURE_SELECT, 4)
        for value, be, verdict in ((0xffff_ff00, 1, True), (0x0100, 2, False), (0xffff_00ff, 0xd, False), (0, 2, False),
                                   (0, 0xd, True)):
            await write(Common.DRIVER_FEATURE, value, be)  # only the bytes that are enabled count
            await ctx.tick()
            assert ctx.get(dut.acceptable) == verdict, hex(value)
    simulate(test)


@pytest.mark.parametrize("be", range(16))
def test_byte_enables(be):
    mask = sum(0xff << 8 * lane for lane in range(4) if be >> lane & 1)

    async def test(ctx, dut, write, read, clear, accept):
        for offset in (Common.DEVICE_FEATURE_SELECT, Common.DRIVER_FEATURE_SELECT):
            await write(offset, 0x1234_5678)
            await write(offset, 0xffff_ffff, be)
            assert await read(offset) == 0x1234_5678 & ~mask | mask
        await write(Common.DRIVER_FEATURE_SELECT, 0)
        await write(Common.DRIVER_FEATURE, OFFERED & 0xffff_ffff, be)
        assert await read(Common.DRIVER_FEATURE) == OFFERED & mask
    simulate(test)


def test_frozen():
    async def test(ctx, dut, write, read, clear, accept):
        assert await accept(V1 | 1)
        ctx.set(dut.frozen, 1)
        assert await accept(V1 | 1 << 5)
        assert ctx.get(dut.accepted) == V1 | 1
        assert await read(Common.DRIVER_FEATURE_SELECT) == 3
    simulate(test)


@pytest.mark.clause("FEAT-2", "FEAT-3")
def test_what_is_offered_now(rng):
    """A mask of what the device has; the same build serves every set."""
    masks = [V1, V1 | 1, OFFERED & ~(1 << 29), OFFERED & ~(1 << 127), (1 << 128) - 1]
    masks += [V1 | rng.getrandbits(128) for _ in range(5)]

    async def test(ctx, dut, write, read, clear, accept):
        for mask in masks:
            ctx.set(dut.offered, mask)
            await clear()
            for select in range(4):
                await write(Common.DEVICE_FEATURE_SELECT, select)
                assert await read(Common.DEVICE_FEATURE) == (OFFERED & mask) >> 32 * select & 0xffffffff
            assert await accept(V1)
            for bit in range(128):
                good = bool((OFFERED & mask) >> bit & 1 and bit not in NEEDS)
                assert await accept(V1 | 1 << bit) == good, bit
                assert ctx.get(dut.accepted) == V1 | 1 << bit & OFFERED & mask
        # 2.2.2: what the driver accepts is judged, even where the mask lacks what one bit needs
        ctx.set(dut.offered, OFFERED & ~1)
        await clear()
        assert not await accept(V1 | 1 << 11)
        assert not await accept(V1 | 1 << 11 | 1)
        assert await accept(V1 | 1 << 29)
    simulate(test)


def test_a_reset_forgets_bad_bits():
    async def test(ctx, dut, write, read, clear, accept):
        for word in (0, 3, 4, 16, 0x8000_0000):
            assert await accept(V1)
            await write(Common.DRIVER_FEATURE_SELECT, word)
            await write(Common.DRIVER_FEATURE, 4)
            await ctx.tick()
            assert not ctx.get(dut.acceptable)
            await clear()
            await write(Common.DRIVER_FEATURE_SELECT, 1)      # no other word is written
            await write(Common.DRIVER_FEATURE, V1 >> 32)
            await ctx.tick()
            assert ctx.get(dut.acceptable)
    simulate(test)
