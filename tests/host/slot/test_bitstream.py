"""What a bitstream says of itself, and what the report beside it says."""

import json

import pytest

from ringnic.boards.table import BOARDS
from ringnic.host.slot.bitstream import Bitstream, board_code, built, read_bitstream, wrong_board

from ...kit.bitstream import bitstream

@pytest.mark.parametrize("header", [b"", b"\0\t\x0f\xf0ringnic_ax7203;UserID=0XFFFFFFFF\0b\0\r7a200tfbg484\0"])
def test_both_kinds_of_file(header):
    assert read_bitstream(bitstream(0x13636093, 0x1234, header)) == Bitstream(0x3636093, 0x1234)


@pytest.mark.parametrize("content, found", [
    (b"", Bitstream(None, None)), (b"\xff" * 1000, Bitstream(None, None)), (bitstream(), Bitstream(None, None)),
    (bitstream(0x3631093)[:-1], Bitstream(None, None)), (bytes(1 << 17) + bitstream(0x3631093), Bitstream(None, None)),
    (bitstream(0x3631093), Bitstream(0x3631093, None))])
def test_files_that_say_less(content, found):
    assert read_bitstream(content) == found


def test_codes_differ():
    assert len({board_code(name) for name in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("name, idcode, code, reason", [
    ("ax7203", 0x3636093, board_code("ax7203"), None), ("ax7203", 0x3636093, None, None), ("ax7203", None, None, None),
    ("ax7203", 0x3636093, 0xffffffff, None), ("versa_ecp5_5g", None, None, None),
    ("ax7203", 0x3636093, board_code("nitefury"), "it was built for nitefury"),
    ("ax7203", 0x3631093, None, "it is for XC7A100T, and ax7203 has XC7A200T"),
    ("litefury", 0x3632093, None, "it is for XC7A75T, and litefury has XC7A100T"),
    ("litefury", 0x3722093, None, "it is for an FPGA with the IDCODE 3722093, and litefury has XC7A100T"),
])
def test_for_another_board(name, idcode, code, reason):
    assert wrong_board(BOARDS[name], Bitstream(idcode, code)) == reason


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"board": "a", "images": [1]}', '{"images": []}'])
def test_a_report_that_says_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    assert built(tmp_path) == {}


def test_a_report(tmp_path):
    image = {"file": "a.bin", "offset": 4, "sha256": "0"}
    (tmp_path / "report.json").write_text(json.dumps({"board": "ax7203", "images": [image]}))
    assert built(tmp_path) == {"a.bin": {**image, "board": "ax7203"}}
