"""Where fetched and built things live between runs, and how they appear there: whole or not at all."""

from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import shutil
import tempfile

from ..checkout import checkout

__all__ = ["cache_dir", "entry"]


def cache_dir():
    """Return the cache folder, made if missing.

    It is ``$RINGNIC_CACHE``, else ``.ringnic`` in a checkout, else ``ringnic`` in the user's cache folder.
    """
    if given := os.environ.get("RINGNIC_CACHE"):
        path = Path(given).absolute()
    elif (root := checkout()) is not None:
        path = root / ".ringnic"
    else:
        path = _user_cache() / "ringnic"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _user_cache():
    """Return the folder of the XDG Base Directory Specification, which has a relative path ignored."""
    path = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return path if path.is_absolute() else Path.home() / ".cache"


@contextmanager
def _lock(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def entry(name, build):
    """Return the folder ``name`` of the cache, calling ``build(folder)`` to fill it the first time.

    The folder is filled under another name and renamed when complete, so an interrupted build leaves nothing that
    a later run would take for whole. Processes that want the same entry wait for the first one.
    """
    path = cache_dir() / name
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.parent / f".{path.name}.lock"):
        if path.is_dir():
            return path
        for left in path.parent.glob(f".{path.name}.part-*"):  # of a build that was killed; we hold its lock
            shutil.rmtree(left)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.part-", dir=path.parent))
        try:
            part.chmod(0o755)
            build(part)
            part.rename(path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return path
