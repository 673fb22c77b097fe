"""Memory that the client lends: which bus addresses lie where in which file."""

import errno
import mmap
import os

from .protocol import Refused

__all__ = ["DmaTable"]

READ, WRITE = 1, 2
UNMAP_ALL = 2


class DmaTable:
    """Maps of one client. Files are mapped whole and once: each request brings a fresh descriptor of the same memory."""
    def __init__(self, device):
        self._device = device
        self._files = {}    # (st_dev, st_ino): mmap
        self._maps = {}     # address: size

    def add(self, flags, offset, address, size, fds):
        """DMA_MAP. Memory without a descriptor (ROM) stays out of reach."""
        try:
            if size == 0 or (address + size) >> 64 or any(
                    address < start + length and start < address + size for start, length in self._maps.items()):
                raise Refused(errno.EINVAL, f"DMA_MAP of {size} bytes at {address:#x}")
            if len(fds) > 1:
                raise Refused(errno.EINVAL, f"DMA_MAP with {len(fds)} descriptors")
            if fds:
                memory = self._file(fds[0])
                if offset + size > len(memory):
                    raise Refused(errno.EINVAL, f"DMA_MAP beyond the end of its file at {offset + size}")
                self._device.map(address, memory, bool(flags & WRITE), offset, size)
            self._maps[address] = size
        finally:
            for fd in fds:
                os.close(fd)

    def remove(self, flags, address, size):
        """DMA_UNMAP; when it returns no access is under way."""
        if flags & UNMAP_ALL:
            address, size = 0, 1 << 64
        for start in [start for start, length in self._maps.items()
                      if address <= start and start + length <= address + size]:
            del self._maps[start]
            self._device.unmap(start)

    def close(self):
        self.remove(UNMAP_ALL, 0, 0)
        for memory in self._files.values():
            memory.close()
        self._files.clear()

    def _file(self, fd):
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino
        memory = self._files.get(key)
        if memory is None or len(memory) < status.st_size:
            try:
                memory = mmap.mmap(fd, status.st_size)
            except (OSError, ValueError) as error:
                raise Refused(errno.EINVAL, f"DMA_MAP of what cannot be mapped: {error}") from None
            self._files[key] = memory
        return memory
