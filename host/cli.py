"""The command line ``ringnic``."""

from enum import StrEnum
import importlib.util
from pathlib import Path
import subprocess
import sys
from typing import Annotated, Optional

import typer

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False,
                  help="RingNIC: an FPGA network card that is a virtio-net device, with no vendor driver anywhere.")


class Level(StrEnum):
    """Levels of simulation, as docs/architecture.md names them."""
    UNIT = "unit"
    BENCH = "bench"
    ENGINE = "engine"
    GUEST = "guest"


# Where the tests of a level are. A folder that does not exist has no tests.
LEVEL_FOLDERS = {
    Level.UNIT: ("hdl", "host", "house"),
    Level.BENCH: ("bench",),
    Level.ENGINE: ("sim", "engine"),
    Level.GUEST: ("guest",),
}


@app.command()
def demo(
    report: Annotated[Optional[Path], typer.Option(help="Write the results to this file, as JSON.")] = None,
    wave: Annotated[Optional[Path], typer.Option(help="Write the signals of the model to this file (FST), and views "
                                              "beside it for GTKWave (.gtkw) and Surfer (.sucl); slow.")] = None,
    pcap: Annotated[Optional[Path], typer.Option(help="Write the frames on the cable to this packet capture.")] = None,
    tlp: Annotated[Optional[Path], typer.Option(help="Write the packets on the PCIe link to this file, as text.")] = None,
    shell: Annotated[bool, typer.Option("--shell", help="Give me the guest's console instead of the steps.")] = False,
    kernel: Annotated[str, typer.Option(help="The guest's kernel: 6.1 or 6.12 (Debian's stock ones), "
                                             "or the path of a bzImage.")] = "6.1",
    accel: Annotated[str, typer.Option(help="QEMU's accelerator: tcg, or kvm where there is one.")] = "tcg",
    seed: Annotated[int, typer.Option(help="Of everything random: the file's content, the model's delays.")] = 0,
    qemu: Annotated[Optional[Path], typer.Option(help="QEMU to use, 10.1 or later. Default: the machine's, if new "
                                                      "enough, else Debian's, fetched.")] = None,
    tap: Annotated[Optional[str], typer.Option(metavar="IFNAME", help="Join the cable to this tap interface, which is up and "
                                               "has an IPv4 address, instead of a user network.")] = None,
    size: Annotated[int, typer.Option(help="MiB to transfer each way.", min=1)] = 4,
):
    """Let a stock Linux guest use the simulated card as its network card, and check what it does.

    The exit status is 0 if every check held.
    """
    from .guest.session import DemoOptions, run_demo
    raise typer.Exit(run_demo(DemoOptions(
        report=report, wave=wave, pcap=pcap, tlp=tlp, shell=shell, kernel=kernel, accel=accel, seed=seed, qemu=qemu, tap=tap,
        size=size << 20)))


@app.command()
def bench(
    report: Annotated[Optional[Path], typer.Option(help="Write the results to this file, as JSON.")] = None,
    plot: Annotated[Optional[Path], typer.Option(help="Draw packets per second into this file (PNG, SVG or PDF).")] = None,
):
    """Measure the card (packets, cycles, TLPs and bytes, beside what the link allows) and its simulator."""
    from .bench import run_bench
    raise typer.Exit(run_bench(report, plot))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(
    context: typer.Context,
    level: Annotated[Optional[list[Level]], typer.Option(help="Only tests of this level; may be given more than once. "
                                                              "Default: unit.")] = None,
):
    """Run the tests. What is not an option here goes to pytest, such as -k NAME or -x."""
    if importlib.util.find_spec("pytest") is None:
        raise typer.BadParameter("the tests need the packages of `pip install -e '.[test]'`")
    root = Path(__file__).resolve().parents[1]
    folders = [root / "tests" / name for one in (level or [Level.UNIT]) for name in LEVEL_FOLDERS[one]]
    folders = [str(folder) for folder in folders if any(folder.rglob("test_*.py"))]
    if not folders:
        raise typer.BadParameter("no tests of this level")
    named = [arg for arg in context.args if (root / arg.partition("::")[0]).exists()]
    raise typer.Exit(subprocess.run([sys.executable, "-m", "pytest", *([] if named else folders), *context.args],
                                    cwd=root).returncode)


def main():
    """Entry point of the console script."""
    app()
