"""The wheel, installed far from the checkout: it has all that a simulated card is made of."""

import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig

import pytest

import ringnic

pytestmark = pytest.mark.long   # an environment of its own, and a simulator built in it
ROOT = Path(__file__).resolve().parents[2]
PACKED = ("hdl", "host", "sim", "boards", "README.md", "LICENSE", "pyproject.toml")
# A card is built, from the Verilog on, and answers: an entropy device, the smallest.
CARD = """
from pathlib import Path
import ringnic
from ringnic.sim.engine.engine import Engine

assert Path(ringnic.__file__).is_relative_to(Path.cwd()), ringnic.__file__
with Engine(card="entropy") as card:
    card.run(100)
    print(f"{card.config_read(0, 4):08x}", card.stats()["cycles"] >= 100)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a virtual environment that has the wheel, and its dependencies from the one that runs this."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools leaves its work beside the sources
    source.mkdir()
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, source], check=True)
    [wheel] = folder.glob("ringnic-*.whl")
    assert wheel.name == f"ringnic-{ringnic.__version__}-py3-none-any.whl"
    place = folder / "far"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    subprocess.run([*pip, "--python", place / "venv/bin/python", "install", "--no-deps", wheel], check=True)
    [packages] = (place / "venv").glob("lib/python*/site-packages")
    # As a path only: the editable install that is there too is not looked at.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(source)
    return place


def settings(place):
    """How to start a program of the virtual environment as a user with an empty home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RINGNIC_", "PYTHON", "XDG_"))}
    return {"cwd": place, "text": True, "env": environment | {"HOME": str(place / "home")}}


def run(place, *argv):
    return subprocess.run([place / "venv/bin" / argv[0], *argv[1:]], capture_output=True, **settings(place))


def test_a_card_is_built_and_answers(place):
    done = run(place, "python", "-c", CARD)
    assert (done.returncode, done.stdout) == (0, "10441af4 True\n"), done.stderr
    assert [path.suffix for path in (place / "home/.cache/ringnic/build").glob("nic-*")] == [".so"]


def test_a_card_is_served(place):
    command = [place / "venv/bin/ringnic", "serve", "--card", "entropy", "card.sock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings(place)) as process:
        try:
            first = process.stdout.readline()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(place / "card.sock"))
        finally:
            process.send_signal(signal.SIGINT)
            rest, errors = process.stdout.read(), process.stderr.read()
    assert first == f"{place}/card.sock\n" and "vfio-user-pci" in rest, errors
    assert process.returncode == 0 and errors.endswith("ringnic: ended\n"), errors


def test_commands(place):
    assert run(place, "ringnic", "--version").stdout == f"ringnic {ringnic.__version__}\n"
    done = run(place, "ringnic", "test")
    assert (done.returncode, done.stdout) == (1, "") and "needs a checkout" in done.stderr
    done = run(place, "ringnic", "build", "--list")
    assert done.returncode == 0 and "ax7203" in done.stdout, done.stderr


def test_every_file_of_the_package_is_there(place):
    """What is not Python too: Verilog, C++, shell."""
    [package] = (place / "venv").glob("lib/python*/site-packages/ringnic")
    for room in ("hdl", "host", "sim", "boards"):
        files = {path.relative_to(ROOT / room) for path in (ROOT / room).rglob("*.*")
                 if path.is_file() and "__pycache__" not in path.parts}
        there = {path.relative_to(package / room) for path in (package / room).rglob("*.*") if "__pycache__" not in path.parts}
        assert files - there <= {Path("package/__init__.py")}, room
