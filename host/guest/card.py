"""The cards of guests: a Verilated one behind a vfio-user socket. The one place where host code starts a simulator."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import time

from ...hdl.spec.bar import BAR_INDEX, BUILD_ID_OFFSET, COUNTERS_MAGIC, COUNTERS_OFFSET
from ...hdl.spec.net import DEFAULT_MAC, DEFAULT_MTU
from ...hdl.spec.pcie import Cfg, Command
from ..counters import read_counters
from .qemu import GuestError, vfio_user_device
from .registers import NAME, serve_registers

__all__ = ["CardError", "DROPS", "GMII_RATIO", "PAIRS", "Place", "WIDTH", "Wave", "card_features", "entropy_card", "rtl_card",
           "simulated_card", "traced"]

# The demo's card, as a board would have it: a gigabit MAC with its byte-wide GMII, PCIe 2.0 x4.
WIDTH = 128
PAIRS = 4
LINK_GEN, LINK_LANES = 2, 4
LINK_NAME = f"PCIe {LINK_GEN}.0 x{LINK_LANES}"
GMII_MHZ = 125
# GMII clock periods in one of the core clock. A card runs both at 125 MHz; a simulator spends its time in the core, so
# that a slow core clock beside a gigabit wire moves the most bytes in a second of real time. More than this brings frames
# faster than several queues take them, and some are lost. The datapath has to keep up with it.
GMII_RATIO = 12
BITS_AT_RATIO = 128

# Packets lost between driver and wire. Those that come while no driver is there are not: nobody missed them.
DROPS = ("tx_dropped", "rx_dropped_no_buffer", "rx_dropped_full", "rx_dropped_long", "mac_rx_bad_fcs", "mac_rx_runt",
         "mac_rx_giant", "mac_rx_overflow", "frames_lost", "bad_frames")
TLPS = ("mrd_up", "mwr_up", "msg_up", "cpl_up", "cpl_down", "cfg_down", "mrd_down", "mwr_down")
MOVED = ("mrd_up", "mwr_up", "frames_in", "frames_out")


class CardError(Exception):
    """The card's model could not be made; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where a card is served: the path of a socket. ``group``, ``watch``: as of :class:`ringnic.sim.vfio_user.server.Server`.

    ``registers``: path of the socket of :mod:`.registers`; beside the card's if None.
    """
    path: Path
    group: str | None = None
    watch: Callable = lambda connected, error: None
    registers: Path | None = None

    @classmethod
    def of(cls, place):
        """Return a place, or that of a path."""
        return place if isinstance(place, cls) else cls(place)


@dataclass(frozen=True)
class Wave:
    """A waveform. ``path``: of the file; ``first``, ``last``: cycles that it shows."""
    path: Path
    first: int = 0
    last: int = (1 << 64) - 1


def traced(wave):
    """Options of an engine that writes a :class:`Wave`, or of one that does not, if that is None."""
    return {} if wave is None else {"trace": wave.path, "window": (wave.first, wave.last)}


class SimulatedCard:
    """An end of a cable (see :mod:`.cable`), and what a guest's QEMU is told.

    ``engine``: the simulated card itself; ``socket_path``: where it is served. ``link``, ``width``: for the report.
    ``verilog``: SHA-256 of what a board's card was made of.
    """
    pass_fds = ()

    def __init__(self, engine, socket_path, *, link, width, verilog=None):
        self.engine = engine
        self.socket_path = socket_path
        self._link, self._width, self._verilog = link, width, verilog
        self._before = engine.stats()["cycles"]
        self.qemu_options = vfio_user_device(socket_path)
        self.fileno = engine.fileno

    def send(self, frame):
        while not self.engine.send_frame(frame):  # too many wait for the wire: so does the sender
            time.sleep(0.001)

    def recv(self):
        frame = self.engine.recv_frame()
        if frame is None:
            try:
                os.eventfd_read(self.engine.fileno())
            except BlockingIOError:
                return None
            frame = self.engine.recv_frame()  # one that came in between, whose event is gone now
        return frame

    def registers(self):
        """Return what reads a DW of the card's BAR, where the guest has it now; all ones if it has it nowhere."""
        engine = self.engine
        if not engine.config_read(Cfg.COMMAND, 2) >> Command.MEMORY_ENABLE & 1:
            return lambda offset: 0xffff_ffff  # the card would count the reads that it refuses
        bar = engine.config_read(Cfg.BAR0 + 4 * BAR_INDEX, 4) & ~0xF
        return lambda offset: engine.mem_read(bar + offset, 4)

    def _page(self):
        """The card's own counters, and its build id; no counters and None if it does not answer."""
        read = self.registers()
        return (read_counters(read), f"{read(BUILD_ID_OFFSET):08x}") if read(COUNTERS_OFFSET) == COUNTERS_MAGIC else ({}, None)

    def progress(self):
        """Return a number that grows while the card moves frames or data, and not because somebody looks at its registers.

        :exc:`OSError` if a disk is too full for what is written of the card.
        """
        self.engine.check_files()
        stats = self.engine.stats()
        return sum(stats[name] for name in MOVED)

    def fill(self, report):
        stats = self.engine.stats()
        report.link, report.width, report.verilog = self._link, self._width, self._verilog
        report.cycles = stats["cycles"] - self._before
        report.cycles_per_second = stats["cycles"] / stats["busy_seconds"] if stats["busy_seconds"] else None
        own, report.build_id = self._page()
        counters = {**stats, **own}
        report.counters = {
            **counters,
            "packets_tx": stats["frames_out"], "packets_rx": stats["frames_in"],
            "tlps": sum(stats[name] for name in TLPS), "link_bytes": stats["bytes_up"] + stats["bytes_down"],
            "drops": sum(counters[name] for name in DROPS) if DROPS[0] in counters else None,
        }


def card_features(pairs=PAIRS):
    """Numbers of the device features that a card of ``pairs`` queue pairs has."""
    from ...sim.core import core_features
    return core_features(pairs)


@contextmanager
def _served(place, make, prepare=lambda engine: None):
    """Yield the engine that ``make()`` returns, after ``prepare(engine)``, running and served at a :class:`Place`."""
    # Imported here: nothing else of the host's needs a simulator.
    from ...sim.engine.build import BuildError
    from ...sim.vfio_user.server import EngineDevice, Server

    try:
        engine = make()
    except BuildError as error:
        raise CardError(str(error)) from None
    with engine:
        prepare(engine)
        engine.start()
        with Server(str(place.path), EngineDevice(engine), group=place.group, watch=place.watch) as server:
            try:
                yield engine
            except GuestError as error:
                if server.error is not None:
                    raise CardError(f"The card gave up on QEMU: {server.error}") from error
                raise


@contextmanager
def simulated_card(place, make, prepare, **facts):
    """Yield the :class:`SimulatedCard` of the engine that ``make()`` returns, ready for a QEMU to connect.

    ``place``: a :class:`Place`, or only its path. ``prepare(engine)``: called before the engine runs. ``facts``: keywords of the
    card. Its registers can be read meanwhile, see :mod:`.registers`.
    """
    place = Place.of(place)
    with _served(place, make, prepare) as engine:
        card = SimulatedCard(engine, place.path, **facts)
        with serve_registers(place.registers or Path(place.path).with_name(NAME), card.registers, place.path):
            yield card


@contextmanager
def rtl_card(place, *, seed, wave, tlp, update, features=None, pairs=PAIRS, mtu=DEFAULT_MTU, width=WIDTH,
             mac_address=DEFAULT_MAC):
    """Yield the simulated card, served at a :class:`Place` (or the path of one) and ready for a QEMU to connect.

    The card is an end of a cable (see :mod:`.cable`) with ``qemu_options`` and ``pass_fds`` for the guest that gets it;
    ``fill(report)`` reports cycles and counters, and ``progress()`` is a sign for a :class:`.patience.Patience`. ``update``
    is called with a text on how far its building is; ``wave`` is a :class:`Wave` and ``tlp`` a file for PCIe packets, or
    None. ``features``: numbers of the device features that it offers, None for all; ``pairs``: queue pairs that it has;
    ``mtu``: that it offers; ``width``: bits of its datapath; ``mac_address``: its own. Its registers can be read meanwhile, see
    :mod:`.registers`.
    """
    from ...sim.engine.engine import Engine, Link
    from ...sim.engine.view import save_view

    def make():
        update("about a minute the first time")
        ratio = min(GMII_RATIO, GMII_RATIO * width // BITS_AT_RATIO)
        link = Link(gen=LINK_GEN, lanes=LINK_LANES, core_mhz=GMII_MHZ / ratio, jitter_ns=100, seed=seed)
        return Engine(width=width, mac="gmii", gmii_ratio=ratio, queue_pairs=pairs, mtu=mtu, link=link, features=features,
                      mac_address=mac_address, tlp_log=tlp, **traced(wave))

    def prepare(engine):
        if wave is not None:
            save_view(wave.path, engine.names())
        update(f"{width}-bit datapath, GMII, {LINK_NAME}")

    with simulated_card(place, make, prepare, link=LINK_NAME, width=width) as card:
        yield card


@dataclass(frozen=True)
class EntropyCard:
    """What a guest's QEMU is told of an entropy device; ``progress()`` raises as that of a :class:`SimulatedCard` does."""
    qemu_options: list
    progress: object


@contextmanager
def entropy_card(place, *, seed, features=None, tlp=None):
    """Yield the :class:`EntropyCard` of a simulated entropy device, served at a :class:`Place` or the path of one.

    ``seed``: of its randomness; ``tlp``: as of :func:`rtl_card`.
    """
    from ...sim.engine.engine import Engine, Link
    place = Place.of(place)
    with _served(place, lambda: Engine(card="entropy", link=Link(seed=seed), features=features, tlp_log=tlp)) as engine:
        yield EntropyCard(vfio_user_device(place.path), engine.check_files)
