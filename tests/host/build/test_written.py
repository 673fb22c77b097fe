"""What `ringnic build` wrote, read back: it is used as it is, or not at all."""

import hashlib
import json
from pathlib import Path

import pytest

from ringnic.boards.table import BOARDS
from ringnic.host.build import command, written as module
from ringnic.host.build.command import BuildError
from ringnic.host.build.written import written

from ...kit.ports import port_list

BOARD = BOARDS["ax7203"]
VERILOG, MANIFEST = Path("build/ax7203/ringnic_ax7203.v"), Path("build/ax7203/project.json")


@pytest.fixture(autouse=True)
def builder(tmp_path, monkeypatch):
    """An empty folder, and a builder that writes the ports of the card only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_verilog", lambda board, *, lanes, **_options: port_list(board, lanes))
    for one in (command, module):
        monkeypatch.setattr(one, "build_id", lambda *facts: 0x1234)


def read():
    said = []
    return written(BOARD, said.append), said


def test_without_a_build_one_is_written():
    found, said = read()
    assert said == ["writing build/ax7203"]
    assert (found.top, found.lanes, found.pairs, found.current) == ("ringnic_ax7203", 1, 4, True)
    assert found.verilog == VERILOG.read_text() and found.sha256 == hashlib.sha256(VERILOG.read_bytes()).hexdigest()
    assert sorted(path.name for path in Path("build").iterdir()) == ["ax7203"]


def test_a_build_is_used_as_it_is():
    command.write_only(BOARD, lanes=4, pairs=2)
    found, said = read()
    assert said == [] and (found.lanes, found.pairs) == (4, 2) and found.verilog == port_list(BOARD, 4)


def test_a_build_of_other_sources_says_so(monkeypatch):
    command.write_only(BOARD)
    monkeypatch.setattr(module, "build_id", lambda *facts: 0x1235)
    found, said = read()
    assert not found.current and said == []


@pytest.mark.parametrize("name", ["project.json", "of_somebody_else.v"])
def test_what_is_not_ours_stays(name):
    MANIFEST.parent.mkdir(parents=True)
    MANIFEST.with_name(name).write_text("{")
    with pytest.raises(BuildError, match="^build/ax7203 holds no project of `ringnic build`: move it away, or "):
        read()
    assert [path.name for path in MANIFEST.parent.iterdir()] == [name]


def test_a_changed_build_is_refused():
    command.write_only(BOARD)
    VERILOG.write_text(VERILOG.read_text() + "\n")
    with pytest.raises(BuildError, match="^build/ax7203/ringnic_ax7203.v changed since it was written: ringnic build "):
        read()


def test_a_missing_file_is_named():
    command.write_only(BOARD)
    VERILOG.unlink()
    with pytest.raises(BuildError, match="^build/ax7203/ringnic_ax7203.v is missing: ringnic build ax7203 --project$"):
        read()


@pytest.mark.parametrize("name, value", [
    ("files", {}), ("files", []), ("files", None), ("lanes", None), ("lanes", "1"), ("lanes", 8), ("queue_pairs", None),
    ("queue_pairs", "4"), ("mac_address", 7), ("mac_address", "zz"), ("features", None), ("build_id", None),
    ("board", "kc705")])
def test_a_manifest_of_another_make_is_refused(name, value):
    command.write_only(BOARD)
    manifest = json.loads(MANIFEST.read_text())
    if value is None:
        del manifest[name]
    else:
        manifest[name] = value
    MANIFEST.write_text(json.dumps(manifest))
    with pytest.raises(BuildError, match="^build/ax7203 is not as `ringnic build` writes it"):
        read()
