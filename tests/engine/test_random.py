"""Random runs against an oracle that is as simple as can be: what goes in comes out, once, in order."""

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC
from ringnic.host.driver import NoSpace

OPTIONAL = (VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MRG_RXBUF)


def size(rng):
    return rng.choice((60, 64, rng.randrange(60, 130), rng.randrange(60, 1515), rng.randrange(60, 1515), 1514))


@pytest.mark.parametrize("run", range(3))
def test_random_traffic(rig, rng, run):
    random_traffic(rig, rng)


@pytest.mark.parametrize("run", range(2))
def test_random_traffic_over_a_slow_link(far_rig, rng, run):
    random_traffic(far_rig, rng)


def random_traffic(rig, rng):
    features = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU} | {bit for bit in OPTIONAL if rng.random() < 0.6}
    merge = VIRTIO_NET_F_MRG_RXBUF in features
    net = rig.open(features, queue_size=rng.choice((8, 16, 32, 64)),
                   rx_slot=rng.randrange(800, 2000) if merge else None)
    memory = rig.arena(0x40000)
    memory.view[:] = rng.randbytes(len(memory))
    sent, wired, fed, received, chains = [], [], [], [], {}

    def send_chain():
        """A frame in pieces that lie anywhere."""
        target, pieces = size(rng), []
        left = target
        while left:
            length = left if len(pieces) == 5 else rng.randrange(1, left + 1)
            pieces.append(rig.describe(memory, rng.randrange(len(memory) - length), length))
            left -= length
        header = rig.bus.alloc(12)
        rig.arenas[header.iova] = [(header.iova, 12)]
        indirect = VIRTIO_F_INDIRECT_DESC in features and rng.random() < 0.5
        # Tokens of the driver's own frames are slots; these are objects, which reclaim() must not see.
        net.tx.add_buf([(header.iova, 12), *pieces], [], header, indirect=indirect)
        chains[header.iova] = header
        sent.append(b"".join(bytes(memory.view[a - memory.iova:a - memory.iova + n]) for a, n in pieces))

    def reclaim():
        while (got := net.tx.get_buf()) is not None:
            token, written = got
            assert written == 0
            if isinstance(token, int):
                net._tx_free.append(token)
            else:
                del chains[token.iova]

    def look():
        wired.extend(rig.wire())
        received.extend(net.receive())
        reclaim()

    for _ in range(150):
        for _ in range(rng.randrange(1, 6)):
            if net.tx.num_free > 7:
                if rng.random() < 0.5:
                    send_chain()
                else:
                    frame = rng.randbytes(size(rng))
                    net.send(frame, kick=False)
                    sent.append(frame)
        if rng.random() < 0.8:
            net.tx.kick()
        if len(fed) - len(received) < net.rx.size // 4:
            for _ in range(rng.randrange(3)):
                frame = rng.randbytes(size(rng))
                rig.feed(frame)
                fed.append(frame)
        rig.bus.run(rng.choice((10, 100, 1000)))
        if rng.random() < 0.6:
            look()
    net.tx.kick()
    rig.until(lambda: look() or (len(wired), len(received)) == (len(sent), len(fed)), "all frames")
    assert wired == sent and received == fed
    rig.until(lambda: look() or not net.tx.num_pending, "all transmit buffers back")
    assert not chains
    rig.check_dma()
    counters = net.counters()
    assert (counters["tx_frames"], counters["rx_frames"]) == (len(sent), len(fed))


def test_bursts_fill_the_queue(rig, rng):
    net = rig.open({VIRTIO_NET_F_MAC, VIRTIO_F_EVENT_IDX}, queue_size=16)
    sent, wired = [], []
    while len(sent) < 300:
        try:
            frame = rng.randbytes(60)
            net.send(frame)
            sent.append(frame)
        except NoSpace:
            rig.bus.run(100)
        wired.extend(rig.wire())
    rig.until(lambda: wired.extend(rig.wire()) or len(wired) == len(sent), "all frames")
    assert wired == sent
    rig.check_dma()
