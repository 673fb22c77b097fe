"""What a run of the fuzzer is: a card, a link, and a list of actions."""

from dataclasses import asdict, dataclass, field, replace

from ...boards.table import BOARDS
from ...hdl.pcie.parameters import PcieParameters
from ...hdl.spec.net import MAX_MTU
from ...hdl.spec.pcie_7x import LINKS as BLOCK_LINKS
from ..engine.engine import Engine, Link
from ..pcie_7x.board import PAYLOADS

__all__ = ["ACTIONS", "LINKS", "PAIRS", "TIMEOUT", "Case", "open_engine"]

PAIRS = 4
TIMEOUT = 8192  # cycles until the card gives up a read: longer than any of these links needs for all it may ask for
LINKS = {
    "near": Link(gen=3, lanes=8, read_latency_ns=100),
    "usual": Link(),
    "pieces": Link(jitter_ns=300, split=2),
    "far": Link(read_latency_ns=2000, jitter_ns=1000, split=2),
    "narrow": Link(gen=1, lanes=4),
    "dry": Link(gen=1, lanes=4, credits=64),
    "torn": Link(read_latency_ns=500, jitter_ns=500, split=2, tear_ns=1000),
}
# Their meaning: the methods of Player, with an underscore before, and those of Hostile.
ACTIONS = (
    "begin", "good", "setup", "live", "reset", "desc", "table", "avail", "index", "event", "loose", "kick", "notify", "common",
    "queue_reset", "write", "read", "window", "vector", "msix", "mask", "master", "power", "device_control", "link", "fault",
    "cable", "frame", "flood", "send", "feed", "poll", "run", "check", "early", "silent", "sheet", "scatter",
    "spread", "command")

# The widest datapath comes with as much on its way to the host as there may be.
WIDE, FAR = 512, {"tags": 256, "prefetch": 512}


@dataclass
class Case:
    """What a run needs besides the code.

    ``base``: where memory begins. ``turn``: by how many places its zones are turned. ``link``: a name of :data:`LINKS` to begin
    with; only a case that begins "torn" is ever torn.
    ``board``: the name of one whose card it is, behind a model of the 7-series block, which has no Function Level Reset.
    ``broken``: the rule that this run breaks, if it is one that does.
    """
    width: int = 64
    board: str | None = None
    link: str = "usual"
    base: int = 0x1_4000_0000
    turn: int = 0
    seed: int = 0
    number: int = 0
    actions: list = field(default_factory=list)
    broken: str | None = None

    def link_model(self, name):
        """One of :data:`LINKS`, for this card."""
        return replace(LINKS[name], **PAYLOADS) if self.board else LINKS[name]

    @property
    def widths(self):
        """Of the datapath, that there are of this card."""
        if self.board is None:
            return (64, 128, WIDE)
        return tuple(sorted({link.width for lanes, link in BLOCK_LINKS.items() if lanes <= len(BOARDS[self.board].pcie.lanes)}))

    def to_json(self):
        return asdict(self)

    @classmethod
    def from_json(cls, values):
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"A case has no {', '.join(sorted(unknown))}")
        case = cls(**values)
        if case.board is not None and (case.board not in BOARDS or not BOARDS[case.board].buildable):
            raise ValueError(f"There is no card of a board {case.board!r}")
        if case.link not in LINKS:
            raise ValueError(f"A link is one of {', '.join(LINKS)}, not {case.link!r}")
        for action in case.actions:
            if action[0] not in ACTIONS:
                raise ValueError(f"There is no action {action[0]!r}")
        return case


def open_engine(case):
    """The card that a case is about: fresh from power-on."""
    options = {"width": case.width, "queue_pairs": PAIRS, "mtu": MAX_MTU, "link": case.link_model(case.link)}
    if case.board is not None:
        lanes = next(lanes for lanes, link in BLOCK_LINKS.items() if link.width == case.width)
        return Engine(card="net_7x", timeout_cycles=TIMEOUT, lanes=lanes, link_speed=BOARDS[case.board].generation, **options)
    return Engine(pcie=PcieParameters(timeout_cycles=TIMEOUT, **(FAR if case.width == WIDE else {})), **options)
