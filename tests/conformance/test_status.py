"""Device status: when the device works, when it does not, and how it says that it cannot.

Ref: VIRTIO 1.4, 2.1 "Device Status Field", 2.4 "Device Reset", 4.1.4.3 "Common configuration structure layout".
"""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MRG_RXBUF
from ringnic.hdl.spec.virtio import (VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED, Isr, Status, VirtqDescF)
from ringnic.host.driver import VirtioNet
from ringnic.host.driver.net import CONFIG_VECTOR

from .conftest import BASE
from .frames import frame

INDIRECT = int(VirtqDescF.INDIRECT)


def break_queue(net, queue):
    """Make an indirect table of no entries available, which nothing can be made of."""
    at = net.tx_memory.iova
    if VIRTIO_F_RING_PACKED in net.features:
        queue.publish((at, 0, 0, INDIRECT))
    else:
        queue.write_desc(0, at, 0, INDIRECT)
        queue.publish(0)
    queue.notify()


@pytest.mark.clause("STAT-1")
@pytest.mark.simulated("a partner that sends while the card cannot")
def test_nothing_is_used_before_driver_ok(card, ring):
    """Buffers are there and notified of, and frames come."""
    transport = card.transport()
    live, transport.driver_ok = transport.driver_ok, lambda: None
    net = VirtioNet(transport, BASE | ring)
    assert not net.transport.status & Status.DRIVER_OK
    assert net.tx.enable_cb() and net.rx.enable_cb()
    net.send(frame(100), kick=False)
    for queue in net.transport.queues.values():
        queue.notify()
    card.wire.send(frame(100))
    card.expect_interrupts(set())
    assert card.wire.take() == []
    assert net.tx.get_buf() is None and net.rx.get_buf() is None
    assert net.transport.read_isr() == 0
    # What was made available counts from DRIVER_OK on.
    live()
    net.tx.notify()
    card.expect_wire([frame(100)])


@pytest.mark.clause("STAT-2", "STAT-3", "ISR-2")
@pytest.mark.parametrize("name", ["rx", "tx"])
def test_an_error_without_a_way_back(card, ring, name):
    """DEVICE_NEEDS_RESET, and a configuration change notification; after a reset all is well."""
    net = card.open(ring | {VIRTIO_F_INDIRECT_DESC}, fill=False)
    card.expect_interrupts(set())
    break_queue(net, getattr(net, name))
    if name == "rx":
        card.wire.send(frame(100))
    card.until(card.broken, "DEVICE_NEEDS_RESET")
    assert CONFIG_VECTOR in card.interrupts({CONFIG_VECTOR})
    assert net.transport.read_isr() & Isr.CONFIG
    net.reset()
    assert net.transport.status == 0
    card.wire.take()
    card.restart(fill=True)
    card.works()


@pytest.mark.clause("RST-1", "CC-6")
@pytest.mark.parametrize("moment", [0, 1, 20, 90, 200, 500, 1200])
def test_status_is_0_when_the_reset_is_done_and_not_before(card, ring, moment):
    """Whenever it comes: once the status is 0 nothing is written any more, nor comes an interrupt."""
    net = card.open(ring | {VIRTIO_NET_F_MRG_RXBUF})
    assert net.tx.enable_cb() and net.rx.enable_cb()
    memory = [net.rx_memory, net.tx_memory, *(queue.memory for queue in net.transport.queues.values())]
    for k in range(12):
        net.send(frame(60 + 120 * k))
        card.wire.send(frame(60 + 120 * k))
    card.bus.run(moment)
    net.transport.status = 0
    seen = []
    card.until(lambda: seen.append(net.transport.status) or seen[-1] == 0, "status 0")
    assert set(seen) <= {0, seen[0]}
    before = [bytes(area.view) for area in memory]
    card.forget_interrupts()
    card.expect_interrupts(set())
    assert [bytes(area.view) for area in memory] == before
    net.reset()
    card.wire.take()
    card.restart()
    card.works()


@pytest.mark.clause("RST-2")
@pytest.mark.simulated("a partner that sends while the card cannot")
@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_nothing_happens_until_the_driver_is_ready_again(card, form, flr):
    net = card.open(form)
    card.works()
    (net.flr if flr else net.reset)()
    card.forget_interrupts()
    card.wire.send(*[frame(200, k) for k in range(5)])
    card.expect_interrupts(set())
    # All memory was taken away: an access would be a fault, and stop a queue.
    card.restart()
    assert not card.broken()
    assert net.counters()["queue_errors"] == 0
    card.works()
