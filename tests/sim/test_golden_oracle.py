"""The oracle sees what a card does wrong. The card here is a second golden device, spoilt."""

import pytest

from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX
from ringnic.host.driver import VirtioNet
from ringnic.sim.bus import GoldenBus
from ringnic.sim.golden import GoldenNet, Oracle


class Bench:
    def __init__(self):
        self.card, self.device = GoldenNet(), GoldenNet()
        self.oracle = Oracle(GoldenBus(self.card), self.device)
        self.net = VirtioNet.open(self.oracle, {VIRTIO_F_EVENT_IDX}, queue_size=8, fill=False)
        self.oracle.let_write(self.net.rx_memory)

    def traffic(self):
        with self.oracle.action():
            self.net.refill([0, 1])
            self.net.send(bytes(60))
        for device in self.card, self.device:
            device.receive(b"\1" * 60)

    def check(self):
        self.oracle.check(self.oracle.poll_irq())


def test_nothing_is_wrong():
    bench = Bench()
    for _ in range(3):
        bench.traffic()
        bench.check()
        with bench.oracle.action():
            bench.net.reclaim()
            for queue in bench.net.rx, bench.net.tx:
                while queue.get_buf():
                    pass
                queue.enable_cb()
    assert bench.card.sent == bench.device.sent


@pytest.mark.parametrize("spoil", [
    lambda net: net.rx_memory.view[72:73],                       # behind the frame
    lambda net: net.rx.memory.view[net.rx.used_offset + 8:][:1],  # a length in the used ring
    lambda net: net.tx.memory.view[net.tx.used_offset + 2:][:1],  # used idx
])
def test_wrong_memory(spoil):
    bench = Bench()
    bench.traffic()
    view = spoil(bench.net)
    view[0] ^= 1
    with pytest.raises(AssertionError, match="^Byte "):
        bench.check()


def test_a_write_into_what_is_the_drivers():
    bench = Bench()
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
