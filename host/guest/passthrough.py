"""``ringnic guest BDF``: a guest that is given the card itself, and how to say the same to libvirt or to QEMU."""

from dataclasses import dataclass
import getpass
from pathlib import Path
import re
import resource
import shlex
import sys
import tempfile

from ..errors import complain, note
from ..slot.checks import in_use
from ..slot.sysfs import VFIO_PCI, Machine, SlotError, parse_bdf
from .accel import choose_accel
from .assets import AssetError, Kernel, find_kernel, find_qemu, find_tools
from .cache import cache_dir
from .initramfs import build_initramfs
from .process import INTERRUPTED, child, ends_as_exceptions
from .qemu import GuestError, machine as command, terminal_kept

__all__ = ["GuestOptions", "PassthroughError", "hostdev_xml", "run_guest"]

QEMU_MIN = (7, 2)   # Debian 12's; any QEMU has vfio-pci
QCOW2_MAGIC = b"QFI\xfb"
HUGE_MB = 2
IPC_LOCK = 14       # capabilities(7): whoever has it may lock any amount of memory
SPARE_MB = 64       # that QEMU needs beside its guest's memory


class PassthroughError(Exception):
    """The guest cannot be started; the message says why, and what to do."""


@dataclass(frozen=True)
class GuestOptions:
    """What the command line asks for; see ``ringnic guest --help``. ``show``: only say how it would be started."""
    bdf: str
    image: Path | None = None
    kernel: str = "6.1"
    initrd: Path | None = None
    append: str = ""
    memory_mb: int = 512
    cpus: int = 1
    huge_pages: bool = False
    accel: str = "tcg"
    qemu: Path | None = None
    show: bool = False


def hostdev_xml(bdf):
    """Return the libvirt element for a domain's ``<devices>``. Not managed: binding is done by ``ringnic bind``."""
    domain, bus, slot, function = re.fullmatch(r"(\w{4,8}):(\w\w):(\w\w)\.(\d)", bdf).groups()
    return (f"<hostdev mode='subsystem' type='pci' managed='no'>\n"
            f"  <driver name='vfio'/>\n"
            f"  <source>\n"
            f"    <address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>\n"
            f"  </source>\n"
            f"</hostdev>")


def check_memory(options, machine):
    """See that the guest's memory can be had and locked, for the card may reach all of it. Raise :exc:`PassthroughError`."""
    need = options.memory_mb
    if options.huge_pages:
        if need % HUGE_MB:
            raise PassthroughError(f"--memory {need} is not a multiple of {HUGE_MB} MiB, the size of a huge page")
        free = HUGE_MB * int(machine.read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") or 0)
        if free < need:
            raise PassthroughError(f"{need} MiB of huge pages are needed and {free} MiB are free; as root: "
                                   f"sysctl vm.nr_hugepages={need // HUGE_MB}")
    else:
        available = int(re.search(r"^MemAvailable:\s+(\d+) kB", machine.read("/proc/meminfo"), re.MULTILINE)[1]) // 1024
        if available < need + SPARE_MB:
            raise PassthroughError(f"--memory {need}: {available} MiB are available on this machine")
    # Huge pages, too, count as locked where a device reaches them.
    capabilities = int(re.search(r"^CapEff:\s+(\w+)", machine.read("/proc/self/status"), re.MULTILINE)[1], 16)
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not capabilities >> IPC_LOCK & 1 and limit != resource.RLIM_INFINITY and limit < (need + SPARE_MB) << 20:
        raise PassthroughError(f"this user may lock {limit >> 20} MiB of memory and the guest needs {need + SPARE_MB}; raise "
                               f"memlock in /etc/security/limits.conf and log in again, or start as root")


def check_card(function):
    """See that the function is given to vfio-pci, free, and that we may use it. Raise :exc:`PassthroughError`."""
    if function.driver != VFIO_PCI:
        driver = function.driver or "no driver"
        raise PassthroughError(f"{function} is not with vfio-pci but with {driver}: ringnic bind {function}")
    if (user := in_use(function)) is not None:
        raise PassthroughError(user)
    node = f"/dev/vfio/{function.iommu_group}"
    if not function.machine.may_write(node):
        raise PassthroughError(f"this user may not open {node}; as root: ringnic bind {function} --user {getpass.getuser()}")


def _disk(image):
    if not image.is_file():
        raise PassthroughError(f"there is no disk image {image}")
    with open(image, "rb") as file:
        form = "qcow2" if file.read(4) == QCOW2_MAGIC else "raw"
    return ["-drive", f"file={str(image).replace(',', ',,')},format={form},if=virtio"]


def _kernel(options, folder):
    """QEMU options that boot a kernel: with the initramfs that was named, else with one made for it in ``folder``."""
    parameters = f"console=ttyS0 {options.append}".strip()
    if options.initrd is not None:
        for path in (options.kernel, options.initrd):
            if not Path(path).is_file():
                raise PassthroughError(f"there is no file {path}")
        kernel, initrd = Kernel(Path(options.kernel), None, None), options.initrd
    else:
        kernel, initrd = find_kernel(options.kernel, note), folder / "guest-initramfs.gz"
        try:
            initrd.write_bytes(build_initramfs(kernel, find_tools(note)))
        except ValueError as error:  # a kernel of another make
            raise AssetError(str(error)) from None
        parameters += " quiet ringnic.shell"
    return ["-kernel", str(kernel.image), "-initrd", str(initrd), "-append", parameters]


def _run(options, machine):
    if options.show:
        print(hostdev_xml(parse_bdf(options.bdf)), end="\n\n")
    else:
        check_card(machine.function(options.bdf))
        check_memory(options, machine)
    qemu = find_qemu(options.qemu, note, least=QEMU_MIN)
    # KVM is what one expects to work in front of a card: it is tried only where that is left to us.
    accel = options.accel if options.accel != "auto" else choose_accel(options.accel, qemu, find_kernel(say=note))
    with tempfile.TemporaryDirectory(prefix="ringnic-") as folder:
        # A command line that is shown names files that stay.
        kept = cache_dir() if options.show else Path(folder)
        boot = _disk(options.image) if options.image is not None else _kernel(options, kept)
        terminal = sys.stdin.isatty()
        argv = command(qemu, boot, ["-device", f"vfio-pci,host={parse_bdf(options.bdf)}"], accel=accel, cpus=options.cpus,
                       memory_mb=options.memory_mb, huge_pages=options.huge_pages, reboots=options.image is not None,
                       console="terminal" if terminal or options.show else "pipe",
                       # A distribution may ask for more than QEMU's plainest processor.
                       cpu="host" if accel == "kvm" else "max" if options.image is not None else None)
        if options.show:
            print(shlex.join(argv))
            return 0
        with terminal_kept(), child(argv) as process:
            status = process.wait()
    if status:
        raise PassthroughError(f"QEMU ended with status {status}; what it said stands above")
    return 0


def run_guest(options, machine=None):
    """Run the guest until it ends and return the exit status. ``machine``: where the card is, by default this one."""
    try:
        with ends_as_exceptions():
            return _run(options, Machine() if machine is None else machine)
    except (AssetError, GuestError, PassthroughError, SlotError, OSError) as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
