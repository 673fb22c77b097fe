"""A stand-in for Vivado: the build's own Tcl under tclsh, with commands that check what they are told."""

from pathlib import Path
import shutil
import subprocess

import pytest

from ringnic.boards.table import BOARDS
from ringnic.host.build.project import write_project

from ...kit.ports import port_list

STAND_INS = Path(__file__).with_name("vivado.tcl")


@pytest.fixture(scope="session")
def tclsh():
    """The path of tclsh."""
    if (found := shutil.which("tclsh")) is None:
        pytest.fail("tclsh is missing: apt install tcl", pytrace=False)
    return found


@pytest.fixture
def project(tmp_path):
    """Writes the project of a board, with its ports for Verilog, into a folder; returns that."""
    def project(name="ax7203", lanes=1):
        board, folder = BOARDS[name], tmp_path / f"{name}-{lanes}"
        folder.mkdir()
        write_project(board, folder, port_list(board, lanes), lanes=lanes, pairs=4, mac_address=None, features={32}, build_id=7)
        return folder
    return project


@pytest.fixture
def run_tcl(tclsh):
    """Runs a script of a project with the stand-ins; returns the finished process."""
    def run_tcl(folder, script="build.tcl", **environment):
        return subprocess.run([tclsh, STAND_INS, script], cwd=folder, env=environment, capture_output=True, text=True)
    return run_tcl


@pytest.fixture
def vivado(tclsh, tmp_path, monkeypatch):
    """Puts the stand-in on PATH as ``vivado``; returns a function that says what goes wrong in the next run."""
    folder = tmp_path / "vivado" / "bin"
    folder.mkdir(parents=True)
    (folder / "vivado").write_text(f"""#!/bin/sh
case "$1" in
-version) echo "vivado v${{VERSION:-2023.2}} (64-bit)"; exit ;;
esac
for script; do :; done    # the last word
{tclsh} {STAND_INS} "$script" >vivado.log 2>&1
""")
    (folder / "vivado").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def goes_wrong(fault="", version="2023.2"):
        monkeypatch.setenv("FAULT", fault)
        monkeypatch.setenv("VERSION", version)
    goes_wrong()
    return goes_wrong
