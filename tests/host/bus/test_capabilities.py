"""The walk over a function's capability list."""

import pytest

from ringnic.hdl.spec.pcie import CapId, Cfg, ConfigStatus
from ringnic.host.bus.capabilities import capabilities, capability


def config(entries, *, has_list=True):
    """Return a ``config_read`` whose capability list has the ``entries``: (offset, id, next offset)."""
    space = bytearray(256)
    space[Cfg.STATUS] = has_list << ConfigStatus.CAP_LIST
    space[Cfg.CAP_POINTER] = entries[0][0] if entries else 0
    for at, cap_id, following in entries:
        space[at & ~3], space[(at & ~3) + 1] = cap_id, following
    return lambda offset, size: int.from_bytes(space[offset:offset + size], "little")


def test_in_the_order_of_the_list():
    read = config([(0x40, CapId.MSIX, 0x80), (0x80, CapId.EXP, 0x60), (0x60, CapId.MSIX, 0)])
    assert list(capabilities(read)) == [(0x40, CapId.MSIX), (0x80, CapId.EXP), (0x60, CapId.MSIX)]
    assert capability(read, CapId.MSIX) == 0x40 and capability(read, CapId.EXP) == 0x80 and capability(read, CapId.VENDOR) is None


def test_the_low_two_bits_of_a_pointer_are_reserved():
    """PCI Express Base 5.0, 7.5.1.1.11 "Capabilities Pointer": software masks them."""
    assert list(capabilities(config([(0x43, CapId.MSIX, 0x82), (0x80, CapId.EXP, 0)]))) == [(0x40, CapId.MSIX), (0x80, CapId.EXP)]


def test_without_a_list():
    assert list(capabilities(config([(0x40, CapId.MSIX, 0)], has_list=False))) == []


@pytest.mark.parametrize("read", [config([(0x40, CapId.EXP, 0x50), (0x50, CapId.EXP, 0x40)]),
                                  lambda offset, size: (1 << 8 * size) - 1], ids=["loop", "no answer"])
def test_a_list_that_loops(read):
    with pytest.raises(ValueError, match="Capability list loops at 0x"):
        list(capabilities(read))
