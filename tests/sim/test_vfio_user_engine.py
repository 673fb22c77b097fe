"""The Verilated card through its vfio-user socket: the golden driver on a bus of messages, resets, reboots, hostile registers."""

import array
from contextlib import closing
import gc
import mmap
import os
import select
import socket
import struct
import time

import pytest

from ringnic.hdl.spec.pcie import CapId, Cfg, MsixCap
from ringnic.hdl.spec.virtio import Status
from ringnic.host.bus import Bus, DmaBuffer
from ringnic.host.driver import VirtioNet
from ringnic.sim.engine.engine import Engine, Link
from ringnic.sim.vfio_user.server import EngineDevice, Server

HEADER = struct.Struct("<HHIII")
VERSION, DMA_MAP, DMA_UNMAP, SET_IRQS, READ, WRITE, RESET = 1, 2, 3, 8, 9, 10, 13
NO_REPLY = 16
CONFIG, MSIX, INTX = 7, 2, 0
RAM = 16 << 20
BAR_WINDOW = 0xfe00_0000
PAGE = 4096
PATIENCE = 120  # seconds: whatever takes longer hangs
FRAMES = [bytes([k]) * (60 + 97 * k) for k in range(15)]


class VfioUserBus(Bus):
    """What QEMU is to its guest: one file of memory, a window of bus addresses on it, eventfds for vectors."""
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.ident = 0
        self.ram = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.ram, RAM)
        self.view = memoryview(mmap.mmap(self.ram, RAM))
        self.events = []
        self.power_on()
        self.call(VERSION, struct.pack("<HH", 0, 0) + b"{}\0")

    def power_on(self):
        """Forget all memory, as firmware does when a guest boots."""
        self.used, self.iova = 0, 1 << 32
        self.maps = {}

    def close(self):
        self.socket.close()
        for fd in [self.ram, *self.events]:
            os.close(fd)

    def call(self, command, body=b"", fds=(), flags=0):
        self.ident = self.ident + 1 & 0xffff
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([HEADER.pack(self.ident, command, HEADER.size + len(body), flags, 0) + body], rights)
        if flags & NO_REPLY:
            return None
        ident, answered, size, flags, error = HEADER.unpack(self._exactly(HEADER.size))
        body = self._exactly(size - HEADER.size)
        assert (ident, answered) == (self.ident, command)
        if error:
            raise OSError(error, "Refused")
        return body

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "the server has closed the connection"
            data += part
        return data

    def read(self, region, offset, size):
        return int.from_bytes(self.call(READ, struct.pack("<QII", offset, region, size))[16:], "little")

    def write(self, region, offset, size, value, flags=0):
        self.call(WRITE, struct.pack("<QII", offset, region, size) + value.to_bytes(size, "little"), flags=flags)

    def config_read(self, offset, size):
        return self.read(CONFIG, offset, size)

    def config_write(self, offset, size, value):
        self.write(CONFIG, offset, size, value)

    def bar_read(self, bar, offset, size):
        return self.read(bar, offset, size)

    def bar_write(self, bar, offset, size, value):
        self.write(bar, offset, size, value, NO_REPLY)  # as QEMU posts them

    def place_bar(self, bar, size):
        return BAR_WINDOW

    def alloc(self, size, align=4096):
        room = -(-size // PAGE) * PAGE
        offset, self.used = self.used, self.used + room
        self.iova = self.iova + align - 1 & -align
        iova, self.iova = self.iova, self.iova + room + PAGE
        self.view[offset:offset + room] = bytes(room)
        self.call(DMA_MAP, struct.pack("<IIQQQ", 32, 3, offset, iova, room), [self.ram])
        self.maps[iova] = room
        return DmaBuffer(iova, self.view[offset:offset + size], self._free)

    def _free(self, buffer):
        self.call(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, buffer.iova, self.maps.pop(buffer.iova)))

    def irqs(self, index, fds):
        """Listen with these, or let nobody listen."""
        flags = 36 if fds else 33
        self.call(SET_IRQS, struct.pack("<IIIII", 20, flags, index, 0, len(fds)), fds)

    def enable_msix(self, vectors):
        while len(self.events) < vectors:
            self.events.append(os.eventfd(0, os.EFD_NONBLOCK))
        self.irqs(MSIX, self.events[:vectors])
        at = self.config_read(Cfg.CAP_POINTER, 1)
        while self.config_read(at, 1) != CapId.MSIX:
            at = self.config_read(at + 1, 1)
        self.config_write(at + MsixCap.CONTROL, 2, 0x8000)

    def poll_irq(self):
        return self._taken(0)

    def wait_irq(self, timeout=1.0):
        return self._taken(timeout)

    def _taken(self, timeout):
        ready, _, _ = select.select(self.events, [], [], timeout)
        for fd in ready:
            os.eventfd_read(fd)
        return {self.events.index(fd) for fd in ready}

    def reset(self):
        self.call(RESET)


def open_fds():
    gc.collect()  # a mapping holds a descriptor, a driver its mapping
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="module")
def engine():
    with Engine(width=64, link=Link(jitter_ns=100, seed=1)) as engine:
        engine.start()
        yield engine


@pytest.fixture
def path(engine, tmp_path):
    path = str(tmp_path / "s")
    before = open_fds()
    with Server(path, EngineDevice(engine)):
        yield path
    assert open_fds() == before
    assert not engine.violations()
    while engine.recv_frame() is not None:
        pass


def until(done, what):
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.0005)


def traffic(engine, bus, net):
    """Frames both ways, each direction announced by its vector."""
    assert net.transport.status & Status.DRIVER_OK
    got = []

    def sent():
        while (frame := engine.recv_frame()) is not None:
            got.append(frame)
        return len(got) >= len(FRAMES)
    bus.poll_irq()
    net.tx.enable_cb()
    for frame in FRAMES:
        net.send(frame)
    until(sent, "frames on the wire")
    assert got == FRAMES
    vectors = set()
    until(lambda: vectors.update(bus.wait_irq()) or 2 in vectors, "interrupt of the transmit queue")
    until(lambda: net.reclaim() or not net.tx.num_pending, "transmit buffers")

    got.clear()
    net.rx.enable_cb()
    for frame in FRAMES:
        assert engine.send_frame(frame)
    until(lambda: vectors.update(bus.wait_irq()) or 1 in vectors, "interrupt of the receive queue")
    until(lambda: got.extend(net.receive()) or len(got) >= len(FRAMES), "frames received")
    assert got == FRAMES


def test_driver_over_messages(engine, path):
    with closing(VfioUserBus(path)) as bus:
        net = VirtioNet.open(bus)
        assert net.mac == bytes.fromhex("525400524e01") and net.link_up
        traffic(engine, bus, net)
        net.reset()
        net.restart()
        traffic(engine, bus, net)
        net.flr()                      # DEVICE_RESET
        net.restart()
        traffic(engine, bus, net)


def test_flr_through_configuration_space(engine, path):
    """The BAR stays where it was: QEMU answers for it, so a host that restores it after the reset sees nothing to restore."""
    with closing(VfioUserBus(path)) as bus:
        net = VirtioNet.open(bus)
        at = net.transport.function.find(CapId.EXP) + 8
        for size, offset in ((2, 0), (1, 1), (4, 0)):
            bar, before = bus.config_read(Cfg.BAR0, 4), bus.config_read(at + offset, size)
            bus.config_write(at + offset, size, before | 1 << 15 - 8 * offset)
            assert bus.config_read(Cfg.COMMAND, 2) & 6 == 0 and bus.config_read(Cfg.BAR0, 4) == bar
            net.transport.function.enable()
            net.transport.forget()
            net._release()
            net.restart()
            traffic(engine, bus, net)


def test_guest_reboots(engine, path):
    """As QEMU does it: two resets, BARs written 0, memory taken away and lent again."""
    with closing(VfioUserBus(path)) as bus:
        for _ in range(3):
            net = VirtioNet.open(bus)
            traffic(engine, bus, net)
            for frame in FRAMES:
                net.send(frame)        # and dies with these under way
            bus.reset()
            bus.reset()
            bus.irqs(MSIX, [])
            for bar in range(6):
                bus.config_write(Cfg.BAR0 + 4 * bar, 4, 0)
            for iova, size in bus.maps.items():
                bus.call(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, iova, size))
            bus.power_on()
            assert bus.bar_read(0, 0, 4) == 0xffff_ffff
            while engine.recv_frame() is not None:
                pass


def test_next_client_after_one_that_died_under_load(engine, path):
    for _ in range(3):
        with closing(VfioUserBus(path)) as bus:
            net = VirtioNet.open(bus)
            traffic(engine, bus, net)
            for frame in FRAMES:
                net.send(frame)
                engine.send_frame(frame)
        # Whatever of it still came out is not the next one's.
        with closing(VfioUserBus(path)) as bus:
            bus.config_read(0, 4)      # answered when the last one is forgotten
        while engine.recv_frame() is not None:
            pass


def test_memory_that_is_taken_away_is_not_touched(engine, path):
    with closing(VfioUserBus(path)) as bus:
        net = VirtioNet.open(bus)
        traffic(engine, bus, net)
        engine.dma_faults()
        iova, size = net.rx_memory.iova, bus.maps[net.rx_memory.iova]
        bus.call(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, iova, size))
        net.rx_memory.view[:] = bytes(len(net.rx_memory))
        for frame in FRAMES:
            engine.send_frame(frame)
        until(lambda: engine.dma_faults(), "the card to miss its memory")
        assert not any(net.rx_memory.view)
        assert net.transport.status != 0xff
        bus.maps.pop(iova)


def test_interrupt_nobody_listens_to_is_pending(engine, path):
    with closing(VfioUserBus(path)) as bus:
        net = VirtioNet.open(bus)
        traffic(engine, bus, net)
        pending = net.transport.function.find(CapId.MSIX) + MsixCap.PBA
        pending = bus.config_read(pending, 4) & ~7
        bus.irqs(MSIX, bus.events[:1])
        bus.call(SET_IRQS, struct.pack("<IIIII", 20, 36, MSIX, 1, 2))  # receive and transmit: nobody
        net.rx.enable_cb()
        engine.send_frame(FRAMES[1])
        until(lambda: bus.bar_read(0, pending, 4) == 2, "a pending bit")
        assert not bus.poll_irq()
        bus.irqs(MSIX, bus.events[:3])
        assert bus.wait_irq(PATIENCE) == {1} and bus.bar_read(0, pending, 4) == 0
        assert net.receive() == [FRAMES[1]]


def test_pin_interrupt(engine, path):
    with closing(VfioUserBus(path)) as bus:
        net = VirtioNet.open(bus)
        net.transport.function.disable_msix()
        bus.irqs(MSIX, [])
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        bus.irqs(INTX, [fd])
        isr = net.transport.function.structures[3].offset
        for _ in range(3):
            net.rx.enable_cb()
            engine.send_frame(FRAMES[0])
            assert select.select([fd], [], [], PATIENCE)[0] and os.eventfd_read(fd) == 1
            assert bus.bar_read(0, isr, 1) & 1
            got = []
            until(lambda: got.extend(net.receive()) or got, "the frame")
            bus.call(SET_IRQS, struct.pack("<IIIII", 20, 17, INTX, 0, 1))  # the guest is done
        assert not select.select([fd], [], [], 0.02)[0]
        bus.irqs(INTX, [])
        os.close(fd)


def test_registers_written_at_random(engine, path, rng):
    """Anything in configuration space and BAR: no answer is missing, and after a reset the card is as good as new."""
    for _ in range(4):
        with closing(VfioUserBus(path)) as bus:
            net = VirtioNet.open(bus)
            for _ in range(300):
                region, room = rng.choice([(CONFIG, 0x100), (CONFIG, PAGE), (0, 0x100), (0, 0x8000)])
                size = rng.choice([1, 2, 4])
                offset = rng.randrange(room // size) * size
                if rng.random() < 0.3:
                    bus.read(region, offset, size)
                else:
                    value = rng.choice([0, 1, (1 << 8 * size) - 1, rng.getrandbits(8 * size)])
                    bus.write(region, offset, size, value, rng.choice([0, NO_REPLY]))
            bus.reset()
            bus.power_on()
            for bar in range(6):
                bus.config_write(Cfg.BAR0 + 4 * bar, 4, 0)
            while engine.recv_frame() is not None:
                pass
            bus.call(DMA_UNMAP, struct.pack("<IIQQ", 24, 2, 0, 0))
            traffic(engine, bus, VirtioNet.open(bus))
