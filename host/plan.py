"""The test plan: rows of the standards, and the tests that name them.

``tests/plan/*.toml`` hold the rows. A test names those that it shows: ``@pytest.mark.clause("UNS-1")``, a cocotb case
``clauses=("TL-1",)`` of its decorator; both are read from the sources, without running them.
"""

import ast
from dataclasses import dataclass
from pathlib import Path
import re
import tomllib

from ..hdl.spec.features import FEATURE_NAMES

__all__ = ["LEVELS", "HOWS", "Mark", "PlanError", "Row", "always_out", "load", "marks", "plan_files", "problems"]

LEVELS = ("must", "must_not", "should", "should_not", "recommended", "behaviour")
HOWS = ("register", "sequence", "monitor", "net")
FIELDS = {"id", "section", "title", "level", "if", "how", "not_applicable", "block"}
REQUIRED = FIELDS - {"if", "not_applicable", "block"}
ID = re.compile(r"[A-Z]+(-[A-Z]+)?-B?\d+")
SECTION = re.compile(r"\d+(\.\d+)*")


class PlanError(Exception):
    """The plan, or the mark of a test, is not well formed; the message says where and how."""


@dataclass(frozen=True)
class Row:
    """One thing that a standard says of the device.

    ``conditions``: features that are negotiated when it applies, all of them; ``!A`` is one that is not, ``A|B`` either.
    ``how`` it is seen; ``not_applicable``: why it cannot apply to this card, None if it does. ``plan``: stem of its file.
    ``block``: how a board's PCI Express block decides it in place of the card, None if it does not.
    """
    id: str
    section: str
    title: str
    level: str
    how: str
    conditions: tuple = ()
    not_applicable: str | None = None
    plan: str = ""
    block: str | None = None

    @property
    def applicable(self):
        return self.not_applicable is None


@dataclass(frozen=True)
class Mark:
    """A test, ``tests/FILE.py::NAME``, and the ids of the rows that it names."""
    test: str
    rows: tuple


def plan_files(tests):
    """Files of the plan below the folder of the tests: what the card is comes first, how it is plugged in follows."""
    return sorted((Path(tests) / "plan").glob("*.toml"), key=lambda path: (path.stem != "virtio", path.stem))


def _features(condition):
    return condition.removeprefix("!").split("|")


def _row(plan, number, fields):
    def wrong(what):
        raise PlanError(f"{plan}, row {number} ({fields.get('id', 'no id')}): {what}")

    if unknown := fields.keys() - FIELDS:
        wrong(f"unknown field {sorted(unknown)[0]!r}; there are {', '.join(sorted(FIELDS))}")
    if missing := REQUIRED - fields.keys():
        wrong(f"{sorted(missing)[0]!r} is missing")
    conditions = fields.get("if", [])
    for name, value in fields.items():
        if name == "if":
            if not isinstance(value, list) or not all(isinstance(condition, str) for condition in value):
                wrong("'if' must be a list of feature names")
        elif not isinstance(value, str) or not value.strip():
            wrong(f"{name!r} must be a text, not {value!r}")
    for condition in conditions:
        for feature in _features(condition):
            if feature.lower() not in FEATURE_NAMES or not feature.isupper():
                wrong(f"no feature is called {feature!r}")
    for name, pattern in (("id", ID), ("section", SECTION)):
        if not pattern.fullmatch(fields[name]):
            wrong(f"{name} {fields[name]!r} is none")
    for name, known in (("level", LEVELS), ("how", HOWS)):
        if fields[name] not in known:
            wrong(f"{name} must be one of {', '.join(known)}, not {fields[name]!r}")
    return Row(fields["id"], fields["section"], fields["title"], fields["level"], fields["how"], tuple(conditions),
               fields.get("not_applicable"), plan, fields.get("block"))


def load(files):
    """Return the rows of these files, in their order; :exc:`PlanError` for one that is malformed or there twice."""
    rows = {}
    for path in map(Path, files):
        try:
            found = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise PlanError(f"{path.name}: {error}") from None
        if found.keys() != {"row"}:
            raise PlanError(f"{path.name}: holds {', '.join(sorted(found)) or 'nothing'}, and not [[row]] alone")
        for number, fields in enumerate(found["row"], 1):
            row = _row(path.stem, number, fields)
            if row.id in rows:
                raise PlanError(f"{path.name}: row {row.id} is there twice")
            rows[row.id] = row
    return list(rows.values())


# Marks, as the sources have them.

def _literal(node, where):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise PlanError(f"{where}: the rows of a test are written out, as strings")


def _named(node, where):
    """Ids of the rows named anywhere in an expression."""
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        if isinstance(call.func, ast.Attribute) and call.func.attr == "clause":
            yield from (_literal(argument, where) for argument in call.args)
        for keyword in call.keywords:
            if keyword.arg == "clauses":
                if not isinstance(keyword.value, (ast.Tuple, ast.List)):
                    raise PlanError(f"{where}: clauses is a tuple of rows")
                yield from (_literal(element, where) for element in keyword.value.elts)


def _marks_of(path, name):
    tree = ast.parse(path.read_text())
    of_all = [row for node in tree.body if isinstance(node, ast.Assign)
              and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
              for row in _named(node.value, name)]
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test"):
            where = f"{name}::{node.name}"
            rows = [*of_all, *(row for decorator in node.decorator_list for row in _named(decorator, where))]
            if rows:
                yield Mark(where, tuple(dict.fromkeys(rows)))


def marks(tests):
    """Return the :class:`Mark` of every test below a folder that names rows, pytest's and cocotb's."""
    tests = Path(tests)
    return [mark for path in sorted(tests.rglob("*.py")) for mark in _marks_of(path, str(path.relative_to(tests.parent)))]


# What is wrong with them together.

def always_out(row, offered):
    """Can the row not apply to a card that offers these features (bit numbers)? A driver need not take what is offered."""
    return any(not condition.startswith("!") and not any(FEATURE_NAMES[name.lower()] in offered for name in _features(condition))
               for condition in row.conditions)


def problems(rows, marked, watched, offered):
    """Return what is wrong, a line each: ``rows`` and ``marked`` as above, ids of the rows that the monitor judges in
    ``watched``, numbers of the device features that the card offers in ``offered``."""
    found = []
    by_id = {row.id: row for row in rows}
    shown = {}
    for test, names in [*((mark.test, mark.rows) for mark in marked), ("the monitor", sorted(watched))]:
        for name in names:
            if name not in by_id:
                found.append(f"{test} names {name}, which is no row of the plan")
            shown.setdefault(name, test)
    for row in rows:
        if row.applicable:
            if row.id not in shown:
                found.append(f"{row.id} ({row.how}) is shown by no test")
            if always_out(row, offered):
                found.append(f"{row.id} needs {', '.join(row.conditions)}, which is not offered, and does not say so")
        else:
            if row.id in shown:
                found.append(f"{row.id} is not applicable, and {shown[row.id]} names it")
            if not always_out(row, offered):
                found.append(f"{row.id} is not applicable, and the card offers all that it needs")
    return found
