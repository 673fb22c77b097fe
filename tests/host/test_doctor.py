"""What ``ringnic doctor`` says of machines that lack something, and of this one."""

import json
from pathlib import Path
import shutil

import pytest

from ringnic.host import doctor
from ringnic.host.doctor import Finding, examine, run_doctor
from ringnic.host.guest.assets import Kernel, Qemu

FOUND = {"QEMU": Qemu(("q",), "11.1.0"), "kernel": Kernel(Path("/k"), Path("/m"), "6.1.0-50")}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with all that there is; what a test takes away is missing."""
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "find_qemu", lambda say: FOUND["QEMU"])
    monkeypatch.setattr(doctor, "find_kernel", lambda name, say: FOUND["kernel"])
    monkeypatch.setattr(doctor, "kvm_fault", lambda qemu, kernel: None)
    return monkeypatch


def found(what):
    finding, *_ = [finding for finding in examine() if finding.what == what]
    return finding


def test_all_is_there(machine):
    assert found("QEMU") == Finding("QEMU", "good", "11.1.0, of the system")
    assert found("Kernels").found.startswith("6.1.0-50") and found("KVM") == Finding("KVM", "good", "runs a guest")
    assert found("Cache").found.endswith("cache, 0 MiB") and found("pytest").state == "good"
    assert not {"missing"} & {finding.state for finding in examine()}


def test_nothing_is_fetched_and_nothing_tried_without_it(machine):
    def fetch(*_args, say):
        say("Fetching QEMU from Debian backports (about 40 MB)")
        raise AssertionError("fetched")
    machine.setattr(doctor, "find_qemu", fetch)
    machine.setattr(doctor, "find_kernel", fetch)
    machine.setattr(doctor, "kvm_fault", fetch)
    assert found("QEMU") == Finding("QEMU", "note", "none from 10.1 on",
                                    "the first demo does this: Fetching QEMU from Debian backports (about 40 MB)")
    assert found("Kernels").state == "note" and found("KVM").found == "not tried"


def test_kvm_that_runs_nothing(machine):
    machine.setattr(doctor, "kvm_fault", lambda qemu, kernel: "KVM has started no guest within 20 s")
    assert found("KVM") == Finding("KVM", "note", "KVM has started no guest within 20 s", "TCG is used unless asked")


def test_a_compiler_that_is_missing(machine, capsys):
    which = shutil.which
    machine.setattr(shutil, "which", lambda name: None if name == "g++" else which(name))
    assert found("g++") == Finding("g++", "missing", "not there", "apt-get install g++")
    assert run_doctor() == 1
    assert "apt-get install g++" in capsys.readouterr().out


def test_a_full_disk(machine):
    machine.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1 << 40, 1 << 40, 100 << 20))
    assert found("Free space").state == "note" and found("Free space").found == "100 MiB"


def test_the_report(machine, tmp_path, capsys):
    assert run_doctor(tmp_path / "d.json", [Finding("a", "good", "1"), Finding("b", "note", "2", "do it")]) == 0
    report = json.loads((tmp_path / "d.json").read_text())
    assert report["ok"] and report["findings"][1] == {"what": "b", "state": "note", "found": "2", "remedy": "do it"}
    assert {"version", "commit", "command"} < report["ringnic"].keys()
    out, err = capsys.readouterr()
    assert "do it" in out and err.startswith("ringnic: looking at this machine")


def test_brackets_are_shown(capsys):
    assert run_doctor(findings=[Finding("a", "note", "in /a[b]", "pip install 'ringnic[area]'")]) == 0
    assert "in /a[b]" in (out := capsys.readouterr().out) and "pip install 'ringnic[area]'" in out


def test_this_machine(capsys):
    """Which runs these tests, so that it can run the demo."""
    assert run_doctor() == 0
    assert "✓  ringnic" in capsys.readouterr().out
