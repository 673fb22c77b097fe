"""PCI functions as the kernel shows them, below a root folder: that of the machine, or a tree made for a test.

Ref: Linux, Documentation/ABI/testing/sysfs-bus-pci and sysfs-kernel-iommu_groups.
"""

from contextlib import contextmanager, suppress
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess

__all__ = ["ALL_ONES", "VFIO_PCI", "Function", "Machine", "SlotError", "parse_bdf", "undisturbed"]

VFIO_PCI = "vfio-pci"
ALL_ONES = 0xffff            # what a function that does not answer has as its vendor
DEVICES = "/sys/bus/pci/devices"
IFF_UP = 1
LETS_GO_SECONDS = 20         # a driver that takes longer to let go of a function does not
SAYS_SECONDS = 20            # a program that only has to look and say something

_BDF = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])", re.IGNORECASE)


class SlotError(Exception):
    """What is wrong and the way out, in one line for people."""


@contextmanager
def undisturbed():
    """Within the block no signal ends this program; one that comes has its effect at the end of the block."""
    came = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number))
              for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def parse_bdf(text):
    """Return ``0000:01:00.0`` for it or for ``01:00.0``; raise :exc:`SlotError` for what is no address of a function."""
    if (found := _BDF.fullmatch(text.strip())) is None:
        raise SlotError(f"{text!r} is no PCI address: it looks like 0000:01:00.0, or 01:00.0; `ringnic devices` lists them")
    domain, bus, device, function = found.groups()
    return f"{domain or '0000'}:{bus}:{device}.{function}".lower()


class Machine:
    """The files by which the kernel shows the machine; paths begin with ``/``, which is ``root``.

    ``write`` is the one way in which anything here changes the kernel's mind; programs start by ``run``, or by ``output`` if
    they only look.
    """
    def __init__(self, root="/"):
        self.root = Path(root)

    def path(self, name):
        return self.root / name.lstrip("/")

    def read(self, name):
        """Return a file's text without blanks at its ends, or None if there is none or it cannot be read."""
        try:
            return self.path(name).read_text(errors="replace").strip()
        except OSError:
            return None

    def list(self, name):
        """Return the sorted names in a folder, none if it does not exist."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def link(self, name):
        """Return the last part of where a symbolic link leads, or None."""
        target = self._target(name)
        return None if target is None else os.path.basename(target)

    def exists(self, name):
        return self.path(name).exists()

    def may_write(self, name):
        return os.access(self.path(name), os.W_OK)

    def write(self, name, value):
        """Write to a file of the kernel's; raise :exc:`SlotError` with its answer if it refuses or does not return.

        A write may wait in the kernel for ever, where no signal reaches it, so a program of its own makes it.
        """
        process = subprocess.Popen(["tee", self.path(name)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            reason = process.communicate(value + "\n", timeout=LETS_GO_SECONDS)[1]
        except subprocess.TimeoutExpired:
            raise SlotError(f"the kernel did not come back within {LETS_GO_SECONDS} s from `echo {value} > {name}`: "
                            "something still uses the function, see `dmesg`") from None
        finally:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
            with suppress(OSError):
                process.stdin.close()
            process.stderr.close()
        if process.returncode:
            raise SlotError(f"the kernel refused `echo {value} > {name}`: {reason.strip().rpartition(': ')[2]}; see `dmesg`")

    def run(self, argv, *, whole=False):
        """Run a program, its output on the terminal; return its exit status. If ``whole``, Ctrl-C does not reach it.

        When an interruption goes on from here, it has ended.
        """
        with undisturbed():
            process = subprocess.Popen(list(map(str, argv)), start_new_session=whole)
        try:
            return process.wait()
        finally:
            process.terminate()
            with undisturbed():
                process.wait()

    def output(self, argv):
        """Run a program that only looks; return its lines. Raise :exc:`SlotError` if it fails or hangs."""
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                                  timeout=SAYS_SECONDS)
        except subprocess.TimeoutExpired:
            raise SlotError(f"`{' '.join(argv)}` did not end within {SAYS_SECONDS} s") from None
        except OSError as error:
            raise SlotError(f"`{' '.join(argv)}` cannot be run: {error.strerror}") from None
        if done.returncode:
            *_, last = ["", *done.stderr.splitlines()]
            raise SlotError(f"`{' '.join(argv)}` failed with exit status {done.returncode}: {last}")
        return done.stdout.splitlines()

    def users(self, names):
        """Return ``(pid, command)`` of the processes that have one of these files open, of those that we may look at."""
        found = []
        for pid in filter(str.isdigit, self.list("/proc")):
            # A file that is closed while we look is one that is not open; others of the process may be.
            if any(self._target(f"/proc/{pid}/fd/{fd}") in names for fd in self.list(f"/proc/{pid}/fd")):
                found.append((int(pid), self.read(f"/proc/{pid}/comm") or "?"))
        return found

    def _target(self, name):
        """Where a symbolic link leads, or None."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return None

    def which(self, program):
        """Tell whether there is such a program."""
        return shutil.which(program) is not None

    def function(self, bdf):
        """Return the :class:`Function` at an address as people write it; raise :exc:`SlotError` if there is none."""
        function = Function(self, parse_bdf(bdf))
        if not function.exists():
            raise SlotError(f"there is no PCI function {function.address}: `ringnic devices` lists the cards, `lspci -D` all")
        return function

    def functions(self):
        """Return all PCI functions, in the order of their addresses."""
        return [Function(self, address) for address in self.list(DEVICES)]


class Function:
    """One PCI function, read afresh at each look.

    Attributes
    ----------
    address : str
        Domain, bus, device and function: ``0000:01:00.0``.
    """
    def __init__(self, machine, address):
        self.machine, self.address = machine, address
        self.folder = f"{DEVICES}/{address}"

    def __str__(self):
        return self.address

    def exists(self):
        return self.machine.exists(self.folder)

    def _read(self, name):
        return self.machine.read(f"{self.folder}/{name}")

    def _number(self, name):
        try:
            return int(self._read(name) or "", 0)
        except ValueError:
            return None

    @property
    def vendor_id(self):
        return self._number("vendor")

    @property
    def device_id(self):
        return self._number("device")

    @property
    def class_code(self):
        """24 bits: base class, subclass, programming interface."""
        return self._number("class") or 0

    @property
    def driver(self):
        """Name of the driver that has the function, or None."""
        return self.machine.link(f"{self.folder}/driver")

    @property
    def override(self):
        """Name of the only driver that may have it, or None for the kernel's choice."""
        found = self._read("driver_override")
        return None if found in (None, "", "(null)") else found

    @property
    def iommu_group(self):
        """Number of the IOMMU group, as text, or None: no IOMMU watches over this function."""
        return self.machine.link(f"{self.folder}/iommu_group")

    def group_members(self):
        """The other functions that the IOMMU cannot tell from this one."""
        group = self.iommu_group
        names = [] if group is None else self.machine.list(f"/sys/kernel/iommu_groups/{group}/devices")
        return [Function(self.machine, name) for name in names if name != self.address]

    def slot_members(self):
        """The other functions of the same device."""
        device = self.address.rpartition(".")[0]
        return [other for other in self.machine.functions()
                if other.address.rpartition(".")[0] == device and other.address != self.address]

    @property
    def bridge(self):
        """Address of the bridge above, or None on a root bus."""
        parent = os.path.realpath(self.machine.path(self.folder)).split(os.sep)[-2]
        return parent if _BDF.fullmatch(parent) else None

    def link(self):
        """Return ``(speed, width, most speed, most width)`` as the kernel puts it, None for what it does not say."""
        names = ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
        speed, width, most_speed, most_width = (found if (found := self._read(name)) not in (None, "", "Unknown") else None
                                                for name in names)
        return speed, None if width in ("0", "255") else width, most_speed, None if most_width in ("0", "255") else most_width

    @property
    def reset_methods(self):
        """Names of the ways to reset it, the preferred one first; none if there is none."""
        found = self._read("reset_method")
        if found is not None:
            return found.split()
        return ["of the kernel's choice"] if self.machine.exists(f"{self.folder}/reset") else []  # before Linux 5.15

    @property
    def numa_node(self):
        node = self._number("numa_node")
        return None if node is None or node < 0 else node

    @property
    def power_state(self):
        """``D0`` to ``D3cold``, or None if the kernel does not say."""
        return self._read("power_state")

    def resource(self, index):
        """Return ``(bytes, flags)`` of a BAR, or None if it has none."""
        lines = (self._read("resource") or "").splitlines()
        if index >= len(lines):
            return None
        start, end, flags = (int(field, 16) for field in lines[index].split())
        return (end - start + 1, flags) if end else None

    def virtio(self):
        """Name of the virtio device on this function, as long as virtio_pci has it, or None."""
        return next((name for name in self.machine.list(self.folder) if re.fullmatch(r"virtio\d+", name)), None)

    def virtio_features(self):
        """Numbers of the features that the kernel's driver and the function agreed upon, or None."""
        bits = self._read(f"{self.virtio()}/features")
        return None if bits is None else frozenset(at for at, bit in enumerate(bits) if bit == "1")

    def interfaces(self):
        """Names of its network interfaces."""
        return [name for folder in (self.folder, f"{self.folder}/{self.virtio()}")
                for name in self.machine.list(f"{folder}/net")]

    def is_up(self, interface):
        """Tell whether an interface is switched on."""
        flags = self.machine.read(f"/sys/class/net/{interface}/flags")
        return flags is not None and bool(int(flags, 16) & IFF_UP)

    def holders(self):
        """Processes that have the function open through VFIO: ``(pid, command)`` of those that we may look at."""
        group, nodes = self.iommu_group, set()
        if group is not None:
            nodes.add(f"/dev/vfio/{group}")
        nodes.update(f"/dev/vfio/devices/{name}" for name in self.machine.list(f"{self.folder}/vfio-dev"))
        return self.machine.users(nodes)
