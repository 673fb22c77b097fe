"""A function and its address space from the kernel: what can be wrong with a slot, each told in one line with the way out."""

import errno
import os

import pytest

from ringnic.host.bus import vfio_iommu
from ringnic.host.bus.vfio import VfioBus, VfioError


def wrong(kernel, bdf, **options):
    with pytest.raises(VfioError) as caught:
        VfioBus(bdf, kernel=kernel, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_such_function(kernel):
    assert wrong(kernel, "0000:09:00.0") == (
        "There is no PCI function 0000:09:00.0: `ringnic devices` shows those that there are")


@pytest.mark.parametrize("driver", ["virtio-pci", None])
def test_not_bound(kernel, bdf, driver):
    (kernel.root / f"sys/bus/pci/devices/{bdf}/driver").unlink()
    if driver:
        kernel.link(f"sys/bus/pci/devices/{bdf}/driver", f"sys/bus/pci/drivers/{driver}")
    assert wrong(kernel, bdf) == f"{bdf} is bound to {driver or 'no driver'}, not to vfio-pci: `ringnic bind {bdf}`"


@pytest.mark.parametrize("how", ["none", "noiommu"])
def test_no_iommu(kernel, bdf, how):
    if how == "none":
        (kernel.root / f"sys/bus/pci/devices/{bdf}/iommu_group").unlink()
    else:
        kernel.put("sys/kernel/iommu_groups/12/name", "vfio-noiommu\n")
    assert wrong(kernel, bdf) == (f"No IOMMU guards {bdf}: switch it on in the firmware (VT-d, AMD-Vi, SMMU), and on Intel "
                                  "boot with intel_iommu=on")


def test_no_module(kernel, bdf):
    (kernel.root / "dev/vfio/vfio").unlink()
    assert wrong(kernel, bdf) == f"There is no {kernel.root}/dev/vfio/vfio: `modprobe vfio-pci`"
    kernel.put("dev/vfio/vfio")
    kernel._container = lambda request, raw: 0
    assert wrong(kernel, bdf) == "The kernel's VFIO has no type 1 IOMMU: `modprobe vfio_iommu_type1`"


def test_no_iommufd(kernel, bdf):
    assert wrong(kernel, bdf, interface="iommufd") == f"There is no {kernel.root}/dev/iommu: `modprobe vfio-pci`"


def test_no_permission(kernel, bdf, monkeypatch):
    path = kernel.root / "dev/vfio/12"
    path.chmod(0o600)
    kernel.refusals["dev/vfio/12"] = errno.EACCES

    def nobody(number):
        raise KeyError(number)
    monkeypatch.setattr(vfio_iommu, "getpwuid", lambda number: ["root"])
    monkeypatch.setattr(vfio_iommu, "getgrgid", nobody)
    assert wrong(kernel, bdf) == (f"No permission to open {path}, which belongs to root:{os.getgid()}, mode 0600: become its "
                                  f"owner (`sudo chown $USER {path}`), or root")


def test_in_use(kernel, bdf):
    path = kernel.root / "dev/vfio/12"
    kernel.refusals["dev/vfio/12"] = errno.EBUSY
    assert wrong(kernel, bdf) == f"{path} is in use, by a process that is not ours to see: end it first"
    kernel.put("proc/1234/comm", "qemu-system-x86\n")
    kernel.link("proc/1234/fd/7", "dev/vfio/12x")
    (kernel.root / "proc/1234/fd/7").unlink()
    (kernel.root / "proc/1234/fd/7").symlink_to(path)
    assert wrong(kernel, bdf) == f"{path} is in use, by qemu-system-x86 (1234): end it first"


def test_in_use_by_iommufd(kernel, bdf):
    kernel.with_iommufd()
    kernel.refusals[0x3b76] = errno.EINVAL
    assert wrong(kernel, bdf) == (f"{bdf} is in use, by a process that is not ours to see, or others of its IOMMU group are: "
                                  "end that first")


def test_iommufd_that_is_roots_alone(kernel, bdf, monkeypatch):
    """A user to whom the card was given has its group; without groups, what is missing is said."""
    kernel.with_iommufd()
    monkeypatch.setattr(vfio_iommu.os, "access", lambda path, mode: path != kernel.root / "dev/iommu")
    with VfioBus(bdf, kernel=kernel):
        assert "dev/vfio/12" in kernel.open_files.values()
    (kernel.root / "dev/vfio/12").unlink()
    kernel.refusals["dev/iommu"] = errno.EACCES
    assert wrong(kernel, bdf).startswith(f"No permission to open {kernel.root}/dev/iommu, ")


def test_a_node_that_does_not_open(kernel, bdf):
    kernel.refusals["dev/vfio/12"] = errno.EIO
    assert wrong(kernel, bdf) == f"{kernel.root}/dev/vfio/12 cannot be opened: Input/output error"


def test_a_group_of_several(kernel, bdf):
    kernel.viable = False
    for other, driver in (("0000:00:01.0", "pcieport"), ("0000:01:00.1", "snd_hda_intel"), ("0000:01:00.2", None)):
        kernel.link(f"sys/kernel/iommu_groups/12/devices/{other}", f"sys/bus/pci/devices/{other}")
        if driver:
            kernel.link(f"sys/bus/pci/devices/{other}/driver", f"sys/bus/pci/drivers/{driver}")
    assert wrong(kernel, bdf) == (f"IOMMU group 12 of {bdf} is not ours alone: 0000:01:00.1 (snd_hda_intel) is in it; bind that "
                                  "to vfio-pci too, or put the card into another slot")


@pytest.mark.parametrize("interface, refused", [("group", 0x3b66), ("iommufd", 0x3b76)])
def test_no_interrupt_remapping(kernel, bdf, interface, refused):
    kernel.with_iommufd()
    kernel.refusals[refused] = errno.EPERM
    assert wrong(kernel, bdf, interface=interface) == (
        f"The IOMMU of {bdf} cannot remap interrupts, so the kernel does not let it go: switch interrupt remapping (x2APIC) on "
        "in the firmware")


@pytest.mark.parametrize("request_number", [0x3b67, 0x3b68, 0x3b6a])
def test_a_kernel_that_refuses(kernel, bdf, request_number):
    kernel.refusals[request_number] = errno.EIO
    assert wrong(kernel, bdf) == f"The kernel does not give us {bdf} by group: Input/output error"


def test_addresses_that_the_kernel_does_not_tell(kernel, bdf, monkeypatch):
    monkeypatch.setattr(vfio_iommu, "TYPE1_IOVA_RANGE", 99)
    assert wrong(kernel, bdf) == "The kernel does not say which addresses the IOMMU has: Linux 5.4 or later does"
