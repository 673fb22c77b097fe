"""Options that commands share."""

from enum import StrEnum
import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from .checkout import checkout
from .errors import complain

__all__ = ["Accel", "Features", "Width", "block_board", "cycle_window", "ethernet_board", "feature_bits", "need_checkout",
           "out_file", "writable"]


class Accel(StrEnum):
    """QEMU's accelerators."""
    TCG = "tcg"
    KVM = "kvm"
    AUTO = "auto"


class Width(StrEnum):
    """Bits of the datapath."""
    NARROW = "64"
    WIDE = "128"


class CoreWidth(StrEnum):
    """Bits of the datapath of a core that is only measured."""
    NARROW = "64"
    WIDE = "128"
    WIDER = "256"
    WIDEST = "512"


def need_checkout(context: typer.Context):
    """End with one line if what the command works on is not here."""
    if checkout() is None:
        command = f"ringnic {context.info_name}"
        complain(f"`{command}` needs a checkout of the project, and this is an installed package; run ./{command} in a checkout")
        raise typer.Exit(1)


def writable(path: Path | None):
    """Refuse at once what could not be written at the end."""
    if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK)):
        raise typer.BadParameter(f"cannot write {path}")
    return path


def cycle_window(text):
    """First and, if it is there, last cycle of a text FIRST:LAST; None for None."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, last)):
        raise typer.BadParameter(f"{text!r} is not FIRST:LAST, two numbers of cycles of which one may be left out")
    if first and last and int(first) > int(last):
        raise typer.BadParameter(f"cycle {first} comes after cycle {last}")
    return (int(first or 0), int(last)) if last else (int(first or 0),)


def out_file(help):
    """Option for a file to write."""
    return typer.Option(metavar="FILE", callback=writable, help=help)


Features = Annotated[Optional[str], typer.Option(
    metavar="LIST", help="Device features that the card offers: a list such as ring_packed,mrg_rxbuf; or changes to all "
                         "that it has, such as -ring_packed,-event_idx. Default: all.")]


def feature_bits(text, pairs):
    """Numbers of the features that ``--features`` asks a card of ``pairs`` queue pairs for; None for all."""
    if text is None:
        return None
    from .features import parse
    from .guest.card import card_features
    try:
        return parse(text, card_features(pairs))
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--features") from None


def _block_board(name: str | None):
    from .build.command import BuildError, find_board
    try:
        return None if name is None else find_board(name).name
    except BuildError as error:
        raise typer.BadParameter(str(error)) from None


def block_board():
    """Option for a board with a 7-series FPGA."""
    return typer.Option(metavar="BOARD", callback=_block_board, help="Of the card as it is on this board: behind a model of "
                        "the FPGA's PCI Express block, which keeps most of the configuration.")


def ethernet_board(name: str | None):
    """Callback of an option for a board that has Ethernet."""
    _block_board(name)
    if name is not None:
        from ..boards.table import BOARDS
        if BOARDS[name].ethernet is None:
            raise typer.BadParameter(f"{name} has no Ethernet; `ringnic conformance --board {name}` tries its card")
    return name
