"""The card's registers as a driver in a hurry writes them: posted, and nothing is read that need not be."""

from ...hdl.pcie.config import capabilities
from ...hdl.spec.bar import (BAR_SIZE, COMMON_OFFSET, COUNTERS, COUNTERS_HEADER_SIZE, COUNTERS_OFFSET, MSIX_TABLE_OFFSET,
                             NOTIFY_MULTIPLIER, NOTIFY_OFFSET)
from ...hdl.spec.pcie import MSIX_ENTRY_SIZE, CapId, Cfg, Command, Exp, MsixCap, Pm, VirtioCap
from ...hdl.spec.virtio import CfgType, Common, Status
from ..bus import BAR_WINDOW, MSI_ADDRESS

__all__ = ["Card", "Unresponsive"]

VECTORS = 10
MEMORY, MASTER = 1 << Command.MEMORY_ENABLE, 1 << Command.BUS_MASTER
INITIATE_FLR = 1 << 15
MSIX_ENABLE, MSIX_MASK_ALL = 1 << 15, 1 << 14
CAPS = {cap_id: at for at, cap_id, _, _ in reversed(capabilities())}
WINDOW = next(at for at, _, _, cfg_type in capabilities() if cfg_type == CfgType.PCI)


class Unresponsive(Exception):
    """The card did not do in bounded time what it must."""


class Card:
    """Registers of the card behind an :class:`~..engine.engine.Engine`.

    Attributes
    ----------
    accesses : int
        How many were made.
    """
    def __init__(self, engine):
        self.engine = engine
        self.accesses = 0

    # Configuration space

    def config_write(self, offset, size, value):
        self.accesses += 1
        self.engine.config_write(offset, size, value)

    def config_read(self, offset, size):
        self.accesses += 1
        return self.engine.config_read(offset, size)

    def boot(self):
        """What a host does after power-on and after FLR: place the BAR, enable memory, DMA and MSI-X."""
        self.config_write(Cfg.BAR0, 4, BAR_WINDOW)
        self.command(memory=True, master=True)
        self.msix(enable=True, mask=True)
        for vector in range(VECTORS):
            for dw, value in enumerate((MSI_ADDRESS, 0, vector, 0)):
                self.table(vector, dw, value)
        self.msix(enable=True, mask=False)

    def command(self, *, memory, master):
        self.config_write(Cfg.COMMAND, 2, MEMORY * memory | MASTER * master)

    def msix(self, *, enable, mask):
        self.config_write(CAPS[CapId.MSIX] + MsixCap.CONTROL, 2, MSIX_ENABLE * enable | MSIX_MASK_ALL * mask)

    @property
    def function_mask(self):
        return self.config_read(CAPS[CapId.MSIX] + MsixCap.CONTROL, 2) // MSIX_MASK_ALL & 1

    def power(self, state):
        self.config_write(CAPS[CapId.PM] + Pm.PMCSR, 2, state)

    def device_control(self, value):
        """Max_Payload_Size, Max_Read_Request_Size, tags; no Function Level Reset."""
        self.config_write(CAPS[CapId.EXP] + Exp.DEV_CTL, 2, value & ~INITIATE_FLR)

    def window(self, offset, size, value=None):
        """An access through ``pci_cfg_data`` (4.1.4.9); a read if there is no value."""
        self.config_write(WINDOW + VirtioCap.OFFSET, 4, offset)
        self.config_write(WINDOW + VirtioCap.LENGTH, 4, size)
        if value is None:
            return self.config_read(WINDOW + VirtioCap.PCI_CFG_DATA, 4)
        return self.config_write(WINDOW + VirtioCap.PCI_CFG_DATA, 4, value)

    # BAR

    def write(self, offset, size, value):
        self.accesses += 1
        self.engine.mem_write(BAR_WINDOW + offset % BAR_SIZE, size, value)

    def read(self, offset, size):
        self.accesses += 1
        return self.engine.mem_read(BAR_WINDOW + offset % BAR_SIZE, size)

    def table(self, vector, dw, value):
        """Write a DW of an MSI-X table entry."""
        self.write(MSIX_TABLE_OFFSET + MSIX_ENTRY_SIZE * vector + 4 * dw, 4, value)

    def read_table(self, vector, dw):
        return self.read(MSIX_TABLE_OFFSET + MSIX_ENTRY_SIZE * vector + 4 * dw, 4)

    def common(self, offset, size, value):
        self.write(COMMON_OFFSET + offset, size, value)

    def select(self, queue):
        self.common(Common.QUEUE_SELECT, 2, queue)

    @property
    def status(self):
        return self.read(COMMON_OFFSET + Common.DEVICE_STATUS, 1)

    @status.setter
    def status(self, value):
        self.common(Common.DEVICE_STATUS, 1, value)

    def notify(self, queue, value, size):
        self.write(NOTIFY_OFFSET + NOTIFY_MULTIPLIER * queue, size, value)

    def counter(self, name):
        """The lower half of a counter."""
        return self.read(COUNTERS_OFFSET + COUNTERS_HEADER_SIZE + 8 * COUNTERS.index(name), 4)

    # Sequences

    def negotiate(self, features):
        """Everything up to FEATURES_OK, of a device that has been reset. Return whether the device agreed."""
        self.status = Status.ACKNOWLEDGE | Status.DRIVER
        for word in range(4):
            bits = sum(1 << bit - 32 * word for bit in features if bit // 32 == word)
            if bits:
                self.common(Common.DRIVER_FEATURE_SELECT, 4, word)
                self.common(Common.DRIVER_FEATURE, 4, bits)
        self.status = Status.FEATURES_OK
        return bool(self.status & Status.FEATURES_OK)

    def setup_queue(self, queue, size, desc, driver, device, pause=0):
        """Configure a queue, and enable it ``pause`` cycles later."""
        self.select(queue)
        self.common(Common.QUEUE_SIZE, 4, size | min(queue + 1, VECTORS - 1) << 16)
        for offset, value in ((Common.QUEUE_DESC, desc), (Common.QUEUE_DRIVER, driver), (Common.QUEUE_DEVICE, device)):
            self.common(offset, 4, value & 0xffff_ffff)
            self.common(offset + 4, 4, value >> 32)
        if pause:
            self.engine.run(pause)
        self.common(Common.QUEUE_ENABLE, 2, 1)

    def reset_queue(self, queue, limit):
        """Reset a queue and wait, so many cycles at most; there need be none, nor any that is enabled."""
        self.select(queue)
        self.common(Common.QUEUE_RESET, 2, 1)
        self._until(lambda: self.read(COMMON_OFFSET + Common.QUEUE_RESET, 2) == 0, f"reset of queue {queue}", limit)

    def reset(self, limit):
        """Write status 0 and wait."""
        self.status = 0
        self._until(lambda: self.status == 0, "reset by status 0", limit)

    def function_level_reset(self, limit):
        self.config_write(CAPS[CapId.EXP] + Exp.DEV_CTL, 2, INITIATE_FLR)
        self._until(lambda: self.config_read(Cfg.VENDOR_ID, 2) != 0xffff, "Function Level Reset", limit)

    def _until(self, done, what, limit):
        end = self.engine.stats()["cycles"] + limit
        while not done():
            if self.engine.stats()["cycles"] > end:
                raise Unresponsive(f"{what} does not end in {limit} cycles")
            self.engine.run(50)
