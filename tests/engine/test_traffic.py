"""Directed traffic: sizes, features, chains, and rings that wrap."""

from itertools import product

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from ringnic.hdl.spec.net import (VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
                                  VIRTIO_NET_HDR_SIZE)
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED

BASE = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS}
OPTIONAL = (VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MRG_RXBUF)
FEATURES = [BASE | {bit for bit, on in zip(OPTIONAL, choice) if on} for choice in product((0, 1), repeat=3)]
SIZES = (60, 61, 63, 64, 65, 127, 128, 129, 244, 245, 511, 512, 1000, 1513, 1514)


def frame(size, tag=0):
    """A UDP datagram in a frame of ``size`` bytes."""
    packet = Ether(src="52:54:00:00:00:01", dst="52:54:00:52:4e:01") / IP(src="10.0.0.1", dst="10.0.0.2") / UDP()
    payload = bytes((k * 7 + size + tag) & 0xff for k in range(size - len(packet)))
    return bytes(packet / payload)


def names(features):
    return "+".join(name for name, bit in zip(("event_idx", "indirect", "mrg"), OPTIONAL) if bit in features) or "none"


@pytest.mark.parametrize("features", FEATURES, ids=names)
def test_all_sizes_both_ways(rig, features):
    net = rig.open(features)
    frames = [frame(size) for size in SIZES]
    rig.send(frames)
    rig.expect_wire(frames)
    for one in frames:
        rig.feed(one)
    rig.expect_received(frames)
    rig.all_sent()
    rig.check_dma()
    counters = net.counters()
    assert counters["tx_frames"] == counters["rx_frames"] == len(frames)
    assert not any(counters[name] for name in ("tx_dropped", "queue_errors", "dma_read_errors", "dma_timeouts",
                                               "cpl_unexpected", "tlps_malformed", "requests_unsupported"))


def test_device_configuration(rig):
    net = rig.open(BASE)
    assert net.mac == bytes.fromhex("525400524e01") and net.mtu == 1500 and net.link_up


@pytest.mark.clause("FRM-1")
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_transmit_chains_of_odd_pieces(rig, indirect):
    net = rig.open(FEATURES[-1])
    memory, at = rig.arena(0x20000), 0
    expected = []
    cuts = [[12], [1] * 12, [5, 7], [12, 1], [12, 0, 3], [13, 60], [11, 2, 29], [3, 1280, 4], [1279, 1, 1],
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]]
    for k, cut in enumerate(cuts):
        body = frame(max(300, sum(cut) + 100))
        packet = bytes(VIRTIO_NET_HDR_SIZE) + body
        pieces, done = [], 0
        for length in [*cut, len(packet) - sum(cut)]:
            at += 1 + (k * 5 + length) % 9        # offsets of every kind, gaps between the pieces
            memory.view[at:at + length] = packet[done:done + length]
            pieces.append(rig.describe(memory, at, length))
            at, done = at + length, done + length
        net.tx.add_buf(pieces, [], k, indirect=indirect)
        expected.append(body)
    net.tx.kick()
    rig.expect_wire(expected)
    back = []

    def done():
        while (got := net.tx.get_buf()) is not None:
            back.append(got)
        return len(back) == len(cuts)
    rig.until(done, "all chains back")
    assert back == [(k, 0) for k in range(len(cuts))]
    rig.check_dma()


@pytest.mark.clause("FRM-1")
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_receive_into_chains_of_odd_pieces(rig, indirect):
    net = rig.open(BASE | {VIRTIO_F_INDIRECT_DESC}, fill=False)
    memory, at, chains = rig.arena(0x10000), 3, []
    memory.view[:] = b"\xa5" * len(memory)
    for k, cut in enumerate([[2000], [12, 1600], [1, 11, 1600], [5, 9, 100, 1, 1500], [13, 2000], [1] * 40 + [1600]]):
        pieces = []
        for length in cut:
            pieces.append(rig.describe(memory, at, length))
            at += length + 1 + k
        net.rx.add_buf([], pieces, k, indirect=indirect)
        chains.append(pieces)
    net.rx.kick()
    frames = [frame(60 + 200 * k) for k in range(len(chains))]
    untouched = bytearray(memory.view)
    for one in frames:
        rig.feed(one)
    back = []

    def done():
        while (got := net.rx.get_buf()) is not None:
            back.append(got)
        return len(back) == len(chains)
    rig.until(done, "all chains back")
    assert back == [(k, VIRTIO_NET_HDR_SIZE + len(one)) for k, one in enumerate(frames)]
    for pieces, one in zip(chains, frames):
        packet = bytes(10) + b"\x01\x00" + one
        for addr, length in pieces:
            offset, part = addr - memory.iova, packet[:length]
            assert memory.view[offset:offset + len(part)] == part
            untouched[offset:offset + len(part)] = part
            packet = packet[length:]
    assert memory.view == untouched
    rig.check_dma()


@pytest.mark.clause("RX-1", "RX-3")
@pytest.mark.parametrize("slot", [60, 128, 256, 1500])
def test_merged_buffers_are_counted_and_filled(rig, slot):
    net = rig.open(BASE | {VIRTIO_NET_F_MRG_RXBUF}, rx_slot=slot, queue_size=64)
    for size in (60, slot - 12 if slot > 72 else 60, slot - 11 if slot > 71 else 61, 1514):
        size = max(size, 60)
        rig.feed(frame(size))
        count = -(-(size + VIRTIO_NET_HDR_SIZE) // slot)
        parts = []

        def done():
            while (got := net.rx.get_buf()) is not None:
                parts.append(got)
            return len(parts) >= count
        rig.until(done, f"{count} buffers")
        assert [written for _, written in parts] == [slot] * (count - 1) + [size + 12 - slot * (count - 1)]
        first = parts[0][0] * net.rx_slot
        assert int.from_bytes(net.rx_memory.view[first + 10:first + 12], "little") == count
        net.refill(token for token, _ in parts)
    rig.check_dma()


@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
@pytest.mark.parametrize("size", [1, 2, 4, pytest.param(1024, marks=pytest.mark.long)])
def test_rings_wrap(rig, size, event_idx):
    if VIRTIO_F_RING_PACKED in rig.ring and size > 2:
        size -= 1    # 2.8.10.1: any size
    net = rig.open(BASE | ({VIRTIO_F_EVENT_IDX} if event_idx else set()), queue_size=size)
    frames = [frame(60 + k % 50, k) for k in range(max(100, 2 * size + 300))]
    got = []
    for k, one in enumerate(frames):
        rig.send([one])
        rig.feed(one)
        if k % 3 == 2:
            rig.until(lambda: got.extend(net.receive()) or len(got) == k + 1, "frames received")
    rig.expect_wire(frames)
    rig.until(lambda: got.extend(net.receive()) or len(got) == len(frames), "all frames received")
    assert got == frames
    rig.check_dma()


@pytest.mark.clause("UNS-2", "UNS-6", "PK-B5")
@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
def test_interrupts_come_when_wanted_only(rig, event_idx):
    net = rig.open(BASE | ({VIRTIO_F_EVENT_IDX} if event_idx else set()))
    net.tx.disable_cb()
    net.rx.disable_cb()
    rig.works()
    rig.bus.run(5000)
    assert not rig.bus.poll_irq() & {1, 2}
    assert net.tx.enable_cb() and net.rx.enable_cb()
    net.send(frame(60))
    rig.feed(frame(60))
    seen = set()
    rig.until(lambda: seen.update(rig.bus.poll_irq()) or {1, 2} <= seen, "both vectors")


@pytest.mark.clause("NTF-B3")
@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
def test_receive_buffers_that_nobody_notifies_of(rig, event_idx, size):
    """As U-Boot puts them back. A frame that finds none waits until the card has looked again."""
    net = rig.open(BASE | ({VIRTIO_F_EVENT_IDX} if event_idx else set()), queue_size=size)
    kicks = net.counters()["kicks"]
    net.rx.kick = lambda: None
    for k in range(4 * size):
        rig.feed(frame(60 + k, k))
        rig.expect_received([frame(60 + k, k)])
    # More at once than there are buffers: the driver takes what came, and puts it back.
    frames = [frame(64, k) for k in range(2 * size)]
    for one in frames:
        rig.feed(one)
    rig.expect_received(frames)
    counters = net.counters()
    assert counters["kicks"] == kicks and counters["rx_dropped_no_buffer"] == 0


def test_a_ring_is_read_only_while_a_frame_waits_for_it(rig):
    """Once in 512 cycles then, and the simulator may stop the clock between; not at all else."""
    net = rig.open(BASE, fill=False)
    rig.bus.run(3000)
    rig.engine.accesses()
    rig.bus.run(3000)
    assert rig.engine.accesses() == []
    rig.feed(frame(60))
    assert rig.engine.run_until(idle=True, limit=3000) < 3000
    rig.engine.accesses()
    rig.bus.run(4 * 512)
    reads = rig.engine.accesses()
    assert len(reads) == 4 and len(set(reads)) == 1 and not reads[0][2]
    net.refill([0])
    rig.expect_received([frame(60)])
    rig.bus.run(3000)
    rig.engine.accesses()
    rig.bus.run(3000)
    assert rig.engine.accesses() == []


def test_no_buffers_drops_frames_and_counts_them(rig):
    net = rig.open(BASE, fill=False)
    for k in range(200):
        rig.feed(frame(1514, k))
    rig.bus.run(20_000)
    rig.until(lambda: net.counters()["rx_dropped_no_buffer"] + net.counters()["mac_rx_overflow"] > 100, "drops")
    net.refill(range(net.rx.size))
    got = []
    rig.until(lambda: not (frames := net.receive()) and got or got.extend(frames), "what was buffered", limit=100_000)
    rig.bus.run(20_000)
    net.receive()
    rig.works()
    rig.check_dma()


@pytest.mark.clause("IND-B1")
def test_tables_longer_than_the_queue(rig):
    """1024 descriptors in a queue of 16, transmitted and received, beside ordinary chains."""
    net = rig.open(BASE | {VIRTIO_F_INDIRECT_DESC}, queue_size=16, fill=False)
    memory, length = rig.arena(0x20000), 1024
    sent = frame(1500)
    packet = bytes(VIRTIO_NET_HDR_SIZE) + sent
    memory.view[:len(packet)] = packet
    out = [rig.describe(memory, k, 1) for k in range(length - 1)]
    out.append(rig.describe(memory, length - 1, len(packet) - length + 1))
    into = [rig.describe(memory, 0x4000 + 40 * k, 39) for k in range(length)]
    for k in range(3):
        net.tx.add_buf(out, [], k, indirect=True)
        net.rx.add_buf([], into, k, indirect=True)
        net.rx.kick()
        net.tx.kick()
        rig.feed(sent)
        rig.expect_wire([sent])
        back = []
        rig.until(lambda: back.extend(filter(None, (net.tx.get_buf(), net.rx.get_buf()))) or len(back) == 2, "both chains")
        assert sorted(back) == [(k, 0), (k, len(packet))]
        got = b"".join(bytes(memory.view[0x4000 + 40 * j:0x4000 + 40 * j + 39]) for j in range(length))
        assert got[VIRTIO_NET_HDR_SIZE:len(packet)] == sent and not any(got[len(packet):])
        rig.check_dma()
