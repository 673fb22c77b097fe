"""Used buffer notifications, configuration change notifications, and ISR status.

Ref: VIRTIO 1.4, 2.7.7 "Used Buffer Notification Suppression", 2.8.10 "Driver and Device Event Suppression", 4.1.4.5 "ISR
status capability", 4.1.5.3 "Used Buffer Notifications", 4.1.5.4 "Notification of Device Configuration Changes".
"""

import pytest

from ringnic.hdl.spec.pcie import Cfg, ConfigStatus
from ringnic.hdl.spec.net import VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED, VIRTIO_MSI_NO_VECTOR, VIRTQ_AVAIL_F_NO_INTERRUPT,
                                     Common, Isr, RingEvent)
from ringnic.host.driver.net import CONFIG_VECTOR

from .frames import frame

RX_VECTOR, TX_VECTOR = 1, 2
PACKED, EVENT_IDX = frozenset({VIRTIO_F_RING_PACKED}), frozenset({VIRTIO_F_EVENT_IDX})
USED_EVENT = 4  # bytes behind the start of the available ring, and 2 for each entry


def send(card, net, wanted):
    """Send a frame; when it is used these vectors come."""
    net.send(frame(80))
    card.expect_wire([frame(80)])
    card.until(net.reclaim, "used buffer")
    card.expect_interrupts(wanted)


def quiet(card, features):
    """Go live; receive buffers are there and nobody waits for one."""
    net = card.open(features)
    net.rx.disable_cb()
    card.interrupts()
    return net


@pytest.mark.clause("UNS-1", "UNS-3")
@pytest.mark.parametrize("event", [0, 1, 0x7fff, 0x8000, 0xffff])
def test_used_event_is_ignored_without_its_feature(card, event):
    net = quiet(card, set())
    net.tx.write_u16(net.tx.avail_offset + USED_EVENT + 2 * net.tx.size, event)
    for _ in range(3):
        send(card, net, {TX_VECTOR})


@pytest.mark.clause("UNS-2", "UNS-3")
def test_flags_of_the_available_ring(card):
    net = quiet(card, set())
    for wanted in (True, False, True, False, False, True):
        net.tx.write_u16(net.tx.avail_offset, 0 if wanted else VIRTQ_AVAIL_F_NO_INTERRUPT)
        send(card, net, {TX_VECTOR} if wanted else set())


@pytest.mark.clause("UNS-4", "UNS-5", "UNS-6")
@pytest.mark.parametrize("flags", [0, VIRTQ_AVAIL_F_NO_INTERRUPT])
def test_used_event(card, flags):
    """A notification when the index passes the event, none before and none after, whatever the flags."""
    net = quiet(card, EVENT_IDX)
    net.tx.write_u16(net.tx.avail_offset, flags)
    event = 4
    net.tx.write_u16(net.tx.avail_offset + USED_EVENT + 2 * net.tx.size, event)
    for k in range(8):
        send(card, net, {TX_VECTOR} if k == event else set())


@pytest.mark.clause("PK-B5")
@pytest.mark.parametrize("features", [PACKED, PACKED | EVENT_IDX], ids=["flags", "event_idx"])
def test_flags_of_the_driver_event_structure(card, features):
    net = quiet(card, features)
    for flags in (RingEvent.ENABLE, RingEvent.DISABLE, RingEvent.ENABLE, RingEvent.DISABLE, RingEvent.DISABLE):
        net.tx.write_event(flags)
        send(card, net, {TX_VECTOR} if flags == RingEvent.ENABLE else set())


@pytest.mark.clause("PK-B5")
@pytest.mark.parametrize("wrap", [1, 0])
@pytest.mark.parametrize("offset", [0, 2, 4])
def test_event_at_a_descriptor(card, offset, wrap):
    """Of a ring of five entries: a notification for that one of that lap, and for no other."""
    net = card.open(PACKED | EVENT_IDX, queue_size=5)
    net.rx.disable_cb()
    net.tx.write_event(RingEvent.DESC, offset, wrap)
    card.interrupts()
    for k in range(10):
        hit = (k % 5, 1 - k // 5) == (offset, wrap)
        send(card, net, {TX_VECTOR} if hit else set())


@pytest.mark.clause("MSX-3", "MSX-7")
def test_queues_with_one_vector_with_others_and_with_none(card, ring):
    net = card.open(ring)
    for vector in (0, 1, 2, VIRTIO_MSI_NO_VECTOR, net.transport.function.msix_vectors - 1, 0):
        net.transport.common_write(Common.QUEUE_SELECT, 2, net.tx.index)
        net.transport.common_write(Common.QUEUE_MSIX_VECTOR, 2, vector)
        assert net.tx.enable_cb()
        net.rx.disable_cb()
        card.interrupts()
        # The driver has set up those of the table that it counts.
        send(card, net, {vector} if vector < net._vectors else set())


@pytest.mark.clause("MSX-3", "MSX-8", "ISR-2", "ISR-5")
@pytest.mark.simulated("a hand on the cable")
def test_configuration_changes_by_any_vector_or_none(card):
    net = quiet(card, {VIRTIO_NET_F_STATUS})
    up = True
    for vector in (CONFIG_VECTOR, 3, VIRTIO_MSI_NO_VECTOR, 1):
        net.transport.common_write(Common.CONFIG_MSIX_VECTOR, 2, vector)
        card.interrupts()
        net.transport.read_isr()
        up = not up
        card.wire.set_link(up)
        card.expect_interrupts({vector} - {VIRTIO_MSI_NO_VECTOR})
        assert net.transport.read_isr() & Isr.CONFIG
        assert net.transport.read_isr() == 0


@pytest.mark.clause("ISR-3", "ISR-5")
@pytest.mark.simulated("the interrupt pin, which a host may share")
def test_without_msix(card, ring):
    """The ISR bits and what the Status register says of them: set by an event, cleared by a look."""
    net = card.open(ring | {VIRTIO_NET_F_STATUS})
    net.transport.function.disable_msix()

    def pending():
        return bool(card.bus.config_read(Cfg.STATUS, 2) >> ConfigStatus.INTERRUPT & 1)
    net.rx.disable_cb()
    card.rest()
    net.transport.read_isr()
    assert not pending()
    assert net.tx.enable_cb()
    send(card, net, set())
    assert pending()
    assert net.transport.read_isr() == Isr.QUEUE
    assert not pending() and net.transport.read_isr() == 0
    card.wire.set_link(False)
    card.until(pending, "a configuration change")
    assert net.transport.read_isr() == Isr.CONFIG
    card.wire.set_link(True)
    assert net.rx.enable_cb()
    card.until(lambda: net.link_up, "link")
    card.wire.send(frame(99))
    card.expect_received([frame(99)])
    card.rest()
    assert net.transport.read_isr() == Isr.QUEUE | Isr.CONFIG
    assert not pending()
