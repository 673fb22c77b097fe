"""The golden device under the golden driver: what the standard says, both sides of it, without hardware between."""

import pytest

from ringnic.hdl.spec.net import (VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ,
                                  VIRTIO_NET_F_MRG_RXBUF)
from ringnic.hdl.spec.pcie import VirtioCap
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED,
                                     VIRTIO_F_VERSION_1, CfgType, Common, Isr, Status, VirtqDescF)
from ringnic.host.driver import PciFunction, Transport, VirtioNet
from ringnic.host.driver.net import FEATURES
from ringnic.sim.bus import GoldenBus
from ringnic.sim.golden import GoldenNet

CONFIG, RX, TX = 0, 1, 2  # vectors that the driver uses
SPLIT = FEATURES - {VIRTIO_F_RING_PACKED}


@pytest.fixture
def device():
    return GoldenNet()


def open_net(device, features=SPLIT, **options):
    return VirtioNet.open(GoldenBus(device), features, **options)


def frame(k, length=60):
    return bytes([k]) * length


# Transport

def test_what_it_says_of_itself(device):
    net = open_net(device)
    assert net.features == (SPLIT & device.offered | {VIRTIO_F_VERSION_1})
    assert FEATURES <= GoldenNet(queue_pairs=2).offered == device.offered | {VIRTIO_NET_F_MQ}
    assert net.mac == bytes.fromhex("525400524e01")
    assert (net.mtu, net.speed, net.link_up) == (1500, 1000, True)
    assert net.transport.function.msix_vectors == 4
    assert net.transport.function.bars[0].size == 0x8000
    assert net.counters()["tx_frames"] == 0


@pytest.mark.parametrize("features, verdict", [
    ({VIRTIO_F_VERSION_1}, True),
    ({VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC}, True),
    ({VIRTIO_NET_F_MAC}, False),
    ({VIRTIO_F_VERSION_1, VIRTIO_NET_F_CSUM}, False),
    ({VIRTIO_F_VERSION_1, 127}, False),
    ({VIRTIO_F_VERSION_1, 200}, False),
    ({VIRTIO_F_VERSION_1, VIRTIO_NET_F_MQ}, False),
    ({VIRTIO_F_VERSION_1, VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ}, True),
])
def test_negotiation(features, verdict):
    device = GoldenNet(queue_pairs=2)
    transport = Transport(PciFunction(GoldenBus(device)))
    transport.reset()
    transport.status = Status.ACKNOWLEDGE | Status.DRIVER
    for word in range(8):
        transport.common_write(Common.DRIVER_FEATURE_SELECT, 4, word)
        transport.common_write(Common.DRIVER_FEATURE, 4, sum(1 << bit % 32 for bit in features if bit // 32 == word))
    transport.status = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK
    agreed = Status.FEATURES_OK | Status.DRIVER_OK if verdict else Status(0)
    assert transport.status == Status.ACKNOWLEDGE | Status.DRIVER | agreed
    assert device.features == (features if verdict else frozenset())


def test_what_is_offered():
    offered = {VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED, VIRTIO_NET_F_MQ, 100}
    device = GoldenNet(offered=offered)
    assert open_net(device, FEATURES).features == device.offered == {VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED}


@pytest.mark.parametrize("tags", ["", "8100 0001", "88a8 0001", "88a8 0001 8100 0002"], ids=["plain", "c", "s", "s_c"])
def test_nothing_of_more_than_the_mtu_is_received(device, tags):
    """5.1.4.1: mtu and the header for the link; of three tags the third is payload."""
    net = open_net(device, FEATURES)
    head = bytes(12) + bytes.fromhex(tags) + b"\x88\xb5"
    for more in (1, 0, 4, 8):
        device.receive(head + bytes(1500 + more))
    assert net.receive() == [head + bytes(1500)] and device.counters["rx_dropped_long"] == 3
    device.receive(bytes(12) + bytes.fromhex("8100 0001" * 3) + bytes(1499))
    assert net.receive() == [] and device.counters["rx_dropped_long"] == 4
    net.tx_memory.view[:12] = bytes(12)
    for size, sent in ((1522, 1), (1523, 1)):
        net.tx.add_buf([(net.tx_memory.iova, 12 + size)], [], size)
        net.tx.kick()
        assert len(device.sent) == sent
    with pytest.raises(ValueError, match="^Frame of 1515 bytes is longer than the MTU allows$"):
        net.send(bytes(1515))
    net.send(head + bytes(1500))
    assert device.sent[-1] == head + bytes(1500)


@pytest.mark.parametrize("mtu", [68, 9000, 65535])
def test_smallest_and_largest_mtu(mtu):
    """5.1.4.1: 68 to 65535; the Ethernet header comes on top, with a tag or two of 4 bytes."""
    device = GoldenNet(mtu=mtu)
    net = open_net(device, FEATURES)
    assert net.mtu == mtu
    device.receive(bytes(14 + mtu + 1))
    device.receive(bytes(14 + mtu))
    assert net.receive() == [bytes(14 + mtu)] and device.counters["rx_dropped_long"] == 1
    net.tx_memory.view[:12] = bytes(12)
    for size, sent in ((14, 1), (18, 2), (22, 3), (23, 3)):
        net.tx.add_buf([(net.tx_memory.iova, 12 + mtu + size)], [], size)
        net.tx.kick()
        assert len(device.sent) == sent


@pytest.mark.parametrize("largest", [1, 2, 32768])
@pytest.mark.parametrize("features", [SPLIT, FEATURES])
def test_sizes_of_queues(largest, features):
    """2.7, 2.8: up to 32768 entries, of a split queue a power of 2; 4.1.4.3: the driver may reduce what the device shows."""
    transport = Transport(PciFunction(GoldenBus(GoldenNet(max_queue_size=largest))))
    transport.negotiate(features)
    transport.common_write(Common.QUEUE_SELECT, 2, 2)
    shown = largest
    for size in (0, 1, 3, largest, largest - 1, largest + 1, 0x7fff, 0x8000, 0x8001, 0xffff, 1):
        transport.common_write(Common.QUEUE_SIZE, 2, size)
        if 1 <= size <= largest and (features == FEATURES or size.bit_count() == 1):
            shown = size
        assert transport.common_read(Common.QUEUE_SIZE, 2) == shown
    for queue in (3, 0x7fff, 0xffff):
        transport.common_write(Common.QUEUE_SELECT, 2, queue)
        transport.common_write(Common.QUEUE_SIZE, 2, 1)
        assert transport.common_read(Common.QUEUE_SIZE, 2) == 0


@pytest.mark.parametrize("register", [Common.CONFIG_MSIX_VECTOR, Common.QUEUE_MSIX_VECTOR])
def test_vectors(device, register):
    """4.1.5.1.2: a vector of the table reads back, which has four here; any other is none."""
    transport = Transport(PciFunction(GoldenBus(device)))
    transport.common_write(Common.QUEUE_SELECT, 2, 2)
    for vector, back in ((0, 0), (3, 3), (4, 0xffff), (3, 3), (0x7ff, 0xffff), (0, 0), (0xffff, 0xffff)):
        transport.common_write(register, 2, vector)
        assert transport.common_read(register, 2) == back


def test_registers_keep_what_they_may(device):
    transport = Transport(PciFunction(GoldenBus(device)))
    transport.negotiate(SPLIT)
    transport.common_write(Common.QUEUE_SELECT, 2, 3)
    assert transport.common_read(Common.QUEUE_SIZE, 2) == 0
    assert transport.common_read(Common.QUEUE_MSIX_VECTOR, 2) == 0xffff
    transport.common_write(Common.QUEUE_SELECT, 2, 1)
    transport.common_write(Common.QUEUE_MSIX_VECTOR, 2, 4)
    assert transport.common_read(Common.QUEUE_MSIX_VECTOR, 2) == 0xffff
    for size in (0, 3, 2048):
        transport.common_write(Common.QUEUE_SIZE, 2, size)
        assert transport.common_read(Common.QUEUE_SIZE, 2) == 1024
    transport.setup_queue(1, 8)
    transport.common_write(Common.QUEUE_SIZE, 2, 16)
    transport.common_write(Common.QUEUE_DESC, 4, 0)
    assert transport.common_read(Common.QUEUE_SIZE, 2) == 8
    assert transport.common_read(Common.QUEUE_DESC, 4) == transport.queues[1].desc_iova & 0xffff_ffff
    transport.reset()
    transport.common_write(Common.QUEUE_SELECT, 2, 1)
    assert transport.common_read(Common.QUEUE_SIZE, 2) == 1024
    assert transport.common_read(Common.QUEUE_ENABLE, 2) == 0


def test_window_in_configuration_space(device):
    function = PciFunction(GoldenBus(device))
    window, bus = function.structures[CfgType.PCI].cap, function.bus
    bus.config_write(window + VirtioCap.OFFSET, 4, function.structures[CfgType.COMMON].offset + Common.NUM_QUEUES)
    bus.config_write(window + VirtioCap.LENGTH, 4, 2)
    assert bus.config_read(window + VirtioCap.PCI_CFG_DATA, 2) == 3
    bus.config_write(window + VirtioCap.OFFSET, 4, function.structures[CfgType.COMMON].offset + Common.DEVICE_STATUS)
    bus.config_write(window + VirtioCap.LENGTH, 4, 1)
    bus.config_write(window + VirtioCap.PCI_CFG_DATA, 1, Status.ACKNOWLEDGE)
    assert device.status == Status.ACKNOWLEDGE


def test_reset_and_flr(device):
    net = open_net(device)
    for reset in net.reset, net.flr:
        reset()
        assert device.status == 0 and not device.queues
        assert not device.memory._regions
        net.restart()
        net.send(frame(1))
        assert device.sent.pop() == frame(1)


def test_interrupts(device):
    net = open_net(device)
    function = net.transport.function
    net.send(frame(1))
    device.receive(frame(2))
    assert net.bus.poll_irq() == {RX, TX}
    net.receive()
    net.rx.enable_cb()
    function.mask_vector(RX)
    device.receive(frame(3))
    assert net.bus.poll_irq() == set()
    function.mask_vector(RX, False)
    assert net.bus.poll_irq() == {RX}
    device.link_up = False
    assert net.bus.poll_irq() == {CONFIG}
    assert not net.link_up
    assert net.transport.read_isr() == Isr.CONFIG
    function.disable_msix()
    net.receive()
    net.rx.enable_cb()
    device.receive(frame(4))
    assert device.intx and net.bus.poll_irq() == set()
    assert net.transport.read_isr() == Isr.QUEUE
    assert not device.intx and net.transport.read_isr() == 0


def test_speed_and_duplex_change_with_the_link(device):
    """5.1.4.1: not while it is up."""
    net = open_net(device)

    def shown():
        return net.link_up, net.speed, net.transport.config_read(16, 1)
    device.speed, device.duplex = 0xffff_ffff, 0xff
    assert shown() == (True, 1000, 1)
    device.link_up = False
    assert shown() == (False, 0xffff_ffff, 0xff)
    device.speed, device.duplex = 100, 1
    assert shown() == (False, 0xffff_ffff, 0xff)
    generation = device.generation
    device.link_up = True
    assert shown() == (True, 100, 1) and device.generation == generation + 1 and net.bus.poll_irq() == {CONFIG}


# Traffic

@pytest.mark.parametrize("features", [set(), {VIRTIO_F_EVENT_IDX}, {VIRTIO_NET_F_MRG_RXBUF}, SPLIT, FEATURES])
def test_frames_pass(device, features):
    net = open_net(device, features, queue_size=8)
    for k in range(300):
        net.send(frame(k & 255, 14 + k))
        device.receive(frame(k & 255, 60 + k))
        assert device.sent.pop() == frame(k & 255, 14 + k)
        assert net.receive() == [frame(k & 255, 60 + k)]
    assert net.counters()["tx_frames"] == net.counters()["rx_frames"] == 300


@pytest.mark.parametrize("features", [set(), {VIRTIO_F_EVENT_IDX}])
def test_suppression(device, features):
    net = open_net(device, features)
    net.tx.disable_cb()
    for k in range(3):
        net.send(frame(k))
    assert net.bus.poll_irq() == set()
    assert net.reclaim() == 3 and net.tx.enable_cb()
    net.send(frame(4))
    assert net.bus.poll_irq() == {TX}


def test_one_frame_over_several_buffers(device):
    net = open_net(device, rx_slot=100)
    device.memory.writes.clear()
    data = bytes(range(250))
    device.receive(data)
    assert [net.rx.get_buf()[1] for _ in range(3)] == [100, 100, 62]
    assert bytes(net.rx_memory.view[:12]) == bytes([0] * 10 + [3, 0])
    assert [len(payload) for _, payload in device.memory.writes] == [100, 100, 62, 8, 8, 8, 2]


def test_frames_wait_for_buffers(device):
    net = open_net(device, fill=False, rx_slot=100)
    device.receive(frame(7, 150))
    net.refill([0])
    assert len(device.waiting) == 1 and not net.rx.used_idx
    net.refill([1])
    assert net.receive() == [frame(7, 150)]


@pytest.mark.parametrize("ring", [set(), {VIRTIO_F_EVENT_IDX}, {VIRTIO_F_RING_PACKED}])
def test_buffers_that_nobody_notified_of(device, ring):
    """They are found while a frame waits for one; what is wrong in the ring stops the queue all the same."""
    net = open_net(device, ring, fill=False)
    net.rx.kick = lambda: None
    device.receive(frame(1))
    net.refill(range(2))
    assert not net.rx.get_buf()
    net.bus.run(1)
    assert net.receive() == [frame(1)]                  # whose buffer goes back, and nobody says so
    device.receive(frame(2))
    device.receive(frame(3))
    assert net.receive() == [frame(2), frame(3)]
    if VIRTIO_F_RING_PACKED in ring:
        net.rx.publish((0, 100, 0, VirtqDescF.NEXT))    # and no more
    else:
        net.rx.set_avail_idx(net.rx.size + 100)
    assert not net.transport.status & Status.DEVICE_NEEDS_RESET
    device.receive(frame(4))
    device.receive(frame(5))
    device.receive(frame(6))
    assert net.transport.status & Status.DEVICE_NEEDS_RESET


def test_a_buffer_too_small_drops_the_frame_and_stays(device):
    net = open_net(device, set(), rx_slot=100)
    device.receive(frame(1, 89))
    device.receive(frame(2, 88))
    assert net.receive() == [frame(2, 88)]
    assert net.counters()["rx_dropped_no_buffer"] == 1


FULL = [2] * 60 + [3] * 4  # 64 that hold 12 + 120 bytes


@pytest.mark.parametrize("chains, kept", [
    ([FULL], True), ([FULL[:-1] + [2]], False), ([FULL + [1]], False), ([FULL + [0]], False), ([[2]] * 64, False),
    ([[0] * 90 + [132]], True), ([[12]] * 10 + [[0]] * 53 + [[12]], True), ([[12]] * 10 + [[0]] * 54 + [[12]], False),
    ([[65, 0]] * 2 + [[2]], True), ([[1] * 31 + [0]] * 2 + [[70]], False), ([[132] + [9] * 100], True),
    ([FULL[:-1] + [2, 2]], False)])
def test_last_segment_that_a_frame_may_have(device, chains, kept):
    """64, as in the card: those that hold something of the frame, and the last one of each chain."""
    net = open_net(device, fill=False, queue_size=256)
    memory = net.bus.alloc(0x1000)
    for k, sizes in enumerate(chains):
        net.rx.add_buf([], [(memory.iova, size) for size in sizes], k)
    net.rx.kick()
    device.receive(bytes(120))
    assert net.counters()["rx_frames"] == kept and net.counters()["rx_dropped_no_buffer"] == (not kept)
    assert len(list(iter(net.rx.get_buf, None))) == (len(chains) if kept else 0)


@pytest.mark.parametrize("indirect", [False, True])
def test_chains_cut_anywhere(device, indirect):
    net = open_net(device)
    memory = net.bus.alloc(0x1000)
    memory.view[:] = bytes(k & 0xff for k in range(0x1000))
    net.tx.add_buf([(memory.iova, 5), (memory.iova + 9, 0), (memory.iova + 64, 8), (memory.iova + 99, 60)], [], "token",
                   indirect=indirect)
    net.tx.kick()
    assert net.tx.get_buf() == ("token", 0)
    assert device.sent == [bytes(memory.view[0x47:0x48]) + bytes(memory.view[99:159])]


@pytest.mark.parametrize("out, into", [
    ([12 + 13], []), ([12 + 9019], []), ([12, 60], [4]), ([5], []),
])
def test_what_is_no_frame_comes_back(device, out, into):
    net = open_net(device)
    memory = net.bus.alloc(0x4000)
    net.tx.add_buf([(memory.iova, n) for n in out], [(memory.iova, n) for n in into], "token")
    net.tx.kick()
    assert net.tx.get_buf() == ("token", 0)
    assert not device.sent and net.counters()["tx_dropped"] == 1


def test_link_down_drops(device):
    net = open_net(device)
    device.link_up = False
    net.send(frame(1))
    assert net.reclaim() == 1 and not device.sent


# Broken rings

def break_idx(tx, memory):
    tx.write_u16(tx.avail_offset + 2, tx.size + 1)


def break_head(tx, memory):
    tx.publish(tx.size)


def break_next(tx, memory):
    tx.write_desc(0, memory, 20, VirtqDescF.NEXT, tx.size)
    tx.publish(0)


def break_loop(tx, memory):
    tx.write_desc(0, memory, 20, VirtqDescF.NEXT, 0)
    tx.publish(0)


def break_table_length(tx, memory):
    tx.write_desc(0, memory, 24, VirtqDescF.INDIRECT)
    tx.publish(0)


def break_table_empty(tx, memory):
    tx.write_desc(0, memory, 0, VirtqDescF.INDIRECT)
    tx.publish(0)


def break_table_next(tx, memory):
    tx.write_desc(0, memory, 16, VirtqDescF.INDIRECT | VirtqDescF.NEXT, 1)
    tx.publish(0)


def break_table_fault(tx, memory):
    tx.write_desc(0, 0x1000, 16, VirtqDescF.INDIRECT)
    tx.publish(0)


def break_end(tx, memory):
    tx.write_desc(0, memory, 20, VirtqDescF.NEXT, 1)
    tx.write_desc(1, (1 << 64) - 32, 33)
    tx.publish(0)


def break_table_end(tx, memory):
    tx.write_desc(0, (1 << 64) - 16, 32, VirtqDescF.INDIRECT)
    tx.publish(0)


@pytest.mark.parametrize("attack", [break_idx, break_head, break_next, break_loop, break_table_length, break_table_empty,
                                    break_table_next, break_table_fault, break_end, break_table_end],
                         ids=lambda attack: attack.__name__)
def test_a_broken_ring_stops_its_queue_alone(device, attack):
    net = open_net(device, queue_size=16)
    attack(net.tx, net.bus.alloc(64).iova)
    net.tx.notify()
    assert net.transport.status & Status.DEVICE_NEEDS_RESET
    assert net.bus.poll_irq() == {CONFIG}
    assert net.tx.used_idx == 0 and not device.sent
    device.receive(frame(1))
    assert net.receive() == [frame(1)]
    net.reset()
    net.restart()
    net.send(frame(2))
    assert device.sent == [frame(2)]


def test_a_nested_table(device):
    net = open_net(device, queue_size=16)
    memory = net.bus.alloc(64)
    net.tx.add_buf([(memory.iova, 32)], [], "token", indirect=True)
    table, = (buffer for iova, buffer in net.bus.buffers.items() if len(buffer) == 16)
    table.view[12:14] = VirtqDescF.INDIRECT.to_bytes(2, "little")
    net.tx.kick()
    assert net.transport.status & Status.DEVICE_NEEDS_RESET


def test_indirect_that_was_not_negotiated(device):
    net = open_net(device, SPLIT - {VIRTIO_F_INDIRECT_DESC})
    net.tx.write_desc(0, net.tx_memory.iova, 16, VirtqDescF.INDIRECT)
    net.tx.publish(0)
    net.tx.notify()
    assert net.transport.status & Status.DEVICE_NEEDS_RESET


def test_payload_that_faults_is_a_drop(device):
    net = open_net(device)
    net.tx.add_buf([(0x1000, 72)], [], "token")
    net.tx.kick()
    assert net.tx.get_buf() == ("token", 0) and net.counters()["tx_dropped"] == 1
    net.send(frame(1))
    assert device.sent == [frame(1)]
