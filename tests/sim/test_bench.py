"""What ``ringnic bench`` measures: the keys that its report promises, and the figures that the card is to keep."""

import pytest

from ringnic.host.bench import write_report
from ringnic.hdl.spec.virtio import VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED
from ringnic.sim.bench import JUMBO, SETUPS, Setup, measure, measure_latency, simulator_speed
from ringnic.sim.budget import Ring

CLOSE, SLOW, GEN3X8 = Setup("gen2x4", 64), SETUPS[0], SETUPS[3]
KEYS = {"link", "core_mhz", "tx_mpps", "rx_mpps", "width", "ring", "direction", "frame_bytes", "mpps", "gbit_s", "limit_mpps",
        "percent_of_limit",
        "cycles_per_packet", "tlps_per_packet", "reads_per_packet", "read_latency_ns", "in_order", "notification_data", "pairs"}
RINGS = [Ring(packed, in_order, notification_data)
         for packed in (False, True) for in_order in (False, True) for notification_data in (False, True)]
FORMATS = [Ring(packed) for packed in (False, True)]


def name(ring):
    extras = {"in_order": ring.in_order, "notification_data": ring.notification_data}
    return "-".join([ring.name, *(extra for extra, there in extras.items() if there)])


@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
@pytest.mark.parametrize("ring", RINGS, ids=name)
def test_short_frames(ring, direction):
    case = measure(CLOSE, direction, 64, ring=ring)
    assert (case.link, case.width, case.ring, case.direction, case.frame_bytes) == ("gen2x4", 64, ring.name, direction, 64)
    assert case.dropped == 0 and case.cycles_per_packet <= 30 and case.tlps_per_packet <= 3
    assert case.reads_per_packet <= 1.3
    assert case.mpps == pytest.approx(125 / case.cycles_per_packet)
    assert case.gbit_s == pytest.approx(case.mpps * 64 * 8 / 1000)
    assert 0 < case.percent_of_limit <= 102   # the limit is an estimate
    ways = {way: rate for way, rate in (("tx", case.tx_mpps), ("rx", case.rx_mpps)) if rate is not None}
    assert list(ways) == (["tx", "rx"] if direction == "both" else [direction]) and min(ways.values()) == case.mpps


def test_gigabit_ethernet_on_the_slowest_link():
    """64-byte frames both ways at the rate of the wire; with IN_ORDER, for a split ring without needs more of the link."""
    case = measure(SLOW, "both", 64, ring=Ring(in_order=True))
    assert case.mpps >= 1.488 and case.core_mhz == 62.5


def test_max_payload_size_is_programmed():
    """A frame of 1518 bytes goes up in TLPs of 256, and its buffer may lie across their borders."""
    assert measure(CLOSE, "rx", 1518).tlps_per_packet < 8.5


@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
def test_long_frames_fill_the_link(direction):
    case = measure(Setup("gen2x4", 128), direction, 1518)
    assert case.percent_of_limit > 97 and case.dropped == 0


@pytest.mark.long
@pytest.mark.parametrize("frame_bytes", [1518, JUMBO])
@pytest.mark.parametrize("ring", FORMATS, ids=name)
def test_long_frames_fill_a_fast_link_both_ways(ring, frame_bytes):
    case = measure(GEN3X8, "both", frame_bytes, ring=ring)
    assert case.percent_of_limit > 97 and case.dropped == 0


@pytest.mark.long
def test_tags_cover_a_distant_host():
    """2.25 us times what Gen3 x8 carries are some 17 KB, more than 32 reads of 512 bytes."""
    near, far = (measure(GEN3X8, "tx", 1518, read_latency_ns=latency) for latency in (250, 2250))
    assert far.mpps > 0.97 * near.mpps


@pytest.mark.long
@pytest.mark.parametrize("latency", [250, 750, 1250])
@pytest.mark.parametrize("direction", ["tx", "rx"])
@pytest.mark.parametrize("ring", FORMATS, ids=name)
def test_sixty_million_frames_a_second(ring, direction, latency):
    """At 512 bits, however far the host is."""
    case = measure(SETUPS[-1], direction, 64, ring=ring, read_latency_ns=latency)
    assert case.width == 512 and case.dropped == 0 and case.mpps >= 60


@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
@pytest.mark.parametrize("ring", FORMATS, ids=name)
def test_short_frames_fill_the_link(ring, direction):
    case = measure(Setup("gen2x4", 128), direction, 64, ring=ring)
    assert case.percent_of_limit >= 95 and case.dropped == 0
    assert direction != "both" or case.tx_mpps == pytest.approx(case.rx_mpps, rel=0.05)


@pytest.mark.parametrize("ring", FORMATS, ids=name)
def test_four_pairs_at_once(ring):
    case = measure(CLOSE, "both", 64, ring=ring, pairs=4)
    assert case.dropped == 0 and case.pairs == 4 and case.cycles_per_packet <= 36 and case.reads_per_packet <= 1.3


@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
@pytest.mark.parametrize("ring", FORMATS, ids=name)
def test_a_host_that_is_farther_away(ring, direction):
    near, far = (measure(CLOSE, direction, 64, ring=ring, read_latency_ns=latency) for latency in (250, 1250))
    assert far.mpps >= 0.9 * near.mpps and (near.read_latency_ns, far.read_latency_ns) == (250, 1250)


@pytest.mark.parametrize("ring, direction, reads", [
    (Ring(), "tx", 3), (Ring(packed=True), "tx", 2), (Ring(notification_data=False), "tx", 4),
    (Ring(), "rx", 0), (Ring(packed=True), "rx", 0)])
def test_dependent_reads_of_a_lone_packet(ring, direction, reads):
    found = measure_latency(CLOSE, direction, 64, ring=ring)
    assert found.dependent_reads == reads and found.ns_per_ns == pytest.approx(reads, abs=0.05)
    assert (found.ring, found.direction, found.notification_data) == (ring.name, direction, ring.notification_data)
    assert 0 < found.latency_ns < 4000


def test_a_card_that_does_not_offer_packed_rings():
    everything_else = set(range(128)) - {VIRTIO_F_RING_PACKED}
    with pytest.raises(ValueError, match="packed"):
        measure(CLOSE, "tx", 64, ring=Ring(packed=True), features=everything_else)


def test_slow_link_is_what_limits_long_frames():
    case = measure(SLOW, "tx", 1518)
    assert 90 < case.percent_of_limit <= 100 and case.link_bytes_per_packet > 1518


def test_simulator_speed_of_a_card_with_fewer_features():
    ring, features = Ring(notification_data=False), set(range(128)) - {VIRTIO_F_NOTIFICATION_DATA}
    assert simulator_speed(64, ring=ring, features=features, seconds=0.1) > 1000
    with pytest.raises(ValueError, match="split"):
        simulator_speed(64, features=features, seconds=0.1)


def test_report(tmp_path):
    case = measure(SLOW, "rx", 64)
    speed = {"what": "alone", "width": 64, "cycles_per_second": simulator_speed(64, seconds=0.1)}
    latency = measure_latency(CLOSE, "tx", 64)
    found = write_report(tmp_path / "bench.json", [case], [latency], [speed])
    assert found["latency"][0]["dependent_reads"] == 3
    assert KEYS <= set(found["cases"][0]) and found["cases"][0]["ring"] == "split"
    assert found["simulator"] == [speed] and speed["cycles_per_second"] > 1000
