"""What a PCI function's configuration space says of it: its BARs, its interrupts, how it is reset.

Ref: PCI Express Base 5.0, 7.5.1.2.1 "Base Address Registers", 7.7.1 "MSI Capability Structures", 7.7.2 "MSI-X Capability and
Table Structure".
"""

from dataclasses import dataclass

from ...hdl.spec.pcie import MSIX_ENTRY_SIZE, CapId, Cfg, Command, MsixCap
from ...host.bus.capabilities import capabilities, offers_flr

__all__ = ["IO_SPACE", "MEMORY_SPACE", "Bar", "Function", "FunctionError", "MsiCapability", "MsixTable", "read_function"]

IO_SPACE, MEMORY_SPACE = 1, 1 << Command.MEMORY_ENABLE
BARS = 6
MAX_BAR = 1 << 40                  # bytes: what is left for a region in the offsets of vfio-user
MAX_IO = 1 << 16                   # bytes: all of a PC's I/O space
HEADER_TYPE = 0x0e
MSI_CAPABILITY = 0x05
MSI_64, MSI_MAX_CODE = 1 << 7, 5   # Message Control
MEMORY_32, MEMORY_64 = 0, 2        # type of a memory BAR, in its bits 2:1


class FunctionError(ValueError):
    """No host could use this function; the message says what is wrong with its configuration space."""


@dataclass(frozen=True)
class Bar:
    """``size`` in bytes. ``io``: in I/O space. ``wide``: 64 bits, so the next register belongs to it."""
    index: int
    size: int
    io: bool = False
    wide: bool = False

    @property
    def register(self):
        return Cfg.BAR0 + 4 * self.index

    def address(self, config_read):
        """Where the host has put it."""
        low = config_read(self.register, 4) & ~(3 if self.io else 15)
        return low | (config_read(self.register + 4, 4) << 32 if self.wide else 0)


@dataclass(frozen=True)
class MsixTable:
    """``vectors`` entries at ``offset`` in BAR ``bar``."""
    vectors: int
    bar: int
    offset: int


@dataclass(frozen=True)
class MsiCapability:
    """At offset ``at``; the function may use up to ``vectors`` messages, ``wide`` tells of a 64-bit address."""
    at: int
    vectors: int
    wide: bool


@dataclass(frozen=True)
class Function:
    """``bars`` by index; ``msi``, ``msix``: None if it has no such capability; ``exp``: offset of its PCI Express capability, or
    None; ``flr``: it offers Function Level Reset; ``intx_pin``: 0 for none, 1 for INTA."""
    bars: dict
    msi: MsiCapability | None
    msix: MsixTable | None
    exp: int | None
    flr: bool
    intx_pin: int


def _mask(config_read, config_write, at):
    """The bits of a register that keep a one."""
    before = config_read(at, 4)
    config_write(at, 4, 0xffff_ffff)
    mask = config_read(at, 4)
    config_write(at, 4, before)
    return mask


def _bar(index, mask, upper):
    """The BAR whose register has these bits; ``upper()`` returns those of the next register."""
    name = f"BAR {index}"
    if mask == 0xffff_ffff:
        raise FunctionError(f"{name} reads back all ones: the low bits, which tell its type, must be read-only")
    if mask & 1:
        size, limit = -(mask & ~3) & (0xffff if mask >> 16 == 0 else 0xffff_ffff), MAX_IO
        address, bits, io, wide = mask & ~3, 16 if mask >> 16 == 0 else 32, True, False
    else:
        kind = mask >> 1 & 3
        if kind not in (MEMORY_32, MEMORY_64):
            raise FunctionError(f"{name} has the reserved type {kind} in bits 2:1 (0 is 32-bit, 2 is 64-bit)")
        io, wide, bits, limit = False, kind == MEMORY_64, 64 if kind == MEMORY_64 else 32, MAX_BAR
        if wide and index == BARS - 1:
            raise FunctionError(f"{name} is the last one and says that it is 64-bit: there is no register for its upper half")
        address = mask & ~15 | (upper() << 32 if wide else 0)
        size = -address & (1 << bits) - 1
    if not size or size & size - 1 or address != (1 << bits) - size:
        raise FunctionError(f"{name} reads back {address:#x} after all ones were written: the writable bits must be the upper "
                            f"ones, without a gap, so that its size is a power of two")
    if size > limit:
        raise FunctionError(f"{name} asks for {size:#x} bytes, and at most {limit:#x} can be served")
    return Bar(index, size, io, wide)


def _size_bars(config_read, config_write):
    def mask_of(index):
        return _mask(config_read, config_write, Cfg.BAR0 + 4 * index)

    command = config_read(Cfg.COMMAND, 2)
    config_write(Cfg.COMMAND, 2, command & ~(IO_SPACE | MEMORY_SPACE))
    bars, index = {}, 0
    while index < BARS:
        if mask := mask_of(index):
            bars[index] = _bar(index, mask, lambda index=index: mask_of(index + 1))
            index += bars[index].wide
        index += 1
    config_write(Cfg.COMMAND, 2, command)
    return bars


def _msix(config_read, at, bars):
    vectors = (config_read(at + MsixCap.CONTROL, 2) & 0x7ff) + 1
    where = config_read(at + MsixCap.TABLE, 4)
    bar, offset = where & 7, where & ~7
    if bar not in bars or bars[bar].io:
        raise FunctionError(f"The MSI-X table is in BAR {bar}, which is not a memory BAR of this function")
    if offset + MSIX_ENTRY_SIZE * vectors > bars[bar].size:
        raise FunctionError(f"The MSI-X table of {vectors} vectors at {offset:#x} does not fit into BAR {bar} of "
                            f"{bars[bar].size:#x} bytes")
    return MsixTable(vectors, bar, offset)


def _msi(config_read, at):
    control = config_read(at + 2, 2)
    code = control >> 1 & 7
    if code > MSI_MAX_CODE:
        raise FunctionError(f"The MSI capability has the reserved Multiple Message Capable {code}")
    return MsiCapability(at, 1 << code, bool(control & MSI_64))


def read_function(config_read, config_write):
    """Return the :class:`Function` that is there; its BARs are sized, and hold afterwards what they held.

    ``config_read(offset, size)`` returns a number; ``config_write(offset, size, value)``. Raises :exc:`FunctionError`.
    """
    if config_read(Cfg.VENDOR_ID, 2) == 0xffff:
        raise FunctionError("Configuration reads give all ones: the endpoint answers them with an error, or its Vendor ID is "
                            "ffff")
    if (kind := config_read(HEADER_TYPE, 1) & 0x7f) != 0:
        raise FunctionError(f"The configuration header has type {kind}; only endpoints, of type 0, can be served")
    try:
        found = {}
        for at, cap_id in capabilities(config_read):
            found.setdefault(cap_id, at)
    except ValueError as error:
        raise FunctionError(str(error)) from None
    bars = _size_bars(config_read, config_write)
    return Function(bars=bars,
                    msi=_msi(config_read, found[MSI_CAPABILITY]) if MSI_CAPABILITY in found else None,
                    msix=_msix(config_read, found[CapId.MSIX], bars) if CapId.MSIX in found else None,
                    exp=found.get(CapId.EXP), flr=CapId.EXP in found and offers_flr(config_read),
                    intx_pin=config_read(Cfg.INTERRUPT_PIN, 1))
