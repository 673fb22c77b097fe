"""All boards, each from the file that describes it.

What is here is documented by the sources that each names; nobody has run RingNIC on any of them yet. No board with an
UltraScale+ FPGA is among them: the PCI Express block of these hands 16 bytes of configuration space to the user, and the
capabilities of virtio take 88.
"""

from . import (
    ac701, acorn_cle215, ax7203, ax7325b, captain, davinci_pro, kc705, litefury, nitefury, pz_a7, stlv7325_v2, versa_ecp5_5g,
)

__all__ = ["BOARDS"]

BOARDS = {board.name: board for board in (
    ax7203.BOARD, acorn_cle215.BOARD, litefury.BOARD, nitefury.BOARD, ac701.BOARD, *captain.BOARDS, *pz_a7.BOARDS,
    davinci_pro.BOARD, kc705.BOARD, stlv7325_v2.BOARD, versa_ecp5_5g.BOARD, ax7325b.BOARD)}
