"""Used entries to the used ring: batches, bounds, order of entries, index and publication."""

import struct

import pytest

from ringnic.hdl.virtqueue.used import UsedWriter

from ...kit.rows import RowsFromEnd

DEVICE = 0x2_0000
HOLD = 64


@pytest.fixture
def make(stage):
    def bench(*, width=64, sizes=(16, 16), ports=1, batch=8, gate=None, **options):
        dut = UsedWriter(width=width, num_queues=len(sizes), ports=ports, batch=batch, hold_cycles=HOLD)
        bench = stage(dut, **options)
        bench.serve_writes(dut.write)
        bench.published = bench.collect(dut.o, gate)

        async def start(ctx):
            for queue, size in enumerate(sizes):
                await bench.setup(ctx, queue, size=size, queue_device=DEVICE * (queue + 1))

        async def give(ctx, queue, ident, length=0, more=0, flush=0, port=0, writable=0, count=1):
            await bench.send(ctx, dut.i[port], {"queue": queue, "chain": {"id": ident, "count": count, "writable": writable},
                                                "len": length, "more": more, "flush": flush})

        async def settle(ctx):
            await bench.until(ctx, lambda: not ctx.get(dut.busy))
            await ctx.tick().repeat(bench.latency + 20)

        def index(queue):
            return struct.unpack_from("<H", bench.memory, DEVICE * (queue + 1) + 2)[0]

        def ring(queue, first, count):
            return [struct.unpack_from("<II", bench.memory, DEVICE * (queue + 1) + 4 + 8 * (k % sizes[queue]))
                    for k in range(first, first + count)]

        def publications(queue):
            return [(item.old, item.new) for item in bench.published if item.queue == queue]
        bench.start, bench.give, bench.settle = start, give, settle
        bench.index, bench.ring, bench.publications = index, ring, publications
        return bench
    return bench


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_batch_is_one_write_and_one_index(make, width, count):
    bench = make(width=width)

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(count):
            await bench.give(ctx, 1, 0xff00 | k, 0xabcd_0000 | k, flush=k == count - 1)
        await bench.settle(ctx)
        assert bench.writes == [(2 * DEVICE + 4, 8 * count), (2 * DEVICE + 2, 2)]
        assert bench.ring(1, 0, count) == [(0xff00 | k, 0xabcd_0000 | k) for k in range(count)]
        assert bench.index(1) == count and bench.publications(1) == [(0, count)]
    bench.run(testbench)


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("packed", [0, 1])
def test_a_write_is_asked_for_when_its_data_is_there(make, width, packed):
    """It would keep others waiting: its first beat comes two cycles later at most, and the others come without a gap."""
    bench = make(width=width, sizes=(128, 128), batch=64)
    port, starved, lengths = bench.dut.write, [], []

    async def watch(ctx):
        under_way = since = 0
        async for _, _, asks, takes, length, gives, last in ctx.tick().sample(
                port.req.valid, port.req.ready, port.req.p.len, port.data.valid & port.data.ready, port.data.p.last):
            if under_way and not gives:
                starved.append(since)
            since += 1
            if gives and last:
                under_way = 0
            if asks and takes:
                under_way, since = 1, 0
                lengths.append(length)
    bench.background(watch)

    async def testbench(ctx):
        ctx.set(bench.dut.packed, packed)
        await bench.start(ctx)
        for count in (1, 2, 3, 64, 5, 64):
            for k in range(count):
                await bench.give(ctx, 0, k, flush=k == count - 1)
            await bench.settle(ctx)
    bench.run(testbench)
    size = 16 if packed else 8
    assert sum(length for length in lengths if length != 2) == 139 * size and max(lengths) >= 20 * size
    assert all(since < 2 for since in starved)


def test_publication_follows_the_index(make):
    bench = make(latency=50)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.give(ctx, 0, 3, flush=1)
        while not bench.published:
            assert ctx.get(bench.dut.busy)
            await ctx.tick()
        assert len(bench.writes) == 2 and bench.index(0) == 1
    bench.run(testbench)


def test_full_batch_leaves_without_being_told(make):
    bench = make(batch=4, sizes=(64, 64))

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(9):
            await bench.give(ctx, 0, k)
        assert bench.index(0) in (4, 8)
        await bench.settle(ctx)
        assert [read for read in bench.writes if read[1] > 2] == [
            (DEVICE + 4, 32), (DEVICE + 4 + 32, 32), (DEVICE + 4 + 64, 8)]
        assert bench.publications(0) == [(0, 4), (4, 8), (8, 9)]
    bench.run(testbench)


def test_a_lone_chain_does_not_wait(make):
    """It is written as soon as one that nothing would hold back, if nothing of its queue was written for two ticks."""
    bench = make()

    async def cycles(ctx, hurry):
        ctx.set(bench.dut.hurry, hurry)
        before = bench.index(1)
        await bench.give(ctx, 1, 7, flush=1)
        passed = 0
        while bench.index(1) == before:
            await ctx.tick()
            passed += 1
        return passed

    async def testbench(ctx):
        await bench.start(ctx)
        needed = [await cycles(ctx, 1)]
        for _ in range(3):
            await ctx.tick().repeat(2 * HOLD + 10)
            needed.append(await cycles(ctx, 0))
        assert len(set(needed)) == 1
    bench.run(testbench)


@pytest.mark.parametrize("width, packed, in_order, cycles", [
    (32, 1, 0, 10), (64, 0, 0, 7), (64, 0, 1, 8), (64, 1, 0, 8), (64, 1, 1, 9), (128, 0, 0, 7), (128, 1, 0, 7)])
def test_a_lone_chain_is_written_at_once(make, width, packed, in_order, cycles):
    """Cycles from the one in which a chain is offered to the one in which its write is asked for, as UsedWriter states them."""
    bench = make(width=width)
    offered, asked = [], []

    async def watch(ctx):
        now = was_offered = 0
        async for _, _, offers, asks in ctx.tick().sample(bench.dut.i[0].valid, bench.dut.write.req.valid):
            now += 1
            if offers and not was_offered:
                offered.append(now)
            was_offered = offers
            if asks and len(asked) < len(offered):
                asked.append(now)
    bench.background(watch)

    async def testbench(ctx):
        ctx.set(bench.dut.packed, packed)
        ctx.set(bench.dut.in_order, in_order)
        await bench.start(ctx)
        for queue in (1, 0):
            await bench.give(ctx, queue, 7, flush=1)
            await bench.settle(ctx)
    bench.run(testbench)
    assert [b - a for a, b in zip(offered, asked)] == [cycles] * 2


@pytest.mark.parametrize("delay", [0, 11, 37, 63])
@pytest.mark.parametrize("flush", [0, 1])
def test_kept_for_two_ticks_at_most(make, delay, flush):
    """Without ``flush`` from its collection on, with it from the last publication on; ticks count for all busy queues."""
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        await ctx.tick().repeat(1 + delay)
        if flush:
            await bench.give(ctx, 1, 6, flush=1)
            await bench.until(ctx, lambda: bench.publications(1))
        bench.writes.clear()
        await bench.give(ctx, 1, 7, flush=flush)
        await ctx.tick().repeat(HOLD - 4 - flush * (3 * bench.latency + 20))
        assert bench.writes == []
        await ctx.tick().repeat(HOLD + 4 + 3 * bench.latency + 20)
        assert bench.index(1) == 1 + flush and bench.publications(1)[-1] == (flush, 1 + flush)
    bench.run(testbench)


def test_nothing_is_kept_in_a_hurry(make):
    """What waits leaves at once, and so does what comes."""
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(2):
            await bench.give(ctx, 1, k, flush=1)
        await ctx.tick().repeat(20)
        assert bench.index(1) == 1
        ctx.set(bench.dut.hurry, 1)
        await ctx.tick().repeat(3 * bench.latency + 40)
        assert bench.index(1) == 2 and not ctx.get(bench.dut.busy)
        await bench.give(ctx, 1, 2)
        await ctx.tick().repeat(3 * bench.latency + 40)
        assert bench.index(1) == 3 and not ctx.get(bench.dut.busy)
    bench.run(testbench)


def test_the_end_of_a_packet_does_not_wait_for_its_beginning(make):
    """Chains of one packet that come so slowly that the first grow old: there was nothing to write yet."""
    bench = make()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.give(ctx, 1, 0, more=1)
        await ctx.tick().repeat(3 * HOLD)
        assert bench.writes == []
        await bench.give(ctx, 1, 1, flush=1)
        await ctx.tick().repeat(3 * bench.latency + 20)
        assert bench.publications(1) == [(0, 2)]
    bench.run(testbench)


def test_index_does_not_move_within_a_packet(make):
    """A packet as long as a batch; ``flush`` counts with the last only."""
    bench = make(batch=4)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.give(ctx, 0, 0)
        for k in range(1, 4):
            await bench.give(ctx, 0, k, more=1, flush=1)
        await ctx.tick().repeat(4 * HOLD)
        assert bench.index(0) == 1
        await bench.give(ctx, 0, 4, flush=1)
        await bench.settle(ctx)
        assert bench.index(0) == 5 and bench.publications(0) == [(0, 1), (1, 5)]
        assert [ident for ident, _ in bench.ring(0, 0, 5)] == list(range(5))
    bench.run(testbench)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ring_wraps(make, size):
    bench = make(sizes=(size,))

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(11):
            await bench.give(ctx, 0, 100 + k, k, flush=k % size == 0)
            if k % size == 0:
                await bench.settle(ctx)
                first = max(0, k - size + 1)
                assert bench.ring(0, first, k + 1 - first) == [(100 + j, j) for j in range(first, k + 1)]
                assert bench.index(0) == k + 1
        assert all(DEVICE + 4 <= addr and addr + length <= DEVICE + 4 + 8 * size
                   for addr, length in bench.writes if addr != DEVICE + 2)
    bench.run(testbench)


@pytest.mark.parametrize("size", [2, 8, 32768])
def test_index_wraps_at_16_bits(make, monkeypatch, size):
    monkeypatch.setattr("ringnic.hdl.virtqueue.used_place.QueueRows", RowsFromEnd)
    bench = make(sizes=(size, size), batch=2)
    start = RowsFromEnd.START

    async def testbench(ctx):
        await bench.start(ctx)
        for k in range(6):
            await bench.give(ctx, 1, k, 10 * k, flush=1)
            await bench.settle(ctx)
            assert bench.index(1) == (start + k + 1) & 0xffff
            assert bench.ring(1, start + k, 1) == [(k, 10 * k)]
        assert bench.publications(1) == [((start + k) & 0xffff, (start + k + 1) & 0xffff) for k in range(6)]
    bench.run(testbench)


def test_nothing_is_lost_while_publications_wait(make):
    state = {"open": False}
    bench = make(sizes=(64,), gate=lambda: state["open"])

    async def feed(ctx):
        ctx.set(bench.dut.hurry, 1)
        await bench.start(ctx)
        for k in range(40):
            await bench.give(ctx, 0, k, flush=1)
        await bench.settle(ctx)
        assert bench.index(0) == 40
        news = [new for _, new in bench.publications(0)]
        assert bench.publications(0) == list(zip([0, *news], news)) and news[-1] == 40

    async def unblock(ctx):
        await ctx.tick().repeat(1500)
        assert bench.index(0) == 8 and ctx.get(bench.dut.busy)  # as many as there is room for
        state["open"] = True
    bench.run(feed, unblock)


@pytest.mark.parametrize("width, ports", [(32, 1), (64, 2), (128, 2), (256, 3)])
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_random(make, rng, width, ports, pause):
    """Packets of several entries on several ports; at every publication the ring up to it is what was given."""
    sizes = (4, 16, 64)
    bench = make(width=width, sizes=sizes, ports=ports, batch=8, pause=pause)
    given = [[] for _ in sizes]
    seen = [0] * len(sizes)
    whole = [set() for _ in sizes]
    looked = 0

    def check():
        nonlocal looked
        if len(bench.published) == looked:
            return
        looked = len(bench.published)
        for queue in range(len(sizes)):
            news = [new for _, new in bench.publications(queue)]
            assert bench.publications(queue) == list(zip([0, *news], news))
            if news and news[-1] != seen[queue]:
                assert news[-1] in whole[queue] and news[-1] <= bench.index(queue)
                assert bench.ring(queue, seen[queue], news[-1] - seen[queue]) == given[queue][seen[queue]:news[-1]]
                seen[queue] = news[-1]

    def device(port):
        async def run(ctx):
            if port == 0:
                await bench.start(ctx)
            else:
                await ctx.tick().repeat(10)
            for _ in range(30):
                queue = rng.choice([queue for queue in range(len(sizes)) if queue % ports == port])
                count = rng.randint(1, min(sizes[queue], 6))
                while len(given[queue]) + count - seen[queue] > sizes[queue]:  # no more than the driver has given
                    check()
                    await ctx.tick()
                for k in range(count):
                    entry = (rng.randrange(1 << 16), rng.getrandbits(32))
                    given[queue].append(entry)
                    if k == count - 1:
                        whole[queue].add(len(given[queue]))
                    await bench.give(ctx, queue, *entry, more=k < count - 1, flush=rng.random() < 0.4, port=port)
            await bench.settle(ctx)
            check()
        return run
    bench.run(*[device(port) for port in range(ports)])
    check()
    assert seen == [len(entries) for entries in given]


@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("size, count", [(1, 1), (1, 7), (2, 5), (3, 3), (3, 8), (5, 8), (32768, 8)])
def test_packed_ring_is_not_left(make, size, count, in_order):
    """Not even if the driver makes chains available whose slots are not free."""
    bench = make(sizes=(16, 16))

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        ctx.set(bench.dut.in_order, in_order)
        await bench.setup(ctx, 0, size=size, queue_desc=DEVICE)
        for batch in range(4):
            for k in range(count):
                await bench.give(ctx, 0, k, flush=k == count - 1)
            await bench.settle(ctx)
        assert all(DEVICE <= addr and addr + length <= DEVICE + 16 * size for addr, length in bench.writes)
        assert all(item.new == (count * (k + 1)) % size for k, item in enumerate(bench.published))
    bench.run(testbench)


def test_more_slots_than_a_count_of_16_bits_has_are_not_one_step(make):
    """With IN_ORDER, of a driver that makes a ring of chains available several times over: each has its own used descriptor."""
    bench, size = make(sizes=(16, 16)), 30_000

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        ctx.set(bench.dut.in_order, 1)
        await bench.setup(ctx, 0, size=size, queue_desc=DEVICE)
        for _ in range(3):
            for k in range(3):
                await bench.give(ctx, 0, k, flush=k == 2, count=size)
            await bench.settle(ctx)
        assert bench.writes == [(DEVICE, 16)] * 9
        # And what was too many is forgotten with them: a batch that fits is told of by its last again.
        for k in range(3):
            await bench.give(ctx, 0, k, flush=k == 2)
        await bench.settle(ctx)
        assert bench.writes[9:] == [(DEVICE, 16)]
    bench.run(testbench)


@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("writable", [0, 1])
def test_in_order_a_length_is_reported_even_if_it_is_0(make, packed, writable):
    """2.7.9, 2.8.8: of a device-writable buffer that is skipped the driver takes all as written."""
    bench = make()

    def idents():
        if packed:
            return [struct.unpack_from("<H", bench.memory, DEVICE + 16 * k + 12)[0] for k in range(3)]
        return [ident for ident, _ in bench.ring(0, 0, 3)]

    async def testbench(ctx):
        ctx.set(bench.dut.packed, packed)
        ctx.set(bench.dut.in_order, 1)
        await bench.setup(ctx, 0, size=16, queue_desc=DEVICE, queue_device=DEVICE)
        before = idents()
        for k in range(3):
            await bench.give(ctx, 0, 0x50 + k, writable=writable, flush=k == 2)
        await bench.settle(ctx)
        assert idents() == ([0x50, 0x51, 0x52] if writable else [0x52, *before[1:]])
        assert bench.publications(0) == [(0, 3)]
    bench.run(testbench)


@pytest.mark.parametrize("first", [0, 1, 7, 14, 15])
def test_packed_packet_shows_its_first_last(make, first):
    """2.8.9: whether or not its chains are one descriptor each."""
    bench = make()

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        await bench.setup(ctx, 0, size=16, queue_desc=DEVICE)
        for k in range(first):
            await bench.give(ctx, 0, k, flush=1)
        await bench.settle(ctx)
        bench.writes.clear()
        for k in range(4):
            await bench.give(ctx, 0, 0x50 + k, length=9, more=k < 3, flush=k == 3)
        await bench.settle(ctx)
        assert bench.writes[-1] == (DEVICE + 16 * first, 16)
        assert sum(length for _, length in bench.writes) == 4 * 16
        assert [struct.unpack_from("<H", bench.memory, DEVICE + (first + k) % 16 * 16 + 12)[0] for k in range(4)] \
            == [0x50 + k for k in range(4)]
    bench.run(testbench)


@pytest.mark.parametrize("in_order", [0, 1])
def test_packed_ring_goes_on_behind_whole_packets_only(make, in_order):
    bench = make()

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        ctx.set(bench.dut.in_order, in_order)
        await bench.setup(ctx, 0, size=16, queue_desc=DEVICE)
        await bench.give(ctx, 0, 5)
        await bench.give(ctx, 0, 6, more=1)
        await ctx.tick().repeat(4 * HOLD)
        assert bench.publications(0) == [(0, 1)]
        await bench.give(ctx, 0, 7, flush=1)
        await bench.settle(ctx)
        assert bench.publications(0) == [(0, 1), (1, 3)]
    bench.run(testbench)


@pytest.mark.parametrize("in_order", [0, 1])
def test_packed_packet_of_which_a_part_waits_while_others_leave(make, in_order):
    """The part that waits takes two slots; 2.8.9: it is shown last, behind the rest of its packet."""
    bench = make()

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        ctx.set(bench.dut.in_order, in_order)
        await bench.setup(ctx, 0, size=16, queue_desc=DEVICE)
        await bench.give(ctx, 0, 5)
        await bench.give(ctx, 0, 6, length=9, more=1, count=2)
        await ctx.tick().repeat(4 * HOLD)
        assert bench.writes == [(DEVICE, 16)]
        await bench.give(ctx, 0, 7, length=9, flush=1)
        await bench.settle(ctx)
        assert bench.writes[1:] == [(DEVICE + 16 * 3, 16), (DEVICE + 16, 16)]
        assert bench.publications(0) == [(0, 1), (1, 4)]
    bench.run(testbench)


def test_packed_neighbours_share_a_write_again_behind_a_chain_of_several(make):
    bench = make()

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        await bench.setup(ctx, 0, size=16, queue_desc=DEVICE)
        await bench.give(ctx, 0, 0, count=2)
        await bench.give(ctx, 0, 1, flush=1)
        await bench.settle(ctx)
        assert bench.writes == [(DEVICE, 16), (DEVICE + 32, 16)]
        for k in range(5):
            await bench.give(ctx, 0, k, flush=k == 4)
        await bench.settle(ctx)
        assert bench.writes[2:] == [(DEVICE + 48, 80)]
    bench.run(testbench)


@pytest.mark.parametrize("other", [False, True])
def test_a_chain_that_meets_the_set_up_of_its_queue_is_not_of_the_new_life(make, other):
    """2.6.1.1.1: the set-up comes in each of the cycles in which the chain is staged, of its queue or of the other one."""
    bench = make()
    dut = bench.dut

    async def meet(ctx, phase):
        await bench.start(ctx)
        bench.memory[:] = bytes(len(bench.memory))
        bench.writes.clear()
        await bench.give(ctx, 1, 7, 70)
        ctx.set(dut.setup, {"queue": int(not other), "size": 16, "queue_device": DEVICE * (int(not other) + 1)})
        for now in range(2):
            ctx.set(dut.setup_valid, now == phase)
            await ctx.tick()
        ctx.set(dut.setup_valid, 0)
        await bench.give(ctx, 1, 8, 80, flush=1)
        await bench.settle(ctx)
        expected = [(7, 70), (8, 80)] if other else [(8, 80)]
        assert bench.index(1) == len(expected) and bench.ring(1, 0, len(expected)) == expected

    async def testbench(ctx):
        for phase in range(2):
            await meet(ctx, phase)
    bench.run(testbench)
