"""The oracle sees what a card does wrong, and lets it choose where it may. The card here is a second golden device, spoilt."""

from contextlib import nullcontext
from itertools import product

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET
from ringnic.host.driver import VirtioNet
from ringnic.sim.bus import GoldenBus
from ringnic.sim.golden import GoldenNet, Oracle

SPLIT, PACKED = frozenset(), frozenset({VIRTIO_F_RING_PACKED})
RINGS = pytest.mark.parametrize("ring", [SPLIT, PACKED], ids=["split", "packed"])
WHOLE = 72       # bytes of a receive buffer that a frame of this test fills


def frame(k):
    return bytes([k]) * 60


class Grouping(GoldenNet):
    """Reports by one used entry all that it uses at once."""
    def _told(self, act, *args):
        before = [(queue, queue.used) for queue in self.queues.values()]
        act(*args)
        for queue, used in before:
            if queue.used - used > 1:
                queue.batch(list(queue.uses)[used - queue.used:])

    def _kicked(self, index):
        self._told(super()._kicked, index)

    def receive(self, frame, pair=None):
        self._told(super().receive, frame, pair)


class Bench:
    """A driver, a card, and the oracle between."""
    def __init__(self, features=frozenset({VIRTIO_F_EVENT_IDX}), card=None, device=None, **options):
        self.card, self.device = card or GoldenNet(), device or GoldenNet()
        self.oracle = Oracle(GoldenBus(self.card), self.device)
        with self.oracle.action():
            self.net = VirtioNet.open(self.oracle, features, queue_size=8, fill=False, **options)
        self.oracle.let_write(self.net.rx_memory)

    @property
    def queues(self):
        return *self.net.rx_queues, *self.net.tx_queues

    def traffic(self, frames=1, slots=2):
        with self.oracle.action():
            self.net.refill(range(slots))
            for k in range(frames):
                self.net.send(frame(k), kick=False)
            self.net.tx.kick()
        for k in range(frames):
            self.card.receive(frame(k))
            self.oracle.receive(frame(k))

    def take(self):
        with self.oracle.action():
            for queue in self.queues:
                while queue.get_buf():
                    pass
                queue.enable_cb()

    def check(self):
        self.oracle.check(self.oracle.poll_irq())

    def entry(self, queue, count=0, at=0):
        """Bytes of the card's used entry for a chain of a queue, from ``at`` on."""
        addr = list(self.card.queues[queue].uses)[count].place.addr + at
        return self.memory(addr)

    def memory(self, addr):
        return next(buffer.view[addr - iova:] for iova, (buffer, _) in self.oracle._buffers.items()
                    if iova <= addr < iova + len(buffer.view))


@RINGS
@pytest.mark.parametrize("event_idx, in_order", [*product((False, True), repeat=2)])
def test_nothing_is_wrong(ring, event_idx, in_order):
    features = ring.union([VIRTIO_F_EVENT_IDX] * event_idx, [VIRTIO_F_IN_ORDER] * in_order)
    bench = Bench(features, Grouping() if in_order else None, rx_slot=WHOLE)
    for k in range(25):
        bench.traffic(frames=k % 3 + 1, slots=k % 3 + 1)
        bench.check()
        bench.take()
        bench.net._tx_free[0] = list(range(8))
    assert bench.card.sent == bench.device.sent and len(bench.card.sent) == 49


@pytest.mark.parametrize("ring, spoil, message", [
    (SPLIT, lambda bench: bench.net.rx_memory.view[WHOLE:], "^Byte "),              # behind the frame
    (SPLIT, lambda bench: bench.entry(0, at=4), "^Byte "),                          # a length
    (SPLIT, lambda bench: bench.entry(0), "^Queue 0: id 1 is in the used entry "),  # an id
    (SPLIT, lambda bench: bench.net.tx.memory.view[bench.net.tx.used_offset + 2:], "^Byte "),  # used idx
    (PACKED, lambda bench: bench.net.rx_memory.view[WHOLE:], "^Byte "),
    (PACKED, lambda bench: bench.entry(0), "^Byte "),                               # the address
    (PACKED, lambda bench: bench.entry(0, at=8), "^Byte "),
    (PACKED, lambda bench: bench.entry(0, at=12), "^Queue 0: id "),
    (PACKED, lambda bench: bench.entry(0, at=14), "^Byte "),                        # a flag
    (PACKED, lambda bench: bench.entry(0, at=16), "^Byte "),                        # of what is not used yet
    (PACKED, lambda bench: bench.net.rx.memory.view[bench.net.rx.used_offset + 2:], "^Device event suppression: "),
])
def test_wrong_memory(ring, spoil, message):
    bench = Bench(ring | {VIRTIO_F_EVENT_IDX}, rx_slot=100)
    bench.traffic()
    spoil(bench)[0] ^= 1
    with pytest.raises(AssertionError, match=message):
        bench.check()


@RINGS
def test_a_write_into_what_is_the_drivers(ring):
    bench = Bench(ring)
    bench.traffic()
    bench.net.tx_memory.view[3] ^= 1
    with pytest.raises(AssertionError, match="^Byte 0x3 of "):
        with bench.oracle.action():
            pass


def test_wrong_vectors():
    bench = Bench()
    bench.traffic()
    with pytest.raises(AssertionError, match=r"^Vectors \[1\] came, \[1, 2\] were due$"):
        bench.oracle.check({1})


@RINGS
def test_several_by_one_entry_without_in_order(ring):
    bench = Bench(ring, Grouping())
    with pytest.raises(AssertionError, match="^Queue 1: id . is in the used entry at .* and 2 before it have not been"):
        bench.traffic(frames=3)


@RINGS
@pytest.mark.parametrize("rx_slot, good", [(WHOLE, True), (WHOLE + 1, False)])
def test_who_skips_has_used_it_all(ring, rx_slot, good):
    """With IN_ORDER a skipped buffer counts as written in full."""
    bench = Bench(ring | {VIRTIO_F_IN_ORDER}, Grouping(), rx_slot=rx_slot)
    for k in range(3):
        for device in bench.card, bench.oracle:
            device.receive(frame(k))
    with nullcontext() if good else pytest.raises(AssertionError, match="^Queue 0: .* 2 before it have not been reported"):
        with bench.oracle.action():
            bench.net.refill(range(3))
    if good:
        assert [bench.net.rx.get_buf()[1] for _ in range(3)] == [WHOLE] * 3
        bench.check()


@RINGS
def test_a_queue_is_reset(ring):
    bench = Bench(ring | {VIRTIO_F_RING_RESET, VIRTIO_F_EVENT_IDX})
    for k in range(4):
        bench.traffic()
        bench.check()
        bench.take()
        with bench.oracle.action():
            bench.net.reset_queue(1, (4, 8, 2, 1)[k])
            bench.net.reset_queue(0, 8)
        bench.check()
    assert len(bench.card.sent) == 4


# Pairs

def pairs_bench(ring, strict=False, card=None):
    bench = Bench(ring | {VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF},
                  card or GoldenNet(queue_pairs=4), GoldenNet(queue_pairs=4, strict=strict), pairs=3, rx_slot=WHOLE)
    with bench.oracle.action():
        for pair in range(3):
            bench.net.refill(bench.net._rx_slots[pair], pair)
    bench.oracle.poll_irq()
    bench.device.interrupts()
    return bench


@RINGS
def test_the_card_chooses_the_pair(ring, rng):
    bench = pairs_bench(ring)
    for k in range(20):
        for j in range(3):
            data = bytes([k, j]) * rng.choice((30, 60))
            bench.oracle.receive(data)
            bench.card.receive(data, rng.randrange(3))
        bench.check()
        with bench.oracle.action():
            for pair in range(3):
                bench.net.receive(pair)
    assert bench.device.counters["rx_frames"] == 60


@RINGS
@pytest.mark.parametrize("strict", [False, True])
def test_the_pair_of_a_flow(ring, strict):
    flow = bytes.fromhex("525400524e01" "020000000001" "0800" "4500002e00000000401100000a0000010a000002" "0007000900")
    reply = flow[:26] + flow[30:34] + flow[26:30] + flow[36:38] + flow[34:36] + bytes(30)
    bench = pairs_bench(ring, strict)
    with bench.oracle.action():
        bench.net.send(flow + bytes(30), pair=2)
    for right in True, False:
        bench.oracle.receive(reply)
        bench.card.receive(reply, 2 if right else 1)
        if right or not strict:
            bench.oracle.check({6, 5} if right else {3})
        else:
            with pytest.raises(AssertionError, match=r"^Queue 2: id \d is in the used entry at .*, due were \[\]$"):
                bench.check()
        bench.oracle.poll_irq()


def test_no_pair_that_is_not_active():
    bench = pairs_bench(SPLIT)
    with bench.oracle.action():
        bench.net.set_pairs(2)
    bench.oracle.receive(frame(1))
    bench.card.receive(frame(1), 2)
    with pytest.raises(AssertionError, match=r"^Queue 4: id 0 is in the used entry at .*, due were \[\]$"):
        bench.check()


def test_a_frame_does_not_come():
    bench = pairs_bench(SPLIT)
    bench.oracle.receive(frame(1))
    with pytest.raises(AssertionError, match="^A frame did not come, there are buffers for it: 0101"):
        bench.check()
