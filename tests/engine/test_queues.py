"""Many queues in one pipeline: pairs, the control queue, a queue reset beside others that work."""

import struct

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, NOTIFY_MULTIPLIER, NOTIFY_OFFSET
from ringnic.hdl.spec.net import (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_F_CTRL_VQ,
                                  VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_OK)
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, Common
from ringnic.host.driver import NoSpace

PAIRS = 4
FEATURES = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ,
            VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_RESET}
UDP = struct.Struct(">6s6sH BBHHHBBH4s4s HHHH")
US, THEM = (b"\x52\x54\0\x52\x4e\1", b"\x0a\0\0\1", 6000), (b"\x52\x54\0\0\0\1", b"\x0a\0\0\2", 5000)


def datagram(flow, tag, *, outward, size=90):
    """Number ``tag`` of a flow of its own, to the peer or back."""
    (mac, ip, port), (to_mac, to_ip, to_port) = (US, THEM) if outward else (THEM, US)
    port, to_port = (port + flow, to_port) if outward else (port, to_port + flow)
    header = UDP.pack(to_mac, mac, 0x0800, 0x45, 0, size - 14, 0, 0, 64, 17, 0, ip, to_ip, port, to_port, size - 34, 0)
    return header + tag.to_bytes(4, "big") + bytes(size - len(header) - 4)


def flow_and_tag(frame):
    ports = struct.unpack_from(">HH", frame, 34)
    return max(ports) - 6000, int.from_bytes(frame[42:46], "big")


class Streams:
    """A numbered stream in each direction of each pair; nothing is lost and each keeps its order."""
    def __init__(self, rig, pairs=PAIRS, **options):
        self.rig = rig
        self.net = rig.open(FEATURES, pairs=pairs, **options)
        self.pairs = range(pairs)
        self.sent, self.wired = [0] * pairs, [[] for _ in self.pairs]
        self.fed, self.received = [0] * pairs, [[] for _ in self.pairs]
        self.homeless = set()  # flows whose receive queue is away: any other will do

    def send(self, pair, count=1):
        for _ in range(count):
            self.net.send(datagram(pair, self.sent[pair], outward=True), pair=pair)
            self.sent[pair] += 1

    def feed(self, pair, count=1):
        for _ in range(count):
            self.rig.feed(datagram(pair, self.fed[pair], outward=False))
            self.fed[pair] += 1

    def look(self):
        for frame in self.rig.wire():
            flow, tag = flow_and_tag(frame)
            self.wired[flow].append(tag)
        for pair in self.pairs:
            self.net.reclaim(pair)
            for frame in self.net.receive(pair):
                flow, tag = flow_and_tag(frame)
                assert flow == pair or flow in self.homeless, f"Flow {flow} came on pair {pair}"
                self.received[flow].append(tag)

    def settle(self):
        """Everything has come, in its order."""
        def done():
            self.look()
            return (sum(map(len, self.wired)), sum(map(len, self.received))) == (sum(self.sent), sum(self.fed))
        self.rig.until(done, f"all frames of {self.sent}, {self.fed}")
        assert self.wired == [list(range(count)) for count in self.sent]
        assert self.received == [list(range(count)) for count in self.fed]

    def learn(self):
        """The card learns which pair a flow belongs to when the driver transmits on it (5.1.9.5.5)."""
        for pair in self.pairs:
            self.send(pair)
        self.settle()


def random_rounds(rig, rng, rounds=12, **options):
    streams = Streams(rig, **options)
    streams.learn()
    for _ in range(rounds):
        for _ in range(rng.randrange(1, 12)):
            pair = rng.choice(streams.pairs)
            if rng.random() < 0.5:
                if streams.net.can_send(pair):
                    streams.send(pair)
            elif sum(streams.fed) - sum(map(len, streams.received)) < 20:
                streams.feed(pair)
            rig.bus.run(rng.choice((1, 10, 100)))
        if rng.random() < 0.7:
            streams.look()
    streams.settle()
    rig.check_dma()
    assert rig.net.counters()["queue_errors"] == 0


@pytest.mark.clause("MQ-B1")
def test_every_pair_has_its_flow(rig, rng):
    random_rounds(rig, rng, rounds=40)


@pytest.mark.clause("MQ-B1")
def test_every_pair_has_its_flow_far_from_the_host(far_rig, rng):
    random_rounds(far_rig, rng, rounds=40, queue_size=16)


@pytest.mark.clause("MQ-B1")
def test_sixteen_pairs(wide_rig, rng):
    random_rounds(wide_rig, rng, rounds=200, pairs=16, queue_size=16)


def test_no_queue_starves(rig):
    """All transmit queues are full; each gets its share."""
    streams = Streams(rig, queue_size=64)
    for pair in streams.pairs:
        try:
            while True:
                streams.net.send(datagram(pair, streams.sent[pair], outward=True), kick=False, pair=pair)
                streams.sent[pair] += 1
        except NoSpace:
            streams.net.tx_queues[pair].kick()
    order = []
    while len(order) < 120:
        rig.engine.run(10)
        order += [flow_and_tag(frame)[0] for frame in rig.wire()]
    counts = [order[20:120].count(pair) for pair in streams.pairs]
    assert min(counts) >= 20, counts


@pytest.mark.clause("CV-B2")
@pytest.mark.parametrize("count", [0, PAIRS + 1, 0x7fff, 0x8000, 0xffff])
def test_pairs_that_there_are_not(rig, count):
    net = rig.open(FEATURES, pairs=2)
    assert net.control(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, struct.pack("<H", count)) == VIRTIO_NET_ERR
    rig.works()
    for count in (1, 2):
        assert net.control(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, struct.pack("<H", count)) == VIRTIO_NET_OK
    rig.works()


@pytest.mark.clause("CV-B2")
def test_commands_that_there_are_not(rig, rng):
    net = rig.open(FEATURES, pairs=2)
    for _ in range(40):
        cls, command = rng.choice((0, 1, 2, 3, 5, 6, 0xff, VIRTIO_NET_CTRL_MQ)), rng.randrange(1, 256)
        data = rng.randbytes(rng.choice((0, 1, 2, 3, 17, 300)))
        cuts = [rng.randrange(len(data) + 3) for _ in range(rng.randrange(3))]
        assert net.control(cls, command, data, cuts=cuts, indirect=rng.random() < 0.5) == VIRTIO_NET_ERR
    for data in b"", b"\1", b"\1\0\0":
        assert net.control(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, data) == VIRTIO_NET_ERR
    rig.works()


@pytest.mark.clause("QRST-1", "QRST-2", "QRST-3", "MQ-3")
def test_queue_reset_at_every_moment(rig, rng):
    """One queue after another, with a new size, under load: the others lose nothing, and nothing of the old one is touched."""
    streams = Streams(rig, queue_size=32)
    streams.learn()
    net = streams.net
    rig.engine.accesses()
    for moment in range(1, 900, 29):
        pair, direction = rng.choice(streams.pairs), rng.randrange(2)
        for other in streams.pairs:
            streams.send(other, 2)
            streams.feed(other, 2)
        rig.bus.run(moment)
        streams.look()
        old = (net.tx_queues if direction else net.rx_queues)[pair]
        ring = old.memory.iova, old.memory.iova + len(old.memory)
        before = sum(len(chain.places) for chain in old._chains.values())
        assert before <= old.size
        size = rng.choice((8, 16, 32)) if VIRTIO_F_RING_PACKED not in net.features else rng.randrange(5, 33)
        streams.homeless = set() if direction else {pair}
        lost = net.reset_queue(2 * pair + direction, size)
        rig.engine.accesses()
        rig.bus.run(1500)
        touched = [addr for addr, *_ in rig.engine.accesses() if ring[0] <= addr < ring[1]]
        assert not touched, "the ring that was reset is touched"
        streams.look()
        if direction:
            # What the card had not given back may have been sent or not, the rest has come in its order.
            got = streams.wired[pair]
            assert got == sorted(set(got)) and streams.sent[pair] - len(got) <= lost
            streams.wired[pair] = list(range(streams.sent[pair]))
        else:
            def quiet():
                streams.look()
                return rig.engine.run_until(idle=True, limit=3000) < 3000
            rig.until(quiet, "frames on the wire")
            streams.look()
            got = streams.received[pair]
            assert len(got) == len(set(got))
            streams.received[pair] = list(range(streams.fed[pair]))
        streams.settle()
    assert net.counters()["queue_errors"] == 0
    assert not rig.broken()


@pytest.mark.clause("QRST-1")
def test_queue_is_enabled_in_a_flood(rig, monkeypatch):
    """2.6.1.1.1: the only receive queue is reset, and enabled again in one cycle or another while frames come back to back.
    Whatever the card was doing with a frame, it touches no buffer of before the reset."""
    net = rig.open(FEATURES - {VIRTIO_NET_F_MQ}, queue_size=16, fill=False)
    transport, write = net.transport, net.transport.common_write

    def flood(moment):
        for _ in range(60):
            rig.engine.send_frame(bytes(60))
        rig.bus.run(100 + moment)

    for moment in range(24):
        # While there is no queue for them, frames that are left are dropped.
        transport.reset_queue(0)
        rig.bus.run(2000)
        net.rx_queues[0] = transport.setup_queue(0, 16, 1)
        buffers = rig.arena(8 * 2048)
        for k in range(8):
            net.rx.add_buf([], [rig.describe(buffers, 2048 * k, 2048)], k)
        net.rx.notify()
        rig.bus.run(800)
        transport.reset_queue(0)
        rig.check_dma()
        rig.arenas[buffers.iova].clear()               # they are the driver's again

        def late(offset, size, value):
            if offset == Common.QUEUE_ENABLE:
                flood(moment)
            write(offset, size, value)
        with monkeypatch.context() as patch:
            patch.setattr(transport, "common_write", late)
            net.rx_queues[0] = transport.setup_queue(0, 16, 1)
        rig.bus.run(1500)
        rig.check_dma()
    assert net.counters()["queue_errors"] == 0


def test_reset_of_a_broken_queue_mends_it(rig):
    """A queue that stopped for its driver's fault, and is reset: the device still says DEVICE_NEEDS_RESET, the queue works."""
    net = rig.open(FEATURES)
    spot = rig.arena(64)
    if VIRTIO_F_RING_PACKED in net.features:
        net.tx.publish((spot.iova, 15, 0, 4))
    else:
        net.tx.write_desc(5, spot.iova, 15, 4)
        net.tx.publish(5)
    net.tx.notify()
    rig.until(rig.broken, "the queue stops")
    net.reset_queue(1)
    rig.works()


@pytest.mark.clause("ANS-3")
def test_notifications_of_queues_that_are_not_there(rig, rng):
    net = rig.open(FEATURES, pairs=2)
    for _ in range(300):
        queue = rng.choice((0, 3, 4, 7, 8, 9, 10, 63, 0x3ff, rng.randrange(0x400)))
        rig.bus.bar_write(BAR_INDEX, NOTIFY_OFFSET + NOTIFY_MULTIPLIER * queue, rng.choice((2, 4)), rng.randrange(1 << 16))
    rig.works()
    assert not rig.broken() and net.counters()["queue_errors"] == 0
