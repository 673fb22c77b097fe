"""What the vfio-user server finds in a configuration space: BARs, interrupts, and what no function may have there."""

import pytest

from ringnic.sim.vfio_user.function import FunctionError, MsiCapability, MsixTable, read_function
from ringnic.sim.vfio_user.msi import MSI_ADDRESS, HiddenMsi

BAR0, COMMAND, STATUS, POINTER, PIN = 0x10, 0x04, 0x06, 0x34, 0x3d
MEM32, MEM64, PREFETCHABLE, IO = 0, 4, 8, 1
PM, MSI, VENDOR, EXP, MSIX = 1, 5, 9, 0x10, 0x11
CONTENT = 0xd2c3b4a5                    # of the BARs, as far as they keep it


def memory(size, kind=MEM32):
    """Bits that are writable, and bits that are always there; of one register, or of two."""
    mask = -size & (1 << (64 if kind & MEM64 else 32)) - 1
    return [(mask & 0xffff_ffff, kind), *([(mask >> 32, 0)] if kind & MEM64 else [])]


class Space:
    """A configuration space with these registers for BARs, and these capabilities: ``(id, bytes after the next pointer)``."""
    def __init__(self, bars=(), capabilities=(), pin=0, header=0, vendor=0x1234):
        self.raw = bytearray(4096)
        self.bars = (list(bars) + [(0, 0)] * 6)[:6]
        self.set(0, 2, vendor), self.set(0x0e, 1, header), self.set(PIN, 1, pin), self.set(COMMAND, 2, 7)
        for k, (mask, fixed) in enumerate(self.bars):
            self.set(BAR0 + 4 * k, 4, CONTENT & mask | fixed)
        at, link = 0x40, POINTER
        for cap_id, body in capabilities:
            self.set(link, 1, at), self.set(STATUS, 2, 0x10), self.set(at, 1, cap_id)
            self.raw[at + 2:at + 2 + len(body)] = body
            at, link = at + 0x20, at + 1
        self.sized_while_it_answers = False

    def set(self, at, size, value):
        self.raw[at:at + size] = value.to_bytes(size, "little")

    def read(self, offset, size):
        return int.from_bytes(self.raw[offset:offset + size], "little")

    def write(self, offset, size, value):
        index, low = divmod(offset - BAR0, 4)
        if 0 <= index < 6:
            assert (low, size) == (0, 4)
            self.sized_while_it_answers |= value == 0xffff_ffff and self.read(COMMAND, 2) & 3 != 0
            mask, fixed = self.bars[index]
            value = value & mask | fixed
        self.set(offset, size, value)

    def function(self):
        before = bytes(self.raw)
        found = read_function(self.read, self.write)
        assert self.raw == before and not self.sized_while_it_answers
        return found


def msix(vectors, table, pba=0x1000):
    return (vectors - 1).to_bytes(2, "little") + table.to_bytes(4, "little") + pba.to_bytes(4, "little")


def test_bars_of_every_kind():
    space = Space([*memory(4096), *memory(1 << 35, MEM64 | PREFETCHABLE), (0xffff_ff80, IO), (0x0000_fff8, IO), *memory(16)])
    found = space.function()
    assert {at: (bar.size, bar.io, bar.wide) for at, bar in found.bars.items()} == {
        0: (4096, False, False), 1: (1 << 35, False, True), 3: (128, True, False), 4: (8, True, False), 5: (16, False, False)}
    assert (found.msi, found.msix, found.exp, found.flr, found.intx_pin) == (None, None, None, False, 0)
    assert found.bars[1].address(space.read) == (CONTENT & -(1 << 35 - 32)) << 32
    assert found.bars[3].address(space.read) == CONTENT & 0xffff_ff80
    assert found.bars[0].address(space.read) == CONTENT & 0xffff_f000


def test_largest_and_smallest():
    assert Space([*memory(1 << 40, MEM64), *memory(1 << 31), *memory(16, MEM64), (0xffff_fffc, IO)]).function().bars.keys() == \
        {0, 2, 3, 5}


def test_no_bar():
    assert Space().function().bars == {}


def test_interrupts_and_reset():
    flr = bytes(2) + (1 << 28).to_bytes(4, "little")
    found = Space([*memory(1 << 16, MEM64)], [(PM, bytes(6)), (MSI, b"\x8a\x01"), (EXP, flr), (MSIX, msix(9, 0x2000 | 0)),
                                              (VENDOR, b"\x10")], pin=1).function()
    assert found.msi == MsiCapability(0x60, 32, True) and found.msix == MsixTable(9, 0, 0x2000)
    assert (found.exp, found.flr, found.intx_pin) == (0x80, True, 1)


@pytest.mark.parametrize("space, message", [
    (Space(vendor=0xffff), "all ones: the endpoint answers them with an error"),
    (Space(header=1), "header has type 1; only endpoints"),
    (Space([(0xffff_ffff, 0)]), "BAR 0 reads back all ones"),
    (Space([*memory(4096), (0xfff0_f000, 0)]), "BAR 1 reads back 0xfff0f000 after all ones were written: the writable bits"),
    (Space([(0x00ff_f000, 0)]), "BAR 0 reads back 0xfff000"),
    (Space([(0xffff_f000, MEM64), (0, 0)]), "BAR 0 reads back 0xfffff000"),
    (Space([(0, MEM64), (0, 0)]), "BAR 0 reads back 0x0"),
    (Space([(0, IO)]), "BAR 0 reads back 0x0"),
    (Space([(0xfffe_0000, IO)]), "BAR 0 asks for 0x20000 bytes, and at most 0x10000"),
    (Space(memory(1 << 63, MEM64)), "BAR 0 asks for 0x8000000000000000 bytes, and at most 0x10000000000"),
    (Space([(0xffff_f000, 2)]), "BAR 0 has the reserved type 1"),
    (Space([(0xffff_f000, 6)]), "BAR 0 has the reserved type 3"),
    (Space([(0, 0)] * 5 + [(0xffff_f000, MEM64)]), "BAR 5 is the last one and says that it is 64-bit"),
    (Space(memory(4096), [(MSIX, msix(4, 1))]), "table is in BAR 1, which is not a memory BAR"),
    (Space([(0xffff_ff00, IO)], [(MSIX, msix(4, 0))]), "table is in BAR 0, which is not a memory BAR"),
    (Space(memory(4096), [(MSIX, msix(257, 0))]), "257 vectors at 0x0 does not fit into BAR 0 of 0x1000 bytes"),
    (Space(memory(4096), [(MSI, b"\x0c\0")]), "reserved Multiple Message Capable 6"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_no_function_may_have(space, message):
    with pytest.raises(FunctionError) as caught:
        read_function(space.read, space.write)
    assert message in str(caught.value)


def test_capabilities_that_loop():
    space = Space(memory(4096), [(PM, bytes(6)), (VENDOR, b"\x10")])
    space.set(0x61, 1, 0x40)
    with pytest.raises(FunctionError, match="loops at 0x40"):
        read_function(space.read, space.write)


@pytest.mark.parametrize("wide", [False, True])
def test_msi_keeps_what_the_client_writes_to_itself(wide):
    writes = []
    msi = HiddenMsi(MsiCapability(0x60, 4, wide), lambda *access: writes.append(access))
    data = 0x6c if wide else 0x68
    assert msi.write(0x64, 4, 0xfee1_2340) and msi.write(data, 2, 0x4321)
    assert (msi.read(0x64, 4), msi.read(0x64, 1), msi.read(data, 2)) == (0xfee1_2340, 0x40, 0x4321)
    assert msi.read(0x60, 4) is None and msi.read(data + 4, 4) is None and not msi.write(data + 4, 4, 1)
    assert not writes
    ours = [(0x64, 4, MSI_ADDRESS), (0x68, 4, 0), *([(0x6c, 4, 0)] if wide else [])]
    for offset, size in ((0x62, 2), (0x60, 4), (0x62, 1), (0x63, 1)):
        assert not msi.write(offset, size, 1)         # the function gets it, behind the address
        assert writes == ours
        writes.clear()
    msi.reset()
    assert msi.read(0x64, 4) == msi.read(data, 2) == 0
