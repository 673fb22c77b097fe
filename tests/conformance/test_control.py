"""Commands, and which pair of queues a packet belongs to.

Ref: VIRTIO 1.4, 5.1.9.5 "Control Virtqueue", 5.1.9.5.5 "Automatic receive steering in multiqueue mode".
"""

import struct

import pytest

from ringnic.hdl.spec.net import (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_F_CTRL_VQ,
                                  VIRTIO_NET_F_MQ, VIRTIO_NET_OK)
from ringnic.hdl.spec.virtio import VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_RESET

from .frames import datagram, flow_of

PAIRS = 4
MQ = {VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ}
SET = (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)


def number(count):
    return struct.pack("<H", count)


def learn(card, net, pairs=PAIRS):
    """The card learns which pair a flow is sent from."""
    for pair in range(pairs):
        net.send(datagram(pair, outward=True), pair=pair)
    frames = []
    card.until(lambda: frames.extend(card.wire.take()) or len(frames) == pairs, "a frame of each flow")


def arrive(card, net, flows, tag=0):
    """Let a packet of each flow come; return the pair on which each one was received, None for nowhere."""
    flows = list(flows)
    card.wire.send(*[datagram(flow, tag, outward=False) for flow in flows])
    card.rest()
    found = dict.fromkeys(flows)
    for pair in range(len(net.rx_queues)):
        for one in net.receive(pair):
            flow, seen = flow_of(one)
            assert seen == tag and found[flow] is None
            found[flow] = pair
    return found


@pytest.mark.clause("CV-B2")
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_commands_that_cannot_be_obeyed(card, ring, indirect):
    """Classes and commands that there are not, and data too short, too long, out of range: an error, and that is all."""
    net = card.open(ring | MQ | {VIRTIO_F_INDIRECT_DESC}, pairs=2)
    how = {"indirect": indirect}
    for cls in (0, 1, 2, 3, 5, 6, 7, 8, 9, 0x80, 0xff):
        for command in (0, 1, 0xff):
            assert net.control(cls, command, number(1), **how) == VIRTIO_NET_ERR
    for command in (1, 2, 3, 0xff):
        assert net.control(VIRTIO_NET_CTRL_MQ, command, number(1), **how) == VIRTIO_NET_ERR
    for data in (b"", b"\1", b"\1\0\0", number(1) * 2, bytes(300)):
        assert net.control(*SET, data, **how) == VIRTIO_NET_ERR
    for count in (0, PAIRS + 1, 0x7fff, 0x8000, 0x8001, 0xffff):
        assert net.control(*SET, number(count), **how) == VIRTIO_NET_ERR
    assert net.control(*SET, number(2), **how) == VIRTIO_NET_OK
    card.works()
    assert not card.broken()


@pytest.mark.clause("MQ-1")
@pytest.mark.simulated("a partner, whose frames teach the card nothing")
@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_only_the_first_queue_after_a_reset(card, form, flr):
    """Even of flows that were elsewhere before."""
    net = card.open(form | MQ, pairs=PAIRS)
    learn(card, net)
    assert arrive(card, net, range(PAIRS)) == {pair: pair for pair in range(PAIRS)}
    (net.flr if flr else net.reset)()
    net.set_pairs = lambda pairs: None  # set up, and not asked for
    card.restart()
    assert arrive(card, net, range(PAIRS)) == dict.fromkeys(range(PAIRS), 0)


@pytest.mark.clause("MQ-2")
@pytest.mark.simulated("a partner, whose frames teach the card nothing")
@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_no_packet_above_the_number_of_pairs(card, ring, pairs):
    """Packets come all the while; once the command is used, none comes on a queue that is not in use any more."""
    net = card.open(ring | MQ, pairs=PAIRS)
    learn(card, net)
    for k in range(6):
        card.wire.send(*[datagram(flow, k, outward=False) for flow in range(PAIRS)])
    assert net.control(*SET, number(pairs)) == VIRTIO_NET_OK
    for pair in range(PAIRS):
        net.receive(pair)
    card.rest()
    card.rest()
    assert [net.receive(pair) for pair in range(pairs, PAIRS)] == [[]] * (PAIRS - pairs)
    for pair in range(pairs):
        net.receive(pair)
    assert {pair for pair in arrive(card, net, range(PAIRS), 99).values()} <= set(range(pairs))


@pytest.mark.clause("MQ-3")
@pytest.mark.simulated("a partner, whose frames teach the card nothing")
def test_packets_for_a_queue_that_is_reset(card, ring):
    """They come on another; with all queues reset on none; and on their own when it is there again."""
    net = card.open(ring | MQ | {VIRTIO_F_RING_RESET}, pairs=PAIRS)
    learn(card, net)
    for pair in (2, 0):
        net.transport.reset_queue(2 * pair)
        at = arrive(card, net, range(PAIRS), pair)
        assert {other: at[other] for other in range(PAIRS) if other != pair} == {
            other: other for other in range(PAIRS) if other != pair}
        assert at[pair] not in (pair, None)
        net.reset_queue(2 * pair)
    for pair in range(PAIRS):
        net.transport.reset_queue(2 * pair)
    card.wire.send(*[datagram(flow, 50, outward=False) for flow in range(PAIRS)])
    card.rest()
    for pair in range(PAIRS):
        net.reset_queue(2 * pair)
    card.rest()  # the writes that do it are posted
    assert arrive(card, net, range(PAIRS), 60) == {pair: pair for pair in range(PAIRS)}
    assert not card.broken()


@pytest.mark.clause("MQ-B1")
@pytest.mark.simulated("a partner, whose frames teach the card nothing")
@pytest.mark.parametrize("pairs", [2, 4])
def test_a_flow_comes_back_where_it_was_sent_from(card, ring, pairs):
    """And moves when it is sent from another pair."""
    net = card.open(ring | MQ, pairs=pairs)
    learn(card, net, pairs)
    assert arrive(card, net, range(pairs), 1) == {flow: flow for flow in range(pairs)}
    for flow in range(pairs):
        net.send(datagram(flow, outward=True), pair=(flow + 1) % pairs)
    card.rest()
    assert arrive(card, net, range(pairs), 2) == {flow: (flow + 1) % pairs for flow in range(pairs)}
