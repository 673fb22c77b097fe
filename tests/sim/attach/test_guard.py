"""The guard between somebody's endpoint and the root complex: good TLPs pass untouched, and no other is too short to read."""

import pytest

from ringnic.sim.attach.guard import LONGEST, Guard

from ...kit import tlps
from ...kit.simulation import Simulation

WIDTHS = pytest.mark.parametrize("width", [32, 64, 128])


def beats(raw, width, *, last=True):
    """``raw``, whole DWs, as payloads; with ``last`` False it does not end."""
    size = width // 8
    for at in range(0, len(raw), size):
        part = raw[at:at + size]
        yield {"data": int.from_bytes(part, "little"), "dws": len(part) // 4, "last": int(last and at + size >= len(raw))}


def through(width, sent, rng=None, pause=0.0):
    """What comes out, as one ``bytes`` for each TLP and a rest that has not ended."""
    guard = Guard(width=width)
    bench = Simulation(guard, rng, pause=pause, limit=60000)
    got = bench.collect(guard.o)

    async def send(ctx):
        for beat in sent:
            await bench.send(ctx, guard.i, beat)
        await ctx.tick().repeat(200)
    bench.run(send)
    done, rest = [], b""
    for beat in got:
        assert beat.dws <= width // 32
        rest += int(beat.data).to_bytes(width // 8, "little")[:4 * beat.dws]
        if beat.last:
            done, rest = [*done, rest], b""
    return done, rest


def good(rng, count):
    """TLPs of every kind of header, with as much data as they say."""
    for _ in range(count):
        write, dw4, length = rng.random() < 0.7, rng.random() < 0.5, rng.choice([1, 2, 3, 7, 32])
        data = rng.randbytes(4 * length) if write else b""
        yield tlps.memory(write, 0x1_0000_0000 if dw4 else 0x1000, length, dw4=dw4, data=data)


@WIDTHS
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_good_tlps_pass_untouched(width, pause, rng):
    sent = [*good(rng, 40), tlps.memory(True, 0, 0, data=bytes(4096)), tlps.memory(False, 0, 0)]
    assert through(width, [beat for raw in sent for beat in beats(raw, width)], rng, pause) == (sent, b"")


@WIDTHS
@pytest.mark.parametrize("dw4", [False, True])
@pytest.mark.parametrize("missing", [1, 4, 9])
def test_one_that_ends_early_is_filled_until_it_is_too_long(width, missing, dw4, rng):
    whole = tlps.memory(True, 0x1_0000_0000 if dw4 else 0x1000, 7, dw4=dw4, data=rng.randbytes(28))
    before, after = list(good(rng, 2))
    sent = [before, whole[:len(whole) - 4 * missing], after]
    (first, filled, last), rest = through(width, [beat for raw in sent for beat in beats(raw, width)], rng, 0.3)
    assert (first, last, rest) == (before, after, b"")
    assert filled.startswith(sent[1]) and not any(filled[len(sent[1]):]) and len(whole) < len(filled) <= len(whole) + width // 8


@WIDTHS
def test_one_that_never_ends_is_cut(width, rng):
    raw, after = tlps.memory(True, 0x1000, 1, data=bytes(4 * 3 * LONGEST)), list(good(rng, 1))
    (cut, *got), rest = through(width, [*beats(raw, width), *beats(after[0], width)])
    assert cut == raw[:4 * LONGEST] and got == after and rest == b""


def test_beats_with_too_many_dws_or_none():
    last = {"data": 0, "dws": 0, "last": 1}
    many = [{"data": int.from_bytes(raw, "little"), "dws": 3, "last": k} for k, raw in enumerate(
        (tlps.memory(True, 0x1000, 1, data=b"abcd")[:8], tlps.memory(True, 0x1000, 1, data=b"abcd")[8:]))]
    none = {"data": 0, "dws": 0, "last": 0}
    done, rest = through(64, [last, none, last, *many, last])
    assert done == [tlps.memory(True, 0x1000, 1, data=b"abcd")] and rest == b""
