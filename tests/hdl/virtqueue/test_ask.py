"""Which tables are asked for, how much of them, and when there is room."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect
import pytest

from ringnic.hdl.lib.dma import Area
from ringnic.hdl.virtqueue.ahead import HEADS, Ahead
from ringnic.hdl.virtqueue.ask import Ask

NEXT, INDIRECT = 1, 4
TOP = 1 << 64


class Joined(wiring.Component):
    """Ask with its memory, which is not to be tested here."""
    def __init__(self, **sizes):
        self.ask, self.ahead = Ask(**sizes), Ahead(**sizes)
        names = ("control", "i", "room", "soon", "first_head", "first_entry", "entries", "table", "busy")
        mine = {name: member for name, member in self.ask.signature.members.items() if name in names}
        super().__init__({**mine, "heads": self.ahead.signature.members["heads"]})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ask, m.submodules.ahead = ask, ahead = self.ask, self.ahead
        connect(m, ask.o, ahead.i_head)
        connect(m, wiring.flipped(self.i), ask.i)
        connect(m, ask.table, wiring.flipped(self.table))
        connect(m, wiring.flipped(self.control), ask.control)
        m.d.comb += [ask.head.eq(ahead.head), ask.head_port.eq(ahead.head_port), ahead.head_write.eq(ask.head_write),
                     ahead.head_end.eq(ask.head_end), self.room.eq(ask.room), self.soon.eq(ask.soon), self.busy.eq(ask.busy)]
        for k in range(len(self.heads)):
            m.d.comb += [ask.heads[k].eq(ahead.heads[k]), self.heads[k].eq(ahead.heads[k]),
                         ask.first_head[k].eq(self.first_head[k]), ask.first_entry[k].eq(self.first_entry[k]),
                         ask.entries[k].eq(self.entries[k]),
                         ahead.first_head[k].eq(self.first_head[k])]
        return m


@pytest.fixture
def make(stage):
    def bench(*, ports=2, max_ahead=4, indirect=1, packed=0, size=8, gate=None, **options):
        bench = stage(Joined(num_queues=2, ports=ports, max_ahead=max_ahead), **options)
        bench.asked = bench.collect(bench.dut.table, gate)

        async def start(ctx):
            ctx.set(bench.dut.control.indirect, indirect)
            ctx.set(bench.dut.control.packed, packed)
            await bench.setup(ctx, 1, size=size)

        async def give(ctx, port=0, **head):
            await bench.send(ctx, bench.dut.i, {"port": port, "taken": {"queue": 1, "head": head}})
        bench.start, bench.give = start, give
        return bench
    return bench


# Head, and bytes that are asked for; 0: it is not.
SPLIT = [
    ({"addr": 5}, 0), ({"flags": NEXT, "addr": 5, "len": 16}, 0),
    *[({"flags": INDIRECT, "addr": 0x1001, "len": length}, asked) for length, asked in (
        (16, 16), (48, 48), (64, 64), (80, 64), (0xffff_fff0, 64), (1 << 31, 64), (0, 0), (8, 0), (24, 0), (0xffff_ffff, 0))],
    ({"flags": INDIRECT | NEXT, "addr": 16, "len": 16}, 0),
    ({"flags": INDIRECT, "addr": TOP - (1 << 32) - 16, "len": 64}, 64),
    ({"flags": INDIRECT, "addr": TOP - (1 << 32), "len": 64}, 0), ({"flags": INDIRECT, "addr": TOP - 16, "len": 32}, 0),
]


@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("head, length", SPLIT)
def test_tables(make, head, length, packed):
    bench = make(packed=packed)
    if packed and head.get("flags", 0) & NEXT:
        return                                    # a chain in the ring

    async def testbench(ctx):
        await bench.start(ctx)
        for port in (0, 1):
            await bench.give(ctx, port, **head)
        await ctx.tick().repeat(10)
        found = [(item.port, item.addr, item.len, item.area, item.end) for item in bench.asked]
        assert found == [(port, head["addr"], length, Area.NONE, length // 16) for port in (0, 1) if length]
        assert [ctx.get(heads) for heads in bench.dut.heads] == [1, 1]
    bench.run(testbench)


def test_tables_need_their_feature(make):
    bench = make(indirect=0)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.give(ctx, flags=INDIRECT, addr=0, len=64)
        await ctx.tick().repeat(10)
        assert not bench.asked and ctx.get(bench.dut.heads[0]) == 1
    bench.run(testbench)


def test_chains_in_a_ring_are_read_to_its_end(make):
    bench = make(packed=1, max_ahead=4, size=8)

    async def testbench(ctx):
        await bench.start(ctx)
        cases = [(slot, count) for slot in range(8) for count in range(2, 9)]
        end = 0
        for slot, count in cases:
            ctx.set(bench.dut.first_head[0], ctx.get(bench.dut.heads[0]))
            ctx.set(bench.dut.first_entry[0], end)
            ctx.set(bench.dut.entries[0], end)
            await bench.give(ctx, 0, flags=NEXT, next=slot, len=count, addr=TOP - 1)
            entries = min(count, 4, 8 - slot)
            end = (end + entries) % (4 << bench.dut.ask.layouts.index_bits)
            await bench.until(ctx, lambda: bench.asked)
            item, = bench.asked
            assert (item.addr, item.len, item.area, item.queue, item.end) == (16 * slot, 16 * entries, Area.DESC, 1, end)
            bench.asked.clear()
    bench.run(testbench)


@pytest.mark.parametrize("kind", ["heads", "tables"])
def test_no_more_is_taken_than_there_is_room_for(make, kind):
    """A sender that looks at ``room`` gets stuck, and the other port does not."""
    bench = make(ports=2, max_ahead=4)
    head = {"heads": {}, "tables": {"flags": INDIRECT, "addr": 0, "len": 64}}[kind]
    positions = 4 << bench.dut.ask.layouts.index_bits

    async def testbench(ctx):
        await bench.start(ctx)
        given = [0, 0]
        for _ in range(4 * HEADS):
            for port in (0, 1):
                if ctx.get(bench.dut.room) >> port & 1:
                    await bench.give(ctx, port, **head)
                    given[port] += 1
                if port == 1:                    # whose device takes everything
                    ctx.set(bench.dut.first_head[1], given[1] % (2 * HEADS))
                    for free in (bench.dut.first_entry[1], bench.dut.entries[1]):
                        ctx.set(free, 4 * given[1] * (kind == "tables") % positions)
                await ctx.tick().repeat(4)
        assert given[1] == 4 * HEADS
        assert given[0] == {"heads": HEADS - 2, "tables": 2}[kind]
        ctx.set(bench.dut.first_head[0], given[0])
        # Entries have their places until they are used, and those of a chain that failed until they have come.
        for came, used in ((1, 0), (0, 1), (1, 1)) if kind == "tables" else ():
            assert ctx.get(bench.dut.room) == 2
            ctx.set(bench.dut.entries[0], 4 * given[0] * came)
            ctx.set(bench.dut.first_entry[0], 4 * given[0] * used)
            await ctx.tick().repeat(2)
        await ctx.tick().repeat(2)
        assert ctx.get(bench.dut.room) == 3
    bench.run(testbench)


@pytest.mark.parametrize("table", [False, True])
def test_pace(make, table):
    """Two cycles a head, and four with a table that is taken at once; its request is there two cycles after the head."""
    bench = make(ports=1, max_ahead=32)
    head = {"flags": INDIRECT, "addr": 0, "len": 16} if table else {}
    took = []

    async def watch(ctx):
        now = 0
        async for _, _, heads, asks in ctx.tick().sample(bench.dut.i.valid & bench.dut.i.ready, bench.dut.table.valid):
            now += 1
            took.extend(["head", now] * heads + ["table", now] * asks)
    bench.background(watch)

    async def testbench(ctx):
        await bench.start(ctx)
        for _ in range(6):
            await bench.give(ctx, **head)
        await ctx.tick().repeat(5)
        heads = [now for name, now in zip(took[::2], took[1::2]) if name == "head"]
        tables = [now for name, now in zip(took[::2], took[1::2]) if name == "table"]
        assert {after - before for before, after in zip(heads, heads[1:])} == {4 if table else 2}
        assert tables == ([now + 2 for now in heads] if table else [])
    bench.run(testbench)
