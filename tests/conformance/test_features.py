"""Feature bits: what is offered, and what is taken.

Ref: VIRTIO 1.4, 2.2 "Feature Bits", 5.1.3.1 "Feature bit requirements", 6 "Reserved Feature Bits".
"""

from itertools import combinations

import pytest

from ringnic.hdl.spec.features import FEATURE_NAMES, FEATURE_PREREQUISITES
from ringnic.hdl.spec.net import (VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_HASH_REPORT, VIRTIO_NET_F_MQ,
                                  VIRTIO_NET_F_MRG_RXBUF)
from ringnic.hdl.spec.virtio import (VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_ORDER_PLATFORM,
                                     VIRTIO_F_RING_PACKED, VIRTIO_F_SR_IOV, VIRTIO_F_VERSION_1, Common)

EXTENDED_SPACE, SR_IOV_CAPABILITY = 0x100, 0x0010
SUBSETS = 60


def needs(bit):
    """What a bit requires: a sequence of sets, of each of which one is enough."""
    return [set(need) if isinstance(need, tuple) else {need} for need in FEATURE_PREREQUISITES.get(bit, ())]


def closed(bits, offered):
    """The bits, and what they need of ``offered``."""
    bits, before = set(bits) | {VIRTIO_F_VERSION_1}, None
    while bits != before:
        before = set(bits)
        bits |= {min(need & offered) for bit in before for need in needs(bit) if not need & bits}
    return bits


@pytest.mark.clause("FEAT-1", "NC-10")
def test_no_bit_without_those_that_it_needs(card):
    offered = card.transport().device_features()
    assert not [bit for bit in offered for need in needs(bit) if not need & offered]
    # What the standard only says SHOULD of: these two with CTRL_VQ.
    assert VIRTIO_NET_F_CTRL_VQ in offered or not {VIRTIO_NET_F_HASH_REPORT, VIRTIO_NET_F_CTRL_RX_EXTRA} & offered


@pytest.mark.clause("FEAT-4")
def test_every_bit_is_known_and_honoured(card):
    """Each alone, and all together: the card works as the driver understands the bit."""
    offered = card.transport().device_features()
    assert offered <= set(FEATURE_NAMES.values())
    for bit in sorted(offered):
        net = card.open(closed({bit}, offered))
        assert bit in net.features
        card.works(1)
        net.reset()
    card.open(offered)
    card.works()


@pytest.mark.clause("RSV-1", "RSV-2", "RSV-4")
def test_what_a_card_in_a_slot_offers(card, offered):
    if offered is not None:
        pytest.skip("The card offers what --features says")
    assert {VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_ORDER_PLATFORM} <= card.transport().device_features()


@pytest.mark.clause("RSV-5")
def test_sr_iov_is_offered_with_its_capability_only(card):
    transport, at, found = card.transport(), EXTENDED_SPACE, set()
    while at and (header := card.bus.config_read(at, 4)) not in (0, 0xffff_ffff):
        found.add(header & 0xffff)
        at = header >> 20 & ~3
    assert (SR_IOV_CAPABILITY in found) == (VIRTIO_F_SR_IOV in transport.device_features())


@pytest.mark.clause("CC-3")
@pytest.mark.parametrize("select", [4, 5, 31, 0x100, 0x8000_0000, 0xffff_ffff])
def test_words_beyond_the_last_are_empty(card, select):
    transport = card.transport()
    transport.common_write(Common.DEVICE_FEATURE_SELECT, 4, select)
    assert transport.common_read(Common.DEVICE_FEATURE_SELECT, 4) == select
    assert transport.common_read(Common.DEVICE_FEATURE, 4) == 0
    # The words that there are can be had in any order, and any number of times.
    words = {}
    for word in (1, 0, 3, 2, 0, 1):
        transport.common_write(Common.DEVICE_FEATURE_SELECT, 4, word)
        value = transport.common_read(Common.DEVICE_FEATURE, 4)
        assert words.setdefault(word, value) == value
    assert {32 * word + bit for word, value in words.items() for bit in range(32) if value >> bit & 1} == (
        transport.device_features())


@pytest.mark.clause("CC-4")
def test_driver_feature_reads_back(card, rng):
    transport = card.transport()
    offered = transport.device_features()
    for _ in range(8):
        for word in rng.sample(range(4), 4):
            valid = sum(1 << bit % 32 for bit in offered if bit // 32 == word)
            value = rng.getrandbits(32)
            transport.common_write(Common.DRIVER_FEATURE_SELECT, 4, word)
            transport.common_write(Common.DRIVER_FEATURE, 4, value)
            assert transport.common_read(Common.DRIVER_FEATURE, 4) & valid == value & valid
            assert transport.common_read(Common.DRIVER_FEATURE_SELECT, 4) == word


@pytest.mark.clause("FEAT-2")
def test_every_valid_subset_is_taken(card, rng):
    """The smallest, each bit, each two of them, all but each one, all; and some by chance."""
    transport = card.transport()
    offered = transport.device_features()
    few = [set(bits) for size in (0, 1, 2) for bits in combinations(sorted(offered), size)]
    by_chance = [{bit for bit in offered if rng.random() < 0.5} for _ in range(SUBSETS)]
    many = [offered - {bit} - {other for other in offered if {bit} in needs(other)}
            for bit in offered - {VIRTIO_F_VERSION_1}]
    refused = [bits for bits in map(frozenset, [*(closed(bits, offered) for bits in few + by_chance), *many, offered])
               if not card.accepts(transport, bits)]
    assert refused == []


@pytest.mark.clause("FEAT-3")
def test_any_other_set_is_refused(card):
    transport = card.transport()
    offered = transport.device_features()
    wrong = [offered - {VIRTIO_F_VERSION_1}, {VIRTIO_NET_F_MRG_RXBUF}, set()]
    wrong += [{VIRTIO_F_VERSION_1, bit} for bit in range(128) if bit not in offered]
    wrong += [offered - need for bit in offered for need in needs(bit)]
    assert [bits for bits in wrong if card.accepts(transport, bits)] == []
    # A refusal is no end: the next set is judged anew.
    assert card.accepts(transport, offered)


@pytest.mark.clause("FEAT-5")
@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_a_set_is_taken_again_after_a_reset(card, flr):
    transport = card.transport()
    offered = transport.device_features()
    sets = [{VIRTIO_F_VERSION_1}, offered, {VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED, VIRTIO_F_NOTIFICATION_DATA},
            {VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ}]
    sets = [bits & offered for bits in sets]
    for _ in range(2):
        for bits in sets:
            assert card.accepts(transport, bits)
            if flr:
                transport.function.reset()
                transport.forget()
    assert transport.device_features() == offered
