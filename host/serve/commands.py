"""The commands ``serve`` and ``attach``."""

from enum import StrEnum
import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from ...hdl.spec.net import DEFAULT_MAC, DEFAULT_MTU
from ..card_options import BoardCard, Mtu
from ..guest.card import PAIRS
from ..options import Features, Width, feature_bits, out_file

__all__ = ["app"]

app = typer.Typer()


class CardKind(StrEnum):
    """Kinds of simulated cards."""
    NET = "net"
    ENTROPY = "entropy"


def _mac_address(text: str | None):
    if text is None:
        return None
    from ..build.command import BuildError, parse_mac
    try:
        return parse_mac(text)
    except BuildError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def serve(
    sockets: Annotated[list[Path], typer.Argument(metavar="SOCKET", help="Paths of UNIX sockets, a card at each.")],
    cable: Annotated[Optional[str], typer.Option(metavar="KIND", help="What the cards are plugged into. user: a network with "
                     "DHCP and the host behind it. tap:NAME: a tap interface. dgram:LOCAL,PEER: another program with a frame in "
                     "each datagram, such as QEMU's -netdev dgram; both are paths, or ADDRESS:PORT. between: only each other. "
                     "none: nothing. Several cards with a network, or more than two, get a switch. Default: user for one card, "
                     "else between.")] = None,
    restrict: Annotated[bool, typer.Option("--restrict", help="Close the user network to the host and what is behind it."
                                           )] = False,
    mac: Annotated[Optional[str], typer.Option(metavar="ADDRESS", callback=_mac_address, help="MAC address of the first card, "
                                               "from which those of the others count up. Default: 52:54:00:52:4e:01.")] = None,
    mtu: Mtu = DEFAULT_MTU,
    pairs: Annotated[int, typer.Option(help="Queue pairs of each card.", min=1, max=16)] = PAIRS,
    features: Features = None,
    width: Annotated[Width, typer.Option(help="Bits of the datapath.")] = Width.WIDE,
    pcap: Annotated[Optional[Path], out_file("Write the frames on the cable, or into the switch, to this packet "
                                              "capture.")] = None,
    tlp: Annotated[Optional[Path], out_file("Write the packets on the PCIe link of the only card to this file, decoded.")] = None,
    card: Annotated[CardKind, typer.Option(help="What is served: network cards or entropy devices.")] = CardKind.NET,
    board: BoardCard = None,
    socket_group: Annotated[Optional[str], typer.Option(metavar="GROUP", help="Let this group's members connect, too, such as "
                                                        "libvirt's. Default: only you.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
):
    """Serve simulated cards to virtual machines of yours, one after another at each socket, until Ctrl-C.

    What QEMU and libvirt need to attach them is printed. docs/serve.md has the whole way.
    """
    from .cables import parse_cable
    from .command import ServeOptions, run_serve
    sockets = tuple(Path(os.path.abspath(path)) for path in sockets)
    if len(set(sockets)) < len(sockets):
        raise typer.BadParameter("each card needs a path of its own", param_hint="SOCKET")
    if tlp is not None and len(sockets) > 1:
        raise typer.BadParameter("the packets of one card can be written, not of several", param_hint="--tlp")
    if board is not None and (features, pairs, mtu, width, mac) != (None, PAIRS, DEFAULT_MTU, Width.WIDE, None):
        raise typer.BadParameter("--features, --pairs, --mtu, --width and --mac of a board's card are those of its build",
                                 param_hint="--board")
    if card is CardKind.ENTROPY and (board, cable, mac, pcap, features, mtu, pairs, width, restrict) != (
            None, None, None, None, None, DEFAULT_MTU, PAIRS, Width.WIDE, False):
        raise typer.BadParameter("an entropy device takes --tlp, --socket-group and --seed, and no option of a network card",
                                 param_hint="--card")
    try:
        plugged = parse_cable(cable, len(sockets))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--cable") from None
    if pcap is not None and plugged.kind == "none":
        raise typer.BadParameter("there are no frames without a cable", param_hint="--pcap")
    if restrict and plugged.kind != "user":
        raise typer.BadParameter("only the user network can be closed to the host", param_hint="--restrict")
    if mac is not None and mac + len(sockets) - 1 >= 1 << 48:
        raise typer.BadParameter("there are not as many addresses after this one", param_hint="--mac")
    if board is not None:
        from ...boards.table import BOARDS
        board = BOARDS[board]
    raise typer.Exit(run_serve(ServeOptions(
        sockets, card=str(card), cable=plugged, restrict=restrict, mac_address=DEFAULT_MAC if mac is None else mac,
        mtu=mtu, pairs=pairs, features=feature_bits(features, pairs), width=int(width), board=board, pcap=pcap, tlp=tlp,
        group=socket_group, seed=seed)))


def _pairs(texts, option):
    from .attach import parse_pair
    try:
        return tuple(parse_pair(text) for text in texts or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@app.command()
def attach(
    socket: Annotated[Path, typer.Argument(metavar="SOCKET", help="Path of the UNIX socket.")],
    verilog: Annotated[Optional[list[Path]], typer.Option(metavar="FILE", help="Verilog or SystemVerilog of the endpoint; may be "
                                                          "given more than once.")] = None,
    top: Annotated[Optional[str], typer.Option(metavar="MODULE", help="Its top module.")] = None,
    include: Annotated[Optional[list[Path]], typer.Option(metavar="FOLDER", help="Where included files are, besides the folders "
                                                          "of the files; may be given more than once.")] = None,
    amaranth: Annotated[Optional[str], typer.Option(metavar="MODULE:CLASS", help="The endpoint is this Amaranth component, from "
                                                    "the current folder or where Python looks.")] = None,
    param: Annotated[Optional[list[str]], typer.Option(metavar="NAME=VALUE", help="Parameter of the top module, or keyword of "
                                                       "the component; may be given more than once.")] = None,
    port: Annotated[Optional[list[str]], typer.Option(metavar="ROLE=NAME", help="A port of the top module is not called by its "
                                                      "role, of which docs/attach.md has the list: clk=pcie_clk; may be given "
                                                      "more than once.")] = None,
    wave: Annotated[Optional[Path], out_file("Write the signals of the model to this file (FST), and views beside it for GTKWave "
                                              "(.gtkw) and Surfer (.sucl); slow.")] = None,
    tlp: Annotated[Optional[Path], out_file("Write the packets on the PCIe link to this file, decoded, one a line.")] = None,
    socket_group: Annotated[Optional[str], typer.Option(metavar="GROUP", help="Let this group's members connect, too. Default: "
                                                        "only you.")] = None,
):
    """Serve an endpoint of your own, that has a clock, a reset and two streams of TLPs, to virtual machines as a PCI device.

    What QEMU and libvirt need to attach it is printed. docs/attach.md has the whole way.
    """
    from .attach import AttachOptions, number_or_text, run_attach
    if (verilog is None) == (amaranth is None):
        raise typer.BadParameter("the endpoint is either --verilog FILE with --top MODULE, or --amaranth MODULE:CLASS")
    if verilog is not None and top is None:
        raise typer.BadParameter("which module of the files is the endpoint?", param_hint="--top")
    if amaranth is not None and (top, include, port) != (None, None, None):
        raise typer.BadParameter("--top, --include and --port are for Verilog", param_hint="--amaranth")
    raise typer.Exit(run_attach(AttachOptions(
        Path(os.path.abspath(socket)), verilog=tuple(verilog or ()), top=top, includes=tuple(include or ()), amaranth=amaranth,
        parameters=tuple((name, number_or_text(value)) for name, value in _pairs(param, "--param")),
        ports=_pairs(port, "--port"), wave=wave, tlp=tlp, group=socket_group)))
