"""How fast is the card: golden driver, engine, link models; every figure measured in the run that prints it.

The driver takes no simulated time, so it is the card and the link that are measured. A case fills the pipeline, then
counts cycles, TLPs and bytes between two marks while driver and wire keep it full. A latency is of one packet on an idle card.
"""

import time
from dataclasses import dataclass

from ..hdl.pcie.parameters import PcieParameters
from ..hdl.pcie.series7.adapter import PARAMETERS
from ..hdl.spec.ethernet import HEADER_BYTES
from ..hdl.spec.net import DEFAULT_MTU
from ..hdl.spec.pcie import CapId, DevCap, DevCtl, Exp
from ..hdl.spec.virtio import VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED
from ..host.driver.net import FEATURES
from .budget import LINKS, Ring, limit_mpps
from .pcie_7x.board import LANES, USER_MHZ, WIDTH, board_engine
from .bus import EngineBus
from .engine.engine import NET, Engine, Link
from .traffic import SETTLED, STALL, Traffic, WatchedNet, datagram

__all__ = ["CORE_MHZ", "DIRECTIONS", "FCS", "FRAME_BYTES", "JUMBO", "NEAR_NS", "QUEUE_SIZE", "SETUPS", "WARM_UP",
           "Case", "Latency", "Setup", "engine_of", "measure", "measure_board", "measure_latency", "net_of",
           "share_of", "simulator_speed"]

CORE_MHZ = 125.0
FRAME_BYTES = (64, 128, 256, 512, 1024, 1518)   # as on the wire, with FCS
JUMBO = 9018                                    # of a card with an MTU of 9000
DIRECTIONS = ("tx", "rx", "both")
FCS = 4
# Entries of a queue, and packets each way, of short frames. The first lap of a packed ring is slower: the card cannot tell yet
# which of its descriptors are new, and reads them twice. What one way has had less by then is made up for in the next 500.
QUEUE_SIZE, WARM_UP, COUNTED = 1024, 1600, 900
FEWER = ((9000, 8), (512, 4))                   # bytes from which a part of all these is enough; powers of two
TLPS = ("mrd_up", "mwr_up", "msg_up", "cpl_down", "mwr_down")
NEAR_NS, FAR_NS = 250.0, 1250.0                 # of a host's read latency
GMII_MHZ = 125.0
WIRE_OVERHEAD = 20                              # bytes: preamble and gap (802.3, 4.4.2)
LONE = 4                                        # packets whose latency is averaged
MAX_PAYLOAD, MAX_READ_REQUEST = 1, 2            # coded: 256 and 512 bytes, what hosts program


@dataclass(frozen=True)
class Setup:
    """A link, and the card on it: bits of its datapath, its clock in MHz, and ``hold_cycles``, ``tags`` and ``prefetch`` as
    of :class:`ringnic.hdl.pcie.parameters.PcieParameters`."""
    link: str
    width: int
    core_mhz: float = CORE_MHZ
    hold_cycles: int = PcieParameters.hold_cycles
    tags: int = PcieParameters.tags
    prefetch: int = PcieParameters.prefetch

    @property
    def pcie(self):
        """Parameters of the card's function."""
        return PcieParameters(hold_cycles=self.hold_cycles, tags=self.tags, prefetch=self.prefetch)


#: Those that `ringnic bench` shows; the first is what the boards with one lane have at 2.5 GT/s.
SETUPS = (Setup("gen1x1", 64, 62.5, 512), Setup("gen2x4", 64), Setup("gen2x4", 128), Setup("gen3x8", 256, 250.0, tags=64),
          Setup("gen3x16", 512, 250.0, tags=256, prefetch=512))


@dataclass(frozen=True)
class Case:
    """One line of the table. TLPs and bytes are of both ways of the link, for one packet.

    ``tx_mpps``, ``rx_mpps``: packets each way; None for a way that is not in use. ``mpps``, and what is made of it: of the slower
    way. ``limit_mpps``: what the link, the datapath, and of a board the wire, allow.
    """
    link: str
    width: int
    core_mhz: float
    ring: str
    in_order: bool
    notification_data: bool
    pairs: int
    direction: str
    frame_bytes: int
    read_latency_ns: float
    tx_mpps: float | None
    rx_mpps: float | None
    mpps: float
    gbit_s: float
    limit_mpps: float
    percent_of_limit: float
    cycles_per_packet: float
    tlps_per_packet: float
    reads_per_packet: float
    link_bytes_per_packet: float
    dropped: int


@dataclass(frozen=True)
class Latency:
    """One packet on an idle card, from the notification to the frame's last beat (tx), or from its first to the used buffer (rx).

    ``dependent_reads``: on the way of the packet's data, each asked for after the one before was answered.
    ``ns_per_ns``: what one more nanosecond of the host's read latency adds; the same number, by another way.
    """
    link: str
    width: int
    ring: str
    notification_data: bool
    direction: str
    frame_bytes: int
    read_latency_ns: float
    latency_ns: float
    dependent_reads: int
    ns_per_ns: float


def share_of(frame_bytes):
    """Frames of so many bytes are so many times as few as the shortest."""
    return next((share for least, share in FEWER if frame_bytes >= least), 1)


def net_of(engine, ring, pairs=1, queue_size=QUEUE_SIZE):
    """A driver whose queues are of this kind of :class:`Ring`."""
    chosen = {VIRTIO_F_RING_PACKED: ring.packed, VIRTIO_F_IN_ORDER: ring.in_order,
              VIRTIO_F_NOTIFICATION_DATA: ring.notification_data}
    net = WatchedNet.open(EngineBus(engine), FEATURES - {bit for bit, wanted in chosen.items() if not wanted}, pairs=pairs,
                          queue_size=queue_size)
    if any((bit in net.features) != wanted for bit, wanted in chosen.items()):
        raise ValueError(f"The card does not offer a {ring.name} ring with what {ring} says")
    _program(net.transport.function)
    return net


def _program(function):
    """Do what a host's firmware and kernel do: Device Control as the link wants it (7.5.3.4), tags of 8 bits if there are any."""
    read, write, at = function.bus.config_read, function.bus.config_write, function.find(CapId.EXP)
    tags = read(at + Exp.DEV_CAP, 4) >> DevCap.EXT_TAG & 1
    fields = {DevCtl.MAX_PAYLOAD: (7, MAX_PAYLOAD), DevCtl.MAX_READ_REQUEST: (7, MAX_READ_REQUEST), DevCtl.EXT_TAG: (1, tags)}
    control = read(at + Exp.DEV_CTL, 2)
    for bit, (mask, value) in fields.items():
        control = control & ~(mask << bit) | value << bit
    write(at + Exp.DEV_CTL, 2, control)


def _model(setup, read_latency_ns, seed=0):
    generation, lanes = LINKS[setup.link]
    return Link(gen=generation, lanes=lanes, core_mhz=setup.core_mhz, read_latency_ns=read_latency_ns, seed=seed)


def engine_of(setup, read_latency_ns, features=None, seed=0, **options):
    """The engine of a :class:`Setup`; ``features``: what the card offers."""
    return Engine(width=setup.width, pcie=setup.pcie, link=_model(setup, read_latency_ns, seed), features=features, **options)


def measure(setup, direction, frame_bytes, *, ring=Ring(), pairs=1, read_latency_ns=NEAR_NS, features=None, seed=0):
    """Run one case of a :class:`Setup`; ``features``: what the card offers. It has the pairs of queues and the MTU that the case
    needs, and no less than by default."""
    options = {"queue_pairs": max(pairs, NET["queue_pairs"]), "mtu": max(DEFAULT_MTU, frame_bytes - FCS - HEADER_BYTES)}

    def make():
        return engine_of(setup, read_latency_ns, features, seed, **options)
    return _measure(make, setup, direction, frame_bytes, ring, pairs, read_latency_ns,
                    limit_mpps(setup.link, direction, frame_bytes - FCS, ring, width=setup.width, core_mhz=setup.core_mhz))


def measure_board(board, direction, frame_bytes, *, ring=Ring(), read_latency_ns=NEAR_NS, features=None):
    """Run one case of the card on a board (:class:`ringnic.boards.board.Board`), behind its block and with its MAC.

    The limit is the lower one of the slot's and the wire's.
    """
    setup = Setup(f"gen{board.generation}x{LANES}", WIDTH, USER_MHZ, PARAMETERS.hold_cycles)

    def make():
        return board_engine(board, read_latency_ns=read_latency_ns, mac="gmii", gmii_ratio=round(GMII_MHZ / USER_MHZ),
                            features=features)
    wire = GMII_MHZ / (frame_bytes + WIRE_OVERHEAD)
    return _measure(make, setup, direction, frame_bytes, ring, 1, read_latency_ns,
                    min(wire, limit_mpps(setup.link, direction, frame_bytes - FCS, ring, width=WIDTH, core_mhz=USER_MHZ)))


def _measure(make, setup, direction, frame_bytes, ring, pairs, read_latency_ns, limit):
    share = share_of(frame_bytes)
    with make() as engine:
        traffic = Traffic(engine, net_of(engine, ring, pairs, QUEUE_SIZE // share), direction, frame_bytes - FCS)
        first, sent, received = traffic.until(WARM_UP // share)
        last, sent_after, received_after = traffic.until((WARM_UP + COUNTED) // share)
        counters = traffic.net.counters()
    ways = {"tx": sent_after - sent, "rx": received_after - received}
    if direction != "both":
        ways = {direction: ways[direction]}
    delta = {name: last[name] - first[name] for name in last}
    rates = {way: count / delta["cycles"] * setup.core_mhz for way, count in ways.items()}
    packets, mpps = sum(ways.values()), min(rates.values())
    return Case(
        link=setup.link, width=setup.width, core_mhz=setup.core_mhz, ring=ring.name, in_order=ring.in_order,
        notification_data=ring.notification_data, pairs=pairs, direction=direction, frame_bytes=frame_bytes,
        read_latency_ns=read_latency_ns, tx_mpps=rates.get("tx"), rx_mpps=rates.get("rx"), mpps=mpps,
        gbit_s=mpps * frame_bytes * 8 / 1e3, limit_mpps=limit,
        percent_of_limit=100 * mpps / limit, cycles_per_packet=delta["cycles"] / min(ways.values()),
        tlps_per_packet=sum(delta[name] for name in TLPS) / packets, reads_per_packet=delta["mrd_up"] / packets,
        link_bytes_per_packet=(delta["bytes_up"] + delta["bytes_down"]) / packets,
        dropped=sum(counters[name] for name in ("rx_dropped_no_buffer", "rx_dropped_full", "tx_dropped")))


def _dependent(events, goal=range(0)):
    """Length of the longest row of reads, each asked for after the one before was answered, to an address of ``goal``."""
    reads, under_way = [], {}                   # [asked, answered, length of the row]
    for cycle, kind, at, size in events:
        if kind == "answer" and under_way.get((at, size)):
            under_way[at, size].pop(0)[1] = cycle
        elif kind == "read":
            before = [row for _, answered, row in reads if answered is not None]
            reads.append([cycle, None, 1 + max(before, default=0)])
            under_way.setdefault((at, size), []).append(reads[-1])
            if at in goal:
                return reads[-1][2]
    return max((row for *_, row in reads), default=0)


def _lone(engine, net, direction, frame):
    """Cycles that one packet takes, and its dependent reads."""
    net.reclaim()
    net.receive()
    engine.run(SETTLED)
    engine.record()
    start, goal = engine.stats()["cycles"], range(0)
    if direction == "tx":
        goal = range(net.tx_memory.iova, net.tx_memory.iova + len(net.tx_memory))
        net.send(frame)
        engine.run_until(frame=True, limit=STALL)
        engine.recv_frame()
    else:
        engine.send_frame(frame)
        while net.rx.enable_cb():
            engine.run(1)
    return engine.stats()["cycles"] - start, _dependent(engine.events(), goal)


def measure_latency(setup, direction, frame_bytes, *, ring=Ring(), features=None):
    """Latency at a host's read latency of :data:`NEAR_NS`, and how it grows towards :data:`FAR_NS`."""
    frame = datagram(frame_bytes - FCS, 0, direction == "tx")
    found = []
    for read_latency_ns in (NEAR_NS, FAR_NS):
        with engine_of(setup, read_latency_ns, features) as engine:
            net = net_of(engine, ring)
            lone = [_lone(engine, net, direction, frame) for _ in range(1 + LONE)][1:]
            found.append((sum(cycles for cycles, _ in lone) / LONE / setup.core_mhz * 1e3, max(reads for _, reads in lone)))
    (near, reads), (far, _) = found
    return Latency(link=setup.link, width=setup.width, ring=ring.name, notification_data=ring.notification_data,
                   direction=direction, frame_bytes=frame_bytes, read_latency_ns=NEAR_NS, latency_ns=near, dependent_reads=reads,
                   ns_per_ns=(far - near) / (FAR_NS - NEAR_NS))


def simulator_speed(width, *, ring=Ring(), features=None, trace=None, seconds=1.0):
    """Core clock cycles simulated in a second of work, under traffic both ways; ``trace``: with a waveform written there."""
    with Engine(width=width, features=features, trace=trace) as engine:
        traffic = Traffic(engine, net_of(engine, ring), "both", 508)
        traffic.until(20)
        first, start = engine.stats(), time.monotonic()
        goal = 20
        while time.monotonic() - start < seconds:
            goal += 20
            traffic.until(goal)
        last = engine.stats()
    return (last["cycles"] - first["cycles"]) / (last["busy_seconds"] - first["busy_seconds"])
