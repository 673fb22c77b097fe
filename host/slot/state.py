"""What must be remembered while a function is not as it was: files under /run, which the next start of the machine forgets."""

from contextlib import contextmanager
from dataclasses import asdict, dataclass
import fcntl
import json
import os

from .actions import WriteFile
from .sysfs import SlotError

__all__ = ["Before", "alone", "recall", "recording"]

FOLDER = "/run/ringnic"


@dataclass(frozen=True)
class Before:
    """A function as it was before we touched it.

    ``driver``, ``override``: names or None. ``module``: vfio-pci had to be loaded for it.
    """
    driver: str | None
    override: str | None
    module: bool = False


def file(function):
    """Path of what is remembered of a function."""
    return f"{FOLDER}/{function.address}.json"


def recall(function):
    """Return :class:`Before` of a function, or None if nothing is remembered; what cannot be read is as good as nothing."""
    try:
        return Before(**json.loads(function.machine.read(file(function)) or "null"))
    except (TypeError, ValueError):
        return None


def recording(function, before):
    """Return the action that remembers."""
    return WriteFile(function.machine, file(function), json.dumps(asdict(before)) + "\n")


@contextmanager
def alone(machine):
    """Be the only one of us that changes the machine, for the length of the block.

    A file that somebody left behind is no lock: the kernel drops that with the process.
    """
    path = machine.path(f"{FOLDER}/lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SlotError(f"cannot write {FOLDER}/lock: {error.strerror}") from None
    with open(fd, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = lock.read().strip() or "?"
            raise SlotError(f"another `ringnic` is at work on this machine's cards (pid {pid}): wait for it, or end it") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
