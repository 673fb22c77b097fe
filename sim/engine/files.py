"""The files that an engine writes while it runs: that the disk takes them, which the engine itself does not notice."""

import errno
import os
import tempfile
import threading
import time
from pathlib import Path

from ...host.errors import naming

__all__ = ["Piped", "Room"]

CHUNK = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT)
LOOK_SECONDS = 1.0
SPARE = 1 << 16   # bytes: more than what is left where a write was cut short


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
        # After a failure the rest goes nowhere: an engine that nobody reads from would stand still.
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
    """Whether there is room for more of the file ``path``, by a look at its disk once a second at most.

    A waveform is not written from its begin to its end, so it cannot go by a pipe.
    """
    def __init__(self, path):
        self._path, self._next = Path(path), 0.0

    def check(self, now=None):
        """Raise :exc:`OSError` if there is none."""
        now = time.monotonic() if now is None else now
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        try:
            with tempfile.TemporaryFile(dir=self._path.parent) as file:
                os.posix_fallocate(file.fileno(), 0, SPARE)
        except OSError as error:
            if error.errno in FULL:  # else this tells nothing: only the file itself may be writable, for one
                raise OSError(error.errno, error.strerror, str(self._path)) from None

    def close(self):
        """The next look is due."""
        self._next = 0.0
