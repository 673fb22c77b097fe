"""What is checked before a guest gets the card, and what QEMU and libvirt are told. A QEMU that only notes its arguments plays
the guest."""

import json
import os
import resource
import tempfile
from xml.etree import ElementTree

import pytest

from ringnic.host.guest import passthrough
from ringnic.host.guest.assets import Qemu
from ringnic.host.guest.passthrough import GuestOptions, hostdev_xml, run_guest

from .slot.conftest import CARD, FakeMachine


@pytest.fixture
def machine(tmp_path):
    """A machine whose card is with vfio-pci, with memory enough."""
    machine = FakeMachine(tmp_path)
    machine.load_vfio()
    machine.add(driver="vfio-pci")
    machine.put("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable:   2097152 kB")
    machine.put("/proc/self/status", "Name:\tx\nCapEff:\t0000000000000000")
    machine.put("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "64")
    return machine


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A kernel, an initramfs and disks; a QEMU that writes its arguments to ``argv`` and ends with the status in ``status``."""
    for name, content in (("vmlinuz", b"k"), ("initrd", b"i"), ("disk,1.qcow2", b"QFI\xfb..."), ("disk.raw", b"\0" * 8)):
        (tmp_path / name).write_bytes(content)
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/usr/bin/env python3\nimport json, os, sys\n"
                    f"json.dump(sys.argv[1:], open('{tmp_path}/argv', 'w'))\n"
                    f"sys.exit(int(open('{tmp_path}/status').read()) if os.path.exists('{tmp_path}/status') else 0)\n")
    qemu.chmod(0o755)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(passthrough, "find_qemu", lambda path, say, least: Qemu((str(qemu),), "11.1"))
    return tmp_path


def options(files, **changed):
    return GuestOptions(**{"bdf": "01:00.0", "kernel": str(files / "vmlinuz"), "initrd": files / "initrd", **changed})


def argv(files):
    return json.loads((files / "argv").read_text())


def test_the_guest_gets_the_card(machine, files):
    assert run_guest(options(files, memory_mb=128, cpus=2, append="panic=-1"), machine) == 0
    told = argv(files)
    assert told[told.index("-device") + 1] == f"vfio-pci,host={CARD}"
    assert told[told.index("-initrd") + 1] == str(files / "initrd")
    assert told[told.index("-append") + 1] == "console=ttyS0 panic=-1"
    assert told[told.index("-smp") + 1] == "2" and told[told.index("-m") + 1] == "128M"
    assert "-no-reboot" in told and "-cpu" not in told and "hugetlb" not in " ".join(told)


def test_processors_that_distributions_ask_for(machine, files):
    for changed, cpu in (({"image": files / "disk.raw", "initrd": None}, "max"), ({"accel": "kvm"}, "host")):
        assert run_guest(options(files, **changed), machine) == 0
        assert argv(files)[argv(files).index("-cpu") + 1] == cpu


def test_a_disk_of_ones_own(machine, files):
    for name, form in (("disk,1.qcow2", "qcow2"), ("disk.raw", "raw")):
        assert run_guest(options(files, image=files / name, initrd=None), machine) == 0
        told = argv(files)
        assert told[told.index("-drive") + 1] == f"file={files}/{name.replace(',', ',,')},format={form},if=virtio"
        assert "-kernel" not in told and "-no-reboot" not in told


def test_huge_pages(machine, files):
    assert run_guest(options(files, memory_mb=128, huge_pages=True), machine) == 0
    assert any("hugetlb=on,hugetlbsize=2M" in word for word in argv(files))


def refused(capsys, machine, *wanted):
    """Nothing was started, and one line says why."""
    def check(chosen):
        assert run_guest(chosen, machine) == 1
        said = capsys.readouterr().err
        assert all(word in said for word in wanted) and said.count("\n") == 1, said
        assert not (chosen.initrd.parent / "argv").exists()
    return check


@pytest.mark.parametrize("changed, wanted", [
    ({"bdf": "1:0"}, "'1:0' is no PCI address"),
    ({"bdf": "02:00.0"}, "there is no PCI function 0000:02:00.0"),
    ({"image": "no.qcow2"}, "there is no disk image"),
    ({"kernel": "/nowhere/vmlinuz"}, "there is no file /nowhere/vmlinuz"),
    ({"memory_mb": 4096}, "--memory 4096: 2048 MiB are available"),
    ({"memory_mb": 130, "huge_pages": True}, "130 MiB of huge pages are needed and 128 MiB are free; as root: sysctl"),
    ({"memory_mb": 127, "huge_pages": True}, "not a multiple of 2 MiB"),
])
def test_bad_input(machine, files, capsys, changed, wanted):
    if "image" in changed:
        changed = {"image": files / changed["image"]}
    refused(capsys, machine, wanted)(options(files, **changed))


def test_not_bound(tmp_path, files, capsys):
    machine = FakeMachine(tmp_path / "other")
    machine.add(driver="virtio-pci")
    refused(capsys, machine, "with virtio-pci", f"ringnic bind {CARD}")(options(files))


def test_in_use(machine, files, capsys):
    machine.running(77, "qemu-system-x86", "/dev/vfio/14")
    refused(capsys, machine, "in use by qemu-system-x86 (pid 77)")(options(files))


def test_not_ours_to_open(machine, files, capsys, monkeypatch):
    monkeypatch.setattr(machine, "may_write", lambda name: False)
    refused(capsys, machine, "may not open /dev/vfio/14", "--user")(options(files))


def test_memory_that_may_not_be_locked(machine, files, capsys, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8 << 20, 8 << 20))
    for huge_pages in (False, True):
        refused(capsys, machine, "may lock 8 MiB", "192")(options(files, memory_mb=128, huge_pages=huge_pages))
    machine.put("/proc/self/status", f"CapEff:\t{1 << 14:016x}")
    assert run_guest(options(files), machine) == 0


def test_a_qemu_that_fails(machine, files, capsys):
    (files / "status").write_text("3")
    assert run_guest(options(files), machine) == 1
    assert "QEMU ended with status 3" in capsys.readouterr().err


def test_show(machine, files, capsys, monkeypatch):
    """Neither card nor memory are looked at: the lines may be for another machine. What is fetched is no result."""
    find = passthrough.find_qemu

    def fetched(path, say, least):
        say("QEMU comes from afar")
        return find(path, say, least)
    monkeypatch.setattr(passthrough, "find_qemu", fetched)
    assert run_guest(options(files, bdf="7f:1f.3", show=True, memory_mb=1 << 20), machine) == 0
    said = capsys.readouterr()
    assert said.err == "ringnic: QEMU comes from afar\n"
    xml, _, line = said.out.partition("\n\n")
    assert ElementTree.fromstring(xml).find("source/address").attrib == {
        "domain": "0x0000", "bus": "0x7f", "slot": "0x1f", "function": "0x3"}
    assert "vfio-pci,host=0000:7f:1f.3" in line and not (files / "argv").exists()


def test_libvirt():
    assert "domain='0x10000'" in hostdev_xml("10000:01:00.0")
    element = ElementTree.fromstring(hostdev_xml(CARD))
    assert element.attrib == {"mode": "subsystem", "type": "pci", "managed": "no"}
    assert element.find("driver").get("name") == "vfio"


def test_nothing_stays(machine, files, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    run_guest(options(files), machine)
    assert (files / "argv").exists() and not list(folder.iterdir())
