"""``ringnic bench``: how fast is the card, how fast is its simulator; a table, a plot, JSON."""

from contextlib import ExitStack
from dataclasses import asdict
import json
from pathlib import Path
import tempfile

from rich import box
from rich.console import Console
from rich.table import Table

from ..hdl.spec.net import VIRTIO_NET_F_MQ
from ..hdl.spec.virtio import VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED
from ..sim.bench import (DIRECTIONS, FRAME_BYTES, JUMBO, NEAR_NS, SETUPS, Setup, measure, measure_board, measure_latency,
                         simulator_speed)
from ..sim.budget import Ring, limit_mpps
from .errors import complain
from .guest.process import INTERRUPTED, ends_as_exceptions
from .guest.report import Report
from .guest.session import DemoOptions, run_demo
from .progress import bar
from .results import simulated_build_id, write_json

__all__ = ["SEED", "clocked", "named", "plain_table", "rings_of", "run_bench", "run_board_bench", "write_report"]

WIDTHS = (64, 128)    # of the simulator whose own speed is measured
FCS = 4
GOOD, FAIR = 80, 50   # percent of the link's limit
GUEST_BYTES = 2 << 20
FARTHER_NS = (0, 500, 1000, 2000)   # of a host whose memory answers later
PAIRS, MANY_PAIRS = 4, 16
SEED = 0              # of the links' delays, wherever none is given
SHORT = FRAME_BYTES[0]
# What is looked at more closely, with short frames.
CLOSE = Setup("gen2x4", 64)
GEN3X8, GEN3X16 = SETUPS[-2:]
# Who is asked how far away the host may be: with what frames, which ways, and by how much.
DISTANCES = ((CLOSE, SHORT, DIRECTIONS, FARTHER_NS[:3]), (GEN3X8, FRAME_BYTES[-1], ("tx", "rx"), (0, 2000)),
             (GEN3X16, SHORT, ("tx", "rx"), FARTHER_NS[:3]))
LEGEND = ("tx, rx: Mpps each way. Limit: Mpps that the link and the datapath allow, and how much of it the slower way reaches; "
          "cycles, TLPs, reads and link bytes are for one packet.")


def _percent(value):
    colour = "green" if value >= GOOD else "yellow" if value >= FAIR else "red"
    return f"[{colour}]{value:.0f} %[/]"


def rings_of(features):
    """The kinds of ring that a card with these features (None: all) gives a driver that takes what it gets."""
    def has(bit):
        return features is None or bit in features
    formats = (False, True) if has(VIRTIO_F_RING_PACKED) else (False,)
    return [Ring(packed=packed, notification_data=has(VIRTIO_F_NOTIFICATION_DATA)) for packed in formats]


def _variants(features):
    """The same with and without what makes a difference to them."""
    found = []
    for ring in rings_of(features):
        for notification_data in sorted({False, ring.notification_data}):
            orders = (False, True) if features is None or VIRTIO_F_IN_ORDER in features else (False,)
            found += [Ring(ring.packed, in_order, notification_data) for in_order in orders]
    return found


def _pairs(features, many):
    """How many pairs of queues are measured of a card with these features; ``many``: also as many as there can be."""
    if features is not None and VIRTIO_NET_F_MQ not in features:
        return (1,)
    return (1, PAIRS, MANY_PAIRS) if many else (1, PAIRS)


def _extras(found):
    names = {"in order": getattr(found, "in_order", False), "notif.": found.notification_data}
    return ", ".join(name for name, there in names.items() if there) or "-"


def named(setup):
    return f"{setup.link}, {setup.width} bit"


def clocked(setup):
    return f"{named(setup)} at {setup.core_mhz:g} MHz"


def plain_table(title, texts, numbers):
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=0)  # for terminals of 80 columns
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _mpps(rate):
    return "-" if rate is None else f"{rate:.3f}"


def _case_table(title, cases):
    table = plain_table(title, ("Ring",),
                   ("Frame", "tx", "rx", "Gbit/s", "Limit", "of it", "Cycles", "TLPs", "Reads", "Bytes", "Drops"))
    for case in cases:
        table.add_row(case.ring, str(case.frame_bytes), _mpps(case.tx_mpps), _mpps(case.rx_mpps), f"{case.gbit_s:.2f}",
                      f"{case.limit_mpps:.3f}", _percent(case.percent_of_limit), f"{case.cycles_per_packet:.1f}",
                      f"{case.tlps_per_packet:.2f}", f"{case.reads_per_packet:.2f}",
                      f"{case.link_bytes_per_packet:.0f}", str(case.dropped),
                      end_section=case.frame_bytes == cases[-1].frame_bytes)
    return table


def _variant_table(cases):
    table = plain_table(f"Kinds of ring, {named(CLOSE)}, {SHORT} bytes both ways", ("Ring", "With"),
                   ("Pairs", "tx", "rx", "of max", "Cycles", "TLPs", "Reads", "Drops"))
    for case in cases:
        table.add_row(case.ring, _extras(case), str(case.pairs), _mpps(case.tx_mpps), _mpps(case.rx_mpps),
                      _percent(case.percent_of_limit), f"{case.cycles_per_packet:.1f}", f"{case.tlps_per_packet:.2f}",
                      f"{case.reads_per_packet:.2f}", str(case.dropped))
    return table


def _distance_table(cases):
    """``cases``: those of one line of the table after another, the nearest host first."""
    table = plain_table("A host that is farther away", ("Link", "Frame", "Ring", "Way"),
                   (f"Mpps at {NEAR_NS:g} ns", *(f"{more:+d} ns" for more in FARTHER_NS[1:])))
    lines = []
    for case in cases:
        if case.read_latency_ns == NEAR_NS:
            lines.append([])
        lines[-1].append(case)
    for near, *far in lines:
        shares = {round(case.read_latency_ns - NEAR_NS): _percent(100 * case.mpps / near.mpps) for case in far}
        table.add_row(named(near), str(near.frame_bytes), near.ring, near.direction, f"{near.mpps:.3f}",
                      *(shares.get(more, "-") for more in FARTHER_NS[1:]))
    return table


def _latency_table(latencies):
    table = plain_table(f"One packet on an idle card, {named(CLOSE)}, {SHORT} bytes", ("Ring", "With", "Way"),
                   ("ns", "Dependent reads", "ns for 1 ns of the host's"))
    for found in latencies:
        table.add_row(found.ring, _extras(found), found.direction, f"{found.latency_ns:.0f}", str(found.dependent_reads),
                      f"{found.ns_per_ns:.2f}")
    return table


def _speed_table(speeds):
    table = Table(title="Simulator")
    for name in ("Engine", "Width"):
        table.add_column(name)
    table.add_column("NIC cycles a second", justify="right")
    for speed in speeds:
        table.add_row(speed["what"], str(speed["width"]), f"{speed['cycles_per_second']:,.0f}")
    return table


def _plot(cases, path):
    """Draw packets per second over frame size, each link beside its limit, into ``path``."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    links = list(dict.fromkeys(setup.link for setup in SETUPS))
    figure, axes = pyplot.subplots(2, len(links) // 2, figsize=(12, 9), squeeze=False)
    for axis, link in zip(axes.flat, links):
        widths = [setup.width for setup in SETUPS if setup.link == link]
        for direction, colour in zip(DIRECTIONS, ("tab:blue", "tab:orange", "tab:green")):
            for width, mark in zip(widths, ("o", "s")):
                for ring, style in (("split", "-"), ("packed", ":")):
                    line = [case for case in cases
                            if (case.link, case.direction, case.width, case.ring) == (link, direction, width, ring)]
                    if line:
                        axis.plot([case.frame_bytes for case in line], [case.mpps for case in line], mark + style,
                                  color=colour, label=f"{direction}, {ring}, {width} bit")
            sizes = (*FRAME_BYTES, JUMBO)
            axis.plot(sizes, [limit_mpps(link, direction, size - FCS) for size in sizes], "--", color=colour,
                      label=f"{direction}, link's limit, split")
        axis.set(title=link, xlabel="frame, bytes with FCS", ylabel="million packets a second, each way",
                 xscale="log", yscale="log")
        axis.set_xticks(sizes, [str(size) if size != 1024 else "" for size in sizes])  # too near to the next one
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _guest_speed(features, console):
    """Cycles a second while a guest uses a card that offers these features, and the width of that card; None if the guest does
    not get there."""
    report = Report()
    status = run_demo(DemoOptions(size=GUEST_BYTES, features=features), console=Console(quiet=True), report=report)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        complain(f"the guest's run failed: {', '.join(report.failed)}")
        return None
    return {"what": "with a guest", "width": report.width, "cycles_per_second": report.cycles_per_second}


def write_report(path, cases, latencies=(), speeds=()):
    """Write what was measured as JSON; return it as read back."""
    write_json(path, {
        "cases": [asdict(case) for case in cases], "latency": [asdict(found) for found in latencies],
        "simulator": list(speeds)}, build_id=simulated_build_id(), seed=SEED)
    return json.loads(path.read_text())


def run_board_bench(board, report, features=None):
    """Measure the card on a board (:class:`ringnic.boards.board.Board`): behind its PCI Express block, with its MAC."""
    console, cases = Console(), []
    todo = [(direction, size, ring) for ring in rings_of(features) for direction in DIRECTIONS for size in FRAME_BYTES]
    with ends_as_exceptions(), bar(console, len(todo)) as progress:
        for direction, size, ring in todo:
            progress.begins(f"{board.name}, {direction}, {size} bytes, {ring.name}")
            cases.append(measure_board(board, direction, size, ring=ring, features=features))
            progress.ends()
    console.print(_case_table(f"{board.name}: {clocked(cases[0])}; with MAC", cases))
    console.print(f"[dim]{LEGEND.replace('link allows', 'slot and the wire allow')}[/]")
    if report is not None:
        write_report(report, cases)
    return 0


def run_bench(report, plot, features=None):
    """Measure everything, show it, write ``report`` (JSON) and ``plot`` (PNG, SVG or PDF) if given; return the exit status.

    ``features``: numbers of the device features that the card is to offer, None for all.
    """
    console = Console()
    rings = rings_of(features)
    plain = [((setup, direction, size), {"ring": ring}) for setup in SETUPS for ring in rings
             for direction in DIRECTIONS for size in (*FRAME_BYTES, JUMBO)]
    kinds = [((CLOSE, "both", SHORT), {"ring": ring, "pairs": pairs}) for ring in _variants(features)
             for pairs in _pairs(features, ring in rings)]
    distances = [((setup, direction, size), {"ring": ring, "read_latency_ns": NEAR_NS + more})
                 for setup, size, directions, farther in DISTANCES
                 for ring in rings for direction in directions for more in farther]
    lone = [((CLOSE, direction, SHORT), {"ring": ring}) for ring in _variants(features) if not ring.in_order
            for direction in ("tx", "rx")]
    cases, latencies, speeds = [], [], []
    with ends_as_exceptions(), ExitStack() as stack:
        progress = stack.enter_context(bar(console, len(plain) + len(kinds) + len(distances) + len(lone) + len(WIDTHS) + 2))
        for look, found, todo in ((measure, cases, plain + kinds + distances), (measure_latency, latencies, lone)):
            for (setup, direction, size), options in todo:
                progress.begins(f"{named(setup)}, {direction}, {size} bytes, {options['ring'].name}")
                found.append(look(setup, direction, size, **options, features=features))
                progress.ends()
        for width in WIDTHS:
            progress.begins(f"Simulator alone, {width} bit")
            speeds.append({"what": "alone", "width": width,
                           "cycles_per_second": simulator_speed(width, ring=rings[0], features=features)})
            progress.ends()
        with tempfile.TemporaryDirectory(prefix="ringnic-") as folder:
            progress.begins("Simulator with waveform")
            speeds.append({"what": "alone, writing a waveform", "width": WIDTHS[0],
                           "cycles_per_second": simulator_speed(WIDTHS[0], ring=rings[0], features=features,
                                                                trace=Path(folder) / "bench.fst")})
        progress.ends()
        progress.begins("Simulator with a guest")
        if (speed := _guest_speed(features, console)) is not None:
            speeds.append(speed)
        progress.ends()
    by_kind = len(plain), len(plain) + len(kinds)
    for setup in SETUPS:
        mine = [case for case in cases[:by_kind[0]] if (case.link, case.width) == (setup.link, setup.width)]
        console.print(_case_table(f"{clocked(setup)}; no MAC", mine))
    console.print(f"[dim]{LEGEND}[/]")
    console.print(_variant_table(cases[slice(*by_kind)]))
    console.print(_distance_table(cases[by_kind[1]:]))
    console.print(_latency_table(latencies))
    console.print(_speed_table(speeds))
    if report is not None:
        write_report(report, cases, latencies, speeds)
    if plot is not None:
        _plot(cases[:by_kind[0]], plot)
    return 0 if len(speeds) == len(WIDTHS) + 2 else 1
