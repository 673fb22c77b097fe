"""``ringnic build``: a board's project for Vivado, its run, and the verdict on it."""

from contextlib import contextmanager, suppress
import hashlib
from pathlib import Path
import re
import shutil
import tempfile

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ...boards.table import BOARDS
from ..errors import complain, note
from ..guest.process import ends_as_exceptions
from ..nearest import no_board
from ..progress import working
from ..results import write_json
from .judge import ReportError, judge, vivado_errors
from ..slot.bitstream import REPORT
from .project import image_files, read_manifest, top_name, write_project
from .script import SCRIPT, VERSIONS
from .vivado import LOG, find_vivado

__all__ = ["BuildError", "build_id", "find_board", "list_boards", "mac_of", "parse_mac", "run_build", "write_only"]

FOLDER = Path("build")
NO_VIVADO = 2                # exit status: the project is there, a bitstream is not
SHOWN = 3                    # lines of Vivado's own that are repeated


class BuildError(Exception):
    """What is wrong and the way out, in one line for people."""


def find_board(name):
    """The board called ``name``, one that can be built."""
    buildable = {board.name: board for board in BOARDS.values() if board.buildable}
    if name in buildable:
        return buildable[name]
    if name in BOARDS:
        raise BuildError(f"{name} cannot be built for: {'; '.join(BOARDS[name].lacks)}")
    raise BuildError(no_board(name, buildable))


def parse_mac(text):
    """48 bits of a MAC address that a card may have: locally administered, of one station."""
    if re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text.strip()) is None:
        raise BuildError(f"{text!r} is no MAC address: it looks like 02:12:34:56:78:9a")
    address = int(re.sub("[:-]", "", text), 16)
    if address >> 40 & 1:
        raise BuildError(f"{text} is the address of a group of stations: the last bit of its first byte has to be 0")
    if not address >> 41 & 1:
        first = (address >> 40 | 2) & 0xff
        raise BuildError(f"{text} belongs to a maker of cards: a locally administered address begins with {first:02x} instead of "
                         f"{address >> 40:02x}")
    return address


def mac_of(text):
    """What :func:`parse_mac` makes of the option; None if it was not given."""
    return None if text is None else parse_mac(text)


@contextmanager
def staged(board):
    """A folder beside the place of the build, for all that is made; gone at the end, unless it was moved to its place."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{board.name}-", dir=FOLDER))
    except OSError as error:
        raise BuildError(f"cannot write to {FOLDER.absolute()}: {error.strerror}") from None
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(folder, place):
    """Move a folder to its place, from which what was there goes."""
    old = folder.with_name(f"{folder.name}-old")
    with suppress(FileNotFoundError):
        place.rename(old)
    folder.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def list_boards():
    """Show the boards, and what each lacks."""
    console = Console(highlight=False)
    for board in BOARDS.values():
        facts = [board.title, board.vivado_part or board.part]
        if board.buildable:
            lanes = len(board.pcie.lanes)
            facts += [f"{lanes} lane{'s' if lanes > 1 else ''}", board.ethernet.kind.upper() if board.ethernet else "loopback"]
            facts += [] if board.fpga.free else ["needs a Vivado licence"]
        else:
            facts.append("no build")
        console.print(f"[bold]{board.name}[/]  {', '.join(facts)}", soft_wrap=True)
        for line in board.lacks:
            console.print(Padding(Text(line, style="dim"), (0, 0, 0, 4)))


def _verilog(board, **options):
    from ...sim.board import board_verilog
    try:
        return board_verilog(board, name=top_name(board), **options)
    except ValueError as error:
        raise BuildError(f"no card for {board.name}: {error}") from None


def build_id(*facts):
    """32 bits that differ if the sources do, or what a card is made of."""
    from ...sim.engine.build import sources_digest
    return int(hashlib.sha256(repr((sources_digest(), facts)).encode()).hexdigest()[:8], 16)


def _run_vivado(console, vivado, folder, place):
    """Run Vivado in ``folder``; if that fails, leave the folder beside ``place`` for its owner to look at."""
    with working(console, f"Vivado {vivado.version} at work: half an hour or so"):
        status = vivado.run(folder)
    if status == 0:
        return
    texts = [(folder / name).read_text(errors="replace") for name in (LOG, "output.txt") if (folder / name).exists()]
    errors = list(dict.fromkeys(line for text in texts for line in vivado_errors(text)))
    failed = _keep_failed(folder, place)
    if not errors:
        raise BuildError(f"Vivado ended with exit status {status}; its log is {failed / LOG}")
    raise BuildError("\n".join([f"Vivado failed; its log is {failed / LOG}, and it says:", *errors[:SHOWN]]))


def _keep_failed(folder, place):
    failed = place.with_name(f"{place.name}.failed")
    put(folder, failed)
    return failed


def _judged(console, board, folder, manifest, failed):
    """Judge what Vivado left in ``folder``, write the report, and show it. ``failed()``: called if it will not do."""
    try:
        verdict = judge(board, folder, lanes=manifest["lanes"], images=image_files(board))
    except ReportError as error:
        failed()
        raise BuildError(f"Vivado's reports are not what was expected: {error}") from None
    write_json(folder / REPORT, {**manifest, **verdict.report()}, build_id=manifest["build_id"])
    used = "   ".join(f"{name} {row['used']:,g} ({row['percent']:g} %)" for name, row in verdict.utilization.items())
    console.print(f"Vivado {verdict.vivado}   {used}", highlight=False)
    console.print(f"slack: setup {verdict.timing['wns_ns']:g} ns, hold {verdict.timing['whs_ns']:g} ns", highlight=False)
    if verdict.pads:
        console.print("slack at the pads of Ethernet, setup and hold: receive {rx_setup:g} and {rx_hold:g} ns, transmit "
                      "{tx_setup:g} and {tx_hold:g} ns".format(**verdict.pads), highlight=False)
    if verdict.configuration["ms"] is not None:
        console.print("configuration: {ms:g} ms of the {limit_ms} ms that a host waits".format(**verdict.configuration),
                      highlight=False)
    for line in verdict.warnings:
        note(line)
    if verdict.problems:
        where = failed()
        raise BuildError("\n".join([f"this bitstream will not do; the reports are in {where}:", *verdict.problems]))


def _tell(console, board, manifest):
    address = manifest["mac_address"] or "made of the FPGA's serial number (DNA), locally administered"
    console.print(f"{board.title}: {manifest['part']}, x{manifest['lanes']} at {2.5 * manifest['generation']:g} GT/s, "
                  f"{manifest['queue_pairs']} queue pairs, build {manifest['build_id']}, MAC address {address}",
                  highlight=False, soft_wrap=True)
    if manifest["lanes"] > 1:
        note("more than one lane runs at twice the clock, for which timing is unproven")


def _write(console, board, folder, *, lanes, pairs, mac_address, features):
    """Write the project into an empty folder; return its manifest."""
    number = build_id(board, lanes, pairs, mac_address, sorted(features))
    with working(console, "Writing the Verilog"):
        verilog = _verilog(board, lanes=lanes, pairs=pairs, mac_address=mac_address, features=features, build_id=number)
    return write_project(board, folder, verilog, lanes=lanes, pairs=pairs, mac_address=mac_address, features=features,
                         build_id=number)


def write_only(board, *, lanes=1, pairs=4):
    """Write a board's project, as ``ringnic build BOARD --project`` does, and say nothing."""
    from ..guest.card import card_features
    with staged(board) as folder:
        _write(Console(quiet=True), board, folder, lanes=lanes, pairs=pairs, mac_address=None, features=card_features(pairs))
        put(folder, FOLDER / board.name)


def _build(console, board, *, lanes, pairs, mac_address, features, project_only):
    place = FOLDER / board.name
    vivado = None if project_only else find_vivado()
    if vivado is not None and not vivado.fits:
        raise BuildError(f"{vivado.path} is version {vivado.version}; projects are for {VERSIONS[0]} to {VERSIONS[1]}: put one "
                         "of these on PATH, or use --project")
    with staged(board) as folder:
        manifest = _write(console, board, folder, lanes=lanes, pairs=pairs, mac_address=mac_address, features=features)
        _tell(console, board, manifest)
        if vivado is not None:
            _run_vivado(console, vivado, folder, place)
            _judged(console, board, folder, manifest, lambda: _keep_failed(folder, place))
        put(folder, place)
    if vivado is not None:
        console.print(f"{place / top_name(board)}.bit and .bin are ready: ringnic flash {board.name}", highlight=False)
        return 0
    note(f"{place}: no bitstream yet; where Vivado {VERSIONS[0]} to {VERSIONS[1]} is, run `vivado -mode batch -source {SCRIPT}` "
         f"in it, then `ringnic build {board.name} --judge` here")
    return 0 if project_only else NO_VIVADO


def _judge_only(console, board):
    """Judge what a run of Vivado elsewhere left in the project's folder."""
    place = FOLDER / board.name
    manifest = read_manifest(place)
    if manifest is None:
        raise BuildError(f"there is no project in {place}: ringnic build {board.name} --project")
    changed = [name for name, digest in manifest["files"].items()
               if not (place / name).is_file() or hashlib.sha256((place / name).read_bytes()).hexdigest() != digest]
    if changed:
        raise BuildError(f"{', '.join(changed)} in {place} changed since the project was written: what was built is not known")
    (place / REPORT).unlink(missing_ok=True)
    _tell(console, board, manifest)
    _judged(console, board, place, manifest, lambda: place)
    console.print(f"{place / top_name(board)}.bit and .bin are ready: ringnic flash {board.name}", highlight=False)
    return 0


def run_build(name, *, lanes=1, pairs=4, mac=None, features=frozenset(), project_only=False, judge_only=False):
    """Build for a board; return the exit status. ``features``: numbers of the feature bits to offer."""
    console = Console()
    try:
        with ends_as_exceptions():
            board = find_board(name)
            if judge_only:
                return _judge_only(console, board)
            if lanes > len(board.pcie.lanes):
                raise BuildError(f"{board.name} has {len(board.pcie.lanes)} lanes, not {lanes}")
            return _build(console, board, lanes=lanes, pairs=pairs, mac_address=mac_of(mac),
                          features=features, project_only=project_only)
    except (BuildError, OSError) as error:
        complain(error)
        return 1
