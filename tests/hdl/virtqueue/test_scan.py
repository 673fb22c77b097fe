"""Descriptors of a packed ring, judged: against a model that says the rules in another way."""

import struct

import pytest

from ringnic.hdl.virtqueue.heads import NO_ADDRESS
from ringnic.hdl.virtqueue.scan import Scan

from ...kit.heads import WithHeads

NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15


def judge(fetch, descriptors):
    """Return ``(heads, result)``: what may be taken of ``(addr, len, id, flags)``, and where the ring goes on."""
    mine = (AVAIL, USED)[fetch["flip"]]
    there = [flags & (AVAIL | USED) == mine for *_, flags in descriptors]
    heads, at, chain, start = [], 0, fetch["chain"], fetch["start"]
    begin = -chain                                 # of the chain, in descriptors of this read; what came before is sure
    failed = again = False
    while at < len(descriptors):
        addr, length, ident, flags = descriptors[at]
        if not there[at]:
            if chain and not (begin < 0 or begin < fetch["sure"]):
                at, chain, again = begin, 0, True
            elif chain:
                failed = True
            break
        if flags & NEXT:
            if not chain:
                begin, start = at, fetch["slot"] + at
            chain, at = chain + 1, at + 1
            if chain == fetch["size"]:
                failed = True
                break
        elif chain:
            heads.append((ident, None, None, NEXT, start, chain + 1))
            chain, at = 0, at + 1
        elif at < fetch["sure"] or (fetch["marked"] and addr != NO_ADDRESS):
            heads.append((ident, addr, length, flags & 7, None, 1))
            at += 1
        else:
            again = True
            break
    sure = 0
    if again:
        while at + sure < len(descriptors) and there[at + sure]:
            sure += 1
    slot = fetch["slot"] + at
    wraps = slot == fetch["size"]
    return heads, {"slot": 0 if wraps else slot, "flip": fetch["flip"] ^ wraps, "chain": chain, "sure": sure,
                   "pushed": len(heads), "whole": int(at == len(descriptors)), "full": int(all(there)), "failed": int(failed),
                   "start": start if chain else None}


def scan(width):
    return WithHeads(Scan(num_queues=8, max_batch=8, depth=128), width=width, num_queues=8)


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_random(stage, rng, width, pause):
    dut = scan(width)
    bench = stage(dut, pause=pause, limit=60000)
    heads, results = bench.collect(dut.o), bench.collect(dut.o_result)
    cases = []
    for _ in range(120):
        size = rng.choice([3, 8, 100])
        count = rng.randint(1, min(size, 8))
        slot = rng.choice([0, size - count, rng.randrange(size - count + 1)])
        chain = rng.choice([0, 0, 0, rng.randrange(size)])
        flip = rng.getrandbits(1)
        fetch = {"queue": rng.getrandbits(3), "size": size, "slot": slot, "flip": flip, "chain": chain,
                 "start": (slot - chain) % size, "sure": rng.choice([0, 0, count, rng.randrange(count + 1)]),
                 "granted": rng.randint(count, 8), "pace": rng.randrange(9), "marked": rng.getrandbits(1)}
        mine, other = (AVAIL, USED)[flip], rng.choice([0, (USED, AVAIL)[flip], AVAIL | USED])
        end = rng.choice([count, count, rng.randrange(count + 1)])
        descriptors = [(rng.choice([NO_ADDRESS, rng.getrandbits(64), rng.getrandbits(64)]), rng.getrandbits(32),
                        rng.getrandbits(16), (mine if k < end else other)
                        | rng.choice([0, 0, 0, NEXT, NEXT, WRITE, INDIRECT, NEXT | INDIRECT])) for k in range(count)]
        cases.append((fetch, descriptors))

    async def feed(ctx):
        for fetch, _ in cases:
            await bench.send(ctx, dut.i, fetch)

    async def beats(ctx):
        lanes = width // 8
        for _, descriptors in cases:
            body = b"".join(struct.pack("<QIHH", *desc) for desc in descriptors)
            for at in range(0, len(body), lanes):
                part = body[at:at + lanes]
                await bench.send(ctx, dut.beat, {"data": int.from_bytes(part, "little"), "count": len(part),
                                                 "last": at + lanes >= len(body), "error": 0})
        await bench.until(ctx, lambda: len(results) == len(cases) and not ctx.get(dut.o.valid))
        await ctx.tick().repeat(20)
    bench.run(feed, beats)
    came = iter(heads)
    for (fetch, descriptors), result in zip(cases, results):
        wanted, told = judge(fetch, descriptors)
        for ident, addr, length, flags, start, count in wanted:
            push = next(came)
            head = push.head
            assert (push.queue, head.id, head.flags) == (fetch["queue"], ident, flags)
            if addr is None:
                assert (head.next, head.len) == (start, count)
            else:
                assert (head.addr, head.len) == (addr, length)
        assert result.queue == fetch["queue"] and result.failed == told["failed"]
        assert (result.granted, result.pace) == (fetch["granted"] - told["pushed"], fetch["pace"])
        if not told["failed"]:
            for name in ("slot", "flip", "chain", "sure", "whole", "full"):
                assert result[name] == told[name], name
            if told["chain"]:
                assert result.start == told["start"]
    assert next(came, None) is None


def test_read_that_fails(stage):
    dut = scan(64)
    bench = stage(dut)
    heads, results = bench.collect(dut.o), bench.collect(dut.o_result)

    async def testbench(ctx):
        ctx.set(dut.beat.p, {"data": 0, "count": 0, "last": 1, "error": 1})
        ctx.set(dut.beat.valid, 1)
        await ctx.tick()
        ctx.set(dut.beat.valid, 0)
        await bench.send(ctx, dut.i, {"size": 8, "sure": 8})
        await ctx.tick().repeat(5)
        assert heads == [] and [result.failed for result in results] == [1]
    bench.run(testbench)
