"""Whether KVM runs a guest: against a QEMU of a few lines, and with the real one, which can at least run with TCG."""

from pathlib import Path
import time

import pytest

from ringnic.host.guest import accel
from ringnic.host.guest.accel import choose_accel, kvm_fault
from ringnic.host.guest.assets import Kernel, Qemu, find_kernel, find_qemu
from ringnic.host.guest.qemu import GuestError

KERNEL = Kernel(Path("/k"), Path("/m"), "6.1")
RUNS = "echo Linux; sleep 0.1; echo Kernel panic - not syncing; sleep 600"


@pytest.fixture
def qemu(tmp_path, monkeypatch):
    """Call it with what a QEMU does, in shell."""
    monkeypatch.setattr(accel, "DEVICE", "/dev/null")

    def qemu(script):
        path = tmp_path / "qemu"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Qemu((str(path),), "11")
    return qemu


@pytest.mark.parametrize("script, fault", [
    (RUNS, None),
    ("echo Linux; sleep 600", "KVM has started no guest within 0.5 s"),
    ("sleep 600", "KVM has started no guest within 0.5 s"),
    ("while sleep 0.01; do echo Linux; done", "KVM has started no guest within 0.5 s"),
    ("echo 'qemu-system-x86_64: failed to initialize kvm: Permission denied' >&2; exit 1",
     "failed to initialize kvm: Permission denied"),
    ("echo Linux; exit 1", "QEMU ended with KVM, without a word"),
])
def test_a_trial(qemu, script, fault):
    begin = time.monotonic()
    assert kvm_fault(qemu(script), KERNEL, seconds=600 if fault is None else 0.5) == fault
    assert time.monotonic() - begin < 300


def test_the_choice(qemu, monkeypatch, capsys):
    monkeypatch.setattr(accel, "SECONDS", 0.5)
    good, bad = qemu(RUNS), "KVM has started no guest"
    assert (choose_accel("auto", good, KERNEL), choose_accel("kvm", good, KERNEL)) == ("kvm", "kvm")
    still = qemu("sleep 600")
    monkeypatch.setattr(accel, "kvm_fault", lambda qemu, kernel: bad)
    assert (choose_accel("tcg", None, None), choose_accel("auto", still, KERNEL)) == ("tcg", "tcg")
    assert capsys.readouterr().err == f"ringnic: {bad}; TCG runs the guest instead\n"
    with pytest.raises(GuestError, match=f"^{bad}; --accel tcg needs nothing$"):
        choose_accel("kvm", still, KERNEL)


def test_no_device(monkeypatch):
    monkeypatch.setattr(accel, "DEVICE", "/dev/no_such_device")
    assert kvm_fault(None, None) == "there is no /dev/no_such_device: switch VT-x or SVM on in the firmware's set-up"


def test_a_real_kernel_comes_to_the_end_that_is_waited_for(monkeypatch):
    """With TCG in KVM's place, which runs everywhere."""
    monkeypatch.setattr(accel, "DEVICE", "/dev/null")
    monkeypatch.setattr(accel, "ACCEL", "tcg")
    assert kvm_fault(find_qemu(), find_kernel(), seconds=600) is None
