"""What a guest run found: numbers and checks, as a table for people and as JSON for programs."""

from dataclasses import asdict, dataclass, field
from statistics import median
from textwrap import fill

from rich.table import Table

from ..results import write_json

__all__ = ["Report", "mbit_s"]

FEATURES_WIDTH = 44  # of their list in the table, in characters


def mbit_s(size, seconds):
    """Return the rate of ``size`` bytes in ``seconds``, in Mbit/s."""
    return size * 8 / 1e6 / seconds if seconds > 0 else 0.0


def _number(value, unit="", digits=2):
    return "-" if value is None else f"{value:,.{digits}f}{unit}" if isinstance(value, float) else f"{value:,}{unit}"


@dataclass
class Report:
    """Results of one run; what was not reached is None.

    ``width`` is that of the card's datapath, in bits. ``verilog``: SHA-256 of what a board's card was made of. ``build_id``:
    what the card says of itself. ``ring``: "split"
    or "packed"; ``features``: names of what card and driver agreed upon; ``queue_pairs``: as many as the driver uses. Times
    called ``host`` are by this machine's clock; the guest's clock runs with it, not with the model's. Cycles are of the model's
    core clock, from the guest's start on. ``failed`` lists the checks that did not hold, in words.
    """
    kernel: str | None = None
    qemu: str | None = None
    driver: str | None = None
    pci_id: str | None = None
    link: str | None = None
    width: int | None = None
    verilog: str | None = None
    build_id: str | None = None
    ring: str | None = None
    features: list = field(default_factory=list)
    queue_pairs: int | None = None
    address: str | None = None
    ping_rtt_ms: list = field(default_factory=list)
    ping_sent: int = 0
    transfer_bytes: int = 0
    tcp_rx_seconds: float | None = None
    tcp_tx_seconds: float | None = None
    sha256: dict = field(default_factory=dict)
    cycles: int | None = None
    cycles_per_second: float | None = None
    counters: dict = field(default_factory=dict)
    seed: int | None = None
    failed: list = field(default_factory=list)

    @property
    def ping_lost(self):
        return self.ping_sent - len(self.ping_rtt_ms)

    @property
    def ping_rtt_ms_median(self):
        return median(self.ping_rtt_ms) if self.ping_rtt_ms else None

    @property
    def tcp_rx_mbit_s(self):
        return None if self.tcp_rx_seconds is None else mbit_s(self.transfer_bytes, self.tcp_rx_seconds)

    @property
    def tcp_tx_mbit_s(self):
        return None if self.tcp_tx_seconds is None else mbit_s(self.transfer_bytes, self.tcp_tx_seconds)

    @property
    def sha256_ok(self):
        """All sides hashed, and to the same."""
        return len(self.sha256) == 3 and len(set(self.sha256.values())) == 1

    def per_packet(self, name):
        """Return a counter divided by the packets of both directions, or None."""
        packets = self.counters.get("packets_tx", 0) + self.counters.get("packets_rx", 0)
        return self.counters[name] / packets if packets and name in self.counters else None

    def as_dict(self):
        """Return everything as JSON-able values, derived ones included."""
        derived = {name: getattr(self, name) for name in (
            "ping_lost", "ping_rtt_ms_median", "tcp_rx_mbit_s", "tcp_tx_mbit_s", "sha256_ok")}
        pick = {name: self.counters.get(name) for name in ("packets_tx", "packets_rx", "drops")}
        return {"ok": not self.failed, **asdict(self), **derived, **pick,
                "tlps_per_packet": self.per_packet("tlps"), "link_bytes_per_packet": self.per_packet("link_bytes")}

    def write(self, path):
        write_json(path, self.as_dict(), build_id=self.build_id, seed=self.seed)

    def table(self):
        """Return the rich table of a finished run."""
        table = Table(title="RingNIC", show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        rtt = self.ping_rtt_ms
        rows = [
            ("Guest kernel", self.kernel or "-"),
            ("Driver", f"{self.driver} on {self.pci_id}" if self.driver else "-"),
            ("Card", f"{self.link}, {self.width}-bit datapath" if self.link else "-"),
            *([("Verilog, SHA-256", f"{self.verilog[:32]}…")] if self.verilog else []),
            ("Queue pairs in use, rings", f"{self.queue_pairs}, {self.ring}" if self.ring else "-"),
            ("Features", fill(", ".join(self.features), FEATURES_WIDTH) or "-"),
            None,
            ("Ping, median / min / max", " / ".join(_number(v) for v in (
                self.ping_rtt_ms_median, min(rtt, default=None), max(rtt, default=None))) + " ms"),
            ("Ping, sent / lost", f"{self.ping_sent} / {self.ping_lost}"),
            (f"TCP to the guest, {self.transfer_bytes / 2**20:g} MiB", _number(self.tcp_rx_mbit_s, " Mbit/s")),
            (f"TCP from the guest, {self.transfer_bytes / 2**20:g} MiB", _number(self.tcp_tx_mbit_s, " Mbit/s")),
            ("SHA-256 at all ends", "equal" if self.sha256_ok else "[red]differ[/]" if self.sha256 else "-"),
            None,
            ("Clock cycles simulated", _number(self.cycles)),
            ("Cycles a second", _number(self.cycles_per_second, digits=0)),
        ]
        if self.counters:
            pick = self.counters.get
            rows += [
                ("Packets sent / received by the guest", f"{_number(pick('packets_tx'))} / {_number(pick('packets_rx'))}"),
                ("TLPs a packet", _number(self.per_packet("tlps"))),
                ("Link bytes a packet", _number(self.per_packet("link_bytes"))),
                ("Kicks / interrupts", f"{_number(pick('kicks'))} / {_number(pick('interrupts'))}"),
                ("Drops", _number(pick("drops"))),
            ]
        for row in rows:
            if row is None:
                table.add_section()
            else:
                table.add_row(*row)
        return table
