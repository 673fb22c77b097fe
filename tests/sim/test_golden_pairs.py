"""Pairs of queues and their control queue: the golden device under the golden driver."""

import struct

import pytest

from ringnic.hdl.spec.net import (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_F_CTRL_VQ,
                                  VIRTIO_NET_F_MQ, VIRTIO_NET_OK)
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED,
                                     VIRTIO_F_RING_RESET, Status)
from ringnic.host.driver import VirtioNet
from ringnic.host.driver.net import FEATURES
from ringnic.sim.bus import GoldenBus
from ringnic.sim.golden import GoldenNet
from ringnic.sim.golden.steer import flow

MQ = frozenset({VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ})
RINGS = pytest.mark.parametrize("features", [MQ, MQ | {VIRTIO_F_RING_PACKED}, FEATURES - {VIRTIO_F_RING_PACKED}, FEATURES],
                                ids=["split", "packed", "split-all", "packed-all"])
SET = VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET
CONFIG = 0  # vector
MACS = bytes(range(12))


def open_net(features=FEATURES, queue_pairs=4, **options):
    device = GoldenNet(queue_pairs=queue_pairs, strict=True)
    return device, VirtioNet.open(GoldenBus(device), features, **{"pairs": queue_pairs, "queue_size": 8, **options})


def pairs(count):
    return struct.pack("<H", count)


def frame(source, destination, *, version=4, protocol=17, ports=(1000, 80), vlan=b"", fragment=0, options=b""):
    """A frame of a flow, without checksums: nobody looks at them."""
    payload = struct.pack(">HH", *ports) + bytes(30)
    if version == 4:
        header = struct.pack(">BxHxxHBBxx4s4s", 0x45 + len(options) // 4, 20 + len(options) + len(payload), fragment, 64,
                             protocol, bytes([10, 0, 0, source]), bytes([10, 0, 0, destination])) + options
    else:
        header = struct.pack(">B3xHBB16s16s", 0x60, len(payload), protocol, 64, bytes([source] * 16), bytes([destination] * 16))
    return MACS + vlan + (b"\x08\x00" if version == 4 else b"\x86\xdd") + header + payload


KINDS = pytest.mark.parametrize("kind", [
    {}, {"protocol": 6}, {"version": 6}, {"version": 6, "protocol": 6}, {"vlan": b"\x81\x00\x00\x05"}, {"options": bytes(8)},
    {"vlan": b"\x81\x00\x00\x05", "version": 6}], ids=str)


def answer(kind, source, destination, ports):
    return frame(destination, source, ports=ports[::-1], **kind)


# Flows

@KINDS
def test_a_flow_is_the_same_both_ways(kind):
    there = flow(frame(1, 2, ports=(1000, 80), **kind))
    assert there is not None and there == flow(answer(kind, 1, 2, (1000, 80)))
    assert len({there, *(flow(frame(*other, **kind, ports=ports)) for other, ports in (
        ((1, 3), (1000, 80)), ((2, 1), (1000, 80)), ((1, 2), (1001, 80))))}) == 4


@pytest.mark.parametrize("data", [
    b"", bytes(60), MACS + b"\x08\x06" + bytes(46), frame(1, 2, protocol=1), frame(1, 2, fragment=0x2000),
    frame(1, 2, fragment=5), frame(1, 2, version=6, protocol=44), frame(1, 2)[:37], frame(1, 2, version=6)[:57],
    MACS + b"\x08\x00\x65" + bytes(60), MACS + b"\x86\xdd\x45" + bytes(60), frame(1, 2, options=bytes(40))[:60],
    frame(1, 2, vlan=b"\x81\x00\x00\x05" * 2)])
def test_what_is_no_flow(data):
    assert flow(data) is None


# Control queue

@RINGS
def test_commands(features):
    device, net = open_net(features, pairs=1)
    assert device.active_pairs == 1
    for count in range(1, 5):
        assert net.control(*SET, pairs(count)) == VIRTIO_NET_OK and device.active_pairs == count
    for command in ((*SET, pairs(0)), (*SET, pairs(5)), (*SET, pairs(0x8000)), (*SET, pairs(0xffff)), (*SET, b""), (*SET, b"\1"),
                    (*SET, b"\1\0\0"), (4, 1, pairs(1)), (0, 0, b"\1"), (1, 0, bytes(500)), (255, 255)):
        assert net.control(*command) == VIRTIO_NET_ERR and device.active_pairs == 4
    assert not device.status & Status.DEVICE_NEEDS_RESET
    assert net.transport.num_queues == 9 and net.control_queue.index == 8


@RINGS
@pytest.mark.parametrize("cuts", [(1,), (2,), (3,), (1, 2, 3), (0, 0, 2), (2, 4, 4)])
def test_a_request_is_cut_anywhere(features, cuts):
    device, net = open_net(features, pairs=1)
    for indirect in {False, net.control_queue.indirect}:
        device.active_pairs = 1
        assert net.control(*SET, pairs(3), cuts=cuts, indirect=indirect) == VIRTIO_NET_OK
        assert device.active_pairs == 3


@RINGS
def test_the_ack_goes_where_it_can(features):
    device, net = open_net(features, pairs=1)
    queue, memory = net.control_queue, net.bus.alloc(64)
    memory.view[:] = bytes((*SET, 2, 0)) + b"\xff" * 60
    at = memory.iova
    queue.add_buf([(at, 4)], [], "no ack")
    queue.add_buf([(at, 4)], [(at + 8, 0), (at + 9, 0)], "no byte for it")
    queue.kick()
    assert device.active_pairs == 2  # done, and nobody can be told
    assert [queue.get_buf(), queue.get_buf()] == [("no ack", 0), ("no byte for it", 0)]
    memory.view[2] = 3
    queue.add_buf([(at, 4)], [(at + 8, 0), (at + 9, 5), (at + 20, 1)], "room for more")
    queue.add_buf([], [(at + 30, 1)], "no request")
    queue.add_buf([(0x1000, 4)], [(at + 31, 1)], "request is nowhere")
    queue.kick()
    assert [queue.get_buf() for _ in range(3)] == [("room for more", 1), ("no request", 1), ("request is nowhere", 1)]
    assert bytes(memory.view[8:32]).replace(b"\xff", b".") == b".\0" + b"." * 20 + b"\1\1"
    assert device.active_pairs == 3 and net.bus.poll_irq() == {CONFIG + 1 + queue.index}


@pytest.mark.parametrize("queue_pairs", [1, 4])
def test_without_mq_queue_2_is_the_control_queue(queue_pairs):
    device, net = open_net({VIRTIO_NET_F_CTRL_VQ}, queue_pairs, pairs=1)
    assert net.control_queue.index == 2
    assert net.control(*SET, pairs(1)) == VIRTIO_NET_ERR
    device.receive(bytes(60))
    net.send(bytes(60))
    assert net.receive() == [bytes(60)] == device.sent


# Steering (5.1.9.5.5)

@RINGS
def test_frames_go_everywhere(features):
    device, net = open_net(features)
    for k in range(200):
        pair, data = k % 4, bytes([k]) * (60 + k)
        net.send(data, pair=pair)
        assert device.sent.pop() == data
        device.receive(data, pair)
        assert [net.receive(other) for other in range(4)] == [[data] if other == pair else [] for other in range(4)]


@KINDS
def test_answers_come_back_where_questions_came_from(kind):
    device, net = open_net()
    for pair in (2, 0, 3, 1):
        net.send(frame(1, 2, ports=(1000 + pair, 80), **kind), pair=pair)
    for pair in range(4):
        device.receive(answer(kind, 1, 2, (1000 + pair, 80)))
        assert len(net.receive(pair)) == 1
    # MQ-2: nothing above the count; below it nothing changes.
    net.set_pairs(2)
    for pair in range(4):
        device.receive(answer(kind, 1, 2, (1000 + pair, 80)))
        assert [len(net.receive(other)) for other in range(4)] == [int(other == pair % 2 * (pair < 2)) for other in range(4)]
    # A flow moves with its last frame.
    net.send(frame(1, 2, ports=(1001, 80), **kind), pair=0)
    device.receive(answer(kind, 1, 2, (1001, 80)))
    assert len(net.receive(0)) == 1


def test_reset_forgets_pairs_and_flows():
    device, net = open_net()
    net.send(frame(1, 2), pair=3)
    net.reset()
    assert device.active_pairs == 1
    net.restart()
    device.receive(answer({}, 1, 2, (1000, 80)))
    assert len(net.receive(0)) == 1


def test_frames_that_wait_are_steered_again():
    device, net = open_net(FEATURES - {VIRTIO_F_IN_ORDER}, fill=False)
    for _ in range(2):
        device.receive(bytes(60), 3)
    device.receive(bytes(61), 1)
    net.refill(net._rx_slots[1], 1)
    assert net.receive(1) == [bytes(61)] and len(device.waiting) == 2  # nobody waits for another pair
    net.set_pairs(2)
    assert {pair for _, pair in device.waiting} == {0}
    net.refill(net._rx_slots[0], 0)
    assert net.receive(0) == [bytes(60)] * 2


@RINGS
def test_a_receive_queue_in_reset(features):
    """MQ-3: its frames go to another, and nowhere if all are in reset."""
    device, net = open_net(features | {VIRTIO_F_RING_RESET})
    net.send(frame(1, 2), pair=2)
    net.transport.reset_queue(4)
    device.receive(answer({}, 1, 2, (1000, 80)))
    assert [len(net.receive(pair)) for pair in (0, 1, 3)] == [1, 0, 0]
    net.reset_queue(4, 8)
    device.receive(answer({}, 1, 2, (1000, 80)))
    assert len(net.receive(2)) == 1
    for index in 0, 2, 4, 6:
        net.transport.reset_queue(index)
    device.receive(bytes(60))
    assert device.counters["rx_dropped_no_buffer"] == 1 and not device.waiting


def test_a_queue_that_broke_down_is_no_target():
    device, net = open_net({*MQ, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC}, fill=False)
    device.receive(bytes(60), 1)
    net.rx_queues[1].set_avail_idx(1000)
    net.rx_queues[1].notify()
    assert device.status & Status.DEVICE_NEEDS_RESET
    net.refill([0], 0)
    assert net.receive(0) == [bytes(60)]
