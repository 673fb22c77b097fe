"""What those who run virtual machines need to attach a card that is served: QEMU's options, libvirt's XML."""

from pathlib import Path
import shlex
from xml.sax.saxutils import escape, quoteattr

from ..guest.qemu import shared_memory, vfio_user_device

__all__ = ["attach_help", "cloud_hypervisor_options", "libvirt_xml", "qemu_options"]

MEMORY_MB = 1024           # of the examples


def qemu_options(path):
    """Options that QEMU 10.1 or later needs: its guest's memory in a file that the card can reach, and the card; a line."""
    return shlex.join([*shared_memory(MEMORY_MB), *vfio_user_device(path)])


def libvirt_xml(path):
    """A domain of libvirt's with the card, as small as can be defined."""
    option, device = vfio_user_device(path)
    return "\n".join([
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>",
        f"  <name>{escape(Path(path).stem)}</name>",
        f"  <memory unit='MiB'>{MEMORY_MB}</memory>",
        "  <memoryBacking>",
        "    <source type='memfd'/>",
        "    <access mode='shared'/>",
        "  </memoryBacking>",
        "  <os>",
        "    <type arch='x86_64' machine='q35'>hvm</type>",
        "  </os>",
        "  <qemu:commandline>",
        f"    <qemu:arg value={quoteattr(option)}/>",
        f"    <qemu:arg value={quoteattr(device)}/>",
        "  </qemu:commandline>",
        "</domain>",
    ])


def cloud_hypervisor_options(path):
    """Options of cloud-hypervisor, which nobody has tried."""
    return shlex.join(["--memory", f"size={MEMORY_MB}M,shared=on", "--user-device", f"socket={path}"])


def attach_help(path):
    """Return text that says how to attach the card at the absolute ``path``."""
    return "\n".join([
        "QEMU (10.1 or later), in addition to what your machine has:",
        f"  {qemu_options(path)}",
        "libvirt, with such a QEMU; what is below <os> is what the card needs in a domain of yours:",
        *(f"  {line}" for line in libvirt_xml(path).splitlines()),
        "cloud-hypervisor (untested):",
        f"  {cloud_hypervisor_options(path)}",
    ])
