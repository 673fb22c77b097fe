"""Tally: how many descriptors a chain may still have, and where the next one is."""

import pytest

from ringnic.hdl.virtqueue.ahead import Layouts
from ringnic.hdl.virtqueue.tally import Tally

from ...kit.simulation import Simulation

MAX_TABLE = 8
INDEX_MOST = 1 << 16


def tally(desc, known=None, **inputs):
    """The context for the next descriptor, its index, and whether it is within its table, and that one far."""
    dut, found = Tally(layouts=Layouts(num_queues=2, ports=2, max_ahead=4), max_table=MAX_TABLE), []

    async def main(ctx):
        ctx.set(dut.desc, desc)
        ctx.set(dut.known, known or {})
        for name, value in inputs.items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        found.append((ctx.get(dut.new), ctx.get(dut.index), ctx.get(dut.within), ctx.get(dut.far)))
    Simulation(dut).run(main)
    return found[0]


@pytest.mark.parametrize("next, within", [(0, 1), (3, 1), (4, 0), (0xffff, 0)])
def test_a_head_in_the_table_of_its_queue(next, within):
    new, index, inside, far = tally({"next": next, "flags": 2}, {"queue": 1, "end": 9, "left": 7}, is_head=1, size=4)
    assert (index, inside, far) == (next, within, 0)
    assert (new.limit, new.left, new.capped, new.in_table, new.in_ring, new.writable) == (4, 3, 1, 0, 0, 1)
    assert (new.queue, new.end) == (1, 9)


def test_the_next_of_that_chain():
    new, index, within, far = tally({"next": 2}, {"limit": 4, "left": 3, "capped": 1, "writable": 1}, size=2)
    assert (index, within, far, new.left, new.capped, new.writable) == (2, 1, 0, 2, 1, 1)


@pytest.mark.parametrize("size, entries, left, capped", [
    (4, 1, 0, 0), (4, 8, 7, 0), (4, 9, 8, 1), (16, 9, 8, 0), (16, 17, 16, 1), (4, 1 << 20, 8, 1)])
@pytest.mark.parametrize("is_head", [0, 1])
def test_a_table_begins(size, entries, left, capped, is_head):
    """Of more descriptors than it may have, those are counted, and that there is one too many is found at the end."""
    new, index, within, far = tally({"len": 16 * entries, "next": 0xffff, "flags": 4}, {"limit": size, "left": 1, "index": 5},
                                    is_head=is_head, size=size, starts=1)
    assert (index, within, far) == (0, 1, 1)
    assert (new.index, new.limit, new.left, new.capped) == (1, min(entries, INDEX_MOST), left, capped)
    assert (new.in_table, new.in_ring, new.writable) == (1, 0, 0)


@pytest.mark.parametrize("index, within", [(1, 1), (2, 1), (3, 0)])
def test_a_packed_table_goes_on_with_the_next_entry(index, within):
    new, at, inside, far = tally({"next": 0}, {"index": index, "limit": 3, "left": 1, "in_table": 1}, packed=1)
    assert (at, inside, far, new.index, new.left) == (index, within, 1, index + 1, 0)


@pytest.mark.parametrize("slot, behind", [(2, 3), (3, 0)])
def test_a_chain_in_a_ring_wraps(slot, behind):
    new, *_, far = tally({"next": slot, "len": 3, "flags": 1}, is_head=1, ring=1, starts=1, packed=1, size=4)
    assert (new.index, new.left, new.in_ring, far) == (behind, 2, 1, 0)
    new, at, within, _ = tally({}, {"index": slot, "limit": 4, "left": 2, "in_table": 1, "in_ring": 1}, packed=1)
    assert (at, within, new.index) == (slot, 1, behind)
