"""A client of the vfio-user server, as QEMU is one: it shares no code with the server."""

import array
import mmap
import os
import select
import socket
import struct

from ringnic.hdl.spec.pcie import CapId, Cfg, MsixCap
from ringnic.host.bus import Bus, DmaBuffer

__all__ = ["CONFIG", "DMA_UNMAP", "INTX", "MSI", "MSIX", "NO_REPLY", "PAGE", "PATIENCE", "SET_IRQS", "VfioUserBus"]

HEADER = struct.Struct("<HHIII")
VERSION, DMA_MAP, DMA_UNMAP, REGION_INFO, IRQ_INFO, SET_IRQS, READ, WRITE, RESET = 1, 2, 3, 5, 7, 8, 9, 10, 13
NO_REPLY = 16
CONFIG = 7
INTX, MSI, MSIX = 0, 1, 2
RAM = 16 << 20
BAR_WINDOW = 0xfe00_0000
PAGE = 4096
PATIENCE = 120  # seconds: whatever takes longer hangs


class VfioUserBus(Bus):
    """What QEMU is to its guest: one file of memory, a window of bus addresses on it, eventfds for vectors."""
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.ident = 0
        self.ram = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.ram, RAM)
        self.view = memoryview(mmap.mmap(self.ram, RAM))
        self.events = []
        self.power_on()
        self.call(VERSION, struct.pack("<HH", 0, 0) + b"{}\0")

    def power_on(self):
        """Forget all memory, as firmware does when a guest boots."""
        self.used, self.iova = 0, 1 << 32
        self.maps = {}

    def close(self):
        self.socket.close()
        for fd in [self.ram, *self.events]:
            os.close(fd)

    def call(self, command, body=b"", fds=(), flags=0):
        self.ident = self.ident + 1 & 0xffff
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([HEADER.pack(self.ident, command, HEADER.size + len(body), flags, 0) + body], rights)
        if flags & NO_REPLY:
            return None
        ident, answered, size, flags, error = HEADER.unpack(self._exactly(HEADER.size))
        body = self._exactly(size - HEADER.size)
        assert (ident, answered) == (self.ident, command)
        if error:
            raise OSError(error, "Refused")
        return body

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "the server has closed the connection"
            data += part
        return data

    def read(self, region, offset, size):
        return int.from_bytes(self.call(READ, struct.pack("<QII", offset, region, size))[16:], "little")

    def write(self, region, offset, size, value, flags=0):
        self.call(WRITE, struct.pack("<QII", offset, region, size) + value.to_bytes(size, "little"), flags=flags)

    def region_size(self, index):
        return struct.unpack("<IIIIQQ", self.call(REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0)))[4]

    def irq_count(self, index):
        return struct.unpack("<IIII", self.call(IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0)))[3]

    def config_read(self, offset, size):
        return self.read(CONFIG, offset, size)

    def config_write(self, offset, size, value):
        self.write(CONFIG, offset, size, value)

    def bar_read(self, bar, offset, size):
        return self.read(bar, offset, size)

    def bar_write(self, bar, offset, size, value):
        self.write(bar, offset, size, value, NO_REPLY)  # as QEMU posts them

    def place_bar(self, bar, size):
        return BAR_WINDOW

    def alloc(self, size, align=4096):
        room = -(-size // PAGE) * PAGE
        offset, self.used = self.used, self.used + room
        self.iova = self.iova + align - 1 & -align
        iova, self.iova = self.iova, self.iova + room + PAGE
        self.view[offset:offset + room] = bytes(room)
        self.call(DMA_MAP, struct.pack("<IIQQQ", 32, 3, offset, iova, room), [self.ram])
        self.maps[iova] = room
        return DmaBuffer(iova, self.view[offset:offset + size], self._free)

    def _free(self, buffer):
        self.call(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, buffer.iova, self.maps.pop(buffer.iova)))

    def irqs(self, index, fds):
        """Listen with these, or let nobody listen."""
        flags = 36 if fds else 33
        self.call(SET_IRQS, struct.pack("<IIIII", 20, flags, index, 0, len(fds)), fds)

    def enable_msix(self, vectors):
        while len(self.events) < vectors:
            self.events.append(os.eventfd(0, os.EFD_NONBLOCK))
        self.irqs(MSIX, self.events[:vectors])
        at = self.config_read(Cfg.CAP_POINTER, 1)
        while self.config_read(at, 1) != CapId.MSIX:
            at = self.config_read(at + 1, 1)
        self.config_write(at + MsixCap.CONTROL, 2, 0x8000)

    def poll_irq(self):
        return self._taken(0)

    def wait_irq(self, timeout=1.0):
        return self._taken(timeout)

    def _taken(self, timeout):
        ready, _, _ = select.select(self.events, [], [], timeout)
        for fd in ready:
            os.eventfd_read(fd)
        return {self.events.index(fd) for fd in ready}

    def reset(self):
        self.call(RESET)
