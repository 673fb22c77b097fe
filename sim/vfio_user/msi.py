"""MSI of a served function: the client writes its own address and data, and the function gets ours."""

from ...hdl.spec.pcie import Cfg

__all__ = ["MSI_ADDRESS", "HiddenMsi"]

MSI_ADDRESS = 0xfee0_1000          # of all messages; the data tells which
CONTROL = 2


class HiddenMsi:
    """Address and data of a :class:`.function.MsiCapability`.

    What the client writes there is for its own interrupt controller, and the eventfds of SET_IRQS stand for that. So it is kept
    here and read back from here, and before the client enables MSI the function is given an address that the root complex takes
    for an interrupt. Data begins at 0: the function counts up from there, so the data of a message is its vector.
    """
    def __init__(self, capability, config_write):
        self._config_write = config_write
        self._at = capability.at
        self._first = capability.at + 4                        # address, upper half of it, data: whole DWs
        self._kept = bytearray(12 if capability.wide else 8)

    def _held(self, offset):
        """Place in ``_kept`` of an aligned access of up to 4 bytes, or None."""
        at = offset - self._first
        return at if 0 <= at < len(self._kept) else None

    def read(self, offset, size):
        """What the client wrote there; None where the function answers."""
        at = self._held(offset)
        return None if at is None else int.from_bytes(self._kept[at:at + size], "little")

    def write(self, offset, size, value):
        """Keep what is not for the function, and return whether that was all."""
        at = self._held(offset)
        if at is not None:
            self._kept[at:at + size] = value.to_bytes(size, "little")
            return True
        if offset < self._at + CONTROL + 2 and offset + size > self._at + CONTROL:
            for place, ours in zip(range(self._first, Cfg.SIZE, 4), (MSI_ADDRESS, 0, 0)[:len(self._kept) // 4]):
                self._config_write(place, 4, ours)
        return False

    def reset(self):
        self._kept[:] = bytes(len(self._kept))
