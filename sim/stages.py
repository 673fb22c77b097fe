"""Where packets wait: of each stream between the card's stages, in how many cycles it moves, and in how many it waits.

A stage limits the rate if what it takes from waits, and what it gives to does not. Streams are looked at in the simulated card,
by their names in the design, so this needs the slower simulator that keeps names.
"""

from dataclasses import dataclass
from pathlib import Path
import tempfile

from .bench import FCS, NEAR_NS, QUEUE_SIZE, WARM_UP, engine_of, net_of, share_of
from .budget import Ring
from .traffic import Traffic

__all__ = ["CYCLES", "LINK", "LATENCY", "Flow", "limiting", "measure_stages"]

CYCLES = 4000            # that are looked at
WAITS, FULL = 0.2, 0.97  # shares of the cycles: of a stream that a stage holds up, and of a link that has no room
LINK, LATENCY = "the link, or the datapath to it", "reads on their way"
CORE = "nic.core.function."
RECEIVE, TRANSMIT = f"{CORE}device.receive.", f"{CORE}device.transmit."
# What moves, where, and who takes it; in the order of a packet's way.
HEADS = ("heads, in batches", f"{CORE}engine.store.i_push", "HeadStore")
WAYS = {
    "rx": (("rx: chains asked for", f"{RECEIVE}buffers__take", "HeadStore"),
           ("rx: segments", f"{RECEIVE}buffers__segment", "Provide"),
           ("rx: frames, buffered", f"{RECEIVE}provide.o", "Deliver"),
           ("rx: writes", f"{RECEIVE}write__req", "Writer"),
           ("rx: chains given back", f"{RECEIVE}buffers__used", "UsedWriter")),
    "tx": (("tx: chains asked for", f"{TRANSMIT}buffers__take", "HeadStore"),
           ("tx: segments", f"{TRANSMIT}buffers__segment", "Transmit"),
           ("tx: reads", f"{TRANSMIT}read__req", "Reader"),
           ("tx: data", f"{TRANSMIT}read__beat", "Transmit"),
           ("tx: chains given back", f"{TRANSMIT}buffers__used", "UsedWriter")),
}
USED = ("used entries, writes", f"{CORE}engine.used.write__req", "Writer")
TLPS = (("TLPs to the host", "TOP.tlp_tx", LINK), ("TLPs from the host", "TOP.tlp_rx", LINK))


@dataclass(frozen=True)
class Flow:
    """A stream: ``taker`` takes from it; shares of the cycles in which a transfer was made, and in which one was offered and not
    taken."""
    name: str
    taker: str
    moves: float
    waits: float


def limiting(flows):
    """Name what limits the rate, of :class:`Flow` in the order of a packet's way."""
    if any(flow.taker == LINK and flow.moves + flow.waits >= FULL for flow in flows):
        return LINK
    held = [flow.taker for flow in flows if flow.waits >= WAITS and flow.taker != LINK]
    return held[-1] if held else LATENCY


def measure_stages(setup, direction, frame_bytes, *, ring=Ring(), features=None, cycles=CYCLES):
    """Return a :class:`Flow` of each stream, in order, while the card of a :class:`.bench.Setup` is kept busy."""
    ways = ("tx", "rx") if direction == "both" else (direction,)
    streams = [HEADS, *(stream for way in ways for stream in WAYS[way]), USED, *TLPS]
    with tempfile.TemporaryDirectory(prefix="ringnic-") as folder, \
            engine_of(setup, NEAR_NS, features, trace=Path(folder) / "none.fst", window=(0, 0)) as engine:
        share = share_of(frame_bytes)
        traffic = Traffic(engine, net_of(engine, ring, queue_size=QUEUE_SIZE // share), direction, frame_bytes - FCS)
        traffic.until(WARM_UP // share)
        seen = _Watched(engine, [place for _, place, _ in streams])
        traffic.engine = seen
        while seen.cycles < cycles:
            traffic.step()
    return [Flow(name, taker, seen.moves[place] / seen.cycles, seen.waits[place] / seen.cycles) for name, place, taker in streams]


class _Watched:
    """An engine that looks at streams in every cycle that it runs."""
    def __init__(self, engine, places):
        self._engine = engine
        self.cycles = 0
        self.moves, self.waits = dict.fromkeys(places, 0), dict.fromkeys(places, 0)
        names = engine.names()
        # Of a component's port, and of the whole model's.
        self._ends = {place: next(ends for ends in ((f"{place}__valid", f"{place}__ready"), (f"{place}_valid", f"{place}_ready"))
                                  if ends[0] in names) for place in places}

    def run(self, cycles):
        for _ in range(cycles):
            for place, (valid, ready) in self._ends.items():
                if self._engine.peek(valid):
                    (self.moves if self._engine.peek(ready) else self.waits)[place] += 1
            self._engine.step()
        self.cycles += cycles

    def __getattr__(self, name):
        return getattr(self._engine, name)
