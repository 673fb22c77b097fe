"""What a hostile driver writes into its rings: chains that are well formed, and chains with something broken in them."""

from collections import deque

from ...hdl.spec.virtio import VIRTIO_F_INDIRECT_DESC
from .case import PAIRS
from .descriptor import AVAIL, DESC, INDIRECT, LONGEST, NEXT, USED, WRITE
from .ground import ARENA, NOWHERE, RINGS, TABLES, ZONE
from .places import edge

__all__ = ["Queue", "Rings"]

LONG = .006                                           # share of chains that are long tables
SHORTEST = 26                                         # bytes of a chain for a packet
LENGTHS = (0, 1, 11, 12, 13, 15, 16, 17, 25, 26, 48, 4095, 9031, 0xffff, 0x10000, 0x7fff_ffff, 0xffff_fff0, 0xffff_ffff)


class Queue:
    """What the enemy remembers of a queue of his."""
    def __init__(self, index, size, packed):
        self.index, self.size, self.packed = index, size, packed
        self.next = 0                # split: the available index; packed: position, from 0 to 2 * size - 1
        self.slot = 0                # split: next descriptor of the table
        self.used = 0                # packed: position of the next used descriptor
        self.name = 0                # packed: next id
        self.chains = deque()        # packed: (id, descriptors) of what the device has
        self.stuck = False           # nothing came back at the last look

    @property
    def writes(self):
        return self.index % 2 == 0


class Rings:
    """Draws what is done to the rings of a :class:`~.generator.Generator`'s queues."""
    def __init__(self, generator):
        self.generator, self.ground = generator, generator.ground
        self.do, self.below, self.choice, self.random = generator.do, generator.below, generator.choice, generator.random

    @property
    def packed(self):
        return self.generator.packed

    @property
    def queues(self):
        return self.generator.queues

    def traffic(self):
        if not self.queues:
            return
        queue = self.choice(list(self.queues.values()))
        if queue.stuck and self.random() < .8:
            return
        bad = self.generator.bad if self.random() < .6 else 0
        room = self._room(queue)
        count = min(room, 4 + self.below(28)) if self.random() < .95 else 1 + self.below(40)
        if queue.index == 2 * PAIRS:
            count = min(count, 6)    # they are carried out one by one
        for _ in range(count):
            if not self._chain(queue, bad):
                break
        if not self.packed:
            index = queue.next
            if bad and self.random() < bad / 2:
                index = self.choice((index + queue.size + 1, index - 1, index + 0x8000, self.below(0x10000))) & 0xffff
            self.do("index", queue.index, index, self.choice((0, 0, 0, 1, 0xffff)))
        if self.random() < .95:
            self.do("kick", queue.index, self.following(queue))
        if queue.writes and count:
            for _ in range(min(self.below(min(count, 8) + 1), self.generator.frames + count // 2)):
                self.do("frame", 60 + self.below(64), self.below(ZONE - 200), self.below(1 << 46))
        self.generator.time()

    def following(self, queue):
        """``next`` of NOTIFICATION_DATA."""
        if not self.packed:
            return queue.next
        return queue.next % queue.size | (queue.next < queue.size) << 15

    def _memory(self, queue):
        return self.ground.memory[RINGS + queue.index], self.generator.player.rings.get(queue.index)

    def _room(self, queue):
        """Descriptors (packed), chains (split) that the device has room for."""
        self.take_back(queue)
        if self.packed:
            return (queue.size - sum(count for _, count in queue.chains)) // 2
        return max(0, queue.size - (queue.next - queue.used & 0xffff))

    def take_back(self, queue):
        memory, ring = self._memory(queue)
        if ring is None:
            return
        before = queue.used
        if not self.packed:
            queue.used = int.from_bytes(memory[ring.device + 2:ring.device + 4], "little")
            queue.stuck = queue.used == before and queue.next != before and not queue.writes
            return
        while queue.chains:
            at = ring.desc + 16 * (queue.used % queue.size)
            flags = int.from_bytes(memory[at + 14:at + 16], "little")
            if flags & (AVAIL | USED) != (AVAIL | USED if queue.used < queue.size else 0):
                break
            name = int.from_bytes(memory[at + 12:at + 14], "little")
            names = [known for known, _ in queue.chains]
            if name not in names:
                break
            for _ in range(names.index(name) + 1):
                _, count = queue.chains.popleft()
                queue.used = (queue.used + count) % (2 * queue.size)
        queue.stuck = queue.used == before and bool(queue.chains) and not queue.writes

    def _pieces(self, queue):
        """Buffers of a chain as it should be: ``(addr, len, flags)``."""
        random = self.random
        start = self.ground.address(ARENA)
        if queue.index == 2 * PAIRS:
            at = start + self.below(ZONE - 64)
            cut = 1 + self.below(3)
            return [(at, cut, 0), (at + cut, 4 - cut, 0), (at + 32, 1, WRITE)]
        if queue.writes:
            if not self.generator.merges:
                return [(start + self._start(LONGEST), LONGEST, WRITE)]
            return [(start + self.below(ZONE - 2048), 64 + self.below(1900), WRITE) for _ in range(1 + int(4 * random() ** 3))]
        total = SHORTEST + self.below(40) if random() < .97 else SHORTEST + self.below(1500) if random() < .97 else LONGEST
        pieces = []
        for _ in range(int(8 * random() ** 2)):
            length = self.below(total)
            pieces.append((start + self.below(ZONE - 2048), length, 0))
            total -= length
        return [*pieces, (start + self._start(total), total, 0)]

    def _start(self, length):
        """Where in the arena a buffer begins: one in 16 ends with it."""
        return ZONE - length if self.random() < .06 else self.below(ZONE - LONGEST)

    def _spoil(self, queue, addr, length, flags, following):
        """One thing about a descriptor that is not as it should be."""
        kind = self.below(11)
        if kind >= 9:
            addr, length = edge(self.ground, self.random, self.below)
        elif kind == 0:
            addr = self.choice((NOWHERE << 32 | self.below(1 << 32), self.ground.address(ARENA, ZONE - self.below(64)),
                                self.ground.address(TABLES), self.below(1 << 64)))
        elif kind == 1:
            length = self.choice(LENGTHS)
        elif kind == 2:
            length = self.below(1 << 32)
        elif kind == 3:
            flags ^= WRITE
        elif kind == 4:
            flags ^= NEXT
        elif kind == 5:
            flags ^= INDIRECT
        elif kind == 6:
            flags = self.below(0x10000)
        elif kind == 7:
            following = self.choice((queue.size, queue.size - 1, 0xffff, queue.slot, self.below(queue.size)))
        return addr, length, flags, following

    def _chain(self, queue, bad):
        """Write a chain and make it available, but for the index; False if it did not fit."""
        allowed = VIRTIO_F_INDIRECT_DESC in self.generator.features
        if allowed and self.random() < LONG and (table := self.generator.long.draw(queue, bad)):
            pieces = [table]
            (self.publish_packed if self.packed else self.publish_split)(queue, pieces, bad)
            return True
        pieces = self._pieces(queue)
        indirect = self.random() < (.2 if allowed else bad / 4)
        if indirect:
            pieces = [self._indirect(queue, pieces, bad)]
        elif self.packed and sum(count for _, count in queue.chains) + len(pieces) > queue.size or len(pieces) > queue.size:
            return False
        (self.publish_packed if self.packed else self.publish_split)(queue, pieces, bad)
        return True

    def publish_split(self, queue, pieces, bad):
        size, index, random = queue.size, queue.index, self.random
        first, last = queue.slot, len(pieces) - 1
        for k, (addr, length, flags) in enumerate(pieces):
            slot = (first + k) % size
            desc = (addr, length, flags | NEXT, (slot + 1) % size) if k < last else (addr, length, flags, 0)
            if bad and random() < bad:
                desc = self._spoil(queue, *desc)
            self.do("desc", index, slot, *desc)
        queue.slot = (first + len(pieces)) % size
        head = first
        if bad and random() < bad / 2:
            head = self.choice((size, size - 1, 0xffff, self.below(size), self.below(0x10000)))
        self.do("avail", index, queue.next % size, head)
        queue.next = queue.next + 1 & 0xffff

    def publish_packed(self, queue, pieces, bad):
        size, index, random, last = queue.size, queue.index, self.random, len(pieces) - 1
        queue.name = queue.name + 1 & 0x7fff
        first, descs = queue.next, []
        for k, (addr, length, flags) in enumerate(pieces):
            at = (first + k) % (2 * size)
            desc = addr, length, flags | (NEXT if k < last else 0) | (AVAIL if at < size else USED), queue.name
            if bad and random() < bad:
                desc = self._spoil(queue, *desc)
            descs.append((at % size, *desc))
        for slot, addr, length, flags, name in reversed(descs):      # the first is written last
            self.do("desc", index, slot, addr, length, name, flags)
        queue.next = (first + len(pieces)) % (2 * size)
        queue.chains.append((queue.name, len(pieces)))

    def table_place(self, need, at_end):
        """Return where a table of ``need`` bytes goes: behind the table before, or in a share ``at_end`` of cases at the end of
        the zone, which may be that of the address space."""
        if self.generator.table_next + need + 32 > ZONE:
            self.generator.table_next = 0
        at = ZONE - need if self.random() < at_end else self.generator.table_next + self.generator.table_phase
        self.generator.table_next += need
        return at

    def _indirect(self, queue, pieces, bad):
        """Write a table, and return the buffer that is to stand for it."""
        random, last = self.random, len(pieces) - 1
        need = DESC.size * len(pieces)
        at = self.table_place(need, .05)
        for k, (addr, length, flags) in enumerate(pieces):
            desc = (addr, length, flags | (NEXT if k < last and not self.packed else 0), k + 1)
            if bad and random() < bad:
                desc = self._spoil(queue, *desc)
            addr, length, flags, following = desc
            self.do("table", at + DESC.size * k, addr, length, *((following, flags) if self.packed else (flags, following)))
        if bad and random() < bad:
            need = self.choice((need + 16, need - 16, need + 1, 0, 8, 0xffff_fff0, 0x1000))
        return self.ground.address(TABLES, at), need & 0xffff_ffff, INDIRECT

    def noise(self):
        """A part of a descriptor table or ring full of noise; where chains of it are met is a matter of luck."""
        if not self.generator.bad or not self.queues:
            return
        queue = self.choice(list(self.queues.values()))
        start = self.ground.address(ARENA)
        for _ in range(queue.size // 4 + self.below(queue.size)):
            third, fourth = self.choice((0, NEXT, WRITE, NEXT | WRITE, INDIRECT)), self.below(queue.size + 2)
            if self.packed:
                third, fourth = fourth, third | self.choice((AVAIL, USED, 0, AVAIL | USED))
            self.do("desc", queue.index, self.below(queue.size), start + self.below(ZONE // 2),
                    self.choice((0, 16, 64, self.below(0x800))), third, fourth)
        if not self.packed:
            for _ in range(min(self._room(queue), 1 + self.below(8))):
                self.do("avail", queue.index, queue.next % queue.size, self.below(queue.size))
                queue.next = queue.next + 1 & 0xffff
            self.do("index", queue.index, queue.next, 0)
        self.do("kick", queue.index, self.below(0x10000) if self.random() < .1 else self.following(queue))
        self.generator.time()

    def events(self):
        if self.queues:
            queue = self.choice(list(self.queues.values()))
            self.do("event", queue.index, self.choice((self.following(queue), self.below(0x10000), self.below(4) << 16,
                                                       self.below(4) << 16 | self.below(0x10000), self.below(1 << 32))))
