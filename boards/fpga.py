"""FPGAs of the 7 series: what is in them, and what their configuration is made of.

Ref: AMD DS180 "7 Series FPGAs Data Sheet: Overview" (logic, RAM), UG470 "7 Series FPGAs Configuration", table 1-1
(length of a bitstream, IDCODE).
"""

from dataclasses import dataclass

__all__ = ["FPGAS", "Fpga"]


@dataclass(frozen=True)
class Fpga:
    """``rams``: blocks of 36 kbit. ``bits``: of a bitstream that is not compressed. ``idcode``: without the version in its
    upper 4 bits. ``transceiver``: primitive of one channel. ``free``: Vivado's free edition has it.
    """
    name: str
    luts: int
    ffs: int
    rams: int
    bits: int
    idcode: int
    transceiver: str
    free: bool


FPGAS = {fpga.name: fpga for fpga in (
    Fpga("XC7A75T",   47_200,  94_400, 105, 30_606_304, 0x3632093, "GTPE2_CHANNEL", True),
    Fpga("XC7A100T",  63_400, 126_800, 135, 30_606_304, 0x3631093, "GTPE2_CHANNEL", True),
    Fpga("XC7A200T", 134_600, 269_200, 365, 77_845_216, 0x3636093, "GTPE2_CHANNEL", True),
    Fpga("XC7K325T", 203_800, 407_600, 445, 91_548_896, 0x3651093, "GTXE2_CHANNEL", False),
)}
