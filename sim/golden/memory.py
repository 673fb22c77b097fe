"""The memory that a device reaches by DMA."""

__all__ = ["Fault", "Memory"]


class Fault(Exception):
    """A read of an address where nothing is."""


class Memory:
    """What is mapped, by device address.

    Attributes
    ----------
    writes : list
        ``(address, bytes)`` of each write, in order; a test may clear it.
    """
    def __init__(self):
        self._regions = {}
        self.writes = []

    def map(self, iova, memory):
        """Let ``memory``, a writable buffer, be seen at ``iova``."""
        self._regions[iova] = memoryview(memory)

    def unmap(self, iova):
        del self._regions[iova]

    def _find(self, addr, length):
        for iova, region in self._regions.items():
            if iova <= addr and addr + length <= iova + len(region):
                return region[addr - iova:addr - iova + length]
        return None

    def read(self, addr, length):
        """Return ``length`` bytes; :exc:`Fault` unless all of them are mapped."""
        region = self._find(addr, length)
        if region is None:
            raise Fault(f"Nothing is at {addr:#x}, {length} bytes")
        return bytes(region)

    def write(self, addr, payload):
        """Write bytes. Where nothing is they vanish, as posted writes do."""
        region = self._find(addr, len(payload))
        if region is not None:
            region[:] = payload
        self.writes.append((addr, bytes(payload)))

    def read_u16(self, addr):
        return int.from_bytes(self.read(addr, 2), "little")

    def write_u16(self, addr, value):
        self.write(addr, (value & 0xffff).to_bytes(2, "little"))
