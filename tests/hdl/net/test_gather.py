"""Segments in their places, until there are enough for a frame."""

import pytest

from ringnic.hdl.net.gather import Gather

from ...kit.simulation import Simulation


@pytest.mark.parametrize("sizes, need, enough, spilt, stored", [
    ([100], 100, True, False, 1), ([99], 100, False, False, 1), ([50, 50], 100, True, False, 2), ([0, 100], 100, True, False, 1),
    ([100, 7, 7, 7, 7, 7], 100, True, False, 2), ([25] * 4, 100, True, False, 4), ([25] * 4 + [0], 100, True, True, 4),
    ([20] * 5, 100, False, True, 4), ([0x1_0000], 0x1_0000, True, False, 1), ([0xffff_ffff], 0x1_0008, True, False, 1)])
def test_gather(sizes, need, enough, spilt, stored):
    """Places for four: what holds something of the frame, and the chain's end."""
    dut, places = Gather(max_segments=4, slots=2), []

    async def chain(ctx):
        before = len(places)
        for k, size in enumerate(sizes):
            ctx.set(dut.i.p, {"len": size, "write": 1, "last": k == len(sizes) - 1, "addr": k})
            ctx.set(dut.i.valid, 1)
            _, _, en, place, ended, ready = await ctx.tick().sample(dut.store.en, dut.store.place, dut.ended, dut.i.ready)
            assert ready and ended == (k == len(sizes) - 1)
            if en:
                places.append(place)
        ctx.set(dut.i.valid, 0)
        assert len(places) - before == stored
        assert (ctx.get(dut.enough), ctx.get(dut.spilt)) == (enough, spilt) and not ctx.get(dut.failed)
        assert ctx.get(dut.full) == (stored == 4)

    async def strobe(ctx, signal):
        ctx.set(signal, 1)
        await ctx.tick()
        ctx.set(signal, 0)
        assert not ctx.get(dut.enough) and not ctx.get(dut.spilt) and not ctx.get(dut.full)

    async def main(ctx):
        ctx.set(dut.need, need)
        ctx.set(dut.open, 1)
        await chain(ctx)
        await strobe(ctx, dut.clear)
        await chain(ctx)
        assert places[:stored] == places[stored:] == list(range(stored))
        await strobe(ctx, dut.keep)
        await chain(ctx)
        assert places[2 * stored:] == [(stored + k) % 8 for k in range(stored)]
    Simulation(dut).run(main)


def test_what_is_stored():
    """Of a buffer no more than any frame has, and the entries that a chain may take."""
    dut, segments = Gather(max_segments=4, slots=2, most_entries=1024), []

    async def main(ctx):
        ctx.set(dut.need, 0x1_0000)
        ctx.set(dut.open, 1)
        ctx.set(dut.i.valid, 1)
        for size in (100, 0x3fff, 0x4000, 0xffff_ffff):
            ctx.set(dut.i.p, {"len": size, "write": 1, "last": 1, "addr": size, "chain": {
                "id": 0xfedc, "count": 1024, "writable": 1}})
            segment = ctx.get(dut.store.segment)
            segments.append((segment.addr, segment.len))
            assert (segment.id, segment.count, segment.writable, segment.last) == (0xfedc, 1024, 1, 1)
    Simulation(dut).run(main)
    assert segments == [(100, 100), (0x3fff, 0x3fff), (0x4000, 0x3fff), (0xffff_ffff, 0x3fff)]
