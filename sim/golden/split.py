"""A split virtqueue, the device's side.

Ref: VIRTIO 1.4, 2.7 "Split Virtqueues".
"""

import struct
from typing import NamedTuple

from ...hdl.spec.virtio import MAX_TABLE, VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_DESC_SIZE, VIRTQ_USED_ELEM_SIZE, VirtqDescF
from .virtqueue import Chain, DeviceQueue, RingError, Segment, within

__all__ = ["SplitQueue"]

DESC = struct.Struct("<QIHH")
USED_ELEM = struct.Struct("<II")
INDEX = 2    # bytes from the start of either ring to idx
ENTRIES = 4  # and to its entries


class Place(NamedTuple):
    addr: int
    idx: int  # of used, before the entry counts


class SplitQueue(DeviceQueue):
    """One enabled queue of a driver that did not ask for RING_PACKED."""
    ENTRY_BYTES = VIRTQ_USED_ELEM_SIZE

    def __init__(self, memory, **options):
        super().__init__(memory, **options)
        self._seen = 0  # avail idx up to which chains are known
        self._idx = 0   # used idx

    @property
    def place(self):
        return Place(self.device + ENTRIES + VIRTQ_USED_ELEM_SIZE * (self._idx % self.size), self._idx)

    @property
    def areas(self):
        """2.7, the table of alignments and sizes."""
        return [(self.desc, VIRTQ_DESC_SIZE * self.size), (self.driver, 6 + 2 * self.size),
                (self.device, 6 + VIRTQ_USED_ELEM_SIZE * self.size)]

    def _start(self):
        # 2.7.10.2: flags is 0, or 1; 2.7.8: idx starts at 0. Only the device writes here.
        self.memory.write(self.device, bytes(ENTRIES))
        if self.event_idx:
            self.memory.write_u16(self.event[0], self._seen)

    def _look(self):
        while (count := (self.memory.read_u16(self.driver + INDEX) - self._seen) & 0xffff):
            if count > self.size:
                raise RingError(f"avail idx went {count} further in a queue of {self.size}")
            for _ in range(count):
                head = self.memory.read_u16(self.driver + ENTRIES + 2 * (self._seen % self.size))
                if head >= self.size:
                    raise RingError(f"Head {head} in a queue of {self.size}")
                self.chains.append(Chain(head, 1))
                self._seen = (self._seen + 1) & 0xffff
            if self.event_idx:  # 2.7.10: avail_event lies behind the used ring; then a look at idx again
                self.memory.write_u16(self.event[0], self._seen)

    def _segments(self, chain):
        """Ref: 2.7.5 "The Virtqueue Descriptor Table"."""
        table, entries, index, segments, nested = self.desc, self.size, chain.id, [], False
        left = self.size  # descriptors that may still come from this table
        while True:
            if index >= entries:
                raise RingError(f"Descriptor {index} in a table of {entries}")
            addr, length, flags, following = DESC.unpack(self.memory.read(table + VIRTQ_DESC_SIZE * index,
                                                                          VIRTQ_DESC_SIZE))
            if not left:
                raise RingError("Chain is longer than allowed")  # 2.7.5.2: a loop, too
            left -= 1
            within(addr, length)
            if flags & VirtqDescF.INDIRECT:
                # 2.7.5.3.1
                if not self.indirect or nested or flags & VirtqDescF.NEXT:
                    raise RingError("Indirect table where none may be")
                if length == 0 or length % VIRTQ_DESC_SIZE:
                    raise RingError(f"Indirect table of {length} bytes")
                table, entries, index, nested = addr, length // VIRTQ_DESC_SIZE, 0, True
                left = min(entries, max(self.size, MAX_TABLE))
                continue  # 2.7.5.3.2: WRITE of such a descriptor is ignored
            segments.append(Segment(addr, length, bool(flags & VirtqDescF.WRITE)))
            if not flags & VirtqDescF.NEXT:
                return segments
            index = following

    def _pass(self, count):
        self._idx = (self._idx + count) & 0xffff

    def _entry(self, place, use):
        return USED_ELEM.pack(use.id, use.len)

    def _publish(self, uses):
        for use in uses:
            self.memory.write(use.place.addr, self._entry(use.place, use))
        self.memory.write_u16(self.device + INDEX, self._idx)  # 2.7.8.2: after the entries

    def _wanted(self, place, entries):
        if not self.event_idx:
            return not self.memory.read_u16(self.driver) & VIRTQ_AVAIL_F_NO_INTERRUPT
        event = self.memory.read_u16(self.driver + ENTRIES + 2 * self.size)
        # 2.7.7.2: did idx go past used_event, that is: was that entry among these?
        return (event - place.idx) % 0x10000 < entries

    def shown(self, read, place):
        idx = int.from_bytes(read(self.device + INDEX, 2), "little")
        if not 0 < (idx - place.idx) % 0x10000 <= self.size:
            return None
        return USED_ELEM.unpack(read(place.addr, VIRTQ_USED_ELEM_SIZE))[0]

    def writes(self):
        return [(self.device, self.event[1])]

    @property
    def event(self):
        addr = self.device + ENTRIES + VIRTQ_USED_ELEM_SIZE * self.size
        return addr, addr + 2

    def check_event(self, read):
        pass  # any index is one
