"""The numbers as linux/if_ether.h and IEEE 802.3 have them."""

import pytest

from ringnic.hdl.spec import ethernet


@pytest.mark.parametrize("name, number", [
    ("PREAMBLE", 0x55), ("PREAMBLE_BYTES", 7), ("SFD", 0xd5), ("IFG_BYTES", 12), ("FCS_BYTES", 4),
    ("HEADER_BYTES", 14),              # ETH_HLEN
    ("MIN_FRAME_BYTES", 60),           # ETH_ZLEN
    ("ETHERTYPE_MAC_CONTROL", 0x8808),  # ETH_P_PAUSE
    ("PAUSE_OPCODE", 1), ("PAUSE_QUANTUM_BYTES", 64),
    ("PAUSE_ADDRESS", b"\x01\x80\xc2\x00\x00\x01"),
])
def test_numbers(name, number):
    assert getattr(ethernet, name) == number


def test_smallest_frame_fills_a_slot():
    assert 8 * (ethernet.MIN_FRAME_BYTES + ethernet.FCS_BYTES) == 512  # slotTime, bits
    assert ethernet.PREAMBLE_BYTES + 1 + ethernet.MIN_FRAME_BYTES + ethernet.FCS_BYTES + ethernet.IFG_BYTES == 84
