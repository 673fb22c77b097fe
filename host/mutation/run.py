"""Runs of the tests in copies of the project, each with one mutant."""

from contextlib import ExitStack
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

from ..errors import note
from ..guest.process import child
from ..progress import bar
from .mutants import MutantError

__all__ = ["BROKEN", "GREEN", "KILLED", "Outcome", "SURVIVED", "mutate"]

PACKAGES = ("hdl", "host", "sim", "boards")
COPIED = (*PACKAGES, "tests", "pyproject.toml")
KILLED, SURVIVED, BROKEN, GREEN = "killed", "survived", "broken", "green"
POLL_SECONDS = 0.1
# Limits are of processor time, so that a busy machine does not kill a mutant.
SLACK_SECONDS, SLACK_FACTOR = 30, 4   # a mutant may take longer than its tests do without it
BASELINE_SECONDS = 1800      # for the tests of one file
STUCK_SECONDS = 7200         # of the clock: a test that waits for something takes no processor time
LOG_LINES = 20               # of pytest's output, where it could not run
PASSED, FAILED = 0, 1        # exit statuses of pytest


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


class _Run:
    """The tests of ``files`` in a copy of the project, with ``mutant`` if there is one; under way from construction on."""
    def __init__(self, stack, root, name, files, *, seed, limit, known, mutant=None):
        self.name, self.limit, self.mutant, self.files = name, int(limit), mutant, files
        self._log = stack.enter_context(self._copy(stack, root))
        environment = os.environ | {"PYTHONPATH": str(self._path), "PYTHONDONTWRITEBYTECODE": "1"}
        (self._work / "known").write_text(json.dumps(known))
        self._began = time.monotonic()
        arguments = [sys.executable, "-m", "ringnic.host.mutation.process", self._work, self.limit,
                     "--disable-plugin-autoload", "-p", "ringnic.host.outcomes", "--outcomes", self._work / "outcomes",
                     "-p", "no:cacheprovider", "-x", "-q", "--tb", "short", "--color", "no", "--seed", seed, *files]
        self._process = stack.enter_context(child(arguments, cwd=self._tree, env=environment, stdin=subprocess.DEVNULL,
                                                  stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True))
        stack.callback(self._end)

    def _copy(self, stack, root):
        self._work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringnic-mutant-")))
        self._tree, self._path = self._work / "tree", self._work / "path"
        package = self._path / "ringnic"
        package.mkdir(parents=True)
        self._tree.mkdir()
        for name in COPIED:
            source = Path(root) / name
            if source.is_dir():
                shutil.copytree(source, self._tree / name)
            elif source.exists():
                shutil.copy2(source, self._tree / name)
        for name in PACKAGES:
            (package / name).symlink_to(self._tree / name)
        (package / "__init__.py").symlink_to(self._tree / "host/package/__init__.py")
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


def _all_of(root, tasks, *, jobs, seed, known, progress):
    """Yield the outcome of each of ``tasks`` (name, files, limit, mutant), ``jobs`` of them at a time, with progress on a bar.

    ``known``: seconds by test, which may grow meanwhile.
    """
    tasks, running = list(reversed(tasks)), []
    with ExitStack() as everything:
        while tasks or running:
            while tasks and len(running) < jobs:
                name, files, limit, mutant = tasks.pop()
                stack = everything.enter_context(ExitStack())
                running.append((_Run(stack, root, name, files, seed=seed, limit=limit, known=known, mutant=mutant), stack))
                progress.begins(name, ", ".join(run.name for run, _ in running))
            for run, stack in list(running):
                if (outcome := run.poll()) is not None:
                    stack.close()
                    running.remove((run, stack))
                    progress.ends(f"{outcome.name}: {outcome.verdict}, {outcome.seconds:.0f} s of a processor")
                    yield outcome
            time.sleep(POLL_SECONDS)


def mutate(root, mutants, *, jobs, seed, console, keep=lambda outcomes: None):
    """Run the tests of the ``mutants`` without any, then with each. Return the outcomes, in the order of the mutants.

    ``keep`` is called after each mutant, with the outcomes so far by name. :exc:`MutantError` if the tests fail without, or a
    mutant cannot be loaded.
    """
    files = list(dict.fromkeys(file for mutant in mutants for file in mutant.tests))
    durations, known = {}, {}
    with bar(console, len(files)) as progress:
        tasks = [(file, (file,), BASELINE_SECONDS, None) for file in files]
        for outcome in _all_of(root, tasks, jobs=jobs, seed=seed, known=known, progress=progress):
            if outcome.verdict != GREEN:
                raise MutantError(f"{outcome.name} fails without a mutant: {outcome.test} {outcome.reason}")
            durations[outcome.name] = outcome.seconds
            known |= outcome.took
    outcomes = {}
    with bar(console, len(mutants)) as progress:
        tasks = [(mutant.name, mutant.tests, SLACK_SECONDS + SLACK_FACTOR * sum(durations[file] for file in mutant.tests), mutant)
                 for mutant in mutants]
        for outcome in _all_of(root, tasks, jobs=jobs, seed=seed, known=known, progress=progress):
            outcomes[outcome.name] = outcome
            keep(outcomes)
            if outcome.verdict == SURVIVED and console.is_terminal:  # what no one should wait for the end to see
                note(f"{outcome.name}: {SURVIVED}")
    for outcome in outcomes.values():
        if outcome.verdict == BROKEN:
            raise MutantError(f"{outcome.name} cannot be tested: {outcome.reason}")
    return [outcomes[mutant.name] for mutant in mutants]
