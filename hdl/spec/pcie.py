"""PCI Express facts: Transaction Layer Packets, configuration space, messages.

Ref: PCI Express Base 5.0, 2.2 "Transaction Layer Protocol - Packet Definition", 7.5 "PCI and PCIe Capabilities
Required by the Base Spec for all Ports", 7.7.2 "MSI-X Capability and Table Structure".

Layouts describe a header DW as the number PCIe draws, byte 0 at the left: first field is bit 0. On the TLP seam such a
DW is byte-swapped.
"""

from amaranth.lib import data, enum

__all__ = ["Fmt", "TlpType", "CplStatus", "MsgCode", "MsgRouting", "HeaderDw0", "RequestDw1", "ConfigDw2",
           "CompletionDw1", "CompletionDw2", "MessageDw1", "Cfg", "Command", "ConfigStatus", "CapId", "Pm", "Exp",
           "DevCap", "DevCtl", "DevSta", "DevCap2", "DevCtl2", "MsixCap", "MSIX_ENTRY_SIZE", "VirtioCap"]


class Fmt(enum.IntEnum, shape=3):
    DW3      = 0b000  # no data
    DW4      = 0b001
    DW3_DATA = 0b010
    DW4_DATA = 0b011
    PREFIX   = 0b100


class TlpType(enum.IntEnum, shape=5):
    """``MSG`` is the first of eight: the low three bits are the routing."""
    MEM    = 0b00000
    MEM_LK = 0b00001
    IO     = 0b00010
    CFG0   = 0b00100
    CFG1   = 0b00101
    CPL    = 0b01010
    CPL_LK = 0b01011
    FETCH_ADD = 0b01100
    SWAP   = 0b01101
    CAS    = 0b01110
    MSG    = 0b10000


class CplStatus(enum.IntEnum, shape=3):
    SC  = 0
    UR  = 1
    CRS = 2
    CA  = 4


class MsgRouting(enum.IntEnum, shape=3):
    ROOT_COMPLEX = 0
    ADDRESS      = 1
    ID           = 2
    BROADCAST    = 3
    LOCAL        = 4
    GATHERED     = 5


class MsgCode(enum.IntEnum, shape=8):
    """``IGNORED_*``: what indicators and buttons once were (2.2.8.7)."""
    UNLOCK         = 0x00
    PM_ACTIVE_STATE_NAK = 0x14
    PME_TURN_OFF   = 0x19
    PME_TO_ACK     = 0x1b
    ASSERT_INTA    = 0x20
    DEASSERT_INTA  = 0x24
    ERR_COR        = 0x30
    ERR_NONFATAL   = 0x31
    ERR_FATAL      = 0x33
    IGNORED_40     = 0x40
    IGNORED_41     = 0x41
    IGNORED_43     = 0x43
    IGNORED_44     = 0x44
    IGNORED_45     = 0x45
    IGNORED_47     = 0x47
    IGNORED_48     = 0x48
    SET_SLOT_POWER_LIMIT = 0x50
    VENDOR_TYPE0   = 0x7e
    VENDOR_TYPE1   = 0x7f


HeaderDw0 = data.StructLayout({
    "length": 10,  # DWs; 0 is 1024
    "at": 2, "attr": 2, "ep": 1, "td": 1, "th": 1, "ln": 1,
    "attr2": 1,    # ID-based ordering
    "t8": 1, "tc": 3, "t9": 1, "type": 5, "fmt": 3,
})

RequestDw1 = data.StructLayout({"first_be": 4, "last_be": 4, "tag": 8, "requester_id": 16})

ConfigDw2 = data.StructLayout({"reserved": 2, "register": 10, "reserved2": 4, "completer_id": 16})

CompletionDw1 = data.StructLayout({
    "byte_count": 12,  # bytes left, this completion included; 0 is 4096
    "bcm": 1, "status": 3, "completer_id": 16,
})

CompletionDw2 = data.StructLayout({"lower_address": 7, "reserved": 1, "tag": 8, "requester_id": 16})

MessageDw1 = data.StructLayout({"code": 8, "tag": 8, "requester_id": 16})


class Cfg:
    """Byte offsets in a Type 0 configuration header."""
    VENDOR_ID       = 0x00
    DEVICE_ID       = 0x02
    COMMAND         = 0x04
    STATUS          = 0x06
    REVISION_ID     = 0x08
    CLASS_CODE      = 0x09  # 24 bits
    CACHE_LINE_SIZE = 0x0c
    BAR0            = 0x10
    SUBSYSTEM_VENDOR_ID = 0x2c
    SUBSYSTEM_ID    = 0x2e
    CAP_POINTER     = 0x34
    INTERRUPT_LINE  = 0x3c
    INTERRUPT_PIN   = 0x3d
    SIZE            = 0x1000


class Command:
    """Bit numbers of the Command register."""
    MEMORY_ENABLE = 1
    BUS_MASTER    = 2
    PARITY        = 6
    SERR          = 8
    INTX_DISABLE  = 10


class ConfigStatus:
    """Bit numbers of the Status register."""
    INTERRUPT = 3
    CAP_LIST  = 4
    MASTER_DATA_PARITY    = 8
    RECEIVED_TARGET_ABORT = 12
    RECEIVED_MASTER_ABORT = 13
    SIGNALED_SYSTEM_ERROR = 14
    DETECTED_PARITY       = 15


class CapId(enum.IntEnum, shape=8):
    PM     = 0x01
    VENDOR = 0x09
    EXP    = 0x10
    MSIX   = 0x11


class Pm:
    """Byte offsets in the Power Management capability."""
    PMC   = 2
    PMCSR = 4
    SIZE  = 8


class Exp:
    """Byte offsets in the PCI Express capability, version 2."""
    FLAGS    = 0x02
    DEV_CAP  = 0x04
    DEV_CTL  = 0x08
    DEV_STA  = 0x0a
    LNK_CAP  = 0x0c
    LNK_CTL  = 0x10
    LNK_STA  = 0x12
    DEV_CAP2 = 0x24
    DEV_CTL2 = 0x28
    LNK_CAP2 = 0x2c
    LNK_CTL2 = 0x30
    SIZE     = 0x3c


class DevCap:
    """Bit numbers of Device Capabilities."""
    EXT_TAG = 5
    ROLE_BASED_ERRORS = 15
    FLR = 28


class DevCtl:
    """Bit numbers of Device Control; of a field, the lowest."""
    REPORT_CORRECTABLE = 0
    REPORT_NONFATAL    = 1
    REPORT_FATAL       = 2
    REPORT_UNSUPPORTED = 3
    MAX_PAYLOAD        = 5   # three bits: 128 bytes << n
    EXT_TAG            = 8
    MAX_READ_REQUEST   = 12  # three bits: 128 bytes << n
    INITIATE_FLR       = 15


class DevSta:
    """Bit numbers of Device Status."""
    CORRECTABLE = 0
    NONFATAL    = 1
    FATAL       = 2
    UNSUPPORTED = 3
    TRANSACTIONS_PENDING = 5


class DevCap2:
    """Bit numbers of Device Capabilities 2."""
    TIMEOUT_DISABLE = 4   # of completions
    EXTENDED_FMT    = 20  # TLPs with prefixes are told from others


class DevCtl2:
    """Bit numbers of Device Control 2."""
    TIMEOUT_DISABLE = 4


class MsixCap:
    """Byte offsets in the MSI-X capability."""
    CONTROL = 2
    TABLE   = 4
    PBA     = 8
    SIZE    = 12


MSIX_ENTRY_SIZE = 16  # bytes: address, upper address, data, vector control


class VirtioCap:
    """Byte offsets in a virtio vendor capability (VIRTIO 1.4, 4.1.4)."""
    CAP_LEN    = 2
    CFG_TYPE   = 3
    BAR        = 4
    OFFSET     = 8
    LENGTH     = 12
    MULTIPLIER = 16  # notify only
    PCI_CFG_DATA = 16
