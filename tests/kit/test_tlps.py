"""TLPs: what is made is what is parsed, and what contradicts itself is noticed. PCIe 5.0, 2.2 "Transaction Layer Protocol"."""

import pytest

from tests.kit import tlps


def test_requests():
    """2.2.5, 2.2.7: byte enables, addresses of 32 and 64 bits."""
    came = tlps.parse(tlps.memory(1, 0x1_0000_1000, 2, 0b1100, 0b0001, data=bytes(8), tag=9, rid=0x208, dw4=True, ep=1))
    assert (came.kind, came.write, came.addr, came.length, came.tag, came.rid, came.ep) == (
        0x60, 1, 0x1_0000_1000, 2, 9, 0x208, 1)
    assert came.places == [0x1_0000_1002, 0x1_0000_1003, 0x1_0000_1004]
    came = tlps.parse(tlps.memory(0, 0x2000, 1024, tc=5, attr=6))
    assert (came.kind, came.write, came.length, came.tc, came.attr, len(came.places)) == (0, 0, 1024, 5, 6, 4096)
    assert tlps.config(1, 0x10, data=b"abcd").hex() == "44000001" "0100010f" "05080010" "61626364"


def test_completions():
    """2.2.9."""
    came = tlps.parse(tlps.completion(7, 1, 4096, 0x83, b"data", status=1, completer=0x10))
    assert (came.kind, came.tag, came.byte_count, came.lower, came.status, came.rid, came.cid, came.data) == (
        0x4a, 7, 4096, 3, 1, tlps.CARD, 0x10, b"data")
    assert tlps.parse(tlps.completion(7, 0, 4, 0, None)).kind == 0x0a


@pytest.mark.parametrize("tlp", [
    tlps.memory(1, 0, data=bytes(8)), tlps.memory(0, 0, data=bytes(4)), tlps.memory(1, 0, 2, data=bytes(4)),
    tlps.completion(0, 1, 4, 0, None), tlps.completion(0, 1, 4, 0, bytes(8))], ids=bytes.hex)
def test_wrong_length(tlp):
    with pytest.raises(AssertionError):
        tlps.parse(tlp)
