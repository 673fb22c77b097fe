"""What is in the way of giving a function to a guest, each in one line with the way out.

Ref: Linux, Documentation/driver-api/vfio.rst; what makes an IOMMU group viable is of drivers/vfio and drivers/iommu.
"""

from .sysfs import ALL_ONES, DEVICES, VFIO_PCI

__all__ = ["answers", "in_the_way", "in_use", "no_iommu", "no_module", "no_permission", "shared_group", "wrong_function"]

VENDOR = 0x1af4              # of all virtio devices
BASE_CLASSES = {0x01: "a disk controller", 0x03: "a display", 0x06: "a bridge"}  # whose loss hurts


def answers(function):
    """Tell whether the function is there: all ones come from a link that is down, or a card that hangs."""
    try:
        config = function.machine.path(f"{function.folder}/config").read_bytes()
    except OSError:
        return False
    return int.from_bytes(config[:2], "little") != ALL_ONES


def _no_answer(function):
    if not answers(function):
        return (f"{function} does not answer (all ones): its link is down, or it was programmed under the kernel; "
                f"`echo 1 > {function.folder}/remove; echo 1 > /sys/bus/pci/rescan`, else `ringnic flash` it")
    return None


def wrong_function(function):
    """A function that is none of ours to take."""
    if function.vendor_id != VENDOR:
        ids = f"{function.vendor_id:04x}:{function.device_id:04x}"
        return f"{function} ({ids}) is no virtio device; `ringnic devices` lists the cards"
    if (what := BASE_CLASSES.get(function.class_code >> 16)) is not None:
        return f"{function} is {what}, not a network card; `ringnic devices` lists the cards"
    return None


def no_iommu(function):
    """No IOMMU that keeps the function to its guest's memory."""
    machine, group = function.machine, function.iommu_group
    if group is not None:
        if machine.read(f"/sys/kernel/iommu_groups/{group}/name") == "vfio-noiommu":
            return f"{function} has no IOMMU, only VFIO's no-IOMMU mode, in which a guest reaches all memory"
        return None
    if machine.list("/sys/class/iommu"):
        return f"the IOMMU does not cover {function}: try another slot"
    cpu, line = machine.read("/proc/cpuinfo") or "", (machine.read("/proc/cmdline") or "").split()
    asked = any("on" in word.removeprefix("intel_iommu=").split(",") for word in line if word.startswith("intel_iommu="))
    if "GenuineIntel" in cpu and not asked:
        return "the IOMMU is off: add `intel_iommu=on` to the kernel's command line and restart (VT-d on in the firmware's setup)"
    if "GenuineIntel" in cpu:
        return "there is no IOMMU although the kernel has `intel_iommu=on`: switch VT-d on in the firmware's setup"
    if "AuthenticAMD" in cpu:
        off = next((word for word in line if word in ("amd_iommu=off", "iommu=off")), None)
        return (f"the IOMMU is off: take `{off}` from the kernel's command line and restart" if off else
                "there is no IOMMU: switch IOMMU (AMD-Vi) on in the firmware's setup; the kernel uses it by itself")
    return "there is no IOMMU: the firmware must describe one (such as an SMMU) to the kernel"


def _is_harmless(other):
    return other.class_code >> 16 == 0x06 or other.driver in (None, VFIO_PCI)


def shared_group(function):
    """Functions of the same IOMMU group that a driver of the host still has."""
    sharers = [f"{other} ({other.driver})" for other in function.group_members() if not _is_harmless(other)]
    if not sharers:
        return None
    return (f"IOMMU group {function.iommu_group} is shared with {', '.join(sharers)}: use a slot below a port with ACS, "
            "or let go of those too")


def no_module(machine):
    """A kernel without vfio-pci."""
    if machine.exists(f"/sys/bus/pci/drivers/{VFIO_PCI}"):
        return None
    release = machine.read("/proc/sys/kernel/osrelease")
    known = machine.read(f"/lib/modules/{release}/modules.dep") or ""
    if not any(line.partition(":")[0].split("/")[-1].startswith("vfio-pci.ko") for line in known.splitlines()):
        return (f"kernel {release} has no module vfio-pci in /lib/modules/{release}: install what your distribution has of it "
                f"(Ubuntu: linux-modules-extra-{release}), or a kernel with CONFIG_VFIO_PCI")
    if not machine.which("modprobe"):
        return "the module vfio-pci is not loaded and there is no `modprobe` to load it: install kmod"
    return None


def no_permission(function, command):
    """Nobody lets us change drivers. ``command`` is what is to be said again, as root."""
    file = f"{function.folder}/driver_override"
    if not function.machine.exists(file):
        return f"the kernel shows no {file}: it must be Linux 3.16 or later with /sys mounted"
    if not function.machine.may_write(file):
        return f"this needs root, to write to {DEVICES}: sudo ringnic {command}"
    return None


def in_use(function):
    """Somebody uses the function."""
    machine = function.machine
    for name in function.interfaces():
        if function.is_up(name):
            routes = [line.split() for line in (machine.read("/proc/net/route") or "").splitlines()[1:]]
            default = any(route[0] == name and route[1] == "00000000" for route in routes)
            what = "is up and carries the default route" if default else "is up"
            return f"the network interface {name} of {function} {what}: take it down first, `ip link set {name} down`"
        if (master := machine.link(f"/sys/class/net/{name}/master")) is not None:
            return f"the network interface {name} of {function} is a port of {master}: `ip link set {name} nomaster` first"
    if holders := function.holders():
        who = ", ".join(f"{command} (pid {pid})" for pid, command in holders)
        return f"{function} is in use by {who}: end it first"
    return None


def in_the_way(function):
    """Return all that keeps a function from being passed to a guest, but for permission; nothing if it is ready."""
    return list(filter(None, (_no_answer(function), no_iommu(function), shared_group(function), no_module(function.machine),
                              in_use(function))))
