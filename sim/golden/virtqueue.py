"""A split virtqueue, the device's side.

Ref: VIRTIO 1.4, 2.7 "Split Virtqueues".
"""

import struct
from collections import deque
from typing import NamedTuple

from ...hdl.spec.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_DESC_SIZE, VIRTQ_USED_ELEM_SIZE, VirtqDescF
from .memory import Fault

__all__ = ["RingError", "Segment", "DeviceQueue"]

DESC = struct.Struct("<QIHH")
USED_ELEM = struct.Struct("<II")
INDEX = 2    # bytes from the start of either ring to idx
ENTRIES = 4  # and to its entries


class RingError(Exception):
    """The driver broke a rule of the ring."""


class Segment(NamedTuple):
    addr: int
    len: int
    write: bool


class DeviceQueue:
    """One enabled queue.

    Attributes
    ----------
    heads : deque
        Chains that are known and not yet used, by their first descriptor.
    stopped : bool
        The driver broke a rule: the queue does nothing any more.
    """
    def __init__(self, memory, *, size, desc, driver, device, event_idx, indirect):
        self.memory = memory
        self.size = size
        self.desc, self.driver, self.device = desc, driver, device
        self.event_idx = event_idx
        self.indirect = indirect
        self.heads = deque()
        self.stopped = False
        self._seen = 0   # avail idx up to which heads are known
        self._used = 0   # used idx

    def look(self):
        """Take notice of all that is available. :exc:`RingError` after the heads before the wrong one are known."""
        try:
            while (count := (self.memory.read_u16(self.driver + INDEX) - self._seen) & 0xffff):
                if count > self.size:
                    raise RingError(f"avail idx went {count} further in a queue of {self.size}")
                for _ in range(count):
                    head = self.memory.read_u16(self.driver + ENTRIES + 2 * (self._seen % self.size))
                    if head >= self.size:
                        raise RingError(f"Head {head} in a queue of {self.size}")
                    self.heads.append(head)
                    self._seen = (self._seen + 1) & 0xffff
                if self.event_idx:  # 2.7.10: avail_event lies behind the used ring; then a look at idx again
                    self.memory.write_u16(self.device + ENTRIES + VIRTQ_USED_ELEM_SIZE * self.size, self._seen)
        except Fault as fault:
            raise RingError(str(fault)) from fault

    def chain(self, head):
        """Return the segments of a chain. Every rule of 2.7.5 that a driver can break is a :exc:`RingError`."""
        table, entries, index, segments, nested = self.desc, self.size, head, [], False
        while True:
            if index >= entries:
                raise RingError(f"Descriptor {index} in a table of {entries}")
            try:
                addr, length, flags, following = DESC.unpack(
                    self.memory.read(table + VIRTQ_DESC_SIZE * index, VIRTQ_DESC_SIZE))
            except Fault as fault:
                raise RingError(str(fault)) from fault
            if len(segments) == self.size:
                raise RingError("Chain is longer than the queue")  # 2.7.5.2: a loop, too
            if flags & VirtqDescF.INDIRECT:
                # 2.7.5.3.1
                if not self.indirect or nested or flags & VirtqDescF.NEXT:
                    raise RingError("Indirect table where none may be")
                if length == 0 or length % VIRTQ_DESC_SIZE:
                    raise RingError(f"Indirect table of {length} bytes")
                table, entries, index, nested = addr, length // VIRTQ_DESC_SIZE, 0, True
                continue  # 2.7.5.3.2: WRITE of such a descriptor is ignored
            segments.append(Segment(addr, length, bool(flags & VirtqDescF.WRITE)))
            if not flags & VirtqDescF.NEXT:
                return segments
            index = following

    def use(self, chains):
        """Give back the first ``heads`` with the bytes written into each. Return whether the driver wants to know.

        They become visible together.
        """
        old = self._used
        for written in chains:
            at = self.device + ENTRIES + VIRTQ_USED_ELEM_SIZE * (self._used % self.size)
            self.memory.write(at, USED_ELEM.pack(self.heads.popleft(), written))
            self._used = (self._used + 1) & 0xffff
        self.memory.write_u16(self.device + INDEX, self._used)  # 2.7.8.2: after the entries
        try:
            if not self.event_idx:
                return not self.memory.read_u16(self.driver) & VIRTQ_AVAIL_F_NO_INTERRUPT
            event = self.memory.read_u16(self.driver + ENTRIES + 2 * self.size)
        except Fault as fault:
            raise RingError(str(fault)) from fault
        # 2.7.7.2: did idx go past used_event, that is: was that entry among these?
        return (event - old) % 0x10000 < (self._used - old) % 0x10000
