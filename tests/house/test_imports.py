"""Who may import whom: the rooms of the house, read from the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"hdl", "host", "sim", "boards"}
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(source, path):
    """Modules of the project that a file imports, as tuples of names below ``ringnic``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                module = ("ringnic", *path.parts[:-node.level], *module)
            # What is imported may itself be a module: `from ..spec import virtio`, `from .. import spec`.
            names = [(*module, alias.name) for alias in node.names]
        else:
            continue
        yield from (name[1:] for name in names if name[0] == "ringnic" and len(name) > 1)


def allowed(path, target):
    package, *rest = path.parts
    if package == "hdl":
        if target[0] != "hdl":
            return False
        if len(rest) == 1:
            return True
        room = rest[0]
        if room == "spec":
            return target[1] == "spec"
        return target[1] in ("spec", "lib", room)
    if package == "host":
        return target[0] != "hdl" or target[1:2] == ("spec",)
    return True


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports(path):
    wrong = [".".join(target) for target in imports((ROOT / path).read_text(), path) if not allowed(path, target)]
    assert not wrong


@pytest.mark.parametrize("path, source, verdict", [
    ("hdl/net/rx.py", "from ..lib.dma import ReadPort", True),
    ("hdl/net/rx.py", "from ..spec import net", True),
    ("hdl/net/rx.py", "from .tx import Transmit", True),
    ("hdl/net/rx.py", "from ..pcie.dma import Reader", False),
    ("hdl/net/rx.py", "import ringnic.hdl.mac.gmii", False),
    ("hdl/net/rx.py", "from .. import pcie", False),
    ("hdl/lib/rx.py", "from ..net.rx import Receive", False),
    ("hdl/lib/rx.py", "from ..spec.bar import COUNTERS", True),
    ("hdl/spec/rx.py", "from ..lib.dma import ReadPort", False),
    ("hdl/nic.py", "from .pcie.dma import Reader", True),
    ("hdl/function.py", "from .transport.transport import Transport", True),
    ("hdl/nic.py", "from .function import VirtioFunction", True),
    ("hdl/net/rx.py", "from ..function import VirtioFunction", False),
    ("hdl/nic.py", "from ringnic.host import driver", False),
    ("host/driver/net.py", "from ...hdl.spec import net", True),
    ("host/driver/net.py", "def f():\n    from ringnic.hdl.nic import RingNIC", False),
    ("host/driver/net.py", "from ...hdl import nic", False),
    ("host/bus/engine.py", "from ...sim.engine.engine import Engine", True),
    ("host/driver/net.py", "import os, amaranth", True),
    ("sim/engine/build.py", "from ringnic.hdl.nic import RingNIC", True),
])
def test_the_rule(path, source, verdict):
    path = Path(path)
    assert all(allowed(path, target) for target in imports(source, path)) == verdict
