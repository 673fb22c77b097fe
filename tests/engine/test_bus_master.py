"""What the host may take from the card in the middle of its work: Bus Master Enable, its power, memory space.

Ref: PCI Express Base 5.0, 5.3.1.4 "D3 State", 7.5.1.1.3 "Command Register".
"""

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, MSIX_PBA_OFFSET
from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.pcie import CapId, Cfg, Command, Pm
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_RESET, Common
from ringnic.host.driver import NoSpace
from ringnic.sim.engine.engine import Link

FEATURES = {VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_EVENT_IDX}
NARROW = Link(gen=1, lanes=1, credits=512)   # TLPs wait in the card, and what the host asks comes in between
QUEUE_SIZE = 64
ON_THE_WIRE = 8                              # frames that the card can hold without a drop
WHILE = 3000                                 # cycles


class Traffic:
    """Frames both ways, whose order and number is kept whatever happens between."""
    def __init__(self, rig, rng, *features):
        self.rig, self.rng = rig, rng
        self.net = rig.open(FEATURES | set(features), queue_size=QUEUE_SIZE)
        self.function = self.net.transport.function
        self.sent, self.fed, self.wired, self.received = [], [], [], []

    def frame(self):
        return self.rng.randbytes(self.rng.randrange(60, 1515))

    def load(self):
        self.look()
        try:
            for _ in range(4):
                frame = self.frame()
                self.net.send(frame)
                self.sent.append(frame)
        except NoSpace:
            pass
        while len(self.fed) - len(self.received) < ON_THE_WIRE:
            self.fed.append(self.frame())
            self.rig.feed(self.fed[-1])

    def look(self):
        self.wired += self.rig.wire()
        self.received += self.net.receive()

    def settle(self):
        """Everything has come."""
        def done():
            self.look()
            return (len(self.wired), len(self.received)) == (len(self.sent), len(self.fed))
        self.rig.until(done, "all frames")
        assert (self.wired, self.received) == (self.sent, self.fed)
        self.rig.all_sent()

    def command(self, bit, value):
        command = self.rig.bus.config_read(Cfg.COMMAND, 2)
        self.rig.bus.config_write(Cfg.COMMAND, 2, command & ~(1 << bit) | value << bit)

    def power(self, state):
        self.rig.bus.config_write(self.function.find(CapId.PM) + Pm.PMCSR, 2, state)

    def master(self, value):
        self.command(Command.BUS_MASTER, value)


@pytest.fixture(params=["usual", "narrow"])
def traffic(request, rig, rng):
    if request.param == "narrow":
        rig.engine.set_link_model(NARROW)
    return Traffic(rig, rng)


@pytest.mark.clause("CS-6", "PM-4")
@pytest.mark.parametrize("way", ["bus_master", "d3hot"])
def test_no_request_after_the_completion(traffic, way):
    """The passive checker sees the order; nothing is lost, and all goes on where it was."""
    off, on = {"bus_master": (lambda: traffic.master(0), lambda: traffic.master(1)),
               "d3hot": (lambda: traffic.power(3), lambda: traffic.power(0))}[way]
    rig = traffic.rig
    for _ in range(25):
        traffic.load()
        rig.bus.run(traffic.rng.randrange(WHILE))
        off()
        rig.bus.run(500)
        rig.check_dma()
        on()
    traffic.settle()
    assert rig.monitor.observed["CS-6"] >= 20


def test_memory_space_is_not_needed_for_dma(traffic):
    """Frames go on while the function answers no memory request: only the driver cannot notify it."""
    traffic.load()
    traffic.command(Command.MEMORY_ENABLE, 0)

    def done():
        traffic.look()
        return len(traffic.wired) == len(traffic.sent)
    traffic.rig.until(done, "all frames out")
    traffic.command(Command.MEMORY_ENABLE, 1)
    traffic.settle()


@pytest.mark.clause("CS-6")
def test_interrupt_waits_for_bus_master(traffic):
    """Switching MSI-X on sends nothing; the message that is due is pending, and goes when it may."""
    net, rig = traffic.net, traffic.rig
    rig.engine.run_until(idle=True)
    rig.bus.poll_irq()
    traffic.master(0)
    traffic.function.disable_msix()
    traffic.function.enable_msix(3)
    rig.engine.set_link(False)
    rig.bus.run(WHILE)
    assert rig.bus.poll_irq() == set() and rig.bus.bar_read(BAR_INDEX, MSIX_PBA_OFFSET, 4) == 1
    traffic.master(1)
    rig.until(lambda: rig.bus.poll_irq() == {0}, "the message")
    assert rig.bus.bar_read(BAR_INDEX, MSIX_PBA_OFFSET, 4) == 0 and not net.link_up
    rig.check_dma()


class Resetting(Traffic):
    """A queue reset that is asked for while the card is no bus master, with DMA under way."""
    def __init__(self, rig, rng):
        super().__init__(rig, rng, VIRTIO_F_RING_RESET)
        for _ in range(3):
            self.load()
        rig.bus.run(rng.randrange(200, 1500))
        self.load()  # each queue has something to do when it is no bus master any more
        rig.bus.run(rng.randrange(30))
        self.master(0)
        rig.bus.run(WHILE)

    def ask(self, index):
        transport = self.net.transport
        transport.common_write(Common.QUEUE_SELECT, 2, index)
        transport.common_write(Common.QUEUE_RESET, 2, 1)

    def resetting(self):
        return self.net.transport.common_read(Common.QUEUE_RESET, 2)


@pytest.mark.clause("QRST-1")
@pytest.mark.parametrize("queue", [0, 1], ids=["rx", "tx"])
def test_queue_reset_waits_for_bus_master(rig, rng, queue):
    """The end would say that no DMA comes any more. Registers answer meanwhile, and with Bus Master it ends."""
    traffic = Resetting(rig, rng)
    traffic.ask(queue)
    for _ in range(20):
        rig.bus.run(WHILE)
        assert traffic.resetting() == 1 and traffic.net.mac == bytes.fromhex("525400524e01")
    traffic.master(1)
    rig.until(lambda: traffic.resetting() == 0, "the queue reset")
    traffic.net.reset_queue(1 - queue)
    rig.check_dma()
    rig.recover()


@pytest.mark.parametrize("flr", [False, True], ids=["status", "flr"])
def test_device_reset_ends_what_a_queue_reset_waits_for(rig, rng, flr):
    traffic = Resetting(rig, rng)
    traffic.ask(0)
    rig.bus.run(WHILE)
    rig.reset(flr)
    traffic.master(1)
    rig.wire()
    rig.restart()
    rig.works()
    rig.check_dma()


@pytest.mark.parametrize("queue", [0, 1], ids=["rx", "tx"])
def test_queue_reset_without_dma_needs_no_bus_master(rig, rng, queue):
    traffic = Traffic(rig, rng, VIRTIO_F_RING_RESET)
    traffic.load()
    traffic.settle()
    rig.engine.run_until(idle=True)
    traffic.master(0)
    traffic.net.transport.reset_queue(queue)
    traffic.master(1)
    rig.check_dma()
