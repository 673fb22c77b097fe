"""The passive checker on messages that nothing allows: masked vectors, a masked function, MSI-X switched off; and on entries that
are changed."""

import struct

import pytest

from ringnic.hdl.spec.bar import MSIX_TABLE_OFFSET
from ringnic.hdl.spec.pcie import MsixCap
from ringnic.hdl.spec.virtio import VIRTIO_MSI_NO_VECTOR, Common

from .conftest import MESSAGE_AT, MSIX_AT

A, TX, VECTOR = 0x2_0000_0000, 1, 2
CONTROL = MSIX_AT + MsixCap.CONTROL
ENTRY = MSIX_TABLE_OFFSET + 16 * VECTOR


def due(script):
    """A notification of the transmit queue is due."""
    script.chain(script.used % script.size, (A, 100, 0))
    script.use(script.used % script.size)
    script.wish(0)


def mask(script, value=1):
    script.reg_write(ENTRY + 12, value.to_bytes(4, "little"))


def config_write(script, value):
    """Of Message Control, as it is heard: the write; its answer comes with :func:`answer`."""
    script.tag += 1
    script.later().config_write(CONTROL, value.to_bytes(2, "little"))
    script.monitor.host_read(None, CONTROL, 0, script.tag)


def answer(script):
    script.later().host_answer(script.tag, 0, 4, b"")


@pytest.mark.parametrize("read, rows", [(False, []), (True, ["INT-4"])])
def test_masked_vector(split, read, rows):
    """A write has no answer: a message may come until that of a later read, whatever it is of."""
    script = split(queue=TX)
    due(script)
    mask(script)
    if read:
        script.reg_read(ENTRY + 12, b"\1\0\0\0")
    script.message(VECTOR)
    assert script.violations() == rows and script.observed("INT-4") == 2 * read


def test_read_from_before_the_mask(split):
    script = split(queue=TX)
    due(script)
    script.tag += 1
    script.later().host_read(0xe000_0000, 0xe000_0000, 4, script.tag)
    mask(script)
    script.later().host_answer(script.tag, 0, 4, bytes(4))
    script.message(VECTOR)
    assert script.violations() == [] and script.observed("INT-4") == 0


@pytest.mark.parametrize("value, row", [(0xc000, "INT-5"), (0x4000, "INT-2"), (0, "INT-2")])
@pytest.mark.parametrize("answered", [False, True])
def test_function(split, value, row, answered):
    script = split(queue=TX)
    due(script)
    config_write(script, value)
    if answered:
        answer(script)
    script.message(VECTOR)
    found = script.violations()
    assert bool(found) == answered and (not answered or row in found)
    assert script.observed(row) == answered + found.count(row)


@pytest.mark.parametrize("way", ["mask", "function", "disable"])
def test_allowed_again(split, way):
    script = split(queue=TX)
    due(script)
    if way == "mask":
        mask(script)
    else:
        config_write(script, 0xc000 if way == "function" else 0)
        answer(script)
    script.reg_read(ENTRY + 12, b"\1\0\0\0")
    if way == "mask":
        mask(script, 0)
    else:
        config_write(script, 0x8000)
    script.message(VECTOR)
    assert script.violations() == []


def test_another_vector(split):
    script = split(queue=TX)
    due(script)
    script.reg_write(MSIX_TABLE_OFFSET + 16 + 12, b"\1\0\0\0")
    script.reg_read(ENTRY + 12, bytes(4))
    script.message(VECTOR)
    assert script.violations() == []


def test_two_vectors_with_one_message(split):
    """Whose it is cannot be told, unless neither may send it."""
    script = split(queue=TX)
    script.reg_write(ENTRY + 16, struct.pack("<QI", MESSAGE_AT, VECTOR))
    due(script)
    mask(script)
    script.reg_read(ENTRY + 12, b"\1\0\0\0")
    script.message(VECTOR)
    assert script.violations() == []
    due(script)
    script.reg_write(ENTRY + 16 + 12, b"\1\0\0\0")
    script.reg_read(ENTRY + 12, b"\1\0\0\0")
    script.message(VECTOR)
    assert script.violations() == ["INT-4"]


@pytest.mark.parametrize("read", [False, True])
def test_changed_entry(split, read):
    """The message as it was may come until a later read is answered; then it is a write to nobody's memory."""
    script = split(queue=TX)
    due(script)
    script.reg_write(ENTRY + 8, (77).to_bytes(4, "little"))
    if read:
        script.reg_read(ENTRY + 8, (77).to_bytes(4, "little"))
    script.message(VECTOR)
    assert script.violations() == (["DESC-1"] if read else [])
    due(script)
    script.write(MESSAGE_AT, (77).to_bytes(4, "little"))
    assert script.violations() == []


def test_flr_forgets(split):
    script = split(queue=TX)
    mask(script)
    script.reg_read(ENTRY + 12, b"\1\0\0\0")
    script.flr()
    script.config(0, bytes.fromhex("f41a4110"))
    script.switch_on()
    script.negotiate()
    script.common(Common.CONFIG_MSIX_VECTOR, 2, VIRTIO_MSI_NO_VECTOR)
    script.enable(TX)
    script.status(15)
    script.avail = script.used = 0
    script.begin()
    due(script)
    script.message(VECTOR)
    assert script.violations() == []
