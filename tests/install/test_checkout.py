"""A checkout that is not the user's: with RINGNIC_CACHE it is set up and used, and nothing is written to it."""

import os
from pathlib import Path
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.long   # an environment of its own
ROOT = Path(__file__).resolve().parents[2]
MADE = {".git", ".ringnic", "build"}  # what belongs to the checkout's owner


@pytest.fixture
def checkout(tmp_path):
    """A copy without write permission, which root can ignore."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT, folder, ignore=lambda at, names: {
        name for name in names if name == "__pycache__" or name in MADE and Path(at) == ROOT})
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield folder
    for path, mode in modes.items():
        path.chmod(mode)


def content(folder):
    """Each path below a folder, with its size and the time of its last change."""
    return {path.relative_to(folder): (found.st_size, found.st_mtime_ns)
            for path in [folder, *folder.rglob("*")] for found in [path.lstat()]}


def test_nothing_is_written_to_it(checkout, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RINGNIC_", "PYTHON", "PYTEST_"))}
    environment["RINGNIC_CACHE"] = str(tmp_path / "cache")
    before = content(checkout)

    def run(*argv):
        done = subprocess.run([checkout / "ringnic", *argv], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert run("--version").startswith("ringnic ")
    assert "ax7203" in run("build", "--list")
    run("build", "captain_75t", "--project")
    assert " passed" in run("test", "tests/hdl/lib/test_slice.py", "tests/house/test_text.py")
    after = content(checkout)
    assert [path for path in before | after if before.get(path) != after.get(path)] == []
