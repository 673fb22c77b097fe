"""Files that an engine writes: a disk that is full is noticed, and holds nothing up."""

import errno
import os
import time
from types import SimpleNamespace

import pytest

from ringnic.host.errors import told
from ringnic.host.guest.card import SimulatedCard
from ringnic.sim.engine.files import Piped, Room


def write(file, data):
    """Write as the engine does: by a file of its own, closed at the end."""
    with open(file.way, "wb", buffering=0) as own:
        file.opened()
        while data:
            data = data[own.write(data):]


def test_all_of_it_arrives(tmp_path):
    file, data = Piped(tmp_path / "tlps"), os.urandom(1 << 20)
    write(file, data)
    file.close()
    file.check()
    assert (tmp_path / "tlps").read_bytes() == data


def test_a_full_disk_is_named_and_holds_nothing_up():
    file = Piped("/dev/full")
    write(file, bytes(1 << 20))
    file.close()
    with pytest.raises(OSError) as error:
        file.check()
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, "/dev/full")


@pytest.fixture
def disk(monkeypatch):
    """What the system says of a disk with a little less room than is asked for; ``looks``: of what folders it was asked."""
    blocks = (64 << 20) // 4096 - 1
    disk = SimpleNamespace(f_frsize=4096, f_bavail=blocks, f_bfree=blocks, f_blocks=1 << 20, looks=[])

    def look(folder):
        disk.looks.append(str(folder))
        return disk
    monkeypatch.setattr(os, "statvfs", look)
    return disk


def test_no_room_for_a_waveform(disk):
    with pytest.raises(OSError) as error:
        Room("/a/wave.fst").check()
    assert told(error.value) == "/a/wave.fst: a waveform needs 64 MiB free on its disk until it ends" and disk.looks == ["/a"]


@pytest.mark.parametrize("user, f_bavail, f_bfree", [(0, 0, 1 << 20), (1000, 1 << 20, 1 << 20)])
def test_room_for_a_waveform(disk, monkeypatch, user, f_bavail, f_bfree):
    """What is kept for root is root's."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    disk.f_bavail, disk.f_bfree = f_bavail, f_bfree
    Room("/a/wave.fst").check()


def test_what_is_kept_for_root_is_not_for_others(disk, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    disk.f_bavail, disk.f_bfree = 0, 1 << 20
    with pytest.raises(OSError):
        Room("/a/wave.fst").check()


def test_a_disk_that_does_not_tell(disk):
    disk.f_blocks = disk.f_bavail = disk.f_bfree = 0
    Room("/a/wave.fst").check()


def test_looks_at_the_disk_once_a_second_and_at_the_end(disk):
    room, now = Room("/a/wave.fst"), time.monotonic()
    for later, looks in ((0, 1), (0.5, 1), (1.1, 2), (1.2, 2)):
        try:
            room.check(now + later)
        except OSError:
            pass
        assert len(disk.looks) == looks
    room.close()
    with pytest.raises(OSError):
        room.check(now + 1.3)


def test_who_waits_for_a_guest_is_told(disk):
    """A sign of progress is asked for again and again, and what it raises ends the run."""
    engine = SimpleNamespace(stats=lambda: {"cycles": 0}, fileno=lambda: 0, check_files=Room("/a/wave").check)
    card = SimulatedCard(engine, "socket", link="x", width=64)
    with pytest.raises(OSError, match="wave"):
        card.progress()
