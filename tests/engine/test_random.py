"""Random runs against the oracle: same memory, same accesses, same frames; what the card does must be what was due."""

import struct

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_HDR_SIZE
from ringnic.hdl.spec.virtio import (VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED, Status,
                                     VirtqDescF)
from ringnic.host.driver import NoSpace
from ringnic.sim.golden import GoldenNet, Oracle

OPTIONAL = (VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MRG_RXBUF)
CONFIG_VECTOR = 0
MAX_FRAME = 1522     # with two tags
TAGS = [bytes.fromhex(tags) for tags in ("8100 0001", "88a8 0001", "88a8 0001 8100 0002")]
SLOT = 4096          # bytes for the pieces of one chain, with gaps between
ON_THE_WIRE = 8      # frames: less than three quarters of the card's frame memory, so that none is dropped
NUM_BUFFERS = struct.Struct("<10xH")


def make_frame(rng):
    """A frame that may be sent: of any length up to the MTU, and sometimes with VLAN tags."""
    size = rng.choice((60, 64, rng.randrange(60, 130), rng.randrange(60, 1515), rng.randrange(60, 1515), 1514))
    frame = rng.randbytes(size)
    return frame[:12] + rng.choice((b"", b"", *TAGS)) + frame[12:]


class Chains:
    """One queue and the memory that its chains lie in: a slot for each chain, filled with noise."""
    def __init__(self, rig, rng, queue, write):
        self.rng = rng
        self.queue = queue
        self.write = write
        self.most = min(7, queue.size // 4)  # pieces in a chain
        self.memory = rig.arena(SLOT * min(queue.size, 64))
        self.memory.view[:] = rng.randbytes(len(self.memory))
        self.described = rig.arenas[self.memory.iova]
        self.free = list(range(len(self.memory) // SLOT))
        self.pieces = {}

    @property
    def room(self):
        return bool(self.free) and self.queue.num_free >= self.most

    def add(self, length, payload=None, extra=()):
        """Add a chain of ``length`` bytes in pieces anywhere in a slot; ``extra`` pieces ``(addr, len, write)`` follow."""
        rng, slot = self.rng, self.free.pop(self.rng.randrange(len(self.free)))
        cuts = sorted(rng.randrange(length + 1) for _ in range(rng.randrange(self.most - len(extra)))) + [length]
        at, done, pieces = slot * SLOT, 0, []
        slack = SLOT - length
        for cut in cuts:
            gap = rng.randrange(slack // self.most)
            pieces.append((at + gap, cut - done))
            at, done = at + gap + cut - done, cut
        if payload is not None:
            for offset, count in pieces:
                self.memory.view[offset:offset + count], payload = payload[:count], payload[count:]
        places = [(self.memory.iova + offset, count) for offset, count in pieces]
        out, into = ([], places) if self.write else (places, [])
        out = out + [(addr, count) for addr, count, write in extra if not write]
        into = into + [(addr, count) for addr, count, write in extra if write]
        token = object()
        self.queue.add_buf(out, into, token, indirect=self.queue.indirect and rng.random() < 0.5)
        self.described += places
        self.pieces[token] = slot, places

    def take(self):
        """Return ``(bytes in the chain, bytes written)`` of the next that came back, or None."""
        if (got := self.queue.get_buf()) is None:
            return None
        token, written = got
        slot, places = self.pieces.pop(token)
        self.free.append(slot)
        start = self.memory.iova
        return b"".join(bytes(self.memory.view[addr - start:addr - start + count]) for addr, count in places), written

    def forget(self):
        """No DMA is under way: only what is outstanding may be touched from now on."""
        self.described[:] = [place for _, places in self.pieces.values() for place in places]


class Run:
    """A card and the oracle, a driver that acts at random, and what went in and came out."""
    def __init__(self, rig, rng):
        self.rig, self.rng = rig, rng
        self.device = GoldenNet(offered=rig.offered)
        rig.bus = self.oracle = Oracle(rig.bus, self.device)
        features = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU} | {bit for bit in OPTIONAL if rng.random() < 0.6}
        self.mergeable = VIRTIO_NET_F_MRG_RXBUF in features
        self.packed = VIRTIO_F_RING_PACKED in rig.ring
        sizes = (8, 16, 32, 64, 256, *((9, 23, 100, 255) if self.packed else ()))
        self.net = rig.open(features, queue_size=rng.choice(sizes), fill=False)
        self.queues = (self.net.rx, self.net.tx)
        with self.oracle.action():
            self.tx = Chains(rig, rng, self.net.tx, write=False)
            self.rx = Chains(rig, rng, self.net.rx, write=True)
        self.oracle.let_write(self.rx.memory)
        self.sent, self.wired, self.fed, self.received = [], [], [], []
        self.left, self.part = 0, b""
        self.vectors = set()

    # What the driver does; each within one action of the oracle.

    def wish(self):
        """Say when to be told. All that came back was taken."""
        for queue in self.queues:
            choice = self.rng.randrange(3)
            if choice < 2:
                (queue.enable_cb, queue.disable_cb)[choice]()

    def send(self):
        if not self.tx.room:
            return
        rng = self.rng
        frame = make_frame(rng)
        extra = ()
        if rng.random() < 0.1:  # no frame: too short, with a piece to write into, or with one that is nowhere
            choice = rng.randrange(3)
            frame = frame[:rng.randrange(14)] if choice == 0 else frame
            extra = ((), ((self.rx.memory.iova, 5, True),), ((0x1000, 50, False),))[choice]
        else:
            self.sent.append(frame)
        self.tx.add(VIRTIO_NET_HDR_SIZE + len(frame), bytes(VIRTIO_NET_HDR_SIZE) + frame, extra)

    def post(self):
        if self.rx.room:
            # Without MRG_RXBUF one chain holds any frame; with it, as many as the queue has room for.
            whole = VIRTIO_NET_HDR_SIZE + MAX_FRAME
            least = max(300, whole // (self.net.rx.size // self.rx.most - 1) + 1) if self.mergeable else whole
            self.rx.add(self.rng.randrange(least, 2000))

    def take(self):
        while (got := self.tx.take()) is not None:
            assert got[1] == 0
        while (got := self.rx.take()) is not None:
            chain, written = got
            chain = chain[:written]
            if not self.left:
                self.left, = NUM_BUFFERS.unpack_from(chain)
                self.part, chain = b"", chain[VIRTIO_NET_HDR_SIZE:]
            self.part += chain
            self.left -= 1
            if not self.left:
                self.received.append(self.part)

    def kick(self):
        for queue in self.queues:
            queue.kick()

    # The world around

    def feed(self):
        if len(self.fed) - len(self.received) < ON_THE_WIRE:
            frame, dropped = make_frame(self.rng), self.device.counters["rx_dropped_long"]
            if len(frame) >= 1514 and self.rng.random() < 0.5:
                frame += bytes(self.rng.randrange(1, 9))   # more than the MTU
            self.rig.feed(frame)
            self.oracle.receive(frame)
            if self.device.counters["rx_dropped_long"] == dropped:
                self.fed.append(frame)

    def look(self):
        self.wired += self.rig.wire()
        self.vectors |= self.rig.bus.poll_irq()
        with self.oracle.action():
            self.take()

    def round(self):
        rng = self.rng
        with self.oracle.action():
            self.wish()
        for _ in range(rng.randrange(1, 20)):
            with self.oracle.action():
                for _ in range(rng.randrange(4)):
                    self.send()
                for _ in range(rng.randrange(4)):
                    self.post()
                if rng.random() < 0.8:
                    self.kick()
            for _ in range(rng.randrange(3)):
                self.feed()
            self.rig.bus.run(rng.choice((10, 100, 1000)))
            if rng.random() < 0.5:
                self.look()

    def rest(self):
        """Let the card finish all there is, and compare."""
        def buffers():
            self.look()
            with self.oracle.action():
                self.post()
                self.kick()
            return not self.device.waiting
        self.rig.until(buffers, "buffers for all frames")

        def done():
            self.look()
            return (len(self.wired), len(self.received), self.net.tx.num_pending) == (len(self.sent), len(self.fed), 0)
        self.rig.until(done, "all frames, all transmit buffers back")
        self.settle()
        assert self.wired == self.sent == self.device.sent
        assert self.received == self.fed

    def settle(self):
        assert self.rig.engine.run_until(idle=True, limit=20_000) < 20_000
        self.look()
        self.oracle.check(self.vectors)
        self.vectors = set()
        self.rig.check_dma()
        for chains in self.tx, self.rx:
            chains.forget()
        counters = self.net.counters()
        for name in "tx_frames", "tx_dropped", "rx_frames", "rx_dropped_no_buffer", "rx_dropped_long", "queue_errors":
            assert counters[name] == self.device.counters[name], name

    def attack(self):
        """Break the transmit queue; the other one goes on."""
        rng, queue = self.rng, self.net.tx
        with self.oracle.action():
            for _ in range(rng.randrange(4)):
                self.send()
            head = rng.randrange(queue.size)
            spot = self.tx.memory.iova
            flags, length, following = rng.choice((
                (VirtqDescF.NEXT, 16, queue.size + rng.randrange(100)), (VirtqDescF.INDIRECT, 0, 0),
                (VirtqDescF.INDIRECT, 17, 0), (VirtqDescF.INDIRECT | VirtqDescF.NEXT, 16, 0))[self.packed:])
            if self.packed:
                self.tx.described.append((spot, 16))
                queue.publish((spot, length, head, int(flags)))
            elif head not in {place for chain in queue._chains.values() for place in chain.places}:
                queue.write_desc(head, spot, length, int(flags), following)
                self.tx.described.append((spot, 16))
                queue.publish(head)
            else:
                queue.publish(queue.size + head)
            queue.notify()
        self.rig.until(self.rig.broken, "the device needs a reset")
        assert self.device.status & Status.DEVICE_NEEDS_RESET
        while len(self.fed) - len(self.received) < ON_THE_WIRE // 2:
            self.feed()

        def done():
            self.look()
            with self.oracle.action():
                self.post()
                self.net.rx.kick()
            return len(self.received) == len(self.fed)
        self.rig.until(done, "the other queue goes on")
        self.rig.bus.run(2000)
        self.wired += self.rig.wire()
        assert self.wired == self.device.sent == self.sent


def random_run(rig, rng, rounds=8):
    run = Run(rig, rng)
    for _ in range(rounds):
        run.round()
        run.rest()
    run.attack()
    run.settle()


@pytest.mark.clause("DESC-1", "DESC-3", "RX-1")
@pytest.mark.parametrize("run", range(3))
def test_random_traffic(rig, rng, run):
    random_run(rig, rng)


@pytest.mark.clause("DESC-1", "DESC-3", "RX-1")
@pytest.mark.parametrize("run", range(2))
def test_random_traffic_over_a_slow_link(far_rig, rng, run):
    random_run(far_rig, rng)


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
