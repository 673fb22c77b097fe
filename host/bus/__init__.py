"""The seam between the driver and whatever carries its accesses: a real card through VFIO, or a simulator."""

from abc import ABC, abstractmethod
import sys
import time

__all__ = ["Bus", "DmaBuffer"]

_FORMATS = {2: "H", 4: "I"}   # of a memoryview


class DmaBuffer:
    """Memory that the device can reach.

    Attributes
    ----------
    iova : int
        Address by which the device knows it.
    view : memoryview
        Its bytes, writable.
    """
    def __init__(self, iova, view, release=None):
        self.iova = iova
        self.view = view
        self._release = release

    def __len__(self):
        return len(self.view)

    def store(self, offset, size, value):
        """Write a little-endian number of 2 or 4 bytes, naturally aligned, in a single store.

        A device that reads meanwhile gets the old number or the new one. ``struct.pack_into`` would not do: it clears the bytes
        before it writes them.
        """
        if sys.byteorder == "big":
            value = int.from_bytes(value.to_bytes(size, "little"), "big")
        self.view[offset:offset + size].cast(_FORMATS[size])[0] = value

    def free(self):
        """Take the memory away from the device. Not twice."""
        if self._release is not None:
            self._release(self)
            self._release = None


class Bus(ABC):
    """One PCI function, seen from its driver.

    Accesses are of 1, 2 or 4 bytes, naturally aligned. A read that the device does not answer is all ones, as on PCI.
    """
    @abstractmethod
    def config_read(self, offset, size):
        """Return ``size`` bytes of configuration space as a number."""

    @abstractmethod
    def config_write(self, offset, size, value):
        """Write ``size`` bytes of configuration space."""

    @abstractmethod
    def bar_read(self, bar, offset, size):
        """Return ``size`` bytes at ``offset`` in a BAR as a number."""

    @abstractmethod
    def bar_write(self, bar, offset, size, value):
        """Write ``size`` bytes at ``offset`` in a BAR; it may be posted."""

    @abstractmethod
    def alloc(self, size, align=4096):
        """Return a zeroed :class:`DmaBuffer` of ``size`` bytes with an ``align``-aligned ``iova``."""

    @abstractmethod
    def enable_msix(self, vectors):
        """Prepare to receive vectors 0 to ``vectors - 1``.

        Return the message of each, ``(address, data)``, for the driver to write into the MSI-X table, or None where
        the bus keeps table and enable bit to itself, as VFIO does.
        """

    @abstractmethod
    def poll_irq(self):
        """Return the set of vectors that came since the last call."""

    @abstractmethod
    def reset(self):
        """Carry out a Function Level Reset; return when the function answers again."""

    def place_bar(self, bar, size):
        """Return the address that the driver is to write into a BAR, or None where firmware or kernel has done so."""
        return None

    def run(self, cycles):
        """Let time pass: about ``cycles`` of the device's clock. Nothing to do where time passes by itself."""

    def wait_irq(self, timeout=1.0):
        """Wait for a vector; return those that came, none after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not (vectors := self.poll_irq()) and time.monotonic() < deadline:
            self.run(100)
        return vectors
