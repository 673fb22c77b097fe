"""A split virtqueue, the driver's side, in the words of the field.

Ref: VIRTIO 1.4, 2.7 "Split Virtqueues". Three areas in memory:

    Descriptor Table   16 * size       addr, len, flags, next: buffers and how they chain
    Available Ring     6 + 2 * size    flags, idx, ring[size], used_event: chains given to the device
    Used Ring          6 + 8 * size    flags, idx, {id, len}[size], avail_event: chains that came back

Both indices count for ever, modulo 2**16; a ring's entry is the index modulo its size. Each side writes its own ring only.
Real hardware needs memory barriers at the places that a comment names. Between Python and a device behind PCI the order
of program and posted writes is enough.
"""

import struct

from ...hdl.spec.virtio import (VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_DESC_SIZE, VIRTQ_USED_ELEM_SIZE,
                                VIRTQ_USED_F_NO_NOTIFY, VirtqDescF)

__all__ = ["DeviceError", "Virtqueue", "pack_descriptors"]

U16 = struct.Struct("<H")
DESC = struct.Struct("<QIHH")
USED_ELEM = struct.Struct("<II")
RING = 4  # bytes from the start of either ring to its entries: flags, idx


class DeviceError(Exception):
    """The device broke a rule of the ring."""


def pack_descriptors(chain, next_of):
    """Return a chain of ``(addr, len, flags)`` as descriptors; ``next_of(k)`` is the index of element ``k + 1``."""
    last = len(chain) - 1
    return [DESC.pack(addr, length, flags | (VirtqDescF.NEXT if k < last else 0), next_of(k) if k < last else 0)
            for k, (addr, length, flags) in enumerate(chain)]


def passed(event, new, old):
    """Did an index going from ``old`` to ``new`` pass ``event`` (2.7.10 vring_need_event)?"""
    return (new - event - 1) & 0xffff < (new - old) & 0xffff


class Virtqueue:
    """One split virtqueue of ``size`` entries.

    Parameters
    ----------
    notify : callable
        Sends the available buffer notification.
    event_idx, indirect : bool
        Features agreed upon.

    Attributes
    ----------
    desc_iova, avail_iova, used_iova : int
        The areas, as queue_desc, queue_driver and queue_device want them.
    num_free : int
        Descriptors that are free.
    memory : DmaBuffer
        All of it, for a test that wants to be hostile; ``desc_offset``, ``avail_offset``, ``used_offset`` say where.
    """
    def __init__(self, bus, index, size, *, notify, event_idx=False, indirect=False):
        self.bus = bus
        self.index = index
        self.size = size
        self.event_idx = event_idx
        self.indirect = indirect
        self._notify = notify
        # 2.7: alignment 16, 2 and 4.
        self.desc_offset = 0
        self.avail_offset = VIRTQ_DESC_SIZE * size
        self.used_offset = (self.avail_offset + RING + 2 * size + 2 + 3) & ~3
        self.memory = bus.alloc(self.used_offset + RING + VIRTQ_USED_ELEM_SIZE * size + 2)
        self.desc_iova = self.memory.iova + self.desc_offset
        self.avail_iova = self.memory.iova + self.avail_offset
        self.used_iova = self.memory.iova + self.used_offset
        self._free = list(range(size - 1, -1, -1))
        self._chains = {}          # head: (token, descriptors, indirect table)
        self._avail_idx = 0
        self._kicked_idx = 0       # where avail idx was at the last look at suppression
        self._last_used = 0

    # Raw fields of the rings; a hostile test writes them as it likes.

    def read_u16(self, offset):
        return U16.unpack_from(self.memory.view, offset)[0]

    def write_u16(self, offset, value):
        U16.pack_into(self.memory.view, offset, value & 0xffff)

    def write_desc(self, index, addr, length, flags=0, following=0):
        DESC.pack_into(self.memory.view, self.desc_offset + VIRTQ_DESC_SIZE * index, addr, length, flags, following)

    def publish(self, *heads):
        """Put heads into the available ring, whatever they are, and only then move idx (2.7.13.3)."""
        for head in heads:
            self.write_u16(self.avail_offset + RING + 2 * (self._avail_idx % self.size), head)
            self._avail_idx = (self._avail_idx + 1) & 0xffff
        self.set_avail_idx(self._avail_idx)  # barrier before it: entries first

    def set_avail_idx(self, value):
        self.write_u16(self.avail_offset + 2, value)

    @property
    def used_idx(self):
        return self.read_u16(self.used_offset + 2)

    @property
    def _used_event_offset(self):
        return self.avail_offset + RING + 2 * self.size

    @property
    def _avail_event_offset(self):
        return self.used_offset + RING + VIRTQ_USED_ELEM_SIZE * self.size

    # The field's vocabulary.

    @property
    def num_free(self):
        return len(self._free)

    @property
    def num_pending(self):
        """Chains that the device has."""
        return len(self._chains)

    def add_buf(self, out_sg, in_sg, token, indirect=False):
        """Make a chain available: ``(iova, len)`` pairs that the device reads, then those it writes (2.7.4.2).

        With ``indirect`` the chain takes one descriptor that names a table. Return the head. The device need not look
        before :meth:`kick`. :exc:`IndexError` if descriptors are short.
        """
        chain = [(addr, length, 0) for addr, length in out_sg]
        chain += [(addr, length, int(VirtqDescF.WRITE)) for addr, length in in_sg]
        if not chain:
            raise ValueError("A chain has at least one descriptor")
        if indirect and not self.indirect:
            raise ValueError("INDIRECT_DESC was not negotiated")
        if len(chain) > self.size:
            raise ValueError(f"A chain of {len(chain)} is longer than the queue")  # 2.7.5.2, 2.7.5.3.1
        needed = 1 if indirect else len(chain)
        if needed > len(self._free):
            raise IndexError(f"Queue {self.index} has {len(self._free)} free descriptors, not {needed}")
        taken = [self._free.pop() for _ in range(needed)]
        table = None
        if indirect:
            table = self.bus.alloc(VIRTQ_DESC_SIZE * len(chain), align=16)
            table.view[:] = b"".join(pack_descriptors(chain, lambda k: k + 1))
            self.write_desc(taken[0], table.iova, len(table), int(VirtqDescF.INDIRECT))
        else:
            for at, packed in zip(taken, pack_descriptors(chain, lambda k: taken[k + 1])):
                self.memory.view[VIRTQ_DESC_SIZE * at:VIRTQ_DESC_SIZE * (at + 1)] = packed
        self._chains[taken[0]] = token, taken, table
        self.publish(taken[0])
        return taken[0]

    def kick(self):
        """Notify the device of what was added, unless it said it need not be. Return whether it was (2.7.13.4)."""
        old, self._kicked_idx = self._kicked_idx, self._avail_idx
        # Barrier: idx before the look at suppression.
        if self.event_idx:
            wanted = passed(self.read_u16(self._avail_event_offset), self._avail_idx, old)
        else:
            wanted = not self.read_u16(self.used_offset) & VIRTQ_USED_F_NO_NOTIFY
        if wanted:
            self._notify()
        return wanted

    def notify(self):
        """Notify the device whatever it said."""
        self._notify()

    def get_buf(self):
        """Return ``(token, bytes written)`` of the next chain that came back, or None (2.7.14)."""
        if (self.used_idx - self._last_used) & 0xffff > self.size:
            raise DeviceError(f"Queue {self.index}: used idx went from {self._last_used} to {self.used_idx}")
        if self.used_idx == self._last_used:
            return None
        # Barrier: idx before the entry.
        head, written = USED_ELEM.unpack_from(
            self.memory.view, self.used_offset + RING + VIRTQ_USED_ELEM_SIZE * (self._last_used % self.size))
        if head not in self._chains:
            raise DeviceError(f"Queue {self.index}: used id {head} is not outstanding")
        self._last_used = (self._last_used + 1) & 0xffff
        token, taken, table = self._chains.pop(head)
        self._free += reversed(taken)
        if table is not None:
            table.free()
        return token, written

    def enable_cb(self):
        """Ask for a notification of the next used buffer. False if one is there already: look again before sleeping."""
        if self.event_idx:
            self.write_u16(self._used_event_offset, self._last_used)
        else:
            self.write_u16(self.avail_offset, 0)
        # Barrier: the wish before the look.
        return self.used_idx == self._last_used

    def disable_cb(self):
        """Ask for no notifications. It is a hint: some may still come (2.7.7)."""
        if self.event_idx:
            self.write_u16(self._used_event_offset, self._last_used - 1)  # as far away as it gets
        else:
            self.write_u16(self.avail_offset, VIRTQ_AVAIL_F_NO_INTERRUPT)

    def free(self):
        """Give the memory back. The device must have been reset."""
        for _, _, table in self._chains.values():
            if table is not None:
                table.free()
        self._chains = {}
        self.memory.free()
