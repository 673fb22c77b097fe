"""``ringnic mutate``: the list fits the sources, and what becomes of the mutants of a project of one file is told as it is."""

import json
from pathlib import Path
import shutil

import pytest

from ringnic.host import mutate
from ringnic.host.mutate import Mutant, MutantError, load, run_mutate

ROOT = Path(__file__).parents[2]

PART = """\
def twice(n):
    return n + n


def steps(n):
    while n > 0:
        n -= 1
    return n


UNUSED = 0
"""
TESTS = """\
from ringnic.hdl.part import steps, twice


def test_twice(seed):
    assert seed == 7
    assert twice(3) == 6


def test_steps():
    assert steps(2) == 0
"""
CONFTEST = """\
import pytest


def pytest_addoption(parser):
    parser.addoption("--seed", type=int)


@pytest.fixture
def seed(pytestconfig):
    return pytestconfig.getoption("--seed")
"""
SQUARE = {"name": "square", "file": "hdl/part.py", "old": "n + n", "new": "n * n", "notice": "Wrong sums."}
ENDLESS = {"name": "endless", "file": "hdl/part.py", "old": "n -= 1", "new": "n += 1", "notice": "It hangs."}
UNSEEN = {"name": "unseen", "file": "hdl/part.py", "old": "UNUSED = 0", "new": "UNUSED = 1", "notice": "Nothing."}


def write_list(root, *mutants, then="[]"):
    lines = [f"then = {then}"]
    for mutant in mutants:
        lines += ["[[mutant]]", *(f"{name} = {json.dumps(value)}" for name, value in mutant.items())]
    (root / "tests/mutation/list.toml").write_text("\n".join(lines))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Root of a project of one part and its tests; what is beyond them ends soon."""
    for folder in ("hdl", "host", "tests/hdl", "tests/mutation"):
        (tmp_path / folder).mkdir(parents=True)
    for package in ("hdl", "host"):
        (tmp_path / package / "__init__.py").touch()
    for name in ("outcomes.py", "mutant_tests.py"):
        shutil.copy(ROOT / "host" / name, tmp_path / "host")
    (tmp_path / "hdl/part.py").write_text(PART)
    (tmp_path / "tests/conftest.py").write_text(CONFTEST)
    (tmp_path / "tests/hdl/test_part.py").write_text(TESTS)
    monkeypatch.setattr(mutate, "SLACK_SECONDS", 2)
    monkeypatch.setattr(mutate, "SLACK_FACTOR", 1)
    return tmp_path


def run(project, *mutants, **options):
    write_list(project, *mutants)
    found = project / "found.json"
    status = run_mutate(found, root=project, seed=7, **options)
    return status, json.loads(found.read_text()) if found.exists() else None


def test_the_list_of_the_project_fits_its_sources():
    mutants = load(ROOT)
    assert len(mutants) >= 90
    rooms = {path.name for path in (ROOT / "hdl").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {mutant.file.split("/")[1] for mutant in mutants} >= rooms - {"spec"}
    for mutant in mutants:
        compile(mutant.applied((ROOT / mutant.file).read_text()), mutant.file, "exec")


def test_what_becomes_of_mutants(project, capsys):
    status, found = run(project, SQUARE, ENDLESS, UNSEEN | {"survives": "nobody asks"})
    assert status == 1  # of three mutants one survives: too many
    assert (found["mutants"], found["killed"], found["rate"], found["seed"]) == (3, 2, 0.6667, 7)
    assert found["survivors"] == [{"name": "unseen", "reason": "nobody asks"}]
    square, endless, unseen = found["results"]
    assert square["test"] == "tests/hdl/test_part.py::test_twice" and "9 == 6" in square["reason"]
    assert endless["verdict"] == "killed" and "of a processor" in endless["reason"]
    assert endless["test"] == "tests/hdl/test_part.py"
    assert unseen["verdict"] == "survived" and unseen["seconds"] > 0
    assert "2 of 3 mutants killed" in capsys.readouterr().out
    assert (project / "hdl/part.py").read_text() == PART


def test_an_interrupted_run_keeps_what_it_has(project, monkeypatch):
    all_of = mutate._all_of

    def interrupted(root, tasks, **options):
        for outcome in all_of(root, tasks, **options):
            if outcome.name == "unseen":
                raise KeyboardInterrupt
            yield outcome
    monkeypatch.setattr(mutate, "_all_of", interrupted)
    status, found = run(project, SQUARE, UNSEEN, jobs=1)
    assert status == 130
    assert (found["mutants"], found["killed"]) == (1, 1) and [result["name"] for result in found["results"]] == ["square"]


def test_some_of_the_mutants(project):
    assert run(project, SQUARE, ENDLESS, names=("square",))[0] == 0


@pytest.mark.parametrize("mutant, message", [
    (UNSEEN, "unseen survived: Nothing. It needs a test, or a reason in `survives`"),
    (SQUARE | {"survives": "equal"}, "square was killed by tests/hdl/test_part.py::test_twice: `survives` has to go"),
])
def test_what_is_not_as_the_list_says(project, mutant, message, capsys):
    assert run(project, mutant)[0] == 1
    assert message in " ".join(capsys.readouterr().out.split())


def test_tests_that_fail_anyway(project, capsys):
    (project / "tests/hdl/test_part.py").write_text(TESTS.replace("6", "5"))
    assert run(project, SQUARE) == (1, None)
    assert "tests/hdl/test_part.py fails without a mutant" in " ".join(capsys.readouterr().out.split())


def test_a_mutant_that_cannot_be_loaded(project, capsys):
    status, found = run(project, SQUARE | {"new": "n + m +"})
    assert status == 1 and (found["killed"], found["results"][0]["verdict"]) == (0, "broken")
    assert "square cannot be tested: pytest ended with status" in " ".join(capsys.readouterr().out.split())


def test_listing_runs_nothing(project, capsys):
    write_list(project, SQUARE)
    assert run_mutate(root=project, listing=True) == 0
    assert "hdl/part.py:2" in capsys.readouterr().out


def test_a_name_that_there_is_not(project, capsys):
    write_list(project, SQUARE)
    assert run_mutate(root=project, names=("cube",)) == 1
    assert "There is no mutant 'cube'; `--list` names them" in capsys.readouterr().out


@pytest.mark.parametrize("change, message", [
    ({"old": "n"}, r"square: hdl/part.py has old = 'n' \d+ times, not once"),
    ({"old": "gone"}, "square: hdl/part.py has old = 'gone' 0 times, not once"),
    ({"after": "steps", "old": "n + n"}, "square: hdl/part.py has no 'n [+] n' after 'steps'"),
    ({"after": "n"}, r"square: hdl/part.py has after = 'n' \d+ times, not once"),
    ({"new": "n + n"}, "list.toml: square changes nothing"),
    ({"file": "hdl/other.py"}, "list.toml: square names hdl/other.py, which is not there"),
    ({"tests": ["tests/hdl/test_other.py"]}, "list.toml: square names tests/hdl/test_other.py, which is not there"),
    ({"expects": "x"}, "list.toml: square has unknown expects"),
])
def test_a_list_that_does_not_fit(project, change, message):
    write_list(project, SQUARE | change)
    with pytest.raises(MutantError, match=message):
        load(project)


def test_names_are_unique_and_fields_complete(project):
    write_list(project, SQUARE, SQUARE)
    with pytest.raises(MutantError, match="list.toml: square is there twice"):
        load(project)
    write_list(project, {name: value for name, value in SQUARE.items() if name != "notice"})
    with pytest.raises(MutantError, match="list.toml: square lacks notice"):
        load(project)


def test_the_tests_of_a_mutant(project):
    (project / "tests/hdl/test_whole.py").touch()
    write_list(project, SQUARE, SQUARE | {"name": "own", "tests": ["tests/hdl/test_whole.py"]},
               then='["tests/hdl/test_whole.py", "tests/hdl/test_part.py"]')
    square, own = load(project)
    assert square.tests == ("tests/hdl/test_part.py", "tests/hdl/test_whole.py")
    assert own.tests == ("tests/hdl/test_whole.py",)


def test_a_place_that_is_found_by_what_comes_before_it():
    mutant = Mutant(name="m", file="f", old="x = 1", new="x = 2", notice="", tests=(), after="second:")
    assert mutant.applied("x = 1\nsecond:\nx = 1\nx = 1\n") == "x = 1\nsecond:\nx = 2\nx = 1\n"
