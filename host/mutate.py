"""``ringnic mutate``: put one defect after the other into a copy of the hardware's sources, and see that a test fails.

The defects are in ``tests/mutation/*.toml``. Each file says once which tests follow on the one of a part itself, ``then``; an
entry has ``name``; ``file``; ``old``, text that occurs in it once, or once after the text ``after``; ``new``, what stands there
instead; ``notice``, what a user would notice; and perhaps ``tests``, in place of those the file implies, or ``survives``: why no
test can tell. Nothing is written into the project itself.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .conformance import build_name
from .guest.process import INTERRUPTED, child, ends_as_exceptions

__all__ = ["Mutant", "MutantError", "Outcome", "load", "mutate", "report", "run_mutate"]

ROOT = Path(__file__).resolve().parents[1]
GOAL = 0.95                  # of the mutants are to be killed
FIELDS = {"name", "file", "old", "new", "after", "notice", "tests", "survives"}
REQUIRED = {"name", "file", "old", "new", "notice"}
PACKAGES = ("hdl", "host", "sim", "boards")
COPIED = (*PACKAGES, "tests", "pyproject.toml")
KILLED, SURVIVED, BROKEN, GREEN = "killed", "survived", "broken", "green"
POLL_SECONDS = 0.1
# Limits are of processor time, for what else the machine does shall not kill a mutant.
SLACK_SECONDS, SLACK_FACTOR = 30, 4   # a mutant may take longer than its tests do without it
BASELINE_SECONDS = 1800      # for the tests of one file
STUCK_SECONDS = 7200         # of the clock: a test that waits for something takes no processor time
LOG_LINES = 20               # of pytest's output, where it could not run
PASSED, FAILED = 0, 1        # exit statuses of pytest


class MutantError(Exception):
    """The list of defects, or a run of it, is not sound; the message says where and why."""


@dataclass(frozen=True)
class Mutant:
    """A defect, as :mod:`.mutate` describes its fields. ``tests``: files, in the order in which they are run."""
    name: str
    file: str
    old: str
    new: str
    notice: str
    tests: tuple
    after: str = ""
    survives: str = ""

    def place(self, source):
        """Return where ``old`` begins in the text of its file, else :exc:`MutantError`."""
        begin = 0
        if self.after:
            begin = self._only(source, self.after, 0, "after") + len(self.after)
            if self.old not in source[begin:]:
                raise MutantError(f"{self.name}: {self.file} has no {self.old!r} after {self.after!r}")
            return source.index(self.old, begin)
        return self._only(source, self.old, begin, "old")

    def _only(self, source, text, begin, field):
        count = source.count(text)
        if count != 1:
            raise MutantError(f"{self.name}: {self.file} has {field} = {text!r} {count} times, not once")
        return source.index(text, begin)

    def applied(self, source):
        """Return the text of its file with the defect."""
        at = self.place(source)
        return source[:at] + self.new + source[at + len(self.old):]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant, or of the tests of a file without one.

    ``verdict``: KILLED by ``test``, which says ``reason``; SURVIVED, which without a mutant is GREEN; BROKEN if the tests could
    not be run, for which there is a ``reason``. ``seconds``: processor time; ``took``: by test.
    """
    name: str
    verdict: str
    seconds: float
    test: str = ""
    reason: str = ""
    took: dict = field(default_factory=dict)


# The list.

def mirror(file):
    """The tests of a file of the hardware, by name."""
    path = Path(file)
    return str(Path("tests") / path.with_name(f"test_{path.name}"))


def _entry(where, fields, then):
    name = fields.get("name", "?")
    for problem, found in (("lacks", REQUIRED - fields.keys()), ("has unknown", fields.keys() - FIELDS)):
        if found:
            raise MutantError(f"{where}: {name} {problem} {', '.join(sorted(found))}")
    if fields["old"] == fields["new"]:
        raise MutantError(f"{where}: {name} changes nothing")
    first = mirror(fields["file"])
    tests = fields.pop("tests", [first, *(file for file in then if file != first)])
    return Mutant(**fields, tests=tuple(tests))


def load(root):
    """Return the mutants of the project at ``root``, in the order of its files. :exc:`MutantError` if they do not fit it."""
    mutants, names = [], set()
    for path in sorted((Path(root) / "tests" / "mutation").glob("*.toml")):
        try:
            content = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise MutantError(f"{path.name}: {error}") from None
        if content.keys() - {"then", "mutant"}:
            raise MutantError(f"{path.name}: only `then` and `mutant` are known, not {', '.join(sorted(content))}")
        for fields in content.get("mutant", ()):
            mutant = _entry(path.name, dict(fields), content.get("then", ()))
            if mutant.name in names:
                raise MutantError(f"{path.name}: {mutant.name} is there twice")
            names.add(mutant.name)
            for needed in (mutant.file, *mutant.tests):
                if not (Path(root) / needed).is_file():
                    raise MutantError(f"{path.name}: {mutant.name} names {needed}, which is not there")
            mutant.place((Path(root) / mutant.file).read_text())
            mutants.append(mutant)
    return mutants


def chosen(mutants, names):
    """Those of the ``names``, all if there are none; :exc:`MutantError` if there is no such mutant."""
    known = {mutant.name for mutant in mutants}
    for name in names:
        if name not in known:
            raise MutantError(f"There is no mutant {name!r}; `--list` names them")
    return [mutant for mutant in mutants if not names or mutant.name in names]


# A run of tests.

class _Run:
    """The tests of ``files`` in a copy of the project, with ``mutant`` if there is one; under way from construction on."""
    def __init__(self, stack, root, name, files, *, seed, limit, known, mutant=None):
        self.name, self.limit, self.mutant, self.files = name, int(limit), mutant, files
        self._log = stack.enter_context(self._copy(stack, root))
        environment = os.environ | {"PYTHONPATH": str(self._path), "PYTHONDONTWRITEBYTECODE": "1"}
        (self._work / "known").write_text(json.dumps(known))
        self._began = time.monotonic()
        arguments = [sys.executable, "-m", "ringnic.host.mutant_tests", self._work, self.limit,
                     "-p", "ringnic.host.outcomes", "--outcomes", self._work / "outcomes", "-p", "no:cacheprovider",
                     "-x", "-q", "--tb", "short", "--color", "no", "--seed", seed, *files]
        self._process = stack.enter_context(child(arguments, cwd=self._tree, env=environment, stdin=subprocess.DEVNULL,
                                                  stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True))
        stack.callback(self._end)

    def _copy(self, stack, root):
        self._work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringnic-mutant-")))
        self._tree, self._path = self._work / "tree", self._work / "path"
        package = self._path / "ringnic"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        self._tree.mkdir()
        for name in COPIED:
            source = Path(root) / name
            if source.is_dir():
                shutil.copytree(source, self._tree / name)
            elif source.exists():
                shutil.copy2(source, self._tree / name)
        for name in PACKAGES:
            (package / name).symlink_to(self._tree / name)
        if self.mutant is not None:
            path = self._tree / self.mutant.file
            path.write_text(self.mutant.applied(path.read_text()))
        return (self._work / "log").open("w")

    def _end(self):
        """Whatever the tests have started goes with them."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def poll(self):
        """Return the :class:`Outcome` once there is one."""
        status = self._process.poll()
        if status is None and time.monotonic() - self._began < STUCK_SECONDS:
            return None
        if status in (None, -signal.SIGXCPU):
            how = f"stood still for {STUCK_SECONDS} s" if status is None else f"not done after {self.limit} s of a processor"
            return Outcome(self.name, KILLED, self.limit, self._under_way(), how)
        path = self._work / "took"
        took = json.loads(path.read_text()) if path.exists() else {"all": 0, "tests": {}}
        seconds = took["all"]
        if status == PASSED:
            return Outcome(self.name, GREEN if self.mutant is None else SURVIVED, seconds, took=took["tests"])
        failed = [line for line in self._lines() if line.get("verdict") == "failed"]
        if status == FAILED and failed:
            return Outcome(self.name, KILLED, seconds, failed[0]["test"], failed[0]["reason"], took=took["tests"])
        last = "\n".join((self._work / "log").read_text().splitlines()[-LOG_LINES:])
        return Outcome(self.name, BROKEN, seconds, reason=f"pytest ended with status {status}:\n{last}")

    def _lines(self):
        path = self._work / "outcomes"
        whole = path.read_text().split("\n")[:-1] if path.exists() else ()
        return [json.loads(line) for line in whole]

    def _under_way(self):
        """File of the last test that ended, for where the one that hangs is there is no word of."""
        ended = [line["test"] for line in self._lines() if "test" in line]
        return ended[-1].partition("::")[0] if ended else self.files[0]


def _all_of(root, tasks, *, jobs, seed, known, tell):
    """Yield the outcome of each of ``tasks`` (name, files, limit, mutant), ``jobs`` of them at a time.

    ``known``: seconds by test, which may grow meanwhile.
    """
    tasks, running = list(reversed(tasks)), []
    with ExitStack() as everything:
        while tasks or running:
            while tasks and len(running) < jobs:
                name, files, limit, mutant = tasks.pop()
                stack = everything.enter_context(ExitStack())
                running.append((_Run(stack, root, name, files, seed=seed, limit=limit, known=known, mutant=mutant), stack))
                tell([run.name for run, _ in running])
            for run, stack in list(running):
                if (outcome := run.poll()) is not None:
                    stack.close()
                    running.remove((run, stack))
                    yield outcome
            time.sleep(POLL_SECONDS)


@contextmanager
def _progress(console, what, total):
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console,
                  transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield (lambda names: progress.update(task, description=f"{what}: {', '.join(names)}"),
               lambda: progress.update(task, advance=1))


def mutate(root, mutants, *, jobs, seed, console, keep=lambda outcomes: None):
    """Run the tests of the ``mutants`` without any, then with each. Return the outcomes, in the order of the mutants.

    ``keep`` is called after each mutant, with the outcomes so far by name. :exc:`MutantError` if the tests fail without, or a
    mutant cannot be loaded.
    """
    files = list(dict.fromkeys(file for mutant in mutants for file in mutant.tests))
    durations, known = {}, {}
    with _progress(console, "Without a mutant", len(files)) as (tell, advance):
        tasks = [(file, (file,), BASELINE_SECONDS, None) for file in files]
        for outcome in _all_of(root, tasks, jobs=jobs, seed=seed, known=known, tell=tell):
            if outcome.verdict != GREEN:
                raise MutantError(f"{outcome.name} fails without a mutant: {outcome.test} {outcome.reason}")
            durations[outcome.name] = outcome.seconds
            known |= outcome.took
            advance()
    outcomes = {}
    with _progress(console, "Mutants", len(mutants)) as (tell, advance):
        tasks = [(mutant.name, mutant.tests, SLACK_SECONDS + SLACK_FACTOR * sum(durations[file] for file in mutant.tests), mutant)
                 for mutant in mutants]
        for outcome in _all_of(root, tasks, jobs=jobs, seed=seed, known=known, tell=tell):
            outcomes[outcome.name] = outcome
            keep(outcomes)
            advance()
            if outcome.verdict == SURVIVED:
                console.print(f"[red]survived[/] {outcome.name}", highlight=False)
    for outcome in outcomes.values():
        if outcome.verdict == BROKEN:
            raise MutantError(f"{outcome.name} cannot be tested: {outcome.reason}")
    return [outcomes[mutant.name] for mutant in mutants]


# What came of it.

def report(mutants, outcomes, *, seed, build, seconds):
    """Return the results as a dict for JSON."""
    killed = sum(outcome.verdict == KILLED for outcome in outcomes)
    return {
        "mutants": len(mutants), "killed": killed, "rate": round(killed / len(mutants), 4),
        "seed": seed, "build": build, "seconds": round(seconds, 1),
        "survivors": [{"name": mutant.name, "reason": mutant.survives} for mutant, outcome in zip(mutants, outcomes)
                      if outcome.verdict == SURVIVED],
        "results": [{"name": mutant.name, "file": mutant.file, "notice": mutant.notice, "verdict": outcome.verdict,
                     "test": outcome.test, "reason": outcome.reason, "seconds": round(outcome.seconds, 1)}
                    for mutant, outcome in zip(mutants, outcomes)],
    }


def wrong(mutants, outcomes):
    """Return what is not as the list says, a line each."""
    lines = []
    for mutant, outcome in zip(mutants, outcomes):
        if outcome.verdict == SURVIVED and not mutant.survives:
            lines.append(f"{mutant.name} survived: {mutant.notice} It needs a test, or a reason in `survives`")
        if outcome.verdict == KILLED and mutant.survives:
            lines.append(f"{mutant.name} was killed by {outcome.test}: `survives` has to go")
    return lines


def _table(root, mutants):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Mutant", "Where", "What a user would notice"):
        table.add_column(name, overflow="fold")
    for mutant in mutants:
        source = (Path(root) / mutant.file).read_text()
        line = source.count("\n", 0, mutant.place(source)) + 1
        table.add_row(mutant.name, f"{mutant.file}:{line}", escape(mutant.notice))
    return table


def _show(console, mutants, outcomes, found):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Mutant", no_wrap=True)
    table.add_column("Seconds", justify="right")
    table.add_column("Killed by", overflow="fold")
    for mutant, outcome in zip(mutants, outcomes):
        by = escape(outcome.test) if outcome.verdict == KILLED else f"[red]survived[/] {escape(mutant.survives)}"
        table.add_row(mutant.name, f"{outcome.seconds:.0f}", by)
    console.print(table)
    for line in wrong(mutants, outcomes):
        console.print(f"[red]Wrong[/]: {escape(line)}", highlight=False)
    good = found["rate"] >= GOAL
    console.print(f"[{'green' if good else 'red'}]{found['killed']} of {found['mutants']}[/] mutants killed, "
                  f"{100 * found['rate']:.1f} %; {found['seconds']:.0f} s, seed {found['seed']}, build {found['build']}",
                  highlight=False)


def run_mutate(json_file=None, *, names=(), listing=False, jobs=2, seed=0, root=ROOT):
    """Run the mutants, or those of the ``names``; show, and write the report. Returns the exit status.

    It is 0 if a test killed each, or the list says why none can, and in a run of all at least GOAL were killed. The report is
    there from the first mutant on, of those that are through: a run of hours may be interrupted.
    """
    console = Console()
    began = time.monotonic()

    def found_in(outcomes):
        through = [mutant for mutant in mutants if mutant.name in outcomes]
        return report(through, [outcomes[mutant.name] for mutant in through], seed=seed, build=build,
                      seconds=time.monotonic() - began)

    def keep(outcomes):
        if json_file is not None:
            part = Path(f"{json_file}.part")
            part.write_text(json.dumps(found_in(outcomes), indent=2) + "\n")
            part.replace(json_file)
    try:
        with ends_as_exceptions():
            everything = load(root)
            mutants = chosen(everything, names)
            if listing:
                console.print(_table(root, mutants))
                return 0
            build = build_name()
            outcomes = mutate(root, mutants, jobs=jobs, seed=seed, console=console, keep=keep)
    except MutantError as error:
        console.print(f"[red]Error[/]: {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return INTERRUPTED
    found = found_in({outcome.name: outcome for outcome in outcomes})
    _show(console, mutants, outcomes, found)
    too_few = len(mutants) == len(everything) and found["rate"] < GOAL
    return 1 if wrong(mutants, outcomes) or too_few else 0
