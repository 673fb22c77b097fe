"""Reset of one queue.

Ref: VIRTIO 1.4, 2.6.1 "Virtqueue Reset", 4.1.4.3 "Common configuration structure layout".
"""

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, MSIX_PBA_OFFSET
from ringnic.hdl.spec.virtio import VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, VIRTIO_MSI_NO_VECTOR, Common

from .frames import frame

SIZES = {False: (256, 16, 64, 2), True: (256, 17, 3, 100)}  # split, packed
RX_VECTOR, TX_VECTOR = 1, 2


@pytest.fixture
def net(card, ring):
    return card.open(ring | {VIRTIO_F_RING_RESET}, queue_size=32)


def registers(transport, queue):
    """What the driver sees of a queue: enabled, being reset, vector, size. The reset is looked at first, for it may end."""
    transport.common_write(Common.QUEUE_SELECT, 2, queue)
    resetting, *others = [transport.common_read(at, 2) for at in (
        Common.QUEUE_RESET, Common.QUEUE_ENABLE, Common.QUEUE_MSIX_VECTOR, Common.QUEUE_SIZE)]
    return [others[0], resetting, *others[1:]]


@pytest.mark.clause("CC-8", "CC-9", "QRST-2")
def test_registers_of_a_queue_that_is_reset(card, net):
    transport = net.transport
    others = {queue: registers(transport, queue) for queue in (0, 1)}
    largest = transport._largest[1]
    for queue in (1, 0):
        assert registers(transport, queue)[:2] == [1, 0]
        transport.common_write(Common.QUEUE_RESET, 2, 1)
        seen = []
        card.until(lambda: seen.append(registers(transport, queue)) or seen[-1][1] == 0, "end of the reset")
        assert seen[-1] == [0, 0, VIRTIO_MSI_NO_VECTOR, largest]
        assert [transport.common_read(at, 4) for at in range(Common.QUEUE_DESC, Common.QUEUE_DESC + 24, 4)] == [0] * 6
        if queue == 1:
            assert registers(transport, 0) == others[0]


@pytest.mark.clause("QRST-1", "CC-9")
@pytest.mark.simulated("a partner that sends while the card cannot")
def test_a_queue_that_is_reset_does_nothing(card, net):
    """Notified, and with frames that come for it; its memory could be anybody's."""
    assert net.tx.enable_cb() and net.rx.enable_cb()
    for queue in (net.rx, net.tx):
        net.transport.reset_queue(queue.index)
    card.interrupts()
    before = [bytes(area.view) for area in (net.rx.memory, net.tx.memory, net.rx_memory)]
    net.tx.add_buf([(net.tx_memory.iova, 100)], [], 0)
    before[1] = bytes(net.tx.memory.view)
    for queue in (net.rx, net.tx):
        queue.notify()
    card.wire.send(*[frame(200, k) for k in range(4)])
    card.expect_interrupts(set())
    assert [bytes(area.view) for area in (net.rx.memory, net.tx.memory, net.rx_memory)] == before
    assert not card.broken() and card.wire.take() == []


@pytest.fixture
def masked(card, net):
    """Masks vectors, of which those that wait can be told."""
    function = net.transport.function

    def mask(on, *vectors):
        for vector in vectors:
            function.mask_vector(vector, on)
    yield mask
    mask(False, RX_VECTOR, TX_VECTOR)


def pending(card, net):
    """Vectors whose pending bit is set. The read also sees to it that what the card has sent has arrived."""
    bits = card.bus.bar_read(BAR_INDEX, MSIX_PBA_OFFSET, 4)
    return {vector for vector in range(net.transport.function.msix_vectors) if bits >> vector & 1}


@pytest.mark.clause("QRST-1", "INT-11")
@pytest.mark.simulated("a vector table, which a kernel keeps to itself")
def test_a_queue_that_is_reset_takes_its_interrupt_back(card, net, masked):
    """2.6.1.1.1: none comes of it when its vector is unmasked, and the other queue's stays."""
    assert net.tx.enable_cb() and net.rx.enable_cb()
    masked(True, RX_VECTOR, TX_VECTOR)
    assert pending(card, net) == set()
    card.interrupts()
    net.send(frame(100))
    card.wire.send(frame(100))
    card.expect_interrupts(set())
    assert pending(card, net) == {RX_VECTOR, TX_VECTOR}
    net.transport.reset_queue(net.tx.index)
    assert pending(card, net) == {RX_VECTOR}
    masked(False, TX_VECTOR)
    card.expect_interrupts(set())
    masked(False, RX_VECTOR)
    card.expect_interrupts({RX_VECTOR})
    assert pending(card, net) == set()


@pytest.mark.clause("QRST-1", "INT-11")
@pytest.mark.simulated("a vector table, which a kernel keeps to itself")
@pytest.mark.parametrize("both", [False, True])
def test_a_shared_vector_waits_for_the_other_queue(card, net, masked, both):
    """As long as that one has something to tell, and no longer."""
    transport = net.transport
    for queue in (net.rx, net.tx):
        transport.common_write(Common.QUEUE_SELECT, 2, queue.index)
        transport.common_write(Common.QUEUE_MSIX_VECTOR, 2, TX_VECTOR)
    assert net.tx.enable_cb() and net.rx.enable_cb()
    masked(True, TX_VECTOR)
    assert pending(card, net) == set()
    card.interrupts()
    net.send(frame(100))
    if both:
        card.wire.send(frame(100))
    card.expect_interrupts(set())
    assert pending(card, net) == {TX_VECTOR}
    transport.reset_queue(net.tx.index)
    left = {TX_VECTOR} if both else set()
    assert pending(card, net) == left
    masked(False, TX_VECTOR)
    card.expect_interrupts(left)


@pytest.mark.clause("INT-11", "MSX-7")
@pytest.mark.simulated("a vector table, which a kernel keeps to itself")
@pytest.mark.parametrize("vector", [RX_VECTOR, VIRTIO_MSI_NO_VECTOR])
def test_an_interrupt_goes_where_its_queue_goes(card, net, masked, vector):
    assert net.tx.enable_cb()
    net.rx.disable_cb()
    masked(True, RX_VECTOR, TX_VECTOR)
    assert pending(card, net) == set()
    card.interrupts()
    net.send(frame(100))
    card.expect_interrupts(set())
    assert pending(card, net) == {TX_VECTOR}
    net.transport.common_write(Common.QUEUE_SELECT, 2, net.tx.index)
    net.transport.common_write(Common.QUEUE_MSIX_VECTOR, 2, vector)
    assert net.transport.common_read(Common.QUEUE_MSIX_VECTOR, 2) == vector
    there = {vector} - {VIRTIO_MSI_NO_VECTOR}
    card.expect_interrupts(set())
    assert pending(card, net) == there
    masked(False, RX_VECTOR, TX_VECTOR)
    card.expect_interrupts(there)


@pytest.mark.clause("QRST-2", "QRST-3")
def test_a_queue_begins_anew(card, net):
    """With another size, other addresses; its places are the first again, whatever they were."""
    card.works(5)
    for size in SIZES[VIRTIO_F_RING_PACKED in net.features]:
        for index in (0, 1):
            net.transport.reset_queue(index)
            card.rest()
            card.wire.take()
            net.reset_queue(index, size)
            queue = (net.rx, net.tx)[index]
            assert queue.size == size
            assert registers(net.transport, index)[0] == 1 and registers(net.transport, index)[3] == size
        for _ in range(3):
            card.works(2)
        assert not card.broken()


@pytest.mark.clause("QRST-3")
def test_a_queue_takes_its_new_vector(card, net):
    net.rx.disable_cb()
    for vector in (0, RX_VECTOR, VIRTIO_MSI_NO_VECTOR, TX_VECTOR):
        net.transport.reset_queue(net.tx.index)
        net.tx_queues[0] = net.transport.setup_queue(net.tx.index, 16, vector=vector)
        net._tx_free[0] = list(range(16))
        assert net.tx.enable_cb()
        card.interrupts()
        net.send(frame(100))
        card.expect_interrupts({vector} - {VIRTIO_MSI_NO_VECTOR})
        card.expect_wire([frame(100)])


@pytest.mark.clause("CC-8", "CC-9")
def test_no_reset_of_a_queue_unless_it_is_asked_for(card, ring):
    """By writes of other values, and of a queue that is not enabled."""
    net = card.open(ring | {VIRTIO_F_RING_RESET})
    transport = net.transport
    for value in (0, 2, 0x100, 0xfffe):
        registers(transport, 1)
        transport.common_write(Common.QUEUE_RESET, 2, value)
        assert registers(transport, 1)[:2] == [1, 0]
    card.works()
    registers(transport, 3)
    transport.common_write(Common.QUEUE_RESET, 2, 1)
    assert registers(transport, 3)[:2] == [0, 0]
    card.works()
