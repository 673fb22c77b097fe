"""How fast is the card: golden driver, engine, link models; every figure measured in the run that prints it.

The driver takes no simulated time, so it is the card and the link that are measured. A case fills the pipeline, then
counts cycles, TLPs and bytes between two marks while driver and wire keep it full.
"""

import random
import time
from dataclasses import dataclass

from ..host.driver.net import NoSpace, VirtioNet
from .budget import LINKS, limit_mpps
from .bus import EngineBus
from .engine.engine import Engine, Link

__all__ = ["CORE_MHZ", "DIRECTIONS", "FRAME_BYTES", "Case", "measure", "simulator_speed"]

CORE_MHZ = 125.0
FRAME_BYTES = (64, 128, 256, 512, 1024, 1518)   # as on the wire, with FCS
DIRECTIONS = ("tx", "rx", "both")
FCS = 4
WARM_UP, COUNTED = 300, 900                     # packets each way
SLICE = 100                                     # cycles between looks of the driver
STALL = 2_000_000                               # cycles after which a case has failed
ON_THE_WIRE = 12288                             # bytes the card has not delivered yet: what it can hold without a drop
TLPS = ("mrd_up", "mwr_up", "msg_up", "cpl_down", "mwr_down")


@dataclass(frozen=True)
class Case:
    """One line of the table. Rates are for each way; TLPs and bytes are of both ways of the link, for one packet."""
    link: str
    width: int
    ring: str
    direction: str
    frame_bytes: int
    read_latency_ns: float
    mpps: float
    gbit_s: float
    limit_mpps: float
    percent_of_limit: float
    cycles_per_packet: float
    tlps_per_packet: float
    reads_per_packet: float
    link_bytes_per_packet: float
    dropped: int


class _Traffic:
    """Keeps a card busy with frames of one size and counts what gets through."""
    def __init__(self, engine, direction, size):
        self.engine = engine
        self.net = VirtioNet.open(EngineBus(engine))
        self.frame = random.Random(size).randbytes(size)
        self.sends = direction in ("tx", "both")
        self.receives = direction in ("rx", "both")
        self.offered, self.received = 0, 0
        self.window = min(128, ON_THE_WIRE // size)

    def step(self):
        """Top up driver and wire, run a little."""
        if self.sends:
            queued = 0
            try:
                while True:
                    self.net.send(self.frame, kick=False)
                    queued += 1
            except NoSpace:
                pass
            if queued:
                self.net.tx.kick()
        if self.receives:
            while self.offered < self.received + self.window and self.engine.send_frame(self.frame):
                self.offered += 1
            self.received += len(self.net.receive())
        self.engine.run(SLICE)
        while self.engine.recv_frame() is not None:
            pass

    def until(self, goal):
        """Go on until ``goal`` packets have passed each way that is used."""
        start = self.engine.stats()["cycles"]
        while True:
            stats = self.engine.stats()
            if (not self.sends or stats["frames_out"] >= goal) and (not self.receives or self.received >= goal):
                return stats, stats["frames_out"], self.received
            if stats["cycles"] - start > STALL:
                raise TimeoutError(f"No {goal} packets in {STALL} cycles: {stats}")
            self.step()


def measure(link, width, direction, frame_bytes, *, read_latency_ns=250.0, seed=0):
    """Run one case; ``link`` is a key of :data:`ringnic.sim.budget.LINKS`."""
    gen, lanes = {name: (round(rate / 2.5), lanes) for name, (rate, lanes, _) in LINKS.items()}[link]
    model = Link(gen=gen, lanes=lanes, core_mhz=CORE_MHZ, read_latency_ns=read_latency_ns, seed=seed)
    with Engine(width=width, link=model) as engine:
        traffic = _Traffic(engine, direction, frame_bytes - FCS)
        first, sent, received = traffic.until(WARM_UP)
        last, sent_after, received_after = traffic.until(WARM_UP + COUNTED)
        counters = traffic.net.counters()
    ways = {"tx": [sent_after - sent], "rx": [received_after - received],
            "both": [sent_after - sent, received_after - received]}[direction]
    delta = {name: last[name] - first[name] for name in last}
    packets, slower = sum(ways), min(ways)
    mpps = slower / delta["cycles"] * CORE_MHZ
    limit = limit_mpps(link, direction, frame_bytes - FCS)
    return Case(
        link=link, width=width, ring="split", direction=direction, frame_bytes=frame_bytes,
        read_latency_ns=read_latency_ns, mpps=mpps, gbit_s=mpps * frame_bytes * 8 / 1e3, limit_mpps=limit,
        percent_of_limit=100 * mpps / limit, cycles_per_packet=delta["cycles"] / slower,
        tlps_per_packet=sum(delta[name] for name in TLPS) / packets, reads_per_packet=delta["mrd_up"] / packets,
        link_bytes_per_packet=(delta["bytes_up"] + delta["bytes_down"]) / packets,
        dropped=sum(counters[name] for name in ("rx_dropped_no_buffer", "rx_dropped_full", "tx_dropped")))


def simulator_speed(width, *, trace=None, seconds=1.0):
    """Core clock cycles simulated in a second of work, under traffic both ways; ``trace``: with a waveform written there."""
    with Engine(width=width, trace=trace) as engine:
        traffic = _Traffic(engine, "both", 508)
        traffic.until(20)
        first, start = engine.stats(), time.monotonic()
        goal = 20
        while time.monotonic() - start < seconds:
            goal += 20
            traffic.until(goal)
        last = engine.stats()
    return (last["cycles"] - first["cycles"]) / (last["busy_seconds"] - first["busy_seconds"])
