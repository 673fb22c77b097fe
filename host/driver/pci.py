"""Find what a PCI function offers, and make it answer.

Ref: PCI Express Base 5.0, 7.5.1 "PCI-Compatible Configuration Registers", 7.7.2 "MSI-X Capability and Table
Structure"; VIRTIO 1.4, 4.1.4 "Virtio Structure PCI Capabilities".
"""

from dataclasses import dataclass

from ...hdl.spec.pcie import MSIX_ENTRY_SIZE, CapId, Cfg, Command, MsixCap, VirtioCap
from ...hdl.spec.virtio import CfgType
from ..bus.capabilities import capabilities

__all__ = ["Bar", "VirtioStructure", "PciFunction"]

NUM_BARS = 6
MSIX_ENABLE = 1 << 15
MSIX_MASK_ALL = 1 << 14


@dataclass(frozen=True)
class Bar:
    """One memory BAR: bytes, and what its low bits say."""
    size: int
    is_64bit: bool
    prefetchable: bool


@dataclass(frozen=True)
class VirtioStructure:
    """A virtio configuration structure: ``length`` bytes at ``offset`` in BAR ``bar``.

    ``cap`` is where its capability lies in configuration space; ``multiplier`` is there for notifications only.
    """
    cap: int
    bar: int
    offset: int
    length: int
    multiplier: int = 0


class PciFunction:
    """A function found and enabled: BARs placed, memory and bus mastering on.

    Attributes
    ----------
    vendor_id, device_id, revision_id, class_code : int
    bars : dict
        :class:`Bar` by index.
    capabilities : list
        ``(offset, id)`` in the order of the list.
    structures : dict
        :class:`VirtioStructure` by :class:`~...hdl.spec.virtio.CfgType`; of several of a type, the first.
    msix_vectors : int
        Size of the MSI-X table, 0 if there is none.
    """
    def __init__(self, bus):
        self.bus = bus
        self.vendor_id   = bus.config_read(Cfg.VENDOR_ID, 2)
        self.device_id   = bus.config_read(Cfg.DEVICE_ID, 2)
        if self.vendor_id == 0xffff:
            raise LookupError("No function answers")
        self.revision_id = bus.config_read(Cfg.REVISION_ID, 1)
        self.class_code  = bus.config_read(Cfg.CLASS_CODE - 1, 4) >> 8
        self.capabilities = list(capabilities(bus.config_read))
        self.structures = self._find_structures()
        self.bars = self._size_bars()
        self._msix = self.find(CapId.MSIX)
        self.msix_vectors = 0
        if self._msix is not None:
            self.msix_vectors = (bus.config_read(self._msix + MsixCap.CONTROL, 2) & 0x7ff) + 1
        self.enable()

    def find(self, cap_id):
        """Return the offset of the first capability of this id, or None."""
        return next((at for at, found in self.capabilities if found == cap_id), None)

    def _find_structures(self):
        read, structures = self.bus.config_read, {}
        for at, cap_id in self.capabilities:
            if cap_id != CapId.VENDOR:
                continue
            cfg_type = read(at + VirtioCap.CFG_TYPE, 1)
            bar = read(at + VirtioCap.BAR, 1)
            # 4.1.4.1: the driver ignores types and BARs it does not know, and prefers the first of several.
            if cfg_type in list(CfgType) and bar < NUM_BARS and cfg_type not in structures:
                structures[CfgType(cfg_type)] = VirtioStructure(
                    cap=at, bar=bar, offset=read(at + VirtioCap.OFFSET, 4), length=read(at + VirtioCap.LENGTH, 4),
                    multiplier=read(at + VirtioCap.MULTIPLIER, 4) if cfg_type == CfgType.NOTIFY else 0)
        return structures

    def _size_bars(self):
        """Write all ones and see which bits stay 0. The function must not decode memory meanwhile."""
        bus, bars, index = self.bus, {}, 0
        command = bus.config_read(Cfg.COMMAND, 2)
        bus.config_write(Cfg.COMMAND, 2, command & ~(1 << Command.MEMORY_ENABLE))
        while index < NUM_BARS:
            at = Cfg.BAR0 + 4 * index
            before = bus.config_read(at, 4)
            is_io, is_64bit = before & 1, (before >> 1 & 3) == 2
            bus.config_write(at, 4, 0xffff_ffff)
            mask = bus.config_read(at, 4) & 0xffff_fff0
            bus.config_write(at, 4, before)
            if is_64bit:
                upper = bus.config_read(at + 4, 4)
                bus.config_write(at + 4, 4, 0xffff_ffff)
                mask |= bus.config_read(at + 4, 4) << 32
                bus.config_write(at + 4, 4, upper)
            if mask and not is_io:
                bars[index] = Bar(size=mask & -mask, is_64bit=is_64bit, prefetchable=bool(before & 8))
            index += 2 if is_64bit else 1
        bus.config_write(Cfg.COMMAND, 2, command)
        return bars

    def enable(self):
        """Place the BARs where the bus leaves that to us, and let the function decode memory and do DMA."""
        for index, bar in self.bars.items():
            address = self.bus.place_bar(index, bar.size)
            if address is not None:
                self.bus.config_write(Cfg.BAR0 + 4 * index, 4, address & 0xffff_ffff)
                if bar.is_64bit:
                    self.bus.config_write(Cfg.BAR0 + 4 * index + 4, 4, address >> 32)
        self._command(1 << Command.MEMORY_ENABLE | 1 << Command.BUS_MASTER, 0)

    def _command(self, on, off):
        command = self.bus.config_read(Cfg.COMMAND, 2)
        self.bus.config_write(Cfg.COMMAND, 2, command & ~off | on)

    def set_bus_master(self, enable):
        """Allow the function to do DMA and send interrupts, or forbid it."""
        bit = 1 << Command.BUS_MASTER
        self._command(*((bit, 0) if enable else (0, bit)))

    def reset(self):
        """Function Level Reset. The function has forgotten everything: it is enabled again, MSI-X is not."""
        self.bus.reset()
        self.enable()

    def enable_msix(self, vectors):
        """Set up vectors 0 to ``vectors - 1``, unmasked, and switch MSI-X on."""
        if vectors > self.msix_vectors:
            raise ValueError(f"MSI-X table has {self.msix_vectors} vectors, not {vectors}")
        messages = self.bus.enable_msix(vectors)
        if messages is None:
            return
        control = self._msix + MsixCap.CONTROL
        # Masked as a whole while the table is incomplete.
        self.bus.config_write(control, 2, MSIX_ENABLE | MSIX_MASK_ALL)
        for vector, (address, data) in enumerate(messages):
            for k, value in enumerate((address & 0xffff_ffff, address >> 32, data, 0)):
                self._write_table(vector, k, value)
        self.bus.config_write(control, 2, MSIX_ENABLE)

    def mask_vector(self, vector, masked=True):
        """Set a vector's own mask bit: what comes meanwhile is pending, and comes when it is cleared."""
        self._write_table(vector, 3, int(masked))

    def disable_msix(self):
        self.bus.config_write(self._msix + MsixCap.CONTROL, 2, 0)

    def _write_table(self, vector, dw, value):
        table = self.bus.config_read(self._msix + MsixCap.TABLE, 4)
        self.bus.bar_write(table & 7, (table & ~7) + MSIX_ENTRY_SIZE * vector + 4 * dw, 4, value)
