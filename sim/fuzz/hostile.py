"""Rings and tables of a driver that breaks the rules, written into its zones of memory."""

from dataclasses import dataclass
import struct

from ...hdl.spec.virtio import MAX_TABLE
from .chains import entries_of
from .descriptor import DESC, INDIRECT, WRITE
from .ground import ARENA, END, RINGS, TABLES, ZONE
from .places import fill_ring, spans

__all__ = ["Hostile"]

U16, PAIR16, U32 = struct.Struct("<H"), struct.Struct("<HH"), struct.Struct("<I")


@dataclass
class Ring:
    """A hostile queue's areas: offsets into its zone."""
    size: int
    desc: int
    driver: int
    device: int


class Hostile:
    """One life's worth of them. What a device may touch by them is described to the ground; the methods are actions of a case.

    Parameters
    ----------
    ground : Ground
    card : Card
    torn : bool
        Halves of a descriptor may be met that were never written together.

    Attributes
    ----------
    packed : bool
    rings : dict
        :class:`Ring` of each queue that was set up since the last reset.
    """
    def __init__(self, ground, card, torn):
        self.ground, self.card, self.torn = ground, card, torn
        self.packed = False
        self.rings = {}
        self._entries = set()            # addresses of what was written as an entry of a table
        self._beyond = set()             # of those among them that no device may follow, for their chain is too long

    def setup(self, queue, size, desc, driver, device, pause=0):
        """Set a hostile queue up: size, and where its areas are in its zone. It is enabled ``pause`` cycles after the rest."""
        if queue in self.rings:
            return
        zone = RINGS + queue
        self.ground.withdraw(zone)
        ring = self.rings[queue] = Ring(size, desc & ~15, driver & (~3 if self.packed else ~1), device & ~3)
        arena = self.ground.address(ARENA)
        fill_ring(self.ground.memory[zone], ring, self.packed, arena)
        for addr, length in spans(arena):
            self.ground.describe(addr, length, False)
            self.ground.describe(addr, length, True)
        if self.torn:
            self.ground.allow(zone)
        self._describe_ring(queue)
        start = self.ground.address(zone)
        self.card.setup_queue(queue, size, *((start + offset) % END for offset in (desc, driver, device)), pause)

    def _describe_ring(self, queue):
        ring, start = self.rings[queue], self.ground.address(RINGS + queue)
        driver, device = (4, 4) if self.packed else (6 + 2 * ring.size, 6 + 8 * ring.size)
        areas = [(ring.desc, DESC.size * ring.size, False), (ring.driver, driver, False), (ring.device, device, True)]
        if self.packed:
            areas.append((ring.desc, DESC.size * ring.size, True))
        # Of a queue of which an area runs past the end of the address space nothing is touched.
        if all((start + at) % END + length <= END for at, length, _ in areas):
            for at, length, write in areas:
                self.ground.describe((start + at) % END, length, write)

    def desc(self, queue, slot, addr, length, third, fourth):
        """Write a descriptor of a queue; third and fourth are flags and next (split) or id and flags (packed)."""
        ring = self.rings.get(queue)
        if ring is None:
            return
        at = ring.desc + DESC.size * (slot % ring.size)
        self._describe_halves(RINGS + queue, at, addr, length, third, fourth)
        self._put(RINGS + queue, DESC, at, addr, length, third, fourth)
        flags = fourth if self.packed else third
        self.ground.describe(addr, length, bool(flags & WRITE) and not flags & INDIRECT)
        if flags & INDIRECT:
            entries = range(addr, addr + min(length, ZONE), DESC.size)
            if not self._entries.issuperset(entries):
                self.ground.astray = True
            if self._beyond and not self._beyond.isdisjoint(entries[:MAX_TABLE]):
                self._forgive()

    def table(self, at, addr, length, third, fourth):
        """Write an entry of an indirect table."""
        self._describe_halves(TABLES, at, addr, length, third, fourth)
        self._put(TABLES, DESC, at, addr, length, third, fourth)
        if self._beyond and self.ground.address(TABLES, at) in self._entries:
            self._forgive()              # it may be a short cut
        self._entries.add(self.ground.address(TABLES, at))
        # In a packed ring's table INDIRECT means nothing.
        flags = fourth if self.packed else third
        self.ground.describe(addr, length, bool(flags & WRITE))

    def sheet(self, at, count, addr, length, writes, order):
        """Write a long indirect table, as :func:`.chains.entries_of` says."""
        start = self.ground.address(TABLES, at)
        entries, allowed = entries_of(count, addr, length, writes, order, self.packed, self.ground.nobody)
        places = range(start, start + DESC.size * count, DESC.size)
        used_before = not self._entries.isdisjoint(places)
        for k, (place, desc) in enumerate(entries):
            self._put(TABLES, DESC, at + DESC.size * place, *desc)
            if k < allowed:
                self.ground.describe(desc[0], length, k >= writes)
        self._entries.update(places)
        self._beyond.difference_update(places)
        if allowed < count:
            self._beyond.update(start + DESC.size * place for place, _ in entries[allowed:])
            # The chain of an older table may lead here.
            if used_before or self.torn:
                self._forgive()

    def _describe_halves(self, zone, at, addr, length, third, fourth):
        """A descriptor that is written anew may be met with the address of one and the rest of the other."""
        if not self.torn or at + DESC.size > ZONE:
            return
        before = DESC.unpack_from(self.ground.memory[zone], at)
        for address, (size, *rest) in ((before[0], (length, third, fourth)), (addr, before[1:])):
            flags = rest[self.packed]
            self.ground.describe(address, size, bool(flags & WRITE))
            self.ground.astray |= bool(flags & INDIRECT)

    def _forgive(self):
        """What is behind the longest chain may be followed after all."""
        self.ground.describe(self.ground.nobody, ZONE, False)
        self.ground.describe(self.ground.nobody, ZONE, True)

    def _put(self, zone, what, at, *values):
        """Write into a zone what fits in it."""
        if at + what.size <= ZONE:
            what.pack_into(self.ground.memory[zone], at, *values)

    def avail(self, queue, slot, head):
        ring = self.rings.get(queue)
        if ring is not None:
            self._put(RINGS + queue, U16, ring.driver + 4 + 2 * (slot % ring.size), head)

    def index(self, queue, index, flags):
        ring = self.rings.get(queue)
        if ring is not None:
            self._put(RINGS + queue, PAIR16, ring.driver, flags, index)

    def event(self, queue, value):
        """used_event, or the Driver Event Suppression structure."""
        ring = self.rings.get(queue)
        if ring is None:
            return
        if self.packed:
            self._put(RINGS + queue, U32, ring.driver, value)
        else:
            self._put(RINGS + queue, U16, ring.driver + 4 + 2 * ring.size, value & 0xffff)
