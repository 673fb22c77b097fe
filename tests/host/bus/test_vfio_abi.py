"""Numbers and structures of VFIO and iommufd: as the machine's own headers have them, where it has some."""

import ctypes
import shutil
import subprocess

import pytest

from ringnic.host.bus import vfio_abi as abi

# Of the header, with what was not always in it: structure or number, and what tells that this header has it.
VFIO_STRUCTURES = {
    "vfio_group_status": abi.GroupStatus, "vfio_device_info": abi.DeviceInfo, "vfio_region_info": abi.RegionInfo,
    "vfio_irq_info": abi.IrqInfo, "vfio_irq_set": abi.IrqSet, "vfio_iommu_type1_info": abi.Type1Info,
    "vfio_info_cap_header": abi.CapHeader, "vfio_iommu_type1_info_cap_iova_range": abi.IovaRangeCap,
    "vfio_iova_range": abi.IovaRange, "vfio_iommu_type1_dma_map": abi.DmaMap, "vfio_iommu_type1_dma_unmap": abi.DmaUnmap}
CDEV_STRUCTURES = {"vfio_device_bind_iommufd": abi.BindIommufd, "vfio_device_attach_iommufd_pt": abi.AttachPt}
IOMMUFD_STRUCTURES = {"iommu_ioas_alloc": abi.IoasAlloc, "iommu_ioas_iova_ranges": abi.IoasIovaRanges,
                      "iommu_ioas_map": abi.IoasMap, "iommu_ioas_unmap": abi.IoasUnmap}
VFIO_NUMBERS = {
    "VFIO_API_VERSION": abi.API_VERSION, "VFIO_TYPE1v2_IOMMU": abi.TYPE1V2_IOMMU,
    "VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE": abi.TYPE1_IOVA_RANGE, "VFIO_PCI_BAR5_REGION_INDEX": abi.NUM_BARS - 1,
    "VFIO_PCI_CONFIG_REGION_INDEX": abi.PciRegion.CONFIG, "VFIO_PCI_INTX_IRQ_INDEX": abi.PciIrq.INTX,
    "VFIO_PCI_MSI_IRQ_INDEX": abi.PciIrq.MSI, "VFIO_PCI_MSIX_IRQ_INDEX": abi.PciIrq.MSIX,
    **{f"VFIO_{one.name}": one for one in abi.Vfio if "IOMMUFD" not in one.name},
    **{f"VFIO_GROUP_FLAGS_{one.name}": one for one in abi.GroupFlags},
    **{f"VFIO_DEVICE_FLAGS_{one.name}": one for one in abi.DeviceFlags},
    **{f"VFIO_REGION_INFO_FLAG_{one.name}": one for one in abi.RegionFlags},
    **{f"VFIO_REGION_INFO_CAP_{one.name}": one for one in abi.RegionCap},
    **{f"VFIO_IRQ_SET_{one.name}": one for one in abi.IrqFlags},
    **{f"VFIO_DMA_MAP_FLAG_{one.name}": one for one in abi.DmaFlags}}
CDEV_NUMBERS = {f"VFIO_{one.name}": one for one in abi.Vfio if "IOMMUFD" in one.name}
IOMMUFD_NUMBERS = {**{f"IOMMU_{one.name}": one for one in abi.Iommufd},
                   **{f"IOMMU_IOAS_MAP_{one.name}": one for one in abi.IoasMapFlags}}
# Fields whose names the header writes otherwise.
NAMES = {"reserved": "__reserved"}
# What grew at its end, or has no name for its padding.
LONGER = {"vfio_device_info", "vfio_device_bind_iommufd", "vfio_device_attach_iommufd_pt"}
UNNAMED = {("vfio_iommu_type1_info", "pad"), ("vfio_iommu_type1_info_cap_iova_range", "reserved")}


def checks(structures, numbers):
    """Lines of C that do not compile if anything is otherwise."""
    for name, kind in structures.items():
        compare = ">=" if name in LONGER else "=="
        yield f'_Static_assert(sizeof(struct {name}) {compare} {ctypes.sizeof(kind)}, "{name}");'
        for field, *_ in kind._fields_:
            if (name, field) not in UNNAMED:
                found = getattr(kind, field)
                header = NAMES.get(field, field)
                yield f'_Static_assert(offsetof(struct {name}, {header}) == {found.offset}, "{name}.{field}");'
                yield f'_Static_assert(sizeof(((struct {name} *)0)->{header}) == {found.size}, "{name}.{field}");'
    for name, value in numbers.items():
        yield f'_Static_assert({name} == {int(value)}, "{name}");'


def compiles(tmp_path, lines):
    source = tmp_path / "abi.c"
    source.write_text("\n".join(["#include <stddef.h>", *lines]) + "\n")
    done = subprocess.run(["cc", "-fsyntax-only", source], capture_output=True, text=True)
    return done.stderr if done.returncode else None


def need(tmp_path, *lines):
    if shutil.which("cc") is None:
        pytest.skip("There is no C compiler")
    if compiles(tmp_path, lines) is not None:
        pytest.skip("The machine's headers are without it")


def test_vfio(tmp_path):
    header = "#include <linux/vfio.h>"
    need(tmp_path, header)
    assert compiles(tmp_path, [header, *checks(VFIO_STRUCTURES, VFIO_NUMBERS)]) is None


def test_vfio_device_nodes(tmp_path):
    """Linux 6.6."""
    header = "#include <linux/vfio.h>"
    need(tmp_path, header, "int number = VFIO_DEVICE_BIND_IOMMUFD;")
    assert compiles(tmp_path, [header, *checks(CDEV_STRUCTURES, CDEV_NUMBERS)]) is None


def test_iommufd(tmp_path):
    """Linux 6.2."""
    header = "#include <linux/iommufd.h>"
    need(tmp_path, header)
    assert compiles(tmp_path, [header, *checks(IOMMUFD_STRUCTURES, IOMMUFD_NUMBERS)]) is None


def test_a_wrong_number_would_be_seen(tmp_path):
    header = "#include <linux/vfio.h>"
    need(tmp_path, header)
    assert "VFIO_DEVICE_RESET" in compiles(tmp_path, [header, *checks({}, {"VFIO_DEVICE_RESET": 1})])


def test_a_structure_says_its_size():
    assert abi.DmaMap().argsz == 32 and abi.IoasUnmap(iova=1).size == 24 and abi.IrqSet(argsz=99).argsz == 99
