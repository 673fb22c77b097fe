"""``ringnic mutate``: run the mutants, or list them, or check that they fit the sources."""

from pathlib import Path
import time

from rich.console import Console

from ..checkout import ROOT
from ..conformance import build_name
from ..errors import complain
from ..guest.process import INTERRUPTED, ends_as_exceptions
from ..results import simulated_build_id, write_json
from .mutants import MutantError, chosen, fitted, load
from .report import GOAL, list_table, report, show, wrong
from .run import mutate

__all__ = ["run_check", "run_mutate"]


def run_check(root=ROOT):
    """List the mutants that do not fit the sources, with suggestions. Returns the exit status, 0 if all fit."""
    console = Console()
    try:
        mutants, misfits = fitted(root)
    except MutantError as error:
        complain(error)
        return 1
    for misfit in misfits:
        complain(misfit)
    console.print(f"{len(mutants)} of {len(mutants) + len(misfits)} mutants apply")
    return 1 if misfits else 0


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
            write_json(part, found_in(outcomes), build_id=build_id, seed=seed)
            part.replace(json_file)
    try:
        with ends_as_exceptions():
            everything = load(root)
            mutants = chosen(everything, names)
            if listing:
                console.print(list_table(root, mutants))
                return 0
            build, build_id = build_name(), simulated_build_id()
            outcomes = mutate(root, mutants, jobs=jobs, seed=seed, console=console, keep=keep)
    except MutantError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    found = found_in({outcome.name: outcome for outcome in outcomes})
    show(console, mutants, outcomes, found)
    too_few = len(mutants) == len(everything) and found["rate"] < GOAL
    return 1 if wrong(mutants, outcomes) or too_few else 0
