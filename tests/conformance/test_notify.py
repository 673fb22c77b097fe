"""Available buffer notifications.

Ref: VIRTIO 1.4, 2.7.10 "Available Buffer Notification Suppression", 2.9 "Driver Notifications", 4.1.5.2 "Available Buffer
Notifications".
"""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_HDR_SIZE
from ringnic.hdl.spec.virtio import VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, CfgType, Common

from .conftest import BASE
from .frames import frame

TX = 1


def place(net, queue):
    """Where queue ``queue`` is notified of: BAR and offset."""
    structure = net.transport.function.structures[CfgType.NOTIFY]
    net.transport.common_write(Common.QUEUE_SELECT, 2, queue)
    return structure.bar, structure.offset + structure.multiplier * net.transport.common_read(Common.QUEUE_NOTIFY_OFF, 2)


@pytest.mark.clause("ANS-3")
@pytest.mark.parametrize("data", [False, True], ids=["index", "data"])
def test_notifications_that_nobody_asked_for(card, ring, data):
    """Of empty rings, again and again, between others, and of all queues; after a reset too."""
    features = ring | {VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ} | ({VIRTIO_F_NOTIFICATION_DATA} if data else set())
    for _ in range(2):
        net = card.open(features, pairs=2, fill=False)
        before = net.counters()["queue_errors"]
        card.interrupts()
        for _ in range(10):
            for queue in net.transport.queues.values():
                queue.notify()
        card.expect_interrupts(set())
        assert not card.broken()
        net.refill(range(8))
        for k in range(8):
            net.tx.notify()
            net.send(frame(60 + k))
            net.tx.notify()
            net.rx.notify()
        card.expect_wire([frame(60 + k) for k in range(8)])
        card.works(4)
        assert not card.broken() and net.counters()["queue_errors"] == before
        net.reset()


@pytest.mark.clause("NTF-B1")
@pytest.mark.parametrize("size", [4, 8])
def test_notification_with_data(card, ring, size):
    """Queue, and where the ring goes on, in one write of 4 bytes; many times around the ring."""
    net = card.open(ring | {VIRTIO_F_NOTIFICATION_DATA}, queue_size=size)
    at = place(net, net.tx.index)
    memory = card.bus.alloc(VIRTIO_NET_HDR_SIZE + 100)
    for k in range(3 * size):
        memory.view[VIRTIO_NET_HDR_SIZE:] = frame(100, k)
        net.tx.add_buf([(memory.iova, len(memory))], [], k)
        if VIRTIO_F_RING_PACKED in net.features:  # 2.9: offset, and the wrap counter in bit 15
            following = (k + 1) % size | (1 - (k + 1) // size % 2) << 15
        else:
            following = k + 1
        card.bus.bar_write(*at, 4, following << 16 | net.tx.index)
        assert card.used(net.tx, 1) == [(k, 0)]
        card.expect_wire([frame(100, k)])


@pytest.mark.clause("NTF-2", "NTF-3")
@pytest.mark.parametrize("data", [False, True], ids=["index", "data"])
def test_each_queue_is_notified_at_its_place(card, form, data):
    net = card.open(form | {VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ} | ({VIRTIO_F_NOTIFICATION_DATA} if data else set()), pairs=4)
    assert len({place(net, queue) for queue in range(net.transport.num_queues)}) in (1, net.transport.num_queues)
    for pair in range(4):
        net.send(frame(100, pair), pair=pair, kick=False)
        assert card.wire.take() == []
        queue = net.tx_queues[pair]
        card.bus.bar_write(*place(net, queue.index), 4 if data else 2, (queue.next << 16 if data else 0) | queue.index)
        card.expect_wire([frame(100, pair)])


@pytest.mark.clause("NTF-B3")
def test_receive_buffers_that_nobody_notified_of(card, ring):
    """Not every driver notifies of them, though it must (2.7.13.4, 2.8.21.3): a frame that waits for one gets it."""
    net = card.open(ring, queue_size=8)
    net.rx.kick = lambda: None
    for k in range(24):
        card.wire.send(frame(60 + k, k))
        card.expect_received([frame(60 + k, k)])
    assert not card.broken()


def packet(card, k):
    """A frame behind its header, as a transmit buffer."""
    memory = card.bus.alloc(VIRTIO_NET_HDR_SIZE + 60)
    memory.view[:] = bytes(VIRTIO_NET_HDR_SIZE) + frame(60, k)
    return memory.iova, len(memory)


def came_out(card, k):
    """The frame of :func:`packet` is on the wire. That of a card in a slot leads back to a receive queue, and there is none."""
    if not card.in_slot:
        card.expect_wire([frame(60, k)])


@pytest.mark.clause("ANS-1", "ANS-2", "PK-B5")
@pytest.mark.parametrize("noise", [0x01, 0xa5, 0xff])
def test_what_memory_held_keeps_no_driver_from_notifying(card, ring, noise):
    """used.flags and avail_event, or the device's event structure, before the device has written there."""
    transport = card.transport()
    transport.negotiate(BASE | ring)
    queue = transport.setup_queue(TX, 8)
    fields = [queue.used_offset, queue.used_offset + 1, *range(len(queue.memory) - 2, len(queue.memory))]
    for at in fields:
        queue.memory.view[at] = noise
    transport.driver_ok()
    card.rest()
    for k in range(10):
        queue.add_buf([packet(card, k)], [], k)
        queue.kick()                                    # if the device seems to want that
        assert card.used(queue, 1) == [(k, 0)]
        came_out(card, k)


@pytest.mark.clause("NTF-B4")
@pytest.mark.parametrize("when", ["before_queue_enable", "before_driver_ok", "live_before_queue_enable"])
def test_a_notification_that_came_too_early(card, ring, when):
    """It must not come (3.1.1); but it is not lost: a queue is looked at when it begins."""
    transport = card.transport()
    transport.negotiate(BASE | ring)
    write = transport.common_write
    transport.common_write = lambda offset, *args: None if offset == Common.QUEUE_ENABLE else write(offset, *args)
    queue = transport.setup_queue(TX, 8)
    queue.add_buf([packet(card, 1)], [], 1)

    def enable():
        write(Common.QUEUE_SELECT, 2, TX)
        write(Common.QUEUE_ENABLE, 2, 1)
    first, *rest = {"before_queue_enable": (queue.notify, enable, transport.driver_ok),
                    "before_driver_ok": (enable, queue.notify, transport.driver_ok),
                    "live_before_queue_enable": (transport.driver_ok, queue.notify, enable)}[when]
    first()
    card.rest()
    for step in rest:
        assert queue.get_buf() is None
        step()
        card.rest()
    assert card.used(queue, 1) == [(1, 0)]
    came_out(card, 1)
