"""The command line of the slot: what is said, exit statuses, and that it is quick to load."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ringnic.host.slot.commands import app
from ringnic.host.slot.sysfs import SlotError

CARD = "0000:01:00.0"


@pytest.fixture
def ringnic(machine, monkeypatch):
    """Runs a command on the machine in a folder."""
    monkeypatch.setattr("ringnic.host.slot.sysfs.Machine", lambda: machine)
    return lambda *argv: CliRunner().invoke(app, argv)


def test_there_and_back(machine, ringnic, tmp_path):
    machine.add()
    before = machine.state()
    told = ringnic("bind", "01:00.0", "--dry-run")
    assert told.exit_code == 0 and machine.state() == before
    done = ringnic("bind", "01:00.0")
    assert done.exit_code == 0 and done.stdout == told.stdout and told.stderr == ""
    assert done.stderr == (
        "ringnic: 01:00.0 is ready for a guest: ringnic guest 01:00.0; back to what it was: ringnic unbind 01:00.0\n")
    again = ringnic("bind", "01:00.0")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "ringnic: 01:00.0 has vfio-pci already: nothing to do\n")
    told = ringnic("unbind", CARD, "--dry-run")
    done = ringnic("unbind", CARD)
    assert done.output == told.output and machine.state() == before
    again = ringnic("unbind", CARD)
    assert (again.exit_code, again.output) == (0, f"ringnic: {CARD} is not with vfio-pci: nothing to do\n")


def test_devices(machine, ringnic, tmp_path):
    machine.add()
    report = tmp_path / "cards.json"
    assert CARD in ringnic("devices", "--report", str(report)).output
    assert [card["address"] for card in json.loads(report.read_text())["cards"]] == [CARD]
    assert ringnic("devices", "--report", str(tmp_path / "no" / "cards.json")).exit_code == 2


@pytest.mark.parametrize("argv, message", [
    (("bind", "eth0"), "'eth0' is no PCI address: it looks like 0000:01:00.0, or 01:00.0; `ringnic devices` lists them\n"),
    (("unbind", "02:00.0"), "there is no PCI function 0000:02:00.0: `ringnic devices` lists the cards, `lspci -D` all\n"),
])
def test_one_clear_line(ringnic, argv, message):
    found = ringnic(*argv)
    assert (found.exit_code, found.stderr, found.stdout) == (1, f"ringnic: {message}", "")


@pytest.mark.parametrize("ends, status", [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (SlotError("[no] way"), 1),
                                          (OSError(28, "[no] way"), 1)])
def test_exit_status(machine, ringnic, monkeypatch, ends, status):
    def end():
        raise ends
    monkeypatch.setattr(machine, "functions", end)
    found = ringnic("devices")
    assert found.exit_code == status and found.stderr == ("ringnic: [no] way\n" if status == 1 else "")


def test_a_full_disk(machine, ringnic):
    machine.add()
    found = ringnic("devices", "--report", "/dev/full")
    assert (found.exit_code, found.stderr) == (1, "ringnic: /dev/full: No space left on device\n") and CARD in found.stdout


def test_a_selftest_needs_a_checkout(ringnic, monkeypatch):
    monkeypatch.setattr("ringnic.host.options.checkout", lambda: None)
    found = ringnic("selftest", "01:00.0")
    assert (found.exit_code, found.stdout, found.stderr) == (1, "", "ringnic: `ringnic selftest` needs a checkout of the "
                                                             "project, and this is an installed package; run ./ringnic selftest "
                                                             "in a checkout\n")


def test_loading_is_quick():
    """Nothing of hardware or simulators; nothing of hardware to bind a card either."""
    code = ("import sys, ringnic.host.slot.commands, ringnic.host.slot.bind\n"
            "assert not {'amaranth', 'ringnic.sim', 'rich.table'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)
