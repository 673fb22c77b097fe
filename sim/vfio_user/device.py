"""The engine as a PCI device for vfio-user: BAR accesses, memory, and the interrupts that QEMU keeps to itself."""

from ...hdl.spec.pcie import MSIX_ENTRY_SIZE, Cfg, Exp
from .function import IO_SPACE, MEMORY_SPACE, read_function
from .interrupts import MSI, MSIX
from .msi import MSI_ADDRESS, HiddenMsi

__all__ = ["EngineDevice"]

MSIX_ADDRESS = 0xfee0_0000         # of all vectors; the data tells which
FLR = 1 << 15                      # Device Control


class EngineDevice:
    """The function in a running :class:`ringnic.sim.engine.engine.Engine`, whatever it is.

    BARs, MSI, MSI-X, INTx and the way to reset it are found in its configuration space; raises
    :exc:`.function.FunctionError` if that makes no sense.

    QEMU never forwards accesses to the MSI-X table. It says instead which vectors have somebody who listens; this
    class then writes the card's own table, as a host's kernel would, with addresses of its own, and writes it again
    whenever the card may have lost it or could not be reached. For MSI see :class:`.msi.HiddenMsi`.
    """
    def __init__(self, engine):
        self.engine = engine
        self.function = function = read_function(engine.config_read, engine.config_write)
        self.bar_sizes = {index: bar.size for index, bar in function.bars.items()}
        self.vectors = {MSI: function.msi.vectors if function.msi else 0, MSIX: function.msix.vectors if function.msix else 0}
        self.intx_pin = function.intx_pin
        self._places = {}          # of the BARs that answer: their bus addresses
        self._msi = HiddenMsi(function.msi, engine.config_write) if function.msi else None
        self._listened = set()
        self._dirty = False
        self._kept = []            # values of the BARs' registers, as of the last reset

    def config_read(self, offset, size):
        kept = None if self._msi is None else self._msi.read(offset, size)
        return self.engine.config_read(offset, size) if kept is None else kept

    def config_write(self, offset, size, value):
        if self._msi is not None and self._msi.write(offset, size, value):
            return
        if self._begins_flr(offset, size, value):
            self._keep_place(lambda: self.engine.config_write(offset, size, value))
        else:
            self.engine.config_write(offset, size, value)
        self._look()

    def _begins_flr(self, offset, size, value):
        """The high byte of Device Control holds Initiate FLR."""
        if self.function.exp is None:
            return False
        flr = self.function.exp + Exp.DEV_CTL + 1 - offset
        return 0 <= flr < size and value >> 8 * flr & FLR >> 8

    def _keep_place(self, reset):
        """Carry out a Function Level Reset, after which the BARs are where they were and the MSI-X table is written anew.

        What passes functions through answers for both by itself: nobody above it sees that they were lost, or writes them again.
        """
        registers = [at for bar in self.function.bars.values() for at in (bar.register, bar.register + 4)[:1 + bar.wide]]
        try:
            self._kept = [self.engine.config_read(at, 4) for at in registers]
            reset()
        except TimeoutError:
            self.engine.reset()  # of the slot: nothing else reaches a function that does not answer any more
        for at, value in zip(registers, self._kept):
            self.engine.config_write(at, 4, value)
        if self._msi is not None:
            self._msi.reset()
        self._dirty = True

    def bar_read(self, bar, offset, size):
        if (place := self._places.get(bar)) is None:
            return (1 << 8 * size) - 1
        read = self.engine.io_read if self.function.bars[bar].io else self.engine.mem_read
        return read(place + offset, size)

    def bar_write(self, bar, offset, size, value):
        if (place := self._places.get(bar)) is not None:
            write = self.engine.io_write if self.function.bars[bar].io else self.engine.mem_write
            write(place + offset, size, value)

    def map(self, iova, memory, writable, offset, size):
        self.engine.map_memory(iova, memory, writable, offset=offset, size=size)

    def unmap(self, iova):
        self.engine.unmap_memory(iova)

    def listen(self, vectors):
        """Vectors of MSI-X that somebody listens to; the others are masked."""
        if vectors != self._listened:
            self._listened = set(vectors)
            self._dirty = True
        self._look()

    def reset(self):
        """Reset the function: by FLR, or with its slot if it does not offer that."""
        if self.function.flr:
            at = self.function.exp + Exp.DEV_CTL
            self._keep_place(lambda: self.engine.config_write(at, 2, self.engine.config_read(at, 2) | FLR))
        else:
            self._keep_place(self.engine.reset)
        self._look()

    def _look(self):
        """Where are the BARs now, and has the MSI-X table to be written?"""
        command = self.engine.config_read(Cfg.COMMAND, 2)
        on = {index: bar for index, bar in self.function.bars.items() if command & (IO_SPACE if bar.io else MEMORY_SPACE)}
        places = {index: bar.address(self.engine.config_read) for index, bar in on.items()}
        self._places = {index: place for index, place in places.items() if place}
        table = self.function.msix
        if self._dirty and table is not None and table.bar in self._places:
            self._dirty = False
            for vector in range(table.vectors):
                entry = self._places[table.bar] + table.offset + MSIX_ENTRY_SIZE * vector
                for offset, value in ((0, MSIX_ADDRESS), (4, 0), (8, vector), (12, int(vector not in self._listened))):
                    self.engine.mem_write(entry + offset, 4, value)

    @property
    def irq_fd(self):
        return self.engine.irq_fd

    def messages(self):
        """What fired since the last call: (MSI or MSIX, vector)."""
        kinds = {MSI_ADDRESS: (MSI, 0xffff), MSIX_ADDRESS: (MSIX, 0xffff_ffff)}  # MSI has 16 bits of data
        return [(kinds[address][0], data & kinds[address][1]) for address, data in self.engine.interrupts() if address in kinds]

    @property
    def intx(self):
        return self.engine.intx
