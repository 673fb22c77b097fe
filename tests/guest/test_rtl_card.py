"""The product's promise: stock kernels, their own drivers, and the RTL as their network card."""

import json
import re
import struct

import pytest
from scapy.utils import RawPcapReader

from ringnic.host.features import names, parse
from ringnic.host.guest.card import GMII_RATIO, Wave, card_features
from ringnic.host.guest.session import DemoOptions, run_demo
from ringnic.sim.engine.view import GROUPS


@pytest.mark.parametrize("kernel, ring, pairs", [
    ("6.1", "split", 1), ("6.12", "packed", 1), ("6.12", "split", 4), ("6.1", "packed", 4)])
def test_stock_guest_uses_the_card(kernel, ring, pairs, seed, rings, tmp_path):
    report, pcap, tlp = (tmp_path / name for name in ("report.json", "cable.pcap", "link.txt"))
    options = DemoOptions(report=report, pcap=pcap, tlp=tlp, kernel=kernel, seed=seed, size=1 << 20,
                          features=rings[ring], pairs=pairs, cpus=pairs)
    assert run_demo(options) == 0
    found = json.loads(report.read_text())
    assert found["ok"] and found["failed"] == []
    assert found["kernel"].startswith(kernel + ".")
    assert (found["driver"], found["pci_id"]) == ("virtio_net", "1af4:1041")
    assert found["ping_lost"] == 0 and found["sha256_ok"]
    assert (found["ring"], found["queue_pairs"]) == (ring, pairs)
    assert ("ring_packed" in found["features"]) == (ring == "packed") and {"mac", "version_1"} < {*found["features"]}
    counters = found["counters"]
    # The card's own counters tell of the same frames as the wire.
    # Not all are read in one moment, and the guest lives on meanwhile.
    for one, other in ((counters["tx_frames"], found["packets_tx"]), (counters["mac_tx_frames"], found["packets_tx"]),
                       (counters["rx_frames"] + counters["rx_dropped_down"], found["packets_rx"])):
        assert min(one, other) > 100 and abs(one - other) <= 4
    assert counters["kicks"] > 0 and counters["notifications"] > 0 and counters["interrupts"] > 0
    assert found["drops"] == 0
    for name in ("queue_errors", "dma_faults", "dma_read_errors", "dma_timeouts", "cpl_unexpected", "tlps_malformed"):
        assert counters[name] == 0, name
    with RawPcapReader(str(pcap)) as reader:
        assert abs(sum(1 for _ in reader) - found["packets_tx"] - found["packets_rx"]) <= 8  # some may be on their way
    assert len(re.findall(r"(?m)^", tlp.read_text())) > found["packets_tx"]


@pytest.mark.parametrize("features", [
    "-ring_packed,-indirect_desc", "-ring_packed,-event_idx", "-indirect_desc", "-event_idx",
    "version_1", "ring_packed", "-mrg_rxbuf,-mq", "-mq,-ctrl_vq,-status"])
def test_driver_is_steered(features, tmp_path):
    """What the card does not offer the stock driver does without."""
    offered, report = parse(features, card_features()), tmp_path / "report.json"
    assert run_demo(DemoOptions(report=report, features=offered, size=1 << 20, cpus=2)) == 0
    found = json.loads(report.read_text())
    assert found["sha256_ok"] and found["drops"] == 0
    assert {*found["features"]} <= {*names(offered)}
    for name in ("ring_packed", "indirect_desc", "event_idx", "mrg_rxbuf", "ctrl_vq", "mq"):
        assert (name in found["features"]) == (name in names(offered)), name
    assert found["ring"] == ("packed" if "ring_packed" in names(offered) else "split")
    assert found["queue_pairs"] == (2 if "mq" in names(offered) else 1)


def test_waveform(tmp_path):
    wave = tmp_path / "wave.fst"
    assert run_demo(DemoOptions(wave=Wave(wave, 10_000, 39_999), size=1 << 17)) == 0
    # The header of an FST file has the first and the last time behind 9 bytes, big-endian: edges of the GMII's clock.
    first, last = struct.unpack_from(">QQ", wave.read_bytes(), 9)
    assert (first // (2 * GMII_RATIO), last // (2 * GMII_RATIO)) == (10_000, 39_999)
    assert wave.stat().st_size > 100_000
    # Every signal that the view wants is there, whatever the rooms are named.
    view = wave.with_suffix(".gtkw").read_text()
    wanted = {name for signals in GROUPS.values() for name in signals}
    assert wanted == {line.partition("[")[0].removeprefix("TOP.") for line in view.splitlines() if line.startswith("TOP.")}
