"""The PCI function around the device: configuration space, MSI-X.

Ref: PCI Express Base 5.0, 6.6.2 "Function Level Reset", 7.5.1 "PCI-Compatible Configuration Registers", 7.5.2 "PCI Power
Management Capability Structure", 7.5.3 "PCI Express Capability Structure", 7.7.2 "MSI-X Capability and Table Structure"; VIRTIO
1.4, 4.1.4 "Virtio Structure PCI Capabilities".
"""

from ...hdl.spec.bar import (BAR_INDEX, BAR_SIZE, COMMON_OFFSET, DEVICE_OFFSET, ISR_OFFSET, MSIX_PBA_OFFSET,
                             MSIX_TABLE_OFFSET, NOTIFY_MULTIPLIER, NOTIFY_OFFSET)
from ...hdl.spec.pcie import MSIX_ENTRY_SIZE, CapId, Cfg, Command, ConfigStatus, Exp, MsixCap, Pm, VirtioCap
from ...hdl.spec.virtio import VIRTIO_PCI_VENDOR_ID, CfgType, Common

__all__ = ["GoldenFunction"]

PAGE = 0x1000
PM_CAP, EXP_CAP, MSIX_CAP, VIRTIO_CAPS = 0x40, 0x60, 0x9c, 0xa8  # where the card has them: an access means the same to both
# Device Capabilities: payloads of 256 bytes, extended tags, Role-Based Error Reporting, FLR.
DEVICE_CAPABILITIES = 1 | 1 << 5 | 1 << 15 | 1 << 28
DEVICE_CAPABILITIES_2 = 1 << 4 | 1 << 20  # Completion Timeout Disable, Extended Fmt Field
TIMEOUT_DISABLE = 1 << 4    # Device Control 2
NO_SOFT_RESET = 1 << 3      # Power Management Control/Status
LINK = 1 | 1 << 4           # 2.5 GT/s, a lane
LINK_OPTIONAL_ASPM, SLOT_CLOCK = 1 << 22, 1 << 12
INITIATE_FLR = 0x80         # upper byte of Device Control
MAX_PAYLOAD = 0xe0          # lower byte of it
MSIX_ENABLE, MSIX_MASK_ALL = 0x80, 0x40  # upper byte of Message Control
VECTOR_CONTROL = {12: 1, 13: 0, 14: 0, 15: 0}  # bits that there are, by byte of a table's entry
STRUCTURES = {
    CfgType.COMMON: (COMMON_OFFSET, Common.SIZE),
    CfgType.NOTIFY: (NOTIFY_OFFSET, PAGE),
    CfgType.ISR:    (ISR_OFFSET, 4),
    CfgType.DEVICE: (DEVICE_OFFSET, PAGE),
    CfgType.PCI:    (0, 0),
}


class GoldenFunction:
    """What of a device is PCI. A subclass is the device behind BAR 0.

    It has ``_read(page, offset, size)``, ``_write(page, offset, size, value)`` for all pages but those of MSI-X, ``intx``,
    ``_bus_master_on()`` and ``_flr()``.
    """
    def __init__(self, *, device_id, class_code, vectors):
        self.vectors = vectors
        self._rom = bytearray(Cfg.SIZE)
        self._writable = bytearray(Cfg.SIZE)  # mask
        self._messages = []

        def put(at, size, value, mask=0):
            self._rom[at:at + size] = value.to_bytes(size, "little")
            self._writable[at:at + size] = mask.to_bytes(size, "little")
        put(Cfg.VENDOR_ID, 2, VIRTIO_PCI_VENDOR_ID)
        put(Cfg.DEVICE_ID, 2, device_id)
        put(Cfg.COMMAND, 2, 0, sum(1 << bit for bit in (Command.MEMORY_ENABLE, Command.BUS_MASTER, Command.PARITY, Command.SERR,
                                                        Command.INTX_DISABLE)))
        put(Cfg.STATUS, 2, 1 << ConfigStatus.CAP_LIST)
        put(Cfg.REVISION_ID, 1, 1)
        put(Cfg.CLASS_CODE, 3, class_code)
        put(Cfg.CACHE_LINE_SIZE, 1, 0, 0xff)
        put(Cfg.BAR0 + 4 * BAR_INDEX, 4, 0, -BAR_SIZE & 0xffff_ffff)
        put(Cfg.SUBSYSTEM_VENDOR_ID, 2, VIRTIO_PCI_VENDOR_ID)
        put(Cfg.SUBSYSTEM_ID, 2, device_id)
        put(Cfg.CAP_POINTER, 1, PM_CAP)
        put(Cfg.INTERRUPT_LINE, 1, 0, 0xff)
        put(Cfg.INTERRUPT_PIN, 1, 1)
        put(PM_CAP, 2, CapId.PM | EXP_CAP << 8)
        put(PM_CAP + Pm.PMC, 2, 3)
        put(PM_CAP + Pm.PMCSR, 2, NO_SOFT_RESET)
        put(EXP_CAP, 2, CapId.EXP | MSIX_CAP << 8)
        put(EXP_CAP + Exp.FLAGS, 2, 2)
        put(EXP_CAP + Exp.DEV_CAP, 4, DEVICE_CAPABILITIES)
        put(EXP_CAP + Exp.DEV_CTL, 2, 0x2810, 0x79ff)
        put(EXP_CAP + Exp.LNK_CAP, 4, LINK | LINK_OPTIONAL_ASPM)
        put(EXP_CAP + Exp.LNK_CTL, 2, 0, 0xcb)  # ASPM, RCB, common clock, extended synch
        put(EXP_CAP + Exp.LNK_STA, 2, LINK | SLOT_CLOCK)
        put(EXP_CAP + Exp.DEV_CAP2, 4, DEVICE_CAPABILITIES_2)
        put(EXP_CAP + Exp.DEV_CTL2, 2, 0, TIMEOUT_DISABLE)
        put(EXP_CAP + Exp.LNK_CAP2, 4, 1 << 1)  # 2.5 GT/s
        put(EXP_CAP + Exp.LNK_CTL2, 2, 1)
        put(MSIX_CAP, 2, CapId.MSIX | VIRTIO_CAPS << 8)
        put(MSIX_CAP + MsixCap.CONTROL, 2, vectors - 1, (MSIX_ENABLE | MSIX_MASK_ALL) << 8)
        put(MSIX_CAP + MsixCap.TABLE, 4, MSIX_TABLE_OFFSET | BAR_INDEX)
        put(MSIX_CAP + MsixCap.PBA, 4, MSIX_PBA_OFFSET | BAR_INDEX)
        at = VIRTIO_CAPS
        for cfg_type, (offset, length) in STRUCTURES.items():
            size = 20 if cfg_type in (CfgType.NOTIFY, CfgType.PCI) else 16
            following = 0 if cfg_type == CfgType.PCI else at + size
            writable = 0xffff_ffff if cfg_type == CfgType.PCI else 0
            put(at, 4, CapId.VENDOR | following << 8 | size << 16 | cfg_type << 24)
            put(at + VirtioCap.BAR, 1, BAR_INDEX, writable & 0xff)
            put(at + VirtioCap.OFFSET, 4, offset, writable)
            put(at + VirtioCap.LENGTH, 4, length, writable)
            if cfg_type == CfgType.PCI:
                put(at + VirtioCap.PCI_CFG_DATA, 4, 0, writable)
            if cfg_type == CfgType.NOTIFY:
                put(at + VirtioCap.MULTIPLIER, 4, NOTIFY_MULTIPLIER)
            self._window, at = at, at + size
        self._forget()

    def _forget(self):
        """As after power-on."""
        self._config = bytearray(self._rom)
        self._table = bytearray(MSIX_ENTRY_SIZE * self.vectors)
        for vector in range(self.vectors):
            self._table[MSIX_ENTRY_SIZE * vector + 12] = 1  # masked
        self._pending = set()

    # Configuration space

    def config_read(self, offset, size):
        self._use_window(offset, write=False)
        image = bytearray(self._config)
        image[Cfg.STATUS] |= bool(self.intx) << ConfigStatus.INTERRUPT
        return int.from_bytes(image[offset:offset + size], "little")

    def config_write(self, offset, size, value):
        self._config_write(dict(enumerate(value.to_bytes(size, "little"), offset)))

    def config_dw(self, offset, enables, value=None):
        """Access a DW, of which ``enables`` tells the bytes that are meant, from bit 0: read it, or write ``value``.

        2.2.5: any combination of byte enables may be.
        """
        if value is None:
            return self.config_read(offset, 4) if enables else int.from_bytes(self._config[offset:offset + 4], "little")
        return self._config_write({offset + k: value >> 8 * k & 0xff for k in range(4) if enables >> k & 1})

    def _config_write(self, written):
        """``written``: bytes by offset, of one DW."""
        was_master = self._bus_master
        for at, byte in written.items():
            mask = self._writable[at]
            self._config[at] = self._config[at] & ~mask | byte & mask
            if at == PM_CAP + Pm.PMCSR and byte & 3 in (0, 3):  # 7.5.2.2: there is no other state; the write is dropped
                self._config[at] = self._config[at] & ~3 | byte & 3
            if at == EXP_CAP + Exp.DEV_CTL + 1 and byte & INITIATE_FLR:
                self._function_level_reset()
                return
        if written:
            self._use_window(min(written), write=True)
        self._send_pending()
        if self._bus_master and not was_master:
            self._bus_master_on()

    def _function_level_reset(self):
        """6.6.2: what belongs to the link stays."""
        payload, link = self._config[EXP_CAP + Exp.DEV_CTL] & MAX_PAYLOAD, self._config[EXP_CAP + Exp.LNK_CTL]
        self._forget()
        self._config[EXP_CAP + Exp.DEV_CTL] = self._config[EXP_CAP + Exp.DEV_CTL] & ~MAX_PAYLOAD | payload
        self._config[EXP_CAP + Exp.LNK_CTL] = link
        self._flr()

    def _use_window(self, offset, write):
        """4.1.4.9.1: an access to pci_cfg_data is one of cap.length bytes at cap.offset in BAR cap.bar. A write takes them from
        pci_cfg_data, a read leaves them there."""
        data = self._window + VirtioCap.PCI_CFG_DATA
        if not data <= offset < data + 4:
            return

        def field(at, size):
            return int.from_bytes(self._config[self._window + at:self._window + at + size], "little")
        bar, at, length = field(VirtioCap.BAR, 1), field(VirtioCap.OFFSET, 4), field(VirtioCap.LENGTH, 4)
        if bar != BAR_INDEX or length not in (1, 2, 4) or at % length or at + length > BAR_SIZE:
            return
        if write:
            self._access(at, length, int.from_bytes(self._config[data:data + length], "little"))
        else:
            self._config[data:data + length] = self._access(at, length).to_bytes(length, "little")

    def _command(self, bit):
        """A bit of the lower byte, as it takes effect: 5.3.1.4.1, in D3hot there are configuration requests and no others."""
        return bool(self._config[Cfg.COMMAND] >> bit & 1) and not self._config[PM_CAP + Pm.PMCSR] & 3

    @property
    def _bus_master(self):
        return self._command(Command.BUS_MASTER)

    # BAR 0

    def bar_read(self, offset, size):
        return self._access(offset, size) if self._command(Command.MEMORY_ENABLE) else (1 << 8 * size) - 1

    def bar_write(self, offset, size, value):
        if self._command(Command.MEMORY_ENABLE):
            self._access(offset, size, value)

    def bar_dw(self, offset, enables, value=None):
        """As :meth:`config_dw`; of a read only the bytes that are meant are right."""
        if value is None:
            return sum(self.bar_read(offset + k, 1) << 8 * k for k in range(4) if enables >> k & 1)
        for first in range(4):
            if enables >> first & 1 and not (first and enables >> first - 1 & 1):
                size = next(n for n in range(1, 5) if not enables >> first + n & 1)
                self.bar_write(offset + first, size, value >> 8 * first & (1 << 8 * size) - 1)
        return None

    def _access(self, offset, size, value=None):
        """Read, or write a value."""
        page, within = offset & -PAGE, offset % PAGE
        if page in (MSIX_TABLE_OFFSET, MSIX_PBA_OFFSET):
            if value is None:
                pba = sum(1 << vector for vector in self._pending).to_bytes(PAGE, "little")
                page_bytes = self._table if page == MSIX_TABLE_OFFSET else pba
                return int.from_bytes(page_bytes[within:within + size], "little")
            if page == MSIX_TABLE_OFFSET and within + size <= len(self._table):
                for at, byte in enumerate(value.to_bytes(size, "little"), within):
                    # 7.7.2.8: of Vector Control there is the mask bit.
                    self._table[at] = byte & VECTOR_CONTROL.get(at % MSIX_ENTRY_SIZE, 0xff)
                self._send_pending()
            return None
        return self._read(page, within, size) if value is None else self._write(page, within, size, value)

    # MSI-X

    @property
    def msix_enabled(self):
        return bool(self._config[MSIX_CAP + MsixCap.CONTROL + 1] & MSIX_ENABLE)

    def _signal(self, vector):
        if self.msix_enabled and vector < self.vectors:
            self._pending.add(vector)
            self._send_pending()

    def _send_pending(self):
        if not self.msix_enabled:
            self._pending.clear()
        if self._config[MSIX_CAP + MsixCap.CONTROL + 1] & MSIX_MASK_ALL or not self._bus_master:
            return
        for vector in sorted(self._pending):
            entry = self._table[MSIX_ENTRY_SIZE * vector:MSIX_ENTRY_SIZE * (vector + 1)]
            if not entry[12] & 1:
                self._pending.remove(vector)
                self._messages.append((int.from_bytes(entry[:8], "little"), int.from_bytes(entry[8:12], "little")))

    def interrupts(self):
        """Return the ``(address, data)`` of the messages since the last call."""
        messages, self._messages = self._messages, []
        return messages
