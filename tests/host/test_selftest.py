"""``ringnic selftest``: the real tests on a golden card behind a kernel of ours, and what becomes of runs that go wrong."""

from contextlib import nullcontext
import json
from pathlib import Path
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ringnic.host import selftest
from ringnic.host.bus.vfio import VfioError
from ringnic.host.driver.pci import Bar
from ringnic.host.guest.process import INTERRUPTED
from ringnic.host.selftest import run_selftest
from ringnic.host.slot.commands import app

BDF = "0000:01:00.0"
PROGRAM = Path(__file__).parent / "card_in_slot.py"


def on_golden_card(tmp_path, *arguments):
    """Run the command; return its exit status, what it printed, and its report."""
    file = tmp_path / "report.json"
    done = subprocess.run([sys.executable, "-W", "error", PROGRAM, tmp_path / "machine", *arguments, "--report", file], text=True,
                          capture_output=True, timeout=300)
    lines = f"{BDF}: RingNIC, build 00000000; loopback, so nothing goes out to the wire", "The tests run ..."
    assert done.returncode or done.stderr == "".join(f"ringnic: {line}\n" for line in lines)
    return done.returncode, " ".join((done.stdout + done.stderr).split()), json.loads(file.read_text()) if file.exists() else None


def test_quickly(tmp_path):
    status, said, found = on_golden_card(tmp_path, "01:00.0", "--quick")
    assert status == 0, said
    rows = {row["id"]: row for row in found["rows"]}
    assert found["bdf"] == BDF and found["build_id"] == "00000000" and "ring_packed" in found["features"]
    assert found["rows_passing"] == found["rows_applicable"] > 80 and found["failed"] == []
    assert f"{found['rows_passing']} of {found['rows_applicable']} applicable rows pass" in said
    assert rows["UNS-1"]["status"] == "passing" and rows["UNS-1"]["tests"] == [
        "tests/conformance/test_interrupts.py::test_used_event_is_ignored_without_its_feature"]
    assert rows["CC-5"]["status"] == "simulated only" and not rows["CC-5"]["applicable"]
    assert not any(row["status"] == "left out" for row in rows.values())
    assert sorted(found["measured"]) == ["packets_per_second", "register_read_us", "round_trip_us"]
    assert "packets/s, round trip" in said


def test_interrupts_that_a_busy_kernel_tells_of_late(tmp_path):
    status, said, found = on_golden_card(tmp_path, "--late", BDF, "-k", "test_interrupts")
    assert status == 0, said
    assert found["failed"] == [] and found["tests"] >= 20


def test_some(tmp_path):
    status, said, found = on_golden_card(tmp_path, BDF, "-k", "test_identity or test_generation", "--seed", "7")
    assert (status, found["tests"], found["seed"], found["measured"]) == (0, 1, 7, {})
    rows = {row["id"]: row["status"] for row in found["rows"]}
    assert [rows[name] for name in ("ID-1", "UNS-1", "CC-5")] == ["passing", "left out", "simulated only"]
    assert found["rows_applicable"] == 3


def test_not_bound(tmp_path):
    status, said, found = on_golden_card(tmp_path, "02:00.0")
    assert (status, said, found) == (
        1, "ringnic: There is no PCI function 0000:02:00.0: `ringnic devices` shows those that there are", None)


def test_no_address():
    result = CliRunner().invoke(app, ["selftest", "nowhere"])
    assert result.exit_code == 2 and "'nowhere' is no PCI address" in result.output


@pytest.mark.parametrize("bars", [{}, {0: Bar(0x4000, False, False)}])
def test_another_card(monkeypatch, bars):
    """Its registers are not read: where ours has counters, it may have nothing."""
    monkeypatch.setattr(selftest, "VfioBus", lambda bdf: nullcontext(None))
    monkeypatch.setattr(selftest, "PciFunction", lambda bus: SimpleNamespace(bars=bars))
    monkeypatch.setattr(selftest, "Transport", lambda function: SimpleNamespace(function=function))
    with pytest.raises(VfioError, match=f"^{BDF} is no RingNIC, for it has no counters page"):
        selftest._identify(BDF)


# Runs of tests of their own.

PLAN = "".join(f'[[row]]\nid = "A-{k}"\nsection = "2.1"\ntitle = "It does"\nlevel = "must"\nhow = "net"\n' for k in range(1, 7))
TESTS = '''
import os, signal
import pytest

@pytest.mark.clause("A-1")
def test_good():
    pass

@pytest.mark.clause("A-2")
def test_bad():
    assert 1 == 2

@pytest.mark.clause("A-3")
def test_not_offered():
    pytest.skip("ring_packed is not offered")

@pytest.mark.clause("A-4")
@pytest.mark.simulated("a hand on the cable")
def test_cable():
    assert 0

@pytest.mark.clause("A-1", "A-5")
@pytest.mark.parametrize("x", [1, 2])
def test_more(x, record_property):
    record_property("measured", {"round_trip_us": 12.0 * x})

def test_rowless():
    assert 3 == 4

def test_interrupted(pytestconfig):
    os.kill(os.getpid(), signal.SIGNAL)

def test_no_card():
    pytest.exit("the card has gone", returncode=4)
'''


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run tests chosen of these; return exit status, what was printed, and the report."""
    # Not by the names of the project's own: where its tests run in this very process, pytest would take its conftest.py.
    monkeypatch.setattr(selftest, "TESTS", tmp_path / "elsewhere")
    monkeypatch.setattr(selftest, "FOLDER", folder := tmp_path / "elsewhere/cards")
    monkeypatch.setattr(selftest, "_identify", lambda bdf: {"bdf": bdf, "build_id": "0000beef", "features": []})
    (folder.parent / "plan").mkdir(parents=True)
    folder.mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
    (folder.parent / "plan/virtio.toml").write_text(PLAN)
    (folder / "conftest.py").write_text('''
def pytest_addoption(parser):
    parser.addoption("--bdf")
    parser.addoption("--seed")
    parser.addoption("--quick", action="store_true")

def pytest_configure(config):
    for name in ("clause(*rows): rows", "simulated(reason): no real card"):
        config.addinivalue_line("markers", name)

def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("simulated")])
    items[:] = [item for item in items if not item.get_closest_marker("simulated")]
''')

    def run(select, signal_name="SIGINT", **options):
        (folder / f"test_{len(list(folder.iterdir()))}.py").write_text(TESTS.replace("SIGNAL", signal_name))
        file = tmp_path / "report.json"
        status = run_selftest(BDF, file, select=select, **options)
        return status, " ".join("".join(capsys.readouterr()).split()), json.loads(file.read_text()) if file.exists() else None
    return run


def test_what_becomes_of_rows(run):
    status, said, found = run("not interrupted and not no_card")
    assert status == 1
    assert {row["id"]: (row["status"], row["applicable"]) for row in found["rows"]} == {
        "A-1": ("passing", True), "A-2": ("failing", True), "A-3": ("not applicable", False), "A-4": ("simulated only", False),
        "A-5": ("passing", True), "A-6": ("simulated only", False)}
    assert (found["rows_passing"], found["rows_applicable"], found["tests"]) == (2, 3, 5)
    assert [name.rpartition("::")[2] for name in found["failed"]] == ["test_bad", "test_rowless"]
    assert "build 0000beef; loopback" in said and "assert 3 == 4" in said and "round trip 24 us" in said
    assert "2 more rows of the plan are for a simulated card" in said
    assert f"pytest --bdf {BDF} --seed 0 {found['failed'][0]}`" in said


def test_a_failure_of_a_test_without_rows_is_one(run):
    assert run("good")[0] == 0
    assert run("rowless")[0] == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_interruptions(run, name):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    status, said, found = run("good or interrupted", name)
    assert (status, found) == (INTERRUPTED, None)
    assert said.endswith(f"ringnic: interrupted; {BDF} was reset, and is bound to vfio-pci as before")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("select, says", [
    ("no_card", "the card has gone"),
    ("nowhere", "No test that a real card can run is called 'nowhere'"),
    ("a b", "The tests could not run: Wrong expression passed to '-k': a b: at column 3: expected end of input; got identifier"),
])
def test_runs_that_are_none(run, select, says):
    status, said, found = run(select)
    assert status == 1 and found is None and said.endswith(f"ringnic: {says}")


def test_a_test_that_cannot_be_read(run):
    (selftest.FOLDER / "test_worse.py").write_text("import nowhere_to_be_found\n")
    status, said, _ = run("good")
    assert status == 1 and "nowhere_to_be_found" in said


def test_a_full_disk(run, capsys):
    """What was found is shown all the same."""
    run("good")
    assert run_selftest(BDF, Path("/dev/full"), select="good") == 1
    said, errors = capsys.readouterr()
    assert "applicable rows pass" in said and errors.endswith("\nringnic: /dev/full: No space left on device\n")


def test_no_checkout(run, monkeypatch):
    monkeypatch.setattr(selftest, "FOLDER", Path("/nowhere"))
    assert run_selftest(BDF) == 1


def test_no_pytest(run, monkeypatch):
    monkeypatch.setattr(selftest.importlib.util, "find_spec", lambda name: None)
    status, said, _ = run("good")
    assert status == 1 and said == "ringnic: The tests need pytest: `pip install -e '.[test]'`"


def test_a_card_that_cannot_be_had(run, monkeypatch):
    def identify(bdf):
        raise VfioError(f"{bdf} is bound to virtio-pci, not to vfio-pci: `ringnic bind {bdf}`")
    monkeypatch.setattr(selftest, "_identify", identify)
    status, said, _ = run("good")
    assert status == 1 and said == f"ringnic: {BDF} is bound to virtio-pci, not to vfio-pci: `ringnic bind {BDF}`"
