"""Every JSON file that a command writes says what made it: each is written here, at the level where that is cheap."""

from contextlib import nullcontext
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

import ringnic
from ringnic.host import area, bench, board_area, conformance, doctor, fuzz, selftest
from ringnic.host.build import command as build
from ringnic.host.build.judge import Verdict
from ringnic.host.cli import app
from ringnic.host.compare import command as compare
from ringnic.host.compare.load import Counted, Load
from ringnic.host.guest.report import Report
from ringnic.host.mutation import command as mutation
from ringnic.host.mutation.run import KILLED, Outcome
from ringnic.host.rehearsal.session import Found
from ringnic.host.results import simulated_build_id
from ringnic.host.slot import collect, monitor

from ..kit.ports import port_list
from .slot.conftest import CARD, FakeMachine

FACTS = {"version", "commit", "build_id", "command", "seed", "began", "ended"}
SEED, BUILD_ID = 7, "1a2b3c4d"
# Options for a file of results.
OPTIONS = {"report", "output"}


def a_demo(path, monkeypatch):
    Report(seed=SEED, build_id=BUILD_ID).write(path)
    return SEED, BUILD_ID


def a_doctor(path, monkeypatch):
    doctor.run_doctor(path, findings=[])
    return None, None


def a_rehearsal(path, monkeypatch):
    Found(SEED, guest={"build_id": BUILD_ID}).write(path)
    return SEED, BUILD_ID


def a_bench(path, monkeypatch):
    bench.write_report(path, [])
    return 0, simulated_build_id()


def areas(path, monkeypatch):
    area.write_report(path, {}, [], None)
    facts = json.loads(path.read_text())["ringnic"]
    assert (facts["seed"], facts["build_id"]) == (None, None)
    monkeypatch.setattr(board_area, "Tools", lambda work: SimpleNamespace(versions={}))
    board_area.run_board_area((), path)
    return None, None


def a_conformance(path, monkeypatch):
    monkeypatch.setattr(conformance, "run_tests", lambda seed, console, board: [])
    monkeypatch.setattr(conformance, "load", lambda files: [])
    monkeypatch.setattr(conformance, "marks", lambda folder: [])
    conformance.run_conformance(path, seed=SEED)
    return SEED, simulated_build_id()


def a_fuzz(path, monkeypatch):
    monkeypatch.setattr(fuzz, "load_case", lambda path: SimpleNamespace(actions=[], seed=SEED))
    monkeypatch.setattr(fuzz, "replay", lambda case, opened: None)
    fuzz.run_replay("a file", path)
    facts = json.loads(path.read_text())["ringnic"]
    assert (facts["seed"], facts["build_id"]) == (SEED, simulated_build_id())
    monkeypatch.setattr(fuzz.Campaign, "prepare", lambda campaign: None)
    fuzz.run_fuzz(0, SEED + 1, path)
    return SEED + 1, simulated_build_id()


def a_mutation(path, monkeypatch):
    mutant = SimpleNamespace(name="a", file="b", notice="c", survives="")
    outcome = Outcome("a", KILLED, 1.0)

    def mutate(root, mutants, *, keep, **options):
        keep({"a": outcome})
        return [outcome]
    for name, does in (("load", lambda root: [mutant]), ("chosen", lambda mutants, names: mutants), ("mutate", mutate)):
        monkeypatch.setattr(mutation, name, does)
    mutation.run_mutate(path, seed=SEED)
    return SEED, simulated_build_id()


def a_comparison(path, monkeypatch):
    load = Load(1, rounds=[Counted(1, 1, 1, 1)], tcp_in=Counted(2, 1, 1, 1), tcp_out=Counted(3, 1, 1, 1))
    monkeypatch.setattr(compare, "Machines", lambda *_, **options: SimpleNamespace(
        measure=lambda *_, **options: load, qemu=SimpleNamespace(version="1"), kernel=SimpleNamespace(release="2"), accel="tcg"))
    compare.run_compare(("ringnic",), path, seed=SEED)
    return SEED, simulated_build_id()


def a_selftest(path, monkeypatch):
    found = {"build_id": BUILD_ID, "seed": SEED, "rows_passing": 0, "rows_applicable": 0, "failed": []}
    monkeypatch.setattr(selftest, "examine", lambda bdf, console, **options: (found, []))
    monkeypatch.setattr(selftest, "tell", lambda *found: None)
    selftest.run_selftest(CARD, path, seed=SEED)
    return SEED, BUILD_ID


def a_machine(path, monkeypatch):
    machine = FakeMachine(path.parent)
    machine.add()
    monkeypatch.setattr("ringnic.host.slot.sysfs.Machine", lambda: machine)
    return machine


def devices(path, monkeypatch):
    a_machine(path, monkeypatch)
    CliRunner().invoke(app, ["devices", "--report", str(path)])
    return None, None


def a_monitor(path, monkeypatch):
    a_machine(path, monkeypatch)
    monkeypatch.setattr(monitor, "_watch", lambda card, console, history, once: history.add(
        monitor.Sample(0, int(BUILD_ID, 16), 0, 9, True, False)))
    CliRunner().invoke(app, ["monitor", CARD, "--report", str(path)])
    return None, BUILD_ID


def a_collection(path, monkeypatch):
    a_machine(path, monkeypatch)
    monkeypatch.setattr(collect, "_card", lambda *_: SimpleNamespace(build_id=BUILD_ID))
    monkeypatch.setattr(collect, "lent", lambda *_: nullcontext())
    monkeypatch.setattr(collect, "_selftest", lambda *_: {"seed": SEED})
    found = {}
    monkeypatch.setattr(collect, "Report", lambda *_: SimpleNamespace(
        found=found, add_selftest=lambda report: found.update(selftest=report), end=lambda failure: found))
    done = CliRunner().invoke(app, ["collect", CARD, "--output", str(path)])
    assert str(path) not in path.read_text(), done.output
    return SEED, BUILD_ID


def builds(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(build, "_verilog", lambda board, *, lanes, **options: port_list(board, lanes))
    monkeypatch.setattr(build, "build_id", lambda *facts: int(BUILD_ID, 16))
    monkeypatch.setattr(build, "judge", lambda *_, **options: Verdict(timing={"wns_ns": 0, "whs_ns": 0},
                                                                      configuration={"ms": None}))
    assert build.run_build("ax7203", project_only=True) == 0
    project = json.loads(Path("build/ax7203/project.json").read_text())
    facts = project["ringnic"]
    assert FACTS <= facts.keys() and facts["build_id"] == BUILD_ID
    facts["command"] = "of the project"
    Path("build/ax7203/project.json").write_text(json.dumps(project))
    assert build.run_build("ax7203", judge_only=True) == 0
    path.write_bytes(Path("build/ax7203/report.json").read_bytes())
    assert "of the project" not in path.read_text()
    return None, BUILD_ID


# By command: writes its file, and returns seed and build id that the file has to have.
WRITERS = {
    "demo": a_demo, "doctor": a_doctor, "rehearse": a_rehearsal, "bench": a_bench, "area": areas, "conformance": a_conformance,
    "fuzz": a_fuzz, "mutate": a_mutation, "compare": a_comparison, "selftest": a_selftest, "devices": devices,
    "monitor": a_monitor, "collect": a_collection, "build": builds,
}
# It has no option for its file.
WITHOUT_OPTION = {"build"}


@pytest.mark.parametrize("command", WRITERS)
def test_what_made_it(command, tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    seed, build_id = WRITERS[command](path, monkeypatch)
    facts = json.loads(path.read_text())["ringnic"]
    assert facts.keys() == FACTS and facts["version"] == ringnic.__version__ and facts["began"] <= facts["ended"]
    assert (facts["seed"], facts["build_id"]) == (seed, build_id)


def test_no_command_is_missing():
    commands = typer.main.get_command(app).commands
    found = {name for name, command in commands.items() if OPTIONS & {param.name for param in command.params}}
    assert found == WRITERS.keys() - WITHOUT_OPTION


def test_no_other_file_of_results():
    """Who writes JSON to a file otherwise: not for people, or what `ringnic fuzz --replay` reads."""
    root = Path(ringnic.host.__path__[0])
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if "json.dump" in path.read_text()}
    assert found == {"results.py", "area.py", "fuzz.py", "outcomes.py", "guest/qemu.py", "mutation/nearest.py",
                     "mutation/process.py", "mutation/run.py", "slot/state.py"}
