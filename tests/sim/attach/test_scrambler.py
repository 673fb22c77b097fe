"""Somebody else's endpoint, in Verilog, behind the vfio-user socket: its BARs, its DMA, its three kinds of interrupts."""

from contextlib import closing, contextmanager
import os
from pathlib import Path
import select
import struct

import pytest

from ringnic.sim.attach.endpoint import amaranth_design, verilog_design
from ringnic.sim.engine.engine import Engine, Link
from ringnic.sim.vfio_user.server import EngineDevice, Server

from ...kit.vfio_user import INTX, MSI, MSIX, PATIENCE, SET_IRQS, VfioUserBus

SOURCE = Path(__file__).with_name("scrambler.v")
KEY = 0x1122_3344
COMMAND, BAR0, MSI_CAP, MSIX_CAP = 0x04, 0x10, 0x40, 0x50
PLACES = {0: 0xfe00_0000, 2: 0x8_0000_0000, 4: 0xc000}
SRC, DST, DWS, GO, DONE, KEY_REGISTER = 0, 8, 16, 20, 24, 28
ALL_SPACES = 7
ONES = 0xffff_ffff


@contextmanager
def served(endpoint, path):
    """Serve it at ``path``; it broke no rule of PCI Express."""
    with Engine(nic=endpoint.design, link=Link(mps=128, jitter_ns=100, split=2, seed=1)) as engine:
        engine.reset()
        engine.start()
        with Server(path, EngineDevice(engine)):
            yield engine
        assert not engine.violations()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("attach") / "s")


@pytest.fixture(scope="module")
def engine(path):
    with served(verilog_design([SOURCE], "scrambler", parameters=[("WIDTH", 64), ("KEY", KEY)]), path) as engine:
        yield engine


@pytest.fixture
def bus(engine, path):
    with closing(VfioUserBus(path)) as bus:
        for index, place in PLACES.items():
            bus.config_write(BAR0 + 4 * index, 4, place & ONES)
        bus.config_write(BAR0 + 12, 4, PLACES[2] >> 32)
        bus.config_write(COMMAND, 2, ALL_SPACES)
        yield bus


def event():
    return os.eventfd(0, os.EFD_NONBLOCK)


def count(fd, timeout=0.05):
    return os.eventfd_read(fd) if select.select([fd], [], [], timeout)[0] else 0


def start(bus, dws, vector=0):
    """Have so many DWs copied; return where from and where to, as lists of numbers."""
    source, target = bus.alloc(64), bus.alloc(64)
    source.view[:64] = bytes(range(64))
    for register, value in ((SRC, source.iova), (DST, target.iova)):
        bus.bar_write(0, register, 4, value & ONES)
        bus.bar_write(0, register + 4, 4, value >> 32)
    bus.bar_write(0, DWS, 4, dws)
    bus.bar_write(0, GO, 4, vector)
    return source, target


def scrambled(source, dws):
    return b"".join(struct.pack("<I", value ^ KEY) for value, in struct.iter_unpack("<I", source.view[:4 * dws]))


def test_what_it_has(bus):
    assert [bus.region_size(k) for k in range(9)] == [4096, 0, 16384, 0, 16, 0, 0, 4096, 0]
    assert [bus.irq_count(k) for k in range(5)] == [1, 2, 2, 1, 1]
    assert bus.config_read(0, 4) == 0x5c4a_1234


def test_bars_of_every_kind(bus):
    assert bus.bar_read(0, KEY_REGISTER, 4) == KEY
    bus.bar_write(2, 0x3ffc, 4, 0x0403_0201)
    bus.bar_write(2, 0x3ffd, 1, 0xaa)
    assert bus.bar_read(2, 0x3ffc, 4) == 0x0403_aa01 and bus.bar_read(2, 0x3ffe, 2) == 0x0403
    bus.bar_write(4, 8, 2, 0x1234)
    assert bus.bar_read(4, 8, 4) == 0x1234 and bus.bar_read(0, DST, 4) == 0x1234


def test_bars_move_and_are_switched_off(engine, bus):
    bus.bar_write(2, 0, 4, 77)
    bus.config_write(BAR0 + 12, 4, 0x12)
    assert bus.bar_read(2, 0, 4) == 77
    for command, answers in ((6, (True, True, False)), (5, (False, False, True)), (4, (False, False, False))):
        bus.config_write(COMMAND, 2, command)
        before = engine.stats()
        assert tuple(bus.bar_read(bar, 8, 4) != ONES for bar in (0, 2, 4)) == answers
        asked = sum(engine.stats()[name] - before[name] for name in ("mrd_down", "cfg_down"))
        assert asked == sum(answers), "what is switched off is not asked"


@pytest.mark.parametrize("dws", [1, 2, 5, 15, 16])
def test_dma_and_msix(bus, dws):
    fds = [event(), event()]
    bus.irqs(MSIX, fds)
    bus.config_write(MSIX_CAP + 2, 2, 0x8000)
    for vector in (1, 0):
        source, target = start(bus, dws, vector)
        assert count(fds[vector], PATIENCE) == 1 and count(fds[1 - vector], 0) == 0
        assert target.view[:64] == scrambled(source, dws) + bytes(64 - 4 * dws)


def test_vector_without_a_listener_waits(bus):
    fds = [event(), event()]
    bus.irqs(MSIX, fds)
    bus.config_write(MSIX_CAP + 2, 2, 0x8000)
    bus.call(SET_IRQS, struct.pack("<IIIII", 20, 36, MSIX, 1, 1))
    start(bus, 4, 1)
    assert count(fds[1]) == 0
    bus.irqs(MSIX, fds)
    assert count(fds[1], PATIENCE) == 1


@pytest.mark.parametrize("messages", [0, 1], ids=["one message", "two messages"])
def test_msi(bus, messages):
    """As a guest's kernel sets it up; what it has written there is for its own interrupt controller."""
    fds = [event(), event()]
    bus.config_write(MSI_CAP + 4, 4, 0x0809_0040)
    bus.config_write(MSI_CAP + 8, 4, 1)
    bus.config_write(MSI_CAP + 12, 2, 0x4021)
    bus.config_write(MSI_CAP + 2, 2, 1 | messages << 4)
    bus.irqs(MSI, fds[:1 + messages])
    assert [bus.config_read(MSI_CAP + at, size) for at, size in ((4, 4), (8, 4), (12, 2))] == [0x0809_0040, 1, 0x4021]
    for vector in (0, 1):
        source, target = start(bus, 16, vector)
        assert count(fds[vector & messages], PATIENCE) == 1 and count(fds[1 - (vector & messages)], 0) == 0
        assert target.view[:64] == scrambled(source, 16)


def test_pin_interrupt(bus):
    fd = event()
    bus.irqs(INTX, [fd])
    start(bus, 4)
    assert count(fd, PATIENCE) == 1
    bus.call(SET_IRQS, struct.pack("<IIIII", 20, 17, INTX, 0, 1))
    assert count(fd, PATIENCE) == 1                         # nobody has cleared it
    assert bus.config_read(COMMAND + 2, 2) & 8              # Interrupt Status
    bus.bar_write(0, DONE, 4, 1)
    assert bus.bar_read(0, DONE, 4) == 0
    bus.call(SET_IRQS, struct.pack("<IIIII", 20, 17, INTX, 0, 1))
    assert count(fd) == 0


def test_next_client_finds_a_reset_device(path, bus):
    bus.bar_write(0, SRC, 4, 99)
    bus.close()
    with closing(VfioUserBus(path)) as again:
        again.events = []
        assert again.config_read(COMMAND, 2) == 0
        again.config_write(BAR0, 4, PLACES[0])
        again.config_write(COMMAND, 2, 2)
        assert again.bar_read(0, SRC, 4) == 0 and again.bar_read(0, KEY_REGISTER, 4) == KEY
    bus.ram = event()                                       # closed with it, again


@pytest.mark.parametrize("width", [32, 256])
def test_streams_of_other_widths(width, tmp_path):
    path = str(tmp_path / "s")
    with served(verilog_design([SOURCE], "scrambler", parameters=[("WIDTH", width), ("KEY", KEY)]), path), \
            closing(VfioUserBus(path)) as bus:
        bus.config_write(BAR0, 4, PLACES[0])
        bus.config_write(COMMAND, 2, ALL_SPACES)
        fd = event()
        bus.irqs(INTX, [fd])
        source, target = start(bus, 16)
        assert count(fd, PATIENCE) == 1 and target.view[:64] == scrambled(source, 16)


def test_component_in_amaranth(tmp_path):
    """One that has further inputs, and its MSI-X table elsewhere."""
    path = str(tmp_path / "s")
    endpoint = amaranth_design("ringnic.hdl.rng:RingRNG", parameters=[("width", 128)])
    assert endpoint.design.width == 128 and not endpoint.never_idle
    with served(endpoint, path), closing(VfioUserBus(path)) as bus:
        assert bus.config_read(0, 4) == 0x1044_1af4
        assert [bus.region_size(k) for k in range(2)] == [0x8000, 0] and bus.irq_count(MSIX) == 2 and bus.irq_count(MSI) == 0
