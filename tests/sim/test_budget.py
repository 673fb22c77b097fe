"""The byte budget, checked by hand-made sums."""

import pytest

from ringnic.sim.budget import Cost, Ring, beats, limit_mpps, link_bytes_per_second, packet_cost


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


def test_a_tlp_is_whole_beats():
    cost = Cost(beats(256))
    cost.read(513, 1)      # two requests of a beat; completions of 256, 256 and 4 bytes behind 12 bytes of header
    assert (cost.up, cost.down) == (2, 9 + 9 + 1)
    cost = Cost(beats(64))
    cost.write(258, 2)     # 16 + 256 and 16 + 4 bytes, for two packets
    assert (cost.up, cost.down) == ((34 + 3) / 2, 0)


def test_a_narrow_datapath_is_the_limit():
    """A frame of 1518 bytes is read with 12 more: 6 completions, of which five have 256 bytes behind 12 of header."""
    limit = limit_mpps("gen3x16", "tx", 1514, Ring(packed=True), width=128, core_mhz=250)
    assert limit == pytest.approx(250 / (5 * 17 + 17 + 17 / 16 + (2 + 1) / 64), rel=0.01)
    assert limit_mpps("gen1x1", "tx", 1514, width=128, core_mhz=250) == limit_mpps("gen1x1", "tx", 1514)


def test_links():
    assert link_bytes_per_second("gen1x1") == pytest.approx(235e6)
    assert link_bytes_per_second("gen2x4") == pytest.approx(8 * 235e6)


def test_both_directions_share_the_link():
    both = limit_mpps("gen1x1", "both", 60)
    assert both < limit_mpps("gen1x1", "tx", 60)
    assert both < limit_mpps("gen1x1", "rx", 60)


def test_limits_of_short_frames():
    limits = [limit_mpps("gen1x1", direction, 60, Ring(notification_data=False)) for direction in ("tx", "rx", "both")]
    assert limits == pytest.approx([2.084, 2.162, 1.617], rel=0.002)


@pytest.mark.parametrize("ring, direction, up, down", [
    # Descriptors: 24 up and 256 + 20 down for 16 packets. Of a batch of 64: event written (28), read (24 and 24), MSI-X (28),
    # notification (28 down), and used descriptors: 4 TLPs of 256 bytes, or one.
    (Ring(packed=True), "tx", 24 + 24 / 16 + (28 + 24 + 28 + 4 * (24 + 256)) / 64, 72 + 20 + 276 / 16 + (24 + 28) / 64),
    (Ring(packed=True, in_order=True), "tx", 24 + 24 / 16 + (28 + 24 + 28 + 24 + 16) / 64, 72 + 20 + 276 / 16 + (24 + 28) / 64),
    (Ring(packed=True, in_order=True), "rx", 24 + 72 + 24 / 16 + (28 + 24 + 28 + 4 * (24 + 256)) / 64, 276 / 16 + (24 + 28) / 64),
    # Split: ring entries 24 up, 128 + 20 down; used entries 2 TLPs of 256 bytes; both indices written (28 each).
    (Ring(), "tx", 24 + 24 / 16 + (24 + 2 * (24 + 256) + 28 + 28 + 24 + 28) / 64, 72 + 20 + 276 / 16 + (148 + 24 + 28) / 64),
])
def test_bytes_of_a_short_packet(ring, direction, up, down):
    cost = packet_cost(direction, 60, ring)
    assert (cost.up, cost.down) == pytest.approx((up, down))


def test_used_descriptors_cost_more_than_used_entries_but_in_order():
    split, packed, in_order = (packet_cost("tx", 60, ring).up for ring in (
        Ring(), Ring(packed=True), Ring(packed=True, in_order=True)))
    assert in_order < split < packed


@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_ring_overhead_is_small_beside_a_large_frame(direction):
    cost = packet_cost(direction, 1514)
    assert 1526 < max(cost.up, cost.down) < 1526 * 1.15
