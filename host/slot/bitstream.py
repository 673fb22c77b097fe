"""What a file of a 7-series FPGA's configuration says of itself: which FPGA it is for, and which board.

Ref: AMD UG470 "7 Series FPGAs Configuration", "Configuration Packets" and table 5-23 "Type 1 Packet Registers": after the sync
word, a write to IDCODE has the FPGA's number, and one to AXSS has what BITSTREAM.CONFIG.USR_ACCESS was.
"""

from dataclasses import dataclass
import json
import struct
import zlib

from ...boards.table import BOARDS

__all__ = ["REPORT", "Bitstream", "board_code", "built", "read_bitstream", "wrong_board"]

SYNC = bytes.fromhex("aa995566")
WRITE_IDCODE, WRITE_AXSS = bytes.fromhex("30018001"), bytes.fromhex("3001a001")
LOOK_BYTES = 1 << 16         # the registers are written before the first frame
REPORT = "report.json"


def board_code(name):
    """32 bits that tell bitstreams of different boards apart: in USR_ACCESS, which stands in .bit and .bin alike."""
    return zlib.crc32(f"ringnic {name}".encode())


@dataclass(frozen=True)
class Bitstream:
    """``idcode``: of the FPGA, without its version, None if there is none. ``code``: what USR_ACCESS was, None likewise."""
    idcode: int | None
    code: int | None


def read_bitstream(content):
    """The :class:`Bitstream` that begins with ``content``, as a .bit or as a .bin file has it."""
    start = content.find(SYNC, 0, LOOK_BYTES)
    if start < 0:
        return Bitstream(None, None)

    def word(header):
        at = content.find(header, start, start + LOOK_BYTES)
        return None if at < 0 or len(content) < at + 8 else struct.unpack_from(">I", content, at + 4)[0]
    idcode = word(WRITE_IDCODE)
    return Bitstream(None if idcode is None else idcode & 0xfff_ffff, word(WRITE_AXSS))


def wrong_board(board, found):
    """Why a bitstream cannot be for ``board``, in a few words; None if nothing speaks against it."""
    for other in BOARDS.values():
        if found.code == board_code(other.name) and other.name != board.name:
            return f"it was built for {other.name}"
    if board.fpga is None or found.idcode is None or found.idcode == board.fpga.idcode:
        return None
    fpgas = {other.fpga.idcode: other.fpga.name for other in BOARDS.values() if other.fpga is not None}
    what = fpgas.get(found.idcode, f"an FPGA with the IDCODE {found.idcode:07x}")
    return f"it is for {what}, and {board.name} has {board.fpga.name}"


def built(folder):
    """What `ringnic build` says of the files in ``folder``: ``{file name: its facts}``; empty if it says nothing."""
    try:
        report = json.loads((folder / REPORT).read_text())
        return {image["file"]: {**image, "board": report["board"]} for image in report["images"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
