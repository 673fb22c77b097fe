"""MSI-X table, masking, pending bits and messages."""

import random

import pytest

from ringnic.hdl.pcie.msix import Msix

from ...kit import registers, streams
from ...kit.simulation import Simulation
from ...kit.tlps import take

TABLE, PBA = 0x4000, 0x5000
RID = 0x0208
STATES = 14   # cycles from an event to beyond the end of its message, at 64 bits


class Bench:
    """Drives registers and events. ``stall``: the link takes nothing."""
    def __init__(self, vectors=3, width=64, sources=4):
        self.dut, self.width, self.tlps, self.stall = Msix(vectors=vectors, sources=sources, width=width), width, [], False

    @property
    def sent(self):
        return [parse(tlp) for tlp in self.tlps]

    async def write(self, ctx, at, value, be=0xf):
        await registers.write(ctx, self.dut.regs, at, value, be)

    async def read(self, ctx, at):
        return await registers.read(ctx, self.dut.regs, at, late=2)

    async def irq(self, ctx, vector, source=0, withdraw=0):
        """Return, of a withdrawal, whether the event was waiting."""
        port = self.dut.irq
        ctx.set(port.req.payload, {"vector": vector, "source": source, "withdraw": withdraw})
        ctx.set(port.req.valid, 1)
        for _ in range(2):
            _, _, ready, waited = await ctx.tick().sample(port.req.ready, port.waited)
        assert ready, "an interrupt is not accepted at once"
        ctx.set(port.req.valid, 0)
        return waited

    async def withdraw(self, ctx, vector, source=0):
        return await self.irq(ctx, vector, source, withdraw=1)

    async def setup(self, ctx, vectors):
        for v in range(vectors):
            for k, value in enumerate([*entry(v), 0]):
                await self.write(ctx, TABLE + 16 * v + 4 * k, value)

    async def mask(self, ctx, v, value=1):
        await self.write(ctx, TABLE + 16 * v + 12, value)

    async def pulse(self, ctx, *signals):
        await streams.pulse(ctx, *signals)

    async def pending(self, ctx):
        return [v for v in range(self.dut.vectors) if await self.read(ctx, PBA + v // 32 * 4) >> v % 32 & 1]

    async def idle(self, ctx, cycles=24):
        await ctx.tick().repeat(cycles)

    def run(self, body):
        async def main(ctx):
            ctx.set(self.dut.enable, 1)
            ctx.set(self.dut.bus_master, 1)
            ctx.set(self.dut.requester_id, RID)
            await body(ctx)
        simulation = Simulation(self.dut, limit=100_000)
        # In the background: what has left in a cycle is known to the other at its end.
        simulation.background(take, self.dut.tlp, self.width, self.tlps.append, lambda: self.stall)
        simulation.run(main)


def entry(v, change=0):
    """Lower and upper half of the address, and the data. The lowest bits of an address are not the host's to use."""
    return 0xfee00003 + 16 * v + change, v + change, 0x4000 + v + change


def message(v, change=0):
    low, high, data = entry(v, change)
    return low & ~3 | high << 32, data


def parse(tlp):
    """Address and data of a message that is as 6.1.4 has it: a write of one DW, all of its bytes."""
    words = [int.from_bytes(tlp[k:k + 4], "big") for k in range(0, len(tlp), 4)]
    long = words[0] >> 29 & 1
    assert words[0] == 0x40000001 | long << 29 and words[1] == RID << 16 | 0xf and len(words) == 4 + long
    assert not long or words[2]
    return words[2] << 32 | words[3] if long else words[2], int.from_bytes(tlp[-4:], "little")


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("changes, text", [
    ({"vectors": 0}, "Number of vectors must be from 1 to 256, not 0"),
    ({"vectors": 257}, "Number of vectors must be from 1 to 256, not 257"),
    ({"sources": 0}, "Number of interrupt sources must be from 1 to 1024, not 0"),
    ({"sources": 1025}, "Number of interrupt sources must be from 1 to 1024, not 1025"),
])
def test_constructor(changes, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        Msix(**{"vectors": 1, "sources": 1, "width": 64, **changes})


@pytest.mark.parametrize("vectors, width", [(1, 32), (3, 32), (3, 64), (40, 128), (3, 256)])
def test_table_and_send(vectors, width):
    b = Bench(vectors, width)

    async def body(ctx):
        assert [await b.read(ctx, TABLE + 16 * v + 12) for v in range(vectors + 1)] == [1] * vectors + [0]
        await b.setup(ctx, vectors)
        assert await b.read(ctx, TABLE + 16 * (vectors - 1)) == 0xfee00003 + 16 * (vectors - 1)
        await b.write(ctx, TABLE + 8, 0xaa55aa55, be=0b0100)
        assert await b.read(ctx, TABLE + 8) == 0x00554000
        await b.write(ctx, TABLE + 8, 0x4000)
        await b.write(ctx, TABLE + 16 * vectors, 0xffffffff)
        assert await b.read(ctx, TABLE + 16 * vectors) == 0
        for v in range(vectors):
            await b.irq(ctx, v)
        await b.irq(ctx, vectors)
        await b.irq(ctx, 0x7ff)
        await b.idle(ctx, 12 * vectors + 12)
        assert sorted(b.sent) == [message(v) for v in range(vectors)] and not ctx.get(b.dut.busy)
    b.run(body)


def test_masking_and_pending():
    b = Bench(40)

    async def body(ctx):
        await b.setup(ctx, 40)
        await b.mask(ctx, 33)
        for _ in range(3):
            await b.irq(ctx, 33)
        await b.idle(ctx)
        assert b.sent == [] and await b.read(ctx, PBA + 4) == 2 and await b.read(ctx, PBA) == 0
        assert await b.read(ctx, PBA + 8) == 0 and await b.read(ctx, TABLE + 16 * 33 + 12) == 1
        ctx.set(b.dut.function_mask, 1)
        await b.mask(ctx, 33, 0)
        await b.irq(ctx, 2)
        await b.idle(ctx)
        assert b.sent == [] and await b.read(ctx, PBA) == 4
        ctx.set(b.dut.function_mask, 0)
        await b.idle(ctx, 40)
        assert b.sent == [message(2), message(33)] and await b.read(ctx, PBA + 4) == 0
    b.run(body)


def test_busy_vector_leaves_room_for_others():
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        b.stall = True
        await ctx.tick()
        for v in (1, 2):
            await b.irq(ctx, v)
        b.stall = False
        for _ in range(30):
            await b.irq(ctx, 0)
        assert {message(1), message(2)} <= set(b.sent[:4])
    b.run(body)


@pytest.mark.parametrize("lone", range(3))
def test_busy_vectors_leave_room_for_a_lone_one(lone):
    """Two vectors are pending all the time, the third one once."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        busy = [v for v in range(3) if v != lone]
        for v in (*busy, lone, *8 * busy):
            await b.irq(ctx, v)
        assert message(lone) in b.sent[:3]
    b.run(body)


@pytest.mark.parametrize("gap", range(STATES))
def test_a_message_leaves_after_every_interrupt(gap):
    """Whatever the one before of the same vector is at."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        await b.irq(ctx, 0)
        for _ in range(gap):
            await ctx.tick()
        before = len(b.sent) + ctx.get(b.dut.sending)
        await b.irq(ctx, 0)
        await b.idle(ctx, 40)
        assert before < len(b.sent) <= 2
    b.run(body)


# What forbids a message, and what allows it again.

async def by_mask(b, ctx, on):
    await b.mask(ctx, 1, on)


def by_signal(name, forbids):
    async def act(b, ctx, on):
        ctx.set(getattr(b.dut, name), on == forbids)
        await ctx.tick()
    return act

WAYS = {"mask": by_mask, "function mask": by_signal("function_mask", 1), "disable": by_signal("enable", 0),
        "bus master": by_signal("bus_master", 0), "stop": by_signal("stop", 1)}


@pytest.mark.clause("INT-4", "INT-5", "INT-2")
@pytest.mark.parametrize("stall", [False, True], ids=["moves", "stalled"])
@pytest.mark.parametrize("way", WAYS)
def test_forbidden_in_every_state(way, stall):
    """6.1.4.5: when a message is forbidden its event is pending, unless the message is committed, whatever state it was in."""
    b = Bench(3)
    seen = set()

    async def body(ctx):
        await b.setup(ctx, 3)
        for cycle in range(STATES):
            b.tlps.clear()
            b.stall = stall
            await b.irq(ctx, 1)
            for _ in range(cycle):
                await ctx.tick()
            await WAYS[way](b, ctx, 1)
            before, sending = len(b.tlps), ctx.get(b.dut.sending)
            pending = await b.pending(ctx)
            assert pending == ([] if before or sending else [1])
            seen.add("sent" if before else "committed" if sending else "pending")
            await b.idle(ctx)
            b.stall = False
            await b.idle(ctx)
            assert len(b.tlps) == before + sending and not ctx.get(b.dut.sending)
            assert await b.pending(ctx) == pending
            await WAYS[way](b, ctx, 0)
            await b.idle(ctx)
            assert b.sent == [message(1)] and await b.pending(ctx) == []
    b.run(body)
    assert seen == {"committed", "pending", *(() if stall else ("sent",))}


@pytest.mark.clause("INT-1")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_entry_changed_in_every_state(order):
    """While the vector is masked its entry is changed: the message is the old one, committed before the mask, or the new one,
    after the unmask, and never a mixture."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        seen = set()
        for cycle in range(STATES):
            b.tlps.clear()
            await b.irq(ctx, 1)
            for _ in range(cycle):
                await ctx.tick()
            await b.mask(ctx, 1)
            before = len(b.tlps) + ctx.get(b.dut.sending)
            for part in order:
                await b.write(ctx, TABLE + 16 + 4 * part, entry(1, 0x100)[part])
            await b.mask(ctx, 1, 0)
            await b.idle(ctx, 40)
            assert b.sent == ([message(1)] if before else [message(1, 0x100)])
            seen.add(before)
            for part in order:
                await b.write(ctx, TABLE + 16 + 4 * part, entry(1)[part])
        assert seen == {0, 1}
    b.run(body)


@pytest.mark.parametrize("cycle", range(STATES))
def test_entry_rewritten_while_it_is_read(cycle):
    """A driver that does not mask gets a message that is wholly old or wholly new, if its write is one burst."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        await b.irq(ctx, 1)
        for _ in range(cycle):
            await ctx.tick()
        for part, value in enumerate(entry(1, 0x100)):
            await b.write(ctx, TABLE + 16 + 4 * part, value)
        await b.idle(ctx, 40)
        assert b.sent in ([message(1)], [message(1, 0x100)])
    b.run(body)


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("long", [False, True])
def test_table_read_while_an_entry_is_read(gap, long):
    """Both get what is there, whenever the reads come; without them a message is committed in the seventh cycle."""
    b = Bench(3)

    async def reading(ctx, stop):
        for k in range(stop):
            assert await registers.read(ctx, b.dut.regs, TABLE + 32 + 4 * (k % 3)) == [0xfee00023, 2, 0x4002][k % 3]
            for _ in range(gap):
                await ctx.tick()

    async def body(ctx):
        await b.setup(ctx, 3)
        if not long:
            await b.write(ctx, TABLE + 20, 0)
        want = (message(1)[0] & (-1 if long else 0xffff_ffff), message(1)[1])
        for cycle in range(STATES):
            b.tlps.clear()
            await b.irq(ctx, 1)
            for _ in range(cycle):
                await ctx.tick()
            await reading(ctx, 5)
            await b.idle(ctx)
            assert b.sent == [want]
        await b.irq(ctx, 1)
        await ctx.tick().repeat(5)
        assert not ctx.get(b.dut.sending)
        await ctx.tick()
        assert ctx.get(b.dut.sending)
    b.run(body)


def test_another_vector_goes_on():
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        await b.mask(ctx, 1)
        for v in (1, 0, 2):
            await b.irq(ctx, v)
        await b.idle(ctx, 40)
        assert b.sent == [message(0), message(2)] and await b.pending(ctx) == [1]
    b.run(body)


@pytest.mark.clause("QRST-1")
@pytest.mark.parametrize("cycle", range(STATES))
def test_withdrawn_in_every_state(cycle):
    """An event that is withdrawn was signalled before, or never will be, and who withdraws it is told which."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        await b.irq(ctx, 1, source=2)
        for _ in range(cycle):
            await ctx.tick()
        waited = await b.withdraw(ctx, 1, source=2)
        gone = len(b.tlps) + ctx.get(b.dut.sending)
        assert waited == (not gone) and await b.pending(ctx) == []
        await b.idle(ctx)
        assert b.sent == [message(1)] * gone and not ctx.get(b.dut.busy)
    b.run(body)


def test_shared_vector_waits_for_its_other_sources():
    b = Bench(3, sources=5)

    async def body(ctx):
        await b.setup(ctx, 3)
        await b.mask(ctx, 1)
        assert not await b.withdraw(ctx, 1, source=0)
        for source in (0, 4, 2, 4):
            await b.irq(ctx, 1, source)
        assert not await b.withdraw(ctx, 1, source=1) and not await b.withdraw(ctx, 2, source=0)
        for source, left in ((4, [1]), (0, [1]), (2, [])):
            assert await b.withdraw(ctx, 1, source) and await b.pending(ctx) == left
            assert not await b.withdraw(ctx, 1, source)
        await b.mask(ctx, 1, 0)
        await b.idle(ctx)
        assert b.sent == []
        # What a message or a reset has settled does not come back with the next event.
        for settle in (b.mask(ctx, 1, 0), b.pulse(ctx, b.dut.reset)):
            await b.mask(ctx, 1)
            for source in (0, 4):
                await b.irq(ctx, 1, source)
            await settle
            await b.idle(ctx)
            await b.mask(ctx, 1)
            await b.irq(ctx, 1, source=2)
            assert not await b.withdraw(ctx, 1, source=0) and await b.pending(ctx) == [1]
            assert await b.withdraw(ctx, 1, source=2) and await b.pending(ctx) == []
        assert b.sent == [message(1)]
    b.run(body)


def test_stalled_message_holds_no_access():
    """Else the host could not reach Bus Master to end the stall."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        b.stall = True
        await ctx.tick()
        await b.irq(ctx, 0)
        await b.idle(ctx, 10)
        assert ctx.get(b.dut.sending) and await b.read(ctx, TABLE + 8) == 0x4000
        ctx.set(b.dut.bus_master, 0)
        await b.irq(ctx, 1)
        b.stall = False
        await b.idle(ctx)
        assert b.sent == [message(0)] and await b.read(ctx, PBA) == 2
        ctx.set(b.dut.bus_master, 1)
        await b.idle(ctx)
        assert b.sent == [message(0), message(1)]
    b.run(body)


@pytest.mark.parametrize("cycle", range(STATES))
def test_reset_in_every_state(cycle):
    """With a drain before, as the endpoint does it: what is committed leaves, the rest is forgotten."""
    b = Bench(3)

    async def body(ctx):
        await b.setup(ctx, 3)
        await b.irq(ctx, 0)
        await b.irq(ctx, 1)
        for _ in range(cycle):
            await ctx.tick()
        ctx.set(b.dut.stop, 1)
        await ctx.tick()
        while ctx.get(b.dut.sending):
            await ctx.tick()
        before = len(b.tlps)
        await b.pulse(ctx, b.dut.reset)
        ctx.set(b.dut.stop, 0)
        await b.idle(ctx)
        assert len(b.tlps) == before and await b.pending(ctx) == [] and not ctx.get(b.dut.busy)
        assert await b.read(ctx, TABLE + 12) == 0
        await b.irq(ctx, 1)
        await b.idle(ctx)
        assert len(b.tlps) == before + 1
        await b.pulse(ctx, b.dut.reset, b.dut.clear)
        assert [await b.read(ctx, TABLE + 16 * v + 12) for v in range(3)] == [1, 1, 1]
    b.run(body)


@pytest.mark.parametrize("width", [32, 64, 128])
def test_random(width, seed):
    """Events, withdrawals and masks at random, against what is pending by the words of 6.1.4.5."""
    rng = random.Random(f"{seed} {width}")
    b = Bench(4, width, sources=3)

    async def body(ctx):
        await b.setup(ctx, 4)
        masked = set()
        # By vector, the sources that may wait, and of them those that do: of one that has come before a mask nobody knows.
        waits, sure = [set() for _ in range(4)], [set() for _ in range(4)]
        for _ in range(400):
            v, source = rng.randrange(4), rng.randrange(3)
            b.stall = rng.random() < 0.3
            match rng.choice(["irq", "irq", "withdraw", "mask", "unmask", "look", "idle"]):
                case "irq":
                    await b.irq(ctx, v, source)
                    waits[v].add(source)
                    sure[v].add(source)
                case "withdraw":
                    waited = await b.withdraw(ctx, v, source)
                    assert not waited or source in waits[v]
                    assert waited or v not in masked or source not in sure[v]
                    waits[v].discard(source)
                    sure[v].discard(source)
                case "mask":
                    await b.mask(ctx, v)
                    if v not in masked:
                        sure[v].clear()
                    masked.add(v)
                case "unmask":
                    await b.mask(ctx, v, 0)
                    masked.discard(v)
                case "look":
                    pending = await b.pending(ctx)
                    for k in masked:
                        assert k not in pending if not waits[k] else k in pending or not sure[k]
                        if k not in pending:
                            waits[k].clear()
                    b.stall = False
                    before = len(b.tlps) + ctx.get(b.dut.sending)
                    await b.idle(ctx, 60)
                    assert not any(m == message(k) for m in b.sent[before:] for k in masked)
                    for k in set(range(4)) - masked:
                        assert k not in await b.pending(ctx)
                        assert message(k) in b.sent or not sure[k]
                        waits[k].clear()
                        sure[k].clear()
                    b.tlps.clear()
                case "idle":
                    await b.idle(ctx, rng.randrange(1, 12))
    b.run(body)
