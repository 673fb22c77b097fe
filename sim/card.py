"""The simulated card for programs and tests of yours: the Verilated card, the golden-model driver, and the cable's end.

``docs/from-python.md`` has examples.
"""

from ..host.driver import VirtioNet
from ..host.driver.net import FEATURES
from .bus import EngineBus
from .engine.engine import Engine

__all__ = ["Card", "connect"]

CYCLES = 1_000_000         # after which a card that is still at work is taken for one that never ends


class Card:
    """A simulated network card, which its driver has taken. Time passes only while something is asked of it.

    The first card of a kind is built, which takes a minute or two; the next one is at once.

    Parameters
    ----------
    features : iterable of int
        Numbers of the device features that the driver may negotiate, as in ``ringnic.hdl.spec``; by default all that it knows.
    pairs : int
        Queue pairs that the driver uses.
    options
        Keywords of :class:`ringnic.sim.engine.engine.Engine`: ``width``, ``mac_address``, ``mtu``, ``queue_pairs``, ``link``, ...

    Attributes
    ----------
    engine : Engine
        The simulator: cycles, register accesses, statistics, faults.
    bus : EngineBus
        Its memory and registers as the driver sees them; ``bus.alloc(size)`` is memory that the card reaches.
    driver : VirtioNet
        Queues, commands, counters.
    """
    def __init__(self, *, features=FEATURES, pairs=1, **options):
        self.engine = Engine(**options)
        try:
            self.bus = EngineBus(self.engine)
            self.driver = VirtioNet.open(self.bus, frozenset(features), pairs=pairs)
            # DRIVER_OK was posted. A read pushes it (PCI Express 2.4.1), so that the card is live when a frame comes.
            self.driver.transport.status
        except BaseException:
            self.engine.close()
            raise

    def close(self):
        """Free the simulator. May be called again."""
        self.engine.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def run(self, cycles=CYCLES):
        """Let time pass until the card has nothing to do; :exc:`TimeoutError` if that is not within so many cycles."""
        if self.engine.run_until(idle=True, limit=cycles) >= cycles:
            raise TimeoutError(f"The card is still at work after {cycles} cycles")

    def send(self, frame, pair=0):
        """Have the driver send a frame (bytes, without FCS), which :meth:`run` lets happen."""
        self.driver.send(frame, pair=pair)

    def receive(self):
        """Return the frames that the driver has received since the last call."""
        return [bytes(frame) for pair in range(self.driver.pairs) for frame in self.driver.receive(pair)]

    def from_wire(self, frame):
        """Let a frame arrive at the card, as from a partner on the cable; :meth:`run` lets it be received."""
        while not self.engine.send_frame(frame):
            self.run()

    def to_wire(self):
        """Return the frames that the card has sent since the last call."""
        frames = []
        while (frame := self.engine.recv_frame()) is not None:
            frames.append(frame)
        return frames


def connect(one, two):
    """Run two cards with a cable between them until neither has anything to do; return how many frames have passed."""
    passed = 0
    while True:
        one.run()
        two.run()
        moved = 0
        for source, sink in ((one, two), (two, one)):
            for frame in source.to_wire():
                sink.from_wire(frame)
                moved += 1
        if not moved:
            return passed
        passed += moved
