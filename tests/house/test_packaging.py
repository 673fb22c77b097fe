"""What ``pyproject.toml`` says of the package is what is there."""

from pathlib import Path
import tomllib

ROOT = Path(__file__).parents[2]
ROOMS = ("boards", "hdl", "host", "sim")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SELF = ROOT / SETUPTOOLS["package-dir"]["ringnic"]


def files():
    """Every file of the rooms that git may keep."""
    return [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file() and path.parent.name != "__pycache__"]


def package(folder):
    return "ringnic" if folder == SELF else ".".join(("ringnic", *folder.relative_to(ROOT).parts))


def test_every_folder_is_a_package():
    found = {package(path.parent) for path in files() if path.suffix == ".py"}
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_every_package_says_so():
    assert [path for path in {path.parent for path in files()} if not (path / "__init__.py").exists()] == []


def test_every_other_file_is_package_data():
    data = SETUPTOOLS["package-data"]
    missing = [path for path in files() if path.suffix != ".py" and
               not any(path.match(pattern) for pattern in data.get(package(path.parent), ()))]
    assert missing == []
