"""Build the guest's initramfs: busybox, the stock driver's modules, and our init script; nothing else runs there."""

import gzip
import lzma
from pathlib import Path

from .cpio import Cpio

__all__ = ["DRIVERS", "add_base", "build_initramfs", "module_order"]

# The stock drivers a guest needs to use the card; each brings the modules that it depends on.
DRIVERS = ("virtio_pci", "virtio_net")


def _module_files(modules):
    names = {}
    for path in modules.rglob("*.ko*"):
        names[path.name.partition(".ko")[0].replace("-", "_")] = path
    return names


def _read_module(path):
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".ko":
        return data
    raise ValueError(f"Kernel module {path} is compressed in a way that is not known here")


def module_order(modules, wanted=DRIVERS):
    """Return ``[(name, data), …]``: the wanted modules and those they depend on, in the order to insert them.

    What is built into the kernel is left out. A packaged kernel has no ``modules.dep`` until it is installed, so
    dependencies are read from the modules themselves.

    Raises
    ------
    ValueError
        The kernel has a module neither as a file nor built in.
    """
    files = _module_files(modules)
    builtin = {Path(line).name.removesuffix(".ko").replace("-", "_")
               for line in (modules / "modules.builtin").read_text().split()}
    order = {}

    def visit(name):
        if name in order or name in builtin:
            return
        if name not in files:
            raise ValueError(f"Kernel {modules.name} has no module {name}")
        data = _read_module(files[name])
        at = data.find(b"\0depends=") + 1 or (data.startswith(b"depends=") and 0)
        depends = data[at:data.index(b"\0", at)].decode().removeprefix("depends=")
        for needed in filter(None, depends.split(",")):
            visit(needed.replace("-", "_"))
        order[name] = data

    for name in wanted:
        visit(name)
    return list(order.items())


def add_base(cpio, kernel, tools, extra_modules=()):
    """Add what each guest has: ``/init`` is ``init.sh`` of this folder, whose other scripts are in ``/etc``; ``/modules`` has the
    drivers, numbered in the order to insert them, and the ``extra_modules``."""
    for folder in ("/proc", "/sys", "/tmp", "/run", "/etc", "/modules"):
        cpio.folder(folder)
    cpio.device("/dev/console", 5, 1)  # the kernel opens it for init before devtmpfs can be mounted
    cpio.file("/bin/busybox", tools.busybox.read_bytes(), 0o755)
    cpio.link("/bin/sh", "busybox")
    for path, source in tools.files.items():
        cpio.file(path, source.read_bytes(), 0o755)
    for at, (name, data) in enumerate(module_order(kernel.modules, (*DRIVERS, *extra_modules))):
        cpio.file(f"/modules/{at:02}-{name}.ko", data)
    folder = Path(__file__).parent
    cpio.file("/init", (folder / "init.sh").read_bytes(), 0o755)
    for name in ("commands.sh", "udhcpc.sh"):
        cpio.file(f"/etc/{name}", (folder / name).read_bytes(), 0o755)


def build_initramfs(kernel, tools, extra_modules=(), files={}):
    """Return a gzipped initramfs for ``kernel`` as bytes: the base, and further ``files``, path in the guest to file here."""
    cpio = Cpio()
    add_base(cpio, kernel, tools, extra_modules)
    for path, source in files.items():
        if path not in tools.files:
            cpio.file(path, source.read_bytes(), 0o755)
    return gzip.compress(cpio.getvalue(), compresslevel=1, mtime=0)
