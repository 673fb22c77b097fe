"""Registers of queues against a model: every size, every byte, what enabling freezes and what a reset restores."""

import re

import pytest

from ringnic.hdl.spec.virtio import Common
from ringnic.hdl.transport.queues import Queues

from ...kit.simulation import Simulation

NONE = 0xffff
ADDRESSES = range(Common.QUEUE_DESC, Common.QUEUE_NOTIF_CONFIG_DATA, 4)


@pytest.mark.parametrize("changes, message", [
    (dict(num_queues=0), "Number of queues must be from 1 to 512, not 0"),
    (dict(num_queues=513), "Number of queues must be from 1 to 512, not 513"),
    (dict(max_queue_size=0), "Queue size must be a power of 2 from 1 to 32768, not 0"),
    (dict(max_queue_size=48), "Queue size must be a power of 2 from 1 to 32768, not 48"),
    (dict(max_queue_size=65536), "Queue size must be a power of 2 from 1 to 32768, not 65536"),
    (dict(msix_vectors=0), "Number of MSI-X vectors must be from 1 to 2048, not 0"),
    (dict(msix_vectors=2049), "Number of MSI-X vectors must be from 1 to 2048, not 2049"),
])
def test_errors(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Queues(**{**dict(num_queues=2, max_queue_size=256, msix_vectors=3), **changes})


class Bench:
    def __init__(self, num_queues=3, max_queue_size=256, msix_vectors=3):
        self.dut = Queues(num_queues=num_queues, max_queue_size=max_queue_size, msix_vectors=msix_vectors)
        self.setups, self.resets = [], []
        self.drain = 3  # cycles until a queue is drained, None: for ever
        self.simulation = Simulation(self.dut, limit=50000)
        self.simulation.background(self.watch)
        self.simulation.background(self.engine)

    async def watch(self, ctx):
        dut = self.dut
        async for _, _, valid, busy, clear, setup in ctx.tick().sample(dut.setup_valid, dut.busy, dut.clear, dut.setup):
            if valid:
                assert busy and not clear
                self.setups.append((setup.queue, setup.size, setup.queue_desc, setup.queue_driver, setup.queue_device))

    async def engine(self, ctx):
        """Drain the queue that is being reset; a reset of all forgets it."""
        dut, left = self.dut, None
        while True:
            _, _, valid, queue, clear = await ctx.tick().sample(dut.reset_valid, dut.reset_queue, dut.clear)
            if clear:
                left = None
            elif valid:
                assert left is None, "two at a time"
                self.resets.append(queue)
                left = self.drain
            elif left:
                left -= 1
            ctx.set(dut.reset_done, left == 0)
            left = None if left == 0 else left

    def run(self, test):
        async def bench(ctx):
            self.ctx = ctx
            ctx.set(self.dut.may_enable, 1)
            ctx.set(self.dut.may_reset, 1)
            ctx.set(self.dut.withdrawn, 1)
            await self.clear()
            await test(ctx)
        self.simulation.run(bench)

    async def clear(self):
        self.ctx.set(self.dut.clear, 1)
        for _ in range(8 * self.dut.num_queues + 4):
            await self.ctx.tick()
        assert self.ctx.get(self.dut.cleared)
        self.ctx.set(self.dut.clear, 0)
        await self.ctx.tick()

    async def read(self, offset, size=4):
        self.ctx.set(self.dut.word, offset // 4)
        await self.ctx.tick().repeat(2)
        return self.ctx.get(self.dut.value) >> 8 * (offset % 4) & ((1 << 8 * size) - 1)

    async def write(self, offset, value, size=4):
        lane = offset % 4
        self.ctx.set(self.dut.word, offset // 4)
        self.ctx.set(self.dut.data, value << 8 * lane)
        self.ctx.set(self.dut.be, ((1 << size) - 1) << lane)
        self.ctx.set(self.dut.write, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.write, 0)
        await self.ctx.tick()
        while self.ctx.get(self.dut.busy):
            await self.ctx.tick()

    async def alive(self):
        """Mask of the queues that are enabled and not being reset, as either look-up sees them."""
        mask = 0
        for queue in range(self.dut.num_queues):
            self.ctx.set(self.dut.lookup, queue)
            self.ctx.set(self.dut.kick_lookup, queue)
            await self.ctx.tick()
            assert self.ctx.get(self.dut.alive) == self.ctx.get(self.dut.kick_alive)
            mask |= self.ctx.get(self.dut.alive) << queue
        return mask

    async def row(self, queue):
        """Size, vector, enable, addresses and reset of a queue."""
        await self.select(queue)
        return (await self.read(Common.QUEUE_SIZE, 2), await self.read(Common.QUEUE_MSIX_VECTOR, 2),
                await self.read(Common.QUEUE_ENABLE, 2), *[await self.read(offset) for offset in ADDRESSES],
                await self.read(Common.QUEUE_RESET, 2))

    async def fill(self, queue, *, size, vector, address):
        """Set a queue up and enable it, return its row."""
        await self.select(queue)
        await self.write(Common.QUEUE_SIZE, size, 2)
        await self.write(Common.QUEUE_MSIX_VECTOR, vector, 2)
        for offset in ADDRESSES:
            await self.write(offset, address + offset)
        await self.write(Common.QUEUE_ENABLE, 1, 2)
        return (size, vector, 1, *[address + offset for offset in ADDRESSES], 0)

    async def reset(self, queue):
        await self.select(queue)
        await self.write(Common.QUEUE_RESET, 1, 2)

    async def select(self, queue):
        await self.write(Common.QUEUE_SELECT, queue, 2)


@pytest.mark.parametrize("be", range(16))
def test_a_field_of_16_bits_is_written_whole(be):
    bench = Bench(num_queues=2)

    async def test(ctx):
        await bench.select(1)
        for word in Common.QUEUE_SELECT // 4, Common.QUEUE_SIZE // 4:
            ctx.set(bench.dut.word, word)
            ctx.set(bench.dut.data, 0x0000_0040)
            ctx.set(bench.dut.be, be)
            ctx.set(bench.dut.write, 1)
            await ctx.tick()
            ctx.set(bench.dut.write, 0)
            await ctx.tick()
            if word == Common.QUEUE_SELECT // 4:
                assert await bench.read(Common.QUEUE_SELECT, 2) == (0 if be >> 2 == 3 else 1)
        assert await bench.read(Common.QUEUE_SIZE, 2) == (64 if be & 3 == 3 else 256)
        assert await bench.read(Common.QUEUE_MSIX_VECTOR, 2) == (0 if be >> 2 == 3 else 0xffff)
    bench.run(test)


@pytest.mark.clause("CC-11")
@pytest.mark.parametrize("largest", [1, 2, 256, 32768])
@pytest.mark.parametrize("packed", [0, 1])
def test_sizes(largest, packed):
    bench = Bench(num_queues=2, max_queue_size=largest)

    async def test(ctx):
        ctx.set(bench.dut.packed, packed)
        await bench.select(1)
        assert await bench.read(Common.QUEUE_SIZE, 2) == largest
        now = largest
        for size in (1, 0, 3, largest, largest - 1, 2 * largest & 0xffff, largest + 1, 2, 0x8000, 0x7fff, 0xffff, 1):
            await bench.write(Common.QUEUE_SIZE, size, 2)
            if 1 <= size <= largest and (packed or size & (size - 1) == 0):
                now = size
            assert await bench.read(Common.QUEUE_SIZE, 2) == now
        await bench.write(Common.QUEUE_SIZE, 1, 1)  # half a register
        assert await bench.read(Common.QUEUE_SIZE, 2) == now
    bench.run(test)


@pytest.mark.clause("MSX-4", "MSX-6")
@pytest.mark.parametrize("vectors", [1, 3, 2048])
def test_vectors(vectors):
    bench = Bench(msix_vectors=vectors)

    async def test(ctx):
        expected = {}
        for queue, vector in ((0, 0), (1, vectors - 1), (2, vectors), (0, NONE), (2, 0)):
            await bench.select(queue)
            await bench.write(Common.QUEUE_MSIX_VECTOR, vector, 2)
            expected[queue] = vector if vector < vectors else NONE
            assert await bench.read(Common.QUEUE_MSIX_VECTOR, 2) == expected[queue]
            assert await bench.read(Common.QUEUE_SIZE, 2) == 256
        await bench.write(Common.QUEUE_ENABLE, 1, 2)
        await bench.write(Common.QUEUE_MSIX_VECTOR, vectors - 1, 2)  # of an enabled queue too
        expected[2] = vectors - 1
        assert await bench.alive() == 0b100
        for queue, vector in expected.items():
            ctx.set(bench.dut.lookup, queue)
            await ctx.tick()
            assert ctx.get(bench.dut.vector) == (vectors if vector == NONE else vector)
    bench.run(test)


@pytest.mark.clause("CC-10")
@pytest.mark.parametrize("num_queues", [1, 2, 3])
def test_queue_that_does_not_exist(num_queues):
    bench = Bench(num_queues=num_queues)

    async def test(ctx):
        for queue in (num_queues, 4, 0x100, 0xffff):
            await bench.select(queue)
            assert await bench.read(Common.QUEUE_SELECT, 2) == queue
            for offset in range(Common.QUEUE_SIZE, Common.SIZE, 4):
                await bench.write(offset, 0x0001_0001)
                assert await bench.read(offset) == (NONE << 16 if offset == Common.QUEUE_SIZE else 0)
        assert bench.setups == [] and await bench.alive() == 0
        for queue in range(num_queues):
            await bench.select(queue)
            assert await bench.read(Common.QUEUE_SIZE) == NONE << 16 | 256
            assert all([await bench.read(offset) == 0 for offset in ADDRESSES])
    bench.run(test)


def test_enabling():
    bench = Bench()

    async def test(ctx):
        values = {}
        for queue in range(3):
            await bench.select(queue)
            values[queue] = [0x1122334455667700 + 0x1111 * queue + k for k in range(3)]
            for k, value in enumerate(values[queue]):
                # 4.1.3.2: two halves, in any order
                await bench.write(Common.QUEUE_DESC + 8 * k + 4, value >> 32)
                await bench.write(Common.QUEUE_DESC + 8 * k, value & 0xffffffff)
        await bench.select(1)
        ctx.set(bench.dut.may_enable, 0)
        await bench.write(Common.QUEUE_ENABLE, 1, 2)
        ctx.set(bench.dut.may_enable, 1)
        for value, size in ((0, 2), (2, 2), (0xffff, 2), (1, 1)):
            await bench.write(Common.QUEUE_ENABLE, value, size)
        assert bench.setups == [] and await bench.read(Common.QUEUE_ENABLE, 2) == 0
        for queue in (1, 0, 1, 2, 2):
            await bench.select(queue)
            assert await bench.read(Common.QUEUE_NOTIFY_OFF, 2) == queue
            await bench.write(Common.QUEUE_ENABLE, 1, 2)
            assert await bench.read(Common.QUEUE_ENABLE, 2) == 1
        assert bench.setups == [(queue, 256, *values[queue]) for queue in (1, 0, 2)]
        assert await bench.alive() == 7
        # 4.1.4.3.2: a driver must not write 0, and what is enabled does not change
        await bench.write(Common.QUEUE_ENABLE, 0, 2)
        await bench.write(Common.QUEUE_SIZE, 64, 2)
        for offset in ADDRESSES:
            await bench.write(offset, 0)
        assert await bench.read(Common.QUEUE_ENABLE, 2) == 1 and await bench.read(Common.QUEUE_SIZE, 2) == 256
        assert await bench.read(Common.QUEUE_DESC) == values[2][0] & 0xffffffff
        await bench.clear()
        assert await bench.alive() == 0
        await bench.select(2)
        await bench.write(Common.QUEUE_ENABLE, 1, 2)
        assert bench.setups[3:] == [(2, 256, 0, 0, 0)]
    bench.run(test)


def test_clear_while_a_queue_is_being_enabled():
    """Never half of it: it is enabled and told, or it is not."""
    for delay in range(12):
        bench = Bench(num_queues=1)

        async def test(ctx, bench=bench, delay=delay):
            dut = bench.dut
            ctx.set(dut.word, Common.QUEUE_ENABLE // 4)
            ctx.set(dut.data, 1)
            ctx.set(dut.be, 3)
            ctx.set(dut.write, 1)
            await ctx.tick()
            ctx.set(dut.write, 0)
            for _ in range(delay):
                await ctx.tick()
            told = len(bench.setups)
            await bench.clear()
            assert await bench.alive() == 0 and len(bench.setups) <= told + 1
            await bench.write(Common.QUEUE_ENABLE, 1, 2)
            assert bench.setups[-1] == (0, 256, 0, 0, 0)
        bench.run(test)


DEFAULT = (256, NONE, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.clause("CC-9", "QRST-2", "QRST-3")
@pytest.mark.parametrize("num_queues", [1, 3, 65])
def test_reset_of_a_queue(num_queues):
    bench = Bench(num_queues=num_queues, msix_vectors=num_queues + 1)

    async def test(ctx):
        rows = {queue: await bench.fill(queue, size=8, vector=queue, address=0x1000_0000 * (queue & 15))
                for queue in {0, 1, num_queues - 1} if queue < num_queues}
        alive = sum(1 << queue for queue in rows)
        for queue in rows:
            await bench.reset(queue)
            assert await bench.alive() == alive & ~(1 << queue)
            for _ in range(20):
                await ctx.tick()
            assert await bench.row(queue) == DEFAULT and not ctx.get(bench.dut.resetting)
            for other in rows.keys() - {queue}:
                assert await bench.row(other) == rows[other]
            # 2.6.1.2.1: enabled again, with what it has now
            setups = len(bench.setups)
            rows[queue] = await bench.fill(queue, size=64, vector=0, address=0x2000_0000)
            assert bench.setups[setups:] == [(queue, 64, 0x20000024_20000020, 0x2000002c_20000028, 0x20000034_20000030)]
            assert await bench.row(queue) == rows[queue] and await bench.alive() == alive
        assert bench.resets == list(rows)
    bench.run(test)


def test_what_is_no_reset_of_a_queue():
    bench = Bench()

    async def test(ctx):
        async def nothing():
            assert await bench.read(Common.QUEUE_RESET, 2) == 0
            assert bench.resets == [] and not ctx.get(bench.dut.resetting) and await bench.alive() == 0b010
        row = await bench.fill(1, size=4, vector=2, address=16)
        for queue in (0, 3, 0xffff):  # not enabled, does not exist
            await bench.reset(queue)
            await nothing()
        await bench.select(1)
        for value, size in ((0, 2), (2, 2), (0xffff, 2), (1, 1)):
            await bench.write(Common.QUEUE_RESET, value, size)
            await nothing()
        await bench.write(Common.QUEUE_NOTIF_CONFIG_DATA, 1, 2)
        await nothing()
        ctx.set(bench.dut.may_reset, 0)
        await bench.write(Common.QUEUE_RESET, 1, 2)
        await nothing()
        assert await bench.row(1) == row
        ctx.set(bench.dut.may_reset, 1)
        await bench.write(Common.QUEUE_NOTIF_CONFIG_DATA, 0x0001_0000, 4)
        for _ in range(4):
            await ctx.tick()
        assert bench.resets == [1]
    bench.run(test)


@pytest.mark.clause("CC-9")
def test_while_a_queue_is_being_reset():
    """4.1.4.3.1: queue_reset reads 1; what is written to the queue vanishes; others go on."""
    bench = Bench()
    bench.drain = None

    async def test(ctx):
        row = await bench.fill(1, size=4, vector=2, address=16)
        await bench.reset(1)
        for _ in range(2):
            assert await bench.row(1) == (*row[:-1], 1)
            await bench.write(Common.QUEUE_SIZE, 0x0000_0002)
            for offset in (*ADDRESSES, Common.QUEUE_RESET & ~3):
                await bench.write(offset, 0x0001_0000)
            await bench.write(Common.QUEUE_ENABLE, 1, 2)
            assert await bench.row(1) == (*row[:-1], 1)
            ctx.set(bench.dut.lookup, 1)
            other = await bench.fill(2, size=16, vector=1, address=32)
            assert await bench.row(2) == other and await bench.row(0) == DEFAULT
        assert await bench.alive() == 0b100 and bench.resets == [1] and len(bench.setups) == 2
        ctx.set(bench.dut.withdrawn, 0)
        ctx.set(bench.dut.reset_done, 1)
        await ctx.tick()
        ctx.set(bench.dut.reset_done, 0)
        for _ in range(30):
            await ctx.tick()
        assert await bench.row(1) == (*row[:-1], 1)
        assert ctx.get(bench.dut.withdraw) and ctx.get(bench.dut.withdraw_queue) == 1
        ctx.set(bench.dut.withdrawn, 1)
        for _ in range(10):
            await ctx.tick()
        assert await bench.row(1) == DEFAULT and await bench.row(2) == other
    bench.run(test)


def test_resets_of_queues_in_turn():
    bench = Bench(num_queues=5)
    bench.drain = 60

    async def test(ctx):
        rows = [await bench.fill(queue, size=4, vector=1, address=queue) for queue in range(5)]
        for queue in (3, 0, 4, 3):
            await bench.reset(queue)
        ended = []
        for _ in range(60):
            for queue in {3, 0, 4} - set(ended):
                row = await bench.row(queue)
                if row[-1] == 0:
                    ended.append(queue)
                    assert await bench.row(queue) == DEFAULT
                elif queue not in bench.resets:
                    assert row == (*rows[queue][:-1], 1)
        assert bench.resets == ended == [3, 0, 4]
        assert await bench.alive() == 0b00110
        await bench.fill(3, size=2, vector=0, address=0)
        await bench.reset(3)
        assert await bench.read(Common.QUEUE_RESET, 2) == 1  # the second as the first
    bench.run(test)


def test_a_reset_ends_while_another_queue_is_being_enabled():
    for delay in range(50):
        bench = Bench()
        bench.drain = delay

        async def test(ctx, bench=bench):
            await bench.fill(1, size=4, vector=1, address=16)
            await bench.reset(1)
            row = await bench.fill(2, size=16, vector=2, address=32)
            for _ in range(20):
                await ctx.tick()
            assert await bench.row(2) == row and await bench.row(1) == DEFAULT
            assert len(bench.setups) == 2 and await bench.alive() == 0b100
        bench.run(test)


def test_clear_while_queues_are_being_reset():
    for delay in range(30):
        bench = Bench(num_queues=3)

        async def test(ctx, bench=bench, delay=delay):
            for queue in range(3):
                await bench.fill(queue, size=4, vector=1, address=queue)
            await bench.reset(2)
            await bench.reset(1)
            for _ in range(delay):
                await ctx.tick()
            await bench.clear()
            assert not ctx.get(bench.dut.resetting) and await bench.read(Common.QUEUE_SELECT, 2) == 0
            resets = len(bench.resets)
            assert [await bench.row(queue) for queue in range(3)] == [DEFAULT] * 3 and await bench.alive() == 0
            row = await bench.fill(1, size=2, vector=0, address=8)
            assert await bench.row(1) == row and len(bench.resets) == resets
            await bench.reset(1)
            for _ in range(20):
                await ctx.tick()
            assert await bench.row(1) == DEFAULT and bench.resets[resets:] == [1]
        bench.run(test)


def test_random(rng):
    """Accesses of every size to every register of every queue, and resets that come to an end when they like."""
    bench = Bench(num_queues=3, max_queue_size=64, msix_vectors=5)
    default = (NONE << 16 | 64).to_bytes(4, "little") + bytes(32)
    model = [bytearray(default) for _ in range(3)]
    base, reset = Common.QUEUE_SIZE, Common.QUEUE_RESET - Common.QUEUE_SIZE

    async def test(ctx):
        for _ in range(500):
            bench.drain = rng.randrange(120)
            queue = rng.randrange(3)
            row = model[queue]
            row[6:8] = queue.to_bytes(2, "little")
            await bench.select(queue)
            if row[reset] and await bench.read(Common.QUEUE_RESET, 2) == 0:
                row[:4], row[4:6], row[8:] = default[:4], default[4:6], default[8:]
            offset, size = rng.choice(6 * [(base, 2), (base + 2, 2), (base + 4, 2), (Common.QUEUE_RESET, 2)] + [
                (word + lane, size) for word in ADDRESSES for lane, size in ((0, 4), (0, 2), (2, 2), (3, 1))])
            value = rng.choice([0, 1, 1, 1, 2, 64, 128, 0xffff_ffff, rng.getrandbits(32)]) & ((1 << 8 * size) - 1)
            if offset in (base + 4, Common.QUEUE_RESET) and rng.random() < 0.7:
                value = 1
            enabled = row[4]
            await bench.write(offset, value, size)
            if row[reset]:  # vanished, or the reset had ended before: then the model is told at the next look
                if await bench.read(Common.QUEUE_RESET, 2) == 0:
                    await bench.clear()
                    model[:] = [bytearray(default) for _ in range(3)]
                    continue
            else:
                at = slice(offset - base, offset - base + size)
                if offset == base:
                    if not enabled and value in (1, 2, 4, 8, 16, 32, 64):
                        row[at] = value.to_bytes(2, "little")
                elif offset == base + 2:
                    row[at] = (value if value < 5 else NONE).to_bytes(2, "little")
                elif offset == base + 4:
                    row[4] = enabled or value == 1
                elif offset == Common.QUEUE_RESET:
                    row[reset] = enabled and value == 1
                elif not enabled:
                    row[at] = value.to_bytes(size, "little")
            if not row[reset]:
                for word in range(base, Common.SIZE, 4):
                    seen = await bench.read(word)
                    assert seen == int.from_bytes(row[word - base:word - base + 4], "little"), hex(word)
            if rng.random() < 0.03:
                await bench.clear()
                model[:] = [bytearray(default) for _ in range(3)]
        assert len(bench.resets) > 10
    bench.run(test)
