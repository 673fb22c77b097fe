"""What became of the mutants: as JSON, and as tables for a reader."""

from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from .run import KILLED, SURVIVED

__all__ = ["GOAL", "list_table", "report", "show", "wrong"]

GOAL = 0.95                  # of the mutants are to be killed


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


def list_table(root, mutants):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Mutant", "Where", "What a user would notice"):
        table.add_column(name, overflow="fold")
    for mutant in mutants:
        line = mutant.line((Path(root) / mutant.file).read_text())
        table.add_row(mutant.name, f"{mutant.file}:{line}", escape(mutant.notice))
    return table


def show(console, mutants, outcomes, found):
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
