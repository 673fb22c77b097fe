"""What ``ringnic bench`` measures: the keys that its report promises, and the figures that the card is to keep."""

import pytest

from ringnic.host.bench import write_report
from ringnic.sim.bench import measure, simulator_speed

KEYS = {"link", "width", "ring", "direction", "frame_bytes", "mpps", "gbit_s", "limit_mpps", "percent_of_limit",
        "cycles_per_packet", "tlps_per_packet"}


@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
def test_short_frames(direction):
    case = measure("gen2x4", 64, direction, 64)
    assert (case.link, case.width, case.direction, case.frame_bytes) == ("gen2x4", 64, direction, 64)
    assert case.dropped == 0 and case.cycles_per_packet <= 60 and case.tlps_per_packet <= 3
    assert case.mpps == pytest.approx(125 / case.cycles_per_packet)
    assert case.gbit_s == pytest.approx(case.mpps * 64 * 8 / 1000)
    assert 0 < case.percent_of_limit <= 100


def test_slow_link_is_what_limits_long_frames():
    case = measure("gen1x1", 64, "tx", 1518)
    assert 90 < case.percent_of_limit <= 100 and case.link_bytes_per_packet > 1518


def test_report(tmp_path):
    case = measure("gen1x1", 64, "rx", 64)
    speed = {"what": "alone", "width": 64, "cycles_per_second": simulator_speed(64, seconds=0.1)}
    found = write_report(tmp_path / "bench.json", [case], [speed])
    assert KEYS <= set(found["cases"][0]) and found["cases"][0]["ring"] == "split"
    assert found["simulator"] == [speed] and speed["cycles_per_second"] > 1000
