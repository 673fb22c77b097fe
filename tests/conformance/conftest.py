"""The card as a conformance test sees it: a bus, the golden driver, and the wire. Nothing else, so that what is written here
holds for any card behind a bus; the one that runs is the Verilated one."""

from contextlib import closing

import pytest

from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED, Common, Status
from ringnic.host.driver import PciFunction, Transport, VirtioNet
from ringnic.host.features import names
from ringnic.sim.bus import EngineBus
from ringnic.sim.engine.engine import Engine
from ringnic.sim.monitor import Monitor, clauses

from .frames import frame

BASE = frozenset({VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS})
RINGS = {name: frozenset(bits) for name, bits in {
    "split": (), "split_event_idx": (VIRTIO_F_EVENT_IDX,),
    "packed": (VIRTIO_F_RING_PACKED,), "packed_event_idx": (VIRTIO_F_RING_PACKED, VIRTIO_F_EVENT_IDX)}.items()}
LIMIT = 200_000  # cycles; whatever takes longer hangs
WHILE = 3000     # cycles in which a card does what it wants to do


class EngineWire:
    """What the partner on the wire can do: send, take, pull the plug."""
    def __init__(self, engine):
        self._engine = engine

    def send(self, *frames):
        for one in frames:
            assert self._engine.send_frame(one)

    def take(self):
        """Return the frames that came since the last call."""
        frames = []
        while (one := self._engine.recv_frame()) is not None:
            frames.append(bytes(one))
        return frames

    def set_link(self, up):
        self._engine.set_link(up)


class Card:
    """A card in its slot.

    Attributes
    ----------
    bus : Bus
    wire
        As :class:`EngineWire`.
    net : VirtioNet
        As of the last :meth:`open`.
    """
    def __init__(self, bus, wire):
        self.bus = bus
        self.wire = wire

    def transport(self):
        """Find the function; it is reset."""
        transport = Transport(PciFunction(self.bus))
        transport.reset()
        return transport

    def open(self, features=frozenset(), **options):
        """Go live with these features, and the ordinary ones that there are. What the card does not offer is not tested."""
        transport = Transport(PciFunction(self.bus))
        if missing := frozenset(features) - transport.device_features():
            pytest.skip(f"{', '.join(names(missing))} is not offered")
        self.net = VirtioNet(transport, BASE | frozenset(features), **options)
        self._live()
        return self.net

    def restart(self, **options):
        """Go live again after a reset."""
        self.net.restart(**options)
        self._live()

    def _live(self):
        assert self.net.transport.status & Status.DRIVER_OK  # a read pushes the posted writes

    def accepts(self, transport, bits):
        """Reset, write these feature bits, and see whether FEATURES_OK stays."""
        transport.reset()
        transport.status = Status.ACKNOWLEDGE
        transport.status = Status.ACKNOWLEDGE | Status.DRIVER
        for word in range(4):
            transport.common_write(Common.DRIVER_FEATURE_SELECT, 4, word)
            transport.common_write(Common.DRIVER_FEATURE, 4, sum(1 << bit % 32 for bit in bits if bit // 32 == word))
        transport.status = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK
        return bool(transport.status & Status.FEATURES_OK)

    # Time.

    def until(self, done, what):
        """Run until ``done()``, in bounded time."""
        for _ in range(LIMIT // 200):
            if done():
                return
            self.bus.run(200)
        raise AssertionError(f"Not within {LIMIT} cycles: {what}")

    def rest(self):
        """Give it time for what it should not do."""
        self.bus.run(WHILE)

    def interrupts(self):
        """Vectors that came since the last call, after a while."""
        self.rest()
        return self.bus.poll_irq()

    # Frames.

    def expect_wire(self, frames):
        """These frames come out, in order and nothing else; a short one may be padded."""
        got = []
        self.until(lambda: got.extend(self.wire.take()) or len(got) >= len(frames), f"{len(frames)} frames on the wire")
        assert [one[:len(sent)] for one, sent in zip(got, frames, strict=True)] == list(frames)

    def expect_received(self, frames, pair=0):
        got = []
        self.until(lambda: got.extend(self.net.receive(pair)) or len(got) >= len(frames), f"{len(frames)} frames received")
        assert got == list(frames)

    def used(self, queue, count):
        """Return the next ``count`` of ``(token, bytes written)`` that a queue gives back."""
        back = []

        def done():
            while (got := queue.get_buf()) is not None:
                back.append(got)
            return len(back) >= count
        self.until(done, f"{count} used buffers of queue {queue.index}")
        assert len(back) == count
        return back

    def works(self, count=3):
        """Frames pass in both directions."""
        frames = [frame(60 + 97 * k, k) for k in range(count)]
        self.wire.take()
        for one in frames:
            self.net.send(one)
        self.expect_wire(frames)
        self.wire.send(*frames)
        self.expect_received(frames)
        self.until(lambda: self.net.reclaim() is not None and not self.net.tx.num_pending, "all transmit buffers back")

    def broken(self):
        return bool(self.net.transport.status & Status.DEVICE_NEEDS_RESET)


@pytest.fixture
def card(request, offered):
    """A card fresh from power-on. The passive checker judges what passed its edge, when the test is over."""
    monitor = Monitor()
    with closing(Engine(features=offered)) as engine:
        engine.capture()
        yield Card(EngineBus(engine), EngineWire(engine))
        monitor.follow(engine)
    request.node.user_properties.append(clauses(monitor.observed))
    monitor.check()


@pytest.fixture(params=RINGS)
def ring(request):
    """Features of each kind of ring."""
    return RINGS[request.param]


@pytest.fixture(params=["split", "packed"])
def form(request):
    """Features of each format of a ring, without event index."""
    return RINGS[request.param]
