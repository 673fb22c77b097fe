"""The numbers as linux/pci_regs.h and virtio_pci.h have them, TLP headers as the Base Specification draws them."""

import pytest
from amaranth.lib import data

from ringnic.hdl.spec import pcie
from ringnic.hdl.spec.pcie import (CapId, Cfg, Command, ConfigStatus, CplStatus, DevCap2, DevCtl, DevCtl2, DevSta, Exp, Fmt,
                                   MsgCode, MsgRouting, MsixCap, Pm, TlpType, VirtioCap)

# name: number
REGISTERS = {
    Cfg: dict(VENDOR_ID=0x00, DEVICE_ID=0x02, COMMAND=0x04, STATUS=0x06, REVISION_ID=0x08, CLASS_CODE=0x09,
              CACHE_LINE_SIZE=0x0c, BAR0=0x10, SUBSYSTEM_VENDOR_ID=0x2c, SUBSYSTEM_ID=0x2e, CAP_POINTER=0x34,
              INTERRUPT_LINE=0x3c, INTERRUPT_PIN=0x3d, SIZE=4096),
    Pm: dict(PMC=2, PMCSR=4, SIZE=8),
    Exp: dict(FLAGS=2, DEV_CAP=4, DEV_CTL=8, DEV_STA=10, LNK_CAP=12, LNK_CTL=16, LNK_STA=18, DEV_CAP2=0x24,
              DEV_CTL2=0x28, LNK_CAP2=0x2c, LNK_CTL2=0x30, SIZE=0x3c),
    MsixCap: dict(CONTROL=2, TABLE=4, PBA=8, SIZE=12),
    VirtioCap: dict(CAP_LEN=2, CFG_TYPE=3, BAR=4, OFFSET=8, LENGTH=12, MULTIPLIER=16, PCI_CFG_DATA=16),
    CapId: dict(PM=1, VENDOR=9, EXP=0x10, MSIX=0x11),
    Fmt: dict(DW3=0, DW4=1, DW3_DATA=2, DW4_DATA=3, PREFIX=4),
    TlpType: dict(MEM=0, MEM_LK=1, IO=2, CFG0=4, CFG1=5, CPL=10, CPL_LK=11, FETCH_ADD=12, SWAP=13, CAS=14, MSG=16),
    CplStatus: dict(SC=0, UR=1, CRS=2, CA=4),
    MsgRouting: dict(ROOT_COMPLEX=0, ADDRESS=1, ID=2, BROADCAST=3, LOCAL=4, GATHERED=5),
    MsgCode: dict(UNLOCK=0x00, PM_ACTIVE_STATE_NAK=0x14, PME_TURN_OFF=0x19, PME_TO_ACK=0x1b,
                  ASSERT_INTA=0x20, DEASSERT_INTA=0x24, ERR_COR=0x30, ERR_NONFATAL=0x31, ERR_FATAL=0x33,
                  **{f"IGNORED_{code:x}": code for code in (0x40, 0x41, 0x43, 0x44, 0x45, 0x47, 0x48)},
                  SET_SLOT_POWER_LIMIT=0x50, VENDOR_TYPE0=0x7e, VENDOR_TYPE1=0x7f),
}
# name: mask, as the header files give it
BITS = {
    Command: dict(MEMORY_ENABLE=0x2, BUS_MASTER=0x4, PARITY=0x40, SERR=0x100, INTX_DISABLE=0x400),
    ConfigStatus: dict(INTERRUPT=0x08, CAP_LIST=0x10, MASTER_DATA_PARITY=0x100, RECEIVED_TARGET_ABORT=0x1000,
                       RECEIVED_MASTER_ABORT=0x2000, SIGNALED_SYSTEM_ERROR=0x4000, DETECTED_PARITY=0x8000),
    DevCtl: dict(REPORT_CORRECTABLE=0x01, REPORT_NONFATAL=0x02, REPORT_FATAL=0x04, REPORT_UNSUPPORTED=0x08,
                 MAX_PAYLOAD=0x20, EXT_TAG=0x100, MAX_READ_REQUEST=0x1000, INITIATE_FLR=0x8000),
    DevSta: dict(CORRECTABLE=0x01, NONFATAL=0x02, FATAL=0x04, UNSUPPORTED=0x08, TRANSACTIONS_PENDING=0x20),
    DevCap2: dict(TIMEOUT_DISABLE=0x10, EXTENDED_FMT=0x100000),
    DevCtl2: dict(TIMEOUT_DISABLE=0x10),
}
# field: (byte of the DW as it travels, highest bit in the byte, width)
HEADERS = {
    "HeaderDw0": dict(fmt=(0, 7, 3), type=(0, 4, 5), t9=(1, 7, 1), tc=(1, 6, 3), t8=(1, 3, 1), attr2=(1, 2, 1),
                      ln=(1, 1, 1), th=(1, 0, 1), td=(2, 7, 1), ep=(2, 6, 1),
                      attr=(2, 5, 2), at=(2, 3, 2), length=(2, 1, 10)),
    "RequestDw1": dict(requester_id=(0, 7, 16), tag=(2, 7, 8), last_be=(3, 7, 4), first_be=(3, 3, 4)),
    "ConfigDw2": dict(completer_id=(0, 7, 16), reserved2=(2, 7, 4), register=(2, 3, 10), reserved=(3, 1, 2)),
    "CompletionDw1": dict(completer_id=(0, 7, 16), status=(2, 7, 3), bcm=(2, 4, 1), byte_count=(2, 3, 12)),
    "CompletionDw2": dict(requester_id=(0, 7, 16), tag=(2, 7, 8), reserved=(3, 7, 1), lower_address=(3, 6, 7)),
    "MessageDw1": dict(requester_id=(0, 7, 16), tag=(2, 7, 8), code=(3, 7, 8)),
}


def numbers(space):
    return {name: int(value) for name, value in vars(space).items() if name.isupper()}


@pytest.mark.parametrize("space", REGISTERS, ids=lambda space: space.__name__)
def test_numbers(space):
    assert numbers(space) == REGISTERS[space]


@pytest.mark.parametrize("space", BITS, ids=lambda space: space.__name__)
def test_bits(space):
    assert {name: 1 << bit for name, bit in numbers(space).items()} == BITS[space]


@pytest.mark.parametrize("name", HEADERS)
def test_header_dws(name):
    layout = data.Layout.cast(getattr(pcie, name))
    highest = {field: at.offset + at.width - 1 for field, at in layout}
    assert layout.size == 32
    assert {field: ((31 - highest[field]) // 8, highest[field] % 8, at.width) for field, at in layout} == HEADERS[name]


def test_msix_entry():
    assert pcie.MSIX_ENTRY_SIZE == 16  # PCI_MSIX_ENTRY_SIZE
