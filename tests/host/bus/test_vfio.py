"""The bus over VFIO: the whole golden driver on a kernel that keeps to the user API."""

import errno
import mmap
import os
import resource

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, COUNTERS_OFFSET
from ringnic.hdl.spec.pcie import Cfg
from ringnic.hdl.spec.virtio import VIRTIO_F_RING_PACKED
from ringnic.host.bus import vfio
from ringnic.host.bus.vfio import Iovas, VfioBus, VfioError
from ringnic.host.driver import PciFunction, VirtioNet
from ringnic.host.driver.net import FEATURES

FRAMES = [bytes([k]) * (60 + 300 * k) for k in range(5)]
GIB = 1 << 30


@pytest.fixture(params=["group", "iommufd"])
def interface(request, kernel):
    if request.param == "iommufd":
        kernel.with_iommufd()
    return request.param


@pytest.fixture
def bus(kernel, bdf, interface):
    with VfioBus(bdf, kernel=kernel) as bus:
        yield bus


def exchange(kernel, net):
    """Frames pass in both directions, and tell of themselves."""
    bus = net.bus
    bus.poll_irq()
    assert net.tx.enable_cb() and net.rx.enable_cb()
    for frame in FRAMES:
        net.send(frame)
    assert kernel.device.sent == FRAMES
    kernel.device.sent.clear()
    assert bus.wait_irq() == {2} and bus.poll_irq() == set()
    for frame in FRAMES:
        kernel.receive(frame)
    assert bus.wait_irq() == {1}
    assert net.receive() == FRAMES


@pytest.mark.parametrize("ring", [frozenset(), {VIRTIO_F_RING_PACKED}], ids=["split", "packed"])
def test_the_driver_drives_the_card(kernel, bus, ring, interface):
    net = VirtioNet.open(bus, FEATURES - {VIRTIO_F_RING_PACKED} | ring, pairs=2)
    exchange(kernel, net)
    assert net.counters()["tx_frames"] == len(FRAMES)
    for reset in (net.reset, net.flr):
        reset()
        assert not bus.buffers and not kernel.mapped
        net.restart()
        exchange(kernel, net)
    assert (0x3b76 in kernel.asked) == (interface == "iommufd")


def test_an_interface_can_be_asked_for(kernel, bdf):
    kernel.with_iommufd()
    with VfioBus(bdf, interface="group", kernel=kernel):
        assert 0x3b6a in kernel.asked and 0x3b76 not in kernel.asked


def test_flr_is_a_reset_of_the_card(kernel, bus):
    """The kernel keeps what it has of configuration; MSI-X is off, and memory is still mapped."""
    net = VirtioNet.open(bus)
    assert kernel.device.msix_enabled
    bus.reset()
    assert kernel.device.status == 0 and not kernel.device.msix_enabled
    assert net.rx_memory.iova in kernel.mapped
    assert bus.config_read(Cfg.COMMAND, 2) & 6 == 6


def test_msix_enable_is_the_kernels(kernel, bus):
    net = VirtioNet.open(bus)
    assert len(kernel._eventfds) == 6
    net.transport.function.disable_msix()
    assert not kernel.device.msix_enabled and bus.poll_irq() == set()
    net.transport.function.enable_msix(2)
    assert len(kernel._eventfds) == 2


def test_vectors_are_set_up_once(kernel, bus):
    for _ in range(3):
        VirtioNet.open(bus).reset()
    assert kernel.asked.count(0x3b6e) == 1


def test_too_many_vectors(kernel, bus):
    with pytest.raises(VfioError, match="0000:01:00.0 has 6 MSI-X vectors, not 7"):
        bus.enable_msix(7)
    kernel.vectors_left = 2
    with pytest.raises(VfioError, match="0000:01:00.0 does not get 3 MSI-X vectors: the machine has 2 left"):
        bus.enable_msix(3)
    kernel.vectors_left, kernel.refusals[0x3b6e] = None, errno.ENOSPC
    files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(VfioError, match="0000:01:00.0 does not get 3 MSI-X vectors: No space left on device"):
        bus.enable_msix(3)
    assert len(os.listdir("/proc/self/fd")) == files
    del kernel.refusals[0x3b6e]
    bus.enable_msix(2)


def test_no_vector_no_wait(bus):
    assert bus.wait_irq(timeout=0) == bus.poll_irq() == set()


def test_memory_off(kernel, bus):
    """What a function that does not decode memory is asked of is all ones, and what it is told is lost."""
    assert bus.bar_read(0, 0, 4) == 0xffff_ffff
    bus.bar_write(0, 0, 4, 1)
    VirtioNet.open(bus)
    assert bus.bar_read(0, 0x6000, 4) == 0x43494e52
    bus.config_write(Cfg.COMMAND, 2, 4)
    assert bus.bar_read(0, 0x6000, 4) == 0xffff_ffff and bus.bar_read(0, 0x6000, 1) == 0xff
    bus.config_write(Cfg.COMMAND, 2, 6)
    assert bus.bar_read(0, 0x6000, 2) == 0x4e52


def test_an_access_that_fails(kernel, bus, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EIO, "EIO")
    monkeypatch.setattr(kernel, "pread", fail)
    monkeypatch.setattr(kernel, "pwrite", fail)
    assert bus.config_read(0, 2) == 0xffff
    bus.config_write(0, 2, 0)


def test_a_card_that_does_not_answer(kernel, bdf, monkeypatch):
    """Its list of capabilities has no end."""
    monkeypatch.setattr(kernel, "pread", lambda fd, size, offset: b"\xff" * size)
    with VfioBus(bdf, kernel=kernel) as bus, pytest.raises(LookupError, match="No function answers"):
        PciFunction(bus)


def test_a_card_that_goes_away(kernel, bdf, interface):
    """All is given back that is ours."""
    files = len(os.listdir("/proc/self/fd"))
    with VfioBus(bdf, kernel=kernel) as bus:
        VirtioNet.open(bus)
        kernel.refusals[0x3b6e] = errno.ENODEV
    assert not kernel.open_files and not bus._bars and len(os.listdir("/proc/self/fd")) == files


def test_no_such_bar(bus):
    bus.config_write(Cfg.COMMAND, 2, 6)
    with pytest.raises(VfioError, match="0000:01:00.0 has no BAR 2"):
        bus.bar_read(2, 0, 4)


def test_a_region_that_may_be_mapped(kernel, bdf, monkeypatch):
    """A load or store of each width, where it is meant."""
    memory = mmap.mmap(-1, 0x8000)

    def plain(raw):
        raw[:32] = b"\x20\0\0\0" b"\7\0\0\0" b"\0\0\0\0" b"\0\0\0\0" + (0x8000).to_bytes(8, "little") + (0).to_bytes(8, "little")

    def region(raw, kept=kernel._region):
        return plain(raw) if raw[8] == 0 else kept(raw)
    monkeypatch.setattr(kernel, "_region", region)
    monkeypatch.setattr(kernel, "map", lambda fd, size, offset: memory)
    with VfioBus(bdf, kernel=kernel) as bus:
        bus.config_write(Cfg.COMMAND, 2, 6)
        for size, offset, value in ((4, 0x7ffc, 0x8765_4321), (2, 0x1002, 0xabcd), (1, 0x2003, 0x5a)):
            bus.bar_write(0, offset, size, value)
            assert memory[offset:offset + size] == value.to_bytes(size, "little") == (
                bus.bar_read(0, offset, size).to_bytes(size, "little"))
        assert memory[0x1000:0x1008] == b"\0\0\xcd\xab\0\0\0\0"
    assert memory.closed


# Memory.

def test_buffers(kernel, bus):
    """Whole pages, zeroed, never two at one address, not even one after the other."""
    seen = []
    for size, align in ((1, 16), (4096, 4096), (4097, 0x10000), (100, 64)):
        buffer = bus.alloc(size, align)
        assert len(buffer) == size and bytes(buffer.view) == bytes(size) and buffer.iova % align == 0
        assert buffer.iova >= 4 * GIB and kernel.mapped[buffer.iova] == -(-size // 4096) * 4096
        buffer.view[-1] = 0x5a
        assert kernel.device.memory.read(buffer.iova + size - 1, 1) == b"\x5a"
        seen.append(buffer.iova)
        buffer.free()
        assert not kernel.mapped and not bus.buffers
    assert len(set(seen)) == len(seen)
    large = bus.alloc((5 << 20) + 1)
    assert kernel.mapped[large.iova] == (5 << 20) + 4096
    large.view[:] = b"\xff" * len(large)


def test_addresses_that_there_are():
    iovas = Iovas([(0, 0xfedf_ffff), (0xfef0_0000, 4 * GIB + 0x2fff)])
    assert [iovas.take(0x1000, 0x1000) for _ in range(2)] == [4 * GIB, 4 * GIB + 0x2000]
    assert [iovas.take(0x1000, 0x1000) for _ in range(2)] == [0x1000, 0x3000]   # nothing at 0
    assert iovas.take(0xfedf_a000, 0x1000) == 0x5000
    assert iovas.take(0x1000, 0x1000) == 0xfef0_0000
    with pytest.raises(VfioError, match="The IOMMU has no 4294967296 addresses left"):
        iovas.take(4 * GIB, 0x1000)


def test_more_ranges_than_expected(kernel, bdf, interface):
    kernel.ranges = [(0x10_0000 * k, 0x10_0000 * k + 0xffff) for k in range(100)]
    with VfioBus(bdf, kernel=kernel) as bus:
        assert [bus.alloc(0x10000).iova for _ in range(3)] == [0x10_0000, 0x20_0000, 0x30_0000]


def test_memory_that_cannot_be_locked(kernel, bus, monkeypatch):
    request = 0x3b85 if 0x3b76 in kernel.asked else 0x3b71
    bus.alloc(9000)
    kernel.refusals[request] = errno.ENOMEM
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64 << 10, 64 << 10))
    with pytest.raises(VfioError) as caught:
        bus.alloc(100_000)
    assert str(caught.value) == ("112 KiB of memory must be locked for DMA, and only 64 KiB may be: raise the limit "
                                 "(`ulimit -l unlimited`, or memlock in /etc/security/limits.conf)")
    kernel.refusals[request] = errno.ENOSPC
    with pytest.raises(VfioError, match="4096 bytes cannot be mapped for DMA: No space left on device"):
        bus.alloc(10)


def test_no_reset(kernel, bdf):
    kernel.resettable = 0
    with VfioBus(bdf, kernel=kernel) as bus, pytest.raises(VfioError, match=f"The kernel knows no way to reset {bdf}: see its"):
        bus.reset()
    kernel.resettable, kernel.refusals[0x3b6f] = 1, errno.EAGAIN
    with VfioBus(bdf, kernel=kernel) as bus, pytest.raises(VfioError, match=f"{bdf} cannot be reset: Resource temporarily"):
        bus.reset()


def test_all_is_given_back_whatever_happens(kernel, bdf, interface):
    """In the midst of traffic, and twice."""
    with pytest.raises(KeyboardInterrupt), VfioBus(bdf, kernel=kernel) as bus:
        net = VirtioNet.open(bus)
        net.send(bytes(60))
        raise KeyboardInterrupt
    assert not kernel.open_files and not kernel.mapped and kernel.device.status == 0
    bus.close()


def test_time_passes_for_the_card_too(bus, monkeypatch):
    """However slow it is: after each 25 cycles' time, and at the end, it has answered a register read, which takes it longer."""
    done = []
    monkeypatch.setattr(vfio.time, "sleep", done.append)
    monkeypatch.setattr(bus, "bar_read", lambda *access: done.append(access))
    bus.run(26)
    read = (BAR_INDEX, COUNTERS_OFFSET, 4)
    assert done == [pytest.approx(250e-6), read, pytest.approx(10e-6), read]
