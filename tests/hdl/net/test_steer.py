"""Flows: both directions have one hash, whatever is around addresses and ports; and the table of flows."""

import pytest
from amaranth.hdl import ResetInserter, Signal

from ringnic.hdl.net.steer import FlowHash, FlowTable

from ...kit.simulation import Simulation


def ipv4(source, target, *, protocol=6, options=0, fragment=0x4000, payload=b"", tag=None):
    total = (20 + options + len(payload)).to_bytes(2, "big")
    header = bytes([0x45 + options // 4, 0]) + total + bytes(2) + fragment.to_bytes(2, "big") + bytes([64, protocol, 1, 2])
    return ethernet(0x0800, header + source + target + bytes(range(options)) + payload, tag)


def ipv6(source, target, *, protocol=17, payload=b"", tag=None):
    header = bytes([0x60, 1, 2, 3]) + len(payload).to_bytes(2, "big") + bytes([protocol, 64])
    return ethernet(0x86dd, header + source + target + payload, tag)


def ethernet(kind, payload, tag=None):
    tags = b"" if tag is None else b"\x81\x00" + tag.to_bytes(2, "big")
    return bytes.fromhex("0253040506070253010203aa") + tags + kind.to_bytes(2, "big") + payload


def fold(*fields):
    """The definition: all halfwords together, then both halves of that."""
    total = 0
    for field in fields:
        for at in range(0, len(field), 2):
            total ^= int.from_bytes(field[at:at + 2], "little")
    return total & 0xff ^ total >> 8


def run(width, frames, *, idle=lambda: False, errors=()):
    """Hash and error of each frame."""
    dut, got, lanes = FlowHash(width=width), [], width // 8

    async def feed(ctx):
        for number, frame in enumerate(frames):
            for at in range(0, len(frame), lanes):
                while idle():
                    await ctx.tick()
                chunk, last = frame[at:at + lanes], at + lanes >= len(frame)
                ctx.set(dut.i, {"data": int.from_bytes(chunk, "little"), "count": len(chunk), "last": last,
                                "error": last and number in errors})
                ctx.set(dut.valid, 1)
                await ctx.tick()
                ctx.set(dut.valid, 0)
        await ctx.tick().repeat(dut.latency + 1)

    async def watch(ctx):
        async for _, _, done, hash_, error in ctx.tick().sample(dut.done, dut.hash, dut.error):
            if done:
                got.append((hash_, error))

    simulation = Simulation(dut, limit=100_000)
    simulation.background(watch)
    simulation.run(feed)
    assert len(got) == len(frames)
    return got


def test_errors():
    with pytest.raises(ValueError, match="^Flows are recognised at 16 to 512 bits a beat, not 1024$"):
        FlowHash(width=1024)


@pytest.mark.parametrize("width", [16, 32, 64, 128, 256, 512])
def test_hash(width, rng):
    frames, want = [], []

    def add(frame, *fields):
        frames.append(frame)
        want.append(fold(*fields))
    for tag in None, 0x0123:
        for _ in range(3):
            a4, b4, a6, b6 = rng.randbytes(4), rng.randbytes(4), rng.randbytes(16), rng.randbytes(16)
            ports, rest = rng.randbytes(4), rng.randbytes(rng.choice([4, 16, 200]))
            back = ports[2:] + ports[:2]
            for protocol in (6, 17):
                for options in (0, 4, 12, 40):
                    more = dict(protocol=protocol, options=options, tag=tag)
                    add(ipv4(a4, b4, payload=ports + rest, **more), a4, b4, ports)
                    add(ipv4(b4, a4, payload=back + rest, **more), a4, b4, ports)
                    add(ipv4(b4, a4, payload=back + rest, **more, fragment=0), a4, b4, ports)
                    for fragment in (0x2000, 0x0001, 0x2123):
                        add(ipv4(a4, b4, payload=ports + rest, **more, fragment=fragment), a4, b4)
                add(ipv6(a6, b6, payload=ports + rest, protocol=protocol, tag=tag), a6, b6, ports)
                add(ipv6(b6, a6, payload=back + rest, protocol=protocol, tag=tag), a6, b6, ports)
            add(ipv4(a4, b4, payload=ports + rest, protocol=1, tag=tag), a4, b4)
            add(ipv6(a6, b6, payload=ports + rest, protocol=58, tag=tag), a6, b6)
            add(ethernet(0x0806, rest, tag))
            add(ipv4(a4, b4, payload=ports, tag=tag), a4, b4, ports)      # its last bytes are the ports
            add(ethernet(0x0800, b"", tag))
    add(ethernet(0x8100, b"\x81\x00\x00\x05\x08\x00" + rng.randbytes(60), 3))  # two tags
    add(b"short")
    order = list(range(len(frames)))
    rng.shuffle(order)
    got = run(width, [frames[k] for k in order], idle=lambda: rng.random() < 0.1, errors={3})
    assert got == [(want[k], number == 3) for number, k in enumerate(order)]


def test_flows_of_one_server_differ():
    """Client ports one after the other are as many hashes."""
    frames = [ipv4(b"\x0a\0\0\1", b"\x0a\0\0\2", payload=(40000 + k).to_bytes(2, "big") + (5201).to_bytes(2, "big") + bytes(16))
              for k in range(64)]
    assert len({hash_ for hash_, _ in run(128, frames)}) == 64


def test_table(rng):
    dut = FlowTable(pairs=5)

    async def look(ctx, hash_):
        ctx.set(dut.hash, hash_)
        await ctx.tick()
        return ctx.get(dut.pair)

    async def learn(ctx, hash_, pair):
        ctx.set(dut.learn, 1)
        ctx.set(dut.learn_hash, hash_)
        ctx.set(dut.learn_pair, pair)
        await ctx.tick()
        ctx.set(dut.learn, 0)

    async def bench(ctx):
        await learn(ctx, 0xff, 3)                      # too early
        for _ in range(260):
            assert await look(ctx, 0xff) == 0
        known = {}
        for _ in range(300):
            hash_, pair = rng.randrange(256), rng.randrange(5)
            await learn(ctx, hash_, pair)
            known[hash_] = pair
        for hash_ in range(256):
            assert await look(ctx, hash_) == known.get(hash_, 0)

    Simulation(dut).run(bench)


def test_reset_clears_every_flow():
    """The memory keeps what it has over a reset; afterwards each entry is written, and what was learnt before is gone."""
    dut, reset = FlowTable(pairs=2), Signal()

    async def bench(ctx):
        await ctx.tick().repeat(260)
        ctx.set(dut.learn, 1)
        ctx.set(dut.learn_pair, 1)
        for hash_ in range(256):
            ctx.set(dut.learn_hash, hash_)
            await ctx.tick()
        ctx.set(dut.learn, 0)
        ctx.set(dut.hash, 255)
        await ctx.tick()
        assert ctx.get(dut.pair) == 1
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        for _ in range(260):                           # not even while it is being cleared
            await ctx.tick()
            assert ctx.get(dut.pair) == 0
        for hash_ in range(256):
            ctx.set(dut.hash, hash_)
            await ctx.tick()
            assert ctx.get(dut.pair) == 0, hash_

    Simulation(ResetInserter(reset)(dut)).run(bench)
