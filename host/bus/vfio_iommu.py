"""A PCI function and its address space, taken from the kernel: by group and container, or by iommufd.

Ref: Linux Documentation/driver-api/vfio.rst, Documentation/userspace-api/iommufd.rst. Both ways end in the same two things: a
file descriptor of the function, and a table of an IOMMU, in which memory is mapped and unmapped for it. Without an IOMMU
there is neither: what the kernel calls noiommu would let the card write anywhere.
"""

from ctypes import addressof, sizeof
import errno
import fcntl
from grp import getgrgid
import mmap
import os
from pathlib import Path
from pwd import getpwuid
import resource
import stat

from ..slot.sysfs import Machine
from .vfio_abi import (API_VERSION, TYPE1_IOVA_RANGE, TYPE1V2_IOMMU, AttachPt, BindIommufd, CapHeader, DmaFlags, DmaMap,
                       DmaUnmap, GroupFlags, GroupStatus, IoasAlloc, IoasIovaRanges, IoasMap, IoasMapFlags, IoasUnmap, Iommufd,
                       IovaRange, IovaRangeCap, Type1Info, Vfio)

__all__ = ["INTERFACES", "Kernel", "VfioError", "capabilities", "not_mapped", "open_function"]

DRIVER = "vfio-pci"
INTERFACES = ("group", "iommufd")
RANGES = 32  # of addresses that an IOMMU may have, as we ask the first time


class VfioError(Exception):
    """The function cannot be had or used; the message says why, and the way out."""


class Kernel:
    """What the kernel does for us. A test has one of its own.

    ``root``: where /dev, /sys and /proc are.
    """
    root = Path("/")

    def open(self, path):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd):
        os.close(fd)

    def ioctl(self, fd, request, argument=0):
        """``argument`` is a number, or a writable buffer that the answer is put into. Return what the call returns."""
        return fcntl.ioctl(fd, request, argument)

    def pread(self, fd, size, offset):
        return os.pread(fd, size, offset)

    def pwrite(self, fd, data, offset):
        return os.pwrite(fd, data, offset)

    def map(self, fd, size, offset):
        """Map a part of a file, shared and writable."""
        return mmap.mmap(fd, size, offset=offset)


def capabilities(raw, offset):
    """Yield ``(id, offset)`` of what follows a structure in ``raw``, from the ``cap_offset`` that it says."""
    while offset and offset + sizeof(CapHeader) <= len(raw):
        header = CapHeader.from_buffer_copy(raw, offset)
        yield header.id, offset
        offset = header.next if header.next > offset else 0


class _Type1:
    """The address space of a container."""
    def __init__(self, kernel, container):
        self._kernel = kernel
        self._fd = container

    def ranges(self):
        """Addresses that there are, ``(first, last)`` each."""
        info = Type1Info()
        self._kernel.ioctl(self._fd, Vfio.IOMMU_GET_INFO, info)
        raw = bytearray(max(info.argsz, sizeof(info)))
        raw[:4] = len(raw).to_bytes(4, "little")
        self._kernel.ioctl(self._fd, Vfio.IOMMU_GET_INFO, raw)
        for kind, at in capabilities(raw, Type1Info.from_buffer_copy(raw).cap_offset):
            if kind == TYPE1_IOVA_RANGE:
                count = IovaRangeCap.from_buffer_copy(raw, at).nr_iovas
                found = (IovaRange * count).from_buffer_copy(raw, at + sizeof(IovaRangeCap))
                return [(one.start, one.end) for one in found]
        raise VfioError("The kernel does not say which addresses the IOMMU has: Linux 5.4 or later does")

    def map(self, vaddr, iova, size):
        self._kernel.ioctl(self._fd, Vfio.IOMMU_MAP_DMA, DmaMap(flags=DmaFlags.READ | DmaFlags.WRITE, vaddr=vaddr, iova=iova,
                                                                size=size))

    def unmap(self, iova, size):
        self._kernel.ioctl(self._fd, Vfio.IOMMU_UNMAP_DMA, DmaUnmap(iova=iova, size=size))


class _Ioas:
    """An address space of iommufd."""
    def __init__(self, kernel, iommufd):
        self._kernel = kernel
        self._fd = iommufd
        made = IoasAlloc()
        kernel.ioctl(iommufd, Iommufd.IOAS_ALLOC, made)
        self.id = made.out_ioas_id

    def ranges(self):
        """Addresses that there are, ``(first, last)`` each."""
        count = RANGES
        while True:
            found = (IovaRange * count)()
            asked = IoasIovaRanges(ioas_id=self.id, num_iovas=count, allowed_iovas=addressof(found))
            try:
                self._kernel.ioctl(self._fd, Iommufd.IOAS_IOVA_RANGES, asked)
            except OSError as error:
                if error.errno != errno.EMSGSIZE or asked.num_iovas <= count:
                    raise
                count = asked.num_iovas
                continue
            return [(one.start, one.end) for one in found[:asked.num_iovas]]

    def map(self, vaddr, iova, size):
        self._kernel.ioctl(self._fd, Iommufd.IOAS_MAP, IoasMap(
            flags=IoasMapFlags.FIXED_IOVA | IoasMapFlags.READABLE | IoasMapFlags.WRITEABLE, ioas_id=self.id, user_va=vaddr,
            length=size, iova=iova))

    def unmap(self, iova, size):
        self._kernel.ioctl(self._fd, Iommufd.IOAS_UNMAP, IoasUnmap(ioas_id=self.id, iova=iova, length=size))


# What sysfs and /proc say.

def _driver(slot):
    return os.path.basename(os.readlink(slot / "driver")) if (slot / "driver").is_symlink() else None


def _group(kernel, bdf):
    """Number of the function's IOMMU group, after a look at what must be so."""
    slot = kernel.root / "sys/bus/pci/devices" / bdf
    if not slot.exists():
        raise VfioError(f"There is no PCI function {bdf}: `ringnic devices` shows those that there are")
    if (driver := _driver(slot)) != DRIVER:
        raise VfioError(f"{bdf} is bound to {driver or 'no driver'}, not to {DRIVER}: `ringnic bind {bdf}`")
    link = slot / "iommu_group"
    group = os.path.basename(os.readlink(link)) if link.is_symlink() else None
    name = kernel.root / f"sys/kernel/iommu_groups/{group}/name"
    if group is None or name.exists() and name.read_text().strip() == "vfio-noiommu":
        raise VfioError(f"No IOMMU guards {bdf}: switch it on in the firmware (VT-d, AMD-Vi, SMMU), and on Intel boot with "
                        "intel_iommu=on")
    return group


def _users(kernel, path):
    """Processes that have a file open, as far as we may know: "qemu (1234)"."""
    found = Machine(kernel.root).users({str(path)})
    return ", ".join(f"{command} ({pid})" for pid, command in found) or "a process that is not ours to see"


def _open(kernel, path, stack):
    try:
        fd = kernel.open(path)
    except PermissionError:
        owner = path.stat()
        raise VfioError(f"No permission to open {path}, which belongs to {_name(getpwuid, owner.st_uid)}:"
                        f"{_name(getgrgid, owner.st_gid)}, mode {stat.S_IMODE(owner.st_mode):04o}: become its owner (`sudo chown "
                        f"$USER {path}`), or root") from None
    except FileNotFoundError:
        raise VfioError(f"There is no {path}: `modprobe {DRIVER}`") from None
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise VfioError(f"{path} cannot be opened: {error.strerror}") from None
        raise VfioError(f"{path} is in use, by {_users(kernel, path)}: end it first") from None
    stack.callback(kernel.close, fd)
    return fd


def _name(look_up, number):
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)


# The two ways.

def _no_remapping(bdf):
    return VfioError(f"The IOMMU of {bdf} cannot remap interrupts, so the kernel does not let it go: switch interrupt "
                     "remapping (x2APIC) on in the firmware")


def _by_group(kernel, bdf, number, stack):
    container = _open(kernel, kernel.root / "dev/vfio/vfio", stack)
    if kernel.ioctl(container, Vfio.GET_API_VERSION) != API_VERSION or not kernel.ioctl(
            container, Vfio.CHECK_EXTENSION, TYPE1V2_IOMMU):
        raise VfioError("The kernel's VFIO has no type 1 IOMMU: `modprobe vfio_iommu_type1`")
    group = _open(kernel, kernel.root / f"dev/vfio/{number}", stack)
    status = GroupStatus()
    kernel.ioctl(group, Vfio.GROUP_GET_STATUS, status)
    if not status.flags & GroupFlags.VIABLE:
        members = kernel.root / f"sys/kernel/iommu_groups/{number}/devices"
        others = [f"{other.name} ({driver})" for other in sorted(members.iterdir()) if other.name != bdf
                  and (driver := _driver(kernel.root / "sys/bus/pci/devices" / other.name)) not in (None, DRIVER, "pcieport")]
        raise VfioError(f"IOMMU group {number} of {bdf} is not ours alone: {', '.join(others)} is in it; bind that to {DRIVER} "
                        "too, or put the card into another slot")
    kernel.ioctl(group, Vfio.GROUP_SET_CONTAINER, bytearray(container.to_bytes(4, "little")))
    try:
        kernel.ioctl(container, Vfio.SET_IOMMU, TYPE1V2_IOMMU)
    except PermissionError:
        raise _no_remapping(bdf) from None
    device = kernel.ioctl(group, Vfio.GROUP_GET_DEVICE_FD, bytearray(bdf.encode() + b"\0"))
    stack.callback(kernel.close, device)
    return device, _Type1(kernel, container)


def _by_iommufd(kernel, bdf, path, stack):
    iommufd = _open(kernel, kernel.root / "dev/iommu", stack)
    device = _open(kernel, path, stack)
    try:
        kernel.ioctl(device, Vfio.DEVICE_BIND_IOMMUFD, BindIommufd(iommufd=iommufd))
    except PermissionError:
        raise _no_remapping(bdf) from None
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EINVAL):
            raise
        raise VfioError(f"{bdf} is in use, by {_users(kernel, path)}, or others of its IOMMU group are: end that first") from None
    space = _Ioas(kernel, iommufd)
    kernel.ioctl(device, Vfio.DEVICE_ATTACH_IOMMUFD_PT, AttachPt(pt_id=space.id))
    return device, space


def _best(kernel, path, number):
    """The interface to use if none is asked for. /dev/iommu is root's even where a user was given the card."""
    iommu = kernel.root / "dev/iommu"
    if not (path.exists() and iommu.exists()):
        return "group"
    ours = os.access(iommu, os.R_OK | os.W_OK)
    return "iommufd" if ours or not (kernel.root / f"dev/vfio/{number}").exists() else "group"


def open_function(kernel, bdf, interface, stack):
    """Return a file descriptor of the function and its address space: ``ranges``, ``map`` and ``unmap``.

    ``interface`` is one of :data:`INTERFACES`, or None: iommufd where the kernel has it and lets us. What is opened is closed
    by ``stack``.
    """
    number = _group(kernel, bdf)
    nodes = kernel.root / "sys/bus/pci/devices" / bdf / "vfio-dev"
    name = next((node.name for node in nodes.iterdir()), None) if nodes.exists() else None
    path = kernel.root / f"dev/vfio/devices/{name}"
    if interface is None:
        interface = _best(kernel, path, number)
    try:
        if interface == "group":
            return _by_group(kernel, bdf, number, stack)
        return _by_iommufd(kernel, bdf, path, stack)
    except OSError as error:
        raise VfioError(f"The kernel does not give us {bdf} by {interface}: {error.strerror}") from None


def not_mapped(error, size, mapped):
    """Return the :exc:`VfioError` of memory that could not be mapped: ``size`` bytes, when ``mapped`` were."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if error.errno == errno.ENOMEM and limit != resource.RLIM_INFINITY:
        return VfioError(f"{(mapped + size) >> 10} KiB of memory must be locked for DMA, and only {limit >> 10} KiB may be: "
                         f"raise the limit (`ulimit -l unlimited`, or memlock in /etc/security/limits.conf)")
    return VfioError(f"{size} bytes cannot be mapped for DMA: {error.strerror}")
