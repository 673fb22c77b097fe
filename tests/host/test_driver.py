"""The golden driver against a device of a few lines, which shares no code with it and checks what it is told."""

import struct

import pytest

from ringnic.hdl.spec.bar import COUNTERS
from ringnic.hdl.spec.virtio import CfgType, Status
from ringnic.host.driver import NegotiationError, PackedVirtqueue, PciFunction, Transport
from ringnic.sim.bus import GoldenBus

NET = {5, 15, 16, 28, 29, 32}
PACKED = 34
EXP, MSIX = 0x40, 0x80
PLACES = {1: (0x0000, 0x3c), 2: (0x3000, 0x1000), 3: (0x1000, 4), 4: (0x2000, 0x1000)}


def test_discovery(fake_net):
    device = fake_net()
    function = PciFunction(GoldenBus(device))
    assert [at for at, _ in function.capabilities] == [EXP, MSIX, 0x90, 0xa4, 0xb8, 0xcc]
    assert {kind: (s.offset, s.length) for kind, s in function.structures.items()} == PLACES
    assert function.structures[CfgType.NOTIFY].multiplier == 4
    assert function.msix_vectors == 3
    assert function.bars[0].size == 0x8000 and list(function.bars) == [0]
    assert device.config[4] & 6 == 6
    assert device.config_read(0x10, 4) == 0xe000_0000


def test_capability_loop_is_seen(fake_net):
    device = fake_net()
    device.config[0xcc + 1] = EXP
    with pytest.raises(ValueError, match="Capability list loops at 0x40"):
        PciFunction(GoldenBus(device))


def test_no_function(fake_net):
    device = fake_net()
    device.config[:] = b"\xff" * 256
    with pytest.raises(LookupError, match="No function answers"):
        PciFunction(GoldenBus(device))


def test_status_dance_and_msix(opened):
    device, bus, net = opened()
    assert device.log == [0, 1, 3, 11, 15]
    assert net.features == NET
    assert device.msix == [[0xfee00000, 0, k, 0] for k in range(3)]
    assert [q["vector"] for q in device.queue] == [1, 2] and device.config_vector == 0
    assert struct.unpack("<H", device.config[MSIX + 2:MSIX + 4])[0] == 0x8000
    assert net.mac == bytes.fromhex("525400123456") and net.link_up and net.mtu == 1500 and net.speed is None


def test_features_refused(fake_net):
    device = fake_net(features={5})
    with pytest.raises(NegotiationError, match=r"Device refuses \[5\] of \[5\]"):
        Transport(PciFunction(GoldenBus(device))).negotiate({5})
    assert device.status & Status.FAILED


def test_features_of_all_words(fake_net):
    """Bits 0 to 127 (2.2, 4.1.4.3)."""
    device = fake_net(features={0, 31, 32, 63, 64, 95, 96, 127})
    transport = Transport(PciFunction(GoldenBus(device)))
    assert transport.device_features() == device.offered
    assert transport.negotiate({0, 1, 64, 127}) == {0, 32, 64, 127} and device.driver_features == 1 << 127 | 1 << 64 | 1 << 32 | 1


def test_queue_size_is_checked(opened):
    _, _, net = opened()
    for size in (0, 3, 32):
        with pytest.raises(ValueError, match=f"Queue size must be a power of 2 up to 16, not {size}"):
            net.transport.setup_queue(0, size)
    with pytest.raises(LookupError, match="Device has no queue 2"):
        net.transport.setup_queue(2)


def test_packed_sizes(opened):
    for size in (1, 3, 16, None):
        device, _, net = opened(NET | {PACKED}, queue_size=size)
        assert isinstance(net.rx, PackedVirtqueue) and net.rx.size == net.tx.size == (size or 16)
        queue = net.tx
        assert [device.queue[1][name] for name in ("size", "desc", "driver", "device")] == \
            [queue.size, queue.desc_iova, queue.avail_iova, queue.used_iova]
    for size in (0, 17):
        with pytest.raises(ValueError, match=f"Queue size must be from 1 up to 16, not {size}"):
            net.transport.setup_queue(0, size)


@pytest.mark.parametrize("packed", [set(), {PACKED}], ids=["split", "packed"])
@pytest.mark.parametrize("event_idx", [False, True])
def test_callbacks(opened, event_idx, packed):
    device, bus, net = opened((NET if event_idx else NET - {29}) | packed)
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


def test_reset_gives_memory_back_and_starts_again(opened):
    device, bus, net = opened()
    for reset in (net.reset, net.flr):
        reset()
        assert not bus.buffers and not device.memory and device.status == 0
        net.restart()
        net.send(b"x" * 60)
        device.transmit()
        assert device.sent.pop() == b"x" * 60


def test_counters(opened):
    _, _, net = opened()
    assert net.counters() == {name: k << 40 | 7 for k, name in enumerate(COUNTERS)}
    assert net.build_id() == 0x600d1d


def test_loopback(opened):
    device, _, net = opened()
    net.set_loopback(False)
    with pytest.raises(LookupError, match="^The device has no loopback$"):
        net.set_loopback(True)
    device.controls = 0xff
    device.control = 0b110                     # somebody else's
    net.set_loopback(True)
    assert device.control == 0b111
    net.set_loopback(False)
    assert device.control == 0b110


def test_no_counters_page(opened, monkeypatch):
    _, bus, net = opened()
    monkeypatch.setattr(bus, "bar_read", lambda bar, offset, size: 0)
    for use in (net.counters, net.build_id, lambda: net.set_loopback(True)):
        with pytest.raises(LookupError, match="^The device has no counters page$"):
            use()
