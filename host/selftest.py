"""``ringnic selftest``: the conformance tests on the card in a slot, through VFIO, with its MAC in loopback.

They are the files that run in simulation, by pytest, in this process: a start of Python less, where the host is slow. The kernel
gives the card to nobody else meanwhile, and resets it when we end, however that is.
"""

from contextlib import contextmanager, redirect_stderr, redirect_stdout
import importlib.util
import io
import signal
import sys
import time

from rich.console import Console
from rich.markup import escape

from ..hdl.spec.bar import BAR_INDEX, BAR_SIZE, BUILD_ID_OFFSET, COUNTERS_MAGIC, COUNTERS_OFFSET
from ..hdl.spec.virtio import VIRTIO_ID_NET
from .bus.vfio import VfioBus, VfioError
from .conformance import NOT_APPLICABLE, TESTS, RunError, gather, report, show
from .driver import PciFunction, Transport
from .errors import complain, note
from .features import names
from .guest.process import INTERRUPTED
from .plan import PlanError, load, plan_files
from .progress import bar
from .results import write_json

__all__ = ["CANNOT_RUN", "examine", "run_selftest", "tell"]

CANNOT_RUN = (PlanError, RunError, VfioError)  # why there may be no result
FOLDER = TESTS / "conformance"
SIMULATED = "simulated only"
SIMULATED_ONLY = SIMULATED, "its tests need what only a simulation has"
LEFT_OUT = "left out", "no test of it was to run"
UNITS = {"packets_per_second": "{:,.0f} packets/s", "round_trip_us": "round trip {:,.0f} us", "register_read_us":
         "register read {:,.1f} us"}


class _Watch:
    """A pytest plugin: shows what runs, and keeps what became of it.

    Attributes
    ----------
    outcomes : list
        As :mod:`.outcomes` has them.
    left_out : set
        Rows of tests that a real card could run and that were not chosen.
    error : str or None
        Why there could be no tests.
    """
    def __init__(self, progress):
        self._progress = progress
        progress.begins("The tests run", "Looking for tests")
        self.outcomes = []
        self.left_out = set()
        self.error = None

    def say(self, line):
        """Take what :class:`.outcomes.Outcomes` tells."""
        if "error" in line:
            self.error = line["error"]
        elif "total" in line:
            self._progress.shows(total=line["total"])
        else:
            self.outcomes.append(line)
            self._progress.ends()

    def pytest_deselected(self, items):
        self.left_out |= {row for item in items if not item.get_closest_marker("simulated")
                          for mark in item.iter_markers("clause") for row in mark.args}

    def pytest_runtest_logstart(self, nodeid):
        failed = sum(one["verdict"] == "failed" for one in self.outcomes)
        name = escape(nodeid.rpartition("/")[2].removeprefix("test_").replace(".py::test_", ": "))
        self._progress.shows(f"[red]{failed} failed[/], {name}" if failed else name)

    def pytest_keyboard_interrupt(self, excinfo):
        if not isinstance(excinfo.value, KeyboardInterrupt):  # pytest.exit
            self.error = str(excinfo.value)


@contextmanager
def _ends_as_interrupts():
    """Within the block SIGTERM and SIGHUP are what Ctrl-C is: pytest takes any other exception for a test that fails."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _identify(bdf):
    """What the card says of itself, before it is asked for more."""
    with VfioBus(bdf) as bus:
        try:
            transport = Transport(PciFunction(bus))
        except LookupError as error:
            raise VfioError(f"{bdf}: {error}") from None
        bar = transport.function.bars.get(BAR_INDEX)
        if bar is None or bar.size != BAR_SIZE or bus.bar_read(BAR_INDEX, COUNTERS_OFFSET, 4) != COUNTERS_MAGIC:
            raise VfioError(f"{bdf} is no RingNIC, for it has no counters page: `ringnic devices` shows what there is")
        if transport.device_type != VIRTIO_ID_NET:
            raise VfioError(f"{bdf} is no network card: its virtio device type is {transport.device_type}")
        return {"bdf": bdf, "build_id": f"{bus.bar_read(BAR_INDEX, BUILD_ID_OFFSET, 4):08x}",
                "features": names(transport.device_features())}


def _run(bdf, console, quick, select, seed):
    """Run the tests; return a :class:`_Watch`. :exc:`RunError` if they do not run."""
    import pytest
    from . import outcomes
    # Without plugins that happen to be installed: one may reorder tests, or run them in parallel.
    arguments = ["-c", TESTS.parent / "pyproject.toml", "--disable-plugin-autoload", "-p", "no:cacheprovider", "-s", "-q",
                 "--tb", "short", "--color", "no", "--bdf", bdf, "--seed", seed]
    arguments += [*(["--quick"] if quick else []), *(["-k", select] if select else []), FOLDER]
    said = io.StringIO()
    with bar(console, redirect_stdout=False, redirect_stderr=False, refresh_per_second=2) as progress:
        watch = _Watch(progress)
        with redirect_stdout(said), redirect_stderr(said):
            status = pytest.main([str(one) for one in arguments], plugins=[outcomes, outcomes.Outcomes(watch.say), watch])
    if watch.error:
        raise RunError(watch.error)
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RunError(f"No test that a real card can run is called {select!r}")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        *_, last = ["", *filter(None, said.getvalue().splitlines())]
        raise RunError(f"The tests could not run: {last.removeprefix('ERROR: ')}")
    return watch


def _found(watch, rows, **about):
    """The report: as of :mod:`.conformance`, and what the card is and how fast."""
    elsewhere = {row.id: LEFT_OUT if row.id in watch.left_out else SIMULATED_ONLY for row in rows}
    ran = []
    for outcome in watch.outcomes:
        if outcome["verdict"] == "skipped":  # the card does not offer what it is about
            elsewhere |= {row: (NOT_APPLICABLE, outcome["reason"]) for row in outcome["rows"]}
        else:
            ran.append(outcome)
    results = gather(rows, ran, {}, elsewhere)
    return report(results, **about, tests=len(ran)) | {
        "failed": [outcome["test"] for outcome in ran if outcome["verdict"] == "failed"],
        "measured": {name: figure for outcome in ran for name, figure in outcome["measured"].items()}}


def _say_more(console, found):
    """Print what only a run on a real card has to say."""
    simulated = sum(row["status"] == SIMULATED for row in found["rows"])
    console.print(f"{simulated} more rows of the plan are for a simulated card: `ringnic conformance`", highlight=False)
    if found["measured"]:
        console.print(", ".join(UNITS[name].format(figure) for name, figure in found["measured"].items()), highlight=False)
    if found["failed"]:
        console.print(f"More of a failure: `pytest --bdf {found['bdf']} --seed {found['seed']} {escape(found['failed'][0])}`",
                      highlight=False, soft_wrap=True)


def examine(bdf, console, *, quick=False, select="", seed=0):
    """Test the card at ``bdf``, with progress on ``console``; return what was found, and its outcomes for :func:`tell`.

    :exc:`PlanError`, :exc:`RunError` or :exc:`VfioError` if the tests cannot run, :exc:`KeyboardInterrupt` for all that is to
    end them. ``quick``: one case for each row. ``select``: only tests of these names, an expression as pytest's ``-k``.
    """
    began = time.monotonic()
    if importlib.util.find_spec("pytest") is None:
        raise RunError("The tests need pytest: `pip install -e '.[test]'`")
    if not FOLDER.exists():
        raise RunError(f"The tests are not here ({FOLDER}): run this from a checkout of the project")
    with _ends_as_interrupts():
        rows = load(plan_files(TESTS))
        card = _identify(bdf)
        note(f"{bdf}: RingNIC, build {card['build_id']}; loopback, so nothing goes out to the wire")
        watch = _run(bdf, console, quick, select, seed)
    return card | _found(watch, rows, seed=seed, build=card["build_id"], seconds=time.monotonic() - began), watch.outcomes


def tell(console, found, outcomes):
    """Print what was found."""
    show(console, found | {"rows": [row for row in found["rows"] if row["applicable"]]}, outcomes)
    _say_more(console, found)


def run_selftest(bdf, report_file=None, **options):
    """Test the card at ``bdf``, show what was found and write it to ``report_file``; return the exit status.

    ``options``: as of :func:`examine`.
    """
    console = Console(file=sys.stdout)
    try:
        found, outcomes = examine(bdf, console, **options)
    except CANNOT_RUN as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        complain(f"interrupted; {bdf} was reset, and is bound to vfio-pci as before")
        return INTERRUPTED
    tell(console, found, outcomes)
    if report_file is not None:
        try:
            write_json(report_file, found, build_id=found["build_id"], seed=found["seed"])
        except OSError as error:
            complain(error)
            return 1
    return 0 if found["rows_passing"] == found["rows_applicable"] and not found["failed"] else 1
