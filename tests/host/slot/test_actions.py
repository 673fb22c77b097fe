"""Each action: its line of shell, its effect, and how it is undone."""

from pathlib import Path
import re
import subprocess

import pytest

from ringnic.host.slot.actions import (Bind, Load, Override, Probe, Remove, RemoveFile, Rescan, Unbind, Unload, WriteFile,
                                       all_or_nothing, way)
from ringnic.host.slot.sysfs import SlotError

CARD = "0000:01:00.0"
AT = f"/sys/bus/pci/devices/{CARD}"


def lines(actions):
    return [action.shell for action in actions]


def test_shell_lines(machine):
    card = machine.add()
    assert lines([Override(card, "vfio-pci"), Override(card, None), Unbind(card), Bind(card, "virtio-pci"), Probe(card),
                  Remove(card), Rescan(machine, card.bridge), Rescan(machine, None), Load(machine, "vfio-pci"),
                  Unload(machine, "vfio-pci"), RemoveFile(machine, "/etc/x"),
                  WriteFile(machine, "/etc/a/x", "it's\n50 %\n")]) == [
        f"echo vfio-pci > {AT}/driver_override", f"echo > {AT}/driver_override", f"echo {CARD} > {AT}/driver/unbind",
        f"echo {CARD} > /sys/bus/pci/drivers/virtio-pci/bind", f"echo {CARD} > /sys/bus/pci/drivers_probe",
        f"echo 1 > {AT}/remove", "echo 1 > /sys/bus/pci/devices/0000:00:1c.0/rescan", "echo 1 > /sys/bus/pci/rescan",
        "modprobe vfio-pci", "modprobe -r vfio-pci", "rm -f /etc/x",
        "mkdir -p /etc/a && printf '%s\\n' 'it'\"'\"'s' '50 %' > /etc/a/x"]


@pytest.mark.parametrize("make", [
    lambda machine, card: Override(card, "vfio-pci"), lambda machine, card: Unbind(card),
    lambda machine, card: Load(machine, "vfio-pci"), lambda machine, card: WriteFile(machine, "/etc/a/new", "b"),
    lambda machine, card: WriteFile(machine, "/etc/old", "b"), lambda machine, card: RemoveFile(machine, "/etc/old"),
])
def test_there_and_back(machine, make):
    card = machine.add()
    machine.put("/etc/old", "a")
    before = machine.state()
    action = make(machine, card)
    inverse = action.inverse()
    action.do()
    assert machine.state() != before
    inverse.do()
    assert machine.state() == before


def test_inverses_of_what_gives_a_driver(machine):
    card = machine.add()
    machine.detach(CARD)
    for action in (Bind(card, "virtio-pci"), Probe(card)):
        inverse = action.inverse()
        assert not inverse.needed()
        action.do()
        assert card.driver == "virtio-pci" and inverse.needed()
        inverse.do()
        assert card.driver is None


def test_somebody_else_was_quicker(machine):
    """A udev rule that does the same: the kernel refuses the second, and all is well."""
    card = machine.add()
    machine.load_vfio()
    write = machine.write

    def twice(name, value):
        write(name, value)
        raise SlotError("No such device")
    machine.write = twice
    for action in way(card, "vfio-pci", "vfio-pci"):
        action.do()
    assert card.driver == "vfio-pci"
    with pytest.raises(SlotError, match="^No such device$"):
        Probe(card).do()


def test_a_line_of_shell_does_the_same(machine, tmp_path):
    action = WriteFile(machine, "/etc/a/x", "it's\n50 % \\n\n")
    action.do()
    name = f"{tmp_path}/shell/x"
    subprocess.run(["sh", "-c", WriteFile(machine, name, action.text).shell], check=True)
    assert Path(name).read_text() == action.text == machine.path("/etc/a/x").read_text()


def test_removing_and_looking_again(machine):
    card = machine.add()
    Remove(card).do()
    assert not card.exists()
    Rescan(machine, card.machine.function("0000:00:1c.0").address).do()
    assert card.driver == "virtio-pci"
    machine.silent.add(f"{AT}/remove")
    with pytest.raises(SlotError, match="^0000:01:00.0 is still there after it was removed; see `dmesg`$"):
        Remove(card).do()


def test_a_module_that_cannot_be_loaded(machine):
    machine.run = lambda argv, whole: 1
    with pytest.raises(SlotError, match="^`modprobe vfio-pci` failed with status 1; see `dmesg`$"):
        Load(machine, "vfio-pci").do()


def test_a_module_that_somebody_else_uses_stays(machine):
    machine.load_vfio()
    machine.run = lambda argv, whole: 1
    Unload(machine, "vfio-pci").do()


def test_files_whole_or_not_at_all(machine, monkeypatch):
    machine.put("/etc/x", "old")
    machine.put("/etc/file", "")

    def full(path, text):
        path.touch()
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", full)
        with pytest.raises(SlotError, match="^cannot write /etc/x: No space left on device$"):
            WriteFile(machine, "/etc/x", "new").do()
    assert machine.read("/etc/x") == "old" and machine.list("/etc") == ["file", "x"]
    with pytest.raises(SlotError, match="^cannot remove /etc: Is a directory$"):
        RemoveFile(machine, "/etc").do()


@pytest.mark.parametrize("driver, override, expected", [
    ("virtio-pci", None, []),
    ("vfio-pci", "vfio-pci", [f"echo {CARD} > {AT}/driver/unbind", f"echo vfio-pci > {AT}/driver_override",
                              f"echo {CARD} > /sys/bus/pci/drivers/vfio-pci/bind"]),
    (None, None, [f"echo {CARD} > {AT}/driver/unbind"]),
    ("virtio-pci", "virtio-pci", [f"echo virtio-pci > {AT}/driver_override"]),
])
def test_the_way(machine, driver, override, expected):
    assert lines(way(machine.add(), driver, override)) == expected


def test_the_way_goes_on_from_wherever_it_is(machine):
    card = machine.add()
    machine.load_vfio()
    steps = 0
    while left := way(card, "vfio-pci", "vfio-pci"):
        left[0].do()
        steps += 1
        assert len(way(card, "vfio-pci", "vfio-pci")) == 3 - steps
    assert steps == 3 and (card.driver, card.override) == ("vfio-pci", "vfio-pci")


class Step:
    """An action that keeps a diary."""
    def __init__(self, diary, name, fails=None, needed=True):
        self.diary, self.shell, self.fails, self._needed = diary, name, fails, needed

    def do(self):
        self.diary.append(self.shell)
        if self.fails is not None:
            raise self.fails

    def needed(self):
        return self._needed

    def inverse(self):
        return None if self.shell == "keep" else Step(self.diary, f"un{self.shell}", needed=self.shell != "idle")


@pytest.mark.parametrize("failure", [SlotError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_all_or_nothing(failure):
    diary, said = [], []
    all_or_nothing([Step(diary, "a"), Step(diary, "b")], said.append)
    assert diary == said == ["a", "b"]
    diary.clear()
    with pytest.raises(type(failure)) as caught:
        all_or_nothing([Step(diary, "a"), Step(diary, "keep"), Step(diary, "idle"), Step(diary, "b", failure), Step(diary, "c")],
                       said.append)
    assert caught.value is failure and diary == ["a", "keep", "idle", "b", "unb", "una"]


@pytest.mark.parametrize("failure, ends, told", [
    (SlotError("no"), SlotError("no; then, undoing it: worse"), ""),
    (OSError("no"), SlotError("undoing what was begun: worse"), ""),
    (KeyboardInterrupt(), KeyboardInterrupt(), "ringnic: undoing what was begun: worse\n"),
    (SystemExit(143), SystemExit(143), "ringnic: undoing what was begun: worse\n")])
def test_what_cannot_be_undone_ends_the_undoing(failure, ends, told, capsys):
    """An interruption is one all the same, so that the exit status says so."""
    diary, said = [], []
    bad = Step(diary, "b")
    bad.inverse = lambda: Step(diary, "unb", SlotError("worse"))
    with pytest.raises(type(ends), match=f"^{re.escape(str(ends))}$"):
        all_or_nothing([Step(diary, "a"), bad, Step(diary, "c", failure)], said.append)
    assert diary == ["a", "b", "c", "unc", "unb"] and said == ["a", "b", "c", "unc", "unb"]
    assert capsys.readouterr() == ("", told)
