"""The driver's bus over a real card: a function that is bound to vfio-pci, driven from user space.

Ref: Linux Documentation/driver-api/vfio.rst. Configuration space is the kernel's copy of it where it must be; BARs are
the card's own; memory for DMA is what the IOMMU has been told of, and nothing else; an interrupt is a count in an eventfd.
"""

from contextlib import ExitStack, suppress
from ctypes import addressof, c_char, sizeof
import mmap
import os
import select
import struct
import time

from ...hdl.spec.bar import BAR_INDEX, COUNTERS_OFFSET
from ...hdl.spec.pcie import CapId, Cfg, Command, MsixCap
from . import Bus, DmaBuffer
from .capabilities import capability
from .vfio_abi import (NUM_BARS, DeviceFlags, DeviceInfo, IrqFlags, IrqInfo, IrqSet, PciIrq, PciRegion, RegionCap, RegionFlags,
                       RegionInfo, Vfio)
from .vfio_iommu import INTERFACES, Kernel, VfioError, capabilities, not_mapped, open_function

__all__ = ["INTERFACES", "VfioBus", "VfioError"]

PAGE = mmap.PAGESIZE
FIRST_IOVA = 1 << 32         # where there is room: so that 64-bit addresses are what is used
GUARD = 0x1000               # bytes between buffers that no translation covers
CYCLE_SECONDS = 10e-6        # as :meth:`VfioBus.run` counts them
READ_CYCLES = 25             # that a card needs for a register read, at least: a simulated one with a slow clock needs 28
WIDTHS = {1: "B", 2: "H", 4: "I"}
MSIX_ENABLE = 1 << 15


class Iovas:
    """Hands out device addresses, each once: from 4 GiB on, and then what is below.

    ``ranges``: those that there are, ``(first, last)``.
    """
    def __init__(self, ranges):
        above = [[max(first, FIRST_IOVA), last] for first, last in ranges if last >= FIRST_IOVA]
        below = [[max(first, PAGE), min(last, FIRST_IOVA - 1)] for first, last in ranges if first < FIRST_IOVA]
        self._free = above + below

    def take(self, size, align):
        for free in self._free:
            iova = -(-free[0] // align) * align
            if iova + size - 1 <= free[1]:
                free[0] = iova + size + GUARD
                return iova
        raise VfioError(f"The IOMMU has no {size} addresses left")


class _Accesses:
    """A region by system calls, each of which is one access of the card where it is naturally aligned."""
    def __init__(self, kernel, fd, region):
        self._kernel = kernel
        self._fd = fd
        self._offset = region.offset

    def read(self, offset, size):
        try:
            raw = self._kernel.pread(self._fd, size, self._offset + offset)
        except OSError:
            raw = b""
        return int.from_bytes(raw, "little") if len(raw) == size else (1 << 8 * size) - 1

    def write(self, offset, size, value):
        try:
            self._kernel.pwrite(self._fd, value.to_bytes(size, "little"), self._offset + offset)
        except OSError:
            pass  # a posted write that nobody takes

    def close(self):
        pass


class _Mapped:
    """A region in our address space: a load or store of each width is one access of the card."""
    def __init__(self, memory):
        self._memory = memory
        self._views = {size: memoryview(memory).cast("B").cast(code) for size, code in WIDTHS.items()}

    def read(self, offset, size):
        return self._views[size][offset // size]

    def write(self, offset, size, value):
        self._views[size][offset // size] = value

    def close(self):
        for view in self._views.values():
            view.release()
        self._memory.close()


class VfioBus(Bus):
    """A function bound to vfio-pci; :exc:`VfioError` says why it cannot be had.

    It is ours until :meth:`close` or the end of the block, and then the kernel resets it; as it does if we die. Device
    addresses are never used twice, so what the card does with one that was given back is refused.

    Parameters
    ----------
    bdf : str
        Domain, bus, device and function, as ``0000:01:00.0``.
    interface : "group", "iommufd" or None
        How the kernel is asked. None: iommufd where it has it and lets us.
    kernel : Kernel
        Who is asked.

    Attributes
    ----------
    buffers : dict
        By iova: :class:`~.DmaBuffer` that the card may reach.
    """
    def __init__(self, bdf, *, interface=None, kernel=None):
        self.bdf = bdf
        self.buffers = {}
        self._kernel = kernel or Kernel()
        self._vectors = []      # eventfds
        self._bars = {}
        with ExitStack() as stack:
            self._fd, self._space = open_function(self._kernel, bdf, interface, stack)
            config, _ = self._region(PciRegion.CONFIG)
            self._config = _Accesses(self._kernel, self._fd, config)
            self._resets = self._device_info().flags & DeviceFlags.RESET
            self._msix_vectors = self._irq_count()
            self._iovas = Iovas(self._space.ranges())
            self._msix = self._find_msix()
            self._decodes = bool(self.config_read(Cfg.COMMAND, 2) >> Command.MEMORY_ENABLE & 1)
            stack.callback(self._let_go)
            self._stack = stack.pop_all()

    def close(self):
        """Give the function back; the kernel stops and resets it. May be called again."""
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _let_go(self):
        with suppress(OSError):  # of a card that is gone
            self._disable_msix()
        for region in self._bars.values():
            region.close()
        self._bars = {}

    # What the function has.

    def _ask(self, request, structure):
        self._kernel.ioctl(self._fd, request, structure)
        return structure

    def _device_info(self):
        return self._ask(Vfio.DEVICE_GET_INFO, DeviceInfo())

    def _irq_count(self):
        return self._ask(Vfio.DEVICE_GET_IRQ_INFO, IrqInfo(index=PciIrq.MSIX)).count

    def _region(self, index):
        """The region, and the capabilities that it has."""
        raw = bytearray(self._ask(Vfio.DEVICE_GET_REGION_INFO, RegionInfo(index=index)))
        if (size := RegionInfo.from_buffer_copy(raw).argsz) > len(raw):
            raw += bytes(size - len(raw))
            self._ask(Vfio.DEVICE_GET_REGION_INFO, raw)
        region = RegionInfo.from_buffer_copy(raw)
        return region, [kind for kind, _ in capabilities(raw, region.cap_offset)]

    def _find_msix(self):
        """Where MSI-X is controlled; None where there is none, as in a function that does not answer: a list without an end."""
        try:
            at = capability(self.config_read, CapId.MSIX)
        except ValueError:
            return None
        return None if at is None else at + MsixCap.CONTROL

    def _open_bar(self, bar):
        region, caps = self._region(bar)
        if bar >= NUM_BARS or not region.size:
            raise VfioError(f"{self.bdf} has no BAR {bar}")
        # A kernel that keeps the MSI-X table to itself lets only the rest be mapped.
        if region.flags & RegionFlags.MMAP and RegionCap.SPARSE_MMAP not in caps:
            return _Mapped(self._kernel.map(self._fd, region.size, region.offset))
        return _Accesses(self._kernel, self._fd, region)

    def _bar(self, bar):
        if bar not in self._bars:
            self._bars[bar] = self._open_bar(bar)
        return self._bars[bar]

    # Accesses.

    def config_read(self, offset, size):
        return self._config.read(offset, size)

    def config_write(self, offset, size, value):
        if offset == self._msix and not value & MSIX_ENABLE:
            self._disable_msix()  # the kernel keeps the bit, and sets it while there are eventfds
        self._config.write(offset, size, value)
        if offset == Cfg.COMMAND:
            self._decodes = bool(value >> Command.MEMORY_ENABLE & 1)

    def bar_read(self, bar, offset, size):
        # The kernel takes the mapping away from a function that does not decode memory, and us with it.
        return self._bar(bar).read(offset, size) if self._decodes else (1 << 8 * size) - 1

    def bar_write(self, bar, offset, size, value):
        if self._decodes:
            self._bar(bar).write(offset, size, value)

    # DMA.

    def alloc(self, size, align=PAGE):
        length = -(-size // PAGE) * PAGE
        memory = mmap.mmap(-1, length)
        vaddr = addressof(c_char.from_buffer(memory))
        iova = self._iovas.take(length, max(align, PAGE))
        try:
            self._space.map(vaddr, iova, length)
        except OSError as error:
            raise not_mapped(error, length, sum(-(-len(one) // PAGE) * PAGE for one in self.buffers.values())) from None
        buffer = DmaBuffer(iova, memoryview(memory)[:size], self._free)
        self.buffers[iova] = buffer
        return buffer

    def _free(self, buffer):
        del self.buffers[buffer.iova]
        self._space.unmap(buffer.iova, -(-len(buffer) // PAGE) * PAGE)

    # Interrupts.

    def enable_msix(self, vectors):
        if vectors > self._msix_vectors:
            raise VfioError(f"{self.bdf} has {self._msix_vectors} MSI-X vectors, not {vectors}")
        if vectors == len(self._vectors):
            self.poll_irq()
            return
        self._disable_msix()
        made = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(vectors)]
        try:
            # Anything but 0 is how many there would have been.
            left = self._set_irqs(IrqFlags.DATA_EVENTFD, made)
            why = f"the machine has {left} left" if left else None
        except OSError as error:
            why = error.strerror
        if why is not None:
            for fd in made:
                os.close(fd)
            raise VfioError(f"{self.bdf} does not get {vectors} MSI-X vectors: {why}")
        self._vectors = made
        self._waiting = select.poll()
        for fd in made:
            self._waiting.register(fd, select.POLLIN)

    def _set_irqs(self, kind, fds):
        data = struct.pack(f"={len(fds)}i", *fds)
        head = IrqSet(argsz=sizeof(IrqSet) + len(data), flags=kind | IrqFlags.ACTION_TRIGGER, index=PciIrq.MSIX, count=len(fds))
        return self._kernel.ioctl(self._fd, Vfio.DEVICE_SET_IRQS, bytearray(bytes(head) + data))

    def _disable_msix(self):
        vectors, self._vectors = self._vectors, []
        try:
            if vectors:
                self._set_irqs(IrqFlags.DATA_NONE, [])
        finally:
            for fd in vectors:
                os.close(fd)

    def _came(self, milliseconds):
        if not self._vectors:
            return set()
        came = [fd for fd, _ in self._waiting.poll(milliseconds)]
        for fd in came:
            os.eventfd_read(fd)
        return {self._vectors.index(fd) for fd in came}

    def poll_irq(self):
        return self._came(0)

    def wait_irq(self, timeout=1.0):
        return self._came(1000 * timeout)

    # Life.

    def reset(self):
        if not self._resets:
            raise VfioError(f"The kernel knows no way to reset {self.bdf}: see its reset_method in sysfs")
        # The kernel would set MSI-X up again after the reset; a function that was reset has forgotten it.
        self._disable_msix()
        try:
            self._kernel.ioctl(self._fd, Vfio.DEVICE_RESET)
        except OSError as error:
            raise VfioError(f"{self.bdf} cannot be reset: {error.strerror}") from None

    def run(self, cycles):
        # A simulated card may stand still for a while. An answer to a register read shows that its clock has gone on.
        for left in range(cycles, 0, -READ_CYCLES):
            time.sleep(min(left, READ_CYCLES) * CYCLE_SECONDS)
            self.bar_read(BAR_INDEX, COUNTERS_OFFSET, 4)
