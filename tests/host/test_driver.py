"""The golden driver against a device of a few lines, which shares no code with it and checks what it is told."""

import random
import struct

import pytest

from ringnic.hdl.spec.bar import COUNTERS, COUNTERS_MAGIC
from ringnic.hdl.spec.virtio import CfgType, Status
from ringnic.host.driver import (DeviceError, NegotiationError, NoSpace, PciFunction, Transport, VirtioNet)
from ringnic.host.driver.virtqueue import passed
from ringnic.sim.bus import GoldenBus

NET = {5, 15, 16, 28, 29, 32}
EXP, MSIX, CAPS = 0x40, 0x80, 0x90
PLACES = {1: (0x0000, 0x3c), 2: (0x3000, 0x1000), 3: (0x1000, 4), 4: (0x2000, 0x1000)}


class FakeNet:
    """Two queues in plain Python: sends back what it is sent, if asked to."""
    def __init__(self, features=NET, size=16, queue_size_kept=True):
        self.offered, self.size = features, size
        self.memory, self.log, self.irqs, self.kicks = {}, [], [], []
        self.sent, self.rx_frames = [], []
        self.power_on()

    def power_on(self):
        config = self.config = bytearray(256)
        struct.pack_into("<HH", config, 0, 0x1af4, 0x1041)
        config[6] = 0x10
        config[0x34] = EXP
        struct.pack_into("<BB", config, EXP, 0x10, MSIX)
        struct.pack_into("<BBHII", config, MSIX, 0x11, CAPS, 2, 0x4000, 0x5000)
        at = CAPS
        for kind, (offset, length) in PLACES.items():
            following = at + 20 if kind < 4 else 0
            struct.pack_into("<BBBBIIII", config, at, 9, following, 20, kind, 0, offset, length, 4 if kind == 2 else 0)
            at += 20
        self.msix = [[0, 0, 0, 1] for _ in range(3)]
        self.status_reset()

    def status_reset(self):
        self.status, self.select, self.fselect, self.driver_features = 0, 0, 0, 0
        self.queue = [dict(size=self.size, vector=0xffff, enable=0, desc=0, driver=0, device=0, seen=0, used=0)
                      for _ in range(2)]
        self.config_vector = 0xffff
        self.dfselect = 0

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

    def bar_read(self, offset, size):
        assert self.config[4] & 2, "memory decode is off"
        assert offset % size == 0
        page, at = offset & ~0xfff, offset & 0xfff
        queue = self.queue[self.select] if self.select < 2 else dict.fromkeys(self.queue[0], 0)
        if page == 0:
            return {0x04: sum(1 << b for b in self.offered) >> 32 * self.dfselect & 0xffffffff, 0x10: self.config_vector,
                    0x12: 2, 0x14: self.status, 0x15: 0, 0x18: queue["size"], 0x1a: queue["vector"],
                    0x1c: queue["enable"], 0x1e: self.select}[at]
        if page == 0x2000:
            image = bytes.fromhex("525400123456") + struct.pack("<HHHIB", 1, 1, 9000, 1000, 1)
            return int.from_bytes(image[at:at + size], "little")
        if page == 0x6000:
            image = struct.pack(f"<IIII{len(COUNTERS)}Q", COUNTERS_MAGIC, len(COUNTERS), 0, 0,
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
            assert at == 4 * value
            self.kicks.append(value)
        elif page == 0x4000:
            self.msix[at // 16][at % 16 // 4] = value

    def common_write(self, at, size, value):
        queue = self.queue[self.select] if self.select < 2 else {}
        widths = {0: 4, 8: 4, 0xc: 4, 0x10: 2, 0x14: 1, 0x16: 2, 0x18: 2, 0x1a: 2, 0x1c: 2}
        assert size == widths.get(at, 4), "4.1.3.1"
        if at == 0x14:
            self.log.append(value)
            if value == 0:
                return self.status_reset()
            if value & 8 and not self.driver_features >> 32 & 1:
                value &= ~8
            self.status = value
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
        elif at in (0x18, 0x1a, 0x1c):
            queue[{0x18: "size", 0x1a: "vector", 0x1c: "enable"}[at]] = value
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

    def chain(self, queue):
        head = at = self.word(queue["driver"] + 4 + 2 * (queue["seen"] % queue["size"]))
        queue["seen"] = queue["seen"] + 1 & 0xffff
        table, segments = queue["desc"], []
        while True:
            addr, length, flags, following = struct.unpack("<QIHH", self.at(table + 16 * at, 16))
            if flags & 4:
                assert length % 16 == 0 and not flags & 1
                table, at = addr, 0
                continue
            segments.append((addr, length, bool(flags & 2)))
            if not flags & 1:
                return head, segments
            at = following

    def give_back(self, queue, head, written, hide=False):
        at = queue["device"] + 4 + 8 * (queue["used"] % queue["size"])
        self.at(at, 8)[:] = struct.pack("<II", head, written)
        old, queue["used"] = queue["used"], queue["used"] + 1 & 0xffff
        if not hide:
            self.publish(queue, old)

    def publish(self, queue, old):
        event_idx = self.driver_features >> 29 & 1
        self.at(queue["device"] + 2, 2)[:] = struct.pack("<H", queue["used"])
        event = self.word(queue["driver"] + 4 + 2 * queue["size"])
        quiet = self.word(queue["driver"]) & 1
        if passed(event, queue["used"], queue["used"] - old & 0xffff) if event_idx else not quiet:
            low, high, data, masked = self.msix[queue["vector"]]
            assert not masked
            self.irqs.append((high << 32 | low, data))
        if event_idx:
            self.at(queue["device"] + 4 + 8 * queue["size"], 2)[:] = struct.pack("<H", queue["seen"])

    def transmit(self):
        queue = self.queue[1]
        while queue["seen"] != self.word(queue["driver"] + 2):
            head, segments = self.chain(queue)
            assert not any(write for _, _, write in segments)
            packet = b"".join(bytes(self.at(addr, length)) for addr, length, _ in segments)
            self.sent.append(packet[12:])
            self.give_back(queue, head, 0)

    def deliver(self, frame):
        queue, rest, heads = self.queue[0], frame, []
        merge = self.driver_features >> 15 & 1
        at_header, old = None, queue["used"]
        while rest or not heads:
            assert queue["seen"] != self.word(queue["driver"] + 2), "no buffers"
            head, ((addr, length, write),) = self.chain(queue)
            assert write
            memory, skip = self.at(addr, length), 0
            if not heads:
                at_header, skip = memory, 12
            part, rest = rest[:length - skip], rest[length - skip:]
            assert merge or not rest
            memory[skip:skip + len(part)] = part
            heads.append((head, skip + len(part)))
        at_header[:12] = struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, len(heads))
        for head, written in heads:
            self.give_back(queue, head, written, hide=True)
        self.publish(queue, old)


def opened(features=NET, **options):
    device = FakeNet()
    bus = GoldenBus(device)
    return device, bus, VirtioNet.open(bus, features, **options)


def test_discovery():
    device = FakeNet()
    function = PciFunction(GoldenBus(device))
    assert [at for at, _ in function.capabilities] == [EXP, MSIX, 0x90, 0xa4, 0xb8, 0xcc]
    assert {kind: (s.offset, s.length) for kind, s in function.structures.items()} == PLACES
    assert function.structures[CfgType.NOTIFY].multiplier == 4
    assert function.msix_vectors == 3
    assert function.bars[0].size == 0x8000 and list(function.bars) == [0]
    assert device.config[4] & 6 == 6
    assert device.config_read(0x10, 4) == 0xe000_0000


def test_capability_loop_is_seen():
    device = FakeNet()
    device.config[0xcc + 1] = EXP
    with pytest.raises(ValueError, match="Capability list loops at 0x40"):
        PciFunction(GoldenBus(device))


def test_no_function():
    device = FakeNet()
    device.config[:] = b"\xff" * 256
    with pytest.raises(LookupError, match="No function answers"):
        PciFunction(GoldenBus(device))


def test_status_dance_and_msix():
    device, bus, net = opened()
    assert device.log == [0, 1, 3, 11, 15]
    assert net.features == NET
    assert device.msix == [[0xfee00000, 0, k, 0] for k in range(3)]
    assert [q["vector"] for q in device.queue] == [1, 2] and device.config_vector == 0
    assert struct.unpack("<H", device.config[MSIX + 2:MSIX + 4])[0] == 0x8000
    assert net.mac == bytes.fromhex("525400123456") and net.link_up and net.mtu == 1500 and net.speed is None


def test_features_refused():
    device = FakeNet(features={5})
    with pytest.raises(NegotiationError, match=r"Device refuses \[5\] of \[5\]"):
        Transport(PciFunction(GoldenBus(device))).negotiate({5})
    assert device.status & Status.FAILED


def test_queue_size_is_checked():
    _, _, net = opened()
    for size in (0, 3, 32):
        with pytest.raises(ValueError, match=f"Queue size must be a power of 2 up to 16, not {size}"):
            net.transport.setup_queue(0, size)
    with pytest.raises(LookupError, match="Device has no queue 2"):
        net.transport.setup_queue(2)


@pytest.mark.parametrize("features", [{32}, {32, 29}, {32, 15}, {32, 28}, NET])
def test_random_traffic(features, rng):
    device, bus, net = opened(features, rx_slot=200 if 15 in features else None)
    sent, received, expected = [], [], []
    for _ in range(3000):
        frame = rng.randbytes(rng.randrange(60, 1515))
        if rng.random() < 0.5:
            try:
                net.send(frame, kick=rng.random() < 0.7)
                sent.append(frame)
            except NoSpace:
                device.transmit()
        else:
            expected.append(frame)
            device.deliver(frame)
            if rng.random() < 0.5 or 15 in features:
                received += net.receive()
            elif net.rx.num_pending - (device.queue[0]["used"] - net.rx._last_used) % 65536 < 2:
                received += net.receive()
    device.transmit()
    net.reclaim()
    received += net.receive()
    assert device.sent == sent and received == expected
    assert net.tx.num_free == 16 and net.rx.num_free == 0 and net.rx.num_pending == 16


def test_ring_wraps_past_16_bits():
    device, bus, net = opened()
    for k in range(70000 // 16):
        for j in range(16):
            net.send(bytes(60), kick=False)
        net.tx.kick()
        device.transmit()
        assert net.reclaim() == 16
        device.sent.clear()
    assert net.tx.used_idx == (70000 // 16 * 16) % 65536


@pytest.mark.parametrize("event_idx", [False, True])
def test_callbacks(event_idx):
    device, bus, net = opened(NET if event_idx else NET - {29})
    bus.poll_irq()
    net.tx.disable_cb()
    for _ in range(3):
        net.send(bytes(60))
        device.transmit()
    assert bus.poll_irq() == set()
    assert not net.tx.enable_cb()      # something came meanwhile
    net.reclaim()
    assert net.tx.enable_cb()
    net.send(bytes(60))
    device.transmit()
    assert bus.wait_irq() == {2}
    assert bus.wait_irq(timeout=0) == set()


@pytest.mark.parametrize("event_idx", [False, True])
def test_kick_is_suppressed(event_idx):
    device, bus, net = opened(NET if event_idx else NET - {29})
    device.kicks.clear()
    net.send(bytes(60))
    assert device.kicks == [1]
    if not event_idx:
        net.tx.write_u16(net.tx.used_offset, 1)
    net.send(bytes(60))
    net.tx.kick()
    assert device.kicks == [1]


def test_chains_and_indirect():
    device, bus, net = opened()
    memory = bus.alloc(4096)
    memory.view[:] = random.Random(1).randbytes(4096)
    pieces = [(memory.iova + 7, 5), (memory.iova + 100, 9), (memory.iova + 3, 61)]
    frame = b"".join(bytes(memory.view[at - memory.iova:at - memory.iova + n]) for at, n in pieces)[12:]
    for indirect, taken in ((False, 3), (True, 1)):
        before = len(bus.buffers)
        net.tx.add_buf(pieces, [], "chain", indirect=indirect)
        assert net.tx.num_free == 16 - taken
        device.transmit()
        assert net.tx.get_buf() == ("chain", 0) and net.tx.get_buf() is None
        assert device.sent.pop() == frame and net.tx.num_free == 16 and len(bus.buffers) == before


def test_add_buf_refuses():
    _, _, net = opened({32})
    with pytest.raises(ValueError, match="A chain has at least one descriptor"):
        net.tx.add_buf([], [], 0)
    with pytest.raises(ValueError, match="INDIRECT_DESC was not negotiated"):
        net.tx.add_buf([(0, 1)], [], 0, indirect=True)
    with pytest.raises(ValueError, match="A chain of 17 is longer than the queue"):
        net.tx.add_buf([(0, 1)] * 17, [], 0)
    with pytest.raises(IndexError, match="Queue 0 has 0 free descriptors, not 1"):
        net.rx.add_buf([(0, 1)], [], 0)


def test_a_device_that_breaks_rules_is_caught():
    device, _, net = opened()
    net.send(bytes(60))
    device.give_back(device.queue[1], 3, 0)
    with pytest.raises(DeviceError, match="Queue 1: used id 3 is not outstanding"):
        net.reclaim()
    net.tx.write_u16(net.tx.used_offset + 2, 99)
    with pytest.raises(DeviceError, match="Queue 1: used idx went from 0 to 99"):
        net.reclaim()
    device.give_back(device.queue[0], 0, 4)
    with pytest.raises(DeviceError, match="4 bytes do not hold a header"):
        net.receive()


def test_reset_gives_memory_back_and_starts_again():
    device, bus, net = opened()
    for reset in (net.reset, net.flr):
        reset()
        assert not bus.buffers and not device.memory and device.status == 0
        net.restart()
        net.send(b"x" * 60)
        device.transmit()
        assert device.sent.pop() == b"x" * 60


def test_counters():
    _, _, net = opened()
    assert net.counters() == {name: k << 40 | 7 for k, name in enumerate(COUNTERS)}


def test_full_queue():
    _, _, net = opened()
    for _ in range(16):
        net.send(bytes(60))
    with pytest.raises(NoSpace, match="All 16 transmit buffers are with the device"):
        net.send(bytes(60))
    with pytest.raises(ValueError, match="Frame of 1519 bytes is longer than the MTU allows"):
        net.send(bytes(1519))
