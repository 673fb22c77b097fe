"""Boards on which the card can be, and how each is programmed.

What is here is documented by the source that each names; nobody has run RingNIC on any of them yet.
"""

from dataclasses import dataclass

__all__ = ["BOARDS", "Board", "Programming"]


@dataclass(frozen=True)
class Programming:
    """A command line in which ``{file}`` and ``{cable}`` are to be replaced, and the suffixes of files that it takes."""
    argv: tuple
    suffixes: tuple


@dataclass(frozen=True)
class Board:
    """A board.

    ``part``: the FPGA, as its maker calls it. ``volatile``: into the FPGA, until the power goes. ``flash``: into the memory
    from which the FPGA loads itself, None if no way is documented. ``cable``: the JTAG adapter, by openFPGALoader's name,
    that the source uses; None if it is on the board or known by it. ``note``: what to see to before.
    """
    name: str
    title: str
    part: str
    volatile: Programming
    flash: Programming | None
    source: str
    cable: str | None = None
    note: str | None = None


def _by_part(part, *more):
    return "openFPGALoader", "-c", "{cable}", "--fpga-part", part, *more, "{file}"


VERSA = "; ".join((
    "adapter driver ftdi", "ftdi device_desc {Lattice ECP5_5G VERSA Board}", "ftdi vid_pid 0x0403 0x6010", "ftdi channel 0",
    "ftdi layout_init 0xfff8 0xfffb", "adapter speed 25000", "transport select jtag", "reset_config none",
    "jtag newtap ecp5 tap -irlen 8 -expected-id 0x81112043", "init"))

BOARDS = {board.name: board for board in (
    Board("versa_ecp5_5g", "Lattice ECP5-5G Versa", "LFE5UM5G-45F-8BG381",
          volatile=Programming(("openocd", "-c", VERSA, "-c", "svf -quiet {{file}}", "-c", "exit"), (".svf",)), flash=None,
          source="amaranth-boards", note="the ispCLOCK in the same JTAG chain must be bypassed"),
    Board("acorn_cle215", "SQRL Acorn CLE-215+", "XC7A200T-SBG484",
          volatile=Programming(("openFPGALoader", "-b", "acornCle215", "{file}"), (".bit",)),
          flash=Programming(("openFPGALoader", "-b", "acornCle215", "-f", "{file}"), (".bin", ".bit")),
          source="openFPGALoader's list of boards", note="it needs a JTAG cable on its connector"),
    Board("nitefury", "NiteFury II", "XC7A200T-2FBG484E", cable="digilent_hs3",
          volatile=Programming(_by_part("xc7a200tfbg484"), (".bit",)),
          flash=Programming(_by_part("xc7a200tfbg484", "-f"), (".bin", ".bit")), source="amaranth-boards",
          note="it needs a JTAG cable on its connector"),
    Board("litefury", "LiteFury", "XC7A100T-L2FGG484E", cable="digilent_hs3",
          volatile=Programming(_by_part("xc7a100tfgg484"), (".bit",)),
          flash=Programming(_by_part("xc7a100tfgg484", "-f"), (".bin", ".bit")), source="amaranth-boards",
          note="it needs a JTAG cable on its connector"),
    Board("ax7325b", "Alinx AX7325B", "XC7K325T-2FFG900", cable="ft232",
          volatile=Programming(_by_part("xc7k325tffg900"), (".bit",)), flash=None, source="amaranth-boards"),
    Board("alibaba_u3p", "Alibaba AS02MC04", "XCKU3P-FFVB676", cable="digilent_hs2",
          volatile=Programming(_by_part("xcku3p-ffvb676"), (".bit",)), flash=None, source="litex-boards",
          note="it needs a JTAG cable on its connector"),
)}
