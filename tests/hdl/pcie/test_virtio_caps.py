"""The virtio capabilities and the pci_cfg window: what is behind it, and what pci_cfg_data keeps."""

import pytest

from ringnic.hdl.pcie.virtio_caps import VirtioCaps

from .conftest import on_config


def run(body):
    return on_config(VirtioCaps(), body)


def test_structures():
    """4.1.4: cfg_type, cap_len, bar, offset, length; they end with the 256 bytes."""
    async def body(ctx, dut, read, write, log):
        space = bytes(0xa8) + b"".join([(await read(ctx, at)).to_bytes(4, "little") for at in range(0xa8, 0x108, 4)])
        at, found = 0xa8, []
        while at:
            assert space[at] == 0x09
            found.append((space[at + 3], space[at + 2], space[at + 4], *(int.from_bytes(space[at + k:at + k + 4], "little")
                                                                         for k in (8, 12))))
            at = space[at + 1]
        assert found == [(1, 16, 0, 0, 0x3c), (2, 20, 0, 0x3000, 0x1000), (3, 16, 0, 0x1000, 4), (4, 16, 0, 0x2000, 0x1000),
                         (5, 20, 0, 0, 0)]
        assert space[0xb8 + 16] == 4 and space[0x100:] == bytes(8)
    assert run(body) == []


@pytest.mark.parametrize("offset, length, be, value, data", [
    (0x0000, 4, 0xf, 0x44332211, 0xddccbbaa), (0x2001, 1, 0x2, 0x22, 0xccbbaa00), (0x2003, 1, 0x8, 0x44, 0xaa000000),
    (0x3002, 2, 0xc, 0x4433, 0xbbaa0000), (0x1000, 1, 0x1, 0x11, 0xddccbbaa)])
def test_window(offset, length, be, value, data):
    async def body(ctx, dut, read, write, log):
        await write(ctx, 0xf4, offset)
        await write(ctx, 0xf8, length)
        assert await read(ctx, 0xfc) == value
        await write(ctx, 0xfc, 0xddccbbaa)
        assert await read(ctx, 0xf4) == offset
        at = offset & ~3
        assert log == [(at, 0, be, None), (at, 1, be, data)]
    run(body)


@pytest.mark.parametrize("length, offset, value, data, left", [
    (4, 0x2000, 0x44332211, 0x44332299, 0x44332299), (2, 0x2002, 0x0bad4433, 0x44990000, 0x0bad4499),
    (1, 0x2003, 0x0badf044, 0x99000000, 0x0badf099)])
def test_window_keeps_what_it_read(length, offset, value, data, left):
    """VIRTIO 1.4, 4.1.4.9.1: a read stores the first cap.length bytes in pci_cfg_data; a write writes the first cap.length bytes
    of it, whichever of them were written."""
    async def body(ctx, dut, read, write, log):
        await write(ctx, 0xf8, 3)                      # no access
        await write(ctx, 0xfc, 0x0badf00d)
        await write(ctx, 0xf4, offset)
        await write(ctx, 0xf8, length)
        assert await read(ctx, 0xfc, be=1) == value
        await write(ctx, 0xfc, 0x99, be=1)
        await write(ctx, 0xf8, 3)
        assert await read(ctx, 0xfc) == left           # what is there, without an access
        await write(ctx, 0xfc, 0x77, be=0)
        assert log[1:] == [(offset & ~3, 1, ((1 << length) - 1) << (offset & 3), data)]
    run(body)


def test_window_read_that_wants_no_byte_is_none():
    async def body(ctx, dut, read, write, log):
        await write(ctx, 0xf8, 4)
        assert await read(ctx, 0xfc, be=0) == 0
    assert run(body) == []


@pytest.mark.parametrize("bar, offset, length", [(1, 0, 4), (0, 2, 4), (0, 1, 2), (0, 0, 0), (0, 0, 3), (0, 0x8000, 4),
                                                 (0, 0, 8), (0, 1 << 31, 1), (0, 0, 1 << 16 | 1)])
def test_window_unusable(bar, offset, length):
    async def body(ctx, dut, read, write, log):
        await write(ctx, 0xf0, bar)
        await write(ctx, 0xf4, offset)
        await write(ctx, 0xf8, length)
        await write(ctx, 0xfc, 0xddccbbaa)
        assert await read(ctx, 0xfc) == 0xddccbbaa     # it can be read and written all the same
    assert run(body) == []
