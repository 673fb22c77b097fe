"""The plan holds together: every row that applies is shown by a test, and every test names rows that there are."""

from pathlib import Path

import pytest

from ringnic.hdl.spec.features import FEATURE_NAMES
from ringnic.host.plan import Mark, PlanError, Row, load, marks, plan_files, problems
from ringnic.sim.core import core_features

TESTS = Path(__file__).parents[1]
PAIRS = 4


def watched():
    """Rows that the passive checker judges, or None where there is none yet."""
    try:
        from ringnic.sim.monitor import Monitor
    except ImportError:
        return None
    return frozenset(Monitor.CLAUSES)


def test_plan_holds_together():
    rows, marked, by_monitor = load(plan_files(TESTS)), marks(TESTS), watched()
    found = problems(rows, marked, by_monitor or (), core_features(PAIRS))
    if by_monitor is None:
        waiting = [line for line in found if line.endswith("(monitor) is shown by no test")]
        assert [line for line in found if line not in waiting] == []
        if waiting:
            pytest.xfail(f"There is no monitor for {len(waiting)} rows")
    assert found == []


ROW = dict(id='"A-1"', section='"2.1"', title='"It does"', level='"must"', how='"net"')


def text(**fields):
    return "[[row]]\n" + "".join(f"{name} = {value}\n" for name, value in (ROW | fields).items() if value is not None)


@pytest.mark.parametrize("body, message", [
    (text(id=None), "plan, row 1 (no id): 'id' is missing"),
    (text(id='"a1"'), "plan, row 1 (a1): id 'a1' is none"),
    (text(section='"two"'), "plan, row 1 (A-1): section 'two' is none"),
    (text(level='"may"'),
     "plan, row 1 (A-1): level must be one of must, must_not, should, should_not, recommended, behaviour, not 'may'"),
    (text(how='"eyes"'), "plan, row 1 (A-1): how must be one of register, sequence, monitor, net, not 'eyes'"),
    (text(title="3"), "plan, row 1 (A-1): 'title' must be a text, not 3"),
    (text(block="true"), "plan, row 1 (A-1): 'block' must be a text, not True"),
    (text(not_applicable='" "'), "plan, row 1 (A-1): 'not_applicable' must be a text, not ' '"),
    (text(**{"if": '"MQ"'}), "plan, row 1 (A-1): 'if' must be a list of feature names"),
    (text(**{"if": '["MQ", "MQX"]'}), "plan, row 1 (A-1): no feature is called 'MQX'"),
    (text(**{"if": '["mq"]'}), "plan, row 1 (A-1): no feature is called 'mq'"),
    (text(why='"x"'),
     "plan, row 1 (A-1): unknown field 'why'; there are block, how, id, if, level, not_applicable, section, title"),
    (text() + text(), "plan.toml: row A-1 is there twice"),
    ("", "plan.toml: holds nothing, and not [[row]] alone"),
])
def test_malformed_plans(tmp_path, body, message):
    path = tmp_path / "plan.toml"
    path.write_text(body)
    with pytest.raises(PlanError) as caught:
        load([path])
    assert str(caught.value) == message


def test_rows_are_read(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(text(**{"if": '["MQ", "!MTU", "RSS|HASH_REPORT"]', "not_applicable": '"no hash"', "block": '"it does"'}))
    assert load([path]) == [
        Row("A-1", "2.1", "It does", "must", "net", ("MQ", "!MTU", "RSS|HASH_REPORT"), "no hash", "plan", "it does")]


def test_marks_are_read(tmp_path):
    folder = tmp_path / "tests"
    (folder / "sub").mkdir(parents=True)
    (folder / "test_one.py").write_text(
        'import pytest\n@pytest.mark.clause("A-1", "A-2")\n@pytest.mark.clause("A-3")\ndef test_a(): pass\n'
        '@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.clause("A-4"))])\ndef test_b(x): pass\n'
        '@pytest.mark.clause("A-5")\ndef helper(): pass\ndef test_c(): pass\n')
    (folder / "sub" / "cases.py").write_text('@bench(clauses=("A-1",))\nasync def test_d(rig): pass\n')
    (folder / "sub" / "test_two.py").write_text('pytestmark = [pytest.mark.clause("A-6")]\ndef test_e(): pass\n')
    assert marks(folder) == [
        Mark("tests/sub/cases.py::test_d", ("A-1",)), Mark("tests/sub/test_two.py::test_e", ("A-6",)),
        Mark("tests/test_one.py::test_a", ("A-1", "A-2", "A-3")), Mark("tests/test_one.py::test_b", ("A-4",))]


@pytest.mark.parametrize("body, message", [
    ("@pytest.mark.clause(ROW)\ndef test_a(): pass\n", "tests/test_a.py::test_a: the rows of a test are written out, as strings"),
    ("@bench(clauses=ROWS)\ndef test_a(): pass\n", "tests/test_a.py::test_a: clauses is a tuple of rows"),
])
def test_marks_that_cannot_be_read(tmp_path, body, message):
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_a.py").write_text(body)
    with pytest.raises(PlanError) as caught:
        marks(folder)
    assert str(caught.value) == message


def row(name, *conditions, why=None, how="net"):
    return Row(name, "2.1", "It does", "must", how, conditions, why)


OFFERED = frozenset(FEATURE_NAMES[name] for name in ("mq", "ctrl_vq"))


@pytest.mark.parametrize("rows, marked, watched, found", [
    ([row("A-1")], [Mark("t", ("A-1",))], [], []),
    ([row("A-1", how="monitor")], [], ["A-1"], []),
    ([row("A-1")], [], [], ["A-1 (net) is shown by no test"]),
    ([row("A-1")], [Mark("t", ("A-1", "A-2"))], [], ["t names A-2, which is no row of the plan"]),
    ([row("A-1")], [Mark("t", ("A-1",))], ["B-1"], ["the monitor names B-1, which is no row of the plan"]),
    ([row("A-1", "RSS", why="no RSS")], [], [], []),
    ([row("A-1", "RSS|HASH_REPORT", why="neither")], [], [], []),
    ([row("A-1", "RSS", why="no RSS")], [Mark("t", ("A-1",))], [], ["A-1 is not applicable, and t names it"]),
    ([row("A-1", "MQ", "!RSS", why="lazy")], [], [], ["A-1 is not applicable, and the card offers all that it needs"]),
    ([row("A-1", "RSS|MQ", why="lazy")], [], [], ["A-1 is not applicable, and the card offers all that it needs"]),
    ([row("A-1", "!MQ", why="lazy")], [], [], ["A-1 is not applicable, and the card offers all that it needs"]),
    ([row("A-1", why="lazy")], [], [], ["A-1 is not applicable, and the card offers all that it needs"]),
    ([row("A-1", "RSS", "MQ")], [Mark("t", ("A-1",))], [],
     ["A-1 needs RSS, MQ, which is not offered, and does not say so"]),
])
def test_what_is_wrong_is_found(rows, marked, watched, found):
    assert problems(rows, marked, watched, OFFERED) == found
