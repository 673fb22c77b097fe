"""What a test of a whole card says when it waited in vain."""

from types import SimpleNamespace

import pytest

from .card import WholeCard


class Gone:
    def counters(self):
        raise RuntimeError("The card is gone")


@pytest.mark.parametrize("net, told", [
    (SimpleNamespace(counters=lambda: {"tx_frames": 8, "rx_frames": 0, "rx_dropped_no_buffer": 3}),
     "; tx_frames 8; rx_dropped_no_buffer 3"),
    (Gone(), ""),
    (None, ""),
])
def test_what_was_counted_is_told_of_a_wait_in_vain(net, told):
    card, cycles = WholeCard(), []
    card.bus = SimpleNamespace(run=cycles.append)
    if net is not None:
        card.net = net
    with pytest.raises(AssertionError) as caught:
        card.until(lambda: False, "8 frames on the wire", limit=1000)
    assert str(caught.value) == f"Not within 1000 cycles: 8 frames on the wire{told}" and sum(cycles) == 1000


def test_how_many_came_is_told():
    """Those that came while it waited, not only those that were there before."""
    card, gifts = WholeCard(), [[1], [], [2, 3]]
    card.bus = SimpleNamespace(run=lambda cycles: None)
    with pytest.raises(AssertionError, match="4 frames on the wire, of which 3 came"):
        card.gather(lambda: gifts.pop(0) if gifts else [], 4, "frames on the wire")
