"""Heads, entries and single descriptors in one memory: each where it is looked for, and none over another."""

import pytest

from ringnic.hdl.virtqueue.ahead import HEADS, Ahead, Layouts

TOP = 1 << 64


@pytest.fixture
def make(stage):
    def bench(*, ports=2, max_ahead=4, **options):
        bench = stage(Ahead(num_queues=4, ports=ports, max_ahead=max_ahead), **options)

        async def head(ctx, port, ident, end=0, wait=0, **fields):
            dut = bench.dut
            ctx.set(dut.i_head.p, {"port": port, "taken": {"queue": 3, "head": {"id": ident, **fields}}})
            ctx.set(dut.i_head.valid, 1)
            await ctx.tick()
            ctx.set(dut.i_head.valid, 0)
            assert ctx.get(dut.head_valid) and ctx.get(dut.head_port) == port and ctx.get(dut.head.id) == ident
            for _ in range(wait):
                await ctx.tick()
            assert ctx.get(dut.head_valid) and ctx.get(dut.head.id) == ident
            ctx.set(dut.head_end, end)
            ctx.set(dut.head_write, 1)
            await ctx.tick()
            ctx.set(dut.head_write, 0)
            assert not ctx.get(dut.head_valid)

        async def entry(ctx, port, addr, *, length=0, flags=0, following=0, **fields):
            await bench.send(ctx, bench.dut.i_entry, {
                "port": port, "desc": {"addr": addr, "len": length, "flags": flags, "next": following}, **fields})

        async def row(ctx, port, position, table):
            ctx.set(bench.dut.place, {"port": port, "position": position, "table": table})
            await ctx.tick()
            return ctx.get(bench.dut.row)
        bench.head, bench.entry, bench.row = head, entry, row
        return bench
    return bench


@pytest.mark.parametrize("max_ahead, room", [(1, 4), (4, 16), (5, 32), (32, 128)])
def test_room_for_four_tables(max_ahead, room):
    assert Layouts(num_queues=2, ports=2, max_ahead=max_ahead).room == room


@pytest.mark.parametrize("ports", [1, 2, 3])
def test_all_places_are_different(make, ports):
    bench = make(ports=ports)
    dut, room = bench.dut, 1 << bench.dut.layouts.index_bits

    async def testbench(ctx):
        for lap in range(3):
            for port in range(ports):
                for k in range(HEADS):
                    await bench.head(ctx, port, 100 * port + k + lap, end=(k + port) % room,
                                     addr=k, len=lap, flags=5, next=9)
                for k in range(room):
                    await bench.entry(ctx, port, 1000 * port + k + lap, length=k, flags=0x4003, following=77)
            await ctx.tick().repeat(2)
            for port in range(ports):
                assert ctx.get(dut.heads[port]) == HEADS * (lap + 1) % (2 * HEADS)
                assert ctx.get(dut.entries[port]) == room * (lap + 1) % (4 * room)
                for k in range(HEADS):
                    row = await bench.row(ctx, port, k, 0)
                    assert (row.id, row.queue, row.end, row.addr, row.len, row.flags, row.next) == (
                        100 * port + k + lap, 3, (k + port) % room, k, lap, 5, 9)
                for k in range(room):
                    row = await bench.row(ctx, port, k, 1)
                    assert (row.addr, row.len, row.flags, row.next) == (1000 * port + k + lap, k, 3, 77)
    bench.run(testbench)


def test_the_last_entry_of_a_table_ends_it(make):
    """A failed read brings fewer, and the next table begins where it would have begun."""
    bench = make()

    async def testbench(ctx):
        await bench.entry(ctx, 1, 11, end=4)
        await bench.entry(ctx, 1, 12, end=4, last=1, error=1)
        await bench.entry(ctx, 1, 13, end=5, last=1)
        await ctx.tick().repeat(2)
        assert [ctx.get(entries) for entries in bench.dut.entries] == [0, 5]
        rows = [await bench.row(ctx, 1, k, 1) for k in (0, 1, 4)]
        assert [(row.addr, row.error) for row in rows] == [(11, 0), (12, 1), (13, 0)]
    bench.run(testbench)


def test_a_single_descriptor_takes_the_place_of_the_oldest_head(make):
    bench = make()

    async def testbench(ctx):
        for k in range(4):
            await bench.head(ctx, 1, k)
        ctx.set(bench.dut.first_head[1], 2)
        await bench.entry(ctx, 1, 99, single=1, last=1)
        await ctx.tick().repeat(2)
        assert [ctx.get(entries) for entries in bench.dut.entries] == [0, 0]
        assert [ctx.get(heads) for heads in bench.dut.heads] == [0, 4]
        assert [(await bench.row(ctx, 1, k, 0)).addr for k in range(4)] == [0, 0, 99, 0]
    bench.run(testbench)


def test_packed_entries_have_their_flags_last(make):
    bench = make()

    async def testbench(ctx):
        ctx.set(bench.dut.packed, 1)
        await bench.entry(ctx, 0, 1, flags=5, following=0x8002)
        await ctx.tick().repeat(2)
        assert (await bench.row(ctx, 0, 0, 1)).flags == 2
    bench.run(testbench)


@pytest.mark.parametrize("kind", ["head", "entry"])
def test_what_runs_past_the_end_is_marked(make, kind):
    """To end there is allowed."""
    bench, cases = make(), [(TOP - 100, 100), (TOP - 100, 101), (TOP - 1, 0), (TOP - 1, 2), (0xffff_ffff, 2), (TOP - 1, 1),
                            (TOP - (1 << 32), 0xffff_ffff), (TOP - 0xffff_fffe, 0xffff_ffff), (TOP - (1 << 32) - 1, 2)]

    async def testbench(ctx):
        for k, (addr, length) in enumerate(cases):
            if kind == "head":
                await bench.head(ctx, 0, k, wait=k % 3, addr=addr, len=length)
            else:
                await bench.entry(ctx, 0, addr, length=length)
                assert ctx.get(bench.dut.over) == (addr + length > TOP)
            await ctx.tick()
            assert (await bench.row(ctx, 0, k, kind == "entry")).over == (addr + length > TOP), (addr, length)
    bench.run(testbench)


def test_an_entry_waits_while_a_head_is_looked_at(make):
    bench = make()

    async def heads(ctx):
        for k in range(8):
            await bench.head(ctx, 0, k, wait=2)

    async def entries(ctx):
        for k in range(12):
            await bench.entry(ctx, 1, 50 + k)
        await ctx.tick().repeat(2)
        assert ctx.get(bench.dut.entries[1]) == 12
        await ctx.tick().repeat(30)
        assert [(await bench.row(ctx, 1, k, 1)).addr for k in range(12)] == [50 + k for k in range(12)]
        assert [(await bench.row(ctx, 0, k, 0)).id for k in range(8)] == [*range(8)]
    bench.run(heads, entries)
