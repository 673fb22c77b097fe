"""What a guest run needs from outside: a QEMU with ``vfio-user-pci``, stock kernels, busybox and ethtool."""

from dataclasses import dataclass
from pathlib import Path
import re
import shutil
import subprocess

from .cache import cache_dir, entry
from .debian import Archive, AssetError
from .initramfs import DRIVERS, module_order

__all__ = ["AssetError", "KERNELS", "LIBRARIES", "Kernel", "Qemu", "Tools", "debian_qemu", "find_generic_kernel", "find_kernel",
           "find_qemu", "find_shell_tools", "find_tools", "libraries", "library_place"]

QEMU_MIN = (10, 1)  # the first release with the device vfio-user-pci
# Names of kernels, and the suites whose stock cloud kernel each is; "backports" is the newest for Debian's stable release.
KERNELS = {"6.1": ("bookworm",), "6.12": ("trixie",), "backports": ("trixie", "trixie-backports")}
# Debian's package of the newest kernel of each flavour, and what it is to download.
META_PACKAGES = {"cloud": "linux-image-cloud-amd64", "generic": "linux-image-amd64"}
KERNEL_MB = {"cloud": 30, "generic": 70}
LIBRARIES = "/lib/x86_64-linux-gnu"  # of a guest
_LIBS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")  # after and before Debian merged /lib into /usr


@dataclass(frozen=True)
class Qemu:
    """``argv``: how to start it; ``version``: as it says itself; ``folder``: where all of it lies, None if in the system."""
    argv: tuple
    version: str
    folder: Path | None = None


@dataclass(frozen=True)
class Kernel:
    """``image``: a bzImage; ``modules``: its ``lib/modules/RELEASE`` folder; ``release``: as ``uname -r`` says."""
    image: Path
    modules: Path
    release: str


@dataclass(frozen=True)
class Tools:
    """``busybox``: one static executable; ``files``: path in the guest to file here, for ethtool and its libraries."""
    busybox: Path
    files: dict


def _version(argv):
    try:
        text = subprocess.run([*argv, "--version"], capture_output=True, text=True, check=True,
                              stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"version (\d+)\.(\d+)\S*", text)
    return match and ((int(match[1]), int(match[2])), match[0].removeprefix("version "))


def libraries(root, program):
    """Return the shared libraries below ``root`` that ``program`` loads, by the word of root's own loader."""
    folders = [root / lib for lib in _LIBS if (root / lib).is_dir()]
    loader = next(path for path in (folder / "ld-linux-x86-64.so.2" for folder in folders) if path.exists())
    text = subprocess.run([loader, "--library-path", ":".join(map(str, folders)), "--list", program], text=True,
                          capture_output=True, check=True).stdout
    return [Path(path) for path in re.findall(rf"({re.escape(str(root))}/\S+)", text)] + [loader]


def _fetch_qemu(folder, say):
    say("Fetching QEMU from Debian backports (about 40 MB)")
    root = folder / "all"
    with Archive(cache_dir() / "apt-qemu", ("trixie", "trixie-backports")) as archive:
        archive.unpack_closure(["qemu-system-x86"], root)
    program = "usr/bin/qemu-system-x86_64"
    keep = [root / program, *libraries(root, root / program)]
    keep += [path for share in ("usr/share/qemu", "usr/share/seabios") for path in (root / share).rglob("*")
             if path.name in ("bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin", "pvh.bin")]
    for path in keep:
        target = folder / ("firmware" if path.suffix == ".bin" else "lib" if ".so" in path.name else "") / path.name
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            shutil.copy2(path, target)  # follows the link: one file each, by the name that the loader looks for
    shutil.rmtree(root)


def find_qemu(path=None, say=print, least=QEMU_MIN):
    """Return a QEMU of version ``least`` or later, by default one that has ``vfio-user-pci``: the one at ``path``, else the
    machine's if new enough, else Debian's.

    Debian's is fetched into the cache and run through its own loader and C library, so that any Debian will do.
    """
    if path is not None:
        found = _version((str(path),))
        if found is None:
            raise AssetError(f"{path} does not run as a QEMU")
        if found[0] < least:
            raise AssetError(f"{path} is QEMU {found[1]}; this needs {least[0]}.{least[1]} or later")
        return Qemu((str(path),), found[1])
    system = shutil.which("qemu-system-x86_64")
    found = system and _version((system,))
    if found and found[0] >= least:
        return Qemu((system,), found[1])
    return debian_qemu(say)


def debian_qemu(say=print):
    """Return Debian's QEMU, fetched into the cache, with all that it needs beside it."""
    root = entry("qemu", lambda folder: _fetch_qemu(folder, say))
    argv = (str(root / "lib/ld-linux-x86-64.so.2"), "--library-path", str(root / "lib"),
            str(root / "qemu-system-x86_64"), "-L", str(root / "firmware"))
    found = _version(argv)
    if found is None or found[0] < QEMU_MIN:
        raise AssetError(f"the QEMU fetched from Debian does not run or is too old; remove {root} to fetch it again")
    return Qemu(argv, found[1], root)


def _fetch_kernel(name, folder, say, flavour="cloud"):
    say(f"Fetching Debian's stock {name} {flavour} kernel (about {KERNEL_MB[flavour]} MB)")
    series = r"\d" if name == "backports" else re.escape(name) + r"\."
    with Archive(cache_dir() / f"apt-kernel-{name}-{flavour}", KERNELS[name]) as archive:
        image = next(iter(archive.depends(META_PACKAGES[flavour], rf"linux-image-{series}.*")), None)
        if image is None:
            raise AssetError(f"no {flavour} kernel {name} in Debian's {' or '.join(KERNELS[name])}")
        # Since 7.1 the image, its modules, and the list of what is built in are packages of their own, named after one another.
        release = re.escape(image.removeprefix("linux-image-"))
        archive.unpack([image, *archive.depends(image, rf"linux-(base|binary|modules)-{release}")], folder)


def _image(root):
    """Return the kernel in a folder of unpacked packages, which keep it in /boot, or beside its modules."""
    return next(path for pattern in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz") for path in root.glob(pattern))


def find_generic_kernel(which, modules, say=print):
    """Return the kernel for all machines named ``which`` in :data:`KERNELS`, which has drivers of cards that no cloud has.

    Of its modules (350 MB) only those of every guest, ``modules``, and what these depend on are kept.
    """
    def fetch(folder):
        _fetch_kernel(which, folder, say, "generic")
        kept = {name for name, _ in module_order(_kernel(_image(folder)).modules, (*DRIVERS, *modules))}
        for path in folder.rglob("*.ko*"):
            if path.name.partition(".ko")[0].replace("-", "_") not in kept:
                path.unlink()
    return _kernel(_image(entry(f"kernel-{which}-generic", fetch)))


def find_kernel(which="6.1", say=print):
    """Return a kernel: one named in :data:`KERNELS`, or the path of a bzImage with its modules near it.

    For a path, modules are looked for beside it if its folder is named after the release, in ``../lib/modules/RELEASE`` (both are
    forms of unpacked packages), and in ``/lib/modules``.
    """
    if which in KERNELS:
        image = _image(entry(f"kernel-{which}", lambda folder: _fetch_kernel(which, folder, say)))
    else:
        image = Path(which)
        if not image.is_file():
            raise AssetError(f"no kernel {which!r}: give one of {', '.join(KERNELS)}, or the path of a bzImage")
    return _kernel(image)


def _kernel(image):
    """Return the kernel of a bzImage with its modules near it."""
    release = _release(image)
    beside = image.resolve().parent
    places = [beside] if beside.name == release else []
    places += [prefix / lib / release for prefix in (beside.parent, Path("/")) for lib in ("lib/modules", "usr/lib/modules")]
    for place in places:
        if place.is_dir():
            return Kernel(image, place, release)
    raise AssetError(f"no modules of {release} near {image}")


def _release(image):
    # Documentation/arch/x86/boot.rst: kernel_version at 0x20E points, less 0x200, to "RELEASE (builder) #n ...".
    with open(image, "rb") as file:
        head = file.read(0x10000)
    offset = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    if head[0x202:0x206] != b"HdrS":
        raise AssetError(f"{image} is not a bzImage")
    release = head[offset:offset + 200].split(b"\0")[0].decode(errors="replace").split()
    if not release:
        raise AssetError(f"{image} does not say its release")
    return release[0]


def _fetch_tools(folder, say):
    say("Fetching busybox and ethtool")
    with Archive(cache_dir() / "apt-tools", ("bookworm",)) as archive:
        archive.unpack(["busybox-static"], folder / "busybox")
        archive.unpack_closure(["ethtool"], folder / "ethtool")


def find_tools(say=print):
    """Return the programs that the guest's initramfs is made of."""
    root = entry("tools", lambda folder: _fetch_tools(folder, say))
    busybox = root / "busybox/bin/busybox"
    ethtool = root / "ethtool"
    return Tools(busybox, _with_libraries(ethtool, next(
        path for path in (ethtool / "usr/sbin/ethtool", ethtool / "sbin/ethtool") if path.exists()), "/usr/sbin/ethtool"))


def library_place(name):
    """Return where a guest has a library of this name, or the loader of libraries."""
    return f"/lib64/{name}" if name.startswith("ld-") else f"{LIBRARIES}/{name}"


def _with_libraries(root, program, place):
    """Return files of a guest in which ``program``, unpacked below ``root`` with what it needs, runs as ``place``."""
    return {place: program, **{library_place(path.name): path for path in libraries(root, program)}}


def _fetch_shell_tools(folder, say):
    say("Fetching tcpdump and iperf3 for the guest's shell (about 5 MB)")
    with Archive(cache_dir() / "apt-shell", ("bookworm",)) as archive:
        archive.unpack_closure(["tcpdump", "iperf3"], folder)


def _fetch_lspci(folder, say):
    say("Fetching lspci")
    with Archive(cache_dir() / "apt-lspci", ("bookworm",)) as archive:
        archive.unpack_closure(["pciutils"], folder)


def find_lspci(say=print):
    """Return lspci and what it needs: path in a machine to file here."""
    root = entry("lspci", lambda folder: _fetch_lspci(folder, say))
    return _with_libraries(root, root / "usr/bin/lspci", "/usr/bin/lspci")


def find_shell_tools(say=print):
    """Return programs for a person in a guest, and what they need: path in the guest to file here."""
    root = entry("shell", lambda folder: _fetch_shell_tools(folder, say))
    return {**_with_libraries(root, root / "usr/bin/tcpdump", "/usr/bin/tcpdump"),
            **_with_libraries(root, root / "usr/bin/iperf3", "/usr/bin/iperf3")}
