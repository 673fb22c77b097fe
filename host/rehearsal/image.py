"""The initramfs of the outer machine: busybox, a Python, this project as a user has it, a QEMU, and all that the inner guest is.

Programs and Python are this machine's own, in the places where they are here, so nothing is fetched but what a guest run
needs anyway. Times of files are kept: Python trusts a compiled file by them.
"""

from importlib.metadata import distribution
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

from packaging.requirements import Requirement

from ..checkout import ROOT
from ..guest.assets import AssetError, Tools
from ..guest.cpio import Cpio
from ..guest.initramfs import add_base, build_initramfs, module_order

__all__ = ["INNER_INITRAMFS", "INNER_KERNEL", "build_image"]

INNER_KERNEL, INNER_INITRAMFS = "/inner/vmlinuz", "/inner/initramfs.gz"
PROJECT, PACKAGES, QEMU = "/opt/ringnic", "/opt/packages", "/opt/qemu"
ROOMS = ("hdl", "host", "sim", "boards")
# What the project's commands import where no simulator is: for a card's owner there is no need of the rest.
REQUIRED = ("typer", "rich", "amaranth", "pytest")
# Of Python's own library, what nothing here imports.
LEFT_OUT = shutil.ignore_patterns("test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages",
                                  "dist-packages", "pydoc_data", "config-*", "*.opt-1.pyc", "*.opt-2.pyc", "*.a")


def _libraries(programs):
    """Return the shared libraries that programs and libraries of this machine load, by the word of its loader."""
    found = set()
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True)
        if "not found" in listed.stdout:
            raise AssetError(f"{program} needs a library that is missing: {listed.stdout.strip()}")
        found |= set(re.findall(r"(/\S+) \(0x", listed.stdout))
    return found


def _distributions(names):
    """Return the installed distributions of these names and all that they require."""
    found = {}

    def visit(name):
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key not in found:
            found[key] = distribution(name)
            for text in found[key].requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    visit(needed.name)
    for name in names:
        visit(name)
    return found.values()


class _Tree:
    """Files by their path in the machine, from folders here."""
    def __init__(self, cpio):
        self._cpio = cpio
        self._there = set()

    def file(self, path, source):
        """Add a file, unless it is there: programs share libraries."""
        if str(path) in self._there:
            return
        self._there.add(str(path))
        info = os.stat(source)
        self._cpio.file(str(path), Path(source).read_bytes(), info.st_mode & 0o777, mtime=int(info.st_mtime))

    def folder(self, path, source):
        for folder, _, files in os.walk(source):
            for name in files:
                whole = Path(folder, name)
                self.file(Path(path) / whole.relative_to(source), whole)


def _stage_packages(stage):
    for each in _distributions(REQUIRED):
        for file in each.files or ():
            source = Path(each.locate_file(file))
            if source.is_file() and ".." not in file.parts:
                target = stage / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


def _stage_project(stage):
    for room in ROOMS:
        shutil.copytree(ROOT / room, stage / room, ignore=shutil.ignore_patterns("*.png"))
    for name in ("tests/conformance", "tests/kit", "tests/plan"):
        shutil.copytree(ROOT / name, stage / name)
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy2(ROOT / name, stage / name)


def _compile(stage):
    """Have all of it compiled, which the outer machine would take minutes for."""
    # In one process, which an interruption ends: workers would write into a folder that is being removed.
    subprocess.run([sys.executable, "-m", "compileall", "-q", stage], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "PYTHONPYCACHEPREFIX": ""})  # beside the sources, even if ours are elsewhere


def _python(tree, stage):
    """Add this machine's Python; return its path."""
    program = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    staged = stage / "stdlib"
    shutil.copytree(library, staged, ignore=LEFT_OUT, symlinks=False)
    _compile(staged)
    tree.folder(library, staged)
    for path in {program, *_libraries([program, *staged.rglob("*.so")])}:
        tree.file(path, path)
    return program


def _modules(cpio, kernel):
    """Add what ``modprobe vfio-pci`` loads: with it the container of type 1, which VFIO asks for by a soft dependency."""
    folder = f"/lib/modules/{kernel.release}"
    names = {path.name.partition(".ko")[0] for path in kernel.modules.rglob("*.ko*")}
    files = {name.replace("-", "_"): f"{name}.ko" for name in names}
    order = module_order(kernel.modules, ("vfio_iommu_type1", "vfio_pci"))
    for name, data in order:
        cpio.file(f"{folder}/{files[name]}", data)
    *before, last = [files[name] for name, _ in order]
    cpio.file(f"{folder}/modules.dep", f"{last}: {' '.join(reversed(before))}\n".encode())


def build_image(kernel, inner_kernel, tools, qemu, programs):
    """Return the outer machine's initramfs, not compressed, as bytes.

    ``kernel`` and ``inner_kernel`` are of the outer machine and of the guest in it; ``qemu`` is a
    :class:`~..guest.assets.Qemu` that lies in a folder of its own. ``programs``: files by their place in the outer machine; of
    libraries that this machine has too, its own are taken.
    """
    cpio = Cpio()
    tree = _Tree(cpio)
    add_base(cpio, kernel, Tools(tools.busybox, {}))
    with tempfile.TemporaryDirectory(prefix="ringnic-image-") as folder:
        stage = Path(folder)
        _stage_packages(stage / "packages")
        _stage_project(stage / "project")
        for name, path in (("packages", PACKAGES), ("project", PROJECT)):
            _compile(stage / name)
            tree.folder(path, stage / name)
        extensions = [path for path in (stage / "packages").rglob("*.so")]
        for path in _libraries(extensions):
            tree.file(path, path)
        python = _python(tree, stage)
    for room in ROOMS:
        cpio.link(f"{PACKAGES}/ringnic/{room}", f"{PROJECT}/{room}")
    cpio.file(f"{PACKAGES}/ringnic/__init__.py", (ROOT / "host/package/__init__.py").read_bytes())
    cpio.file(f"{PACKAGES}/bin/ringnic", b"from ringnic.host.cli import main\nmain()\n")
    cpio.file("/bin/ringnic", f'#!/bin/sh\nPYTHONPATH={PACKAGES} exec {python} {PACKAGES}/bin/ringnic "$@"\n'.encode(), 0o755)
    setpriv = shutil.which("setpriv")
    tree.file("/bin/setpriv", setpriv)  # busybox has one that does less
    for path in _libraries([setpriv]):
        tree.file(path, path)
    for place, path in programs.items():
        tree.file(place, path)
    tree.folder(QEMU, qemu.folder)
    argv = (arg.replace(str(qemu.folder), QEMU) for arg in qemu.argv)
    cpio.file("/bin/qemu-system-x86_64", f"#!/bin/sh\nexec {' '.join(argv)} \"$@\"\n".encode(), 0o755)
    _modules(cpio, kernel)
    tree.file(INNER_KERNEL, inner_kernel.image)
    cpio.file(INNER_INITRAMFS, build_initramfs(inner_kernel, tools))
    return cpio.getvalue()
