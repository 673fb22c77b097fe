"""What a hostile driver may do next: well-formed rings with something broken in them, and registers at the wrong time.

Every choice comes from one generator of random numbers and from what the card has done so far.
"""

from ...hdl.spec.bar import COUNTERS_OFFSET, DEVICE_OFFSET, ISR_OFFSET, MSIX_PBA_OFFSET
from ...hdl.spec.net import (VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
                             VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS)
from ...hdl.spec.virtio import (VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC,
                                VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET,
                                VIRTIO_F_VERSION_1, MAX_TABLE, Common)
from .card import VECTORS
from .case import LINKS, PAIRS
from .chains import LEAST, LongTables, long_count
from .descriptor import WRITE
from .ears import WHOLE
from .ground import END, LOOSE, NOWHERE, OWN, RINGS, ZONE
from .places import draw_base
from .rings import Queue, Rings

__all__ = ["draw_case", "Generator"]

NUM_QUEUES = 2 * PAIRS + 1
BASES = (0x1_4000_0000, 0x4000_0000, 0xfff5_0000)     # 64 bits, 32 bits, both
OPTIONAL = {VIRTIO_F_INDIRECT_DESC: .8, VIRTIO_F_EVENT_IDX: .6, VIRTIO_F_RING_PACKED: .5, VIRTIO_F_IN_ORDER: .3,
            VIRTIO_F_NOTIFICATION_DATA: .4, VIRTIO_F_RING_RESET: .8, VIRTIO_F_ACCESS_PLATFORM: .5, VIRTIO_F_ORDER_PLATFORM: .5,
            VIRTIO_NET_F_MRG_RXBUF: .6, VIRTIO_NET_F_MTU: .5, VIRTIO_NET_F_MAC: .5, VIRTIO_NET_F_STATUS: .5,
            VIRTIO_NET_F_CTRL_VQ: .8, VIRTIO_NET_F_MQ: .8, VIRTIO_NET_F_SPEED_DUPLEX: .5}
REFUSED = 77                                          # a feature bit that nobody offers
STORMY = .15                                          # share of lives that are storms
SLOT = 2048                                           # bytes of a queue's own buffer
QUIET_PAGES = (ISR_OFFSET, DEVICE_OFFSET, MSIX_PBA_OFFSET, COUNTERS_OFFSET, 0x7000)
# Fields of the common configuration: of the queue selected, and of the device. Offset and sizes.
QUEUE_FIELDS = ((Common.QUEUE_SIZE, (1, 2, 4)), (Common.QUEUE_MSIX_VECTOR, (1, 2)), (Common.QUEUE_ENABLE, (1, 2, 4)),
                (Common.QUEUE_NOTIFY_OFF, (2,)), (Common.QUEUE_NOTIF_CONFIG_DATA, (2,)))
DEVICE_FIELDS = ((Common.DEVICE_FEATURE_SELECT, (1, 2, 4)), (Common.DEVICE_FEATURE, (4,)),
                 (Common.DRIVER_FEATURE_SELECT, (1, 2, 4)), (Common.DRIVER_FEATURE, (1, 2, 4)),
                 (Common.CONFIG_MSIX_VECTOR, (1, 2)), (Common.NUM_QUEUES, (2,)), (Common.CONFIG_GENERATION, (1,)))
ADDRESS_FIELDS = (Common.QUEUE_DESC, Common.QUEUE_DRIVER, Common.QUEUE_DEVICE)


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
        self.rings = Rings(self)

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
                (self.rings.publish_packed if self.packed else self.rings.publish_split)(queue, [(at, SLOT, WRITE)], 0)
            if not self.packed:
                self.do("index", 0, queue.next, 0)
            self.do("kick", 0, self.rings.following(queue))
            for _ in range(self.below(3)):
                self._flood(self.below(4))
                self.time()
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
        self.queues[0] = Queue(0, size, self.packed)

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
            self.rings.traffic()
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
        self.queues[queue] = Queue(queue, size, self.packed)

    # A burst: steps, then a look

    def burst(self):
        fumbling = self.fumbling
        self.long.burst()
        waiting = [len(queue.chains) if queue.packed else queue.next - queue.used & 0xffff
                   for queue in self.queues.values() if queue.writes and queue.index < 2 * PAIRS]
        # A frame for a queue without buffers keeps all others waiting for thousands of cycles.
        self.frames = min(24, 2 + min(waiting, default=24))
        steps = ((self.rings.traffic, 50), (self._good, 6), (self._frames, 3), (self.rings.noise, 5), (self.rings.events, 2),
                 (self._kicks, 1.5 * fumbling), (self._registers, fumbling), (self._interrupts, .7 * fumbling),
                 (self._disturb, .5 * fumbling), (self._faults, 4 * self.faulty), (self._start_again, 1), (self._look, 2),
                 (self._masks, 1.5), (self._long, 1.0 * (VIRTIO_F_INDIRECT_DESC in self.features)),
                 (self._silence, .5))
        for step, in zip(self.rng.choices([step for step, _ in steps], [weight for _, weight in steps], k=4 + self.below(28))):
            step()
        self.do("check")
        for queue in self.queues.values():
            self.rings.take_back(queue)

    def _look(self):
        self.do("poll")

    def _silence(self):
        self.do("silent", self.below(2))

    def _good(self):
        for _ in range(1 + self.below(4)):
            self.do("send", self._frame_size(), self.below(200), self.below(1500))
        for _ in range(self.below(3)):
            self.do("feed", self._frame_size())
        self.time()

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
        self.time()

    def _frame_size(self):
        kind = self.random()
        return 60 + self.below(100) if kind < .9 else 60 + self.below(1455)

    def time(self):
        self.do("run", self.choice((0, 5, 20, 50, 150)))

    def _frames(self):
        for _ in range(min(1 + self.below(4), self.frames)):
            self.frames -= 1
            kind = self.random()
            size = (60 + self.below(70) if kind < .8 else 1 + self.below(60) if kind < .9 else 60 + self.below(1500) if kind < .98
                    else 8900 + self.below(200))
            self.do("frame", size, self.below(ZONE - 9200), self.below(1 << 46))
        self.time()

    # Registers

    def _kicks(self):
        for _ in range(1 + self.below(12)):
            queue = self.choice((*self.theirs, NUM_QUEUES, NUM_QUEUES + self.below(8), 0xffff))
            self.do("notify", self.choice((queue & 0xff, self.below(1024))), self.choice((1, 2, 4, 4)),
                    queue | self.below(0x10000) << 16 if self.random() < .7 else queue)
        self.time()

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
            self.time()

    def _masks(self):
        """A vector of the well-behaved pair, another one or the function is masked amid traffic, mostly not for long."""
        masked = [self.choice((*self.vectors, *self.vectors, WHOLE, self.below(VECTORS))) for _ in range(1 + self.below(3))]
        for vector in masked:
            for _ in range(1 + self.below(4)):
                self.do("send", self._frame_size())
                self.do("feed", self._frame_size())
            self.do("run", self.below(600))
            self.do("mask", vector, 1)
            self.time()
        for vector in masked:
            if self.random() < .8:
                self.do("mask", vector, 0)
                self.time()

    def _disturb(self):
        """What stops the whole card for a while, or changes its link."""
        kind = self.random()
        if kind < .3:
            self.do("master", self.below(2), self.choice((0, 1, 1)))
        elif kind < .5:
            self.do("power", self.below(4))
            if self.random() < .8:
                self.time()
                self.do("power", 0)
        elif kind < .65:
            self.do("device_control", self.below(0x8000))
        elif kind < .7:
            self.do("cable", 0)
        else:
            self.do("link", self.choice([name for name in LINKS if name != "torn"]))
        self.time()

    def _faults(self):
        self.do("fault", self.choice(("ur", "ca", "poison", "duplicate", "ur", "ca", "poison", "duplicate", "lost")),
                self.choice((1, 2, 5, 20)))
        self.rings.traffic()
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
