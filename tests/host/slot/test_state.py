"""What is remembered, and that only one of us is at work."""

import os
import subprocess
import sys

import pytest

from ringnic.host.slot.state import Before, alone, file, recall, recording
from ringnic.host.slot.sysfs import SlotError


@pytest.mark.parametrize("before", [Before("virtio-pci", None), Before(None, "vfio-pci", True)])
def test_remembering(machine, before):
    card = machine.add()
    assert recall(card) is None
    recording(card, before).do()
    assert recall(card) == before
    assert machine.list("/run/ringnic") == [f"{card}.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"driver": 1}', '{"a": "b"}', "null"])
def test_what_cannot_be_read_is_as_good_as_nothing(machine, text):
    card = machine.add()
    machine.put(file(card), text)
    assert recall(card) is None


def test_only_one_of_us(machine):
    with alone(machine):
        with pytest.raises(SlotError, match=rf"^another `ringnic` is at work on this machine's cards \(pid {os.getpid()}\): "):
            with alone(machine):
                pass
    with alone(machine):
        pass


def test_a_stale_lock(machine):
    """Its holder died without a word."""
    path = machine.path("/run/ringnic/lock")
    code = ("import os, sys; from ringnic.host.slot.state import alone; from ringnic.host.slot.sysfs import Machine\n"
            "with alone(Machine(sys.argv[1])): os._exit(9)")
    assert subprocess.run([sys.executable, "-c", code, machine.root]).returncode == 9
    assert path.read_text().strip() not in ("", str(os.getpid()))
    with alone(machine):
        assert path.read_text() == f"{os.getpid()}\n"


def test_no_place_for_it(machine):
    machine.put("/run", "")
    with pytest.raises(SlotError, match="^cannot write /run/ringnic/lock: "):
        with alone(machine):
            pass
