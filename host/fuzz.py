"""``ringnic fuzz``: a hostile driver against the simulated card; what it met, and what broke, made small."""

import json
from pathlib import Path
import time

from rich import box
from rich.console import Console
from rich.table import Table

from ..sim.fuzz.campaign import Campaign, replay
from ..sim.fuzz.case import ACTIONS, Case, open_engine
from ..sim.fuzz.minimise import minimise
from .errors import note
from .guest.process import ends_as_exceptions
from .progress import bar
from .results import simulated_build_id, write_json

__all__ = ["load_case", "run_fuzz", "run_replay", "save_case"]

OUTCOMES = ("quiet", "stopped", "waiting")


def load_case(path):
    """Read a case; :exc:`ValueError`, with a message for people, if the file holds none."""
    try:
        values = json.loads(Path(path).read_text())
        return Case.from_json(values)
    except (OSError, TypeError, KeyError, IndexError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no case: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_case(path, case):
    """Write a case as JSON, an action a line."""
    values = case.to_json()
    actions = values.pop("actions")
    head = json.dumps(values, indent=1)[:-2]
    lines = ",\n".join(f"  {json.dumps(action)}" for action in actions)
    Path(path).write_text(f'{head},\n "actions": [\n{lines}\n ]\n}}\n')


def _table(campaign):
    """How many bursts met each action, by what the card was and what came of it."""
    states = sorted({state for _, state, _ in campaign.cells})
    table = Table(title="Bursts that met an action (quiet / a queue stopped / frames wait for buffers)", box=box.SIMPLE_HEAD,
                  pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Action", no_wrap=True)
    for state in states:
        table.add_column(state, justify="right")
    for action in ACTIONS:
        row = ["/".join(str(campaign.cells.get((action, state, outcome), 0)) for outcome in OUTCOMES) for state in states]
        table.add_row(action, *(text if text != "0/0/0" else "-" for text in row))
    return table


def _results(campaign, seconds, found):
    return {
        "seed": campaign.seed, "board": campaign.board, "seconds": round(seconds, 1), "cases": campaign.cases,
        "actions": campaign.actions, "actions_by_width": dict(sorted(campaign.actions_by_width.items())),
        "cycles": campaign.cycles, "actions_per_second": round(campaign.actions / seconds) if seconds else 0,
        "cells_reached": len(campaign.cells), "counters_moved": sorted(campaign.counters),
        "cells": [{"action": action, "state": state, "outcome": outcome, "cases": count}
                  for (action, state, outcome), count in sorted(campaign.cells.items())],
        "found": found,
    }


def run_fuzz(seconds, seed, report, *, board=None, opened=open_engine, folder=Path(".")):
    """Fuzz for so many seconds, or until a promise is broken: that case is made small and saved in ``folder``. Return the exit
    status. ``board``: of the card of this board, behind a model of its block."""
    console = Console()
    campaign = Campaign(seed, opened, board)
    with ends_as_exceptions(), bar(console, seconds, counted=False) as progress:
        progress.begins("Building the simulator")
        campaign.prepare()
        progress.begins(f"Fuzzing for {seconds:g} s")
        start = time.monotonic()

        def tell(campaign):
            spent = time.monotonic() - start
            rate = campaign.actions / spent
            progress.shows(f"{campaign.actions:,} actions, {rate:,.0f} a second, {len(campaign.cells)} cells", completed=spent)
        broken = campaign.run(seconds, tell)
        spent = time.monotonic() - start
        found = None
        if broken is not None:
            case, promise = broken
            path = Path(folder) / f"fuzz-{seed}-{case.number}.json"
            save_case(path, case)        # whole, for a user who interrupts the next step
            note(f"Broken: {promise}. All {len(case.actions)} actions are in {path}")
            progress.begins("Making it small")
            small = _shorten(case, opened, progress)
            save_case(path, small)
            found = {"rule": promise.rule, "text": str(promise), "case": case.number, "file": str(path),
                     "actions": len(small.actions)}
    console.print(_table(campaign))
    widths = ", ".join(f"{actions:,} at {width} bit" for width, actions in sorted(campaign.actions_by_width.items()))
    console.print(f"{campaign.actions:,} actions in {campaign.cases} cases ({widths}), {campaign.actions / spent:,.0f} a second; "
                  f"{campaign.cycles:,} cycles; {len(campaign.cells)} cells reached; {len(campaign.counters)} counters moved")
    if found:
        console.print(f"[red]Broken[/]: {found['text']}", soft_wrap=True)
        console.print(f"{found['actions']} actions show it: ringnic fuzz --replay {found['file']}", soft_wrap=True)
    if report is not None:
        write_json(report, _results(campaign, spent, found), build_id=simulated_build_id(), seed=seed)
    return 1 if found else 0


def _shorten(case, opened, progress):
    try:
        return minimise(case, opened, lambda length: progress.shows(f"Making it small: {length} actions"))
    except ValueError as error:
        note(f"{error}; it is kept whole")
        return case


def run_replay(path, report, *, opened=open_engine):
    """Do what a file says; return the exit status, 1 if a promise is broken."""
    console = Console()
    case = load_case(path)
    promise = replay(case, opened)
    if promise is None:
        console.print(f"[green]{len(case.actions)} actions, and every promise was kept[/]")
    else:
        console.print(f"[red]Broken[/]: {promise}", soft_wrap=True)
    if report is not None:
        write_json(report, {"file": str(path), "actions": len(case.actions), "rule": promise and promise.rule,
                            "text": promise and str(promise)},
                   build_id=simulated_build_id(), seed=case.seed)
    return 0 if promise is None else 1
