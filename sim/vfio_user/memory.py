"""Memory that the client lends: which bus addresses lie where in which file."""

import bisect
import errno
import fcntl
import mmap
import os
import stat

from .protocol import Refused

__all__ = ["MAX_MAPS", "PAGE_SIZE", "DmaTable"]

READ, WRITE = 1, 2
UNMAP_ALL = 2
PAGE_SIZE = 4096
MAX_MAPS = 65535
MAX_FILES = 64   # each keeps a descriptor open; a virtual machine has one file for each of its memories


class _File:
    """One file, mapped whole; ``users`` maps lie in it."""
    def __init__(self, fd, size):
        try:
            self.memory = mmap.mmap(fd, size)
        except (OSError, ValueError, OverflowError) as error:
            raise Refused(errno.EINVAL, f"DMA_MAP of what cannot be mapped: {error}") from None
        self.users = 0


class DmaTable:
    """Maps of one client. Files are mapped whole and once: each request brings a fresh descriptor of the same memory.

    ``lends_nothing``: there are maps that the device may write, and none of them lies in a file: the machine's memory is not
    shared.

    An access past the end of a file kills the process. What lies past it at the time of the request is refused; later
    truncation is ruled out by a seal where the file can have one (a memfd with ``MFD_ALLOW_SEALING``, which is what QEMU makes).
    Whoever lends any other file and truncates it under the device ends the simulator.
    """
    def __init__(self, device):
        self._device = device
        self._files = {}    # (st_dev, st_ino, st_size): _File
        self._starts = []   # addresses, sorted: with a vIOMMU there are tens of thousands
        self._maps = {}     # address: (size, key in _files or None)
        self._private = set()   # addresses of maps that the device may write, without a descriptor

    @property
    def lends_nothing(self):
        return bool(self._private) and not self._files

    def add(self, flags, offset, address, size, fds):
        """DMA_MAP. Memory without a descriptor (ROM) stays out of reach. Closes ``fds``."""
        try:
            self._add(flags, offset, address, size, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _add(self, flags, offset, address, size, fds):
        if flags & ~(READ | WRITE):
            raise Refused(errno.EINVAL, f"DMA_MAP flags {flags:#x}")
        if size == 0 or address + size > 1 << 64 or any(value % PAGE_SIZE for value in (offset, address, size)):
            raise Refused(errno.EINVAL, f"DMA_MAP of {size} bytes at {address:#x}, {offset:#x} in its file")
        at = bisect.bisect_left(self._starts, address + size)
        if at and self._end(self._starts[at - 1]) > address:
            raise Refused(errno.EEXIST, f"DMA_MAP of {size} bytes at {address:#x}: there is one already")
        if len(self._starts) == MAX_MAPS:
            raise Refused(errno.ENOSPC, f"More than {MAX_MAPS} DMA_MAPs")
        if len(fds) > 1:
            raise Refused(errno.EINVAL, f"DMA_MAP with {len(fds)} descriptors")
        key = None
        if fds and flags:
            key = self._open(fds[0], offset + size)
            file = self._files[key]
            self._device.map(address, file.memory, bool(flags & WRITE), offset, size)
            file.users += 1
        self._starts.insert(at, address)
        self._maps[address] = size, key
        if key is None and flags & WRITE:
            self._private.add(address)

    def remove(self, flags, address, size):
        """DMA_UNMAP; when it returns no access is under way."""
        if flags & ~UNMAP_ALL:
            raise Refused(errno.ENOTSUP, f"DMA_UNMAP flags {flags:#x}")
        if flags & UNMAP_ALL:
            if address or size:
                raise Refused(errno.EINVAL, "DMA_UNMAP of all memory and of some")
            size = 1 << 64
        elif size == 0 or address + size > 1 << 64:
            raise Refused(errno.EINVAL, f"DMA_UNMAP of {size} bytes at {address:#x}")
        first, last = (bisect.bisect_left(self._starts, bound) for bound in (address, address + size))
        if first and self._end(self._starts[first - 1]) > address or \
                last > first and self._end(self._starts[last - 1]) > address + size:
            raise Refused(errno.EINVAL, f"DMA_UNMAP of {size} bytes at {address:#x} cuts a DMA_MAP")
        for start in self._starts[first:last]:
            _, key = self._maps.pop(start)
            self._private.discard(start)
            if key is not None:
                self._device.unmap(start)
                self._release(key)
        del self._starts[first:last]

    def close(self):
        self.remove(UNMAP_ALL, 0, 0)

    def _end(self, start):
        return start + self._maps[start][0]

    def _open(self, fd, end):
        """Have the file mapped at least up to ``end``; return its key."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(errno.EINVAL, "DMA_MAP of what is no file")
        try:
            # Before the size is looked at, so that it holds.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        except OSError:
            pass
        status = os.fstat(fd)
        if end > status.st_size:
            raise Refused(errno.EINVAL, f"DMA_MAP beyond the end of its file at {end:#x}")
        # A file that has grown is another one here: maps in the old one stay where they are.
        key = status.st_dev, status.st_ino, status.st_size
        if key not in self._files:
            if len(self._files) == MAX_FILES:
                raise Refused(errno.EMFILE, f"DMA_MAPs of more than {MAX_FILES} files")
            self._files[key] = _File(fd, status.st_size)
        return key

    def _release(self, key):
        file = self._files[key]
        file.users -= 1
        if not file.users:
            del self._files[key]
            file.memory.close()
