"""The engine as a PCI device for vfio-user: BAR accesses, memory, and the MSI-X table that QEMU keeps to itself."""

from ...hdl.spec.bar import BAR_SIZE, MSIX_TABLE_OFFSET
from ...hdl.spec.pcie import CapId, Cfg, Exp
from ...host.bus.capabilities import capability, offers_flr

__all__ = ["EngineDevice"]

MSI_ADDRESS = 0xfee0_0000          # of all vectors; the data tells which
MEMORY_SPACE = 2                   # Command
FLR = 1 << 15                      # Device Control
ENTRY = 16                         # bytes of an MSI-X table entry


class EngineDevice:
    """A running :class:`ringnic.sim.engine.engine.Engine` in a slot.

    QEMU never forwards accesses to the MSI-X table. It says instead which vectors have somebody who listens; this
    class then writes the card's own table, as a host's kernel would, with addresses of its own, and writes it again
    whenever the card may have lost it or could not be reached.
    """
    bar_size = BAR_SIZE

    def __init__(self, engine):
        self.engine = engine
        self._bar, self._enabled = 0, False
        self._listened = set()
        self._dirty = False
        self._exp = capability(engine.config_read, CapId.EXP)
        self.vectors = (engine.config_read(capability(engine.config_read, CapId.MSIX) + 2, 2) & 0x7ff) + 1
        self.intx_pin = engine.config_read(0x3d, 1)

    def config_read(self, offset, size):
        return self.engine.config_read(offset, size)

    def config_write(self, offset, size, value):
        # The high byte of Device Control holds Initiate FLR.
        flr = self._exp + Exp.DEV_CTL + 1 - offset
        if 0 <= flr < size and value >> 8 * flr & FLR >> 8:
            self._keep_place(lambda: self.engine.config_write(offset, size, value))
        else:
            self.engine.config_write(offset, size, value)
        self._look()

    def _keep_place(self, reset):
        """Carry out a Function Level Reset, after which the BAR is where it was and the MSI-X table is written anew.

        What passes functions through answers for both by itself: nobody above it sees that they were lost, or writes them again.
        """
        bar = self.engine.config_read(Cfg.BAR0, 4)
        reset()
        self.engine.config_write(Cfg.BAR0, 4, bar)
        self._dirty = True

    def bar_read(self, offset, size):
        return self.engine.mem_read(self._bar + offset, size) if self._enabled else (1 << 8 * size) - 1

    def bar_write(self, offset, size, value):
        if self._enabled:
            self.engine.mem_write(self._bar + offset, size, value)

    def map(self, iova, memory, writable, offset, size):
        self.engine.map_memory(iova, memory, writable, offset=offset, size=size)

    def unmap(self, iova):
        self.engine.unmap_memory(iova)

    def listen(self, vectors):
        """Vectors that somebody listens to; the others are masked."""
        if vectors != self._listened:
            self._listened = set(vectors)
            self._dirty = True
        self._look()

    def reset(self):
        """Reset the function: by FLR, or with its slot if it does not offer that."""
        at = self._exp + Exp.DEV_CTL
        if offers_flr(self.engine.config_read):
            self._keep_place(lambda: self.engine.config_write(at, 2, self.engine.config_read(at, 2) | FLR))
        else:
            self._keep_place(self.engine.reset)
        self._look()

    def _look(self):
        """Where is BAR 0 now, and has the table to be written?"""
        self._bar = self.engine.config_read(Cfg.BAR0, 4) & ~15
        self._enabled = bool(self.engine.config_read(Cfg.COMMAND, 2) & MEMORY_SPACE) and self._bar != 0
        if self._dirty and self._enabled:
            self._dirty = False
            for vector in range(self.vectors):
                entry = self._bar + MSIX_TABLE_OFFSET + ENTRY * vector
                for offset, value in ((0, MSI_ADDRESS), (4, 0), (8, vector), (12, int(vector not in self._listened))):
                    self.engine.mem_write(entry + offset, 4, value)

    @property
    def irq_fd(self):
        return self.engine.irq_fd

    def messages(self):
        """Vectors that fired since the last call."""
        return [data for address, data in self.engine.interrupts() if address == MSI_ADDRESS]

    @property
    def intx(self):
        return self.engine.intx
