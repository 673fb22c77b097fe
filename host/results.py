"""The JSON file that a command writes about its run: what was found, and which program found it, when and how."""

from datetime import datetime, timezone
import json
from pathlib import Path
import shlex
import sys

from .checkout import commit
from .errors import naming

__all__ = ["about", "simulated_build_id", "write_json"]

BEGAN = datetime.now(timezone.utc)  # of the command, whose module imports this one


def about(*, build_id=None, seed=None, command=None):
    """Return what every report says of its run.

    ``build_id``: of the card, eight hexadecimal digits. ``command``: the command line, if it is not to be as it was given.
    """
    from .. import __version__
    return {"version": __version__, "commit": commit(), "build_id": build_id, "seed": seed,
            "command": shlex.join(["ringnic", *sys.argv[1:]]) if command is None else command,
            "began": BEGAN.isoformat(timespec="seconds"),
            "ended": datetime.now(timezone.utc).isoformat(timespec="seconds")}


def simulated_build_id():
    """Return the build id of a card that is simulated from these sources."""
    from ..sim.engine.build import sources_digest  # and all that a simulator needs
    return sources_digest()[:8]


def write_json(path, found, **facts):
    """Write the dict ``found`` to a file, with ``ringnic``: the facts of :func:`about`."""
    with naming(path):
        Path(path).write_text(json.dumps({"ringnic": about(**facts), **found}, indent=2) + "\n")
