"""Looks at a card's registers that harm nobody: not the driver that has it, and not the guest that uses it.

Ref: PCI Express Base 5.0, 7.5.1.1.11 "Capabilities Pointer"; VIRTIO 1.4, 4.1.4 "Virtio Structure PCI Capabilities",
4.1.4.9 "PCI configuration access capability".
"""

from contextlib import contextmanager, suppress
import fcntl
import mmap
import os

from ...hdl.spec.bar import BAR_INDEX, BAR_SIZE, BUILD_ID_OFFSET, COUNTERS_MAGIC, COUNTERS_OFFSET
from ...hdl.spec.pcie import CapId, Cfg, Command, MsixCap, VirtioCap
from ...hdl.spec.virtio import CfgType, Common
from ..bus.capabilities import capabilities
from .sysfs import VFIO_PCI

__all__ = ["Config", "GONE", "Unreadable", "answered", "bar_0", "build_id", "offered_features"]

IORESOURCE_MEM = 0x200
FEATURE_WORDS = 4            # of 32 bits; what a function does not have reads 0
GONE = "it does not answer (all ones): its link is down, it is being reset, or it has lost its bitstream"


class Unreadable(Exception):
    """Why there is nothing to read, for people."""


def answered(word):
    """Return a word of a BAR that is never all ones; raise :exc:`Unreadable` if it is, which is what no answer reads as."""
    if word == 0xffff_ffff:
        raise Unreadable(GONE)
    return word


class Config:
    """Configuration space of a function, as much of it as this user may read: 64 bytes, or all for root."""
    def __init__(self, function):
        self._path = function.machine.path(f"{function.folder}/config")
        try:
            self._bytes = self._path.read_bytes()[:256]
        except OSError:
            self._bytes = b""

    @property
    def complete(self):
        """Capabilities can be read."""
        return len(self._bytes) == 256

    def read(self, offset, size):
        return int.from_bytes(self._bytes[offset:offset + size], "little")

    def capabilities(self):
        """Return ``(offset, id)`` in the order of the list; a list that loops ends there."""
        found = []
        with suppress(ValueError):
            found.extend(capabilities(self.read) if self.complete else ())
        return found

    def msix_vectors(self):
        """Size of the MSI-X table, 0 if there is none; None if that cannot be read."""
        if not self.complete:
            return None
        at = next((at for at, cap in self.capabilities() if cap == CapId.MSIX), None)
        return 0 if at is None else (self.read(at + MsixCap.CONTROL, 2) & 0x7ff) + 1

    def virtio(self, cfg_type):
        """Return ``(offset of the capability, BAR, offset in it)`` of a virtio structure, or None."""
        for at, cap in self.capabilities():
            if cap == CapId.VENDOR and self.read(at + VirtioCap.CFG_TYPE, 1) == cfg_type:
                return at, self.read(at + VirtioCap.BAR, 1), self.read(at + VirtioCap.OFFSET, 4)
        return None

    @contextmanager
    def window(self):
        """Reach BARs through the function's own window into them, which no driver of Linux uses: yields :class:`_Window`.

        One of us at a time: another's look would be for an address that is not its own.
        """
        if not self.complete:
            raise Unreadable("needs root")
        found = self.virtio(CfgType.PCI)
        if found is None:
            raise Unreadable("it has no window into its BARs")
        try:
            with open(self._path, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                window = _Window(file.fileno(), found[0])
                try:
                    yield window
                finally:
                    window.close()
        except OSError as error:  # a locked down kernel refuses the writes
            raise Unreadable(f"{error.strerror}") from None


class _Window:
    """4.1.4.9: BAR, offset and length are written, then pci_cfg_data is the bytes there."""
    def __init__(self, fd, cap):
        self._fd, self._cap = fd, cap

    def _aim(self, bar, offset, length=4):
        for at, size, value in ((VirtioCap.BAR, 1, bar), (VirtioCap.OFFSET, 4, offset), (VirtioCap.LENGTH, 4, length)):
            os.pwrite(self._fd, value.to_bytes(size, "little"), self._cap + at)

    def read(self, bar, offset):
        self._aim(bar, offset)
        return int.from_bytes(os.pread(self._fd, 4, self._cap + VirtioCap.PCI_CFG_DATA), "little")

    def write(self, bar, offset, value):
        self._aim(bar, offset)
        os.pwrite(self._fd, value.to_bytes(4, "little"), self._cap + VirtioCap.PCI_CFG_DATA)

    def close(self):
        """Who reads all of configuration space then reads no register by it."""
        self._aim(0, 0, 0)


def _looks_like_ours(function):
    """Another card may have anything where ours has counters, even what a look changes."""
    size, flags = function.resource(BAR_INDEX) or (0, 0)
    return size == BAR_SIZE and bool(flags & IORESOURCE_MEM)


def _mapped(function):
    """BAR 0 as the kernel lends it, or None if it does not."""
    try:
        fd = os.open(function.machine.path(f"{function.folder}/resource{BAR_INDEX}"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mmap.mmap(fd, BAR_SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None


@contextmanager
def bar_0(function):
    """Yield ``read(offset)``, which returns 4 bytes of a RingNIC's BAR 0; raise :exc:`Unreadable` if nobody may.

    The kernel keeps memory that a driver has claimed to that driver, unless started with ``iomem=relaxed``. Then the
    function's own window serves, but for a function that a guest may have, whose firmware uses it too.
    """
    if function.power_state not in (None, "D0", "unknown"):
        raise Unreadable(f"asleep ({function.power_state})")
    config = Config(function)
    mapped = _mapped(function) if config.read(Cfg.COMMAND, 2) >> Command.MEMORY_ENABLE & 1 else None
    if mapped is not None:
        with mapped, memoryview(mapped) as view, view.cast("I") as words:
            yield lambda offset: words[offset // 4]  # one access of 4 bytes
        return
    if function.driver == VFIO_PCI:
        raise Unreadable("in use by vfio-pci")
    with config.window() as window:
        yield lambda offset: window.read(BAR_INDEX, offset)


def build_id(function):
    """Return a RingNIC's build id, or None for a function that is none; raise :exc:`Unreadable` if it cannot be told."""
    if not _looks_like_ours(function):
        return None
    with bar_0(function) as read:
        return read(BUILD_ID_OFFSET) if answered(read(COUNTERS_OFFSET)) == COUNTERS_MAGIC else None


def offered_features(function):
    """Return the numbers of the features that a function without a driver offers; its device_feature_select moves.

    Raises :exc:`Unreadable` if they cannot be read.
    """
    config = Config(function)
    with config.window() as window:
        _, bar, at = config.virtio(CfgType.COMMON)
        bits = 0
        for word in range(FEATURE_WORDS):
            window.write(bar, at + Common.DEVICE_FEATURE_SELECT, word)
            bits |= window.read(bar, at + Common.DEVICE_FEATURE) << 32 * word
    return frozenset(bit for bit in range(32 * FEATURE_WORDS) if bits >> bit & 1)
