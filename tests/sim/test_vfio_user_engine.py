"""The Verilated card through its vfio-user socket: the golden driver on a bus of messages, resets, reboots, hostile registers."""

from contextlib import closing
import gc
import os
import select
import struct
import time

import pytest

from ringnic.hdl.spec.pcie import CapId, Cfg, MsixCap
from ringnic.hdl.spec.virtio import Status
from ringnic.host.driver import VirtioNet
from ringnic.sim.engine.engine import Engine, Link
from ringnic.sim.vfio_user.server import EngineDevice, Server

from ..kit.vfio_user import CONFIG, DMA_UNMAP, INTX, MSIX, NO_REPLY, PAGE, PATIENCE, SET_IRQS, VfioUserBus

FRAMES = [bytes([k]) * (60 + 97 * k) for k in range(15)]


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
