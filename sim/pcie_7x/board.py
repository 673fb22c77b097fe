"""Simulated cards as a board has them: behind a model of its PCI Express block, on a link as wide and as fast as its slot's."""

from ...hdl.spec.pcie_7x import LINKS
from ..engine.engine import Engine, Link

__all__ = ["LANES", "USER_MHZ", "WIDTH", "board_engine"]

# What `ringnic build` makes unless told otherwise: it needs no work on timing.
LANES = 1
WIDTH, USER_MHZ = LINKS[LANES].width, LINKS[LANES].user2_mhz
HOST_MPS = 128    # bytes; that of a host which has not changed it


def board_engine(board, read_latency_ns=Link.read_latency_ns, **options):
    """Return an :class:`Engine` of the card on a :class:`ringnic.boards.board.Board`; ``options`` are further ones of it."""
    link = Link(gen=board.generation, lanes=LANES, core_mhz=USER_MHZ, mps=HOST_MPS, read_latency_ns=read_latency_ns)
    return Engine(card="net_7x", width=WIDTH, lanes=LANES, link_speed=board.generation, link=link, **options)
