"""``ringnic conformance``: what it makes of tests and of the passive checker, and the forms of its report."""

import json
from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ringnic.host import conformance
from ringnic.host.cli import app
from ringnic.host.conformance import RunError, build_name, gather, report, run_tests, to_junit, to_markdown
from ringnic.host.plan import Row, marks

TESTS_FOLDER = Path(__file__).parents[1]


def row(name, section="2.7.4", *, plan="virtio", why=None, block=None):
    return Row(name, section, f"It does {name}", "must", "net", (), why, plan, block)


def outcome(test, rows=(), verdict="passed", reason="", **more):
    return {"test": test, "rows": list(rows), "verdict": verdict, "reason": reason, "observed": {}, "broken": [], "cases": [],
            **more}


CASES = {"tests/bench/cases/a.py::test_a": ("A-1",)}


@pytest.mark.parametrize("outcomes, status, reason, tests", [
    ([], "missing", "no test ran, and the checker did not meet it", ()),
    ([outcome("t[1]", ["A-1"])], "passing", "", ("t",)),
    ([outcome("t[1]", ["A-1"]), outcome("t[2]", ["A-1"], "failed", "boom")], "failing", "t: boom", ("t",)),
    ([outcome("t", ["A-1"], "xfailed", "not yet"), outcome("u", ["A-1"])], "failing", "t: not yet", ("t", "u")),
    ([outcome("t", ["A-1"], "skipped")], "missing", "all its tests were skipped", ("t",)),
    ([outcome("t", ["A-1"], "skipped"), outcome("u", ["A-1"])], "passing", "", ("t", "u")),
    ([outcome("t", ["A-2"], "failed")], "missing", "no test ran, and the checker did not meet it", ()),
    ([outcome("t", observed={"A-1": 3}), outcome("u", observed={"A-1": 2})], "passing", "", ("passive checker",)),
    ([outcome("t", observed={"A-1": 0})], "missing", "no test ran, and the checker did not meet it", ()),
    ([outcome("t", verdict="failed", observed={"A-1": 3})], "passing", "", ("passive checker",)),
    ([outcome("t", ["A-1"]), outcome("u[x]", verdict="failed", observed={"A-1": 3}, broken=["A-1"])], "failing",
     "passive checker, in u[x]", ("t", "passive checker")),
    ([outcome("b", cases=[{"case": "tests/bench/cases/a.py::test_a", "verdict": "passed", "reason": ""},
                          {"case": "tests/bench/cases/a.py::test_b", "verdict": "failed", "reason": ""}], verdict="failed")],
     "passing", "", ("tests/bench/cases/a.py::test_a",)),
    ([outcome("b", cases=[{"case": "tests/bench/cases/a.py::test_a", "verdict": "failed", "reason": ""}], verdict="failed")],
     "failing", "tests/bench/cases/a.py::test_a", ("tests/bench/cases/a.py::test_a",)),
    ([outcome("b", cases=[{"case": "tests/bench/cases/a.py::test_a", "verdict": "failed", "reason": ""}], verdict="xfailed",
              reason="not yet")],
     "failing", "tests/bench/cases/a.py::test_a: not yet", ("tests/bench/cases/a.py::test_a",)),
])
def test_a_row_and_what_was_seen_of_it(outcomes, status, reason, tests):
    result, = gather([row("A-1")], outcomes, CASES)
    assert (result.status, result.reason, result.tests) == (status, reason, tests)


def test_a_row_that_is_not_applicable():
    result, = gather([row("A-1", why="no RSS")], [outcome("t", ["A-1"])], {})
    assert (result.status, result.reason) == ("not applicable", "no RSS")


@pytest.mark.parametrize("behind_block", [True, False])
@pytest.mark.parametrize("why, outcomes, status", [
    (None, [], "missing"), (None, [outcome("t", ["A-1"])], "passing"), (None, [outcome("t", observed={"A-1": 3})], "passing"),
    (None, [outcome("t", ["A-1"], "failed", "boom")], "failing"), ("no RSS", [], "not applicable"),
])
def test_what_a_block_decides(why, outcomes, status, behind_block):
    """Its model may not pass for it; what fails, fails."""
    result, = gather([row("A-1", why=why, block="it keeps this")], outcomes, {}, behind_block=behind_block)
    if behind_block and status in ("missing", "passing"):
        assert (result.status, result.reason) == ("the block's", "it keeps this")
    else:
        assert result.status == status
    other, = gather([row("A-1", why=why)], outcomes, {}, behind_block=behind_block)
    assert other.status == status


@pytest.fixture
def found():
    rows = [row("A-1"), row("A-2", "5.1.9.2.2"), row("A-3", "2.1.2"), row("B-1", "2.7.4", why="no <b> | c"),
            row("TL-1", "2.2.9", plan="pcie"), row("XX-1", "9.1", plan="other"),
            row("ADM-2", "2.13.1", why="no")]
    outcomes = [outcome("t", ["A-1", "TL-1", "XX-1"]), outcome("u", ["A-2"], "failed", "1 < 2 | 3")]
    return report(gather(rows, outcomes, {}), seed=7, build="abc", seconds=12.34, tests=2)


def test_json(found):
    assert {name: found[name] for name in found if name != "rows"} == {
        "rows_total": 7, "rows_applicable": 5, "rows_passing": 3, "board": None, "seed": 7, "build": "abc", "seconds": 12.3,
        "tests": 2}
    assert [(one["id"], one["applicable"], one["status"]) for one in found["rows"]] == [
        ("A-1", True, "passing"), ("A-2", True, "failing"), ("A-3", True, "missing"), ("B-1", False, "not applicable"),
        ("TL-1", True, "passing"), ("XX-1", True, "passing"), ("ADM-2", False, "not applicable")]
    assert json.loads(json.dumps(found)) == found


def test_markdown(found):
    text = to_markdown(found)
    assert text.startswith("3 of 5 applicable rows pass, of 7 rows (build `abc`, seed 7, 2 tests, 12 s).\n")
    for line in ("| VIRTIO 1.4 | 2 Basic facilities | 0 | 1 | 1 |", "| VIRTIO 1.4 | 2.7 Split virtqueues | 1 | 1 | 2 |",
                 "| VIRTIO 1.4 | 5.1.9.2 Network: transmission | 0 | 1 | 1 |",
                 "| PCI Express | 2 Transaction Layer | 1 | 1 | 1 |",
                 "| other | 9  | 1 | 1 | 1 |", "- **A-2** It does A-2: failing, u: 1 < 2 | 3",
                 "| VIRTIO 1.4 | 2.12, 2.13 Administration | 0 | 0 | 1 |", "| A-1 | 2.7.4 | It does A-1 | passing | `t` |",
                 "| B-1 | 2.7.4 | It does B-1 | - | not applicable: no <b> \\| c |"):
        assert line in text.splitlines()


def test_junit(found):
    suites = ElementTree.fromstring(to_junit(found))
    assert (suites.get("tests"), suites.get("failures")) == ("7", "2")
    cases = {case.get("name").split()[0]: [(part.tag, part.get("message")) for part in case] for case in suites.iter("testcase")}
    assert cases == {"A-1": [], "A-2": [("failure", "failing: u: 1 < 2 | 3")],
                     "A-3": [("failure", "missing: no test ran, and the checker did not meet it")],
                     "B-1": [("skipped", "no <b> | c")], "TL-1": [], "XX-1": [],
                     "ADM-2": [("skipped", "no")]}


# The run, on tests of its own.

TESTS = '''
import pytest

@pytest.mark.clause("A-1", "A-2")
@pytest.mark.parametrize("x", [1, 2])
def test_good(x, record_property):
    record_property("clauses", {"M-1": x, "M-2": 0})
    record_property("clauses", {"M-1": 10})

@pytest.mark.clause("A-3")
def test_bad():
    assert 1 == 2

@pytest.mark.clause("A-4")
@pytest.mark.xfail(strict=True, reason="not yet")
def test_later():
    assert 1 == 2

@pytest.mark.clause("A-5")
def test_skipped():
    pytest.skip("nothing to see")

@pytest.fixture
def broken(request):
    yield
    raise AssertionError("The card breaks rules:\\nM-1 in cycle 17: a\\nM-P-B2 in cycle 18: b\\nM-1 in cycle 19: c")

@pytest.mark.clause("A-6")
def test_fails_at_its_end(broken):
    pass

def test_without_rows():
    assert 1 == 2
'''


@pytest.fixture
def tests(tmp_path, monkeypatch):
    """A folder of tests in place of the project's, and one process for them."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--seed')\n\n\n"
        "def pytest_configure(config):\n    config.addinivalue_line('markers', 'clause(*rows): rows')\n")
    (tmp_path / "test_own.py").write_text(TESTS)
    monkeypatch.setattr(conformance, "ROOT", tmp_path)
    monkeypatch.setattr(conformance, "TESTS", tmp_path)
    monkeypatch.setattr(conformance.os, "sched_getaffinity", lambda process: {0})
    return tmp_path


@pytest.fixture
def console(tmp_path):
    with open(tmp_path / "console", "w") as file:
        yield Console(file=file)


@pytest.mark.parametrize("processors", [1, 2])
def test_outcomes_of_a_run(tests, console, monkeypatch, processors):
    monkeypatch.setattr(conformance.os, "sched_getaffinity", lambda process: set(range(processors)))
    found = {one["test"].rpartition("::")[2]: one for one in run_tests(3, console)}
    assert {name: (one["rows"], one["verdict"]) for name, one in found.items()} == {
        "test_good[1]": (["A-1", "A-2"], "passed"), "test_good[2]": (["A-1", "A-2"], "passed"),
        "test_bad": (["A-3"], "failed"), "test_later": (["A-4"], "xfailed"), "test_skipped": (["A-5"], "skipped"),
        "test_fails_at_its_end": (["A-6"], "failed")}
    assert found["test_good[2]"]["observed"] == {"M-1": 12, "M-2": 0}
    assert found["test_fails_at_its_end"]["broken"] == ["M-1", "M-P-B2"]
    assert not any(one["broken"] for name, one in found.items() if name != "test_fails_at_its_end")
    assert "1 == 2" in found["test_bad"]["reason"]
    assert found["test_later"]["reason"] == "not yet" and found["test_skipped"]["reason"] == "nothing to see"
    assert "The card breaks rules" in found["test_fails_at_its_end"]["reason"]


def test_a_file_that_cannot_be_read(tests, console):
    (tests / "test_worse.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(RunError, match="nowhere_to_be_found"):
        run_tests(0, console)


def test_no_tests(tests, console):
    (tests / "test_own.py").write_text("def test_without_rows():\n    pass\n")
    with pytest.raises(RunError, match="pytest ended with status 5"):
        run_tests(0, console)


def plan(tests, *names):
    (tests / "plan").mkdir()
    (tests / "plan" / "virtio.toml").write_text("".join(
        f'[[row]]\nid = "{name}"\nsection = "2.1"\ntitle = "It does"\nlevel = "must"\nhow = "net"\n' for name in names))


@pytest.mark.parametrize("names, status, says", [
    (["A-1", "A-2"], 0, "2 of 2 applicable rows pass"),
    (["A-1", "A-3", "A-9"], 1, "1 of 3 applicable rows pass"),
])
def test_the_command(tests, names, status, says, tmp_path):
    plan(tests, *names)
    files = [tmp_path / name for name in ("a.json", "a.md", "a.xml")]
    result = CliRunner().invoke(app, ["conformance", "--report", files[0], "--markdown", files[1], "--junit", files[2],
                                      "--seed", "5"], catch_exceptions=False)
    assert result.exit_code == status and says in " ".join(result.output.split())
    found = json.loads(files[0].read_text())
    assert (found["rows_total"], found["seed"]) == (len(names), 5)
    assert says in files[1].read_text() and len(list(ElementTree.parse(files[2]).iter("testcase"))) == len(names)


def test_the_command_for_a_board(monkeypatch, tmp_path):
    """Each row is judged, the block's, not applicable, or shown elsewhere."""
    seen = []

    def run(seed, console, board):
        seen.append(board)
        rows = [mark.rows for mark in marks(TESTS_FOLDER) if mark.test.startswith("tests/conformance/")]
        return [outcome("t", [name for names in rows for name in names]), outcome("u", observed={"CS-6": 1, "CS-4": 1})]
    monkeypatch.setattr(conformance, "run_tests", run)
    result = CliRunner().invoke(app, ["conformance", "--board", "ax7203", "--report", tmp_path / "a.json", "--markdown",
                                      tmp_path / "a.md"], catch_exceptions=False)
    assert result.exit_code == 0 and seen == ["ax7203"]
    assert json.loads((tmp_path / "a.json").read_text())["board"] == "ax7203"
    assert "the card of ax7203, build" in (tmp_path / "a.md").read_text()
    assert "the card of ax7203" in " ".join(result.output.split())
    rows = {found["id"]: found for found in json.loads((tmp_path / "a.json").read_text())["rows"]}
    for name, status in {"CS-6": "passing", "INT-11": "passing", "ID-1": "passing", "CS-4": "the block's", "PM-8": "the block's",
                         "RST-P-9": "the block's", "TL-1": "elsewhere", "RST-P-10": "elsewhere"}.items():
        assert (rows[name]["status"], rows[name]["applicable"]) == (status, status == "passing")
    assert rows["PM-8"]["reason"] == rows["PM-8"]["block"] == "the block sends the messages" and rows["CS-6"]["block"] is None
    assert {found["status"] for found in rows.values()} == {"passing", "the block's", "elsewhere", "not applicable"}
    count = sum(found["status"] == "the block's" for found in rows.values())
    assert count > 50 and f"{count} rows are decided by the board's PCI Express block" in " ".join(result.output.split())
    assert "| - | the block's: the block sends the messages |" in (tmp_path / "a.md").read_text()


def test_a_row_that_lost_its_test(monkeypatch, tmp_path):
    """It is missing where a run behind a block has a test of it."""
    monkeypatch.setattr(conformance, "run_tests", lambda seed, console, board: [outcome("t", ["ID-1"])])
    result = CliRunner().invoke(app, ["conformance", "--board", "ax7203", "--report", tmp_path / "a.json"],
                                catch_exceptions=False)
    rows = {found["id"]: found["status"] for found in json.loads((tmp_path / "a.json").read_text())["rows"]}
    assert result.exit_code == 1 and (rows["ID-1"], rows["ID-2"]) == ("passing", "missing")


def test_a_plan_that_is_not_well_formed(tests):
    plan(tests, "A-1", "A-1")
    result = CliRunner().invoke(app, ["conformance"], catch_exceptions=False)
    assert result.exit_code == 1 and "row A-1 is there twice" in result.output


def test_build_without_git(monkeypatch):
    def nothing(*arguments, **options):
        raise FileNotFoundError("git")
    with_git = build_name()
    monkeypatch.setattr(subprocess, "run", nothing)
    assert len(build_name()) == 12 and with_git


def test_plugin_without_its_option_does_nothing(tests):
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "ringnic.host.outcomes", "-q", "-k", "test_good", tests],
                          cwd=tests, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
