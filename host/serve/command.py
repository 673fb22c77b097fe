"""``ringnic serve``: simulated cards for anybody's virtual machines, until Ctrl-C."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import tempfile
import time

from ...hdl.spec.net import DEFAULT_MAC, DEFAULT_MTU
from ..errors import complain, note, told
from ..guest.assets import AssetError, find_qemu
from ..guest.card import PAIRS, WIDTH, CardError, Place, entropy_card, rtl_card
from ..guest.process import ends_as_exceptions
from ..guest.registers import FOLDER_PREFIX, NAME
from ..sockets import check_place
from .cables import Cable, network_of, plug
from .lines import attach_help

__all__ = ["LOOK_SECONDS", "ServeOptions", "run_serve", "tell_of_client", "until_interrupted"]

LOOK_SECONDS = 0.2         # between two looks at whether a cable is still whole


@dataclass(frozen=True)
class ServeOptions:
    """What the command line asks for; see ``ringnic serve --help``.

    ``sockets`` are absolute paths; ``features`` are bit numbers, None for all. ``mac_address``: of the first card, from which
    those of the others count up. ``board``: a :class:`ringnic.boards.board.Board` or None.
    """
    sockets: tuple
    card: str = "net"
    cable: Cable = Cable("user")
    restrict: bool = False
    mac_address: int = DEFAULT_MAC
    mtu: int = DEFAULT_MTU
    pairs: int = PAIRS
    features: frozenset | None = None
    width: int = WIDTH
    board: object = None
    pcap: Path | None = None
    tlp: Path | None = None
    group: str | None = None
    seed: int = 0


def tell_of_client(path, connected, error):
    """Tell of a client that comes or goes, or that will not get far."""
    if error is None:
        what = "a client has connected" if connected else "the client has gone"
    elif connected:
        what = told(error)
    else:
        what = f"the client was disconnected: {told(error)}"
    note(f"{path}: {what}")


def _cards(options, stack):
    """Yield each card, served, with its address as text, or None if it has none of its own."""
    for number, where in enumerate(options.sockets):
        # Its registers are where `ringnic monitor --demo` looks for them.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)))
        place = Place(where, options.group, partial(tell_of_client, where), folder / NAME)
        seed = options.seed + number
        note(f"{where}: building the card's model, if it is not there yet")
        update = _updates(where)
        if options.card == "entropy":
            yield where, None, stack.enter_context(entropy_card(place, seed=seed, features=options.features, tlp=options.tlp))
        elif options.board is not None:
            from ..guest.board_card import board_card
            made = board_card(options.board)
            yield where, None, stack.enter_context(made(place, seed=seed, wave=None, tlp=options.tlp, update=update,
                                                        features=None, pairs=PAIRS, mtu=DEFAULT_MTU))
        else:
            address = options.mac_address + number
            card = rtl_card(place, seed=seed, wave=None, tlp=options.tlp, update=update, features=options.features,
                            pairs=options.pairs, mtu=options.mtu, width=options.width, mac_address=address)
            yield where, address.to_bytes(6, "big").hex(":"), stack.enter_context(card)


def _updates(where):
    """Return what tells of the steps of a card's making, each once: what counts on within a step is for a live display."""
    told_of = set()

    def update(text):
        step = text.partition(":")[0]
        if step not in told_of:
            told_of.add(step)
            note(f"{where}: {text}")
    return update


def _serve(options, stack):
    for path in options.sockets:  # before a minute goes into building
        check_place(path, group=options.group)
    if options.card == "entropy":
        served, failed = list(_cards(options, stack)), lambda: None
    else:
        networks = stack.enter_context(network_of(options.cable, partial(find_qemu, say=note), options.restrict))
        served = list(_cards(options, stack))
        failed = stack.enter_context(plug(options.cable, [card for *_, card in served], networks, pcap=options.pcap))
    for where, address, _ in served:
        print(f"{where}{'' if address is None else f', MAC address {address}'}\n\n{attach_help(where)}\n", flush=True)
    note("serving; Ctrl-C ends it")
    while failed() is None:
        for *_, card in served:
            card.progress()  # raises what ends it
        time.sleep(LOOK_SECONDS)
    raise failed()


def until_interrupted(serve, *failures):
    """Call ``serve(stack)``, whose work ends with its :class:`~contextlib.ExitStack`; return the exit status.

    It is 0 after Ctrl-C, and 1 after one of ``failures`` or an :exc:`OSError`, of which it tells.
    """
    try:
        with ends_as_exceptions(), ExitStack() as stack:
            serve(stack)
    except KeyboardInterrupt:
        note("ended")
        return 0
    except (*failures, OSError) as error:
        complain(error)
    return 1


def run_serve(options):
    """Serve until Ctrl-C; return the exit status of :func:`until_interrupted`."""
    return until_interrupted(partial(_serve, options), AssetError, CardError)
