"""Looks at registers: through the mapped BAR, and through the function's own window, that of the golden model."""

from types import SimpleNamespace
import fcntl
import os
import struct

import pytest

from ringnic.hdl.spec.bar import COUNTERS_MAGIC, COUNTERS_OFFSET
from ringnic.host.slot.window import Config, Unreadable, bar_0, build_id, offered_features
from ringnic.sim.golden import GoldenNet

CARD = "0000:01:00.0"
AT = f"/sys/bus/pci/devices/{CARD}"
BUILD = 0x1a2b3c4d


def with_memory(config, on):
    config[4] = 2 if on else 0
    return bytes(config)


@pytest.fixture
def golden(machine, monkeypatch):
    """A golden card whose configuration space is the file; its BAR cannot be mapped, as while a driver has it."""
    device = GoldenNet(queue_pairs=2)
    device.accesses = []
    access = device._access

    def noted(offset, size, value=None):
        device.accesses.append((offset, size, value))
        return BUILD if offset == COUNTERS_OFFSET + 8 else access(offset, size, value)
    monkeypatch.setattr(device, "_access", noted)
    device.config_write(4, 2, 2)

    def pread(fd, size, at):
        return device.config_read(at, size).to_bytes(size, "little")

    def pwrite(fd, data, at):
        device.config_write(at, len(data), int.from_bytes(data, "little"))
    monkeypatch.setattr("ringnic.host.slot.window.os", SimpleNamespace(
        open=os.open, close=os.close, O_RDONLY=os.O_RDONLY, O_CLOEXEC=os.O_CLOEXEC, pread=pread, pwrite=pwrite))
    device.card = machine.add(config=b"".join(device.config_read(at, 1).to_bytes(1, "little") for at in range(256)))
    machine.path(f"{AT}/resource0").unlink()
    return device


def map_bar(machine, words):
    page = bytearray(0x8000)
    for offset, value in words.items():
        struct.pack_into("<I", page, offset, value)
    machine.put(f"{AT}/resource0", page)


@pytest.fixture
def mapped(machine, config_space):
    card = machine.add(config=with_memory(config_space(), True))
    map_bar(machine, {0x6000: COUNTERS_MAGIC, 0x6008: 0xdeadbeef})
    return card


def test_configuration_space(machine, config_space):
    config = Config(machine.add(config=config_space(vectors=33)))
    assert config.complete and config.msix_vectors() == 33
    assert [cap for _, cap in config.capabilities()] == [0x10, 0x11, 9, 9, 9, 9, 9]
    assert config.virtio(1) == (0x90, 0, 0) and config.virtio(3) == (0xb8, 0, 0x1000) and config.virtio(6) is None


def test_without_root_there_are_64_bytes(machine, config_space):
    config = Config(machine.add(config=config_space()[:64]))
    assert not config.complete and config.msix_vectors() is None and config.capabilities() == []
    with pytest.raises(Unreadable, match="^needs root$"):
        with config.window():
            pass


def test_a_list_that_loops_and_one_that_is_not_there(machine, config_space):
    space = config_space()
    space[0x81] = 0x40
    assert [at for at, _ in Config(machine.add(config=space)).capabilities()] == [0x40, 0x80]
    space[6] = 0
    machine.put(f"{AT}/config", space)
    assert Config(machine.function(CARD)).msix_vectors() == 0
    machine.path(f"{AT}/config").unlink()
    assert Config(machine.function(CARD)).msix_vectors() is None


def test_a_mapped_bar(machine, mapped):
    assert build_id(mapped) == 0xdeadbeef
    with bar_0(mapped) as read:
        assert read(0x6000) == COUNTERS_MAGIC and read(0) == 0
    map_bar(machine, {0x6008: 1})
    assert build_id(mapped) is None


@pytest.mark.parametrize("resource", [
    "0xfe800000 0xfe803fff 0x40200", "0xfe800000 0xfe80ffff 0x40200", "0xc000 0x13fff 0x40101", "0x0 0x0 0x0", ""])
def test_another_card_is_not_touched(machine, mapped, resource):
    machine.put(f"{AT}/resource", resource)
    machine.path(f"{AT}/resource0").unlink()
    machine.path(f"{AT}/config").unlink()
    assert build_id(mapped) is None


def test_the_window_serves_where_the_kernel_keeps_the_bar_to_the_driver(golden):
    assert build_id(golden.card) == BUILD
    assert golden.accesses == [(0x6000, 4, None), (0x6008, 4, None)]


def test_and_where_memory_is_not_decoded(machine, golden):
    map_bar(machine, {0x6000: 0xffff_ffff})
    machine.put(f"{AT}/config", with_memory(bytearray(machine.path(f"{AT}/config").read_bytes()), False))
    assert build_id(golden.card) == BUILD


def test_a_locked_down_kernel(golden, monkeypatch):
    def refuse(fd, data, at):
        raise PermissionError(1, "Operation not permitted")
    monkeypatch.setattr("ringnic.host.slot.window.os.pwrite", refuse)
    with pytest.raises(Unreadable, match="^Operation not permitted$"):
        build_id(golden.card)


def test_but_not_beside_a_guest(machine, golden):
    machine.load_vfio()
    machine.detach(CARD)
    machine.attach(CARD, "vfio-pci")
    with pytest.raises(Unreadable, match="^in use by vfio-pci$"):
        build_id(golden.card)
    assert golden.accesses == []


def test_a_sleeping_card_is_not_woken(machine, mapped):
    machine.put(f"{AT}/power_state", "D3hot")
    with pytest.raises(Unreadable, match=r"^asleep \(D3hot\)$"):
        build_id(mapped)


def test_offered_features(golden):
    """No status is written, no queue touched, no driver feature."""
    assert offered_features(golden.card) == golden.offered
    assert golden.accesses == [access for word in range(4) for access in ((0, 4, word), (4, 4, None))]
    for at in range(0, 256, 4):  # who reads all of configuration space meets no register
        golden.config_read(at, 4)
    assert len(golden.accesses) == 8


def test_a_card_without_a_window(machine, config_space):
    space = config_space()
    space[0x90 + 3 * 20 + 1] = 0  # the list ends before it
    card = machine.add(config=space)
    with pytest.raises(Unreadable, match="^it has no window into its BARs$"):
        offered_features(card)


def test_one_look_at_a_time_and_nothing_left_of_it(golden):
    """Whatever ends it."""
    with pytest.raises(KeyboardInterrupt), Config(golden.card).window() as window:
        window.read(0, 0x6000)
        with open(golden.card.machine.path(f"{AT}/config"), "rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise KeyboardInterrupt
    seen = len(golden.accesses)
    for at in range(0, 256, 4):
        golden.config_read(at, 4)
    assert len(golden.accesses) == seen == 1
