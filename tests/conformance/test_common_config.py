"""The common configuration structure.

Ref: VIRTIO 1.4, 4.1.3 "PCI Device Layout", 4.1.4.3 "Common configuration structure layout", 4.1.5.1.2 "MSI-X Vector
Configuration".
"""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.virtio import (VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, VIRTIO_MSI_NO_VECTOR, Common, Status)

HALVES = [at + half for at in (Common.QUEUE_DESC, Common.QUEUE_DRIVER, Common.QUEUE_DEVICE) for half in (0, 4)]
VECTOR_CHOICES = 24


@pytest.fixture
def transport(card):
    transport = card.transport()
    assert card.accepts(transport, transport.device_features())
    return transport


def select(transport, queue):
    transport.common_write(Common.QUEUE_SELECT, 2, queue)
    assert transport.common_read(Common.QUEUE_SELECT, 2) == queue


@pytest.mark.clause("LAY-1")
def test_halves_of_64_bits_are_independent(transport, rng):
    """In any order, and each without the other."""
    for queue in range(transport.num_queues):
        select(transport, queue)
        values = {at: 0 for at in HALVES}
        for at in rng.sample(HALVES * 2, 2 * len(HALVES)):
            values[at] = rng.getrandbits(32) & ~15
            transport.common_write(at, 4, values[at])
            assert {at: transport.common_read(at, 4) for at in HALVES} == values


@pytest.mark.clause("LAY-1")
def test_a_queue_anywhere_in_64_bits(card, ring):
    """The upper half counts."""
    net = card.open(ring)
    assert net.tx.desc_iova >> 32
    card.works(1)


@pytest.mark.clause("CC-10")
def test_queues_that_there_are_not(transport):
    for queue in (transport.num_queues, transport.num_queues + 1, 0x7fff, 0x8000, 0xffff):
        select(transport, queue)
        assert transport.common_read(Common.QUEUE_SIZE, 2) == 0
        transport.common_write(Common.QUEUE_SIZE, 2, 16)
        transport.common_write(Common.QUEUE_ENABLE, 2, 1)
        assert transport.common_read(Common.QUEUE_SIZE, 2) == transport.common_read(Common.QUEUE_ENABLE, 2) == 0


@pytest.mark.clause("CC-11")
def test_sizes_of_split_rings(card):
    transport = card.transport()
    assert card.accepts(transport, transport.device_features() - {VIRTIO_F_RING_PACKED})
    for queue in range(transport.num_queues):
        select(transport, queue)
        for size in (0, *(1 << n for n in range(16)), 3, 100, 255, 257, 0x7fff, 0xffff):
            transport.common_write(Common.QUEUE_SIZE, 2, size)
            shown = transport.common_read(Common.QUEUE_SIZE, 2)
            assert shown & (shown - 1) == 0


@pytest.mark.clause("CC-5")
@pytest.mark.simulated("a hand on the cable")
def test_generation_changes_with_the_configuration(card):
    net = card.open({VIRTIO_NET_F_STATUS})
    seen = [net.transport.common_read(Common.CONFIG_GENERATION, 1)]
    for up in (False, True, False, True):
        card.wire.set_link(up)
        card.until(lambda: net.link_up == up, "link status")
        seen.append(net.transport.common_read(Common.CONFIG_GENERATION, 1))
    assert len(set(seen)) == 5
    # And does not without a change.
    card.works()
    assert net.transport.common_read(Common.CONFIG_GENERATION, 1) == seen[-1]


# Vectors of events (4.1.5.1.2.1): of each queue, and of configuration changes.

def vector(transport, event, value=None):
    """Write, if there is a value, and read the vector of a queue, or of configuration changes: None."""
    at = Common.CONFIG_MSIX_VECTOR
    if event is not None:
        select(transport, event)
        at = Common.QUEUE_MSIX_VECTOR
    if value is not None:
        transport.common_write(at, 2, value)
    return transport.common_read(at, 2)


@pytest.mark.clause("MSX-3", "MSX-4")
def test_any_event_can_have_any_vector_or_none(transport, rng):
    events, count = [None, *range(transport.num_queues)], transport.function.msix_vectors
    have = {event: VIRTIO_MSI_NO_VECTOR for event in events}
    for event in events:
        for wanted in (*range(count), VIRTIO_MSI_NO_VECTOR):
            assert vector(transport, event, wanted) == wanted
    for _ in range(VECTOR_CHOICES):
        event, wanted = rng.choice(events), rng.choice([*range(count), VIRTIO_MSI_NO_VECTOR])
        have[event] = wanted
        assert vector(transport, event, wanted) == wanted
        assert {event: vector(transport, event) for event in events} == have


@pytest.mark.clause("MSX-4", "MSX-6")
def test_a_vector_that_there_is_not_is_refused(transport):
    count = transport.function.msix_vectors
    for event in (None, 0, transport.num_queues - 1):
        for wanted in (count, count + 1, 0x7ff, 0x800, 0xfffe):
            assert vector(transport, event, 1) == 1
            assert vector(transport, event, wanted) == VIRTIO_MSI_NO_VECTOR


@pytest.mark.clause("MSX-5", "CC-7", "CC-8", "RST-1")
@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_everything_is_forgotten_in_a_reset(card, transport, flr):
    count = transport.num_queues
    defaults = []
    for queue in range(count):
        select(transport, queue)
        defaults.append(transport.common_read(Common.QUEUE_SIZE, 2))
    transport.set_config_vector(1)
    for queue in range(count):
        transport.setup_queue(queue, 8, vector=queue % transport.function.msix_vectors)
        assert transport.common_read(Common.QUEUE_ENABLE, 2) == 1
        assert transport.common_read(Common.QUEUE_RESET, 2) == 0
    transport.driver_ok()
    if flr:
        transport.function.reset()
        transport.forget()
    else:
        transport.reset()
    assert transport.status == 0
    assert vector(transport, None) == VIRTIO_MSI_NO_VECTOR
    for queue in range(count):
        assert vector(transport, queue) == VIRTIO_MSI_NO_VECTOR
        assert transport.common_read(Common.QUEUE_ENABLE, 2) == transport.common_read(Common.QUEUE_RESET, 2) == 0
        assert transport.common_read(Common.QUEUE_SIZE, 2) == defaults[queue]
        assert [transport.common_read(at, 4) for at in HALVES] == [0] * len(HALVES)
    assert card.accepts(transport, {VIRTIO_F_VERSION_1})
    assert not transport.status & Status.DRIVER_OK
