"""The card as a conformance test sees it: a bus, the golden driver, and the wire. Nothing else, so that what is written here
holds for any card behind a bus: the Verilated one, or with ``--bdf`` a real one through VFIO.

A real card's wire is its MAC's loopback, so nothing comes but what was sent. A test that needs a partner, a hand on the cable, or
what the kernel keeps to itself is marked ``simulated``, with the reason.
"""

from contextlib import closing, contextmanager, nullcontext
from functools import partial

import pytest

from ringnic.hdl.spec.bar import BAR_INDEX, CONTROL_OFFSET, GMII_CONTROLS
from ringnic.hdl.spec.net import VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS
from ringnic.hdl.spec.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED, Common, Status
from ringnic.host.bus.vfio import VfioBus, VfioError
from ringnic.host.driver import NoSpace, PciFunction, Transport, VirtioNet
from ringnic.host.driver.net import MAX_PAIRS
from ringnic.host.features import names

from ..kit.card import WholeCard
from .frames import frame

BASE = frozenset({VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS})
RINGS = {name: frozenset(bits) for name, bits in {
    "split": (), "split_event_idx": (VIRTIO_F_EVENT_IDX,),
    "packed": (VIRTIO_F_RING_PACKED,), "packed_event_idx": (VIRTIO_F_RING_PACKED, VIRTIO_F_EVENT_IDX)}.items()}
WHILE = 10_000   # cycles in which a card does what it wants to do: used buffers of nine busy queues wait for company half as long
SLOT_QUEUE_SIZE = 64  # of a real card: an IOMMU may take long to learn of memory
LOOPBACK = 1 << GMII_CONTROLS.index("loopback")


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

    def prepare(self, bus):
        """A driver is about to go live."""

    def join(self, net):
        """It is."""


class LoopbackWire:
    """What is sent comes back: the driver's own frames, and those that a partner is to send, which the driver sends for it."""
    def __init__(self, until):
        self._until = until
        self._net = None

    def prepare(self, bus):
        """Close the loop, which is a link too: whoever is live would hear of it. An FLR has opened it."""
        bus.bar_write(BAR_INDEX, CONTROL_OFFSET, 4, LOOPBACK)
        if bus.bar_read(BAR_INDEX, CONTROL_OFFSET, 4) != LOOPBACK:
            pytest.skip("The card has no loopback")

    def join(self, net):
        self._net = net

    def send(self, *frames):
        def sent():
            try:
                self._net.send(one)
            except NoSpace:
                return False
            return True
        for one in frames:
            self._until(sent, "room for a frame")

    def take(self):
        """Return the frames that the driver received since the last call."""
        if self._net is None or not self._net.transport.queues:  # reset, and not live again
            return []
        return [one for pair in range(len(self._net.rx_queues)) for one in self._net.receive(pair)]


class Card(WholeCard):
    """A card in its slot.

    Attributes
    ----------
    bus : Bus
    wire
        As :class:`EngineWire`, or :class:`LoopbackWire` if there is none.
    net : VirtioNet
        As of the last :meth:`open`.
    in_slot : bool
        It is a real one, behind a kernel.
    """
    def __init__(self, bus, wire=None, in_slot=False):
        self.bus = bus
        self.in_slot = in_slot
        self.wire = wire or LoopbackWire(self.until)

    def transport(self):
        """Find the function; it is reset."""
        transport = Transport(PciFunction(self.bus))
        transport.reset()
        return transport

    def open(self, features=frozenset(), **options):
        """Go live with these features, and the ordinary ones that there are. What the card does not offer is not tested."""
        transport = Transport(PciFunction(self.bus))
        self.wire.prepare(self.bus)
        if missing := frozenset(features) - transport.device_features():
            pytest.skip(f"{', '.join(names(missing))} is not offered")
        if options.get("pairs", 1) > 1 and (there := transport.config_read(MAX_PAIRS, 2)) < options["pairs"]:
            pytest.skip(f"The card has {there} pairs of queues")
        size = SLOT_QUEUE_SIZE if self.in_slot else None
        self.net = VirtioNet(transport, BASE | frozenset(features), **{"queue_size": size} | options)
        self._live()
        return self.net

    def restart(self, **options):
        """Go live again after a reset."""
        self.wire.prepare(self.bus)
        self.net.restart(**options)
        self._live()

    def _live(self):
        assert self.net.transport.status & Status.DRIVER_OK  # a read pushes the posted writes
        self.wire.join(self.net)

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

    def rest(self):
        """Give it time for what it should not do."""
        self.bus.run(WHILE)

    def interrupts(self, wanted=frozenset()):
        """Vectors that came since the last call: those ``wanted``, which are waited for like anything else, and others that
        come within a while. A kernel may take long to tell of one."""
        came = set()
        self.until(lambda: came.update(self.bus.poll_irq()) or came >= wanted, f"interrupts {sorted(wanted)}")
        self.rest()
        return came | self.bus.poll_irq()

    def expect_interrupts(self, wanted):
        """These vectors came since the last call, or come in bounded time, and no other does within a while."""
        assert self.interrupts(wanted) == wanted

    def forget_interrupts(self):
        """Those that the card has sent until now. A kernel may take a while to tell of one."""
        if self.in_slot:
            self.rest()
        self.bus.poll_irq()

    # Frames.

    def to_card(self, frames):
        self.wire.send(*frames)

    def from_card(self):
        return self.wire.take()

    def on_wire(self, sent, came):
        """A short one may be padded."""
        return sent + came[len(sent):]

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
        self.passes_out(frames)
        self.passes_in(frames)


@contextmanager
def simulated(request, offered, loopback=False):
    """A Verilated card fresh from power-on, with its MAC in loopback or a partner on the wire. The passive checker judges what
    passed its edge, when the test is over."""
    # Not on a machine that has a card, and Python for its tests.
    from ringnic.host.build.command import find_board
    from ringnic.sim.bus import EngineBus
    from ringnic.sim.engine.engine import Engine
    from ringnic.sim.monitor import Monitor, clauses
    from ringnic.sim.pcie_7x.board import board_engine
    monitor = Monitor()
    board = request.config.getoption("--board")
    make = Engine if board is None else partial(board_engine, find_board(board))
    with closing(make(features=offered, **{"mac": "gmii"} if loopback else {})) as engine:
        engine.capture()
        yield Card(EngineBus(engine), None if loopback else EngineWire(engine))
        monitor.follow(engine)
    request.node.user_properties.append(clauses(monitor.observed))
    monitor.check()


@pytest.fixture(scope="session")
def slot(pytestconfig):
    """The bus of the card at ``--bdf``, in the end reset and closed; None if there is to be a simulated one."""
    if (bdf := pytestconfig.getoption("--bdf")) is None:
        yield None
        return
    try:
        bus = VfioBus(bdf)
    except VfioError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    with bus:
        yield bus
        bus.reset()


def fresh(bus):
    """The card in the slot, at rest and without memory, whatever a test has left."""
    try:
        Transport(PciFunction(bus)).reset()
    except TimeoutError:
        bus.reset()
    for buffer in list(bus.buffers.values()):
        buffer.free()
    return Card(bus, in_slot=True)


@pytest.fixture
def card(request, slot, offered):
    """A card on which nothing is set up; a simulated one fresh from power-on."""
    with simulated(request, offered) if slot is None else nullcontext(fresh(slot)) as card:
        yield card


@pytest.fixture
def looped(request, slot, offered):
    """The same, whose MAC sends to itself wherever it is."""
    with simulated(request, offered, loopback=True) if slot is None else nullcontext(fresh(slot)) as card:
        yield card


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Of a real card: not what needs a simulated one, and quickly if so wished."""
    if config.getoption("--bdf") is None:
        return
    kept, left = [], []
    shown = set()
    for item in items:
        # A row of the plan; a test that shows none is one by itself.
        rows = {row for mark in item.iter_markers("clause") for row in mark.args} or {item.originalname}
        if item.get_closest_marker("simulated") or config.getoption("--quick") and rows <= shown:
            left.append(item)
        else:
            shown |= rows
            kept.append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


@pytest.fixture(params=RINGS)
def ring(request):
    """Features of each kind of ring."""
    return RINGS[request.param]


@pytest.fixture(params=["split", "packed"])
def form(request):
    """Features of each format of a ring, without event index."""
    return RINGS[request.param]
