"""What the kernel is asked of, to drive a PCI function from user space: request numbers and structures.

Ref: Linux user API, <linux/vfio.h>, <linux/iommufd.h>; Documentation/driver-api/vfio.rst. Every structure begins with its own
size, so that kernels with longer ones know which fields are there.
"""

from ctypes import Structure, c_int32, c_uint16, c_uint32, c_uint64, sizeof
from enum import IntEnum, IntFlag

__all__ = ["API_VERSION", "BindIommufd", "AttachPt", "CapHeader", "DeviceInfo", "DeviceFlags", "DmaFlags", "DmaMap", "DmaUnmap",
           "GroupFlags", "GroupStatus", "IoasAlloc", "IoasIovaRanges", "IoasMap", "IoasMapFlags", "IoasUnmap", "Iommufd",
           "IovaRange", "IovaRangeCap", "IrqFlags", "IrqInfo", "IrqSet", "NUM_BARS", "PciIrq", "PciRegion", "RegionCap",
           "RegionFlags", "RegionInfo", "TYPE1_IOVA_RANGE", "TYPE1V2_IOMMU", "Type1Info", "Vfio"]

API_VERSION = 0
TYPE1V2_IOMMU = 3       # VFIO_TYPE1v2_IOMMU
TYPE1_IOVA_RANGE = 1    # VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE
NUM_BARS = 6


class Vfio(IntEnum):
    """Requests to a container, a group or a device, without their ``VFIO_``: ``_IO(';', 100 + n)``."""
    GET_API_VERSION          = 0x3b64
    CHECK_EXTENSION          = 0x3b65
    SET_IOMMU                = 0x3b66
    GROUP_GET_STATUS         = 0x3b67
    GROUP_SET_CONTAINER      = 0x3b68
    GROUP_GET_DEVICE_FD      = 0x3b6a
    DEVICE_GET_INFO          = 0x3b6b
    DEVICE_GET_REGION_INFO   = 0x3b6c
    DEVICE_GET_IRQ_INFO      = 0x3b6d
    DEVICE_SET_IRQS          = 0x3b6e
    DEVICE_RESET             = 0x3b6f
    IOMMU_GET_INFO           = 0x3b70
    IOMMU_MAP_DMA            = 0x3b71
    IOMMU_UNMAP_DMA          = 0x3b72
    DEVICE_BIND_IOMMUFD      = 0x3b76
    DEVICE_ATTACH_IOMMUFD_PT = 0x3b77


class Iommufd(IntEnum):
    """Requests to /dev/iommu, without their ``IOMMU_``: ``_IO(';', 0x80 + n)``."""
    IOAS_ALLOC       = 0x3b81
    IOAS_IOVA_RANGES = 0x3b84
    IOAS_MAP         = 0x3b85
    IOAS_UNMAP       = 0x3b86


class PciRegion(IntEnum):
    """Regions of a PCI function; BARs are 0 to 5."""
    CONFIG = 7


class PciIrq(IntEnum):
    """Kinds of interrupts of a PCI function."""
    INTX = 0
    MSI  = 1
    MSIX = 2


class GroupFlags(IntFlag):
    VIABLE        = 1
    CONTAINER_SET = 2


class DeviceFlags(IntFlag):
    RESET = 1
    PCI   = 2


class RegionFlags(IntFlag):
    READ  = 1
    WRITE = 2
    MMAP  = 4
    CAPS  = 8


class RegionCap(IntEnum):
    """What may follow a region's structure."""
    SPARSE_MMAP   = 1
    MSIX_MAPPABLE = 3


class IrqFlags(IntFlag):
    DATA_NONE      = 1
    DATA_EVENTFD   = 4
    ACTION_TRIGGER = 32


class DmaFlags(IntFlag):
    READ  = 1
    WRITE = 2


class IoasMapFlags(IntFlag):
    FIXED_IOVA = 1
    WRITEABLE  = 2
    READABLE   = 4


class _Sized(Structure):
    """A structure that says its own size in its first field, as it does from the beginning."""
    def __init__(self, **fields):
        super().__init__(**{self._fields_[0][0]: sizeof(self)} | fields)


class GroupStatus(_Sized):
    """vfio_group_status"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32)]


class DeviceInfo(_Sized):
    """vfio_device_info"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("num_regions", c_uint32), ("num_irqs", c_uint32)]


class RegionInfo(_Sized):
    """vfio_region_info"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("index", c_uint32), ("cap_offset", c_uint32), ("size", c_uint64),
                ("offset", c_uint64)]


class IrqInfo(_Sized):
    """vfio_irq_info"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("index", c_uint32), ("count", c_uint32)]


class IrqSet(_Sized):
    """vfio_irq_set; what the flags say follows it, and counts in ``argsz``."""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("index", c_uint32), ("start", c_uint32), ("count", c_uint32)]


class Type1Info(_Sized):
    """vfio_iommu_type1_info"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("iova_pgsizes", c_uint64), ("cap_offset", c_uint32), ("pad", c_uint32)]


class CapHeader(Structure):
    """vfio_info_cap_header"""
    _fields_ = [("id", c_uint16), ("version", c_uint16), ("next", c_uint32)]


class IovaRangeCap(Structure):
    """vfio_iommu_type1_info_cap_iova_range; as many :class:`IovaRange` follow."""
    _fields_ = [("header", CapHeader), ("nr_iovas", c_uint32), ("reserved", c_uint32)]


class IovaRange(Structure):
    """vfio_iova_range, and iommu_iova_range: both ends belong to it."""
    _fields_ = [("start", c_uint64), ("end", c_uint64)]


class DmaMap(_Sized):
    """vfio_iommu_type1_dma_map"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("vaddr", c_uint64), ("iova", c_uint64), ("size", c_uint64)]


class DmaUnmap(_Sized):
    """vfio_iommu_type1_dma_unmap"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("iova", c_uint64), ("size", c_uint64)]


class BindIommufd(_Sized):
    """vfio_device_bind_iommufd"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("iommufd", c_int32), ("out_devid", c_uint32)]


class AttachPt(_Sized):
    """vfio_device_attach_iommufd_pt"""
    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("pt_id", c_uint32)]


class IoasAlloc(_Sized):
    """iommu_ioas_alloc"""
    _fields_ = [("size", c_uint32), ("flags", c_uint32), ("out_ioas_id", c_uint32)]


class IoasIovaRanges(_Sized):
    """iommu_ioas_iova_ranges"""
    _fields_ = [("size", c_uint32), ("ioas_id", c_uint32), ("num_iovas", c_uint32), ("reserved", c_uint32),
                ("allowed_iovas", c_uint64), ("out_iova_alignment", c_uint64)]


class IoasMap(_Sized):
    """iommu_ioas_map"""
    _fields_ = [("size", c_uint32), ("flags", c_uint32), ("ioas_id", c_uint32), ("reserved", c_uint32), ("user_va", c_uint64),
                ("length", c_uint64), ("iova", c_uint64)]


class IoasUnmap(_Sized):
    """iommu_ioas_unmap"""
    _fields_ = [("size", c_uint32), ("ioas_id", c_uint32), ("iova", c_uint64), ("length", c_uint64)]
