"""Options that commands share which simulate a card."""

from typing import Annotated, Optional

import typer

from ..hdl.spec.net import MAX_MTU, MIN_MTU
from .options import ethernet_board

__all__ = ["BoardCard", "Mtu"]

Mtu = Annotated[int, typer.Option(
    metavar="BYTES", min=MIN_MTU, max=MAX_MTU, help="MTU that the card offers; the guest takes it as its default, and what is "
                                                    "longer than the network carries is lost there.")]

BoardCard = Annotated[Optional[str], typer.Option(
    metavar="BOARD", callback=ethernet_board, help="The whole card of this board, from the Verilog that `ringnic build` wrote, "
                                                   "which is written if it is not there: features, queue pairs and MTU are those "
                                                   "of the build.")]
