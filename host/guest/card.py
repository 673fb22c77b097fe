"""The card of the demo: the Verilated NIC behind a vfio-user socket. The one place where host code starts a simulator."""

from contextlib import contextmanager
import os
import time

from .qemu import vfio_user_device

__all__ = ["rtl_card"]

# The demo's card, as a board would have it: a 64-bit datapath, a gigabit MAC with its byte-wide GMII, PCIe 2.0 x4.
WIDTH = 64
LINK_GEN, LINK_LANES = 2, 4
GMII_RATIO = 1  # GMII clock periods in one of the core clock


class _RtlCard:
    pass_fds = ()

    def __init__(self, engine, socket_path):
        self._engine = engine
        self._start = time.monotonic()
        self.qemu_options = vfio_user_device(socket_path)

    def fileno(self):
        return self._engine.fileno()

    def send(self, frame):
        self._engine.send_frame(frame)

    def recv(self):
        frame = self._engine.recv_frame()
        if frame is None:
            os.eventfd_read(self._engine.fileno())
            frame = self._engine.recv_frame()  # one that came in between has its event taken with it
        return frame

    def fill(self, report):
        stats = self._engine.stats()
        report.cycles = stats["cycles"]
        report.cycles_per_second = stats["cycles"] / (time.monotonic() - self._start)
        report.counters = stats


@contextmanager
def rtl_card(socket_path, *, seed, wave, tlp, update):
    """Yield the simulated card, served at ``socket_path`` and ready for a QEMU to connect.

    The card is an end of a cable (see :mod:`.cable`) with ``qemu_options`` and ``pass_fds`` for the guest that gets it;
    ``fill(report)`` reports cycles and counters. ``update`` is called with a text on how far its building is; ``wave`` and ``tlp``
    are files to write signals and PCIe packets to, or None.
    """
    # Imported here: nothing else of the host's needs a simulator.
    from ...sim.engine.engine import Engine
    from ...sim.vfio_user.server import EngineDevice, Server

    update(f"{WIDTH}-bit datapath, GMII, PCIe gen {LINK_GEN} x{LINK_LANES}")
    engine = Engine(width=WIDTH, mac="gmii", gmii_ratio=GMII_RATIO, link_gen=LINK_GEN, link_lanes=LINK_LANES, seed=seed,
                    wave=wave, tlp_log=tlp)
    engine.start()
    try:
        with Server(str(socket_path), EngineDevice(engine)):
            yield _RtlCard(engine, socket_path)
    finally:
        engine.stop()
