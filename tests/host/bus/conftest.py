"""A kernel that knows VFIO and iommufd as their user API says, with a golden card behind it.

It shares no structure with what is tested: it reads arguments byte by byte, as the kernel's headers lay them out.
"""

import ctypes
import errno
import os
import struct

import pytest

from ringnic.host.bus.vfio_iommu import Kernel
from ringnic.sim.golden import GoldenNet

BDF, GROUP, NODE = "0000:01:00.0", "12", "vfio3"
MSI_ADDRESS = 0xfee0_0000
CONFIG, COMMAND, BAR0 = 7, 4, 0x10
EXP_CONTROL, MSIX_CONTROL = 0x68, 0x9e   # of the golden card
BUS_MASTER = 4
TABLE = 0x4000
BAR_SIZE = 0x8000
PAGE = 0x1000


def refuse(code):
    raise OSError(code, os.strerror(code))


class FakeKernel(Kernel):
    """
    Attributes
    ----------
    open_files : dict
        Path, or "device", by number.
    refusals : dict
        Error number by path that is opened, or by request.
    mapped : dict
        Size by iova.
    ranges : list
        ``(first, last)`` of addresses.
    """
    def __init__(self, root, device):
        self.root = root
        self.device = device
        self.open_files = {}
        self.refusals = {}
        self.mapped = {}
        self.ranges = [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)]
        self.viable = self.resettable = True
        self.vectors_left = None
        self.asked = []
        self._next_fd = 1000
        self._eventfds = {}
        self._tell_irqs = False
        self._attached = False
        self._set_up()

    def _set_up(self):
        self.link(f"sys/bus/pci/devices/{BDF}/driver", "sys/bus/pci/drivers/vfio-pci")
        self.link(f"sys/bus/pci/devices/{BDF}/iommu_group", f"sys/kernel/iommu_groups/{GROUP}")
        self.link(f"sys/kernel/iommu_groups/{GROUP}/devices/{BDF}", f"sys/bus/pci/devices/{BDF}")
        for name in ("dev/vfio/vfio", f"dev/vfio/{GROUP}"):
            self.put(name)

    def with_iommufd(self):
        self.put("dev/iommu")
        self.put(f"dev/vfio/devices/{NODE}")
        (self.root / f"sys/bus/pci/devices/{BDF}/vfio-dev/{NODE}").mkdir(parents=True)

    def put(self, name, text=""):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def link(self, name, target):
        (self.root / target).mkdir(parents=True, exist_ok=True)
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).unlink(missing_ok=True)
        (self.root / name).symlink_to(self.root / target)

    # System calls.

    def open(self, path):
        name = str(path.relative_to(self.root))
        if not path.exists():
            refuse(errno.ENOENT)
        if name in self.refusals:
            refuse(self.refusals[name])
        return self._file(name)

    def _file(self, name):
        self._next_fd += 1
        self.open_files[self._next_fd] = name
        return self._next_fd

    def close(self, fd):
        name = self.open_files.pop(fd)
        if name in ("device", f"dev/vfio/devices/{NODE}"):
            self._set_irqs([])
            self._flr()
        elif name in ("dev/vfio/vfio", "dev/iommu"):
            assert "device" not in self.open_files.values(), "memory goes before the card is at rest"
            for iova in list(self.mapped):
                self._unmap(iova, self.mapped[iova])

    def ioctl(self, fd, request, argument=0):
        name = self.open_files[fd]
        self.asked.append(int(request))
        if int(request) in self.refusals:
            refuse(self.refusals[int(request)])
        if name == f"dev/vfio/devices/{NODE}" and request in (0x3b76, 0x3b77):
            return self._cdev(request, memoryview(argument).cast("B"))
        kind = "device" if name == f"dev/vfio/devices/{NODE}" else name
        raw = argument if isinstance(argument, int) else memoryview(argument).cast("B")
        return {"dev/vfio/vfio": self._container, f"dev/vfio/{GROUP}": self._group, "dev/iommu": self._iommufd,
                "device": self._device}[kind](request, raw)

    def pread(self, fd, size, offset):
        index, at = self._region_of(fd, offset)
        if index == CONFIG:
            found = self.device.config_read(at, size)
        elif self.device.config_read(COMMAND, 2) & 2:
            found = self.device.bar_read(at, size)
        else:
            refuse(errno.EIO)
        self._pump()
        return found.to_bytes(size, "little")

    def pwrite(self, fd, data, offset):
        index, at = self._region_of(fd, offset)
        value = int.from_bytes(data, "little")
        if index == CONFIG:
            if not MSIX_CONTROL - 2 <= at < MSIX_CONTROL + 10:  # the kernel's
                self.device.config_write(at, len(data), value)
        else:
            self.device.bar_write(at, len(data), value)
        self._pump()
        return len(data)

    def _region_of(self, fd, offset):
        assert self._attached and self.open_files[fd] in ("device", f"dev/vfio/devices/{NODE}")
        return offset >> 40, offset & (1 << 40) - 1

    # Container and group.

    def _container(self, request, raw):
        if request == 0x3b64:
            return 0
        if request == 0x3b65:
            return int(raw == 3)
        if request == 0x3b66:
            assert raw == 3 and self._contained
            return 0
        if request == 0x3b70:
            size = 24 + 16 + 16 * len(self.ranges) + 8
            if struct.unpack_from("<I", raw)[0] >= size:
                raw[:24] = struct.pack("<IIQII", size, 3, PAGE, 24, 0)
                raw[24:32] = struct.pack("<HHI", 3, 1, 32)  # something else first
                raw[32:48] = struct.pack("<HHIII", 1, 1, 0, len(self.ranges), 0)
                for k, both in enumerate(self.ranges):
                    struct.pack_into("<QQ", raw, 48 + 16 * k, *both)
            else:
                raw[:4] = struct.pack("<I", size)
            return 0
        if request == 0x3b71:
            size, flags, vaddr, iova, length = struct.unpack("<IIQQQ", raw)
            assert size == 32 and flags == 3
            return self._map(vaddr, iova, length)
        assert request == 0x3b72
        size, flags, iova, length = struct.unpack("<IIQQ", raw)
        assert size == 24 and flags == 0
        return self._unmap(iova, length)

    def _group(self, request, raw):
        if request == 0x3b67:
            assert struct.unpack("<II", raw) == (8, 0)
            raw[4:] = struct.pack("<I", self.viable)
            return 0
        if request == 0x3b68:
            self._contained = self.open_files[struct.unpack("<i", raw)[0]] == "dev/vfio/vfio"
            return 0
        assert request == 0x3b6a and bytes(raw) == BDF.encode() + b"\0"
        self._attached = True
        return self._file("device")

    # iommufd.

    def _cdev(self, request, raw):
        if request == 0x3b76:
            size, flags, iommufd, _ = struct.unpack("<IIiI", raw)
            assert (size, flags, self.open_files[iommufd]) == (16, 0, "dev/iommu")
        else:
            assert struct.unpack("<III", raw) == (12, 0, 77)
            self._attached = True
        return 0

    def _iommufd(self, request, raw):
        if request == 0x3b81:
            assert struct.unpack("<III", raw) == (12, 0, 0)
            raw[8:] = struct.pack("<I", 77)
        elif request == 0x3b84:
            size, space, count, zero, at, _ = struct.unpack("<IIIIQQ", raw)
            assert (size, space, zero) == (32, 77, 0)
            raw[8:12] = struct.pack("<I", len(self.ranges))
            if count < len(self.ranges):
                refuse(errno.EMSGSIZE)
            ctypes.memmove(at, b"".join(struct.pack("<QQ", *both) for both in self.ranges), 16 * len(self.ranges))
        elif request == 0x3b85:
            size, flags, space, zero, vaddr, length, iova = struct.unpack("<IIIIQQQ", raw)
            assert (size, flags, space, zero) == (40, 7, 77, 0)
            return self._map(vaddr, iova, length)
        else:
            assert request == 0x3b86
            size, space, iova, length = struct.unpack("<IIQQ", raw)
            assert (size, space) == (24, 77)
            return self._unmap(iova, length)
        return 0

    def _map(self, vaddr, iova, length):
        assert not (vaddr | iova | length) % PAGE and length
        assert any(first <= iova and iova + length - 1 <= last for first, last in self.ranges)
        assert not any(iova < other + size and other < iova + length for other, size in self.mapped.items())
        self.device.map(iova, memoryview((ctypes.c_char * length).from_address(vaddr)).cast("B"))
        self.mapped[iova] = length
        return 0

    def _unmap(self, iova, length):
        assert self.mapped.pop(iova) == length
        self.device.unmap(iova, length)
        return 0

    # The function.

    def _device(self, request, raw):
        if request == 0x3b6b:
            raw[4:16] = struct.pack("<III", 2 | self.resettable, 9, 5)
        elif request == 0x3b6c:
            self._region(raw)
        elif request == 0x3b6d:
            size, _, index, _ = struct.unpack("<IIII", raw)
            assert (size, index) == (16, 2)
            raw[12:] = struct.pack("<I", self.device.vectors)
        elif request == 0x3b6e:
            size, flags, index, start, count = struct.unpack_from("<IIIII", raw)
            assert (size, index, start) == (len(raw), 2, 0)
            assert flags == (36 if count else 33)
            if self.vectors_left is not None and count > self.vectors_left:
                return self.vectors_left
            self._set_irqs(struct.unpack_from(f"<{count}i", raw, 20))
        elif request == 0x3b6f:
            self._flr()
        return 0

    def _region(self, raw):
        size, _, index, _, _, _ = struct.unpack_from("<IIIIQQ", raw)
        length = {CONFIG: 0x1000, 0: BAR_SIZE}.get(index, 0)
        # BAR 0 is one of which some may be mapped.
        needed = 32 + 16 if index == 0 else 32
        raw[:32] = struct.pack("<IIIIQQ", needed, 15 if index == 0 else 3, index, 32 if size >= 48 else 0, length, index << 40)
        if index == 0 and size >= needed:
            raw[32:48] = struct.pack("<HHIII", 1, 1, 0, 0, 0)

    def _set_irqs(self, fds):
        self._eventfds = dict(enumerate(fds))
        self._enable_irqs()

    def _enable_irqs(self):
        self.device.config_write(MSIX_CONTROL, 2, 0x4000)
        command = self.device.config_read(COMMAND, 2)
        self.device.config_write(COMMAND, 2, command | 2)
        for vector in range(self.device.vectors):
            for dw, value in enumerate((MSI_ADDRESS, 0, vector, int(vector not in self._eventfds))):
                self.device.bar_write(TABLE + 16 * vector + 4 * dw, 4, value)
        self.device.config_write(COMMAND, 2, command)
        self.device.config_write(MSIX_CONTROL, 2, 0x8000 if self._eventfds else 0)

    def _flr(self):
        command = self.device.config_read(COMMAND, 2)
        self.device.config_write(EXP_CONTROL, 2, 0x8000)
        # The kernel restores what there was, MSI-X too.
        self.device.config_write(COMMAND, 2, command)
        self._enable_irqs()

    def _pump(self):
        for address, vector in self.device.interrupts():
            assert address == MSI_ADDRESS
            os.eventfd_write(self._eventfds[vector], 1)

    def receive(self, frame):
        """A frame comes from the wire."""
        self.device.receive(frame)
        self._pump()


@pytest.fixture
def bdf():
    return BDF


@pytest.fixture
def kernel(tmp_path):
    """A kernel with groups and without iommufd, a card of two pairs of queues; in the end nothing may be open."""
    kernel = FakeKernel(tmp_path, GoldenNet(queue_pairs=2))
    yield kernel
    assert not kernel.open_files and not kernel.mapped
