"""The launcher, with a machine made of stand-ins: what it asks for, what it runs, and what an interrupted set-up leaves."""

import os
from pathlib import Path
import shutil
import subprocess

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "cat", "sha256sum", "readlink", "dirname", "mkdir", "rm", "mv", "flock", "sort", "tr", "chmod", "env", "df", "awk")
PYTHON = """#!/bin/sh
echo "python $*" >>"$LOG"
case "$*" in
*"-m venv "*) mkdir -p "$3/bin"; cp_self; ;;
*"-m pip "*) cat "$DIST_EXTRA_CONFIG" 2>/dev/null >>"$LOG"; [ -z "$PIP_FAILS" ] || exit 1; printf '#!/bin/sh\\necho "ran $*"; echo "compiled: $PYTHONPYCACHEPREFIX" >>"$LOG"; exit 5\\n' >"${0%/*}/ringnic"; chmod +x "${0%/*}/ringnic" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A copy of the launcher, and a PATH with nothing but what is put there."""
    folder = tmp_path / "repository"
    folder.mkdir()
    shutil.copy(ROOT / "ringnic", folder)
    (folder / "pyproject.toml").write_text("one")
    (folder / ".ci").mkdir()
    (folder / ".ci/requirements.txt").write_text("one")
    path = tmp_path / "bin"
    path.mkdir()
    for name in TOOLS:
        (path / name).symlink_to(shutil.which(name))
    script = PYTHON.replace("cp_self", 'cat "$0" >"$3/bin/python"; chmod +x "$3/bin/python"')
    for name, text in {"python3": script, "g++": "", "make": "", "tclsh": "", "id": "#!/bin/sh\necho 1000\n"}.items():
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    log = tmp_path / "log"

    def run(*args, **env):
        log.write_text("")
        done = subprocess.run([folder / "ringnic", *args], text=True, capture_output=True,
                              env={"PATH": str(path), "LOG": str(log), "PIP_FAILS": "", **env})
        return done.returncode, done.stdout, done.stderr, log.read_text()
    run.path, run.folder = path, folder
    return run




def test_sets_up_once_and_passes_arguments(machine):
    status, out, err, log = machine("demo", "--seed", "a b")
    assert (status, out) == (5, "ran demo --seed a b\n")
    made, locked, project = [line for line in log.splitlines() if line.startswith("python -m")][-3:]
    assert made.startswith("python -m venv") and "ready" in err
    assert locked.endswith(f"--no-deps --require-hashes --only-binary :all: --requirement {machine.folder}/.ci/requirements.txt")
    assert project.endswith(f"--no-deps --no-build-isolation --editable {machine.folder}")
    assert machine("--help") == (5, "ran --help\n", "", "compiled: \n")
    (machine.folder / "pyproject.toml").write_text("two")
    assert "-m venv" in machine()[3]
    assert machine()[3] == "compiled: \n"
    (machine.folder / ".ci/requirements.txt").write_text("two")
    assert "-m venv" in machine()[3]


def test_cache_elsewhere(machine, tmp_path):
    """All that is written is there: what setuptools makes on its way, and what Python compiles."""
    cache = tmp_path / "elsewhere"
    status, _out, _err, log = machine("x", RINGNIC_CACHE=str(cache))
    assert status == 5
    assert f"egg_base = {cache}/setup\n" in log and f"build_base = {cache}/setup\n" in log
    assert f"compiled: {cache}/pycache\n" in log
    assert (cache / "venv/stamp").exists() and not (cache / "setup").exists()
    assert sorted(path.name for path in machine.folder.iterdir()) == [".ci", "pyproject.toml", "ringnic"]


def test_a_cache_that_cannot_be_written(machine):
    status, out, err, log = machine("x", RINGNIC_CACHE="/proc/none")
    assert (status, out, log) == (1, "", "")
    assert err == "ringnic: cannot write /proc/none; set RINGNIC_CACHE to a folder of yours\n"


def test_runs_from_anywhere_and_through_a_link(machine, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(machine.folder / "ringnic")
    done = subprocess.run([link], capture_output=True, text=True, cwd="/",
                          env={"PATH": str(machine.path), "LOG": os.devnull, "PIP_FAILS": ""})
    assert done.stdout == "ran \n" and (machine.folder / ".ringnic/venv/stamp").exists()


def test_failed_set_up_starts_over(machine):
    status, _out, err, _log = machine(PIP_FAILS="1")
    assert status == 1 and not (machine.folder / ".ringnic/venv/stamp").exists()
    assert err.splitlines()[-1] == "ringnic: set-up failed; fix the error above and run this again"
    assert machine("x")[:2] == (5, "ran x\n")


def test_a_full_disk_is_named(machine):
    (machine.path / "df").unlink()
    (machine.path / "df").write_text("#!/bin/sh\necho Filesystem Blocks Used Available\necho /dev/a 9 9 0\n")
    (machine.path / "df").chmod(0o755)
    status, _out, err, _log = machine(PIP_FAILS="1")
    assert status == 1 and err.splitlines()[-1] == f"ringnic: {machine.folder}/.ringnic: No space left on device"


def test_missing_packages_without_a_way_to_install(machine):
    (machine.path / "g++").unlink()
    status, _out, err, _log = machine()
    assert status == 1 and "install what corresponds to these Debian packages" in err and "g++" in err
    (machine.path / "apt-get").symlink_to("/bin/false")
    status, _out, err, _log = machine()
    assert status == 1 and "run as root: apt-get install --no-install-recommends" in err and "g++" in err


@pytest.mark.parametrize("user", ["root", "sudo"])
def test_installs_only_what_is_missing(user, machine):
    (machine.path / "make").unlink()
    (machine.path / "apt-get").write_text('#!/bin/sh\necho "apt-get $*" >>"$LOG"\n')
    (machine.path / "apt-get").chmod(0o755)
    if user == "root":
        (machine.path / "id").write_text("#!/bin/sh\necho 0\n")
    else:
        (machine.path / "sudo").write_text('#!/bin/sh\necho sudo >>"$LOG"\nexec "$@"\n')
        (machine.path / "sudo").chmod(0o755)
    status, _out, _err, log = machine()
    assert status == 5
    assert "apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends make\n" in log
    assert ("sudo" in log) == (user == "sudo")
