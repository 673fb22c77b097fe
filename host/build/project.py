"""The files of a build: everything that Vivado needs, on this machine or on another, and a list of what they are."""

import hashlib
import json

from ..results import write_json
from .constraints import clock_constraints, pin_constraints
from .ip import ip_properties
from .script import SCRIPT, VERSIONS, build_script, ip_script

__all__ = ["MANIFEST", "image_files", "read_manifest", "top_name", "write_project"]

MANIFEST = "project.json"


def top_name(board):
    """The top module of a board's card, and the stem of its files."""
    return f"ringnic_{board.name}"


def image_files(board):
    """``(file name, offset in the flash)`` of all bitstreams that a build leaves, the plain one for the flash first.

    The offset of what does not go into the flash is None.
    """
    top, fallback = top_name(board), board.configuration.fallback
    files = [(f"{top}.bin", 0), (f"{top}.bit", None)]
    return files if fallback is None else [*files, (f"{top}_fallback.bin", 0), (f"{top}_update.bin", fallback)]


def write_project(board, folder, verilog, *, lanes, pairs, mac_address, features, build_id):
    """Write all files of a build into an empty ``folder``; return what the manifest says.

    ``mac_address``: 48 bits, or None for one made of the FPGA's serial number. ``features``: numbers of the feature bits offered.
    """
    top = top_name(board)
    properties = ip_properties(lanes=lanes, generation=board.generation, vectors=2 * pairs + 2)
    files = {
        f"{top}.v": verilog,
        f"{top}_pins.xdc": pin_constraints(board),
        f"{top}_clocks.xdc": clock_constraints(board),
        "ip.tcl": ip_script(properties),
        SCRIPT: build_script(board, lanes=lanes, top=top),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    manifest = {
        "board": board.name, "part": board.vivado_part, "top": top, "lanes": lanes, "generation": board.generation,
        "queue_pairs": pairs, "features": sorted(features), "build_id": f"{build_id:08x}",
        "mac_address": None if mac_address is None else mac_address.to_bytes(6, "big").hex(":"),
        "vivado": {"first": VERSIONS[0], "last": VERSIONS[1]},
        "files": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()},
    }
    write_json(folder / MANIFEST, manifest, build_id=manifest["build_id"])
    return manifest


def read_manifest(folder):
    """What :func:`write_project` has written there; None if it has not, or not whole."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
        if not isinstance(found, dict) or "board" not in found:
            return None
        found.pop("ringnic", None)  # of the run that wrote it
        return found
    except (OSError, ValueError):
        return None
