"""What `ringnic build` wrote for a board, read back and checked."""

from dataclasses import dataclass
import hashlib

from ...hdl.spec.pcie_7x import LINKS
from .command import FOLDER, BuildError, build_id, write_only
from .project import read_manifest, top_name

__all__ = ["Written", "written"]


@dataclass(frozen=True)
class Written:
    """A build's Verilog and what it was made of. ``current``: the sources here would make the same of it."""
    verilog: str
    sha256: str
    top: str
    lanes: int
    pairs: int
    current: bool


def written(board, update):
    """The :class:`Written` in build/BOARD, which is written if there is no such folder. Raises :exc:`BuildError`.

    ``update``: called with a text on how far this is.
    """
    place = FOLDER / board.name
    if not place.exists():
        update(f"writing {place}")
        write_only(board)
    manifest = read_manifest(place)
    if manifest is None:
        raise BuildError(f"{place} holds no project of `ringnic build`: move it away, or ringnic build {board.name} --project")
    file = place / f"{top_name(board)}.v"
    try:
        content = file.read_bytes()
        wanted = manifest["files"][file.name]
        lanes, pairs, features = manifest["lanes"], manifest["queue_pairs"], manifest["features"]
        address = None if manifest["mac_address"] is None else int(manifest["mac_address"].replace(":", ""), 16)
        if manifest["board"] != board.name or lanes not in LINKS or not isinstance(pairs, int):
            raise ValueError
        number = build_id(board, lanes, pairs, address, features)
        current = manifest["build_id"] == f"{number:08x}"
    except FileNotFoundError:
        raise BuildError(f"{file} is missing: ringnic build {board.name} --project") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BuildError(f"{place} is not as `ringnic build` writes it: ringnic build {board.name} --project") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != wanted:
        raise BuildError(f"{file} changed since it was written: ringnic build {board.name} --project")
    return Written(content.decode(), digest, top_name(board), lanes, pairs, current)
