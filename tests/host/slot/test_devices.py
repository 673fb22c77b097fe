"""The list of cards, on a machine in a folder: what is shown and what is reported."""

import json
import struct

import pytest

from ringnic.hdl.spec.bar import COUNTERS_MAGIC
from ringnic.host.slot.devices import look, run_devices

CARD = "0000:01:00.0"
AT = f"/sys/bus/pci/devices/{CARD}"


def make_ringnic(machine, address=CARD, build=0x1a2b3c4d, magic=COUNTERS_MAGIC, memory=2):
    """Registers by which a function is known as a RingNIC."""
    at = f"/sys/bus/pci/devices/{address}"
    page, config = bytearray(0x8000), bytearray(machine.path(f"{at}/config").read_bytes())
    struct.pack_into("<IIII", page, 0x6000, magic, 23, build, 0)
    config[4] = memory
    machine.put(f"{at}/resource0", page)
    machine.put(f"{at}/config", config)


@pytest.fixture
def shown(machine, capsys, monkeypatch):
    """What ``ringnic devices`` prints, its lines joined."""
    def shown(report=None):
        monkeypatch.setenv("COLUMNS", "200")
        assert run_devices(machine, report) == 0
        out = capsys.readouterr().out
        assert all(len(line) <= 80 for line in out.splitlines())
        return " ".join(out.split())
    return shown


def test_a_card(machine, shown, tmp_path):
    machine.add(interface="eth1")
    make_ringnic(machine)
    report = tmp_path / "cards.json"
    assert shown(report) == (
        f"{CARD} 1af4:1041 RingNIC, build 1a2b3c4d Driver virtio-pci, eth1 IOMMU group 14, alone Link 2.5 GT/s x1 "
        "MSI-X 10 vectors Reset flr, pm NUMA node - Features mac, status, version_1 (agreed with virtio-pci) "
        f"Passthrough nothing is in the way: ringnic bind {CARD}")
    (card,) = json.loads(report.read_text())["cards"]
    assert card == {
        "address": CARD, "ids": "1af4:1041", "ringnic": True, "build_id": "1a2b3c4d", "unread": None, "answers": True,
        "driver": "virtio-pci", "interfaces": ["eth1"], "iommu_group": "14", "shared_with": [],
        "link": {"speed": "2.5 GT/s PCIe", "width": "1", "max_speed": "2.5 GT/s PCIe", "max_width": "1"}, "msix_vectors": 10,
        "reset_methods": ["flr", "pm"], "numa_node": None, "features": ["mac", "status", "version_1"], "in_the_way": []}


def test_no_card(machine, shown, tmp_path):
    machine.add("0000:03:00.0", vendor=0x8086, device=0x10d3, driver="e1000e")
    report = tmp_path / "cards.json"
    found = shown(report)
    assert all(word in found for word in ("lspci", "/sys/bus/pci/rescan", "ringnic flash", "ringnic demo"))
    assert json.loads(report.read_text()) ["cards"] == []


def test_which_functions_are_cards(machine):
    """By their number, or by the page of counters that only a RingNIC has."""
    def found(address, **ids):
        return look(machine.add(address, **ids))
    assert found("0000:02:00.0", device=0x1041).ringnic is False
    assert found("0000:03:00.0", device=0x1000).ringnic is False
    assert found("0000:04:00.0", device=0x1042) is None
    assert found("0000:05:00.0", vendor=0x10ec, device=0x1041, driver=None) is None
    assert found("0000:06:00.0", device=0x1044) is None
    make_ringnic(machine, "0000:06:00.0")
    assert look(machine.function("06:00.0")).ringnic is True


def test_a_link_that_is_less_than_it_could_be(machine, shown):
    machine.add()
    machine.put(f"{AT}/max_link_width", "4")
    machine.put(f"{AT}/max_link_speed", "5.0 GT/s PCIe")
    assert "Link 2.5 GT/s x1, although the card can 5.0 GT/s x4 MSI-X" in shown()
    card = look(machine.function(CARD))
    assert card.link_is_less and not card.link_is_down


def test_a_link_that_is_down(machine, shown):
    machine.add()
    machine.put(f"{AT}/current_link_width", "0")
    machine.put(f"{AT}/config", b"\xff" * 256)
    found = shown()
    assert "Link down MSI-X - Reset" in found and "does not answer (all ones): its link is down" in found
    assert look(machine.function(CARD)).answers is False


def test_no_link_at_all(machine, shown):
    machine.add()
    for name in ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width"):
        machine.path(f"{AT}/{name}").unlink()
    assert "Link not told by the kernel MSI-X" in shown()


def test_no_reset_and_a_shared_group(machine, shown):
    machine.add()
    machine.add("0000:01:00.1", vendor=0x8086, driver="e1000e")
    machine.put(f"{AT}/reset_method", "")
    machine.put(f"{AT}/numa_node", "1")
    found = shown()
    assert "IOMMU group 14, shared with 0000:01:00.1 (e1000e) Link" in found
    assert "Reset none: what a guest leaves in the card stays there NUMA node 1" in found
    assert "Passthrough IOMMU group 14 is shared with" in found


def test_no_iommu(machine, shown):
    machine.add(group=None)
    assert "IOMMU group none Link" in (found := shown()) and "Passthrough the IOMMU does not cover" in found


def test_with_vfio_pci(machine, shown):
    machine.load_vfio()
    machine.add(driver="vfio-pci")
    make_ringnic(machine)
    assert f"Features in use by vfio-pci Passthrough ready: ringnic guest {CARD}" in shown()
    machine.put(f"{AT}/power_state", "D3hot")
    machine.running(812, "qemu-system-x86", "/dev/vfio/14")
    found = shown()
    assert "a virtio network card; build id: asleep (D3hot)" in found
    assert f"Passthrough {CARD} is in use by qemu-system-x86 (pid 812): end it first" in found


def test_without_root(machine, shown):
    machine.add(driver=None)
    machine.put(f"{AT}/config", machine.path(f"{AT}/config").read_bytes()[:64])
    found = shown()
    for words in ("a virtio network card; build id: needs root", "MSI-X needs root", "Features needs root"):
        assert words in found


def test_without_a_driver(machine, monkeypatch, shown):
    machine.add(driver=None)
    monkeypatch.setattr("ringnic.host.slot.devices.offered_features", lambda function: frozenset((5, 32, 34)))
    assert "Driver none IOMMU" in (found := shown()) and "Features mac, ring_packed, version_1 (offered)" in found
