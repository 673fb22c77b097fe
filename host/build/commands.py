"""Commands for who builds a card: a board's bitstream, or Verilog for a flow of one's own."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..options import Features, Width, feature_bits, writable

__all__ = ["app"]

app = typer.Typer()


class Lanes(StrEnum):
    """Lanes of the slot that a card may use."""
    ONE = "1"
    TWO = "2"
    FOUR = "4"


class Mac(StrEnum):
    """What a core has for Ethernet."""
    NONE = "none"
    GMII = "gmii"


Pairs = Annotated[int, typer.Option(help="Queue pairs of the card.", min=1, max=16)]


def _offered(features, pairs):
    """Numbers of the feature bits that a card offers."""
    from ..guest.card import card_features
    bits = feature_bits(features, pairs)
    return card_features(pairs) if bits is None else bits


@app.command()
def build(
    board: Annotated[Optional[str], typer.Argument(metavar="BOARD", help="Which; --list shows them.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Only show the boards, and what each lacks.")] = False,
    project: Annotated[bool, typer.Option("--project", help="Only write the project, even if Vivado is here.")] = False,
    judge: Annotated[bool, typer.Option("--judge", help="Only judge what Vivado, run elsewhere, has left in the project's "
                                                        "folder.")] = False,
    mac: Annotated[Optional[str], typer.Option(metavar="ADDRESS", help="The card's MAC address, a locally administered one. "
                                                                       "Default: made of the FPGA's serial number.")] = None,
    lanes: Annotated[Lanes, typer.Option(help="Lanes to use; timing is unproven with more than one.")] = Lanes.ONE,
    pairs: Pairs = 4,
    features: Features = None,
):
    """Write a board's project into build/BOARD: Verilog, constraints, Tcl. If Vivado is here, let it make a bitstream of it.

    A bitstream that fails timing, or that no driver could use, is refused. The exit status is 0 with a bitstream or with
    --project, and 2 if there is no Vivado. A run takes half an hour or so.
    """
    from .command import list_boards, run_build
    if listing == (board is not None):
        raise typer.BadParameter("either a board, or --list")
    if project and judge:
        raise typer.BadParameter("either --project or --judge")
    if listing:
        list_boards()
        raise typer.Exit()
    raise typer.Exit(run_build(board, lanes=int(lanes), pairs=pairs, mac=mac, features=_offered(features, pairs),
                               project_only=project, judge_only=judge))


@app.command()
def verilog(
    file: Annotated[Path, typer.Argument(metavar="FILE", callback=writable, help="The file to write.")],
    board: Annotated[Optional[str], typer.Option(metavar="BOARD", help="The whole card of a board, which wants the IP pcie_7x. "
                                                                       "Default: the core, with raw TLPs.")] = None,
    width: Annotated[Width, typer.Option(help="Bits of a core's datapath; a board's lanes say it of a card.")] = Width.NARROW,
    mac: Annotated[Mac, typer.Option(help="Of a core: frames as streams, or a GMII; a board says it of a card.")] = Mac.NONE,
    lanes: Annotated[Lanes, typer.Option(help="Lanes of a card.")] = Lanes.ONE,
    address: Annotated[Optional[str], typer.Option(metavar="ADDRESS", help="MAC address of a card, as of `build --mac`.")] = None,
    pairs: Pairs = 4,
    features: Features = None,
):
    """Write the card as Verilog, for a flow of your own, and show its ports."""
    if board is not None and (width, mac) != (Width.NARROW, Mac.NONE) or board is None and (lanes, address) != (Lanes.ONE, None):
        raise typer.BadParameter("--width and --mac are for a core, --lanes and --address for a board's card")
    from .verilog import run_verilog
    raise typer.Exit(run_verilog(file, board=board, width=int(width), pairs=pairs, features=_offered(features, pairs),
                                 mac=None if mac == Mac.NONE else str(mac), address=address, lanes=int(lanes)))
