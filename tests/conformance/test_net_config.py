"""Device configuration of a network card.

Ref: VIRTIO 1.4, 2.5 "Device Configuration Space", 5.1.4 "Device configuration layout".
"""

import pytest

from ringnic.hdl.spec.net import (VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ,
                                  VIRTIO_NET_F_MTU, VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS)
from ringnic.hdl.spec.virtio import CfgType, Status
from ringnic.host.driver.net import MAC, MAX_PAIRS, MTU, SPEED, STATUS

DUPLEX = 16
UNKNOWN_SPEED, UNKNOWN_DUPLEX, HALF, FULL = 0xffff_ffff, 0xff, 0, 1
LARGEST_SPEED = 0x7fff_ffff
# Offset and bytes of each field, and the feature that brings it.
FIELDS = {VIRTIO_NET_F_MAC: (MAC, 6), VIRTIO_NET_F_STATUS: (STATUS, 2), VIRTIO_NET_F_MQ: (MAX_PAIRS, 2),
          VIRTIO_NET_F_MTU: (MTU, 2), VIRTIO_NET_F_SPEED_DUPLEX: (SPEED, 5)}


def whole(transport):
    """All fields that the device offers, by feature."""
    return {bit: transport.config_read(*field) for bit, field in FIELDS.items() if bit in transport.device_features()}


@pytest.mark.clause("CFG-1")
def test_all_fields_can_be_read_from_the_beginning(card):
    """Before ACKNOWLEDGE, before FEATURES_OK, with all features and with none."""
    transport = card.transport()
    found = [whole(transport)]
    transport.status = Status.ACKNOWLEDGE
    found.append(whole(transport))
    transport.status = Status.ACKNOWLEDGE | Status.DRIVER
    found.append(whole(transport))
    for wanted in (transport.device_features(), frozenset()):
        transport.negotiate(wanted)
        found.append(whole(transport))
    assert found == found[:1] * len(found)
    for bit, value in found[0].items():
        offset, size = FIELDS[bit]
        assert [transport.config_read(offset + at, 1) for at in range(size)] == list(value.to_bytes(size, "little"))
    if VIRTIO_NET_F_MAC in found[0]:
        assert found[0][VIRTIO_NET_F_MAC] and not found[0][VIRTIO_NET_F_MAC] & 1  # of an individual


@pytest.mark.clause("NC-1")
def test_pairs(card):
    transport = card.transport()
    pairs = transport.config_read(MAX_PAIRS, 2)
    assert 1 <= pairs <= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX
    assert transport.num_queues >= 2 * pairs + 1  # 5.1.2: and the control queue
    card.open({VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ}, pairs=pairs)
    card.works()


@pytest.mark.clause("NC-2")
def test_mtu(card):
    mtu = card.transport().config_read(MTU, 2)
    assert 68 <= mtu <= 65535
    assert mtu >= 1280  # SHOULD


@pytest.mark.clause("NC-3", "NC-9")
@pytest.mark.simulated("a hand on the cable")
def test_mtu_speed_and_duplex_stay(card, form):
    """Whatever happens to the link, and in a reset."""
    net = card.open(form | {VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_SPEED_DUPLEX})

    def now():
        return net.mtu, net.speed, net.transport.config_read(DUPLEX, 1)
    first = now()
    card.works()
    assert now() == first
    for up in (False, True):
        card.wire.set_link(up)
        card.until(lambda: net.link_up == up, "link status")
        assert now() == first
    for reset in (net.reset, net.flr):
        reset()
        card.restart()
        assert now() == first
    card.works()


@pytest.mark.clause("NC-8")
def test_speed_and_duplex(card):
    """The field's description is followed: 1 is full, as ethtool has it; the requirement has them the other way round."""
    transport = card.transport()
    speed, duplex = transport.config_read(SPEED, 4), transport.config_read(DUPLEX, 1)
    assert speed <= LARGEST_SPEED or speed == UNKNOWN_SPEED
    assert duplex in (HALF, FULL, UNKNOWN_DUPLEX)


def test_what_the_driver_writes_there_changes_nothing(card):
    """No field of those offered can be written by a driver of VIRTIO 1."""
    net = card.open()
    before = whole(net.transport)
    device = net.transport.function.structures[CfgType.DEVICE]
    for at in range(0, 20, 4):
        card.bus.bar_write(device.bar, device.offset + at, 4, 0xffff_ffff)
    assert whole(net.transport) == before
