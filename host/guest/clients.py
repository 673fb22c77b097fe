"""Clients of the card beside Linux's own driver, from Debian's packages: the firmware U-Boot, and DPDK's testpmd."""

from pathlib import Path
import shutil

from .assets import LIBRARIES, libraries, library_place
from .cache import cache_dir, entry
from .debian import Archive

__all__ = ["TESTPMD", "TESTPMD_DRIVERS", "find_testpmd", "find_uboot"]

SUITES = ("trixie",)
# In the guest. The drivers are libraries that testpmd is not linked with; it must be told of them.
TESTPMD = "/usr/bin/dpdk-testpmd"
TESTPMD_DRIVERS = tuple(f"{LIBRARIES}/librte_{name}.so.25" for name in ("mempool_ring", "net_virtio"))


def _fetch_uboot(folder, say):
    say("Fetching U-Boot (2 MB)")
    with Archive(cache_dir() / "apt-uboot", SUITES) as archive:
        archive.unpack(["u-boot-qemu"], folder / "all")
    shutil.copy2(folder / "all/usr/lib/u-boot/qemu-x86_64/u-boot.rom", folder)
    shutil.rmtree(folder / "all")


def find_uboot(say=print):
    """Return U-Boot for QEMU's PC: an image to give to ``-bios``."""
    return entry("uboot", lambda folder: _fetch_uboot(folder, say)) / "u-boot.rom"


def _fetch_testpmd(folder, say):
    say("Fetching DPDK's testpmd and its libraries (about 30 MB)")
    root = folder / "all"
    with Archive(cache_dir() / "apt-testpmd", SUITES) as archive:
        # testpmd is in a package for developers. Of what that depends on it loads the libraries, by name, and nothing else.
        packages = archive.closure(["dpdk-dev", "librte-net-virtio25", "librte-mempool-ring25"],
                                   r"(lib.*(?<!-dev)|zlib1g|ibverbs-providers)")
        archive.unpack(packages, root)
    programs = [root / TESTPMD.lstrip("/"), *(root / "usr" / name.lstrip("/") for name in TESTPMD_DRIVERS)]
    for path in {*programs, *(library for program in programs for library in libraries(root, program))}:
        shutil.copy2(path, folder / path.name)  # follows the link: one file each, by the name that the loader looks for
    shutil.rmtree(root)


def find_testpmd(say=print):
    """Return :data:`TESTPMD`, :data:`TESTPMD_DRIVERS` and the libraries that they load: path in the guest to file here."""
    root = entry("testpmd", lambda folder: _fetch_testpmd(folder, say))
    return {TESTPMD if path.name == Path(TESTPMD).name else library_place(path.name): path for path in root.iterdir()}
