"""A virtqueue, the device's side: what split and packed have in common.

Ref: VIRTIO 1.4, 2.6 "Virtqueues".
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import NamedTuple

from .memory import Fault

__all__ = ["RingError", "Segment", "Chain", "Use", "DeviceQueue", "within"]

END = 1 << 64  # of the address space


class RingError(Exception):
    """The driver broke a rule of the ring."""


def within(addr, length):
    """:exc:`RingError` if so many bytes from ``addr`` on run past the end of the address space."""
    if addr + length > END:
        raise RingError(f"{length} bytes at {addr:#x} run past the end of the address space")


class Segment(NamedTuple):
    addr: int
    len: int
    write: bool


class Chain(NamedTuple):
    """A chain that is available. ``count``: entries of the ring that it takes; ``elements``: what is known of it."""
    id: int
    count: int
    elements: tuple = ()


class Use(NamedTuple):
    """A used entry: at ``place``, where ``before`` was. ``whole``: all that is device-writable has been written."""
    place: NamedTuple
    before: bytes
    id: int
    len: int
    whole: bool


class DeviceQueue(ABC):
    """One enabled queue.

    Attributes
    ----------
    chains : deque
        What is available, known and not yet used.
    stopped : bool
        The driver broke a rule: the queue does nothing any more.
    used : int
        Chains given back since the queue was enabled.
    uses : deque
        The last of them, at most as many as the ring has entries.
    """
    ENTRY_BYTES = None  # of a used entry
    SHARED = False      # driver and device write the same ring, which is at ``desc``

    def __init__(self, memory, *, size, desc, driver, device, event_idx, indirect):
        self.memory = memory
        self.size = size
        self.desc, self.driver, self.device = desc, driver, device
        self.event_idx = event_idx
        self.indirect = indirect
        self.chains = deque()
        self.stopped = False
        self._started = False
        self.used = 0
        self.uses = deque(maxlen=size)

    # What a format is

    @property
    @abstractmethod
    def place(self):
        """Where the next used entry goes; ``place.addr`` is its address."""

    @property
    @abstractmethod
    def areas(self):
        """``(addr, length)`` of all that the driver has set up."""

    @abstractmethod
    def _start(self):
        """Say that notifications are wanted, whatever memory holds there."""

    @abstractmethod
    def _look(self):
        """Add all that is available to ``chains``."""

    @abstractmethod
    def _segments(self, chain):
        """Return the segments of a chain."""

    @abstractmethod
    def _pass(self, count):
        """Move ``place`` on by a chain of ``count`` entries of the ring."""

    @abstractmethod
    def _entry(self, place, use):
        """Return the bytes that tell of ``use`` at ``place``."""

    @abstractmethod
    def _publish(self, uses):
        """Write what tells the driver of ``uses``."""

    @abstractmethod
    def _wanted(self, place, entries):
        """Return whether the driver wants a notification of the ``entries`` passed since ``place``."""

    @abstractmethod
    def shown(self, read, place):
        """Return the id in the used entry at ``place``, in a card's memory behind ``read``; None if there is none yet."""

    @abstractmethod
    def writes(self):
        """Return ``(addr, end)`` of all that the device writes."""

    @property
    @abstractmethod
    def event(self):
        """``(addr, end)`` of where the device says when it wants to be notified."""

    @abstractmethod
    def check_event(self, read):
        """:exc:`AssertionError` if what a card wrote there, behind ``read``, may not be."""

    # What a device does with it

    def look(self):
        """Take notice of all that is available. :exc:`RingError` after the chains before the wrong one are known."""
        for area in self.areas:
            within(*area)
        if not self._started:
            self._started = True
            self._start()
        try:
            self._look()
        except Fault as fault:
            raise RingError(str(fault)) from fault

    def segments(self, chain):
        """Return the segments of a chain. Every rule that a driver can break is a :exc:`RingError`."""
        try:
            return self._segments(chain)
        except Fault as fault:
            raise RingError(str(fault)) from fault

    def use(self, written):
        """Give back the first ``chains``: ``(segments, bytes written)`` of each. Return whether the driver wants to know.

        They become visible together.
        """
        uses, start, entries = [], self.place, 0
        for segments, length in written:
            chain = self.chains.popleft()
            writable = sum(segment.len for segment in segments if segment.write)
            uses.append(Use(self.place, self._peek(self.place.addr), chain.id, length, length == writable))
            self._pass(chain.count)
            entries += chain.count
        self._publish(uses)
        self.uses.extend(uses)
        self.used += len(uses)
        try:
            return self._wanted(start, entries)
        except Fault as fault:
            raise RingError(str(fault)) from fault

    def _peek(self, addr):
        try:
            return self.memory.read(addr, self.ENTRY_BYTES)
        except Fault:
            return b""

    def batch(self, uses):
        """Let ``uses``, the next to each other, be told by one entry (IN_ORDER): as the others had not been written."""
        for use in uses:
            self.memory.write(use.place.addr, use.before)
        self.memory.write(uses[0].place.addr, self._entry(uses[0].place, uses[-1]))
