"""Where packets wait: the shares of streams, and the stage that is blamed."""

import pytest

from ringnic.sim.bench import SETUPS, Setup
from ringnic.sim.budget import Ring
from ringnic.sim.stages import LATENCY, LINK, Flow, limiting, measure_stages

CLOSE = Setup("gen2x4", 64)


@pytest.mark.parametrize("shares, blamed", [
    ([("A", .2, .7), ("B", .2, .5), ("C", .2, .0)], "B"),       # B's input waits, and what it gives moves on
    ([("A", .2, .7), ("B", .2, .1), ("C", .2, .0)], "A"),
    ([("A", .2, .0), ("B", .2, .1), ("C", .2, .0)], LATENCY),   # nobody holds anybody up
    ([("A", .2, .7), ("B", .2, .5), (LINK, .9, .08)], LINK),
    ([("A", .2, .7), (LINK, .5, .4)], "A"),                     # it has room
])
def test_blame(shares, blamed):
    assert limiting([Flow(f"to {taker}", taker, moves, waits) for taker, moves, waits in shares]) == blamed


@pytest.mark.parametrize("ring", [Ring(), Ring(packed=True)], ids=lambda ring: ring.name)
@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
def test_a_busy_card(direction, ring):
    flows = {flow.name: flow for flow in measure_stages(CLOSE, direction, 64, ring=ring, cycles=2000)}
    assert all(0 <= flow.moves <= 1 and 0 <= flow.waits <= 1 and flow.moves + flow.waits <= 1 for flow in flows.values())
    for way in ("tx", "rx"):
        chains = [flow for name, flow in flows.items() if name.startswith(f"{way}: chains given back")]
        assert len(chains) == (direction in (way, "both"))
        # A chain for a packet of 64 bytes: one in 12 to 22 cycles.
        assert all(1 / 22 < flow.moves < 1 / 11 for flow in chains)
    # Of a card with 64 bits this link is not the limit, its datapath is nearly so.
    assert flows["TLPs to the host"].moves > 0.2


@pytest.mark.long
def test_a_narrow_link_is_what_limits():
    flows = measure_stages(SETUPS[0], "rx", 1518, cycles=2000)
    assert limiting(flows) == LINK
