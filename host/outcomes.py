"""A pytest plugin for ``ringnic conformance`` and ``ringnic selftest``: what became of each test, while they run.

``{"total": n}`` comes first, then for each test, in the order in which they end; to a file, as a JSON line each:

    test      its name, ``tests/FILE.py::NAME[CASE]``
    rows      those of the plan that it names
    verdict   "passed", "failed", "skipped" or "xfailed"
    reason    of anything but "passed", in a line
    observed  by row, how often the passive checker put it to the test: properties ``clauses`` of the test
    broken    rows that the passive checker says are broken: "ROW in cycle N: ..." in the failure
    cases     of a bench, its cocotb cases: name, verdict, reason; property ``cases``
    measured  figures by name; properties ``measured``
"""

from collections import Counter
import json
import re

import pytest

__all__ = ["Outcomes", "summary"]

REASON_LENGTH = 300  # characters
BROKEN = re.compile(r"(?<![\w-])([A-Z]+(?:-[A-Z]+)?-B?\d+) in cycle \d+: ")


def pytest_addoption(parser):
    parser.addoption("--outcomes", metavar="FILE", help="write what becomes of each test to this file, as JSON lines")


def pytest_configure(config):
    path = config.getoption("--outcomes")
    # Of several processes, the one that hears of all tests.
    if path is not None and not hasattr(config, "workerinput"):
        file = open(path, "w")
        config.add_cleanup(file.close)
        config.pluginmanager.register(Outcomes(lambda line: print(json.dumps(line), file=file, flush=True)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    rows = [row for marker in item.iter_markers("clause") for row in marker.args]
    item.user_properties.append(("rows", list(dict.fromkeys(rows))))


def _reason(report):
    if hasattr(report, "wasxfail"):
        return report.wasxfail.removeprefix("reason: ")
    if isinstance(report.longrepr, tuple):  # of a skip: file, line, what it says
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return getattr(crash, "message", None) or str(report.longrepr)


def summary(reports):
    """Return what became of a test: ``reports`` are of its setup, call and teardown, as far as it came."""
    properties = [tuple(found) for found in reports[-1].user_properties]
    observed = Counter()
    for name, value in properties:
        if name == "clauses":
            observed.update(value)
    verdict, reason = "passed", ""
    for report in reports:
        if report.failed:
            verdict, reason = "failed", _reason(report)
            break
        if report.skipped:
            verdict, reason = "xfailed" if hasattr(report, "wasxfail") else "skipped", _reason(report)
    return {
        "test": reports[-1].nodeid,
        "rows": [row for name, value in properties if name == "rows" for row in value],
        "verdict": verdict,
        "reason": " ".join(reason.split())[:REASON_LENGTH],
        "observed": dict(observed),
        "broken": sorted({row for report in reports if report.failed for row in BROKEN.findall(str(report.longrepr))}),
        "cases": [case for name, value in properties if name == "cases" for case in value],
        "measured": {key: figure for name, value in properties if name == "measured" for key, figure in value.items()},
    }


class Outcomes:
    """Tell ``say`` of them, a dict each."""
    def __init__(self, say):
        self._say = say
        self._reports = {}
        self._counted = False

    def _total(self, count):
        if not self._counted:
            self._counted = True
            self._say({"total": count})

    def pytest_collection_finish(self, session):
        if session.items:
            self._total(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        self._total(len(ids))

    def pytest_collectreport(self, report):
        if report.failed:
            self._say({"error": f"{report.nodeid}: {' '.join(str(report.longrepr).split())[-REASON_LENGTH:]}"})

    def pytest_runtest_logreport(self, report):
        reports = self._reports.setdefault(report.nodeid, [])
        reports.append(report)
        if report.when == "teardown":
            self._say(summary(self._reports.pop(report.nodeid)))
