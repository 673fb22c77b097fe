"""The socket to serve at: who may connect, what is replaced, what is left alone."""

import fcntl
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from ringnic.host import sockets
from ringnic.host.sockets import PathError, bound, listening


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "card.sock")


def test_it_is_the_users_alone(path):
    mask = os.umask(0)  # of a user who keeps nothing from anybody
    try:
        with listening(path) as sock, socket.socket(socket.AF_UNIX) as client:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
            client.connect(path)
            sock.accept()[0].close()
        assert os.umask(0) == 0
    finally:
        os.umask(mask)
    assert not os.path.exists(path)


def test_a_group_may_connect(path):
    with listening(path, str(os.getgid())):
        assert (stat.S_IMODE(os.stat(path).st_mode), os.stat(path).st_gid) == (0o770, os.getgid())


def test_a_group_that_is_not_there(path):
    with pytest.raises(PathError, match="^There is no group no_such_group$"), listening(path, "no_such_group"):
        pass
    assert not os.path.exists(path)


def test_a_group_number_that_cannot_be(path):
    with pytest.raises(PathError, match="^There is no group 99999999999: numbers end at 4294967294$"):
        with listening(path, "99999999999"):
            pass


def test_a_group_of_others(path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "getegid", lambda: 12345)
    monkeypatch.setattr(os, "getgroups", lambda: [12345])
    with pytest.raises(PathError, match="^You are no member of the group 4, and only root"), listening(path, "4"):
        pass
    assert not os.path.exists(path)


def test_a_group_that_the_system_refuses_leaves_no_socket(path, monkeypatch):
    def chown(*_args):
        raise PermissionError(1, "Operation not permitted")
    monkeypatch.setattr(os, "chown", chown)
    with pytest.raises(PathError, match="Operation not permitted"), listening(path, str(os.getgid())):
        pass
    assert not os.path.exists(path)


def test_a_folder_that_somebody_has_locked(path, tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "LOCK_SECONDS", 0.1)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(PathError, match="is locked by another program"), listening(path):
            pass
    finally:
        os.close(folder)


def test_a_stale_socket_is_replaced(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with listening(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_live_socket_is_refused(path):
    with listening(path) as sock:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        try:
            for at, client in enumerate(clients):
                client.setblocking(False)
                client.connect_ex(path)  # the queue may be full
                with pytest.raises(PathError, match="card.sock is in use by another process"), listening(path):
                    pass
        finally:
            for client in clients:
                client.close()
        assert sock.fileno() >= 0 and os.path.exists(path)


def test_a_live_socket_for_datagrams_is_refused_and_a_stale_one_replaced(path):
    with bound(path, socket.SOCK_DGRAM) as sock:
        with pytest.raises(PathError, match="card.sock is in use by another process"), bound(path, socket.SOCK_DGRAM):
            pass
        sock.settimeout(0)
        with pytest.raises(BlockingIOError):  # to find that out, nothing was sent
            sock.recv(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(path)
    with bound(path, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"frame", path)


@pytest.mark.parametrize("foreign", ["file", "folder", "link"])
def test_a_foreign_file_is_left_alone(path, tmp_path, foreign):
    {"file": lambda: Path(path).write_text("mine"), "folder": lambda: os.mkdir(path),
     "link": lambda: os.symlink(tmp_path / "elsewhere", path)}[foreign]()
    with pytest.raises(PathError, match="is there already, and is no socket"), listening(path):
        pass
    assert os.path.lexists(path)
    if foreign == "file":
        assert Path(path).read_text() == "mine"


@pytest.mark.parametrize("where, what", [
    ("missing/card.sock", "There is no folder .*missing for the socket card.sock: make it first"),
    ("x" * 200, "longer than the 107 bytes")])
def test_a_path_that_cannot_be(tmp_path, where, what):
    with pytest.raises(PathError, match=what), listening(str(tmp_path / where)):
        pass


def test_a_folder_that_may_not_be_written_to(path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda folder, mode: False)  # for root may write everywhere
    with pytest.raises(PathError, match="^The folder .* may not be written to"), listening(path):
        pass


def test_a_socket_of_somebody_elses_is_not_removed_at_the_end(path):
    with listening(path):
        os.unlink(path)
        open(path, "w").close()
    assert os.path.exists(path)


def test_of_several_that_start_at_once_one_serves(path):
    """Each finds the same stale socket, and none takes another's new one for it."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    served, start, end = [], threading.Barrier(8), threading.Barrier(8)

    def serve():
        start.wait()
        try:
            with listening(path):
                served.append(os.lstat(path).st_ino)
                end.wait()
        except PathError:
            end.wait()
    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served) == 1 and not os.path.exists(path)
