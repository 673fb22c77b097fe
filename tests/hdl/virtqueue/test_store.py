"""Prefetched heads: places, takes and their taking back, several ports and queues at once."""

from functools import partial

import pytest

from ringnic.hdl.lib.buffers import TakeOp
from ringnic.hdl.virtqueue.store import HeadStore

from ...kit import streams
from ...kit.simulation import Simulation
from ...kit.streams import always, transfer


@pytest.mark.parametrize("depth", [0, 1, 3, 12])
def test_depth_must_be_a_power_of_two(depth):
    with pytest.raises(ValueError, match=f"^Prefetch depth must be a power of 2 of at least 2, not {depth}$"):
        HeadStore(num_queues=1, ports=1, depth=depth, batch=4)


@pytest.mark.parametrize("batch", [0, 5])
def test_batch_must_not_be_more_than_the_depth(batch):
    with pytest.raises(ValueError, match=f"^A request may be met in part from 1 to 4 places on, not from {batch}$"):
        HeadStore(num_queues=1, ports=1, depth=4, batch=batch)


@pytest.fixture
def make(stage):
    def bench(*, num_queues=2, ports=1, depth=4, batch=2, gate=None, **options):
        bench = stage(HeadStore(num_queues=num_queues, ports=ports, depth=depth, batch=batch), **options)
        bench.heads = [[] for _ in range(ports)]
        bench.ends = [0] * num_queues       # places of each queue that are pushed
        bench.background(bench.collect_into, bench.dut.o_head,
                         lambda item: bench.heads[item.port].append(item.taken), gate or always)
        bench.freed = []

        async def freed(ctx):
            async for _, _, valid, queue in ctx.tick().sample(bench.dut.freed_valid, bench.dut.freed_queue):
                if valid:
                    bench.freed.append(queue)
        bench.background(freed)
        return bench
    return bench


def head(ident):
    return {"id": ident, "addr": ident * 0x1_0001_0001, "len": ident * 3, "flags": ident & 7, "next": ident ^ 0xff}


def ids(heads):
    for item in heads:
        assert {name: item.head[name] for name in head(0)} == head(item.head.id)
    return [(item.queue, item.head.id) for item in heads]


async def ask(ctx, dut, queue, want):
    """Places granted."""
    ctx.set(dut.i_room.p, {"queue": queue, "want": want})
    grant, = await transfer(ctx, dut.i_room, dut.grant)
    return grant


async def write(ctx, bench, queue, place, ident):
    """Write a head ``place`` places behind those that are pushed."""
    port = bench.dut.write
    ctx.set(port.queue, queue)
    ctx.set(port.place, (bench.ends[queue] + place) % bench.dut.depth)
    ctx.set(port.head, head(ident))
    await streams.pulse(ctx, port.valid)


async def push(ctx, bench, queue, *idents):
    """One by one."""
    for ident in idents:
        await write(ctx, bench, queue, 0, ident)
        await bench.send(ctx, bench.dut.i_push, {"queue": queue, "count": 1})
        bench.ends[queue] += 1


async def set_up(ctx, bench, queue):
    await bench.setup(ctx, queue, size=16)
    bench.ends[queue] = 0


ALL = 0xffff  # chains to COMMIT


async def take(ctx, bench, queue, op=TakeOp.TAKE, port=0, count=None):
    """By default a TAKE commits nothing, and a COMMIT all."""
    if count is None:
        count = ALL if op == TakeOp.COMMIT else 0
    await bench.send(ctx, bench.dut.i_take[port], {"op": op, "queue": queue, "count": count})


def available(ctx, dut, queue):
    return ctx.get(dut.available) >> queue & 1


@pytest.mark.parametrize("depth, batch", [(2, 1), (4, 2), (8, 8)])
def test_places_are_granted_in_full_or_from_a_batch_on(make, depth, batch):
    bench = make(depth=depth, batch=batch)

    async def testbench(ctx):
        dut, free = bench.dut, depth
        for want in (depth // 2, depth, 1, depth, depth):
            granted = await ask(ctx, dut, 1, want)
            assert granted == (want if want <= free else free if free >= batch else 0)
            free -= granted
        assert await ask(ctx, dut, 0, depth) == depth  # the other queue has its own
        assert await ask(ctx, dut, 0, 1) == 0
    bench.run(testbench)


def test_set_up_forgets(make):
    bench = make()

    async def testbench(ctx):
        assert await ask(ctx, bench.dut, 1, 4) == 4
        await bench.setup(ctx, 1, size=16)
        assert await ask(ctx, bench.dut, 1, 4) == 4
    bench.run(testbench)


# Each operation of a device, and the count that it is offered with.
OPERATIONS = {"take": (TakeOp.TAKE, 0), "join": (TakeOp.TAKE, 1), "commit": (TakeOp.COMMIT, 1), "rewind": (TakeOp.REWIND, 0),
              "keep": (TakeOp.KEEP, 0)}


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("operation", ["room", "push", *OPERATIONS])
def test_an_operation_beside_a_set_up_is_before_it_or_after_it(make, operation, other):
    """2.6.1.1.1: of a queue that was reset nothing is left. The set-up of queue 1 comes some cycles before or after the
    look-up of the operation, which is of the same queue, or of the other one. There it makes no difference."""
    bench, looks, queue = make(depth=4, batch=2), 8, int(not other)
    dut, heads = bench.dut, bench.heads[0]
    port, payload = {"room": (dut.i_room, {"queue": queue, "want": 1}),
                     "push": (dut.i_push, {"queue": queue, "count": 1})}.get(
        operation, (dut.i_take[0], dict(zip(("op", "count"), OPERATIONS.get(operation, ())), queue=queue)))

    async def take_all(ctx, queue):
        heads.clear()
        while available(ctx, dut, queue):
            await take(ctx, bench, queue)
            await take(ctx, bench, queue, TakeOp.COMMIT)
        await ctx.tick().repeat(4)
        return ids(heads)

    async def meet(ctx, phase):
        for each in (0, 1):
            await set_up(ctx, bench, each)
            assert await ask(ctx, dut, each, 4) == 4
            await push(ctx, bench, each, 10, 11, 12)
            await write(ctx, bench, each, 0, 13)
            await take(ctx, bench, each)
            await take(ctx, bench, each, TakeOp.COMMIT)
            await take(ctx, bench, each)
        await ctx.tick().repeat(4)
        heads.clear()
        served = granted = None
        ctx.set(port.payload, payload)
        ctx.set(dut.setup.queue, 1)
        for now in range(20):
            ctx.set(port.valid, now >= looks and served is None)
            ctx.set(dut.setup_valid, now == looks + phase)
            _, _, ready, grant = await ctx.tick().sample(port.ready, dut.grant)
            if now >= looks and served is None and ready:
                served, granted = now, grant
        after, takes = not other and (served is None or served > looks + phase), operation in ("take", "join", "keep")
        assert other or served != looks + phase
        # A chain that is taken before the set-up is on its way; a TAKE after it waits for the first chain of the new life.
        assert (served is None) == (after and takes)
        assert ids(heads) == ([(queue, 12)] if takes and not after else [])
        assert not available(ctx, dut, 1)
        reserved = granted if after and operation == "room" else 0
        assert await ask(ctx, dut, 1, 4 - reserved) == 4 - reserved
        assert await ask(ctx, dut, 1, 1) == 0 and not available(ctx, dut, 1)
        bench.ends[1] = 0
        await push(ctx, bench, 1, 20)
        if served is None:
            await bench.until(ctx, lambda: heads)
            ctx.set(port.valid, 0)
            assert ids(heads) == [(1, 20)]
            await take(ctx, bench, 1, TakeOp.REWIND)
        await push(ctx, bench, 1, 21, 22, 23)
        kept = served is None and operation == "keep"
        assert await take_all(ctx, 1) == [(1, k) for k in range(20 + kept, 24)]
        # The other queue goes on where it was.
        await take(ctx, bench, 0, TakeOp.REWIND)
        done = operation if other else None
        left = {"push": [11, 12, 13], "commit": [12], "join": [12], "keep": []}.get(done, [11, 12])
        assert await take_all(ctx, 0) == [(0, k) for k in left]

    async def testbench(ctx):
        for phase in range(-4, 6):
            await meet(ctx, phase)
    bench.run(testbench)


def test_take_commit_and_rewind(make):
    bench = make()

    async def testbench(ctx):
        dut = bench.dut
        assert await ask(ctx, dut, 1, 4) == 4
        assert not available(ctx, dut, 1)
        await push(ctx, bench, 1, 10, 11, 12)
        assert available(ctx, dut, 1) and not available(ctx, dut, 0)
        await take(ctx, bench, 1)
        await take(ctx, bench, 1, TakeOp.COMMIT)
        for _ in range(2):
            await take(ctx, bench, 1)
            await take(ctx, bench, 1)
            assert not available(ctx, dut, 1)
            await take(ctx, bench, 1, TakeOp.REWIND)
            assert available(ctx, dut, 1)
        assert await ask(ctx, dut, 1, 1) == 1  # the committed one; those taken and given up still have their places
        assert await ask(ctx, dut, 1, 1) == 0
        await take(ctx, bench, 1)
        await take(ctx, bench, 1, TakeOp.COMMIT)
        await take(ctx, bench, 1, TakeOp.COMMIT)  # nothing more to keep
        await take(ctx, bench, 1, TakeOp.REWIND)
        await take(ctx, bench, 1)
        await ctx.tick().repeat(4)
        assert ids(bench.heads[0]) == [(1, k) for k in (10, 11, 12, 11, 12, 11, 12)]
    bench.run(testbench)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 8, 16, 0x100, ALL])
def test_commit_keeps_the_oldest(make, count):
    """The others may be taken back, and come again; of more than there are, there are as many as there are."""
    bench = make(depth=8, batch=1)

    async def testbench(ctx):
        dut, kept = bench.dut, min(count, 4)
        assert await ask(ctx, dut, 1, 8) == 8
        await push(ctx, bench, 1, *range(10, 18))
        await take(ctx, bench, 1, TakeOp.KEEP)
        for _ in range(4):
            await take(ctx, bench, 1)
        await take(ctx, bench, 1, TakeOp.COMMIT, count=count)
        assert await ask(ctx, dut, 1, 8) == 1 + kept          # theirs are the places that are free
        await take(ctx, bench, 1)                             # goes on where it was
        await take(ctx, bench, 1, TakeOp.REWIND)
        for _ in range(2):
            await take(ctx, bench, 1)
        await ctx.tick().repeat(4)
        assert ids(bench.heads[0]) == [(1, 10 + k) for k in (0, 1, 2, 3, 4, 5, 1 + kept, 2 + kept)]
    bench.run(testbench)


def test_a_take_commits_what_it_says_when_it_is_served(make):
    """One that waits for a chain has kept nothing yet, however long it waits."""
    bench = make()

    async def waits(ctx):
        await ctx.tick().repeat(30)
        await take(ctx, bench, 1, count=1)

    async def testbench(ctx):
        dut = bench.dut
        assert await ask(ctx, dut, 1, 4) == 4
        await push(ctx, bench, 1, 10, 11)
        for _ in range(2):
            await take(ctx, bench, 1)
        await ctx.tick().repeat(40)
        assert await ask(ctx, dut, 1, 1) == 0
        await push(ctx, bench, 1, 12)
        await ctx.tick().repeat(4)
        assert await ask(ctx, dut, 1, 2) == 0 and await ask(ctx, dut, 1, 1) == 1
        await take(ctx, bench, 1, TakeOp.REWIND)
        for _ in range(2):
            await take(ctx, bench, 1)
        await ctx.tick().repeat(4)
        assert ids(bench.heads[0]) == [(1, k) for k in (10, 11, 12, 11, 12)]
    bench.run(testbench, waits)


def test_keep_is_take_and_commit(make):
    """Also of what was taken before: none of it comes again, and the places of all are free."""
    bench = make()

    async def testbench(ctx):
        dut = bench.dut
        assert await ask(ctx, dut, 1, 4) == 4
        await push(ctx, bench, 1, 10, 11, 12, 13)
        await take(ctx, bench, 1)
        await take(ctx, bench, 1, TakeOp.KEEP)
        await take(ctx, bench, 1, TakeOp.REWIND)
        await take(ctx, bench, 1, TakeOp.KEEP)
        await take(ctx, bench, 1, TakeOp.REWIND)
        assert await ask(ctx, dut, 1, 3) == 3
        assert await ask(ctx, dut, 1, 1) == 0
        await take(ctx, bench, 1, TakeOp.KEEP)
        assert not available(ctx, dut, 1)
        await ctx.tick().repeat(4)
        assert ids(bench.heads[0]) == [(1, k) for k in (10, 11, 12, 13)]
    bench.run(testbench)


def test_a_push_offers_what_was_written_in_any_order(make):
    """One of any size, up to the depth, and round its end; what lies behind it is written over."""
    bench = make(depth=8, batch=1)

    async def testbench(ctx):
        dut, ident, expected = bench.dut, 100, []
        for count in (1, 3, 8, 5, 2, 7, 8):
            assert await ask(ctx, dut, 1, count) == count
            for place in reversed(range(count)):
                await write(ctx, bench, 1, place, ident)         # of a run that failed
                await write(ctx, bench, 1, place, ident + place)
            assert not available(ctx, dut, 1)
            await bench.send(ctx, dut.i_push, {"queue": 1, "count": count})
            bench.ends[1] += count
            for _ in range(count):
                await take(ctx, bench, 1, TakeOp.KEEP)
            expected += [(1, ident + place) for place in range(count)]
            ident += count
            await ctx.tick().repeat(4)
            assert ids(bench.heads[0]) == expected and not available(ctx, dut, 1)
    bench.run(testbench)


@pytest.mark.parametrize("reserved", range(5))
def test_a_push_of_more_than_is_reserved_vanishes_whole(make, reserved):
    """2.6.1.1.1: it is of the queue's former life."""
    bench = make(num_queues=2, depth=8, batch=1)

    async def testbench(ctx):
        dut = bench.dut
        for queue in (0, 1):
            assert await ask(ctx, dut, queue, 4) == 4
            await push(ctx, bench, queue, 10, 11)
        await set_up(ctx, bench, 1)
        assert not reserved or await ask(ctx, dut, 1, reserved) == reserved
        for count in range(reserved + 1, 9):
            await bench.send(ctx, dut.i_push, {"queue": 1, "count": count})
            assert not available(ctx, dut, 1)
        await push(ctx, bench, 1, *range(20, 20 + reserved))
        await bench.send(ctx, dut.i_push, {"queue": 1, "count": 1})
        while available(ctx, dut, 1):
            await take(ctx, bench, 1)
        await ctx.tick().repeat(4)
        assert ids(bench.heads[0]) == [(1, 20 + k) for k in range(reserved)]
    bench.run(testbench)


@pytest.mark.parametrize("gap", range(1, 5))
def test_writes_beside_takes(make, gap):
    """A head is written in every cycle, of either queue, whatever is read."""
    bench = make(num_queues=2, depth=8, batch=1)
    stop = []

    async def writes(ctx):
        """Over places of either queue that are reserved and never pushed."""
        port = bench.dut.write
        await bench.until(ctx, lambda: stop)
        ctx.set(port.head, head(999))
        ctx.set(port.valid, 1)
        for now in range(120):
            ctx.set(port.queue, now & 1)
            ctx.set(port.place, 6 + (now >> 1 & 1))
            await ctx.tick()

    async def testbench(ctx):
        for queue in (0, 1):
            assert await ask(ctx, bench.dut, queue, 8) == 8
            await push(ctx, bench, queue, *range(6))
        stop.append(True)
        for k in range(6):
            for queue in (0, 1):
                await take(ctx, bench, queue)
                await ctx.tick().repeat(gap)
        await ctx.tick().repeat(4)
        assert ids(bench.heads[0]) == [(queue, k) for k in range(6) for queue in (0, 1)]
    bench.run(testbench, writes)


def test_room_is_told_of_when_a_request_for_it_would_be_granted(make):
    bench = make(depth=8, batch=4)

    async def testbench(ctx):
        async def frees(op=TakeOp.KEEP):
            before = len(bench.freed)
            await take(ctx, bench, 1, op)
            await ctx.tick().repeat(2)
            assert bench.freed[before:] in ([], [1])
            return len(bench.freed) > before

        dut = bench.dut
        assert await ask(ctx, dut, 1, 8) == 8
        await push(ctx, bench, 1, *range(8))
        assert not await frees()                  # nobody was refused
        assert await ask(ctx, dut, 1, 8) == 0
        assert [await frees() for _ in range(3)] == [False, False, True]
        assert await ask(ctx, dut, 1, 2) == 2     # two are left
        assert await ask(ctx, dut, 1, 3) == 0
        assert [await frees(op) for op in (TakeOp.TAKE, TakeOp.REWIND, TakeOp.TAKE, TakeOp.COMMIT)] == [False] * 3 + [True]
        assert await ask(ctx, dut, 1, 3) == 3
        assert not await frees()                  # granted
        assert not await ask(ctx, dut, 1, 2)
        assert await ask(ctx, dut, 0, 8) == 8     # of the other queue nothing is told
        assert await frees()
    bench.run(testbench)


def served(bench, ports, queue):
    """Offer all of these streams something of ``queue`` in each of 40 cycles; return of each when it was served."""
    at = [[] for _ in ports]

    async def testbench(ctx):
        await ask(ctx, bench.dut, queue, 1)
        for port in ports:
            ctx.set(port.p.queue, queue)
            if hasattr(port.p, "op"):
                ctx.set(port.p.op, TakeOp.COMMIT)
            elif port is bench.dut.i_push:
                ctx.set(port.p.count, 1)
            ctx.set(port.valid, 1)
        for now in range(40):
            for k, ready in enumerate((await ctx.tick().sample(*[port.ready for port in ports]))[2:]):
                if ready:
                    at[k].append(now)
    bench.run(testbench)
    return at


def test_one_operation_a_cycle_in_turn(make):
    """The same queue in each cycle."""
    bench = make(ports=2)
    dut = bench.dut
    at = served(bench, [dut.i_room, dut.i_push, *dut.i_take], 1)
    assert sorted(sum(at, [])) == [*range(1, 40)]
    assert max(map(len, at)) - min(map(len, at)) <= 1


def test_a_requester_that_is_alone_is_served_every_second_cycle(make):
    bench = make()
    at, = served(bench, [bench.dut.i_push], 1)
    assert at == [*range(1, 40, 2)]


@pytest.mark.parametrize("soon, cycles", [(0, 3), (1, 2)])
@pytest.mark.parametrize("ports", [1, 2])
def test_a_head_comes_every_second_or_third_cycle(make, ports, soon, cycles):
    """Of all ports together, in turn."""
    bench = make(num_queues=2, ports=ports, depth=16, batch=1)
    came = []

    async def watch(ctx):
        async for _, _, valid, port in ctx.tick().sample(bench.dut.o_head.valid, bench.dut.o_head.p.port):
            came.append(port if valid else None)
    bench.background(watch)

    async def takes(ctx, port):
        for _ in range(12):
            await take(ctx, bench, port, port=port)

    async def testbench(ctx):
        ctx.set(bench.dut.soon, soon)
        for queue in range(ports):
            assert await ask(ctx, bench.dut, queue, 16) == 16
            await push(ctx, bench, queue, *range(16))
        bench.begin = True

    async def taker(ctx, port):
        await bench.until(ctx, lambda: hasattr(bench, "begin"))
        await takes(ctx, port)
        await ctx.tick().repeat(4)
    bench.run(testbench, *[partial(taker, port=port) for port in range(ports)])
    heads = [(now, port) for now, port in enumerate(came) if port is not None]
    assert {after - before for (before, _), (after, _) in zip(heads, heads[1:])} == {cycles}
    assert [port for _, port in heads] == [k % ports for k in range(12 * ports)]


def test_blocked_port_does_not_stop_others(make):
    """The walker has no room for one port: its takes wait, rooms, pushes and the other port go on."""
    bench = make(ports=2)

    async def stuck(ctx):
        ctx.set(bench.dut.room, 0b10)
        assert await ask(ctx, bench.dut, 0, 2) == 2
        await push(ctx, bench, 0, 1, 2)
        await take(ctx, bench, 0)
        await take(ctx, bench, 0)
        await ctx.tick().repeat(10)
        assert ids(bench.heads[0]) == [(0, 1), (0, 2)]

    async def others(ctx):
        await ctx.tick().repeat(30)
        for k in range(6):
            assert await ask(ctx, bench.dut, 1, 1) == 1
            await push(ctx, bench, 1, 50 + k)
            await take(ctx, bench, 1, port=1)
            await take(ctx, bench, 1, TakeOp.COMMIT, port=1)
        assert ids(bench.heads[1]) == [(1, 50 + k) for k in range(6)] and bench.heads[0] == []
        ctx.set(bench.dut.room, 0b11)
    bench.run(stuck, others)


def test_device_that_holds_all_gets_what_is_left(make):
    """Chains that are taken and not committed fill the store; the device wants more before it commits."""
    bench = make(depth=8, batch=4)

    async def run(ctx):
        assert await ask(ctx, bench.dut, 0, 6) == 6
        await push(ctx, bench, 0, *range(6))
        for _ in range(5):
            await take(ctx, bench, 0)
        assert await ask(ctx, bench.dut, 0, 4) == 0 and bench.freed == []
        await take(ctx, bench, 0)
        await ctx.tick()
        assert bench.freed == [0]      # worth asking again
        assert await ask(ctx, bench.dut, 0, 4) == 2
        await push(ctx, bench, 0, 6, 7)
        await take(ctx, bench, 0)
        await take(ctx, bench, 0)
        assert await ask(ctx, bench.dut, 0, 4) == 0
    bench.run(run)
    assert ids(bench.heads[0]) == [(0, k) for k in range(8)]


@pytest.mark.parametrize("num_queues, ports, depth, batch", [(1, 1, 2, 1), (2, 2, 4, 2), (5, 2, 8, 3)])
def test_random(make, rng, num_queues, ports, depth, batch):
    """Against lists: a port has queues of its own; room is asked for and filled in between."""
    bench = make(num_queues=num_queues, ports=ports, depth=depth, batch=batch, pause=0.2)
    dut, total = bench.dut, 60
    queues = range(num_queues)
    pushed, taken, committed, kept = ([0] * num_queues for _ in range(4))  # kept: whose COMMIT has been served
    reserved, to_push = [0] * num_queues, []
    expected = [[] for _ in range(ports)]
    running = set(range(ports))

    async def fetch(ctx):
        while running:
            queue, want = rng.randrange(num_queues), rng.randint(1, depth)
            low = kept[queue]  # a COMMIT may come in while the request waits
            before = taken[queue]
            granted = await ask(ctx, dut, queue, want)
            # A TAKE that is being served may have taken the last, in either case.
            all_taken = max(before, taken[queue]) + 1 >= reserved[queue]
            assert granted in [want if want <= free else some
                               for free in (depth - reserved[queue] + k for k in range(low, committed[queue] + 1))
                               for some in ([free] if free >= batch else [0, free] if all_taken else [0])]
            reserved[queue] += granted
            to_push.extend([queue] * granted)

    async def fill(ctx):
        while running:
            if to_push:
                queue = to_push.pop(0)
                await push(ctx, bench, queue, queue << 12 | pushed[queue])
                pushed[queue] += 1
            else:
                await ctx.tick()

    def device(port):
        async def run(ctx):
            mine = [queue for queue in queues if queue % ports == port]
            for _ in range(total):
                queue = rng.choice(mine)
                if available(ctx, dut, queue) and rng.random() < 0.7:
                    expected[port].append((queue, queue << 12 | taken[queue]))
                    op, count = rng.choice([(TakeOp.KEEP, 0), (TakeOp.TAKE, 0), (TakeOp.TAKE, rng.randrange(depth + 1))])
                    keeps = taken[queue] + 1 if op == TakeOp.KEEP else min(taken[queue], committed[queue] + count)
                    committed[queue] = max(committed[queue], keeps)
                    await take(ctx, bench, queue, op, port, count)
                    kept[queue] = committed[queue]
                    taken[queue] += 1
                elif rng.random() < 0.7:
                    count = rng.choice([rng.randrange(taken[queue] - committed[queue] + 1), ALL])
                    committed[queue] = min(taken[queue], committed[queue] + count)
                    await take(ctx, bench, queue, TakeOp.COMMIT, port, count)
                    kept[queue] = committed[queue]
                else:
                    await take(ctx, bench, queue, TakeOp.REWIND, port)
                    taken[queue] = committed[queue]
            await ctx.tick().repeat(20)
            running.discard(port)
        return run
    bench.run(fetch, fill, *[device(port) for port in range(ports)])
    assert [ids(heads) for heads in bench.heads] == expected
    assert sum(map(len, expected)) > total // 4


@pytest.mark.parametrize("soon", [0, 1])
@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("ports", [2, 3])
def test_ports_take_in_turn_whatever_is_pushed(ports, gap, soon):
    """A port that always wants a chain waits for one TAKE of each other port, and not for as long as pushes come."""
    dut, waits, taken = HeadStore(num_queues=ports + 1, ports=ports, depth=64, batch=16), [0] * ports, [0] * ports
    bench, begun = Simulation(dut, watch_busy=False), []

    async def fill(ctx, queue):
        await streams.send(ctx, dut.i_room, {"queue": queue, "want": 64})
        for _ in range(64):
            await streams.send(ctx, dut.i_push, {"queue": queue, "count": 1})

    async def main(ctx):
        ctx.set(dut.soon, soon)
        ctx.set(dut.o_head.ready, 1)
        for queue in range(ports + 1):
            ctx.set(dut.setup, {"queue": queue, "size": 64})
            await streams.pulse(ctx, dut.setup_valid)
        for queue in range(ports):
            await fill(ctx, queue)
        begun.append(True)
        await ctx.tick().repeat(150)
        assert min(taken) > 10 and max(taken) <= min(taken) + 2 and max(waits) <= 8 * ports

    async def take(ctx, port):
        stream = dut.i_take[port]
        while True:
            while not begun or not ctx.get(dut.available) >> port & 1:
                await ctx.tick()
            ctx.set(stream.p, {"op": TakeOp.TAKE, "queue": port, "count": 1})
            ctx.set(stream.valid, 1)
            waited, moved = 0, False
            while not moved:
                _, _, moved = await ctx.tick().sample(stream.ready)
                waited += 1
            ctx.set(stream.valid, 0)
            taken[port], waits[port] = taken[port] + 1, max(waits[port], waited)
            for _ in range(gap):
                await ctx.tick()

    async def push(ctx):
        while True:
            await (streams.send(ctx, dut.i_push, {"queue": ports, "count": 1}) if begun else ctx.tick())   # one that vanishes

    for port in range(ports):
        bench.background(take, port)
    bench.background(push)
    bench.run(main)
