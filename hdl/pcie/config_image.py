"""Bytes of configuration space: constant ones, and registers that the host writes."""

from amaranth import *

__all__ = ["ConfigImage"]


class ConfigImage:
    """A stretch of configuration space, as it is described piece by piece.

    Parameters
    ----------
    port : RegPort(12)
        Accesses; the registers are written in the cycle in which a write is transferred.
    start, end : int
        Byte addresses, multiples of 4.
    """
    def __init__(self, port, start, end):
        self.req   = port.req.p
        self.write = port.req.valid & port.req.ready & self.req.write
        self._start, self._end = start, end
        self._constant = bytearray(end)
        self._written  = {}

    def put(self, at, size, value):
        """Make ``size`` bytes at ``at`` read as ``value``."""
        self._constant[at:at + size] = value.to_bytes(size, "little")

    def register(self, m, at, mask, init=0):
        """Return a register whose bits in ``mask`` the host writes, reset with module ``m``."""
        value = Signal(32, name=f"reg_{at:02x}", init=init)
        with m.If(self.write & (self.req.addr == at)):
            for k in range(32):
                if mask >> k & 1:
                    with m.If(self.req.be[k // 8]):
                        m.d.sync += value[k].eq(self.req.data[k])
        self._written[at] = self._written.get(at, 0) | value
        return value

    def read(self, m, live={}):
        """Return what is at the address of the access; ``live``: more bits, by their address."""
        value = Signal(32)
        with m.Switch(self.req.addr[2:]):
            for at in range(self._start, self._end, 4):
                constant = int.from_bytes(self._constant[at:at + 4], "little")
                if constant or at in self._written or at in live:
                    with m.Case(at // 4):
                        m.d.comb += value.eq(constant | self._written.get(at, 0) | live.get(at, 0))
        return value
