"""Vivado as a program: where it is, which version, one run of a script."""

from dataclasses import dataclass
import re
import shutil
import subprocess

from ..guest.process import child
from .script import SCRIPT, VERSIONS

__all__ = ["LOG", "Vivado", "find_vivado"]

LOG = "vivado.log"


@dataclass(frozen=True)
class Vivado:
    """``fits``: the version is one that projects are made for."""
    path: str
    version: str

    @property
    def fits(self):
        number = tuple(map(int, self.version.split(".")))
        first, last = (tuple(map(int, version.split("."))) for version in VERSIONS)
        return first <= number <= last

    def run(self, folder):
        """Run the build script in ``folder``; return the exit status. The log is in the folder."""
        argv = ["nice", self.path, "-mode", "batch", "-nojournal", "-notrace", "-log", LOG, "-source", SCRIPT]
        with open(folder / "output.txt", "w") as output, \
                child(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as process:
            return process.wait()


def find_vivado():
    """The :class:`Vivado` on PATH; None if there is none. Its version is ``0`` if it does not say one."""
    path = shutil.which("vivado")
    if path is None:
        return None
    try:
        said = subprocess.run([path, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    except OSError:
        said = ""
    found = re.search(r"[Vv]ivado v(\d+\.\d+)", said)
    return Vivado(path, found[1] if found else "0")
