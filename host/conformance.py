"""``ringnic conformance``: run the tests that name rows of the plan, and say of each row whether it holds."""

from collections import Counter
from dataclasses import dataclass, field, replace
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from textwrap import shorten
import time
from xml.etree import ElementTree

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .checkout import ROOT, commit
from .errors import complain, naming
from .guest.process import INTERRUPTED, child, ends_as_exceptions
from .plan import PlanError, load, marks, plan_files
from .progress import bar
from .results import simulated_build_id, write_json

__all__ = ["FAILING", "NOT_APPLICABLE", "TESTS", "Gathered", "Result", "RunError", "build_name", "gather", "report",
           "run_conformance", "show", "to_junit", "to_markdown"]

TESTS = ROOT / "tests"
PASSING, FAILING, MISSING, NOT_APPLICABLE = "passing", "failing", "missing", "not applicable"
JUDGED = (PASSING, FAILING, MISSING)
# What becomes of a row in a run behind a board's block, if it is not judged there.
BY_THE_BLOCK = "the block's"
ELSEWHERE = "elsewhere"
NOT_BEHIND_A_BLOCK = ELSEWHERE, "its tests are of the card without a block in front"
BEHIND_A_BLOCK = TESTS / "conformance"   # tests that a card behind a block can be put to
MONITOR = "passive checker"
POLL_SECONDS = 0.2
LOG_LINES = 30          # of pytest's output, where it could not run
RAN_TESTS = (0, 1)      # exit statuses of pytest: all passed, some failed
BRIEF = 160             # characters of a reason on the screen; the files have it whole
# Sections of the report: plan, beginnings of a section's number, title. The longest that fits counts.
SECTIONS = (
    ("virtio", "2", "Basic facilities"),
    ("virtio", "2.7", "Split virtqueues"),
    ("virtio", "2.8", "Packed virtqueues"),
    ("virtio", "2.12, 2.13", "Administration"),
    ("virtio", "3", "Suspend and resume"),
    ("virtio", "4.1", "Virtio over PCI"),
    ("virtio", "5.1.4", "Network: configuration"),
    ("virtio", "5.1.9", "Network: header"),
    ("virtio", "5.1.9.2", "Network: transmission"),
    ("virtio", "5.1.9.3", "Network: receive buffers"),
    ("virtio", "5.1.9.4", "Network: incoming packets"),
    ("virtio", "5.1.9.5", "Network: control queue, steering"),
    ("virtio", "5.1.9.6", "Network: flow filter"),
    ("virtio", "5.1.9.7", "Network: inline IPsec"),
    ("virtio", "6", "Reserved feature bits"),
    ("pcie", "2", "Transaction Layer"),
    ("pcie", "5", "Power management"),
    ("pcie", "6", "System: interrupts, errors, reset"),
    ("pcie", "7", "Configuration space"),
)
PLANS = {"virtio": "VIRTIO 1.4", "pcie": "PCI Express"}


@dataclass
class Gathered:
    """What was seen of a row: tests by verdict, and counts of the passive checker."""
    tests: dict = field(default_factory=dict)   # name without case: verdicts
    observed: int = 0
    broken_in: list = field(default_factory=list)
    reasons: list = field(default_factory=list)

    def add(self, test, verdict, reason):
        self.tests.setdefault(test, Counter())[verdict] += 1
        if verdict in ("failed", "xfailed"):
            self.reasons.append(f"{test}: {reason}" if reason else test)

    def verdicts(self):
        return sum(self.tests.values(), Counter())


@dataclass(frozen=True)
class Result:
    """A row of the plan, whether it holds, what showed it, and the reason where it does not."""
    row: object
    status: str
    tests: tuple
    observed: int
    reason: str


def _of_all_cases(test):
    return test.partition("[")[0]


def gather(rows, outcomes, case_rows, elsewhere=None, behind_block=False):
    """Return a :class:`Result` for each row.

    ``outcomes`` are as :mod:`.outcomes` writes them; ``case_rows``: rows by name of cocotb case. A row passes if a test that
    names it passed, or the passive checker saw it hold, and nothing contradicts; a skipped test says nothing.
    ``elsewhere``: by row, status and reason if this run saw nothing of it and was not meant to. ``behind_block``: what the block
    decides does not count as passing, for the block of such a run is a model.
    """
    found = {row.id: Gathered() for row in rows}

    def seen(row):
        return found.setdefault(row, Gathered())  # a row that there is not: the plan's own test tells
    for outcome in outcomes:
        for row in outcome["rows"]:
            seen(row).add(_of_all_cases(outcome["test"]), outcome["verdict"], outcome["reason"])
        for case in outcome["cases"]:
            for row in case_rows.get(case["case"], ()):
                seen(row).add(case["case"], case["verdict"], case["reason"] or outcome["reason"])
        for row, count in outcome["observed"].items():
            seen(row).observed += count
        for row in outcome["broken"]:
            seen(row).broken_in.append(outcome["test"])
    results = [_judge(row, found[row.id], (elsewhere or {}).get(row.id)) for row in rows]
    return [_behind_block(result) for result in results] if behind_block else results


def _behind_block(result):
    decided = result.row.block is not None and result.status not in (FAILING, NOT_APPLICABLE)
    return replace(result, status=BY_THE_BLOCK, reason=result.row.block) if decided else result


def _judge(row, seen, otherwise):
    verdicts = seen.verdicts()
    tests = tuple(sorted(seen.tests)) + ((MONITOR,) if seen.observed else ())
    if not row.applicable:
        status, reason = NOT_APPLICABLE, row.not_applicable
    elif seen.broken_in:
        status, reason = FAILING, f"{MONITOR}, in {seen.broken_in[0]}"
    elif verdicts["failed"] or verdicts["xfailed"]:
        status, reason = FAILING, seen.reasons[0]
    elif verdicts["passed"] or seen.observed:
        status, reason = PASSING, ""
    elif otherwise is not None:
        status, reason = otherwise
    else:
        status, reason = MISSING, "all its tests were skipped" if verdicts else "no test ran, and the checker did not meet it"
    return Result(row, status, tests, seen.observed, reason)


def build_name():
    """Return the commit of the sources, or their digest."""
    if (name := commit()) is not None:
        return name
    from ..sim.engine.build import sources_digest  # and all that a simulator needs
    return sources_digest()[:12]


def report(results, *, seed, build, seconds, tests, board=None):
    """Return the results as a dict for JSON. A row is applicable here if this run was to judge it.

    ``board``: whose card it was, behind a model of the board's block.
    """
    applicable = [result for result in results if result.status in JUDGED]
    return {
        "rows_total": len(results),
        "rows_applicable": len(applicable),
        "rows_passing": sum(result.status == PASSING for result in applicable),
        "board": board, "seed": seed, "build": build, "seconds": round(seconds, 1), "tests": tests,
        "rows": [{"id": result.row.id, "plan": result.row.plan, "section": result.row.section, "title": result.row.title,
                  "level": result.row.level, "if": list(result.row.conditions), "how": result.row.how,
                  "block": result.row.block, "applicable": result.status in JUDGED, "status": result.status,
                  "tests": list(result.tests), "observed": result.observed, "reason": result.reason} for result in results],
    }


# Forms of it for people and programs.

def _section(row):
    """Standard, numbers and title of the report's section that a row belongs to."""
    fits = [(len(begin), numbers, title) for plan, numbers, title in SECTIONS for begin in numbers.split(", ")
            if plan == row["plan"] and f"{row['section']}.".startswith(f"{begin}.")]
    _, numbers, title = max(fits, default=(0, row["section"].split(".")[0], ""))
    return PLANS.get(row["plan"], row["plan"]), numbers, title


def _by_section(rows):
    found = {}
    for row in rows:
        found.setdefault(_section(row), []).append(row)

    def place(item):
        plan, numbers, _ = item[0]
        return [*PLANS.values(), plan].index(plan), [int(part) for part in numbers.split(", ")[0].split(".")]
    return sorted(found.items(), key=place)


def _counts(rows):
    """Rows passing, applicable, all."""
    return sum(row["status"] == PASSING for row in rows), sum(row["applicable"] for row in rows), len(rows)


def _open(rows):
    return [row for row in rows if row["applicable"] and row["status"] != PASSING]


def to_table(found):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)  # for terminals of 80 columns
    for name, justify in (("Standard", "left"), ("", "left"), ("Section", "left"), ("Passing", "right"), ("Apply", "right"),
                          ("Rows", "right")):
        table.add_column(name, justify=justify, no_wrap=True)
    for (plan, number, title), rows in _by_section(found["rows"]):
        passing, applicable, total = _counts(rows)
        colour = "green" if passing == applicable else "red"
        table.add_row(plan, number, title, f"[{colour}]{passing}[/]", str(applicable), str(total))
    return table


def _card(found):
    return "" if found["board"] is None else f"the card of {found['board']}, "


def to_markdown(found):
    """Return the report as Markdown: a table by section, what is open, and all rows."""
    lines = [f"{found['rows_passing']} of {found['rows_applicable']} applicable rows pass, of {found['rows_total']} rows "
             f"({_card(found)}build `{found['build']}`, seed {found['seed']}, {found['tests']} tests, "
             f"{found['seconds']:.0f} s).", "",
             "| Standard | Section | Passing | Applicable | Rows |", "| --- | --- | ---: | ---: | ---: |"]
    for (plan, number, title), rows in _by_section(found["rows"]):
        lines.append("| {} | {} {} | {} | {} | {} |".format(plan, number, title, *_counts(rows)))
    if left := _open(found["rows"]):
        lines += ["", "## Open", "", *(f"- **{row['id']}** {row['title']}: {row['status']}, {row['reason']}" for row in left)]
    lines += ["", "## Rows", "", "| Row | Section | What | Result | Shown by |", "| --- | --- | --- | --- | --- |"]
    for row in found["rows"]:
        by = f"{row['status']}: {row['reason']}" if not row["applicable"] else "<br>".join(f"`{test}`" for test in row["tests"])
        lines.append("| {} |".format(" | ".join(text.replace("|", "\\|") for text in (
            row["id"], row["section"], row["title"], row["status"] if row["applicable"] else "-", by))))
    return "\n".join(lines) + "\n"


def to_junit(found):
    """Return the report as JUnit XML: a suite for each section, a case for each row."""
    suites = ElementTree.Element("testsuites", name=" ".join(filter(None, ("conformance", found["board"]))),
                                 tests=str(found["rows_total"]),
                                 failures=str(found["rows_applicable"] - found["rows_passing"]), time=str(found["seconds"]))
    for (plan, number, title), rows in _by_section(found["rows"]):
        passing, applicable, total = _counts(rows)
        suite = ElementTree.SubElement(suites, "testsuite", name=f"{plan} {number} {title}".strip(), tests=str(total),
                                       failures=str(applicable - passing), skipped=str(total - applicable))
        for row in rows:
            case = ElementTree.SubElement(suite, "testcase", classname=f"{plan} {row['section']}",
                                          name=f"{row['id']} {row['title']}")
            if not row["applicable"]:
                ElementTree.SubElement(case, "skipped", message=row["reason"])
            elif row["status"] != PASSING:
                ElementTree.SubElement(case, "failure", message=f"{row['status']}: {row['reason']}")
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


# The run.

class RunError(Exception):
    """The tests could not be run; the message says why."""


def _pytest(outcomes, seed, board):
    jobs = len(os.sched_getaffinity(0))
    what = [TESTS] if board is None else ["--board", board, BEHIND_A_BLOCK]
    return [sys.executable, "-m", "pytest", "-p", "ringnic.host.outcomes", "--outcomes", outcomes, "-m", "clause", "-n",
            jobs if jobs > 1 else 0, "--dist", "worksteal", "--seed", seed, "-q", "--tb", "short", "--color", "no", *what]


def run_tests(seed, console, board=None):
    """Run all tests that name rows, with progress; return their outcomes. :exc:`RunError` if they do not run."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ringnic-conformance-") as work, bar(console) as progress:
        lines, log = Path(work) / "outcomes", Path(work) / "log"
        lines.touch()
        progress.begins("Looking for tests")
        with log.open("w") as out, child(_pytest(lines, seed, board), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                                         stdin=subprocess.DEVNULL) as process, lines.open() as reader:
            pending, ended = "", False
            while not ended:
                ended = process.poll() is not None  # and then read what it said last
                *whole, pending = (pending + reader.read()).split("\n")
                for outcome in map(json.loads, whole):
                    if "error" in outcome:
                        raise RunError(outcome["error"])
                    if "total" in outcome:
                        progress.begins(f"{outcome['total']} tests", "Tests")
                        progress.shows(total=outcome["total"])
                        continue
                    found.append(outcome)
                    failed = sum(one["verdict"] == "failed" for one in found)
                    progress.ends()
                    progress.shows(f"Tests, [red]{failed} failed[/]" if failed else "Tests")
                if not ended:
                    time.sleep(POLL_SECONDS)
        if process.returncode not in RAN_TESTS:
            last = "\n".join(log.read_text().splitlines()[-LOG_LINES:])
            raise RunError(f"pytest ended with status {process.returncode}:\n{last}")
    return found


def _brief(reason):
    return escape(shorten(reason, BRIEF, placeholder=" ..."))


def show(console, found, outcomes):
    """Print what a run found, by section; what is open; and the failures of tests that name no row. Return whether all rows
    pass that were to be judged."""
    if found["rows"]:
        console.print(to_table(found))
    for row in _open(found["rows"]):
        console.print(f"[red]{row['status']}[/] [bold]{row['id']}[/] {escape(row['title'])}\n    {_brief(row['reason'])}",
                      highlight=False)
    for outcome in outcomes:
        if outcome["verdict"] == "failed" and not outcome["rows"]:
            console.print(f"[red]failed[/] {escape(outcome['test'])}\n    {_brief(outcome['reason'])}", highlight=False)
    there = Counter(row["status"] for row in found["rows"])
    if there[BY_THE_BLOCK] or there[ELSEWHERE]:
        console.print(f"{there[BY_THE_BLOCK]} rows are decided by the board's PCI Express block, of which this run has a model; "
                      f"the tests of {there[ELSEWHERE]} are of the card without a block", highlight=False)
    good = found["rows_passing"] == found["rows_applicable"]
    console.print(f"[{'green' if good else 'red'}]{found['rows_passing']} of {found['rows_applicable']}[/] applicable rows pass, "
                  f"of {found['rows_total']} rows; {found['tests']} tests, {found['seconds']:.0f} s, seed {found['seed']}, "
                  f"{_card(found)}build {found['build']}", highlight=False)
    return good


def _not_behind_block(rows, marked):
    """What is to be said of rows that no test shows which a run behind a block has."""
    folder = f"{BEHIND_A_BLOCK.relative_to(ROOT)}/"
    shown = {row for mark in marked if mark.test.startswith(folder) for row in mark.rows}
    return {row.id: NOT_BEHIND_A_BLOCK for row in rows if row.id not in shown}


def run_conformance(json_file=None, markdown=None, junit=None, *, seed=0, board=None):
    """Run, show, and write the report in the forms asked for. Returns the exit status: 0 if every applicable row passes.

    ``board``: name of one with a 7-series FPGA; of the card behind that board's block, and only what can be tried there.
    """
    console = Console()
    began = time.monotonic()
    try:
        with ends_as_exceptions():
            rows = load(plan_files(TESTS))
            marked = marks(TESTS)
            build = build_name()
            outcomes = run_tests(seed, console, board)
    except (PlanError, RunError) as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    results = gather(rows, outcomes, {mark.test: mark.rows for mark in marked},
                     None if board is None else _not_behind_block(rows, marked), behind_block=board is not None)
    found = report(results, seed=seed, build=build, seconds=time.monotonic() - began, tests=len(outcomes),
                   board=board)
    if json_file is not None:
        write_json(json_file, found, build_id=simulated_build_id(), seed=seed)
    for path, content in ((markdown, to_markdown(found)), (junit, to_junit(found))):
        if path is not None:
            with naming(path):
                Path(path).write_text(content)
    return 0 if show(console, found, outcomes) else 1
