"""The Verilated card under the golden driver, with an eye on every byte of DMA."""

from contextlib import closing, contextmanager

import pytest

from ringnic.hdl.spec.net import MAX_MTU
from ringnic.hdl.spec.virtio import VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, Status
from ringnic.host.driver import VirtioNet
from ringnic.host.features import names
from ringnic.sim.bus import EngineBus
from ringnic.sim.engine.engine import Engine, Link
from ringnic.sim.monitor import LIMIT as DUE_LIMIT, Monitor, clauses

from ..kit.card import WholeCard

SPLIT, PACKED = frozenset(), frozenset({VIRTIO_F_RING_PACKED})
LATEST = frozenset({VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA})
# Width of the datapath and kind of ring: each is met with each of the other's, without all products.
CARDS = {"split": (64, SPLIT), "packed": (128, PACKED), "split_in_order": (128, SPLIT | LATEST),
         "packed_in_order": (64, PACKED | LATEST)}


class Rig(WholeCard):
    """A card, its driver, and the wire.

    Attributes
    ----------
    bus : EngineBus
    net : VirtioNet
        As of the last :meth:`open`.
    ring : frozenset
        Features that every driver of this rig takes besides those that it is opened with.
    offered : frozenset or None
        What ``--features`` lets the card offer. A test that needs more is skipped.
    monitor : Monitor
        Judges all that passes the card's edge, by the standard.
    arenas : dict
        Buffers of a test by their iova, each with the ranges ``(iova, length)`` that descriptors named: there the driver's own
        account is held against the card's, too.
    """
    LIMIT = 400_000

    def __init__(self, engine, ring=SPLIT, offered=None):
        self.engine = engine
        self.offered = offered
        self.ring = ring
        self.bus = EngineBus(engine)
        self.arenas = {}
        self.sizes = {}    # of arenas, in bytes
        self.monitor = Monitor()
        engine.record()
        engine.capture()

    def open(self, features, **options):
        features = features | self.ring
        if self.offered is not None and features - self.offered:
            pytest.skip(f"{', '.join(names(features - self.offered))} is not offered")
        self.net = VirtioNet.open(self.bus, features, **options)
        assert self.net.transport.status & Status.DRIVER_OK  # a read pushes the posted writes: the card is live
        return self.net

    def restart(self, **options):
        self.net.restart(**options)
        assert self.net.transport.status & Status.DRIVER_OK

    # The wire

    def wire(self):
        """Return the frames that came out since the last call."""
        frames = []
        while (frame := self.engine.recv_frame()) is not None:
            frames.append(bytes(frame))
        return frames

    from_card = wire

    def feed(self, frame):
        """Put a frame on the wire towards the card."""
        self.engine.send_frame(frame)

    def to_card(self, frames):
        for frame in frames:
            self.feed(frame)

    def works(self):
        """Frames pass in both directions."""
        self.works_tx()
        self.works_rx()

    def works_tx(self):
        self.passes_out([bytes([k]) * (60 + 7 * k) for k in range(20)])

    def works_rx(self):
        self.passes_in([bytes([k]) * (61 + 7 * k) for k in range(20)])

    # DMA

    def arena(self, size):
        """Memory of zeros that the device may touch only where :meth:`describe` says."""
        buffer = self.bus.alloc(size)
        buffer.view[:] = bytes(size)
        self.arenas[buffer.iova] = []
        self.sizes[buffer.iova] = size
        return buffer

    def describe(self, buffer, offset, length):
        self.arenas[buffer.iova].append((buffer.iova + offset, length))
        return buffer.iova + offset, length

    def check_dma(self):
        """No rule was broken until now, and every DMA into an arena was where the driver says that it may be."""
        self.monitor.follow(self.engine)
        self.monitor.check()
        accesses = self.engine.accesses()
        for start, ranges in self.arenas.items():
            end = start + self.sizes[start]
            for addr, length, write in accesses:
                if start <= addr < end:
                    assert any(base <= addr and addr + length <= base + size for base, size in ranges), (
                        f"DMA {'write' if write else 'read'} of {length} at {addr:#x}: the driver has not described it")

    def reset(self, flr=False):
        """Reset; judge what was done until then. Whatever comes later is outside."""
        (self.net.flr if flr else self.net.reset)()
        self.check_dma()
        self.arenas = {}
        self.bus.run(2000)
        self.check_dma()

    # After an attack

    def recover(self, flr=False):
        """Reset as a driver does; everything works again."""
        self.bus.run(2000)
        self.reset(flr)
        self.wire()
        self.restart(fill=True)
        self.works()
        self.check_dma()


@contextmanager
def watched(request, engine, ring, offered):
    """A rig under the passive checker, to the end of the test; what was judged goes into the test's report."""
    with closing(engine) as card:
        rig = Rig(card, ring, offered)
        yield rig
        rig.check_dma()
        if rig.monitor.waiting is not None:
            rig.engine.run(DUE_LIMIT)
            rig.check_dma()
        request.node.user_properties.append(clauses(rig.monitor.observed))


@pytest.fixture(params=CARDS)
def rig(request, offered):
    """A card fresh from power-on, of each datapath width and kind of ring."""
    width, ring = CARDS[request.param]
    with watched(request, Engine(width=width, features=offered), ring, offered) as rig:
        yield rig


@pytest.fixture(params=[64, 128], ids=lambda width: f"width{width}")
def split_rig(request, offered):
    """The same with split rings and nothing else, of each datapath width."""
    with watched(request, Engine(width=request.param, features=offered), SPLIT, offered) as rig:
        yield rig


@pytest.fixture(params=[64, 128], ids=lambda width: f"width{width}")
def packed_rig(request, offered):
    """The same with packed rings."""
    with watched(request, Engine(width=request.param, features=offered), PACKED, offered) as rig:
        yield rig


@pytest.fixture(params=[SPLIT, PACKED], ids=["split", "packed"])
def wide_rig(request, offered):
    """A card of the most pairs."""
    with watched(request, Engine(queue_pairs=16, features=offered), request.param, offered) as rig:
        yield rig


@pytest.fixture(params=CARDS)
def far_rig(request, offered, seed):
    """A card far from its host: reads take long, overtake one another, are answered in pieces, and no two parts of 8 bytes
    are of the same moment."""
    width, ring = CARDS[request.param]
    link = Link(read_latency_ns=2000, jitter_ns=1000, split=2, tear_ns=1000, seed=seed)
    with watched(request, Engine(width=width, link=link, features=offered), ring, offered) as rig:
        yield rig


# Kind of ring, and GMII clocks in one of the core: as on a board, and as slow a core as the demo's.
@pytest.fixture(params=[(SPLIT, 1), (PACKED | LATEST, 12)], ids=["split", "packed_in_order"])
def gmii_rig(request, offered):
    """A card as the demo's, with a MAC, jumbo frames and a wire to nowhere."""
    ring, ratio = request.param
    with watched(request, Engine(width=128, mac="gmii", gmii_ratio=ratio, mtu=MAX_MTU, features=offered), ring, offered) as rig:
        rig.engine.set_link(False)
        yield rig
