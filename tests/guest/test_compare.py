"""``ringnic compare`` with a stock QEMU and kernel: few pings, an emulated card beside the simulated one."""

import json

import pytest

from ringnic.host.compare.command import run_compare


@pytest.mark.long
def test_an_emulated_card_and_ours(tmp_path):
    path = tmp_path / "report.json"
    assert run_compare(("rtl8139", "ringnic"), path, rounds=3, pings=10, size=1 << 18) == 0
    report = json.loads(path.read_text())
    assert report["ok"] and report["failed"] == []
    emulated, ours = report["devices"]
    assert abs(emulated["accesses"]["ping"] - 9) <= 0.1 and emulated["driver"] == "8139cp"
    assert abs(ours["accesses"]["ping"] - 1) <= 0.1 and ours["driver"] == "virtio_net"
    assert all(one["reads"] == 0 for one in ours["rounds"])
    assert emulated["interrupts"]["ping"] >= 1 and ours["interrupts"]["ping"] >= 1
    assert ours["accesses"]["tcp_out"] < emulated["accesses"]["tcp_out"]
