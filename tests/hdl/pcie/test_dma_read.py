"""Reads: cut, asked for by tag, put together again whatever the host answers."""

from functools import partial

import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.pcie.dma_read import Reader

from ...kit import streams

AREAS = (Area.DESC, Area.DRIVER, Area.DEVICE)


@pytest.mark.parametrize("width", [32, 64, 128])
def test_read_alignments(host, width):
    card = host(width, part=Reader)
    requests = [(0x1000 + 0x40 * offset + offset, length) for offset in range(9) for length in range(1, 36, 3)]
    card.run(*card.reading(requests, [(0x1_0000_0000 + a, n) for a, n in requests]))


@pytest.mark.parametrize("mrrs", [0, 1, 2, 5])
def test_read_cuts(host, mrrs):
    card = host(64, mrrs=mrrs, part=Reader)
    card.run(*card.reading([(0xffd, 4), (0xf83, 3000), (0xffff_fff1, 100), (0x10, 512), (0x1ff, 514)]))


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("hold", [False, True])
def test_read_random(host, width, hold):
    card = host(width, seed=width, hold=hold, mrrs=2, part=Reader)

    def pick():
        return card.rng.randrange(1 << 33), card.rng.choice([1, 2, 4, 16, 76, 300, 1000, card.rng.randrange(1, 600)])
    card.run(*card.reading([pick() for _ in range(25)], [pick() for _ in range(25)]))
    assert card.events["dma_read_tlps"] == len(card.log)
    assert not any(card.events[name] for name in card.events if name != "dma_read_tlps")


def test_read_after_read(host):
    """The second is asked for at every moment of the first, the last one being that in which its slot is given up."""
    card = host(64, part=Reader)
    requests = [(0x1000 + 16 * k, 4) for k in range(80)]

    async def ask(ctx):
        for delay in range(40):
            await card.ask(ctx, 0, requests[2 * delay:][:1])
            for _ in range(delay):
                await ctx.tick()
            await card.ask(ctx, 0, requests[2 * delay + 1:][:1])
            await ctx.tick().repeat(60)

    async def check(ctx):
        await card.read(ctx, 0, requests)
    card.run(ask, check, limit=10_000)


def test_read_longest(host):
    card = host(256, part=Reader)
    card.run(*card.reading([(0x12345, 65535)]))


@pytest.mark.parametrize("tags, ext_tag, most", [(2, 1, 2), (32, 0, 32), (32, 1, 32), (64, 0, 32), (64, 1, 64), (256, 1, 256)])
def test_tags(host, tags, ext_tag, most):
    """2.2.6.2: without Extended Tag Field Enable the upper three bits are 0; of a tag there is one request at a time."""
    card, wanted = host(64, tags=tags, part=Reader), [(0x1000 + 16 * k, 4) for k in range(most + 3)]
    card.answer = False

    async def ask(ctx):
        ctx.set(card.dut.ext_tag, ext_tag)
        await card.ask(ctx, 0, wanted)

    async def check(ctx):
        await ctx.tick().repeat(10 * most + 100)
        assert sorted(entry[5] for entry in card.log) == list(range(most))
        card.answer = True
        await card.read(ctx, 0, wanted)
    card.run(ask, check)


def test_extended_tags_end_at_once(host):
    """Where the next one would be above 31, too (2.2.6.2)."""
    card = host(64, tags=64, part=Reader)

    async def bench(ctx):
        for extended, count in ((1, 40), (0, 3)):
            ctx.set(card.dut.ext_tag, extended)
            await ctx.tick().repeat(3)
            for k in range(count):
                await card.ask(ctx, 0, [(0x1000 + 64 * k, 16)])
                await card.read(ctx, 0, [(0x1000 + 64 * k, 16)])
    card.run(bench)
    assert [entry[5] for entry in card.log] == [*range(40), 0, 1, 2]


@pytest.mark.parametrize("width,limit", [(64, 1.15), (128, 1.3)])
def test_read_rate(host, width, limit):
    card = host(width, rcb=4096, part=Reader)
    out = []

    async def check(ctx):
        out.extend(await card.read(ctx, 0, [(0x10000 + 512 * k, 512) for k in range(40)]))

    async def ask(ctx):
        await card.ask(ctx, 0, [(0x10000 + 512 * k, 512) for k in range(40)])
    card.run(ask, check)
    assert out[-1][2] - out[9][2] < 30 * 512 * 8 / width * limit


@pytest.mark.parametrize("kind", ["ur", "ca", "crs", "poison", "count", "overflow", "short", "nodata"])
@pytest.mark.parametrize("width", [64, 128])
def test_read_error(host, kind, width):
    card = host(width, rcb=64, mrrs=0, part=Reader)
    bad = {1}
    seen = []

    def change(tlps, tag):
        seen.append(tag)
        if len(seen) - 1 not in bad:
            return tlps
        head = tlps[-1]
        if kind in ("ur", "ca", "crs"):
            status = {"ur": 1, "crs": 2, "ca": 4}[kind]
            return tlps[:-1] + [card.completion(tag, 0, 4, 0, None, status=status)]
        if kind == "nodata":
            return [card.completion(tag, 0, 128, 0, None)]
        if kind == "poison":
            return tlps[:-1] + [head[:2] + bytes([head[2] | 0x40]) + head[3:]]
        if kind == "count":
            return [tlps[0][:7] + bytes([tlps[0][7] ^ 4]) + tlps[0][8:]]
        if kind == "overflow":
            return [card.completion(tag, 200, 128, 0, bytes(800))]
        return tlps[:-1] + [head[:-4]]
    card.change = change

    async def ask(ctx):
        await card.ask(ctx, 0, [(0x1000, 300), (0x3000, 128)])

    async def check(ctx):
        first, second = await card.answers(ctx, 0, 2)
        assert first[1] and not second[1]
        assert second[0] == bytes(card.byte(0x3000 + k) for k in range(128))
        await ctx.tick().repeat(4)
    card.run(ask, check)
    assert card.events["dma_read_errors"] == 1
    assert card.events["tlps_malformed"] == (kind == "short")
    assert card.events["cpl_unexpected"] == (kind in ("count", "overflow", "nodata"))


def test_timeout_and_late(host):
    card = host(64, timeout_cycles=640, tags=2, part=Reader)
    lost = []

    def change(tlps, tag):
        if not lost:
            lost.extend([tlps, tag])
            return []
        return tlps
    card.change = change

    async def bench(ctx):
        await card.ask(ctx, 0, [(0x1000, 64)])
        (got, error, when), = await card.answers(ctx, 0, 1)
        assert error and got == b"" and 640 <= when <= 970
        # The number lost is not used again until its late answer.
        card.pending.clear()
        for k in range(4):
            await card.ask(ctx, 1, [(0x2000 + 64 * k, 64)])
            await card.read(ctx, 1, [(0x2000 + 64 * k, 64)])
            assert card.log[-1][5] != lost[1]
        card.pending.append((list(lost[0]), lost[1]))
        await ctx.tick().repeat(40)
        for k in range(2):
            await card.ask(ctx, 1, [(0x2000 + 64 * k, 64)])
            await card.read(ctx, 1, [(0x2000 + 64 * k, 64)])
        assert {entry[5] for entry in card.log[-2:]} == {0, 1}
    card.run(bench)
    assert card.events["dma_timeouts"] == 1 and card.events["cpl_unexpected"] == 1


def test_a_read_that_has_not_left_grows_no_older(host):
    """2.8: the time begins with the transmission. Else its tag would be given away, and two requests have it on the link."""
    card, held = host(64, timeout_cycles=640, tags=4, part=Reader), [True]
    card.idle, card.answer = lambda: held[0], False

    async def bench(ctx):
        ctx.set(card.dut.stalled, 1)
        await streams.send(ctx, card.dut.reads[0].req, {"addr": 0x1000, "len": 64})
        await ctx.tick().repeat(5000)
        assert not card.events["dma_timeouts"] and ctx.get(card.dut.pending)
        held[0] = False
        ctx.set(card.dut.stalled, 0)
        await ctx.tick().repeat(300)
        assert not card.events["dma_timeouts"]
        card.answer = True
        await card.read(ctx, 0, [(0x1000, 64)])
        card.change = lambda tlps, tag: []
        await card.ask(ctx, 0, [(0x2000, 64)])
        (got, error, when), = await card.answers(ctx, 0, 1)
        assert error and got == b""
    card.run(bench)
    assert card.events["dma_timeouts"] == 1


def test_a_link_that_stalls_now_and_then_delays_no_timeout(host):
    card = host(64, timeout_cycles=640, tags=2, part=Reader)
    card.change = lambda tlps, tag: []

    async def stall(ctx):
        while True:
            ctx.set(card.dut.stalled, card.rng.random() < 0.9)
            await ctx.tick()

    async def bench(ctx):
        await card.ask(ctx, 0, [(0x1000, 64)])
        (got, error, when), = await card.answers(ctx, 0, 1)
        assert error and 640 <= when <= 970
    card.run(bench, background=[stall])


def test_timeout_disable(host):
    """A completion is waited for as long as nobody wants a reset; what is not issued is not pending."""
    # Nobody takes the answer of the read that the stop cuts short.
    card = host(64, timeout_cycles=640, tags=2, part=Reader, watch_busy=False)
    card.change = lambda tlps, tag: []

    async def bench(ctx):
        dut = card.dut
        ctx.set(dut.timeout_disable, 1)
        ctx.set(dut.bus_master, 0)
        await card.ask(ctx, 0, [(0x1000, 64)])
        await ctx.tick().repeat(20)
        assert ctx.get(dut.busy) and not ctx.get(dut.pending)
        ctx.set(dut.bus_master, 1)
        await ctx.tick().repeat(3000)
        assert ctx.get(dut.pending) and not card.events["dma_timeouts"]
        ctx.set(dut.stop, 1)
        await ctx.tick().repeat(2 * 970)
        assert not ctx.get(dut.busy) and not ctx.get(dut.pending)
    card.run(bench)
    assert card.events["dma_timeouts"] == 1


def test_unexpected(host):
    card = host(64, part=Reader)
    card.pending = [([card.completion(tag, 1, 4, 0, b"\xee" * 4, **changes)], tag)
                    for tag, changes in ((7, {}), (0, {"rid": 1}), (200, {}))]

    async def bench(ctx):
        await ctx.tick().repeat(40)
        await card.ask(ctx, 0, [(0x1001, 2)])
        await card.read(ctx, 0, [(0x1001, 2)])
    card.run(bench)
    assert card.events["cpl_unexpected"] == 3


@pytest.mark.parametrize("headers", [9, 24, 72])
def test_completions_on_their_way_are_bounded(host, headers):
    """By what the buffer in front holds, though some reads are answered too late; and all of it is used.

    A read may be answered with one completion for each block of 64 bytes that it touches (2.3.1.1).
    """
    card = host(64, seed=headers, mrrs=2, tags=16, cpl_headers=headers, timeout_cycles=2000, part=Reader)
    owed, most, losses, lost = {}, 0, 0, []

    def change(tlps, tag):
        nonlocal losses
        if losses < 2 and len(card.log) % 8 == 7:
            losses += 1
            lost.append((tlps, tag))
            return []
        return tlps

    async def watch(ctx):
        nonlocal most
        seen = 0
        while True:
            await ctx.tick()
            # Answers come when the card has asked for all that it may.
            card.answer = bool(card.log) and card.cycle > card.log[-1][-1] + 25
            for _, addr, length, *_, tag, _ in card.log[seen:]:
                owed[tag] = (addr + 4 * length - 1) // 64 - addr // 64 + 1
            seen = len(card.log)
            card.pending[:] = [answer for answer in card.pending if answer[0]]
            waiting = {tag for _, tag in card.pending} | {tag for _, tag in lost}
            total = sum(owed[tag] for tag in waiting)
            assert total <= headers
            most = max(most, total)

    async def late(ctx):
        """What was lost comes after its timeout, while others are in flight."""
        while True:
            await ctx.tick()
            if lost and card.events["dma_timeouts"] > losses - len(lost):
                card.pending.append(lost.pop(0))

    def pick():
        return card.rng.randrange(1 << 33), card.rng.choice([16, 64, 300, 512, 1000])
    requests = [[pick() for _ in range(15)] for _ in range(2)]

    async def ask(ctx, client):
        await card.ask(ctx, client, requests[client])

    async def check(ctx, client):
        for (addr, length), (got, error, _) in zip(requests[client], await card.read(ctx, client, requests[client], check=False)):
            assert error or got == bytes(card.byte(addr + k) for k in range(length))
    card.change = change
    card.run(*(partial(step, client=client) for client in range(2) for step in (ask, check)), background=(watch, late))
    assert most > headers - 9 and card.events["dma_timeouts"] == 2


@pytest.mark.parametrize("width", [32, 64, 256])
def test_reads_count_from_where_their_area_begins(host, width, rng):
    """Carries from the low bits on, cuts at 4 KiB boundaries of host memory and not of the area, both formats of the header."""
    bases = {(queue, area): rng.choice([0, 0xffff_f000, 0xffff_ffff_f000, rng.getrandbits(50) << 12]) + rng.choice(
        [0, 2, 0xffc, rng.randrange(4096)]) for queue in range(5) for area in AREAS}
    card, asked = host(width, part=Reader, num_queues=5, hold=True, seed=width), []
    for _ in range(120):
        addr, length = rng.choice([0, 4, 0xffff, rng.randrange(1 << 20)]), rng.choice([1, 2, 16, rng.randrange(1, 700)])
        queue, area = rng.randrange(5), rng.choice((Area.NONE, *AREAS))
        asked.append(({"addr": addr, "len": length, "queue": queue, "area": area}, (addr + bases.get((queue, area), 0), length)))

    async def main(ctx):
        for (queue, area), addr in bases.items():
            ctx.set(card.dut.areas.p, {"queue": queue, "area": area, "addr": addr})
            await streams.pulse(ctx, card.dut.areas.valid)
        await ctx.tick()
        for request, _ in asked:
            await streams.send(ctx, card.dut.reads[1].req, request, card.idle)

    async def check(ctx):
        await card.read(ctx, 1, [place for _, place in asked])
    card.run(main, check)


@pytest.mark.parametrize("kwargs,message", [
    (dict(width=48), "Width must be 32 times a power of 2, not 48"),
    (dict(width=16), "Width must be 32 times a power of 2, not 16"),
    (dict(clients=0), "Reader needs at least one client, not 0"),
    (dict(tags=24), "Number of tags must be a power of 2 from 2 to 256, not 24"),
    (dict(tags=1), "Number of tags must be a power of 2 from 2 to 256, not 1"),
    (dict(slot_bytes=64), "Slot must be a power of 2 from 128 to 4096 bytes, not 64"),
    (dict(slot_bytes=8192), "Slot must be a power of 2 from 128 to 4096 bytes, not 8192"),
    (dict(cpl_headers=8), "Number of completion headers must be at least 9, not 8"),
    (dict(timeout_cycles=63), "Timeout must be at least 64 cycles, not 63"),
])
def test_constructor(kwargs, message):
    with pytest.raises(ValueError) as caught:
        Reader(**(dict(width=64, clients=1) | kwargs))
    assert str(caught.value) == message
