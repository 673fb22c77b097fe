"""The accesses to an assigned card, counted by what the inner QEMU writes of it."""

from collections import Counter
import subprocess
from types import SimpleNamespace

import pytest

from ringnic.host.compare import assigned
from ringnic.host.compare.load import Counted, _counted

TRACE = """\
vfio_pci_read_config  (0000:01:00.0, @0x4, len=0x2) 0x106
vfio_pci_write_config  (0000:01:00.0, @0x4, 0x106, len=0x2)
vfio_region_read  (0000:01:00.0:region0+0x2004, 2) = 0x1
4711@1764438610.123456:vfio_region_write  (0000:01:00.0:region0+0x3000, 0x1, 2)
vfio_msix_vector_do_use  (0000:01:00.0) vector 1 used
vfio_msix_vector_release  (0000:01:00.0) vector 1 released
vfio_msi_interrupt  (0000:01:00.0) vector 1 0xfee00000/0x4021
qemu: vfio_region_read_not of a card
"""


@pytest.fixture
def outer(tmp_path):
    """A machine whose commands run here, its folder /tmp being one of ours."""
    def run(command):
        done = subprocess.run(["sh", "-c", command.replace("/tmp/", f"{tmp_path}/")], check=True, text=True, capture_output=True)
        return done.stdout.splitlines()
    return SimpleNamespace(run=run)


def test_accesses(outer, tmp_path):
    trace = tmp_path / "inner.trace"
    trace.write_text("")
    assert assigned.accesses(outer) == Counter()
    trace.write_text(TRACE)
    assert assigned.accesses(outer) == Counter(read=2, write=4)


def test_the_traced_qemu(outer, tmp_path, monkeypatch):
    """It is the machine's own, with the events and whatever else it is given."""
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    outer.run(assigned.MAKE_TRACED)
    said = subprocess.run([tmp_path / "traced-qemu", "-append", "a b"], check=True, text=True, capture_output=True).stdout
    events = [word for event in (*assigned.READS, *assigned.WRITES) for word in ("-trace", event)]
    assert said.splitlines() == [*events, "-D", f"{tmp_path}/inner.trace", "-append", "a b"]


def test_a_phase_has_what_was_handled_during_it():
    guest = SimpleNamespace(commands=0)
    handled, packets = iter([Counter(read=7, write=2), Counter(read=7, write=5)]), iter([(10, 10, 3), (20, 21, 24)])

    def run(command, **_options):
        guest.commands += 1
        return [str(number) for number in next(packets)[:2]] + ["24: 3 PCI-MSI eth0"] if "statistics" in command else []
    guest.run = run
    assert _counted(guest, "ping", 1, lambda: next(handled)) == Counted(2, 10, 11, 0, reads=0, writes=3, notifications=0)
