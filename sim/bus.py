"""The driver's bus over what stands in for hardware: the Verilated card, and the golden model."""

import random

from ..hdl.spec.pcie import CapId, Cfg, Exp
from ..host.bus import Bus, DmaBuffer
from ..host.bus.capabilities import capability, offers_flr

__all__ = ["SimBus", "EngineBus", "GoldenBus"]

BAR_WINDOW  = 0xe000_0000
MSI_ADDRESS = 0xfee0_0000
DMA_BASE    = 0x1_0000_0000  # above 4 GiB, so that headers of 4 DW are what is used
GUARD       = 0x1000         # bytes between buffers that no translation covers
FLR_POLLS   = 2000
INITIATE_FLR = 1 << 15       # Device Control


class SimBus(Bus):
    """What simulated buses share: addresses for BARs, memory and interrupts, and reset: by FLR where the function offers that.

    Memory that is allocated holds noise, by ``seed``: nothing says that it is zero.

    A subclass has ``config_read``, ``config_write``, ``_map(iova, memory)``, ``_unmap(iova, size)``, ``_messages()``:
    ``(address, data)`` of the MSI-X messages since the last call, and ``_reset_slot()`` if a function may be without FLR.
    """
    def __init__(self, seed=0):
        self._noise = random.Random(seed)
        self._next_iova = DMA_BASE
        self._next_bar = BAR_WINDOW
        self.bar_address = {}
        self.buffers = {}  # by iova: what the device may reach

    def place_bar(self, bar, size):
        if bar not in self.bar_address:
            self._next_bar = (self._next_bar + size - 1) & -size
            self.bar_address[bar] = self._next_bar
            self._next_bar += size
        return self.bar_address[bar]

    def alloc(self, size, align=4096):
        iova = (self._next_iova + align - 1) & -align
        self._next_iova = iova + size + GUARD
        memory = bytearray(self._noise.randbytes(size))
        buffer = DmaBuffer(iova, memoryview(memory), self._free)
        self.buffers[iova] = buffer
        self._map(iova, memory)
        return buffer

    def _free(self, buffer):
        del self.buffers[buffer.iova]
        self._unmap(buffer.iova, len(buffer))

    def enable_msix(self, vectors):
        return [(MSI_ADDRESS, vector) for vector in range(vectors)]

    def poll_irq(self):
        return {data for address, data in self._messages() if address == MSI_ADDRESS}

    def reset(self):
        if not offers_flr(self.config_read):
            self._reset_slot()
            return
        at = capability(self.config_read, CapId.EXP)
        control = self.config_read(at + Exp.DEV_CTL, 2)
        self.config_write(at + Exp.DEV_CTL, 2, control | INITIATE_FLR)
        # 6.6.2: 100 ms. A model need not be given that long when it is seen to be done.
        for _ in range(FLR_POLLS):
            self.run(50)
            if self.config_read(Cfg.VENDOR_ID, 2) != 0xffff:
                return
        raise TimeoutError("Function does not answer after FLR")


class EngineBus(SimBus):
    """The Verilated card behind its C++ root complex: every access is TLPs, every access takes its cycles."""
    def __init__(self, engine):
        super().__init__()
        self.engine = engine

    def config_read(self, offset, size):
        return self.engine.config_read(offset, size)

    def config_write(self, offset, size, value):
        self.engine.config_write(offset, size, value)

    def bar_read(self, bar, offset, size):
        return self.engine.mem_read(self.bar_address[bar] + offset, size)

    def bar_write(self, bar, offset, size, value):
        self.engine.mem_write(self.bar_address[bar] + offset, size, value)

    def run(self, cycles):
        self.engine.run(cycles)

    def _reset_slot(self):
        self.engine.reset()

    def _map(self, iova, memory):
        self.engine.map_memory(iova, memory, True)

    def _unmap(self, iova, size):
        self.engine.unmap_memory(iova, size)

    def _messages(self):
        return self.engine.interrupts()


class GoldenBus(SimBus):
    """The pure Python device: no TLPs, no time; but what a device does by itself it does when a driver waits."""
    def __init__(self, device):
        super().__init__()
        self.device = device

    def config_read(self, offset, size):
        return self.device.config_read(offset, size)

    def config_write(self, offset, size, value):
        self.device.config_write(offset, size, value)

    def bar_read(self, bar, offset, size):
        return self.device.bar_read(offset, size)

    def bar_write(self, bar, offset, size, value):
        self.device.bar_write(offset, size, value)

    def run(self, cycles):
        self.device.pass_time()

    def _map(self, iova, memory):
        self.device.map(iova, memory)

    def _unmap(self, iova, size):
        self.device.unmap(iova, size)

    def _messages(self):
        return self.device.interrupts()
