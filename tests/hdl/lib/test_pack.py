"""Packer and Cutter: every byte once, in order, at one beat a cycle."""

import pytest

from ringnic.hdl.lib.pack import Cutter, Packer

from ...kit.simulator import Simulator


def number(chunk):
    return int.from_bytes(chunk, "little")


def sender(port, beats, rng, busy):
    async def bench(ctx):
        for beat in beats:
            while rng.random() > busy:
                await ctx.tick()
            ctx.set(port.p, beat)
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)
    return bench


def collect(dut, packets, count, rng, busy, cycles):
    """Testbench that fills ``packets`` and notes the cycles it took."""
    async def bench(ctx):
        packet, fields = b"", (dut.o.p.data, dut.o.p.count, dut.o.p.last, dut.o.p.error)
        held = None
        while len(packets) < count:
            ctx.set(dut.o.ready, rng.random() < busy)
            _, _, valid, ready, value, n, last, bad = await ctx.tick().sample(dut.o.valid, dut.o.ready, *fields)
            cycles[0] += 1
            assert cycles[0] < 20000
            assert held is None or (valid and held == (value, n, last)), "an offered beat was changed"
            held = (value, n, last) if valid and not ready else None
            if valid and ready:
                assert last or n == dut.width // 8
                assert value >> 8 * n == 0
                packet += value.to_bytes(dut.width // 8, "little")[:n]
                if last:
                    packets.append((packet, bad))
                    packet = b""
    return bench


def run(dut, *benches):
    sim = Simulator(dut)
    sim.add_clock(8e-9)
    for bench in benches:
        sim.add_testbench(bench, background=bench is not benches[-1])
    sim.run()


@pytest.mark.parametrize("busy", [1.0, 0.5])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_packer(width, busy, rng):
    lanes = width // 8
    dut, beats, want = Packer(width=width), [], []
    sizes = [[0], [1], [lanes], [lanes, 0], [0, lanes, 0, 1], [lanes - 1, 2], [1, lanes, lanes], [lanes - 1, lanes - 1]]
    sizes += [[rng.randrange(lanes + 1) for _ in range(rng.randrange(1, 9))] for _ in range(60)]
    for packet in sizes:
        whole, bad = b"", rng.randrange(2)
        for k, size in enumerate(packet):
            chunk = rng.randbytes(lanes)                     # what is not counted is noise
            skip = rng.randrange(min(lanes, lanes - size + 1))
            whole += chunk[skip:skip + size]
            last = k == len(packet) - 1
            beats.append({"data": number(chunk), "skip": skip, "count": size, "last": last, "error": last and bad})
        want.append((whole, bad))
    got, cycles = [], [0]
    run(dut, sender(dut.i, beats, rng, busy), collect(dut, got, len(want), rng, busy, cycles))
    assert got == want
    if busy == 1.0:
        assert cycles[0] <= len(beats) + len(want) + 2


@pytest.mark.parametrize("busy", [1.0, 0.5])
@pytest.mark.parametrize("width", [32, 64, 128, 512])
def test_cutter(width, busy, rng):
    """Each piece comes with all beats that have bytes of it, as they are."""
    lanes = width // 8
    dut, beats, cuts, want, got, cycles = Cutter(width=width), [], [], [], [], 0
    splits = [[1], [lanes], [lanes + 1], [1, lanes], [lanes - 1, 1, 1], [1] * (2 * lanes), [3 * lanes, 2]]
    splits += [[rng.choice([1, 2, rng.randrange(1, 5 * lanes)]) for _ in range(rng.randrange(1, 7))] for _ in range(60)]
    for pieces in splits:
        whole, begin = sum(pieces), 0
        rows = [rng.randbytes(lanes) for _ in range(0, whole, lanes)]
        beats += [{"data": number(row), "count": min(lanes, whole - lanes * k), "last": k == len(rows) - 1}
                  for k, row in enumerate(rows)]
        for piece in pieces:
            first, last, begin = begin // lanes, (begin + piece - 1) // lanes, begin + piece
            cuts.append({"len": piece, "lane": (begin - piece) % lanes, "more": begin != whole})
            want += [(number(row), k == last) for k, row in enumerate(rows) if first <= k <= last]

    async def take(ctx):
        nonlocal cycles
        while len(got) < len(want):
            ctx.set(dut.o.ready, rng.random() < busy)
            _, _, moved, beat = await ctx.tick().sample(dut.o.valid & dut.o.ready, dut.o.p)
            cycles += 1
            assert cycles < 20000
            if moved:
                got.append((beat.data, beat.last))
    run(dut, sender(dut.i, beats, rng, busy), sender(dut.i_cut, cuts, rng, busy), take)
    assert got == want
    if busy == 1.0:
        assert cycles <= len(want) + len(cuts) + 2
