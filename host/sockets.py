"""UNIX sockets with a path: nobody else's, and open to no more users than was asked for."""

import fcntl
import grp
import os
import socket
import stat
import time
from contextlib import contextmanager

__all__ = ["PathError", "bound", "check_place", "listening"]

PATH_BYTES = 107           # of a UNIX socket's path: sun_path of <sys/un.h>, less the byte that ends it
OWNER, OWNER_AND_GROUP = 0o700, 0o770
GROUPS = (1 << 32) - 1
LOCK_SECONDS = 5


class PathError(OSError):
    """There can be no socket at a path; the message says why."""


def _group_id(group):
    try:
        number = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise PathError(f"There is no group {group}") from None
    if number >= GROUPS:
        raise PathError(f"There is no group {group}: numbers end at {GROUPS - 1}")
    if os.geteuid() and number not in (os.getegid(), *os.getgroups()):
        raise PathError(f"You are no member of the group {group}, and only root may give a socket to another one")
    return number


def _find_stale(path, kind):
    """Return whether there is a socket that a server left behind; :exc:`PathError` if there is anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise PathError(f"{path} is there already, and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(1)  # a server whose queue is full does not even answer
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass  # nobody has it open
        except (TimeoutError, BlockingIOError):
            raise PathError(f"{path} is in use by another process: end it, or choose another path") from None
        except OSError as error:
            raise PathError(f"{path} is a socket that cannot be used: {error.strerror or error}") from None
        else:
            raise PathError(f"{path} is in use by another process: end it, or choose another path")
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        raise PathError(f"{path} is a socket of another user: have it removed, or choose another path")
    return True


def _lock(folder, path):
    """Lock a folder; who holds the lock for long is none of us."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise PathError(f"The folder of {path} is locked by another program: choose another folder") from None
            time.sleep(0.01)


def _bind(sock, path, group):
    # Of two that start at once, one must not take the other's new socket for a stale one.
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(folder, path)
        if _find_stale(path, sock.type):
            os.unlink(path)
        mask = os.umask(0o777 & ~OWNER)  # from the beginning: a socket that was open for a moment may have been used
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        if sock.type == socket.SOCK_STREAM:
            sock.listen(1)
    finally:
        os.close(folder)
    if group is not None:
        try:
            os.chown(path, -1, _group_id(group))
            os.chmod(path, OWNER_AND_GROUP)
        except OSError:
            os.unlink(path)
            raise


def check_place(path, kind=socket.SOCK_STREAM, group=None):
    """Raise :exc:`PathError` if :func:`bound` would, as far as that can be known before."""
    path = os.fspath(path)
    if len(os.fsencode(path)) > PATH_BYTES:
        raise PathError(f"{path} is longer than the {PATH_BYTES} bytes that a socket's path may have")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise PathError(f"There is no folder {folder} for the socket {os.path.basename(path)}: make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PathError(f"The folder {folder} may not be written to: choose another path")
    if group is not None:
        _group_id(group)
    _find_stale(path, kind)


@contextmanager
def bound(path, kind, group=None):
    """Yield a UNIX socket of a ``kind`` (``socket.SOCK_STREAM``, which listens, or ``SOCK_DGRAM``) at ``path``.

    Only the user may connect, and with ``group`` (a name or a number) its members. A socket that no process has open any more is
    replaced. At the end the path is removed if it is still this socket's. Raises :exc:`PathError`.
    """
    path = os.fspath(path)
    check_place(path, kind, group)
    with socket.socket(socket.AF_UNIX, kind) as sock:
        try:
            _bind(sock, path, group)
        except PathError:
            raise
        except OSError as error:
            raise PathError(f"No socket at {path}: {error.strerror or error}") from None
        place = os.lstat(path)
        try:
            yield sock
        finally:
            try:
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) == (place.st_dev, place.st_ino):
                    os.unlink(path)
            except OSError:
                pass  # somebody was faster


def listening(path, group=None):
    """A context manager that yields a listening UNIX socket: see :func:`bound`."""
    return bound(path, socket.SOCK_STREAM, group)
