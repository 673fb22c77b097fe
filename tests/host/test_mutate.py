"""``ringnic mutate``: what becomes of the mutants of a project of one file is told as it is."""

import json
from pathlib import Path
import re
import shutil

import pytest

from ringnic.host.mutation import run as runs
from ringnic.host.mutation.command import run_check, run_mutate

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
SQUARE = {"name": "square", "function": "twice", "statement": "return n + n", "change": ["n + n", "n * n"],
          "notice": "Wrong sums."}
ENDLESS = {"name": "endless", "function": "steps", "statement": "n -= 1", "replace": "n += 1", "notice": "It hangs."}
UNSEEN = {"name": "unseen", "file": "hdl/part.py", "statement": "UNUSED = 0", "change": ["0", "1"], "notice": "Nothing."}


def write_list(root, *mutants, then="[]"):
    lines = [f"then = {then}"]
    for mutant in mutants:
        lines += ["[[mutant]]", *(f"{name} = {json.dumps(value)}" for name, value in mutant.items())]
    (root / "tests/mutation/list.toml").write_text("\n".join(lines))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Root of a project of one part and its tests; what is beyond them ends soon."""
    for folder in ("hdl", "host/mutation", "host/package", "tests/hdl", "tests/mutation"):
        (tmp_path / folder).mkdir(parents=True)
    for package in ("hdl", "host", "host/mutation"):
        (tmp_path / package / "__init__.py").touch()
    for name in ("outcomes.py", "mutation/process.py", "package/__init__.py"):
        shutil.copy(ROOT / "host" / name, tmp_path / "host" / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # what pytest makes of a warning
    (tmp_path / "hdl/part.py").write_text(PART)
    (tmp_path / "tests/conftest.py").write_text(CONFTEST)
    (tmp_path / "tests/hdl/test_part.py").write_text(TESTS)
    monkeypatch.setattr(runs, "SLACK_SECONDS", 4)
    monkeypatch.setattr(runs, "SLACK_FACTOR", 2)
    return tmp_path


def run(project, *mutants, **options):
    write_list(project, *mutants)
    found = project / "found.json"
    status = run_mutate(found, root=project, seed=7, **options)
    return status, json.loads(found.read_text()) if found.exists() else None


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
    said = capsys.readouterr()
    assert "2 of 3 mutants killed" in said.out
    lines = [re.sub(r"\d+ s of", "N s of", line) for line in said.err.splitlines()]
    file = "ringnic: tests/hdl/test_part.py"
    assert lines[:2] == [f"{file} ...", f"{file}: green, N s of a processor"]
    assert sorted(lines[2:]) == sorted([*(f"ringnic: {name} ..." for name in ("square", "endless", "unseen")),
                                        *(f"ringnic: {name}: killed, N s of a processor" for name in ("square", "endless")),
                                        "ringnic: unseen: survived, N s of a processor"])
    assert (project / "hdl/part.py").read_text() == PART


def test_an_interrupted_run_keeps_what_it_has(project, monkeypatch):
    all_of = runs._all_of

    def interrupted(root, tasks, **options):
        for outcome in all_of(root, tasks, **options):
            if outcome.name == "unseen":
                raise KeyboardInterrupt
            yield outcome
    monkeypatch.setattr(runs, "_all_of", interrupted)
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
    assert "tests/hdl/test_part.py fails without a mutant" in " ".join(capsys.readouterr().err.split())


def test_a_mutant_that_cannot_be_loaded(project, capsys):
    status, found = run(project, UNSEEN | {"change": ["0", "undefined"]})
    assert status == 1 and (found["killed"], found["results"][0]["verdict"]) == (0, "broken")
    assert "unseen cannot be tested: pytest ended with status" in " ".join(capsys.readouterr().err.split())


def test_listing_runs_nothing(project, capsys):
    write_list(project, SQUARE)
    assert run_mutate(root=project, listing=True) == 0
    assert "hdl/part.py:2" in capsys.readouterr().out


def test_a_name_that_there_is_not(project, capsys):
    write_list(project, SQUARE)
    assert run_mutate(root=project, names=("cube",)) == 1
    assert "There is no mutant 'cube'; `--list` names them" in capsys.readouterr().err


def test_checking_lists_the_mutants_that_do_not_apply(project, capsys):
    write_list(project, SQUARE, ENDLESS)
    assert run_check(root=project) == 0
    assert "2 of 2 mutants apply" in capsys.readouterr().out
    (project / "hdl/part.py").write_text(PART.replace("n -= 1", "n -= 2").replace("n + n", "2 * n"))
    message = "list.toml: endless does not apply: hdl/part.py has no function = 'steps', statement = 'n -= 1'; "
    message += "its place may be function = 'steps', statement = 'n -= 2' (hdl/part.py:7)"
    assert run_check(root=project) == 1
    told = " ".join("".join(capsys.readouterr()).split())
    assert message in told and "square does not apply" in told and "0 of 2 mutants apply" in told
    # A run refuses with the same message.
    assert run_mutate(root=project) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_checking_a_list_that_is_not_sound(project, capsys):
    write_list(project, {"name": "square"})
    assert run_check(root=project) == 1
    assert "list.toml: square lacks notice, statement" in " ".join(capsys.readouterr().err.split())
