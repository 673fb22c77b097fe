"""Files that an engine writes: a disk that is full is noticed, and holds nothing up."""

import errno
import os
import time
from types import SimpleNamespace

import pytest

from ringnic.host.guest.card import SimulatedCard
from ringnic.sim.engine import files
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
def full(monkeypatch):
    """A disk on which no file can grow; how often that was tried."""
    tried = []

    def fallocate(fd, offset, length):
        tried.append(length)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    return tried


def test_room_for_a_waveform(tmp_path):
    room = Room(tmp_path / "wave.fst")
    room.check()
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_a_waveform(tmp_path, full):
    with pytest.raises(OSError) as error:
        Room(tmp_path / "wave.fst").check()
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "wave.fst")) and full == [files.SPARE]


def test_looks_at_the_disk_once_a_second_and_at_the_end(tmp_path, full):
    room, now = Room(tmp_path / "wave.fst"), time.monotonic()
    for later, looks in ((0, 1), (0.5, 1), (1.1, 2), (1.2, 2)):
        try:
            room.check(now + later)
        except OSError:
            pass
        assert len(full) == looks
    room.close()
    with pytest.raises(OSError):
        room.check(now + 1.3)


def test_a_folder_in_which_only_the_file_may_be_written(monkeypatch):
    def refuse(dir):
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    Room("/somewhere/wave.fst").check()


def test_who_waits_for_a_guest_is_told(tmp_path, full):
    """A sign of progress is asked for again and again, and what it raises ends the run."""
    engine = SimpleNamespace(stats=lambda: {"cycles": 0}, fileno=lambda: 0, check_files=Room(tmp_path / "wave").check)
    card = SimulatedCard(engine, "socket", link="x", width=64)
    with pytest.raises(OSError, match="wave"):
        card.progress()
