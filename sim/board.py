"""Verilog of a board's whole card."""

from amaranth.back import verilog

from ..boards.board import Role
from ..hdl.card import BLOCK, Card, EthernetSide
from ..hdl.lib.synchronizers import MarkedSynchronizers
from ..hdl.spec.pcie_7x import LINKS, block_ports
from ..hdl.spec.phy import rtl8211f

__all__ = ["block_box", "block_head", "board_card", "board_verilog"]

ROLES = {Role.LINK: "link", Role.CLOCK: "clock", Role.BUSY: "busy", Role.ETHERNET: "ethernet"}
# The card delays TXC, and the PHY RXC, whatever the straps of the PHY say.
SETUPS = {"RTL8211F": rtl8211f(rx=True, tx=False)}


def block_head(lanes):
    """The beginning of the Verilog module that the PCI Express block is."""
    ports = block_ports(lanes=lanes, width=LINKS[lanes].width)
    words = ", ".join(f"{'input' if direction == 'i' else 'output'} [{bits - 1}:0] {name}"
                      for name, (direction, bits) in ports.items())
    return f"module {BLOCK}({words});"


def block_box(lanes):
    """Verilog of the PCI Express block without what is in it."""
    return f"(* blackbox *) {block_head(lanes)} endmodule\n"


def board_card(board, *, lanes, pairs, mac_address, features, build_id):
    """The :class:`Card` of a board. ``mac_address`` None: made of the FPGA's serial number; ``features``: numbers of bits."""
    ethernet = None
    if board.ethernet is not None:
        ethernet = EthernetSide(
            board.ethernet.kind, board.oscillator.mhz, differential=len(board.oscillator.pins) == 2,
            phy_address=board.ethernet.phy_address, phy_setup=SETUPS.get(board.ethernet.phy, ()),
            reset=board.ethernet.reset_n is not None)
    return Card(
        lanes=lanes, queue_pairs=pairs, offered=sum(1 << bit for bit in features),
        mac_address="dna" if mac_address is None else mac_address, build_id=build_id, ethernet=ethernet,
        clkreq=board.pcie.clkreq is not None, leds=[(ROLES[led.role], led.low) for led in board.leds])


def board_verilog(board, *, name, **options):
    """Verilog of :func:`board_card`, the top module called ``name``."""
    card = board_card(board, **options)
    ports = [getattr(card, member) for member in card.signature.members]
    if board.ethernet is not None:
        ports.append(card.eth_mdio)
    return verilog.convert(card, name=name, platform=MarkedSynchronizers(), ports=ports, emit_src=False)
