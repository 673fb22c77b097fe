"""Packet queue: whole packets or none, without pause, and their lengths."""

import pytest

from ringnic.hdl.lib.packet_queue import PacketQueue

from ...kit.simulator import Simulator


def beats_of(packet, lanes, error=0):
    return [{"data": int.from_bytes(packet[at:at + lanes], "little"), "count": len(packet[at:at + lanes]),
             "last": at + lanes >= len(packet), "error": error if at + lanes >= len(packet) else 0}
            for at in range(0, len(packet), lanes)] or [{"data": 0, "count": 0, "last": 1, "error": error}]


async def send(ctx, dut, beats, idle=None):
    for beat in beats:
        while idle and idle():
            await ctx.tick()
        ctx.set(dut.i.p, beat)
        ctx.set(dut.i.valid, 1)
        await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)


def simulate(dut, *benches, background=()):
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    for bench in benches:
        sim.add_testbench(bench)
    for bench in background:
        sim.add_testbench(bench, background=True)
    sim.run()


def reader(dut, packets, lengths, busy=lambda: True):
    async def bench(ctx):
        packet, inside = b"", False
        while True:
            ctx.set(dut.o.ready, busy())
            ctx.set(dut.o_len.ready, busy())
            _, _, taken, value, count, last, error, told, length, ready = await ctx.tick().sample(
                dut.o.valid & dut.o.ready, dut.o.p.data, dut.o.p.count, dut.o.p.last, dut.o.p.error,
                dut.o_len.valid & dut.o_len.ready, dut.o_len.p, dut.o.ready)
            if told:
                lengths.append(length)
            assert not inside or not ready or taken, "a packet paused"
            if taken:
                assert not error
                packet += value.to_bytes(dut.width // 8, "little")[:count]
                inside = not last
                if last:
                    packets.append(packet)
                    packet = b""
    return bench


def test_errors():
    with pytest.raises(ValueError, match="^Packet queue depth must be a power of 2 of at least 2 beats, not 24$"):
        PacketQueue(width=64, depth=24, max_packets=4, drop_on_full=True)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("width", [64, 128])
def test_holds_back_when_full_and_drops_the_damaged(width, slow, rng):
    lanes, packets, lengths, want = width // 8, [], [], []
    dut = PacketQueue(width=width, depth=32, max_packets=4, drop_on_full=False)
    beats = []
    for k in range(120):
        packet, error = rng.randbytes(rng.choice([1, lanes, lanes + 1, rng.randrange(1, 31 * lanes)])), k % 5 == 2
        beats += beats_of(packet if k % 10 != 2 else b"", lanes, error)
        if not error:
            want.append(packet)

    async def writer(ctx):
        await send(ctx, dut, beats, (lambda: rng.random() < 0.3) if slow else None)
        await ctx.tick().repeat(300)
        assert ctx.get(dut.free) == 32

    simulate(dut, writer, background=[reader(dut, packets, lengths, lambda: not slow or rng.random() < 0.6)])
    assert packets == want
    assert lengths == [len(packet) for packet in want]


@pytest.mark.parametrize("drop_on_full", [False, True])
def test_an_empty_last_beat_takes_no_room(drop_on_full, rng):
    dut = PacketQueue(width=64, depth=16, max_packets=4, drop_on_full=drop_on_full)
    packets, lengths = [], []
    want = [rng.randbytes(size) for size in (16, 24, 0, 8, 17, 8)]

    async def writer(ctx):
        for packet in want:
            beats = beats_of(packet, 8)
            if packet and len(packet) % 8 == 0:
                beats[-1]["last"] = 0
                beats += [{**beats[-1], "count": 0, "last": 1}]
            await send(ctx, dut, beats)
        await ctx.tick().repeat(50)
        assert ctx.get(dut.free) == 16

    simulate(dut, writer, background=[reader(dut, packets, lengths)])
    assert packets == want
    assert lengths == [len(packet) for packet in want]


def test_drops_whole_packets_when_full(rng):
    dut = PacketQueue(width=64, depth=16, max_packets=4, drop_on_full=True)
    packets, lengths, lost = [], [], [0]
    fits = [rng.randbytes(size) for size in (60, 24)]        # 8 + 3 beats; reading ahead moves some of them out

    async def count(ctx):
        async for _, _, strobe in ctx.tick().sample(dut.lost):
            lost[0] += strobe

    async def writer(ctx):
        for packet, error in [(fits[0], 0), (rng.randbytes(200), 0), (rng.randbytes(200), 1), (fits[1], 0)]:
            for beat in beats_of(packet, 8, error):
                ctx.set(dut.i.p, beat)
                ctx.set(dut.i.valid, 1)
                assert ctx.get(dut.i.ready)
                await ctx.tick()
            ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(4)
        assert lost == [1] and not packets

    async def late(ctx):
        await ctx.tick().repeat(90)
        await reader(dut, packets, lengths)(ctx)

    async def rest(ctx):
        await ctx.tick().repeat(200)

    simulate(dut, writer, rest, background=[count, late])
    assert packets == fits and lengths == [60, 24] and lost == [1]


def test_too_many_packets_are_lost(rng):
    dut = PacketQueue(width=64, depth=64, max_packets=4, drop_on_full=True)
    sent, packets, lengths = [bytes([k]) for k in range(12)], [], []

    async def writer(ctx):
        await send(ctx, dut, [beat for packet in sent for beat in beats_of(packet, 8)])

    async def late(ctx):
        await ctx.tick().repeat(40)
        await reader(dut, packets, lengths)(ctx)

    async def rest(ctx):
        await ctx.tick().repeat(120)

    simulate(dut, writer, rest, background=[late])
    assert packets == sent[:4] and lengths == [1] * 4


@pytest.mark.parametrize("drop_on_full", [False, True])
def test_a_note_goes_with_each_packet(drop_on_full, rng):
    dut = PacketQueue(width=64, depth=256, max_packets=8, drop_on_full=drop_on_full, note_width=5)
    notes, kept, want = [], [0], []

    async def writer(ctx):
        for k in range(60):
            note, error = rng.randrange(32), k % 7 == 3
            for beat in beats_of(rng.randbytes(rng.randrange(1, 60)), 8, error):
                ctx.set(dut.i_note, note if beat["last"] else rng.randrange(32))
                await send(ctx, dut, [beat])
            if not error:
                want.append(note)
            await ctx.tick().repeat(8)
        while ctx.get(dut.busy):
            await ctx.tick()
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.o.valid) and not ctx.get(dut.o_len.valid) and ctx.get(dut.free) == 256

    async def watch(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.o_len.ready, 1)
        async for _, _, told, note, strobe, moved, busy in ctx.tick().sample(
                dut.o_len.valid, dut.o_note, dut.kept, dut.o.valid, dut.busy):
            kept[0] += strobe
            assert busy or not moved
            if told:
                notes.append(note)

    simulate(dut, writer, background=[watch])
    assert notes == want and kept == [len(want)]


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("size", [1, 8, 20])
def test_a_packet_leaves_three_cycles_after_its_last_beat(size, lengths, rng):
    dut = PacketQueue(width=64, depth=16, max_packets=4, drop_on_full=False, lengths=lengths)
    packet, leaves = rng.randbytes(size), []

    async def writer(ctx):
        await send(ctx, dut, beats_of(packet, 8))
        ctx.set(dut.o.ready, 1)
        for _ in range(8):
            leaves.append(ctx.get(dut.o.valid))
            await ctx.tick()

    simulate(dut, writer)
    beats = -(-size // 8)
    assert leaves == [0, 0] + [1] * beats + [0] * (6 - beats)


def test_holds_no_more_packets_than_it_may(rng):
    """Of one without lengths, that is all that limits them; one that has begun to leave has its share until it has left."""
    dut = PacketQueue(width=64, depth=64, max_packets=3, drop_on_full=False, lengths=False)

    async def writer(ctx):
        for k in range(3):
            await send(ctx, dut, beats_of(rng.randbytes(16), 8))
        await ctx.tick().repeat(6)
        assert not ctx.get(dut.i.ready) and ctx.get(dut.packets) == 3 and ctx.get(dut.o.valid)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        assert not ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.i.ready)
        await ctx.tick().repeat(8)
        assert ctx.get(dut.packets) == 0 and not ctx.get(dut.busy)

    simulate(dut, writer)


def test_the_last_row_is_read_beside_a_packet_that_found_no_room():
    """Whatever the payload is while nothing is valid."""
    dut, packets, lengths = PacketQueue(width=64, depth=4, max_packets=8, drop_on_full=True), [], []
    kept, lost = bytes(range(32)), bytes(16)
    state = {"open": False}

    async def feed(ctx):
        await send(ctx, dut, beats_of(kept, 8))
        await send(ctx, dut, beats_of(lost, 8)[:1])
        ctx.set(dut.i.p.count, 0)
        state["open"] = True
        await ctx.tick().repeat(12)
        await send(ctx, dut, beats_of(lost, 8)[1:])
        await send(ctx, dut, beats_of(kept[:20], 8))
        await ctx.tick().repeat(12)
    simulate(dut, feed, background=[reader(dut, packets, lengths, lambda: state["open"])])
    assert packets == [kept, kept[:20]] and lengths == [32, 20]
