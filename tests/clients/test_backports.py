"""The newest stock kernel that Debian has: its driver takes used buffers in order, several at a time."""

import json

import pytest

from ringnic.host.features import parse
from ringnic.host.guest.card import card_features
from ringnic.host.guest.session import DemoOptions, run_demo

RINGS = {"split": "-ring_packed", "packed": "+ring_packed"}


@pytest.mark.parametrize("ring, cpus", [("split", 1), ("packed", 4)])
def test_newest_kernel_uses_buffers_in_order(ring, cpus, seed, tmp_path):
    report = tmp_path / "report.json"
    options = DemoOptions(report=report, kernel="backports", seed=seed, size=1 << 20,
                          features=parse(RINGS[ring], card_features()), cpus=cpus)
    assert run_demo(options) == 0
    found = json.loads(report.read_text())
    # VIRTIO 1.4, 6 "Reserved Feature Bits": VIRTIO_F_IN_ORDER (35).
    assert "in_order" in found["features"]
    assert (found["driver"], found["ring"], found["queue_pairs"]) == ("virtio_net", ring, cpus)
    assert found["ping_lost"] == 0 and found["sha256_ok"] and found["drops"] == 0
    # Traffic both ways: the file alone is 700 full frames.
    assert min(found["packets_tx"], found["packets_rx"]) > 700
