"""A packed virtqueue, the device's side.

Ref: VIRTIO 1.4, 2.8 "Packed Virtqueues".
"""

import struct
from typing import NamedTuple

from ...hdl.spec.virtio import MAX_TABLE, VIRTQ_DESC_SIZE, RingEvent, VirtqDescF
from .virtqueue import Chain, DeviceQueue, RingError, Segment, within

__all__ = ["PackedQueue"]

DESC = struct.Struct("<QIHH")
EVENT = struct.Struct("<HH")  # offset and wrap counter, flags
UNUSED_ADDR = (1 << 64) - 1   # of a used descriptor, as the card writes it; no driver may care (2.8.6)
WRAP = 1 << 15
EVENT_FLAGS = 3


class Place(NamedTuple):
    """An entry of the ring, and the wrap counter of who comes to it."""
    addr: int
    slot: int
    wrap: int


class PackedQueue(DeviceQueue):
    """One enabled queue of a driver that asked for RING_PACKED."""
    ENTRY_BYTES = VIRTQ_DESC_SIZE
    SHARED = True

    def __init__(self, memory, **options):
        super().__init__(memory, **options)
        self._seen = 0  # entries of the ring that were found available, all laps; used ones likewise
        self._done = 0

    def _place(self, entries):
        laps, slot = divmod(entries, self.size)
        return Place(self.desc + VIRTQ_DESC_SIZE * slot, slot, (laps + 1) & 1)  # 2.8.1: both counters start with 1

    @property
    def place(self):
        return self._place(self._done)

    @property
    def areas(self):
        return [(self.desc, VIRTQ_DESC_SIZE * self.size), (self.driver, EVENT.size), (self.device, EVENT.size)]

    def _available(self, entries):
        """Return the descriptor at a place of the ring; None if it is not available."""
        place = self._place(entries)
        addr, length, id, flags = DESC.unpack(self.memory.read(place.addr, VIRTQ_DESC_SIZE))
        avail, used = bool(flags & VirtqDescF.AVAIL), bool(flags & VirtqDescF.USED)
        return (addr, length, id, flags) if (avail, used) == (place.wrap, not place.wrap) else None

    def _start(self):
        # 2.8.10: only the device writes here.
        if self.event_idx:
            self._wait_at(self._seen)
        else:
            self.memory.write(self.device, EVENT.pack(0, RingEvent.ENABLE))

    def _wait_at(self, entries):
        place = self._place(entries)
        self.memory.write(self.device, EVENT.pack(place.slot | WRAP * place.wrap, RingEvent.DESC))

    def _look(self):
        while self._available(self._seen):
            while self._available(self._seen):
                self._take()
            if self.event_idx:  # 2.8.10; then a look at the ring again
                self._wait_at(self._seen)

    def _take(self):
        """Find the list that starts here. It is complete: its head has been made available last (2.8.21)."""
        elements, more = [], True
        while more:
            if len(elements) == self.size:
                raise RingError("List is longer than the ring")
            if (element := self._available(self._seen + len(elements))) is None:
                raise RingError("List whose tail is not available")
            elements.append(element)
            more = element[3] & VirtqDescF.NEXT
        self._seen += len(elements)
        self.chains.append(Chain(element[2], len(elements), tuple(elements)))  # 2.8.6: id is in the last one

    def _segments(self, chain):
        """Ref: 2.8.7 "Indirect Flag: Scatter-Gather Support", 2.8.19 "Driver Requirements: Indirect Descriptors"."""
        if not any(flags & VirtqDescF.INDIRECT for _, _, _, flags in chain.elements):
            return [self._segment(addr, length, flags) for addr, length, _, flags in chain.elements]
        if not self.indirect or chain.count != 1:
            raise RingError("Indirect table where none may be")
        (table, length, _, _), = chain.elements
        if length == 0 or length % VIRTQ_DESC_SIZE:
            raise RingError(f"Indirect table of {length} bytes")
        if length // VIRTQ_DESC_SIZE > max(self.size, MAX_TABLE):
            raise RingError("Chain is longer than allowed")
        within(table, length)
        # 2.8.7: of an entry's flags the device ignores all but WRITE.
        entries = DESC.iter_unpack(self.memory.read(table, length))
        return [self._segment(addr, length, flags) for addr, length, _, flags in entries]

    @staticmethod
    def _segment(addr, length, flags):
        within(addr, length)
        return Segment(addr, length, bool(flags & VirtqDescF.WRITE))

    def _pass(self, count):
        self._done += count

    def _entry(self, place, use):
        # 2.8.5: WRITE, if something has been written.
        flags = (VirtqDescF.AVAIL | VirtqDescF.USED) * place.wrap | VirtqDescF.WRITE * (use.len > 0)
        return DESC.pack(UNUSED_ADDR, use.len, use.id, flags)

    def _publish(self, uses):
        for use in [*uses[1:], uses[0]]:  # 2.8.9: the first one last, and the driver sees all or none
            self.memory.write(use.place.addr, self._entry(use.place, use))

    def _wanted(self, place, entries):
        at, flags = EVENT.unpack(self.memory.read(self.driver, EVENT.size))
        flags &= EVENT_FLAGS
        if flags != RingEvent.DESC or not self.event_idx:
            return flags != RingEvent.DISABLE
        event, wrap = at % WRAP, at // WRAP
        return 0 <= event - place.slot + (self.size if wrap != place.wrap else 0) < entries

    def shown(self, read, place):
        _, _, id, flags = DESC.unpack(read(place.addr, VIRTQ_DESC_SIZE))
        avail, used = bool(flags & VirtqDescF.AVAIL), bool(flags & VirtqDescF.USED)
        return id if avail == used == place.wrap else None

    def writes(self):
        return [(self.desc, self.desc + VIRTQ_DESC_SIZE * self.size), self.event]

    @property
    def event(self):
        return self.device, self.device + EVENT.size

    def check_event(self, read):
        at, flags = EVENT.unpack(read(self.device, EVENT.size))
        if flags > RingEvent.DESC or flags == RingEvent.DESC and not (self.event_idx and at % WRAP < self.size):
            raise AssertionError(f"Device event suppression: offset and wrap {at:#x}, flags {flags:#x}")
