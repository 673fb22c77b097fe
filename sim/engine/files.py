"""The files that an engine writes while it runs: that the disk takes them, which the engine itself does not notice."""

import errno
import os
import threading
import time
from pathlib import Path

from ...host.errors import naming

__all__ = ["Piped", "Room"]

CHUNK = 1 << 16
LOOK_SECONDS = 1.0
SPARE = 64 << 20


class Piped:
    """A file that the engine writes by a pipe. A thread copies it, and notices if a write fails.

    Attributes
    ----------
    way : str
        What the engine is to open, before :meth:`opened`.
    """
    def __init__(self, path):
        self._path, self._failure = path, None
        self._file = open(path, "wb", buffering=0)
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        self.way = f"/proc/self/fd/{self._write}"
        self._thread = threading.Thread(target=self._copy, name="TLPs", daemon=True)
        self._thread.start()

    def opened(self):
        """The engine has opened it, or has failed to: the end of what it writes is the end of the pipe."""
        os.close(self._write)

    def _copy(self):
        # After a failure the rest is read and discarded, because a full pipe would stop the engine.
        while chunk := os.read(self._read, CHUNK):
            try:
                with naming(self._path):
                    while chunk and self._failure is None:
                        chunk = chunk[self._file.write(chunk):]
            except OSError as error:
                self._failure = error

    def check(self):
        """Raise the :exc:`OSError` of a write that failed."""
        if self._failure is not None:
            raise self._failure

    def close(self):
        """Wait for what the engine wrote last, after it has closed its end."""
        self._thread.join()
        os.close(self._read)
        self._file.close()


class Room:
    """Whether the disk of the file ``path`` has room for more of a waveform, by a look once a second at most.

    A waveform is not written from beginning to end, so it cannot go through a pipe. And the library that writes it ends the whole
    process where a write fails. So there has to be room for what it may write at once.
    """
    def __init__(self, path):
        self._path, self._next = Path(path), 0.0

    def check(self, now=None):
        """Raise :exc:`OSError` if there is too little."""
        now = time.monotonic() if now is None else now
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        disk = os.statvfs(self._path.parent)
        free = disk.f_frsize * (disk.f_bavail if os.geteuid() else disk.f_bfree)
        if disk.f_blocks and free < SPARE:  # some file systems do not tell
            raise OSError(errno.ENOSPC, f"a waveform needs {SPARE >> 20} MiB free on its disk until it ends", str(self._path))

    def close(self):
        """The next look is due."""
        self._next = 0.0
