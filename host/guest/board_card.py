"""The card of a board for a guest: what `ringnic build` wrote, simulated with models of what is around it."""

from contextlib import contextmanager

from ...hdl.spec.net import DEFAULT_MTU
from ..build.command import BuildError
from ..build.written import written
from .card import PAIRS, CardError, simulated_card, traced

__all__ = ["board_card"]

LINK_CYCLES = 1 << 16        # between two looks at the PHY
LINK_SECONDS = 2             # of the card's time, in which a PHY whose link is up is found


def _wait_for_phy(engine, user_mhz, update):
    """Let the card's time pass until it has found its PHY's link: it polls the PHY at the pace of a real one."""
    cycles = 0
    while not engine.ethernet_up():
        if cycles > LINK_SECONDS * user_mhz * 1e6:
            raise CardError(f"The card found no link at its PHY in {LINK_SECONDS} s of its time")
        engine.run(LINK_CYCLES)
        cycles += LINK_CYCLES
        update(f"its PHY is polled: {cycles / user_mhz / 1e3:.0f} ms of its time")


def board_card(board):
    """What makes the card of a :class:`ringnic.boards.board.Board`, which has Ethernet, as :func:`.card.rtl_card` makes another.

    Features, queue pairs and MTU are those of the build.
    """
    @contextmanager
    def made(place, *, seed, wave, tlp, update, features, pairs, mtu):
        from ...hdl.spec.pcie_7x import LINKS
        from ...sim.engine.view import BOARD_GROUPS, save_view
        from ...sim.whole_card import card_engine
        if (features, pairs, mtu) != (None, PAIRS, DEFAULT_MTU):
            raise CardError("A board's card has the features, queue pairs and MTU that it was built with")
        try:
            build = written(board, update)
        except BuildError as error:
            raise CardError(str(error)) from None
        user_mhz = LINKS[build.lanes].user2_mhz
        name = f"{board.title}, PCIe {board.generation}.0 x{build.lanes}"

        def make():
            update("some minutes the first time")
            return card_engine(board, build.verilog, top=build.top, lanes=build.lanes, pairs=build.pairs, seed=seed, tlp_log=tlp,
                               **traced(wave))

        def prepare(engine):
            if wave is not None:
                save_view(wave.path, engine.names(), BOARD_GROUPS)
            _wait_for_phy(engine, user_mhz, update)
            update(f"{name}, Verilog {build.sha256[:12]}{'' if build.current else ' of earlier sources'}")

        with simulated_card(place, make, prepare, link=name, width=LINKS[build.lanes].width, verilog=build.sha256) as card:
            yield card
    return made
