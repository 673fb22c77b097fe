"""The golden driver as virtio-net: traffic, pairs of queues, commands, queue reset; split and packed."""

import pytest

from ringnic.host.driver import DeviceError, NoSpace

NET = {5, 15, 16, 28, 29, 32}
PACKED, IN_ORDER, NOTIFICATION_DATA, RING_RESET, CTRL_VQ, MQ = 34, 35, 38, 40, 17, 22
EVERYTHING = NET | {IN_ORDER, NOTIFICATION_DATA, RING_RESET, CTRL_VQ, MQ}


@pytest.mark.parametrize("packed", [set(), {PACKED}], ids=["split", "packed"])
@pytest.mark.parametrize("features", [{32}, {32, 29}, {32, 15}, {32, 28}, NET, NET | {IN_ORDER}, EVERYTHING],
                         ids=["plain", "event_idx", "mrg_rxbuf", "indirect", "net", "in_order", "everything"])
def test_random_traffic(fake_net, opened, features, packed, rng):
    pairs = 3 if MQ in features else 1
    device, bus, net = opened(device=fake_net(features | packed, max_pairs=pairs), features=features | packed, pairs=pairs,
                              rx_slot=200 if 15 in features else None, queue_size=11 if packed else None)
    size = net.rx.size
    sent, received, expected = [], [[] for _ in range(pairs)], [[] for _ in range(pairs)]
    for _ in range(3000):
        frame, pair = rng.randbytes(rng.randrange(60, 1515)), rng.randrange(pairs)
        if rng.random() < 0.5:
            try:
                net.send(frame, kick=rng.random() < 0.7, pair=pair)
                sent.append(frame)
            except NoSpace:
                assert not net.can_send(pair)
                device.transmit(pair)
        else:
            expected[pair].append(frame)
            device.deliver(frame, pair)
            if rng.random() < 0.5 or 15 in features or net.rx.num_pending - 1 <= len(expected[0]) - len(received[0]):
                received[pair] += net.receive(pair)
    for pair in range(pairs):
        device.transmit(pair)
        net.reclaim(pair)
        received[pair] += net.receive(pair)
        assert net.tx_queues[pair].num_free == size
        assert net.rx_queues[pair].num_free == 0 and net.rx_queues[pair].num_pending == size
    assert sorted(device.sent) == sorted(sent) and received == expected


def test_full_queue(opened):
    _, _, net = opened()
    for _ in range(16):
        net.send(bytes(60))
    with pytest.raises(NoSpace, match="All 16 transmit buffers are with the device"):
        net.send(bytes(60))
    with pytest.raises(ValueError, match="Frame of 1519 bytes is longer than the MTU allows"):
        net.send(bytes(1519))


def test_a_device_that_breaks_rules_is_caught(opened):
    device, _, net = opened()
    for written in (4, 3000):
        device.give_back(device.queue[0], device.chain(device.queue[0])[0], written)
    with pytest.raises(DeviceError, match="4 bytes do not hold a header"):
        net.receive()
    with pytest.raises(DeviceError, match="Queue 0: 3000 bytes written into a buffer of 2048"):
        net.receive()
    net.send(bytes(60))
    device.give_back(device.queue[1], device.chain(device.queue[1])[0], 1)
    with pytest.raises(DeviceError, match="Queue 1: 1 bytes written into a buffer of 0"):
        net.reclaim()


def test_num_buffers_is_checked(opened):
    for features, count in ((NET, 0), (NET - {15}, 2)):
        device, _, net = opened(features)
        chain, _ = device.chain(device.queue[0])
        for slot in range(16):
            at = slot * net.rx_slot + 10
            net.rx_memory.view[at:at + 2] = bytes((count, 0))
        device.give_back(device.queue[0], chain, 60)
        with pytest.raises(DeviceError, match=f"Received packet has num_buffers {count}"):
            net.receive()


# Pairs and commands.

@pytest.fixture(params=[set(), {PACKED}], ids=["split", "packed"])
def many(fake_net, opened, request):
    """Four pairs, of which three are used."""
    features = EVERYTHING | request.param
    return opened(features, fake_net(features, max_pairs=4), pairs=3)


def test_pairs(many):
    device, bus, net = many
    assert net.max_pairs == 4 and net.pairs == device.pairs == 3
    assert [q.index for q in net.rx_queues] == [0, 2, 4] and [q.index for q in net.tx_queues] == [1, 3, 5]
    assert net.control_queue.index == 8
    assert [q["enable"] for q in device.queue] == [1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert [q["vector"] for q in device.queue if q["enable"]] == [1, 2, 3, 4, 5, 6, 9]
    for pair in (2, 0, 1):
        bus.poll_irq()
        net.tx_queues[pair].enable_cb()
        net.send(bytes([pair]) * 60, pair=pair)
        device.transmit(pair)
        assert bus.poll_irq() == {2 * pair + 2} and device.sent.pop() == bytes([pair]) * 60
        device.deliver(bytes([pair]) * 70, pair)
    assert [net.receive(pair) for pair in range(3)] == [[bytes([pair]) * 70] for pair in range(3)]
    for pairs in (1, 3):
        net.set_pairs(pairs)
        assert net.pairs == device.pairs == pairs
    for pairs in (0, 4):
        with pytest.raises(ValueError, match=f"1 to 3 pairs of queues were set up, not {pairs}"):
            net.set_pairs(pairs)
    net.control = lambda *command: 1
    with pytest.raises(DeviceError, match="Device refuses 2 pairs of queues"):
        net.set_pairs(2)


def test_pairs_there_are(fake_net, opened):
    for features, pairs, there in ((EVERYTHING, 0, 4), (EVERYTHING, 5, 4), (EVERYTHING - {MQ}, 2, 1)):
        with pytest.raises(ValueError, match=f"The device has 1 to {there} pairs of queues, not {pairs}"):
            opened(features, fake_net(EVERYTHING, max_pairs=4), pairs=pairs)


def test_control_queue_without_mq(fake_net, opened):
    """5.1.2: its index is 2 then, however many pairs the device has."""
    device, _, net = opened(EVERYTHING - {MQ}, fake_net(EVERYTHING, max_pairs=4))
    assert net.control_queue.index == 2 and net.max_pairs == 1
    assert net.control(4, 0, b"\1\0") == 0


def test_commands(many):
    device, bus, net = many
    memory = set(bus.buffers)
    for cuts, lengths in (((), [4]), ((1,), [1, 3]), ((3, 2, 1), [1, 1, 1, 1]), ((0, 2, 4), [0, 2, 2, 0])):
        assert net.control(4, 0, b"\2\0", cuts=cuts) == 0
        assert device.commands.pop() == lengths
    assert net.control(4, 0, b"\5\0") == net.control(4, 1, b"\1\0") == net.control(77, 0) == 1
    assert device.pairs == 2 and set(bus.buffers) == memory
    device.obey = lambda queue: device.give_back(queue, device.chain(queue)[0], 0)
    with pytest.raises(DeviceError, match="Command 4, 0 came back without an answer"):
        net.control(4, 0, b"\1\0")
    device.obey = lambda queue: device.give_back(queue, device.chain(queue)[0], 1)
    assert net.control(4, 0, b"\1\0") == 0xff  # what was there before
    device.obey = lambda queue: None
    with pytest.raises(TimeoutError, match="Command 4, 0 is not answered"):
        net.control(4, 0, b"\1\0")
    net.reset()
    assert not bus.buffers


def test_no_commands(opened):
    _, _, net = opened()
    with pytest.raises(ValueError, match="CTRL_VQ was not negotiated"):
        net.control(4, 0)


def test_notification_data(many):
    device, bus, net = many
    packed = PACKED in net.features
    net.reset()
    net.restart(fill=False, queue_size=4)
    device.kicks.clear()
    for _ in range(5):
        net.send(bytes(60), pair=1)
        net.tx_queues[1].notify()
        device.transmit(1)
    following = [0x8001, 0x8002, 0x8003, 0, 1] if packed else [1, 2, 3, 4, 5]
    assert [kick for k, kick in enumerate(device.kicks) if k == 0 or kick != device.kicks[k - 1]] == \
        [after << 16 | 3 for after in following]


# Queue reset.

def test_reset_of_a_transmit_queue(many):
    device, bus, net = many
    device.slow = 3
    for k in range(10):
        net.send(bytes([k]) * 60, pair=1)
        net.send(bytes([100 + k]) * 60)
    device.transmit(1, limit=4)
    assert net.reset_queue(3, 8) == 6
    assert device.queue[3]["size"] == net.tx_queues[1].size == 8 and net.tx_queues[0].num_pending == 10
    device.sent.clear()
    for _ in range(3):  # the new ring goes around
        for k in range(8):
            net.send(bytes([k]) * 61, pair=1)
        with pytest.raises(NoSpace, match="All 8 transmit buffers are with the device"):
            net.send(bytes(61), pair=1)
        device.transmit(1)
    assert device.sent == [bytes([k]) * 61 for k in range(8)] * 3
    assert net.reset_queue(3) == 0 and net.tx_queues[1].size == 16
    for _ in range(16):
        net.send(bytes(61), pair=1)
    net.reset()
    assert not bus.buffers


def test_reset_of_a_receive_queue(many):
    """What had come is not lost; the buffers go to the new queue."""
    device, bus, net = many
    device.deliver(b"before" * 500, 2)
    assert net.reset_queue(4, 4) == 0
    device.deliver(b"after" * 20, 2)
    assert net.rx_queues[2].num_pending == 4
    assert net.receive(2) == [b"before" * 500, b"after" * 20]
    for k in range(20):
        device.deliver(bytes([k]) * 60, 2)
        assert net.receive(2) == [bytes([k]) * 60]
    for k in range(4):
        device.deliver(bytes([k]) * 60, 0)
        device.deliver(bytes([k]) * 61, 2)
    for pair in (0, 2):
        assert net.receive(pair) == [bytes([k]) * (60 + pair // 2) for k in range(4)]


def test_reset_amid_a_packet(many):
    """A device that has shown half of a packet and is reset begins with a new one."""
    device, _, net = many
    chain, ((addr, *_),) = device.chain(device.queue[0])
    device.at(addr, 12)[10] = 2
    device.give_back(device.queue[0], chain, 2048)
    assert net.receive() == []
    net.reset_queue(0)
    device.deliver(b"whole" * 20)
    assert net.receive() == [b"whole" * 20]


def test_reset_of_the_control_queue(many):
    device, bus, net = many
    assert net.reset_queue(8, 2) == 0 and net.control_queue.size == 2
    net.set_pairs(2)
    assert device.pairs == 2


def test_queue_reset_is_waited_for(many):
    device, _, net = many
    device.slow = 10**9
    with pytest.raises(TimeoutError, match="Reset of queue 1 does not end"):
        net.transport.reset_queue(1)


def test_queue_reset_is_a_feature(opened):
    _, _, net = opened()
    with pytest.raises(ValueError, match="RING_RESET was not negotiated"):
        net.reset_queue(1)
