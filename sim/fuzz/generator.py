"""What a hostile driver may do next: well-formed rings with something broken in them, and registers at the wrong time.

Every choice comes from one generator of random numbers and from what the card has done so far.
"""

from collections import deque

from ...hdl.spec.bar import COUNTERS_OFFSET, DEVICE_OFFSET, ISR_OFFSET, MSIX_PBA_OFFSET
from ...hdl.spec.net import (VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
                             VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS)
from ...hdl.spec.virtio import (VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC,
                                VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET,
                                VIRTIO_F_VERSION_1, MAX_TABLE, Common)
from .card import VECTORS
from .case import LINKS, PAIRS
from .chains import LEAST, LongTables, long_count
from .descriptor import AVAIL, DESC, INDIRECT, LONGEST, NEXT, USED, WRITE
from .ground import ARENA, END, LOOSE, NOWHERE, OWN, RINGS, TABLES, ZONE
from .places import draw_base, edge
from .player import WHOLE

__all__ = ["draw_case", "Generator"]

NUM_QUEUES = 2 * PAIRS + 1
BASES = (0x1_4000_0000, 0x4000_0000, 0xfff5_0000)     # 64 bits, 32 bits, both
OPTIONAL = {VIRTIO_F_INDIRECT_DESC: .8, VIRTIO_F_EVENT_IDX: .6, VIRTIO_F_RING_PACKED: .5, VIRTIO_F_IN_ORDER: .3,
            VIRTIO_F_NOTIFICATION_DATA: .4, VIRTIO_F_RING_RESET: .8, VIRTIO_F_ACCESS_PLATFORM: .5, VIRTIO_F_ORDER_PLATFORM: .5,
            VIRTIO_NET_F_MRG_RXBUF: .6, VIRTIO_NET_F_MTU: .5, VIRTIO_NET_F_MAC: .5, VIRTIO_NET_F_STATUS: .5,
            VIRTIO_NET_F_CTRL_VQ: .8, VIRTIO_NET_F_MQ: .8, VIRTIO_NET_F_SPEED_DUPLEX: .5}
REFUSED = 77                                          # a feature bit that nobody offers
LONG = .006                                           # share of chains that are long tables
STORMY = .15                                          # share of lives that are storms
SLOT = 2048                                           # bytes of a queue's own buffer
HEADER, SHORTEST = 12, 26                             # bytes of a chain for a packet
QUIET_PAGES = (ISR_OFFSET, DEVICE_OFFSET, MSIX_PBA_OFFSET, COUNTERS_OFFSET, 0x7000)
LENGTHS = (0, 1, 11, 12, 13, 15, 16, 17, 25, 26, 48, 4095, 9031, 0xffff, 0x10000, 0x7fff_ffff, 0xffff_fff0, 0xffff_ffff)
# Fields of the common configuration: of the queue selected, and of the device. Offset and sizes.
QUEUE_FIELDS = ((Common.QUEUE_SIZE, (1, 2, 4)), (Common.QUEUE_MSIX_VECTOR, (1, 2)), (Common.QUEUE_ENABLE, (1, 2, 4)),
                (Common.QUEUE_NOTIFY_OFF, (2,)), (Common.QUEUE_NOTIF_CONFIG_DATA, (2,)))
DEVICE_FIELDS = ((Common.DEVICE_FEATURE_SELECT, (1, 2, 4)), (Common.DEVICE_FEATURE, (4,)),
                 (Common.DRIVER_FEATURE_SELECT, (1, 2, 4)), (Common.DRIVER_FEATURE, (1, 2, 4)),
                 (Common.CONFIG_MSIX_VECTOR, (1, 2)), (Common.NUM_QUEUES, (2,)), (Common.CONFIG_GENERATION, (1,)))
ADDRESS_FIELDS = (Common.QUEUE_DESC, Common.QUEUE_DRIVER, Common.QUEUE_DEVICE)


class _Queue:
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


def draw_case(rng, case):
    """Draw everything of a case but its actions."""
    case.width = rng.choice(case.widths)
    case.link = rng.choice((*("near",) * 4, *("usual",) * 4, *LINKS))
    case.base, case.turn = draw_base(rng, BASES)
    return case


class Generator:
    """Draws actions and has them done.

    Parameters
    ----------
    player : Player
    rng : random.Random
    do : callable
        Takes an action, notes it, and has ``player`` do it.
    """
    def __init__(self, player, rng, do):
        self.player, self.rng, self._do = player, rng, do
        self.ground = player.ground
        self.random = rng.random
        self.long = LongTables(self)

    def do(self, *action):
        self._do(action)

    def below(self, limit):
        return int(self.random() * limit)

    def choice(self, values):
        return values[int(self.random() * len(values))]

    # One life of the device

    def life(self, bursts):
        """From negotiation to reset: the pair is seen to work, then so many bursts; or a storm."""
        if self.random() < STORMY:
            return self._storm()
        self._begin()
        if self.player.live:
            for _ in range(4):
                self.do("send", 60 + self.below(200), self.below(100), self.below(100))
                self.do("feed", 60 + self.below(200))
            self.do("check")
            for _ in range(bursts):
                self.burst()
        else:
            for _ in range(4):
                self._registers()
            self.do("check")
        if self.random() < .3:
            self._disturb()
        self.do("reset", self.choice((0, 0, 0, 1, 1, 2)))

    def _storm(self):
        """The only receive queue is enabled, reset and enabled again, in any cycle, while frames come back to back.

        Its buffers are its own, and other ones in each of its lives, so what is left of an earlier one is seen at once.
        """
        random = self.random
        features = {bit for bit, share in OPTIONAL.items() if random() < share}
        features |= {VIRTIO_F_VERSION_1, VIRTIO_F_RING_RESET}
        if VIRTIO_NET_F_CTRL_VQ not in features:
            features.discard(VIRTIO_NET_F_MQ)
        self.features, self.packed = features, VIRTIO_F_RING_PACKED in features
        self.queues = {}
        self.do("begin", *sorted(features))
        late = random() < .3
        if not late:
            self._storm_setup()
        self.do("live", 1)
        if late:
            self._flood()
            self._storm_setup(self.below(64))
        for turn in range(2 + self.below(10)):
            queue = self.queues[0]
            for k in range(self.below(min(8, queue.size) + 1)):
                at = self.ground.address(RINGS, OWN + SLOT * (8 * (turn % 2) + k))
                (self._publish_packed if self.packed else self._publish_split)(queue, [(at, SLOT, WRITE)], 0)
            if not self.packed:
                self.do("index", 0, queue.next, 0)
            self.do("kick", 0, self._following(queue))
            for _ in range(self.below(3)):
                self._flood(self.below(4))
                self._time()
            if random() < .1:
                self.do("check")
            if random() < .5:
                self._flood()
            self.do("queue_reset", 0)
            self._flood()
            self._storm_setup(self.below(64))
            self.do("run", self.below(400))
        if random() < .5:
            self._flood()
        self.do("reset", self.choice((0, 0, 1, 2)))

    def _storm_setup(self, pause=0):
        size = self._size(4)
        self.do("setup", 0, size, 0, 0x2000, 0x6000, pause)
        self.queues[0] = _Queue(0, size, self.packed)

    def _flood(self, most=200):
        if most:
            self.do("flood", 1 + self.below(most), self.choice((60, 60, 64, 200)), self.below(ZONE - 1024))

    def _begin(self):
        random = self.random
        features = {bit for bit, share in OPTIONAL.items() if random() < share} | {VIRTIO_F_VERSION_1}
        if VIRTIO_NET_F_CTRL_VQ not in features:
            features.discard(VIRTIO_NET_F_MQ)
        if random() < .03:
            features ^= {self.choice((VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, REFUSED))}
        # How this one is bad, to begin with.
        self.bad = self.choice((0, 0, .02, .02, .2))
        self.faulty = random() < .15
        self.fumbling = self.choice((.2, 1, 1, 5))
        self.table_phase = self.choice((0, 0, 0, 0, 4, 8, 1 + self.below(15)))
        self.table_next = 0
        self.features = features
        self.packed = VIRTIO_F_RING_PACKED in features
        self.merges = VIRTIO_NET_F_MRG_RXBUF in features
        many = VIRTIO_NET_F_MQ in features
        pair = self.below(PAIRS) if many else 0
        control = int(many and (pair > 0 or random() < .3))
        mine = {2 * pair, 2 * pair + 1} | ({2 * PAIRS} if control else set())
        self.theirs = [queue for queue in range(NUM_QUEUES) if queue not in mine]
        if random() < .1:
            self._registers()
        self.do("begin", *sorted(features))
        sizes = [self._size(8), self._size(16)]
        self.do("good", pair, *sizes, control)
        self.vectors = (2 * pair + 1, 2 * pair + 2)
        self.queues = {}
        chosen = self.rng.sample(self.theirs, 2 + self.below(3))
        if pair and 0 not in chosen:
            chosen[0] = 0                # where frames of nobody's flow go
        late = chosen.pop() if random() < .2 else None
        for queue in chosen:
            self._setup(queue)
        if random() < .1:
            self._registers()
        if random() < .2:
            self.do("early", self._frame_size())
        if random() < .2:
            self.frames = 4
            self._traffic()
        self.do("live", 1 + self.below(PAIRS) if not pair else pair + 1 + self.below(PAIRS - pair))
        if late is not None:
            self._setup(late)

    def _size(self, least, most=64):
        if self.packed and self.random() < .5:
            return least + self.below(most - least + 1)
        sizes = [1 << k for k in range(9) if least <= 1 << k <= most]
        return self.choice(sizes)

    def _setup(self, queue):
        size = self._size(1, 256) if self.random() < .5 else self._size(16, 128)
        areas = [self.choice((0, 16 * self.below(0x100))),
                 0x2000 + self.choice((0, 0xffe, 0xffc, 4 * self.below(0x400), 2 * self.below(0x800))),
                 0x6000 + self.choice((0, 0xffc, 4 * self.below(0x400)))]
        if self.random() < .15:
            # One of them ends with the zone or the address space, or behind it.
            which = self.below(3)
            length = (16 * size, 4 if self.packed else 6 + 2 * size, 4 if self.packed else 8 + 8 * size)[which]
            end = ZONE
            if self.random() < .5 and self.ground.is_spare(END - ZONE // 2, ZONE // 2):
                end = END - self.ground.address(RINGS + queue)
            areas[which] = end - length + (0 if self.random() < .5 else (16, self.choice((2, 4, 6)), 4)[which])
        self.do("setup", queue, size, *areas)
        self.queues[queue] = _Queue(queue, size, self.packed)

    # A burst: steps, then a look

    def burst(self):
        fumbling = self.fumbling
        self.long.burst()
        waiting = [len(queue.chains) if queue.packed else queue.next - queue.used & 0xffff
                   for queue in self.queues.values() if queue.writes and queue.index < 2 * PAIRS]
        # A frame for a queue without buffers keeps all others waiting for thousands of cycles.
        self.frames = min(24, 2 + min(waiting, default=24))
        steps = ((self._traffic, 50), (self._good, 6), (self._frames, 3), (self._noise, 5), (self._events, 2),
                 (self._kicks, 1.5 * fumbling), (self._registers, fumbling), (self._interrupts, .7 * fumbling),
                 (self._disturb, .5 * fumbling), (self._faults, 4 * self.faulty), (self._start_again, 1), (self._look, 2),
                 (self._masks, 1.5), (self._long, 1.0 * (VIRTIO_F_INDIRECT_DESC in self.features)),
                 (self._silence, .5))
        for step, in zip(self.rng.choices([step for step, _ in steps], [weight for _, weight in steps], k=4 + self.below(28))):
            step()
        self.do("check")
        for queue in self.queues.values():
            self._take_back(queue)

    def _look(self):
        self.do("poll")

    def _silence(self):
        self.do("silent", self.below(2))

    def _good(self):
        for _ in range(1 + self.below(4)):
            self.do("send", self._frame_size(), self.below(200), self.below(1500))
        for _ in range(self.below(3)):
            self.do("feed", self._frame_size())
        self._time()

    def _long(self):
        """The well-behaved pair takes to long indirect tables."""
        kind = self.random()
        count = min(long_count(self.random, self.below), MAX_TABLE)
        if kind < .6:
            for _ in range(1 + self.below(3)):
                self.do("scatter", max(60, min(count, 1500) + self.below(15)), count)
                count = LEAST + self.below(48)
        elif kind < .85:
            self.do("spread", self.choice((0, LEAST + self.below(48), count)))
            for _ in range(1 + self.below(3)):
                self.do("feed", self._frame_size())
        else:
            self.do("command", count)
        self._time()

    def _frame_size(self):
        kind = self.random()
        return 60 + self.below(100) if kind < .9 else 60 + self.below(1455)

    def _time(self):
        self.do("run", self.choice((0, 5, 20, 50, 150)))

    def _frames(self):
        for _ in range(min(1 + self.below(4), self.frames)):
            self.frames -= 1
            kind = self.random()
            size = (60 + self.below(70) if kind < .8 else 1 + self.below(60) if kind < .9 else 60 + self.below(1500) if kind < .98
                    else 8900 + self.below(200))
            self.do("frame", size, self.below(ZONE - 9200), self.below(1 << 46))
        self._time()

    # Rings

    def _traffic(self):
        if not self.queues:
            return
        queue = self.choice(list(self.queues.values()))
        if queue.stuck and self.random() < .8:
            return
        bad = self.bad if self.random() < .6 else 0
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
            self.do("kick", queue.index, self._following(queue))
        if queue.writes and count:
            for _ in range(min(self.below(min(count, 8) + 1), self.frames + count // 2)):
                self.do("frame", 60 + self.below(64), self.below(ZONE - 200), self.below(1 << 46))
        self._time()

    def _following(self, queue):
        """``next`` of NOTIFICATION_DATA."""
        if not self.packed:
            return queue.next
        return queue.next % queue.size | (queue.next < queue.size) << 15

    def _memory(self, queue):
        return self.ground.memory[RINGS + queue.index], self.player.rings.get(queue.index)

    def _room(self, queue):
        """Descriptors (packed), chains (split) that the device has room for."""
        self._take_back(queue)
        if self.packed:
            return (queue.size - sum(count for _, count in queue.chains)) // 2
        return max(0, queue.size - (queue.next - queue.used & 0xffff))

    def _take_back(self, queue):
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
            if not self.merges:
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
        allowed = VIRTIO_F_INDIRECT_DESC in self.features
        if allowed and self.random() < LONG and (table := self.long.draw(queue, bad)):
            pieces = [table]
            (self._publish_packed if self.packed else self._publish_split)(queue, pieces, bad)
            return True
        pieces = self._pieces(queue)
        indirect = self.random() < (.2 if allowed else bad / 4)
        if indirect:
            pieces = [self._indirect(queue, pieces, bad)]
        elif self.packed and sum(count for _, count in queue.chains) + len(pieces) > queue.size or len(pieces) > queue.size:
            return False
        (self._publish_packed if self.packed else self._publish_split)(queue, pieces, bad)
        return True

    def _publish_split(self, queue, pieces, bad):
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

    def _publish_packed(self, queue, pieces, bad):
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
        if self.table_next + need + 32 > ZONE:
            self.table_next = 0
        at = ZONE - need if self.random() < at_end else self.table_next + self.table_phase
        self.table_next += need
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

    def _noise(self):
        """A part of a descriptor table or ring full of noise; where chains of it are met is a matter of luck."""
        if not self.bad or not self.queues:
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
        self.do("kick", queue.index, self.below(0x10000) if self.random() < .1 else self._following(queue))
        self._time()

    def _events(self):
        if self.queues:
            queue = self.choice(list(self.queues.values()))
            self.do("event", queue.index, self.choice((self._following(queue), self.below(0x10000), self.below(4) << 16,
                                                       self.below(4) << 16 | self.below(0x10000), self.below(1 << 32))))

    # Registers

    def _kicks(self):
        for _ in range(1 + self.below(12)):
            queue = self.choice((*self.theirs, NUM_QUEUES, NUM_QUEUES + self.below(8), 0xffff))
            self.do("notify", self.choice((queue & 0xff, self.below(1024))), self.choice((1, 2, 4, 4)),
                    queue | self.below(0x10000) << 16 if self.random() < .7 else queue)
        self._time()

    def _registers(self):
        for _ in range(1 + self.below(6)):
            kind = self.random()
            if kind < .35:
                offset, sizes = self.choice(DEVICE_FIELDS)
                size = self.choice(sizes)
                self.do("common", -1, offset, size, self.choice((0, 1, 2, 3, 4, self.below(1 << 8 * size))) & (1 << 8 * size) - 1)
            elif kind < .4:
                self.do("common", -1, Common.DEVICE_STATUS, 1, 1 + self.below(255))
            elif kind < .65:
                offset, sizes = self.choice(QUEUE_FIELDS)
                size = self.choice(sizes)
                self.do("common", self._any_queue(), offset, size,
                        self.choice((0, 1, 1, 2, 8, 256, 0xffff, self.below(1 << 8 * size))) & (1 << 8 * size) - 1)
            elif kind < .75:
                self._address()
            elif kind < .85:
                offset = self.choice(QUIET_PAGES) + self.below(0xf00)
                size = 1 + self.below(16)
                self.do("write", offset, size, self.below(1 << 8 * size))
            elif kind < .95:
                size = self.choice((1, 2, 4, 4, 8, 64))
                self.do("read", self.below(0x8000) & -size, size)
            elif kind < .98:
                size = self.choice((1, 2, 4, 4, 3, 0, 5))
                self.do("window", self.choice((self.below(0x8000), self.below(1 << 32))), size, -1)
            else:
                self.do("loose", 2 * self.below(ZONE // 2), self.choice((0, 1, 2, self.below(0x10000))))

    def _any_queue(self):
        return self.choice((*self.theirs, *self.theirs, NUM_QUEUES, 0x8000, 0xffff))

    def _address(self):
        """A half of a ring's address, or less."""
        offset, loose = self.choice(ADDRESS_FIELDS), self.ground.address(LOOSE, 16 * self.below(0xe00))
        if self.random() < .5:
            self.do("common", self._any_queue(), offset, 4, loose & 0xffff_ffff)
        else:
            at, size, value = self.choice(((4, 4, loose >> 32), (4, 4, NOWHERE), (5, 1, 1 + self.below(255)),
                                           (6, 2, 1 + self.below(255))))
            self.do("common", self._any_queue(), offset + at, size, value)

    def _interrupts(self):
        for _ in range(1 + self.below(4)):
            kind = self.random()
            vector = self.below(VECTORS + 2)
            if kind < .5:
                self.do("vector", vector, 3, self.choice((0, 1, self.below(1 << 32))))
            elif kind < .6:
                self.do("vector", vector, 0, 0xfee0_0000 | 4 * self.below(0x400) | self.choice((0, 0, 0, 3)))
            elif kind < .65:
                self.do("vector", vector, 1, self.choice((0, NOWHERE)))
            elif kind < .75:
                self.do("vector", vector, 2, self.below(1 << 32))
            else:
                self.do("msix", self.below(2), self.below(2))
            self._time()

    def _masks(self):
        """A vector of the well-behaved pair, another one or the function is masked amid traffic, mostly not for long."""
        masked = [self.choice((*self.vectors, *self.vectors, WHOLE, self.below(VECTORS))) for _ in range(1 + self.below(3))]
        for vector in masked:
            for _ in range(1 + self.below(4)):
                self.do("send", self._frame_size())
                self.do("feed", self._frame_size())
            self.do("run", self.below(600))
            self.do("mask", vector, 1)
            self._time()
        for vector in masked:
            if self.random() < .8:
                self.do("mask", vector, 0)
                self._time()

    def _disturb(self):
        """What stops the whole card for a while, or changes its link."""
        kind = self.random()
        if kind < .3:
            self.do("master", self.below(2), self.choice((0, 1, 1)))
        elif kind < .5:
            self.do("power", self.below(4))
            if self.random() < .8:
                self._time()
                self.do("power", 0)
        elif kind < .65:
            self.do("device_control", self.below(0x8000))
        elif kind < .7:
            self.do("cable", 0)
        else:
            self.do("link", self.choice([name for name in LINKS if name != "torn"]))
        self._time()

    def _faults(self):
        self.do("fault", self.choice(("ur", "ca", "poison", "duplicate", "ur", "ca", "poison", "duplicate", "lost")),
                self.choice((1, 2, 5, 20)))
        self._traffic()
        if self.random() < .5:
            self.do("fault", "ur", 0)

    def _start_again(self):
        """A hostile queue is reset and gets another size, or is just reset, or one that is not there is."""
        queue = self._any_queue() if self.random() < .2 else self.choice(self.theirs)
        self.do("queue_reset", queue)
        if VIRTIO_F_RING_RESET in self.features:
            self.queues.pop(queue, None)
            if queue in self.theirs and self.random() < .9:
                self._setup(queue)
