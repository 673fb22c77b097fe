"""Endpoint: requests, registers, DMA and interrupts together, on raw TLPs."""

from functools import cache, partial
import random

import pytest
from amaranth.lib.wiring import connect

from ringnic.hdl.pcie.endpoint import Endpoint, TlpDemux
from ringnic.hdl.pcie.soft_config import SoftConfig

from ...kit import registers, tlps
from ...kit.scoreboard import Scoreboard
from ...kit.simulation import Simulation
from ...kit.streams import receive, send, transfer
from ...kit.tlps import header, put, take

BAR = 0xfe008000
RID = 0x0208


def cfg_read(reg):
    return tlps.config(0, reg, tag=0, rid=0, target=RID)


def cfg_write(reg, value, be=15):
    return tlps.config(1, reg, be, data=value.to_bytes(4, "little"), tag=0, rid=0, target=RID)


def mem_read(addr):
    return tlps.memory(0, addr, tag=0, rid=0)


def mem_write(addr, value):
    return tlps.memory(1, addr, data=value.to_bytes(4, "little"), tag=0, rid=0)


@pytest.mark.parametrize("width", [64, 128])
def test_demux(width):
    dut, rng = TlpDemux(width=width), random.Random(1)
    # What looks like a completion, or does not, in the middle.
    like_cpl, like_write = header(0x4a000001) * 9, header(0x40000001) * 9
    given = [rng.choice([header(0x4a000001, 0, 0) + b"abcd", header(0x0a000000, 0, 0), cfg_read(0), mem_write(0, 5),
                         header(0x34000000, 0x20, 0, 0), header(0x40000009, 15, 0) + like_cpl,
                         header(0x4a000009, 0, 0) + like_write]) for _ in range(40)]
    board = Scoreboard()

    async def main(ctx):
        for tlp in given:
            board.expect(tlp, key=tlp[0] in (0x4a, 0x0a))
            await put(ctx, dut.i, tlp, width)
    simulation = Simulation(dut)
    for port, is_cpl in ((dut.o_cpl, True), (dut.o_request, False)):
        simulation.background(take, port, width, partial(board.got, key=is_cpl), lambda: rng.random() < 0.3)
    simulation.run(main)
    board.check()


@cache
def endpoint(width):
    """Return an endpoint, and what adds its configuration space to a module."""
    dut = Endpoint(width=width, read_clients=2, write_clients=2, msix_vectors=3, interrupt_sources=4)

    def keep_config(m):
        m.submodules.config = config = SoftConfig(width=width, msix_vectors=3)
        connect(m, config.function, dut.config)
    return dut, keep_config


class Bench:
    def __init__(self, width):
        self.width, self.out, self.regs, self.events, self.stall = width, [], {}, {}, False
        self.dut, self._keep_config = endpoint(width)

    async def send(self, ctx, *tlps):
        for tlp in tlps:
            await put(ctx, self.dut.tlp_rx, tlp, self.width)

    async def expect(self, ctx, n=1, limit=500):
        for _ in range(limit):
            if len(self.out) >= n:
                break
            await ctx.tick()
        assert len(self.out) == n, [t.hex() for t in self.out]
        found, self.out[:] = self.out[:], []
        return found

    async def setup(self, ctx):
        await self.send(ctx, cfg_write(0x10, BAR), cfg_write(0x04, 0x6, be=3))
        assert [t[0] for t in await self.expect(ctx, 2)] == [0x0a, 0x0a]

    async def msix_on(self, ctx):
        await self.send(ctx, cfg_write(0x9c, 1 << 31, be=8),
                        *(mem_write(BAR + 0x4000 + 4 * k, v) for k, v in enumerate([0xfee01000, 0, 0x41, 0])))
        await self.expect(ctx)
        await ctx.tick().repeat(60)

    async def irq(self, ctx):
        await transfer(ctx, self.dut.irq.req)

    async def count(self, ctx):
        while True:
            _, _, events = await ctx.tick().sample(self.dut.events)
            for name, _ in self.dut.events.shape():
                self.events[name] = self.events.get(name, 0) + events[name]

    def run(self, body, *others, watch_busy=True):
        async def main(ctx):
            await self.setup(ctx)
            await body(ctx)
        simulation = Simulation(self.dut, beside=self._keep_config, limit=100_000, watch_busy=watch_busy)
        simulation.background(registers.serve, self.dut.regs, self.regs)
        simulation.background(take, self.dut.tlp_tx, self.width, self.out.append, lambda: self.stall)
        for process in (self.count, *others):
            simulation.background(process)
        simulation.run(main)


@pytest.fixture(params=[64, 128])
def bench(request):
    return Bench(request.param)


def test_registers(bench):
    async def body(ctx):
        await bench.send(ctx, mem_write(BAR + 0x14, 0x1234), mem_read(BAR + 0x14), mem_read(BAR + 0x400c),
                         cfg_write(0xf4, 0x14), cfg_write(0xf8, 2), cfg_read(0xfc), mem_read(BAR - 4))
        out = await bench.expect(ctx, 6)
        assert [t[12:] for t in out] == [b"\x34\x12\0\0", b"\1\0\0\0", b"", b"", b"\x34\x12\0\0", b""]
        assert all(t[4:6] == RID.to_bytes(2, "big") for t in out)
        await ctx.tick().repeat(2)
        assert bench.events["requests_unsupported"] == 1
    bench.run(body)


MASK, PENDING = BAR + 0x400c, BAR + 0x5000
FORBIDDEN = {   # what forbids messages, and the request that is answered then
    "mask": (mem_write(MASK, 1), mem_read(MASK)),
    "function mask": (cfg_write(0x9c, 3 << 30, be=8),),
    "disable": (cfg_write(0x9c, 0, be=8),),
    "bus master": (cfg_write(0x04, 0x2, be=3),),
    "power state": (cfg_write(0x44, 3, be=1),),
}


def is_message(tlp):
    return tlp[:4] == header(0x40000001)


@pytest.mark.clause("INT-2", "INT-4", "INT-5")
@pytest.mark.parametrize("way", FORBIDDEN)
def test_no_message_follows_the_answer(bench, way):
    """6.1.4.5: once the host has the answer that says that messages are forbidden none comes, however long the link was full;
    an event that was not signalled is pending."""
    async def body(ctx):
        await bench.msix_on(ctx)
        for cycle in range(0, 36, 3 if bench.width == 64 else 11):
            bench.stall = cycle % 2 == 0
            for tlp in FORBIDDEN[way][:-1]:
                await bench.send(ctx, tlp)
            await bench.send(ctx, FORBIDDEN[way][-1])
            for _ in range(cycle):
                await ctx.tick()
            await bench.irq(ctx)
            for _ in range(60):
                await ctx.tick()
            bench.stall = False
            for _ in range(60):
                await ctx.tick()
            messages = [is_message(tlp) for tlp in bench.out]
            assert messages in ([False], [True, False]), [tlp.hex() for tlp in bench.out]
            bench.out.clear()
            if way != "power state":
                await bench.send(ctx, cfg_write(0x04, 0x6, be=3), mem_read(PENDING))
                assert messages[0] or way == "bus master" or (await bench.expect(ctx, 2))[1][12] == 1
            await bench.send(ctx, mem_write(MASK, 0), cfg_write(0x44, 0, be=1), cfg_write(0x9c, 1 << 31, be=8),
                             cfg_write(0x04, 0x6, be=3))
            for _ in range(100):
                await ctx.tick()
            assert sum(map(is_message, bench.out)) == 1 - messages[0]
            bench.out.clear()
    bench.run(body)


def test_answers_take_turns_with_messages(bench):
    """A storm of interrupts does not keep the host from its answers."""
    async def body(ctx):
        await bench.msix_on(ctx)
        ctx.set(bench.dut.irq.req.valid, 1)
        await ctx.tick().repeat(100)
        for _ in range(20):
            await bench.send(ctx, mem_read(MASK))
        await ctx.tick().repeat(600)
        assert sum(not is_message(tlp) for tlp in bench.out) == 20
        assert sum(is_message(tlp) for tlp in bench.out) > 20
    bench.run(body)


def test_drain_awaits_a_message(bench):
    async def body(ctx):
        await bench.msix_on(ctx)
        for cycle in range(0, 16, 3):
            bench.stall = True
            await bench.send(ctx, *[cfg_read(0)] * 4)   # what fills the way out
            for _ in range(40):
                await ctx.tick()
            await bench.irq(ctx)
            for _ in range(cycle):
                await ctx.tick()
            ctx.set(bench.dut.stop, 1)
            await ctx.tick()
            for _ in range(60):
                bench.stall = False
                await ctx.tick()
            assert ctx.get(bench.dut.stopped)
            before = sum(map(is_message, bench.out))
            ctx.set(bench.dut.reset, 1)
            await ctx.tick()
            ctx.set(bench.dut.reset, 0)
            ctx.set(bench.dut.stop, 0)
            await ctx.tick().repeat(40)
            assert sum(map(is_message, bench.out)) == before
            bench.out.clear()
    bench.run(body)


def test_dma_read(bench):
    async def body(ctx):
        port = bench.dut.reads[1]
        await send(ctx, port.req, {"addr": 0x1_0000_2000, "len": 4})
        (tlp,) = await bench.expect(ctx)
        assert tlp[:4] == header(0x20000001) and tlp[8:] == header(1, 0x2000)
        await bench.send(ctx, header(0x4a000001, 4, RID << 16 | tlp[6] << 8) + b"wxyz")
        got, last = b"", 0
        while not last:
            beat = await receive(ctx, port.beat)
            got += int(beat.data).to_bytes(bench.width // 8, "little")[:beat.count]
            last = beat.last
            assert not beat.error
        assert got == b"wxyz"
    bench.run(body)


@pytest.mark.clause("CS-6")
def test_no_request_follows_the_end_of_bus_mastery(bench):
    """7.5.1.1.3: without Bus Master Enable no memory request is sent. Who cleared it knows by the completion: what had begun by
    then goes before it, whole, and the rest goes when the bit is set again."""
    rng, dut, size, length = random.Random(3), bench.dut, bench.width // 8, 600
    begun, slow = [], [0]

    async def write(ctx):
        port, at = dut.writes[0], 0
        while True:
            if not begun:
                await ctx.tick()
                continue
            await send(ctx, port.req, {"addr": 0x10000 + 0x1000 * at, "len": length})
            at += 1
            for left in range(length, 0, -size):
                await send(ctx, port.data, {"data": 0, "last": left <= size}, lambda: rng.random() < .2)

    async def read(ctx):
        for at in range(20):                           # as many as there are tags, for nobody answers
            await send(ctx, dut.reads[0].req, {"addr": 0x8000_0000 + 0x1000 * at, "len": 16},
                       lambda: not begun or rng.random() < .99)

    async def interrupt(ctx):
        while True:
            if begun and rng.random() < .03:
                await bench.irq(ctx)
            await ctx.tick()

    async def link(ctx):
        while True:
            bench.stall = rng.random() < slow[0]
            await ctx.tick()

    async def body(ctx):
        await bench.msix_on(ctx)
        begun.append(True)
        for _ in range(25):
            for _ in range(rng.randrange(150)):
                await ctx.tick()
            slow[0] = rng.choice((0, 0, .5, .9))
            await bench.send(ctx, cfg_write(4, 0x2, be=3))
            for _ in range(4000):
                if any(tlp[0] == 0x0a for tlp in bench.out):
                    break
                await ctx.tick()
            slow[0] = 0
            for _ in range(100):
                await ctx.tick()
            assert bench.out[-1][0] == 0x0a, "a request after the completion"
            assert all(tlp[0] != 0x40 or len(tlp) == 12 + 4 * int.from_bytes(tlp[2:4], "big") for tlp in bench.out)
            bench.out.clear()
            await bench.send(ctx, cfg_write(4, 0x6, be=3))
            for _ in range(2000):
                if any(tlp[0] == 0x40 for tlp in bench.out):
                    break
                await ctx.tick()
            assert any(tlp[0] == 0x40 for tlp in bench.out), "nothing goes on"
            bench.out.clear()
    bench.run(body, write, read, interrupt, link)


def kind(tlp):
    """The class of flow control that a TLP belongs to (2.6.1)."""
    fmt, type = tlp[0] >> 5, tlp[0] & 0x1f
    return "completion" if type == 0x0a else "posted" if fmt & 2 or type >> 3 == 2 else "non_posted"


@pytest.mark.parametrize("stopped, passing", [
    ("non_posted", ["completion", "posted", "posted"]), ("completion", ["non_posted", "posted", "posted"]),
    ("posted", ["non_posted"])])
def test_a_class_without_credits_holds_up_no_other(bench, stopped, passing):
    """But completions do not pass what is posted before them (2.4.1)."""
    dut, size = bench.dut, bench.width // 8

    async def body(ctx):
        await bench.msix_on(ctx)
        for _ in range(3):
            ctx.set(dut.credits, {name: name != stopped for name in ("posted", "non_posted", "completion")})
            await bench.irq(ctx)
            await send(ctx, dut.writes[0].req, {"addr": 0x10000, "len": size})
            await send(ctx, dut.writes[0].data, {"data": 0, "last": 1})
            await send(ctx, dut.reads[0].req, {"addr": 0x2_0000_0000, "len": 16})
            await ctx.tick().repeat(30)
            await bench.send(ctx, cfg_read(0))
            await ctx.tick().repeat(100)
            assert sorted(map(kind, bench.out)) == passing
            ctx.set(dut.credits, dict(posted=1, non_posted=1, completion=1))
            await ctx.tick().repeat(60)
            assert sorted(map(kind, bench.out)) == ["completion", "non_posted", "posted", "posted"]
            bench.out.clear()
    bench.run(body)


@pytest.mark.clause("CS-6")
def test_a_read_that_waited_for_credits_waits_for_bus_master(bench):
    """Without bus mastery it holds up no answer, and does not leave when there are credits."""
    dut = bench.dut

    async def body(ctx):
        for _ in range(3):
            ctx.set(dut.credits.non_posted, 0)
            await send(ctx, dut.reads[0].req, {"addr": 0x1000, "len": 16})
            await ctx.tick().repeat(20)
            await bench.send(ctx, cfg_write(0x04, 0x2, be=3))
            assert list(map(kind, await bench.expect(ctx))) == ["completion"]
            ctx.set(dut.credits.non_posted, 1)
            await ctx.tick().repeat(50)
            assert not bench.out
            await bench.send(ctx, cfg_write(0x04, 0x6, be=3))
            assert sorted(map(kind, await bench.expect(ctx, 2))) == ["completion", "non_posted"]
    bench.run(body)


def test_a_function_level_reset_ends_while_a_read_waits(bench):
    """For credits, and then for bus mastery, which comes with the host's next accesses only."""
    dut = bench.dut

    async def drain(ctx):
        while True:
            await ctx.tick().until(dut.flr)
            ctx.set(dut.stop, 1)
            await ctx.tick().until(dut.stopped)
            ctx.set(dut.reset, 1)
            await ctx.tick()
            ctx.set(dut.reset, 0)
            ctx.set(dut.stop, 0)

    async def body(ctx):
        ctx.set(dut.reads[0].beat.ready, 1)
        ctx.set(dut.credits.non_posted, 0)
        await send(ctx, dut.reads[0].req, {"addr": 0x1000, "len": 16})
        await ctx.tick().repeat(20)
        await bench.send(ctx, cfg_write(0x04, 0x2, be=3))
        await bench.expect(ctx)
        ctx.set(dut.credits.non_posted, 1)
        await ctx.tick().repeat(50)
        await bench.send(ctx, cfg_write(0x68, 0x8000, be=2))
        await bench.expect(ctx)
        await bench.send(ctx, cfg_read(0))
        assert list(map(kind, await bench.expect(ctx))) == ["completion"]
        await bench.setup(ctx)
        await ctx.tick().repeat(50)
        assert not bench.out
    bench.run(body, drain, watch_busy=False)   # nobody answers the read that the reset has cut short


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_an_answer_passes_no_write_that_is_done(width):
    """2.4.1. The link stalls until nothing moves any more, with writes of a beat and longer ones; then an answer comes."""
    bench, done, begun = Bench(width), [], []

    async def count(ctx):
        async for _, _, one in ctx.tick().sample(bench.dut.writes[0].done):
            done.extend([1] * one)

    async def writes(ctx):
        port, at = bench.dut.writes[0], 0
        while not begun:
            await ctx.tick()
        while True:
            length = 4 if at % 3 else 40
            await send(ctx, port.req, {"addr": 0x10000 + 64 * at, "len": length})
            for left in range(length, 0, -width // 8):
                await send(ctx, port.data, {"data": at, "last": left <= width // 8})
            at += 1

    async def body(ctx):
        begun.append(1)
        for pause in range(24):
            await ctx.tick().repeat(40 + pause)
            bench.stall = True
            await ctx.tick().repeat(60)
            before = len(done)
            await bench.send(ctx, mem_read(BAR))
            await ctx.tick().repeat(60)
            bench.stall = False
            await ctx.tick().repeat(60)
            kinds = list(map(kind, bench.out))
            assert 0 < before <= kinds[:kinds.index("completion")].count("posted")
            bench.out.remove(bench.out[kinds.index("completion")])
    bench.run(body, count, writes)


def test_intx(bench):
    async def body(ctx):
        ctx.set(bench.dut.intx, 1)
        (tlp,) = await bench.expect(ctx)
        assert tlp == header(0x34000000, RID << 16 | 0x20, 0, 0)
        await bench.send(ctx, cfg_read(4))
        assert int.from_bytes((await bench.expect(ctx))[0][12:], "little") >> 19 & 1
        await bench.send(ctx, cfg_write(4, 0x406, be=3))
        assert sorted(t[0] for t in await bench.expect(ctx, 2)) == [0x0a, 0x34]
        await bench.send(ctx, cfg_write(4, 0x6, be=3))
        assert sorted(t[0] for t in await bench.expect(ctx, 2)) == [0x0a, 0x34]
        await bench.send(ctx, cfg_write(0x9c, 1 << 31, be=8))
        assert sorted(t[0] for t in await bench.expect(ctx, 2)) == [0x0a, 0x34]
    bench.run(body)


def test_flr(bench):
    async def body(ctx):
        await bench.msix_on(ctx)
        await bench.send(ctx, cfg_write(0x68, 0x8000, be=2))
        await bench.expect(ctx)
        assert ctx.get(bench.dut.flr)
        await bench.send(ctx, mem_write(BAR + 0x14, 1), cfg_read(0x10), cfg_read(0x9c))
        ctx.set(bench.dut.stop, 1)
        await ctx.tick().repeat(30)
        assert ctx.get(bench.dut.stopped) and bench.out == []
        ctx.set(bench.dut.reset, 1)
        await ctx.tick()
        ctx.set(bench.dut.reset, 0)
        ctx.set(bench.dut.stop, 0)
        assert [int.from_bytes(t[12:], "little") for t in await bench.expect(ctx, 2)] == [0, 0x0002a811]
        assert not ctx.get(bench.dut.flr) and not ctx.get(bench.dut.msix_enabled)
        assert bench.regs == {}        # the write came upon a function without an address
    bench.run(body)


def test_reset_keeps_configuration(bench):
    async def body(ctx):
        await bench.msix_on(ctx)
        ctx.set(bench.dut.reset, 1)
        await ctx.tick()
        ctx.set(bench.dut.reset, 0)
        await bench.send(ctx, cfg_read(0x10), mem_read(BAR + 0x400c))
        assert [t[12:] for t in await bench.expect(ctx, 2)] == [BAR.to_bytes(4, "little"), bytes(4)]
    bench.run(body)


def test_completions_pass_waiting_requests(bench):
    """The target waits for a register; a completion behind many requests still comes through."""
    async def body(ctx):
        await bench.send(ctx, cfg_write(0x68, 0x8000, be=2))
        await bench.expect(ctx)
        await bench.send(ctx, *[mem_write(BAR, 0)] * 20, header(0x0a002000, 0x2000, RID << 16))
        await ctx.tick().repeat(50)
        assert bench.events["cpl_unexpected"] == 1
    bench.run(body)


def test_malformed(bench):
    """A write that is longer than it says has no effect, and is told of; one with a digest is carried out."""
    async def body(ctx):
        await bench.send(ctx, cfg_write(0x68, 0x4, be=1))
        await bench.expect(ctx)
        await bench.send(ctx, mem_write(BAR + 0x14, 1), mem_write(BAR + 0x14, 2) + bytes(4))
        (tlp,) = await bench.expect(ctx)
        assert tlp == header(0x30000000, RID << 16 | 0x33, 0, 0)
        await ctx.tick().repeat(20)
        assert bench.regs == {0x14: 1} and bench.events["tlps_malformed"] == 1
        write = mem_write(BAR + 0x14, 3)
        await bench.send(ctx, write[:2] + b"\x80" + write[3:] + b"ECRC", cfg_read(0x68))
        (tlp,) = await bench.expect(ctx)
        assert bench.regs == {0x14: 3} and tlp[14] & 0xf == 4 and bench.events["tlps_malformed"] == 1
        await bench.send(ctx, header(0x4a000002, 4, RID << 16) + b"wxyz")  # of completions, too
        await bench.expect(ctx)
        assert bench.events["tlps_malformed"] == 2
    bench.run(body)


def test_pme_turn_off(bench):
    async def body(ctx):
        await bench.send(ctx, header(0x33000000, 0x19, 0, 0))
        assert await bench.expect(ctx) == [header(0x35000000, RID << 16 | 0x1b, 0, 0)]
    bench.run(body)
