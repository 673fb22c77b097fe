"""The byte budget, checked by hand-made sums."""

import pytest

from ringnic.sim.budget import Cost, limit_mpps, link_bytes_per_second, packet_cost


def test_read_costs_a_request_up_and_completions_down():
    cost = Cost()
    cost.read(512, 1)
    assert (cost.up, cost.down) == (24, 512 + 2 * 20)


def test_write_is_cut_at_max_payload_size():
    cost = Cost()
    cost.write(300, 1)
    assert (cost.up, cost.down) == (2 * 24 + 300, 0)


def test_odd_sizes_are_whole_dwords():
    cost = Cost()
    cost.write(2, 1)
    assert cost.up == 24 + 4


def test_links():
    assert link_bytes_per_second("gen1x1") == pytest.approx(235e6)
    assert link_bytes_per_second("gen2x4") == pytest.approx(8 * 235e6)


def test_both_directions_share_the_link():
    both = limit_mpps("gen1x1", "both", 60)
    assert both < limit_mpps("gen1x1", "tx", 60)
    assert both < limit_mpps("gen1x1", "rx", 60)


def test_limits_of_short_frames():
    limits = [limit_mpps("gen1x1", direction, 60) for direction in ("tx", "rx", "both")]
    assert limits == pytest.approx([2.084, 2.162, 1.617], rel=0.002)


@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_ring_overhead_is_small_beside_a_large_frame(direction):
    cost = packet_cost(direction, 1514)
    assert 1526 < max(cost.up, cost.down) < 1526 * 1.15
