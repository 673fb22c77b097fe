"""A network device of a few lines for tests of the driver. It shares no code with the driver and checks what it is told."""

import struct

import pytest

from ringnic.hdl.spec.bar import COUNTERS, COUNTERS_MAGIC
from ringnic.host.driver import VirtioNet
from ringnic.sim.bus import GoldenBus

NET = {5, 15, 16, 28, 29, 32}
EVENT_IDX, PACKED, IN_ORDER, NOTIFICATION_DATA, RING_RESET, CTRL_VQ, MQ = 29, 34, 35, 38, 40, 17, 22
EXP, MSIX, CAPS = 0x40, 0x80, 0x90
FLR = 1 << 28  # Device Capabilities: Function Level Reset
PLACES = {1: (0x0000, 0x3c), 2: (0x3000, 0x1000), 3: (0x1000, 4), 4: (0x2000, 0x1000)}


class FakeNet:
    """Pairs of queues in plain Python, split or packed: keeps what it is sent, delivers what it is told to.

    Queues are reset after ``slow`` more looks at queue_reset.
    """
    def __init__(self, features=NET, size=16, max_pairs=1, slow=0):
        self.offered, self.size, self.max_pairs, self.slow = features, size, max_pairs, slow
        self.num_queues = 2 * max_pairs + (CTRL_VQ in features)
        self.memory, self.log, self.irqs, self.kicks = {}, [], [], []
        self.sent, self.rx_frames = [], []
        self.controls = 0     # bits of its control register that there are
        self.power_on()

    def power_on(self):
        config = self.config = bytearray(256)
        struct.pack_into("<HH", config, 0, 0x1af4, 0x1041)
        config[6] = 0x10
        config[0x34] = EXP
        struct.pack_into("<BBHI", config, EXP, 0x10, MSIX, 0x0002, FLR)
        struct.pack_into("<BBHII", config, MSIX, 0x11, CAPS, self.num_queues, 0x4000, 0x5000)
        at = CAPS
        for kind, (offset, length) in PLACES.items():
            following = at + 20 if kind < 4 else 0
            struct.pack_into("<BBBBIIII", config, at, 9, following, 20, kind, 0, offset, length, 4 if kind == 2 else 0)
            at += 20
        self.msix = [[0, 0, 0, 1] for _ in range(self.num_queues + 1)]
        self.control = 0
        self.status_reset()

    def status_reset(self):
        self.status, self.select, self.fselect, self.driver_features = 0, 0, 0, 0
        self.queue = [self.idle_queue() for _ in range(self.num_queues)]
        self.config_vector = 0xffff
        self.dfselect = 0
        self.pairs, self.commands = 1, []

    def idle_queue(self):
        return dict(size=self.size, vector=0xffff, enable=0, reset=0, desc=0, driver=0, device=0, seen=0, used=0, said=0,
                    begun=False)

    def has(self, feature):
        return bool(self.driver_features >> feature & 1)

    # GoldenNet's seam
    def config_read(self, offset, size):
        return int.from_bytes(self.config[offset:offset + size], "little")

    def config_write(self, offset, size, value):
        if offset == 0x10:
            value &= 0xffff8000
        elif 0x10 < offset < 0x28:
            value = 0
        if offset == EXP + 8 and value >> 15:
            return self.power_on()
        self.config[offset:offset + size] = value.to_bytes(size, "little")

    def map(self, iova, memory):
        self.memory[iova] = memory

    def unmap(self, iova, size):
        assert len(self.memory.pop(iova)) == size

    def interrupts(self):
        found, self.irqs = self.irqs, []
        return found

    def pass_time(self):
        pass

    def bar_read(self, offset, size):
        assert self.config[4] & 2, "memory decode is off"
        assert offset % size == 0
        page, at = offset & ~0xfff, offset & 0xfff
        queue = self.queue[self.select] if self.select < self.num_queues else dict.fromkeys(self.queue[0], 0)
        if page == 0 and at == 0x3a and queue["reset"]:
            queue["reset"] -= 1
            if not queue["reset"]:
                self.queue[self.select] = self.idle_queue() | {"size": queue["size"]}  # nothing says that it is the largest
            return int(queue["reset"] > 0)
        if page == 0:
            return {0x04: sum(1 << b for b in self.offered) >> 32 * self.dfselect & 0xffffffff, 0x10: self.config_vector,
                    0x12: self.num_queues, 0x14: self.status, 0x15: 0, 0x18: queue["size"], 0x1a: queue["vector"],
                    0x1c: queue["enable"], 0x1e: self.select, 0x3a: 0}[at]
        if page == 0x2000:
            image = bytes.fromhex("525400123456") + struct.pack("<HHHIB", 1, self.max_pairs, 1500, 1000, 1)
            return int.from_bytes(image[at:at + size], "little")
        if page == 0x6000:
            image = struct.pack(f"<IIII{len(COUNTERS)}Q", COUNTERS_MAGIC, len(COUNTERS), 0x600d1d, self.control,
                                *(k << 40 | 7 for k in range(len(COUNTERS))))
            return int.from_bytes(image[at:at + size], "little")
        return 0

    def bar_write(self, offset, size, value):
        assert self.config[4] & 2, "memory decode is off"
        assert offset % size == 0
        page, at = offset & ~0xfff, offset & 0xfff
        if page == 0:
            self.common_write(at, size, value)
        elif page == 0x3000:
            index = value & 0xffff
            assert at == 4 * index and size == (4 if self.has(NOTIFICATION_DATA) else 2)
            self.kicks.append(value)
            if index == (2 * self.max_pairs if self.has(MQ) else 2):
                self.obey(self.queue[index])
        elif page == 0x4000:
            self.msix[at // 16][at % 16 // 4] = value
        elif page == 0x6000:
            assert (at, size) == (12, 4)
            self.control = value & self.controls

    def common_write(self, at, size, value):
        queue = self.queue[self.select] if self.select < self.num_queues else {}
        widths = {0: 4, 8: 4, 0xc: 4, 0x10: 2, 0x14: 1, 0x16: 2, 0x18: 2, 0x1a: 2, 0x1c: 2, 0x3a: 2}
        assert size == widths.get(at, 4), "4.1.3.1"
        if at == 0x14:
            self.log.append(value)
            if value == 0:
                return self.status_reset()
            if value & 8 and not self.driver_features >> 32 & 1:
                value &= ~8
            self.status = value
            for queue in self.queue:
                self.begin(queue)
        elif at == 0:
            self.dfselect = value
        elif at == 8:
            self.fselect = value
        elif at == 0xc:
            keep = self.driver_features & ~(0xffffffff << 32 * self.fselect)
            self.driver_features = keep | value << 32 * self.fselect
        elif at == 0x10:
            self.config_vector = value
        elif at == 0x16:
            self.select = value
        elif at == 0x3a:
            assert value == 1 and queue["enable"] and self.has(RING_RESET)
            queue["reset"] = 1 + self.slow
        elif at in (0x18, 0x1a, 0x1c):
            assert not queue["reset"]
            queue[{0x18: "size", 0x1a: "vector", 0x1c: "enable"}[at]] = value
            self.begin(queue)
        else:
            name, half = {0x20: "desc", 0x28: "driver", 0x30: "device"}[at & ~7], at >> 2 & 1
            queue[name] = queue[name] & ~(0xffffffff << 32 * half) | value << 32 * half

    # Work
    def at(self, iova, size):
        for base, memory in self.memory.items():
            if base <= iova and iova + size <= base + len(memory):
                return memoryview(memory)[iova - base:iova - base + size]
        raise AssertionError(f"{iova:#x} is not mapped")

    def word(self, iova):
        return struct.unpack("<H", self.at(iova, 2))[0]

    def begin(self, queue):
        """Say, once it is live, that notifications are wanted: memory may hold anything."""
        if self.status & 4 and queue["enable"] and not queue["begun"]:
            queue["begun"] = True
            self.at(queue["device"], 4)[:] = bytes(4)
            if self.has(EVENT_IDX) and not self.has(PACKED):
                self.at(queue["device"] + 4 + 8 * queue["size"], 2)[:] = bytes(2)

    def wrap(self, queue, count):
        return count // queue["size"] % 2 == 0

    def due(self, queue):
        """Is there one more chain?"""
        if not self.has(PACKED):
            return queue["seen"] != self.word(queue["driver"] + 2)
        flags = self.word(queue["desc"] + 16 * (queue["seen"] % queue["size"]) + 14)
        return bool(flags & 1 << 7) != bool(flags & 1 << 15) == (not self.wrap(queue, queue["seen"]))

    def chain(self, queue):
        """Return the id that the chain is given back by and how far that goes on in the ring, and the segments."""
        packed, start = self.has(PACKED), queue["seen"]
        table, segments, following = queue["desc"], [], 1
        if packed:
            at = start % queue["size"]
        else:
            name = at = self.word(queue["driver"] + 4 + 2 * (start % queue["size"]))
            queue["seen"] = start + 1 & 0xffff
        while following:
            addr, length, *after = struct.unpack("<QIHH", self.at(table + 16 * at, 16))
            flags = after[packed]
            assert not flags & 4
            segments.append((addr, length, bool(flags & 2)))
            following = flags & 1
            if packed:
                name, queue["seen"] = after[0], queue["seen"] + 1
                at = queue["seen"] % queue["size"]
            else:
                at = after[1]
        return (name, queue["seen"] - start), segments

    def give_back(self, queue, chain, written, hide=False):
        name, count = chain
        if self.has(PACKED):
            flags = (1 << 15 | 1 << 7 if self.wrap(queue, queue["used"]) else 0) | (2 if written else 0)
            at = queue["desc"] + 16 * (queue["used"] % queue["size"])
            self.at(at, 16)[:] = struct.pack("<QIHH", 2**64 - 1, written, name, flags)
            queue["used"] += count
        else:
            at = queue["device"] + 4 + 8 * (queue["used"] % queue["size"])
            self.at(at, 8)[:] = struct.pack("<II", name, written)
            queue["used"] = queue["used"] + count & 0xffff
        if not hide:
            self.publish(queue)

    def publish(self, queue):
        """Show what was used, and send an interrupt if the driver wants one."""
        event_idx, size = self.has(EVENT_IDX), queue["size"]
        if self.has(PACKED):
            event, flags = struct.unpack("<HH", self.at(queue["driver"], 4))
            if flags == 2:
                assert event_idx
                places = {(k % size, self.wrap(queue, k)) for k in range(queue["said"], queue["used"])}
                wanted = (event & 0x7fff, event >> 15) in places
            else:
                wanted = flags == 0
        else:
            self.at(queue["device"] + 2, 2)[:] = struct.pack("<H", queue["used"])
            news = (queue["used"] - queue["said"]) % 65536
            event = self.word(queue["driver"] + 4 + 2 * size)
            wanted = event in {(queue["said"] + k) % 65536 for k in range(news)} if event_idx else \
                not self.word(queue["driver"]) & 1
            if event_idx:
                self.at(queue["device"] + 4 + 8 * size, 2)[:] = struct.pack("<H", queue["seen"])
        queue["said"] = queue["used"]
        if wanted:
            low, high, data, masked = self.msix[queue["vector"]]
            assert not masked
            self.irqs.append((high << 32 | low, data))

    def obey(self, queue):
        """Answer commands: 0 for pairs there are, 1 for all else."""
        while self.due(queue):
            chain, segments = self.chain(queue)
            *out, (ack, length, write) = segments
            assert length == 1 and write and not any(write for *_, write in out)
            command = b"".join(bytes(self.at(addr, length)) for addr, length, _ in out)
            self.commands.append([length for _, length, _ in out])
            done = len(command) == 4 and command[:2] == b"\4\0" and 1 <= command[2] <= self.max_pairs
            if done:
                self.pairs = command[2]
            self.at(ack, 1)[0] = not done
            self.give_back(queue, chain, 1)

    def transmit(self, pair=0, limit=None):
        queue = self.queue[2 * pair + 1]
        while self.due(queue) and limit != 0:
            limit = limit and limit - 1
            chain, segments = self.chain(queue)
            assert not any(write for _, _, write in segments)
            packet = b"".join(bytes(self.at(addr, length)) for addr, length, _ in segments)
            self.sent.append(packet[12:])
            self.give_back(queue, chain, 0)

    def deliver(self, frame, pair=0):
        queue, rest, chains = self.queue[2 * pair], frame, []
        at_header = None
        while rest or not chains:
            assert self.due(queue), "no buffers"
            chain, ((addr, length, write),) = self.chain(queue)
            assert write
            memory, skip = self.at(addr, length), 0
            if not chains:
                at_header, skip = memory, 12
            part, rest = rest[:length - skip], rest[length - skip:]
            assert self.has(15) or not rest
            memory[skip:skip + len(part)] = part
            chains.append((chain, skip + len(part)))
        at_header[:12] = struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, len(chains))
        if self.has(IN_ORDER):
            # One entry for all: those before the last are full.
            ((name, _), written), count = chains[-1], sum(count for (_, count), _ in chains)
            self.give_back(queue, (name, count), written, hide=True)
        else:
            for chain, written in chains:
                self.give_back(queue, chain, written, hide=True)
        self.publish(queue)


@pytest.fixture(scope="session")
def fake_net():
    """The class of the device."""
    return FakeNet


@pytest.fixture(scope="session")
def opened():
    """Open a device, one with the wanted features unless there is one: returns it, its bus and the driver."""
    def opened(features=NET, device=None, **options):
        device = device or FakeNet(frozenset(features))
        bus = GoldenBus(device)
        return device, bus, VirtioNet.open(bus, features, **options)
    return opened
