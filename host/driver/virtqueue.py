"""A virtqueue, the driver's side, in the words of the field; and the split one.

Ref: VIRTIO 1.4, 2.6 "Virtqueues", 2.7 "Split Virtqueues". A split virtqueue is three areas in memory:

    Descriptor Table   16 * size       addr, len, flags, next: buffers and how they chain
    Available Ring     6 + 2 * size    flags, idx, ring[size], used_event: chains given to the device
    Used Ring          6 + 8 * size    flags, idx, {id, len}[size], avail_event: chains that came back

Both indices count for ever, modulo 2**16; a ring's entry is the index modulo its size. Each side writes its own ring only.
Real hardware needs memory barriers at the places that a comment names. Between Python and a device behind PCI the order
of program and posted writes is enough. The device reads while the driver writes: what it may look at changes in a single store.
"""

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from itertools import takewhile
import struct

from ...hdl.spec.virtio import (VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_DESC_SIZE, VIRTQ_USED_ELEM_SIZE,
                                VIRTQ_USED_F_NO_NOTIFY, VirtqDescF)

__all__ = ["BaseVirtqueue", "DeviceError", "Virtqueue", "pack_descriptors", "passed"]

U16 = struct.Struct("<H")
DESC = struct.Struct("<QIHH")
USED_ELEM = struct.Struct("<II")
RING = 4  # bytes from the start of either ring to its entries: flags, idx
NEXT, WRITE, INDIRECT = int(VirtqDescF.NEXT), int(VirtqDescF.WRITE), int(VirtqDescF.INDIRECT)


class DeviceError(Exception):
    """The device broke a rule of the ring."""


def pack_descriptors(chain, next_of):
    """Return a chain of ``(addr, len, flags)`` as descriptors; ``next_of(k)`` is the index of element ``k + 1``."""
    last = len(chain) - 1
    return [DESC.pack(addr, length, flags | (NEXT if k < last else 0), next_of(k) if k < last else 0)
            for k, (addr, length, flags) in enumerate(chain)]


def passed(event, new, count, modulus=1 << 16):
    """Did an index that went ``count`` steps and is ``new`` now pass ``event`` (2.7.10)?

    A step from k passes event k. An index that went around is told from one that stood still.
    """
    return (new - event - 1) % modulus < count


@dataclass(frozen=True, slots=True)
class Chain:
    """What the driver remembers of a chain that the device has.

    ``id``: what the device names it by; ``places``: descriptors of the table or ring that it takes; ``writable``: bytes that
    the device may write; ``table``: memory of the indirect table, or None.
    """
    id: int
    token: object
    places: list
    writable: int
    table: object


class BaseVirtqueue(ABC):
    """What split and packed virtqueues share: chains, their tables, and batches that come back in order.

    Parameters
    ----------
    notify : callable
        Sends the available buffer notification; its argument is the ``next`` of NOTIFICATION_DATA (2.9).
    event_idx, indirect, in_order : bool
        Features agreed upon.

    Attributes
    ----------
    desc_iova, avail_iova, used_iova : int
        The areas, as queue_desc, queue_driver and queue_device want them.
    memory : DmaBuffer
        All of it, for a test that wants to be hostile; ``desc_offset``, ``avail_offset``, ``used_offset`` say where.
    written_offset : int
        From there on the device writes, before it never does.
    """
    def __init__(self, bus, index, size, *, notify, event_idx=False, indirect=False, in_order=False):
        self.bus = bus
        self.index = index
        self.size = size
        self.event_idx = event_idx
        self.indirect = indirect
        self.in_order = in_order
        self._notify = notify
        self._chains = {}      # by id, in the order in which they were made available
        self._back = deque()   # (token, bytes written) that came back and nobody has fetched
        self._added = 0        # since the last look at suppression: steps of the available index

    # What a format has of its own.

    @property
    @abstractmethod
    def num_free(self):
        """Descriptors that are free."""

    @property
    @abstractmethod
    def next(self):
        """Where the next chain will be made available, as NOTIFICATION_DATA says it, 16 bits."""

    @abstractmethod
    def _make_available(self, chain):
        """Write and publish a chain of ``(addr, len, flags)``; return its id and the places taken."""

    @abstractmethod
    def _fill_table(self, chain):
        """Return an indirect table as bytes."""

    @abstractmethod
    def _wants_kick(self, added):
        """Did the device ask for a notification at one of the last ``added`` steps?"""

    @abstractmethod
    def _used_entry(self):
        """Return ``(id, bytes written)`` where the device writes the next used entry, or None if it has not."""

    @abstractmethod
    def _step_over(self, batch):
        """Account for these :class:`Chain`: one used entry stood for all of them."""

    # The field's vocabulary.

    @property
    def num_pending(self):
        """Chains that the device has."""
        return len(self._chains)

    def add_buf(self, out_sg, in_sg, token, indirect=False):
        """Make a chain available: ``(iova, len)`` pairs that the device reads, then those it writes (2.6, 2.7.4.2).

        With ``indirect`` the chain takes one descriptor that names a table. Return the id that the device will give back.
        The device need not look before :meth:`kick`. :exc:`IndexError` if descriptors are short.
        """
        chain = [(addr, length, 0) for addr, length in out_sg]
        chain += [(addr, length, WRITE) for addr, length in in_sg]
        if not chain:
            raise ValueError("A chain has at least one descriptor")
        if indirect and not self.indirect:
            raise ValueError("INDIRECT_DESC was not negotiated")
        # 2.7.5.3.1 and 2.8.19 limit tables, too. Linux's driver makes longer ones for small queues, and so does this one.
        if len(chain) > self.size and not indirect:
            raise ValueError(f"A chain of {len(chain)} is longer than the queue")  # 2.7.5.2, 2.8.17
        needed = 1 if indirect else len(chain)
        if needed > self.num_free:
            raise IndexError(f"Queue {self.index} has {self.num_free} free descriptors, not {needed}")
        table = None
        if indirect:
            table = self.bus.alloc(VIRTQ_DESC_SIZE * len(chain), align=16)
            table.view[:] = self._fill_table(chain)
            chain = [(table.iova, len(table), INDIRECT)]
        name, places = self._make_available(chain)
        self._chains[name] = Chain(name, token, places, sum(length for _, length in in_sg), table)
        return name

    def kick(self):
        """Notify the device of what was added, unless it said it need not be. Return whether it was (2.7.13.4, 2.8.21.3)."""
        added, self._added = self._added, 0
        # Barrier: what was made available before the look at suppression.
        wanted = self._wants_kick(added)
        if wanted:
            self.notify()
        return wanted

    def notify(self):
        """Notify the device whatever it said."""
        self._notify(self.next)

    def get_buf(self):
        """Return ``(token, bytes written)`` of the next chain that came back, or None (2.7.14, 2.8.22)."""
        if not self._back and (used := self._used_entry()) is not None:
            self._take_back(*used)
        return self._back.popleft() if self._back else None

    def _take_back(self, name, written):
        if name not in self._chains:
            raise DeviceError(f"Queue {self.index}: used id {name} is not outstanding")
        last = self._chains[name]
        if written > last.writable:
            raise DeviceError(f"Queue {self.index}: {written} bytes written into a buffer of {last.writable}")
        # 2.7.9, 2.8.8: with IN_ORDER an entry stands for every chain up to this one; those before it were used completely.
        batch = [*takewhile(lambda chain: chain is not last, self._chains.values()), last] if self.in_order else [last]
        self._step_over(batch)
        for chain in batch:
            del self._chains[chain.id]
            if chain.table is not None:
                chain.table.free()
            self._back.append((chain.token, written if chain is last else chain.writable))

    def enable_cb(self):
        """Ask for a notification of the next used buffer. False if one is there already: look again before sleeping."""
        self._ask()
        # Barrier: the wish before the look.
        return not self._back and self._used_entry() is None

    @abstractmethod
    def _ask(self):
        """Write down that the driver wants to hear of the next used buffer."""

    @abstractmethod
    def disable_cb(self):
        """Ask for no notifications. It is a hint: some may still come (2.7.7, 2.8.10)."""

    def free(self):
        """Give the memory back. The device, or this queue of it, must have been reset."""
        for chain in self._chains.values():
            if chain.table is not None:
                chain.table.free()
        self._chains = {}
        self.memory.free()


class Virtqueue(BaseVirtqueue):
    """One split virtqueue of ``size`` entries, a power of 2 up to 32768. Parameters and attributes as for the base."""
    def __init__(self, bus, index, size, **features):
        super().__init__(bus, index, size, **features)
        # 2.7: alignment 16, 2 and 4.
        self.desc_offset = 0
        self.avail_offset = VIRTQ_DESC_SIZE * size
        self.used_offset = self.written_offset = (self.avail_offset + RING + 2 * size + 2 + 3) & ~3
        self.memory = bus.alloc(self.used_offset + RING + VIRTQ_USED_ELEM_SIZE * size + 2)
        self.desc_iova = self.memory.iova + self.desc_offset
        self.avail_iova = self.memory.iova + self.avail_offset
        self.used_iova = self.memory.iova + self.used_offset
        self._free = deque(range(size))
        self._avail_idx = 0
        self._last_used = 0
        self.clear()

    def clear(self):
        """Write what has to be there at first: memory may hold anything.

        Both indices start at 0 (2.7.6, 2.7.8); until the device has come that far the driver sees to its one, too. All else
        that the device alone writes is left to it, above all its wish about notifications (2.7.10.2).
        """
        for offset in (self.avail_offset, self.avail_offset + 2, self._used_event_offset, self.used_offset + 2):
            self.write_u16(offset, 0)

    # Raw fields of the rings; a hostile test writes them as it likes.

    def read_u16(self, offset):
        return U16.unpack_from(self.memory.view, offset)[0]

    def write_u16(self, offset, value):
        self.memory.store(offset, 2, value & 0xffff)

    def write_desc(self, index, addr, length, flags=0, following=0):
        at = self.desc_offset + VIRTQ_DESC_SIZE * index
        self.memory.view[at:at + VIRTQ_DESC_SIZE] = DESC.pack(addr, length, flags, following)

    def publish(self, *heads):
        """Put heads into the available ring, whatever they are, and only then move idx (2.7.13.3)."""
        for head in heads:
            self.write_u16(self.avail_offset + RING + 2 * (self._avail_idx % self.size), head)
            self._avail_idx = (self._avail_idx + 1) & 0xffff
        self._added += len(heads)
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

    # The format.

    @property
    def num_free(self):
        return len(self._free)

    @property
    def next(self):
        return self.read_u16(self.avail_offset + 2)

    def _make_available(self, chain):
        # 2.7.5: with IN_ORDER descriptors are taken in ring order, and come back in it.
        taken = [self._free.popleft() for _ in chain]
        for at, packed in zip(taken, pack_descriptors(chain, lambda k: taken[k + 1])):
            self.memory.view[VIRTQ_DESC_SIZE * at:VIRTQ_DESC_SIZE * (at + 1)] = packed
        self.publish(taken[0])
        return taken[0], taken

    def _fill_table(self, chain):
        return b"".join(pack_descriptors(chain, lambda k: k + 1))

    def _wants_kick(self, added):
        if self.event_idx:
            return passed(self.read_u16(self._avail_event_offset), self._avail_idx, added)
        return not self.read_u16(self.used_offset) & VIRTQ_USED_F_NO_NOTIFY

    def _used_entry(self):
        if (self.used_idx - self._last_used) & 0xffff > self.size:
            raise DeviceError(f"Queue {self.index}: used idx went from {self._last_used} to {self.used_idx}")
        if self.used_idx == self._last_used:
            return None
        # Barrier: idx before the entry.
        return USED_ELEM.unpack_from(
            self.memory.view, self.used_offset + RING + VIRTQ_USED_ELEM_SIZE * (self._last_used % self.size))

    def _step_over(self, batch):
        there = (self.used_idx - self._last_used) & 0xffff
        if len(batch) > there:  # 2.7.9: idx counts every chain of a batch
            raise DeviceError(f"Queue {self.index}: order is broken, used idx moved by {there}, the entry is {len(batch)} on")
        self._last_used = (self._last_used + len(batch)) & 0xffff
        for chain in batch:
            if self.in_order:
                self._free += chain.places
            else:
                self._free.extendleft(reversed(chain.places))  # what was used last is in the caches

    def _ask(self):
        if self.event_idx:
            self.write_u16(self._used_event_offset, self._last_used)
        else:
            self.write_u16(self.avail_offset, 0)

    def disable_cb(self):
        if self.event_idx:
            self.write_u16(self._used_event_offset, self._last_used - 1)  # as far away as it gets
        else:
            self.write_u16(self.avail_offset, VIRTQ_AVAIL_F_NO_INTERRUPT)
