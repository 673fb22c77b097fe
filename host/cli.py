"""The command line ``ringnic``."""

from enum import StrEnum
import errno
import importlib.util
import os
from pathlib import Path
import subprocess
import sys
from typing import Annotated, Optional

import typer

from ..hdl.spec.net import DEFAULT_MTU
from .build.commands import app as build_app
from .card_options import BoardCard, Mtu
from .checkout import ROOT
from .compare.commands import app as compare_app
from .errors import complain
from .guest.cache import cache_dir
from .guest.card import PAIRS, Wave
from .options import Accel, CoreWidth, Features, block_board, cycle_window, feature_bits, need_checkout, out_file
from .serve.commands import app as serve_app
from .slot.commands import app as slot_app
from .usage import Commands

__all__ = ["app", "main"]

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False,
                  context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(serve_app)
app.add_typer(slot_app)
app.add_typer(build_app)
app.add_typer(compare_app)


class Level(StrEnum):
    """Levels of simulation, as docs/architecture.md names them."""
    UNIT = "unit"
    BENCH = "bench"
    ENGINE = "engine"
    GUEST = "guest"
    LONG = "long"
    CLIENTS = "clients"
    FORMAL = "formal"


# Where the tests of a level are.
LEVEL_FOLDERS = {
    Level.UNIT: ("hdl", "host", "boards", "house", "kit", "plan"),
    Level.BENCH: ("bench",),
    Level.ENGINE: ("sim", "engine", "conformance"),
    Level.GUEST: ("guest", "install"),
    Level.LONG: ("hdl", "bench", "engine", "guest", "install"),
    Level.CLIENTS: ("clients",),
    Level.FORMAL: ("formal",),
}
# Run only when asked for: what takes minutes, or the first time to fetch or to build.
ON_REQUEST = {Level.LONG, Level.CLIENTS, Level.FORMAL}
# They fetch from Debian's archive and have several guests, so these run one test after the other.
ONE_BY_ONE = {Level.CLIENTS}
NO_TESTS = 5  # pytest's exit status when it was to run none


class Family(StrEnum):
    """FPGA families that the core is synthesised for."""
    ECP5 = "ecp5"
    XC7 = "xc7"


def _show_version(wanted: bool):
    if wanted:
        from .. import __version__
        print(f"ringnic {__version__}")
        raise typer.Exit()


@app.callback()
def ringnic(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
):
    """RingNIC: an FPGA network card that is a virtio-net device, with no vendor driver anywhere."""


def _need_pytest():
    if importlib.util.find_spec("pytest") is None:
        raise typer.BadParameter("the tests need the extra packages of `pip install -e '.[test]'`")


def _board_card(name):
    """The keyword that gives a command the card of a board; none without a board."""
    if name is None:
        return {}
    from ..boards.table import BOARDS
    from .guest.board_card import board_card
    return {"card": board_card(BOARDS[name])}


@app.command()
def demo(
    report: Annotated[Optional[Path], out_file("Write the results to this file, as JSON.")] = None,
    wave: Annotated[Optional[Path], out_file("Write the signals of the model to this file (FST), and views "
                                              "beside it for GTKWave (.gtkw) and Surfer (.sucl); slow.")] = None,
    wave_cycles: Annotated[Optional[str], typer.Option(metavar="FIRST:LAST", callback=cycle_window, help="Only these cycles of "
                                                       "the signals, counted as --tlp counts them: a whole run is hundreds of "
                                                       "megabytes.")] = None,
    pcap: Annotated[Optional[Path], out_file("Write the frames on the cable to this packet capture.")] = None,
    tlp: Annotated[Optional[Path], out_file("Write the packets on the PCIe link to this file, decoded, one a line.")] = None,
    shell: Annotated[bool, typer.Option("--shell", help="Give me the guest's console instead of the steps; with tcpdump and "
                                        "iperf3.")] = False,
    add: Annotated[Optional[list[Path]], typer.Option(metavar="FILE", exists=True, dir_okay=False, help="With --shell: a file "
                                                      "for the guest's /files; may be given more than once.")] = None,
    kernel: Annotated[str, typer.Option(help="The guest's kernel: 6.1 or 6.12 (Debian's stock ones), backports (its "
                                             "newest), or the path of a bzImage.")] = "6.1",
    accel: Annotated[Accel, typer.Option(help="QEMU's accelerator; auto tries whether kvm works here.")] = Accel.TCG,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random: the file's content, the model's delays.")] = 0,
    qemu: Annotated[Optional[Path], typer.Option(help="QEMU to use, 10.1 or later. Default: the machine's, if new "
                                                      "enough, else Debian's, fetched.")] = None,
    tap: Annotated[Optional[str], typer.Option(metavar="IFNAME", help="Join the cable to this tap interface, which is up and "
                                               "has an IPv4 address, instead of a user network.")] = None,
    size: Annotated[int, typer.Option(help="MiB to transfer each way.", min=1)] = 4,
    features: Features = None,
    pairs: Annotated[int, typer.Option(help="Queue pairs of the card.", min=1, max=16)] = PAIRS,
    cpus: Annotated[int, typer.Option(help="Processors of the guest; its driver uses as many queue pairs.",
                                      min=1, max=16)] = 1,
    mtu: Mtu = DEFAULT_MTU,
    board: BoardCard = None,
):
    """Let a stock Linux guest use the simulated card as its network card, and check what it does.

    The exit status is 0 if every check held.
    """
    if add and not shell:
        raise typer.BadParameter("files are for a guest with --shell", param_hint="--add")
    if len({path.name for path in add or ()}) < len(add or ()):
        raise typer.BadParameter("two files have the same name", param_hint="--add")
    if shell and report is not None:
        raise typer.BadParameter("a shell has no results for --report")
    if wave_cycles is not None and wave is None:
        raise typer.BadParameter("there are no signals to choose cycles of without --wave FILE", param_hint="--wave-cycles")
    if board is not None and (features, pairs, mtu) != (None, PAIRS, DEFAULT_MTU):
        raise typer.BadParameter("of a board's card, --features and --pairs are for `ringnic build`, and --mtu is fixed")
    from .guest.session import DemoOptions, run_demo
    options = DemoOptions(
        report=report, wave=wave and Wave(wave, *wave_cycles or ()), pcap=pcap, tlp=tlp, shell=shell, kernel=kernel, accel=accel,
        seed=seed, qemu=qemu, tap=tap, size=size << 20, features=feature_bits(features, pairs), pairs=pairs, cpus=cpus, mtu=mtu,
        add=tuple(add or ()))
    raise typer.Exit(run_demo(options, **_board_card(board)))


@app.command()
def doctor(report: Annotated[Optional[Path], out_file("Write what was found to this file, as JSON.")] = None):
    """Show what this machine has of what the commands need, and the way to what it lacks. Nothing is fetched.

    The exit status is 0 if nothing is missing that the demo needs.
    """
    from .doctor import run_doctor
    raise typer.Exit(run_doctor(report))


@app.command()
def rehearse(
    context: typer.Context,
    report: Annotated[Optional[Path], out_file("Write the results to this file, as JSON.")] = None,
    kernel: Annotated[str, typer.Option(help="Of both machines: 6.1 or 6.12 (Debian's stock ones), or backports (its "
                                             "newest).")] = "6.1",
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
    mtu: Mtu = DEFAULT_MTU,
    board: BoardCard = None,
):
    """Go the whole way from a card in a slot to a guest on the network, with the simulated card, in a guest of a guest.

    The outer machine has an IOMMU and the card; there the commands of this program do what they do on a real one: devices, bind,
    selftest, guest, unbind. The exit status is 0 if every check held. Some minutes.
    """
    need_checkout(context)
    if board is not None and mtu != DEFAULT_MTU:
        raise typer.BadParameter("of a board's card, --mtu is fixed")
    from .rehearsal.session import run_rehearsal
    raise typer.Exit(run_rehearsal(report, kernel=kernel, seed=seed, mtu=mtu, **_board_card(board)))


@app.command()
def bench(
    report: Annotated[Optional[Path], out_file("Write the results to this file, as JSON.")] = None,
    plot: Annotated[Optional[Path], out_file("Draw packets per second into this file (PNG, SVG or PDF).")] = None,
    features: Features = None,
    board: Annotated[Optional[str], block_board()] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Not rates, but where short packets wait: of each stream between the "
                                         "card's stages, in how many cycles it moves and waits, and which stage limits the "
                                         "rate.")] = False,
):
    """Measure the card (packets, cycles, TLPs and bytes, beside what the link allows) and its simulator."""
    if stages and (plot is not None or board is not None):
        raise typer.BadParameter("it has neither a picture nor a board", param_hint="--stages")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise typer.BadParameter("a picture needs matplotlib: pip install 'ringnic[plot]'", param_hint="--plot")
    from .bench import run_bench, run_board_bench
    from .build.command import find_board
    if board is not None:
        if plot is not None:
            raise typer.BadParameter("there is no picture of a board", param_hint="--plot")
        raise typer.Exit(run_board_bench(find_board(board), report, feature_bits(features, PAIRS)))
    if stages:
        from .stages import run_stages
        raise typer.Exit(run_stages(report, feature_bits(features, PAIRS)))
    raise typer.Exit(run_bench(report, plot, feature_bits(features, PAIRS)))


@app.command()
def area(
    report: Annotated[Optional[Path], out_file("Write the results to this file, as JSON.")] = None,
    pairs: Annotated[Optional[list[int]], typer.Option(help="Only cores of this many queue pairs; may be given more than "
                                                            "once. Default: 1, 4 and 16.", min=1)] = None,
    width: Annotated[Optional[list[CoreWidth]], typer.Option(help="Only datapaths of this many bits; may be given more than "
                                                              "once. Default: 64 and 128.")] = None,
    family: Annotated[Optional[list[Family]], typer.Option(help="Only this FPGA family; may be given more than once. "
                                                                "Default: all.")] = None,
    timing: Annotated[bool, typer.Option(help="Place and route the core of 64 bit and 4 pairs on ECP5, for its speed.")] = True,
    board: Annotated[Optional[list[str]], typer.Option(metavar="BOARD", help="Not cores, but the whole card of this board, in "
                                                                             "percent of its FPGA; may be given more than "
                                                                             "once.")] = None,
):
    """Count what the core takes of an FPGA, and find how fast it runs there. Minutes a core; a repeat is at once."""
    if board:
        if pairs or width or family:
            raise typer.BadParameter("a board's card has its own width and family, and 4 queue pairs", param_hint="--board")
        from .board_area import run_board_area
        raise typer.Exit(run_board_area(tuple(dict.fromkeys(board)), report))
    from .area import FAMILIES, PAIRS, WIDTHS, run_area
    raise typer.Exit(run_area(report, families=tuple(map(str, dict.fromkeys(family or FAMILIES))),
                              widths=tuple(map(int, dict.fromkeys(width or WIDTHS))), pairs=tuple(dict.fromkeys(pairs or PAIRS)),
                              timed=timing))


@app.command()
def conformance(
    context: typer.Context,
    report: Annotated[Optional[Path], out_file("Write the rows and what became of them to this file, as JSON.")] = None,
    markdown: Annotated[Optional[Path], out_file("The same as Markdown.")] = None,
    junit: Annotated[Optional[Path], out_file("The same as JUnit XML, a test case for each row.")] = None,
    seed: Annotated[int, typer.Option(help="Of all random tests.")] = 0,
    board: Annotated[Optional[str], block_board()] = None,
):
    """Show, row by row, that the card keeps the rules of virtio and PCI Express: the tests that name rows of tests/plan.

    With --board, rows that the block decides in place of the card are reported as the block's, and not as passing. The exit
    status is 0 if every row passes that applies to what the card offers. Some minutes.
    """
    need_checkout(context)
    _need_pytest()
    from .conformance import run_conformance
    raise typer.Exit(run_conformance(report, markdown, junit, seed=seed, board=board))


@app.command()
def fuzz(
    seconds: Annotated[float, typer.Option(help="How long to go on, the building of the simulator not counted.", min=0)] = 60,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random: a campaign of a seed begins with "
                                              "the same actions.")] = 0,
    report: Annotated[Optional[Path], out_file("Write what was done, met and found to this file, as JSON.")] = None,
    replay: Annotated[Optional[Path], typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Do only what this file "
                                                   "says, one that was saved when a promise was broken.")] = None,
    board: Annotated[Optional[str], block_board()] = None,
):
    """Let a driver that breaks every rule loose on the simulated card, beside one that keeps them, until a promise is broken.

    The exit status is 0 if it kept all of them; else the actions that show it are made few, and saved here.
    """
    from .fuzz import run_fuzz, run_replay
    if replay is None:
        raise typer.Exit(run_fuzz(seconds, seed, report, board=board))
    if board is not None:
        raise typer.BadParameter("what --replay reads says which card it is about")
    try:
        raise typer.Exit(run_replay(replay, report))
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--replay") from None


@app.command()
def mutate(
    context: typer.Context,
    listing: Annotated[bool, typer.Option("--list", help="Only show the mutants.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only list the mutants that no longer fit the sources, and suggest "
                                                        "where they may belong now; 1 if there are any.")] = False,
    only: Annotated[Optional[list[str]], typer.Option(metavar="NAME", help="Only this mutant; may be given more than once. "
                                                                            "Default: all.")] = None,
    report: Annotated[Optional[Path], out_file("Write what became of each mutant to this file, as JSON.")] = None,
    jobs: Annotated[int, typer.Option(help="Mutants at a time.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Of all random tests.")] = 0,
):
    """Check the tests: put one defect after the other into a copy of the hardware's sources, and see that a test fails.

    The exit status is 0 if a test kills each mutant, or the list says why none can, and 95 % of all are killed. It takes
    hours; --only runs some.
    """
    need_checkout(context)
    from .mutation.command import run_check, run_mutate
    if check:
        raise typer.Exit(run_check())
    _need_pytest()
    raise typer.Exit(run_mutate(report, names=tuple(only or ()), listing=listing, jobs=jobs, seed=seed))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(
    context: typer.Context,
    level: Annotated[Optional[list[Level]], typer.Option(help="Only tests of this level; may be given more than once. "
                                                              "Default: all but long (what is slow and rarely fails), "
                                                              "clients (more firmware and drivers in guests) and formal "
                                                              "(the proofs).")] = None,
    features: Features = None,
):
    """Run the tests. What is not an option here goes to pytest, such as -k NAME, -x, or tests/FILE."""
    need_checkout(context)
    _need_pytest()
    pytest = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache_dir() / 'pytest'}", *context.args]
    if features is not None:
        feature_bits(features, PAIRS)
        # One word: the list may begin with a hyphen.
        pytest.append(f"--features={features}")
    if any(arg.startswith("tests/") and (ROOT / arg.partition("::")[0]).exists() for arg in context.args):
        raise typer.Exit(1 if subprocess.run(pytest, cwd=ROOT).returncode else 0)
    levels = set(level or set(Level) - ON_REQUEST)
    workers = [] if "--pdb" in context.args else ["-n", str(os.cpu_count() or 1)]
    status = set()
    for group, options in ((levels - ONE_BY_ONE - {Level.LONG}, [*workers, "-m", "not long"]),
                           (levels & {Level.LONG}, [*workers, "-m", "long"]), (levels & ONE_BY_ONE, [])):
        folders = [str(ROOT / "tests" / name) for one in Level if one in group for name in LEVEL_FOLDERS[one]]
        if folders:
            status.add(subprocess.run([*pytest, *options, *folders], cwd=ROOT).returncode)
    if status == {NO_TESTS}:
        raise typer.Exit(NO_TESTS)
    # A pytest that was killed by a signal has a negative status.
    raise typer.Exit(1 if status - {0, NO_TESTS} else 0)


def main():
    """Entry point of the console script."""
    try:
        app()
    except OSError as error:  # a file that cannot be written, for one
        if error.filename is None and error.errno == errno.ENOSPC:
            error.filename = "standard output"             # every other file is named by who writes it
        complain(error)
        sys.exit(1)
