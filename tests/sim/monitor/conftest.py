"""A card and a driver that are made up: facts for the passive checker, one by one."""

import struct

import pytest

from ringnic.hdl.spec.bar import COMMON_OFFSET, ISR_OFFSET, MSIX_TABLE_OFFSET
from ringnic.hdl.spec.pcie import CapId, Cfg, Command, Exp, MsixCap
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, Common, Status,
                                     VirtqDescF)
from ringnic.sim.monitor import LIMIT, Monitor

BAR = 0xe000_0000
MSIX_AT, EXP_AT, PM_AT = 0x40, 0x50, 0x90
MESSAGE_AT = 0xfee0_0000
RINGS, STRIDE = 0x1_0000_0000, 0x10000
NEXT, WRITE, AVAIL, USED = (int(flag) for flag in (VirtqDescF.NEXT, VirtqDescF.WRITE, VirtqDescF.AVAIL, VirtqDescF.USED))
LIVE = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK
SIZE = 8


class Script:
    """A live card under the checker: with MSI-X, vector 0 for the configuration and ``1 + k`` for queue k, of which 0 and 1 are
    enabled. What the card does comes from the test."""
    DESC, DRIVER, DEVICE = 0, 0x1000, 0x2000  # areas of a queue's memory

    def __init__(self, *features, msix=True, live=True, vectors=None, size=SIZE):
        self.monitor = Monitor()
        self.cycle = 0
        self.features = frozenset(features) | {VIRTIO_F_VERSION_1}
        self.packed, self.event_idx = VIRTIO_F_RING_PACKED in features, VIRTIO_F_EVENT_IDX in features
        self.size, self.msix = size, msix
        self.vectors = vectors or {None: 0, 0: 1, 1: 2}
        self.tag = 0
        self.config(Cfg.VENDOR_ID, bytes.fromhex("f41a4110"))
        self.config(Cfg.CAP_POINTER, bytes([MSIX_AT, 0, 0, 0]))
        self.config(MSIX_AT, bytes([CapId.MSIX, EXP_AT, 3, 0]))
        self.config(EXP_AT, bytes([CapId.EXP, PM_AT, 0, 0]))
        self.config(PM_AT, bytes([CapId.PM, 0, 3, 0]))
        self.switch_on()
        if live:
            self.negotiate()
            for index in (0, 1):
                self.enable(index)
            self.status(LIVE)

    # The driver

    def later(self, cycles=10):
        self.cycle += cycles
        self.monitor.at(self.cycle)
        return self.monitor

    def rest(self):
        """So long that whatever is due is late."""
        self.later(LIMIT + 1)

    def config(self, offset, dw):
        """Somebody reads configuration space."""
        self.tag += 1
        self.later().host_read(None, offset, 4, self.tag)
        self.later().host_answer(self.tag, 0, 4, dw)

    def config_write(self, offset, value, size=2):
        self.later().config_write(offset, value.to_bytes(size, "little"))

    def config_done(self, offset, value, size=2):
        """The same, and the device completes the write."""
        self.config_write(offset, value, size)
        self.tag += 1
        self.monitor.host_read(None, offset, 0, self.tag)
        self.later().host_answer(self.tag, 0, 4, b"")

    def switch_on(self):
        self.config_write(Cfg.BAR0, BAR, 4)
        self.config_write(Cfg.COMMAND, 1 << Command.MEMORY_ENABLE | 1 << Command.BUS_MASTER)
        for vector in range(4):
            self.reg_write(MSIX_TABLE_OFFSET + 16 * vector, struct.pack("<QII", MESSAGE_AT, vector, 0))
        self.config_write(MSIX_AT + MsixCap.CONTROL, 0x8000 if self.msix else 0)

    def reg_write(self, offset, raw):
        self.later().host_write(BAR + offset, raw)

    def reg_read(self, offset, raw):
        self.tag += 1
        self.later().host_read(BAR + offset, BAR + offset, len(raw), self.tag)
        self.later().host_answer(self.tag, 0, len(raw), raw)

    def common(self, offset, size, value):
        self.reg_write(COMMON_OFFSET + offset, value.to_bytes(size, "little"))

    def status(self, value):
        self.common(Common.DEVICE_STATUS, 1, int(value))

    def status_is(self, value):
        self.reg_read(COMMON_OFFSET + Common.DEVICE_STATUS, bytes([value]))

    def negotiate(self):
        self.status(0)
        self.status_is(0)
        for word in range(2):
            self.common(Common.DRIVER_FEATURE_SELECT, 4, word)
            self.common(Common.DRIVER_FEATURE, 4, sum(1 << bit - 32 * word for bit in self.features if bit // 32 == word))
        self.status(LIVE & ~Status.DRIVER_OK)
        self.common(Common.CONFIG_MSIX_VECTOR, 2, self.vectors[None])

    def enable(self, index):
        self.common(Common.QUEUE_SELECT, 2, index)
        self.common(Common.QUEUE_SIZE, 2, self.size)
        if index in self.vectors:
            self.common(Common.QUEUE_MSIX_VECTOR, 2, self.vectors[index])
        areas = {Common.QUEUE_DESC: self.DESC, Common.QUEUE_DRIVER: self.DRIVER, Common.QUEUE_DEVICE: self.DEVICE}
        for offset, area in areas.items():
            at = RINGS + STRIDE * index + area
            self.common(offset, 4, at & 0xffff_ffff)
            self.common(offset + 4, 4, at >> 32)
        self.common(Common.QUEUE_ENABLE, 2, 1)

    def reset_queue(self, index):
        self.common(Common.QUEUE_SELECT, 2, index)
        self.common(Common.QUEUE_RESET, 2, 1)

    def reset_is_done(self):
        self.reg_read(COMMON_OFFSET + Common.QUEUE_RESET, bytes(2))

    def flr(self):
        self.config_write(EXP_AT + Exp.DEV_CTL, 0x8000)

    # The card

    def read(self, at, data):
        """The card reads, and is answered."""
        self.tag = self.tag % 200 + 1
        self.later().dma_read(at, len(data), self.tag)
        self.later().dma_answer(self.tag, 0, len(data), bytes(data))

    def write(self, at, data):
        self.later().dma_write(at, bytes(data))

    def message(self, vector):
        self.write(MESSAGE_AT, vector.to_bytes(4, "little"))

    def intx(self, level):
        self.later().message(0x20 if level else 0x24)

    def isr(self, value):
        self.reg_read(ISR_OFFSET, bytes([value]))

    # The verdict

    def violations(self):
        found = [violation.row for violation in self.monitor.violations]
        self.monitor.violations.clear()
        return found

    def observed(self, row):
        return self.monitor.observed[row]


class SplitScript(Script):
    """The same with what a split ring needs; all of queue ``queue``."""
    def __init__(self, *features, queue=0, begins=True, **options):
        super().__init__(*features, **options)
        self.base = RINGS + STRIDE * queue
        self.used_at = self.base + self.DEVICE
        self.event_at = self.base + self.DRIVER + (4 + 2 * self.size if self.event_idx else 0)
        self.avail = self.used = 0
        if begins and options.get("live", True):
            self.begin()

    def begin(self):
        """The card looks at the queue for the first time."""
        self.write(self.used_at, bytes(4))

    def available(self, *heads):
        """The card reads the index and then the entries."""
        first, self.avail = self.avail, self.avail + len(heads)
        self.read(self.base + self.DRIVER + 2, struct.pack("<H", self.avail & 0xffff))
        for k, head in enumerate(heads, first):
            self.read(self.base + self.DRIVER + 4 + 2 * (k % self.size), struct.pack("<H", head))

    def descriptor(self, index, addr, length, flags=0, following=0):
        self.read(self.base + 16 * index, struct.pack("<QIHH", addr, length, flags, following))

    def element(self, id, length=0, at=None):
        slot = (self.used if at is None else at) % self.size
        self.write(self.used_at + 4 + 8 * slot, struct.pack("<II", id, length))

    def index(self, value):
        self.used = value
        self.write(self.used_at + 2, struct.pack("<H", value & 0xffff))

    def use(self, id, length=0):
        self.element(id, length)
        self.index(self.used + 1)

    def wish(self, word):
        """The card looks whether the driver wants to be told."""
        self.read(self.event_at, struct.pack("<H", word & 0xffff))

    def chain(self, head, *pieces):
        """A chain of ``(addr, length, flags)`` in descriptors from ``head`` on is available, and the card has read it."""
        self.available(head)
        for k, (addr, length, flags) in enumerate(pieces):
            more = k + 1 < len(pieces)
            self.descriptor(head + k, addr, length, flags | (NEXT if more else 0), head + k + 1 if more else 0)


class PackedScript(Script):
    """The same with what a packed ring needs."""
    def __init__(self, *features, queue=0, begins=True, **options):
        super().__init__(VIRTIO_F_RING_PACKED, *features, **options)
        self.base = RINGS + STRIDE * queue
        self.avail = self.used = 0
        if begins and options.get("live", True):
            self.event(0)

    def flags(self, place, used=False):
        wrap = not place // self.size % 2
        return (AVAIL if wrap else 0) | (USED if wrap == used else 0)

    def descriptor(self, addr, length, id=0, flags=0, place=None):
        """The card reads an available descriptor: the next one, unless a place is given."""
        if place is None:
            place, self.avail = self.avail, self.avail + 1
        self.read(self.base + 16 * (place % self.size), struct.pack("<QIHH", addr, length, id, flags | self.flags(place)))

    def use(self, id, length=None, count=1, place=None):
        """The card writes a used descriptor at the place that is next, for a list of ``count``; with ``length``, it has
        written."""
        if place is None:
            place, self.used = self.used, self.used + count
        self.write(self.base + 16 * (place % self.size), struct.pack(
            "<QIHH", (1 << 64) - 1, length or 0, id, self.flags(place, True) | (WRITE if length is not None else 0)))

    def wish(self, flags, offset=0, wrap=0):
        self.read(self.base + self.DRIVER, struct.pack("<I", flags << 16 | wrap << 15 | offset))

    def event(self, flags, offset=0, wrap=0):
        """The card says when it wants to be notified."""
        self.write(self.base + self.DEVICE, struct.pack("<I", flags << 16 | wrap << 15 | offset))


@pytest.fixture
def card():
    return Script


@pytest.fixture
def split():
    return SplitScript


@pytest.fixture
def packed():
    return PackedScript
