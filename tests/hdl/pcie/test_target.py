"""Target: memory and configuration requests and their completions."""

import random

import pytest

from ringnic.hdl.pcie.target import Target
from ringnic.hdl.spec.pcie import MsgCode

from ...kit import registers
from ...kit.simulation import Simulation, until
from ...kit.tlps import config as tlp_cfg, memory as tlp_mem, parse, put, take

BAR = 0xfe008000


class Bench:
    """Target on two dictionaries of DWs, with what it answered and what it accessed."""
    def __init__(self, width, *, seed=None, hold=False):
        self.dut, self.width, self.rng = Target(width=width), width, random.Random(seed) if seed is not None else None
        self.mem, self.cfg, self.log, self.out = {}, {}, [], []
        self.unsupported = self.malformed = self.turn_off = 0
        self.faults = []

    def idle(self):
        return self.rng is not None and self.rng.random() < 0.4

    async def feed(self, ctx, tlps):
        for tlp in tlps:
            await put(ctx, self.dut.i, tlp, self.width, self.idle)

    async def serve(self, ctx, port, name, store):
        await registers.serve(ctx, port, store, self.idle, lambda req: self.log.append(
            (name, req.addr, req.write, req.be, req.data if req.write else None)))

    async def count(self, ctx):
        dut = self.dut
        async for _, _, events, faults, turn_off in ctx.tick().sample(dut.events, dut.faults, dut.pme_turn_off):
            if faults.unsupported or faults.poisoned or faults.advisory:
                self.faults.append((faults.unsupported, faults.poisoned, faults.advisory))
            self.turn_off += turn_off
            self.unsupported += events.requests_unsupported
            self.malformed += events.tlps_malformed

    async def keep_id(self, ctx):
        while True:
            await ctx.tick()
            ctx.set(self.dut.completer_id, ctx.get(self.dut.captured))

    def run(self, tlps, *, memory_enable=1, bar0=BAR):
        dut = self.dut

        async def main(ctx):
            await self.feed(ctx, tlps)
            await ctx.tick()
            await until(ctx, lambda: not ctx.get(dut.busy), 100_000)
            await ctx.tick().repeat(3)
        simulation = Simulation(dut, limit=200_000, glue=[dut.bar_hit.eq(memory_enable & (dut.address >> 15 == bar0 >> 15))])
        simulation.background(self.serve, dut.regs, "reg", self.mem)
        simulation.background(self.serve, dut.cfg, "cfg", self.cfg)
        simulation.background(self.count)
        simulation.background(self.keep_id)
        simulation.background(take, dut.o, self.width, self.out.append, self.idle)
        simulation.run(main)
        return self.out


def cpl(tlp):
    came = parse(tlp)
    return dict(kind=came.kind, tc=came.tc, attr=came.attr, cid=came.cid, status=came.status, bc=came.byte_count, rid=came.rid,
                tag=came.tag, la=came.lower, data=came.data)


@pytest.fixture(params=[32, 64, 128, 256])
def width(request):
    return request.param


def test_write_then_read(width):
    b = Bench(width)
    out = b.run([tlp_mem(1, BAR + 0x10, 1, 0xf, 0, data=b"abcd"), tlp_mem(1, BAR + 0x14, 1, 0b0110, 0, data=b"efgh"),
                 tlp_mem(0, BAR + 0x10, 2, 0xf, 0xf, tag=9, rid=0x20, tc=5, attr=6),
                 tlp_mem(0, BAR + 0x14, 1, 2, 0, dw4=True, tag=10)])
    assert [cpl(t) for t in out] == [
        dict(kind=0x4a, tc=5, attr=6, cid=0, status=0, bc=8, rid=0x20, tag=9, la=0x10, data=b"abcd\0fg\0"),
        dict(kind=0x4a, tc=0, attr=0, cid=0, status=0, bc=1, rid=0x100, tag=10, la=0x15, data=b"\0fg\0")]
    assert b.unsupported == b.malformed == 0


def test_config(width):
    b = Bench(width)
    b.cfg[0] = 0x10411af4
    out = b.run([tlp_cfg(0, 0), tlp_cfg(1, 0x10, 0b1100, data=b"wxyz", tag=4, target=0x1218), tlp_cfg(0, 0xffc)])
    assert [(cpl(t)["kind"], cpl(t)["cid"], cpl(t)["tag"], cpl(t)["bc"], cpl(t)["data"]) for t in out] == [
        (0x4a, 0, 1, 4, bytes.fromhex("f41a4110")), (0x0a, 0x1218, 4, 4, b""), (0x4a, 0x1218, 1, 4, bytes(4))]
    assert b.log[1] == ("cfg", 0x10, 1, 0b1100, int.from_bytes(b"wxyz", "little"))


def test_refused(width):
    b = Bench(width)
    refused = [
        tlp_mem(0, BAR - 4, 1, 0xf, 0), tlp_mem(0, BAR + 0x8000, 1, 0xf, 0), tlp_mem(0, BAR + 0x7ffc, 2, 0xf, 0xf),
        tlp_mem(0, BAR | 1 << 32, 1, 0xf, 0, dw4=True),
        tlp_mem(0, BAR, 1, 0xf, 0, type=1),                       # locked
        tlp_mem(0, BAR, 1, 0xf, 0, type=2), tlp_mem(1, BAR, 1, 0xf, 0, type=2, data=bytes(4)),  # I/O
        tlp_mem(1, BAR, 2, 0, 0, type=0xc, data=bytes(8)),        # FetchAdd
        tlp_cfg(0, 0, type=5), tlp_cfg(1, 0, type=5, data=bytes(4)), tlp_cfg(0, 0, target=0x0509),
    ]
    posted = [tlp_mem(1, BAR - 4, 1, 0xf, 0, data=bytes(4)), tlp_mem(1, BAR, 1, 0xf, 0, data=bytes(4), ep=1)]
    out = [cpl(t) for t in b.run(posted + refused)]
    assert [c["status"] for c in out] == [1] * len(refused)
    assert [c["kind"] for c in out] == [0x0a] * 4 + [0x0b] + [0x0a] * 6
    assert b.unsupported == len(refused) + 2 and b.malformed == 0 and b.log == []
    assert b.faults == [(1, 0, 0), (0, 1, 0)] + [(1, 0, 1)] * len(refused)


def test_poisoned_configuration():
    b = Bench(64)
    poisoned = tlp_cfg(1, 0x3c, data=bytes(4))
    out = b.run([poisoned[:2] + bytes([poisoned[2] | 0x40]) + poisoned[3:]])
    assert [cpl(t)["status"] for t in out] == [1] and b.faults == [(0, 1, 1)] and b.log == []


@pytest.mark.parametrize("kind, size, count", [(0xc, 4, 4), (0xc, 8, 8), (0xd, 8, 8), (0xe, 8, 4), (0xe, 32, 16)])
def test_refused_atomic(kind, size, count):
    """Byte Count is the size of an operand."""
    out = Bench(64).run([tlp_mem(1, BAR, size // 4, 0, 0, type=kind, data=bytes(size))])
    assert [(cpl(t)["status"], cpl(t)["bc"], cpl(t)["la"]) for t in out] == [(1, count, 0)]


def test_memory_disabled():
    b = Bench(64)
    out = b.run([tlp_mem(1, BAR, 1, 0xf, 0, data=bytes(4)), tlp_mem(0, BAR + 5, 1, 0b0110, 0)], memory_enable=0)
    assert [(cpl(t)["status"], cpl(t)["bc"], cpl(t)["la"]) for t in out] == [(1, 2, 5)] and b.log == []


def test_messages_and_malformed(width):
    b = Bench(width)
    message = bytes.fromhex("34000000 01000050 00000000 00000000".replace(" ", ""))
    power = bytes.fromhex("74000001 01000050 00000000 00000000 00000019".replace(" ", ""))
    turn_off = bytes.fromhex("33000000 01000019 00000000 00000000".replace(" ", ""))
    assert b.run([message, power, turn_off, message]) == [] and b.malformed == 0 and b.turn_off == 1 and b.faults == []
    b = Bench(width)
    unknown = [message[:7] + bytes([code]) + message[8:] for code in (MsgCode.VENDOR_TYPE0, MsgCode.ASSERT_INTA, 0x12, 0xff)]
    known = [message[:7] + bytes([code]) + message[8:] for code in (MsgCode.VENDOR_TYPE1, MsgCode.UNLOCK, MsgCode.IGNORED_48)]
    assert b.run(unknown + known) == [] and b.unsupported == len(unknown) and b.faults == [(1, 0, 0)] * len(unknown)
    b = Bench(width)
    good = tlp_mem(0, BAR, 1, 0xf, 0)
    bad = [b"\x1f" + good[1:], tlp_cfg(0, 0)[:3] + b"\2" + tlp_cfg(0, 0)[4:]]
    assert len(b.run(bad + [good])) == 1 and b.malformed == len(bad) and b.unsupported == 0


def test_hold():
    dut = Target(width=64)

    async def main(ctx):
        ctx.set(dut.hold, 1)
        ctx.set(dut.i.payload, {"data": 0, "dws": 2, "last": 0})
        ctx.set(dut.i.valid, 1)
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(dut.i.ready) and not ctx.get(dut.busy)
        ctx.set(dut.hold, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.busy)
    Simulation(dut).run(main)


@pytest.mark.parametrize("width", [32, 64, 128])
def test_is_busy_until_its_answer_has_left(width):
    """A beat waits as it is for as long as nobody takes it."""
    b, stall, out = Bench(width), [1], []

    async def main(ctx):
        await b.feed(ctx, [tlp_cfg(0, 0)])
        seen = []
        for _ in range(20):
            await ctx.tick()
            seen.append((ctx.get(b.dut.o.valid), int(ctx.get(b.dut.o.payload.data)), ctx.get(b.dut.busy)))
        first = [valid for valid, *_ in seen].index(1)
        assert len(set(seen[first:])) == 1 and first < 10 and all(busy for *_, busy in seen)
        stall.clear()
        while not out:
            assert ctx.get(b.dut.busy)
            await ctx.tick()
        await ctx.tick()
        assert not ctx.get(b.dut.busy)
    simulation = Simulation(b.dut, limit=1000)
    simulation.background(b.serve, b.dut.cfg, "cfg", {0: 0x1041_1af4})
    simulation.background(take, b.dut.o, width, out.append, lambda: stall)
    simulation.run(main)
    assert [cpl(tlp)["data"] for tlp in out] == [0x1041_1af4.to_bytes(4, "little")]


def expect_read(mem, addr, length, fbe, lbe):
    """Completions to a legal read, from the bytes wanted (2.2.9)."""
    enabled = [bool((fbe if n == 0 else lbe if n == length - 1 else 15) >> k & 1) for n in range(length)
               for k in range(4)]
    start = enabled.index(True) if any(enabled) else 0
    stop = len(enabled) - enabled[::-1].index(True) if any(enabled) else 1
    base, found, at = addr & ~3, [], start
    while at < stop:
        end = min(((base + at) // 128 + 1) * 128 - base, stop)
        dws = range(at // 4, -(-end // 4))
        found.append((stop - at, (base + at) & 0x7f, [
            mem.get(base - BAR + 4 * n, 0) if any(enabled[4 * n:4 * n + 4]) else 0 for n in dws]))
        at = end
    return found


@pytest.mark.parametrize("width, seed", [(64, None), (64, 1), (128, 2), (32, 3)])
def test_random_reads(width, seed):
    rng = random.Random(100 + (seed or 0))
    b = Bench(width, seed=seed)
    b.mem = {a: rng.getrandbits(32) for a in range(0, 0x8000, 4)}
    tlps, expected = [], []
    cases = [(BAR + 4 * rng.randrange(64), 1, fbe, 0) for fbe in range(16)]
    cases += [(BAR + 4 * rng.randrange(64), rng.randint(2, 40), f, t) for f in (1, 2, 4, 8, 15) for t in (1, 3, 7, 8)]
    cases += [(BAR, 256, 0xf, 0xf)] if seed is None else []
    for addr, length, fbe, lbe in cases:
        tlps.append(tlp_mem(0, addr, length, fbe, lbe, tag=len(tlps), dw4=rng.random() < 0.3))
        expected += [(len(tlps) - 1, *e) for e in expect_read(b.mem, addr, length, fbe, lbe)]
    out = [cpl(t) for t in b.run(tlps)]
    assert [(c["tag"], c["bc"], c["la"], [int.from_bytes(c["data"][k:k + 4], "little") for k in
             range(0, len(c["data"]), 4)]) for c in out] == expected


def test_longest_read_and_the_end_of_the_bar():
    """2.2.2: Length 0 is 1024 DWs; 2.2.9: a Byte Count of 0 is 4096. The last DW of the BAR is one, the next one is not."""
    b = Bench(64)
    b.mem = {a: 0x01020304 * (a >> 2) & 0xffff_ffff for a in range(0, 0x8000, 4)}
    whole, last, behind = (0x7000, 1024, 0xf, 0xf), (0x7ffc, 1, 0x8, 0), (0x8000, 1, 0x8, 0)
    out = [cpl(t) for t in b.run([tlp_mem(0, BAR + at, *rest, tag=k) for k, (at, *rest) in enumerate((whole, last, behind))])]
    assert [(c["tag"], c["bc"], c["la"], c["status"]) for c in out] == [
        *((0, 4096 - 128 * k, 0, 0) for k in range(32)), (1, 1, 0x7f, 0), (2, 1, 3, 1)]
    assert b"".join(c["data"] for c in out[:32]) == b"".join(b.mem[a].to_bytes(4, "little") for a in range(0x7000, 0x8000, 4))


@pytest.mark.parametrize("seed", [1, 2])
def test_random_writes(seed):
    rng, b, model, tlps = random.Random(seed), Bench(64, seed=seed), {}, []
    for _ in range(30):
        length, word = rng.randint(1, 20), rng.randrange(40)
        fbe, lbe = rng.randint(1, 15), rng.randint(1, 15) if length > 1 else 0
        data = rng.randbytes(4 * length)
        for n in range(length):
            be = fbe if n == 0 else lbe if n == length - 1 else 15
            for k in range(4):
                if be >> k & 1:
                    model[4 * (word + n) + k] = data[4 * n + k]
        tlps.append(tlp_mem(1, BAR + 4 * word, length, fbe, lbe, data=data, dw4=rng.random() < 0.5))
    b.run(tlps)
    assert all(b.mem[a & ~3] >> 8 * (a & 3) & 255 == v for a, v in model.items())
