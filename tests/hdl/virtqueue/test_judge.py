"""Every combination of flags, format and place of a descriptor against the rules, one after the other."""

from itertools import product

import pytest

from ringnic.hdl.spec.virtio import VirtqDescF
from ringnic.hdl.virtqueue.judge import Judge, Source

NEXT, INDIRECT = VirtqDescF.NEXT.value, VirtqDescF.INDIRECT.value


def split(flags, length, head, indirect, in_table, none_left, capped):
    """What a descriptor of a split ring is: "table", "buffer", "last", or None if it breaks a rule."""
    if flags & INDIRECT:
        if flags & NEXT or in_table or not indirect or length == 0 or length % 16:
            return None
        return None if none_left and capped and not head else "table"
    if none_left and not head and (capped or (in_table and flags & NEXT)):
        return None
    return "buffer" if flags & NEXT else "last"


def packed(flags, length, head, indirect, in_table, in_ring, none_left, capped):
    if head and flags & NEXT:
        return "ring"
    if none_left and not head and capped:
        return None
    if flags & INDIRECT and not (in_table and not in_ring):   # 2.8.7: in an indirect table the flag means nothing
        if in_ring or not indirect or length == 0 or length % 16:
            return None
        return "table"
    return "buffer" if in_table and not none_left else "last"


def places(is_packed):
    """Sources, and where a descriptor from there may be: in_table, in_ring."""
    yield Source.HEAD, 0, 0
    for source in (Source.ENTRY, Source.SINGLE):
        yield source, 1, 0
        if is_packed:
            yield source, 1, 1
    if not is_packed:
        yield Source.SINGLE, 0, 0


@pytest.mark.parametrize("is_packed", [0, 1], ids=["split", "packed"])
def test_verdicts(stage, is_packed):
    bench = stage(Judge(), limit=100_000)
    dut = bench.dut

    async def testbench(ctx):
        ctx.set(dut.packed, is_packed)
        for (source, in_table, in_ring), flags, indirect, none_left, capped, bad in product(
                places(is_packed), range(8), (0, 1), (0, 1), (0, 1), ("", "over", "error", "halted")):
            for length in (0, 1, 8, 16, 24, 4096, 1 << 31, 0xffff_ffff) if flags & INDIRECT else (0, 77):
                head = source == Source.HEAD
                for name, value in (("source", source), ("in_table", in_table), ("in_ring", in_ring), ("flags", flags),
                                    ("indirect", indirect), ("none_left", none_left), ("capped", capped), ("len", length),
                                    *[(name, bad == name) for name in ("over", "error", "halted")]):
                    ctx.set(getattr(dut, name), value)
                await ctx.delay(1e-9)
                found = (packed(flags, length, head, indirect, in_table, in_ring, none_left, capped) if is_packed
                         else split(flags, length, head, indirect, in_table, none_left, capped))
                if bad == "halted" or bad and found != "ring":
                    found = None
                case = (source, in_table, in_ring, flags, indirect, none_left, capped, bad, length)
                assert ctx.get(dut.fails) == (found is None), case
                if found is not None:
                    assert ctx.get(dut.starts) == (found in ("table", "ring")), case
                    assert ctx.get(dut.ring) == (found == "ring"), case
                    assert found in ("table", "ring") or ctx.get(dut.has_next) == (found == "buffer"), case
    bench.run(testbench)


def test_what_is_not_there_fails(stage):
    bench = stage(Judge())

    async def testbench(ctx):
        ctx.set(bench.dut.source, Source.NONE)
        for flags, is_packed in product(range(8), (0, 1)):
            ctx.set(bench.dut.flags, flags)
            ctx.set(bench.dut.packed, is_packed)
            await ctx.tick()
            assert ctx.get(bench.dut.fails)
    bench.run(testbench)
