"""Each client's reads in order, against lists of Python's."""

import pytest

from ringnic.hdl.pcie.dma_lists import Lists

from ...kit.simulation import Simulation

TAGS = 8


@pytest.mark.parametrize("clients", [1, 2, 5])
def test_oldest_first(rng, clients):
    """Issues, ends and pops of any clients, also in the same cycle. ``ready`` follows what makes it so by a cycle."""
    dut = Lists(tags=TAGS, slot_bytes=128, clients=clients)
    lists, ended, popped = [[] for _ in range(clients)], set(), 0

    async def main(ctx):
        nonlocal popped
        pop = issued = False
        for _ in range(6000):
            used = {tag for tags in lists for tag in tags}
            waiting = sorted(used - ended)
            end = rng.choice(waiting) if waiting and rng.random() < 0.3 else None
            spare = sorted(set(range(TAGS)) - used)
            new = rng.choice(spare) if spare and not issued and rng.random() < 0.6 else None
            ready = [bool(tags) and tags[0] in ended for tags in lists]
            assert [ctx.get(dut.ready) >> k & 1 for k in range(clients)] == ready
            for client in range(clients):
                ctx.set(dut.client, client)
                assert not lists[client] or ctx.get(dut.head) == lists[client][0]
            pop = rng.choice([k for k in range(clients) if ready[k]]) if any(ready) and rng.random() < 0.7 else None
            if end is not None:
                ended.add(end)
                ctx.set(dut.ended.tag, end)
                ctx.set(dut.ended.client, next(k for k in range(clients) if end in lists[k]))
            ctx.set(dut.ended.valid, end is not None)
            if pop is not None:
                ctx.set(dut.client, pop)
                # What ends in this cycle is not yet known, or it is, whichever.
                ctx.set(dut.next_ended, ctx.get(dut.next) in ended)
            ctx.set(dut.pop, pop is not None)
            client = rng.randrange(clients)
            ctx.set(dut.issue.valid, issued := new is not None)
            if issued:
                ctx.set(dut.issue.tag, new)
                ctx.set(dut.issue.client, client)
            await ctx.tick()
            if pop is not None:
                ended.remove(lists[pop].pop(0))
                popped += 1
            if issued:
                lists[client].append(new)
    Simulation(dut).run(main)
    assert popped > 500
