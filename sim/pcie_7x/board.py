"""Simulated cards as a board has them: behind a model of its PCI Express block, on a link as wide and as fast as its slot's."""

from ...hdl.pcie.series7.adapter import PARAMETERS
from ...hdl.spec.pcie_7x import LINKS
from ..engine.engine import Engine, Link

__all__ = ["LANES", "PAYLOADS", "USER_MHZ", "WIDTH", "board_engine", "board_link"]

# What `ringnic build` makes unless told otherwise: it needs no work on timing.
LANES = 1
WIDTH, USER_MHZ = LINKS[LANES].width, LINKS[LANES].user2_mhz
# What a host may send and has to take: the block drops a completion that is longer than its Max_Payload_Size, which is 128 bytes
# until the host says otherwise.
PAYLOADS = {"mps": 128 << PARAMETERS.max_payload, "completion": 128}


def board_link(board, lanes, **options):
    """Return the :class:`Link` of a card on a :class:`ringnic.boards.board.Board`; ``options`` are further ones of it."""
    return Link(gen=board.generation, lanes=lanes, core_mhz=LINKS[lanes].user2_mhz, **PAYLOADS, **options)


def board_engine(board, read_latency_ns=Link.read_latency_ns, **options):
    """Return an :class:`Engine` of the card on a board; ``options`` are further ones of it."""
    return Engine(card="net_7x", width=WIDTH, lanes=LANES, link_speed=board.generation,
                  link=board_link(board, LANES, read_latency_ns=read_latency_ns), **options)
