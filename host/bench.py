"""``ringnic bench``: how fast is the card, how fast is its simulator; a table, a plot, JSON."""

from contextlib import ExitStack
from dataclasses import asdict
import json
from pathlib import Path
import tempfile

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..sim.bench import CORE_MHZ, DIRECTIONS, FRAME_BYTES, measure, simulator_speed
from ..sim.budget import LINKS, limit_mpps
from .guest.process import ends_as_exceptions
from .guest.report import Report
from .guest.session import DemoOptions, run_demo

__all__ = ["run_bench", "write_report"]

WIDTHS = (64, 128)
FCS = 4
INTERRUPTED = 130      # exit status
GOOD, FAIR = 80, 50   # percent of the link's limit
GUEST_BYTES = 2 << 20


def _percent(value):
    colour = "green" if value >= GOOD else "yellow" if value >= FAIR else "red"
    return f"[{colour}]{value:.0f} %[/]"


def _case_table(link, width, cases):
    table = Table(title=f"{link}, split ring, {width} bit at {CORE_MHZ:g} MHz; each way, no MAC",
                  box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Way", no_wrap=True)
    for name in ("Frame", "Mpps", "Gbit/s", "Limit", "of it", "Cycles", "TLPs", "Reads", "Bytes", "Drops"):
        table.add_column(name, justify="right", no_wrap=True)
    for case in cases:
        table.add_row(case.direction, str(case.frame_bytes), f"{case.mpps:.3f}", f"{case.gbit_s:.2f}",
                      f"{case.limit_mpps:.3f}", _percent(case.percent_of_limit), f"{case.cycles_per_packet:.1f}",
                      f"{case.tlps_per_packet:.2f}", f"{case.reads_per_packet:.2f}",
                      f"{case.link_bytes_per_packet:.0f}", str(case.dropped),
                      end_section=case.frame_bytes == FRAME_BYTES[-1])
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
    figure, axes = pyplot.subplots(1, len(LINKS), figsize=(6 * len(LINKS), 4.5), squeeze=False)
    for axis, link in zip(axes[0], LINKS):
        for direction, colour in zip(DIRECTIONS, ("tab:blue", "tab:orange", "tab:green")):
            for width, mark in zip(WIDTHS, ("o-", "s-")):
                line = [case for case in cases if (case.link, case.direction, case.width) == (link, direction, width)]
                axis.plot([case.frame_bytes for case in line], [case.mpps for case in line], mark, color=colour,
                          label=f"{direction}, {width} bit")
            axis.plot(FRAME_BYTES, [limit_mpps(link, direction, size - FCS) for size in FRAME_BYTES], "--", color=colour,
                      label=f"{direction}, link's limit")
        axis.set(title=f"{link}, split ring", xlabel="frame, bytes with FCS", ylabel="million packets a second, each way",
                 xscale="log", yscale="log")
        axis.set_xticks(FRAME_BYTES, [str(size) for size in FRAME_BYTES])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _guest_speed(console):
    """Cycles a second while a guest uses the card, and the width of that card; None if the guest does not get there."""
    report = Report()
    status = run_demo(DemoOptions(size=GUEST_BYTES), console=Console(quiet=True), report=report)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        console.print(f"[red]The guest's run failed[/]: {', '.join(report.failed)}")
        return None
    return {"what": "with a guest", "width": report.width, "cycles_per_second": report.cycles_per_second}


def write_report(path, cases, speeds):
    """Write what was measured as JSON; return it as read back."""
    path.write_text(json.dumps({"core_mhz": CORE_MHZ, "cases": [asdict(case) for case in cases],
                                "simulator": speeds}, indent=2) + "\n")
    return json.loads(path.read_text())


def run_bench(report, plot):
    """Measure everything, show it, write ``report`` (JSON) and ``plot`` (PNG, SVG or PDF) if given; return the exit status."""
    console = Console()
    todo = [(link, width, direction, size) for link in LINKS for width in WIDTHS for direction in DIRECTIONS
            for size in FRAME_BYTES]
    cases, speeds = [], []
    with ends_as_exceptions(), ExitStack() as stack:
        progress = stack.enter_context(Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, transient=True))
        task = progress.add_task("Building the simulator", total=len(todo) + len(WIDTHS) + 2)
        for case in todo:
            cases.append(measure(*case))
            progress.update(task, advance=1, description="{}, {} bit, {}, {} bytes".format(*case))
        for width in WIDTHS:
            speeds.append({"what": "alone", "width": width, "cycles_per_second": simulator_speed(width)})
            progress.update(task, advance=1, description="Simulator alone")
        with tempfile.TemporaryDirectory(prefix="ringnic-") as folder:
            progress.update(task, description="Simulator with waveform")
            speeds.append({"what": "alone, writing a waveform", "width": WIDTHS[0],
                           "cycles_per_second": simulator_speed(WIDTHS[0], trace=Path(folder) / "bench.fst")})
        progress.update(task, advance=1, description="Simulator with a guest")
        if (speed := _guest_speed(console)) is not None:
            speeds.append(speed)
    for link in LINKS:
        for width in WIDTHS:
            console.print(_case_table(link, width, [case for case in cases if (case.link, case.width) == (link, width)]))
    console.print("[dim]Limit: Mpps that the link allows; cycles, TLPs, reads and link bytes are for one packet.[/]")
    console.print(_speed_table(speeds))
    if report is not None:
        write_report(report, cases, speeds)
    if plot is not None:
        _plot(cases, plot)
    return 0 if len(speeds) == len(WIDTHS) + 2 else 1
