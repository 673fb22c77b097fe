"""A packed virtqueue, the driver's side.

Ref: VIRTIO 1.4, 2.8 "Packed Virtqueues". Three areas in memory, of which the first is written by both sides:

    Descriptor Ring            16 * size   addr, len, id, flags: chains given to the device, overwritten by what came back
    Driver Event Suppression   4           when the driver wants to hear of used buffers
    Device Event Suppression   4           when the device wants to hear of available ones

Each side goes around the ring and writes descriptors one after another. Whose a descriptor is, its own flags say: AVAIL and USED
are compared with a *wrap counter* that begins at 1 and flips at the end of the ring. Available: AVAIL is the counter of the
driver, USED its inverse. Used: both are the counter of the device. So nobody reads an index, and the ring needs no clearing.

A position here is one number from 0 to 2 * size - 1, which holds both: the offset is its remainder by the size, and the wrap
counter is 1 in its first half. Sizes need be no power of 2.
"""

import struct

from ...hdl.spec.virtio import VIRTQ_DESC_SIZE, RingEvent, VirtqDescF
from .virtqueue import NEXT, WRITE, BaseVirtqueue, DeviceError, passed

__all__ = ["PackedVirtqueue"]

BODY = struct.Struct("<QIH")   # addr, len, id
FLAGS = struct.Struct("<H")
TAIL = struct.Struct("<IH")    # len, id
EVENT = struct.Struct("<I")    # offset 15, wrap 1, flags 2
LEN_AT, FLAGS_AT = 8, 14       # bytes into a descriptor
AVAIL, USED = int(VirtqDescF.AVAIL), int(VirtqDescF.USED)
EVENT_SIZE = 4


class PackedVirtqueue(BaseVirtqueue):
    """One packed virtqueue of ``size`` entries, from 1 to 32768. Parameters and attributes as for the base."""
    def __init__(self, bus, index, size, **features):
        super().__init__(bus, index, size, **features)
        # 2.8.10.1: alignment 16, 4 and 4.
        self.avail_offset = 0
        self.desc_offset = self.written_offset = VIRTQ_DESC_SIZE
        self.used_offset = self.desc_offset + VIRTQ_DESC_SIZE * size
        self.memory = bus.alloc(self.used_offset + EVENT_SIZE)
        self.desc_iova = self.memory.iova + self.desc_offset
        self.avail_iova = self.memory.iova + self.avail_offset
        self.used_iova = self.memory.iova + self.used_offset
        self._ids = list(range(size - 1, -1, -1))
        self._num_free = size
        self._next_avail = 0  # positions
        self._next_used = 0
        self._answered = False  # something came back
        # Memory may hold anything. 2.8.1: descriptors begin as zero. The device's own structure is left to the device.
        self.memory.view[:self.used_offset] = bytes(self.used_offset)

    # Raw fields; a hostile test writes them as it likes.

    def flags_at(self, position):
        """Return AVAIL and USED as they say "available" at a position."""
        return AVAIL if self._wrap(position) else USED

    def write_desc(self, index, addr, length, id=0, flags=0):
        """Write the descriptor at an offset of the ring, flags last."""
        at = self.desc_offset + VIRTQ_DESC_SIZE * index
        self.memory.view[at:at + FLAGS_AT] = BODY.pack(addr, length, id)
        self.write_flags(index, flags)  # barrier before it

    def write_flags(self, index, flags):
        self.memory.store(self.desc_offset + VIRTQ_DESC_SIZE * index + FLAGS_AT, 2, flags)

    def read_flags(self, index):
        return FLAGS.unpack_from(self.memory.view, self.desc_offset + VIRTQ_DESC_SIZE * index + FLAGS_AT)[0]

    def publish(self, *descriptors):
        """Make ``(addr, len, id, flags)`` available, whatever they are; the first is written last (2.8.17).

        AVAIL and USED of ``flags`` are turned over: 0 is what the position wants.
        """
        first = self._next_avail
        for k, (addr, length, name, flags) in reversed(list(enumerate(descriptors))):
            at = self._step(first, k)
            self.write_desc(at % self.size, addr, length, name, flags ^ self.flags_at(at))
        self._next_avail = self._step(first, len(descriptors))
        self._added += len(descriptors)

    def write_event(self, flags, offset=0, wrap=0):
        """Write the Driver Event Suppression structure."""
        self.memory.store(self.avail_offset, 4, flags << 16 | wrap << 15 | offset)

    @property
    def event(self):
        """The Device Event Suppression structure: flags, offset, wrap."""
        word, = EVENT.unpack_from(self.memory.view, self.used_offset)
        return word >> 16 & 3, word & 0x7fff, word >> 15 & 1

    # Positions.

    def _step(self, position, count):
        return (position + count) % (2 * self.size)

    def _wrap(self, position):
        return int(position < self.size)

    # The format.

    @property
    def num_free(self):
        return self._num_free

    @property
    def next(self):
        return self._wrap(self._next_avail) << 15 | self._next_avail % self.size

    def _make_available(self, chain):
        name, last = self._ids.pop(), len(chain) - 1
        places = [(self._next_avail + k) % self.size for k in range(len(chain))]
        self._num_free -= len(chain)
        # 2.8.6: the id counts in the last descriptor of a chain only.
        self.publish(*((addr, length, name if k == last else 0, flags | (NEXT if k < last else 0))
                       for k, (addr, length, flags) in enumerate(chain)))
        return name, places

    def _fill_table(self, chain):
        # 2.8.7: elements follow one another, and WRITE is the only flag.
        return b"".join(BODY.pack(addr, length, 0) + FLAGS.pack(flags) for addr, length, flags in chain)

    def _wants_kick(self, added):
        flags, offset, wrap = self.event
        if flags == RingEvent.DESC and self.event_idx and offset < self.size:
            return passed(offset if wrap else self.size + offset, self._next_avail, added, 2 * self.size)
        if not self._answered:
            return flags != RingEvent.DISABLE  # the device may not have come to write there yet, and looks once it has
        if flags not in (RingEvent.ENABLE, RingEvent.DISABLE):
            raise DeviceError(f"Queue {self.index}: event flags {flags} at descriptor {offset}")
        return flags == RingEvent.ENABLE

    def _used_entry(self):
        at = self._next_used % self.size
        flags = self.read_flags(at)
        used = AVAIL | USED if self._wrap(self._next_used) else 0
        if flags & (AVAIL | USED) != used:
            return None
        # Barrier: flags before the rest. 2.8.4: addr says nothing, len only with WRITE.
        length, name = TAIL.unpack_from(self.memory.view, self.desc_offset + VIRTQ_DESC_SIZE * at + LEN_AT)
        return name, length if flags & WRITE else 0

    def _step_over(self, batch):
        self._answered = True
        count = sum(len(chain.places) for chain in batch)
        self._next_used = self._step(self._next_used, count)
        self._num_free += count
        self._ids += (chain.id for chain in batch)

    def _ask(self):
        if self.event_idx:
            self.write_event(RingEvent.DESC, self._next_used % self.size, self._wrap(self._next_used))
        else:
            self.write_event(RingEvent.ENABLE)

    def disable_cb(self):
        self.write_event(RingEvent.DISABLE)
