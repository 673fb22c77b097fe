"""A board's whole card for the fast simulator: the Verilog that `ringnic build` wrote, character by character, with models in the
place of the PCI Express block, of the primitives of the FPGA, and of the PHY.

The models have one clock of the slot, which the block passes on as its user clock, and one of 125 MHz for Ethernet.
"""

from pathlib import Path

from amaranth.hdl import Value

from ..hdl.spec.pcie_7x import LINKS, block_ports
from .board import block_head
from .engine.engine import Engine
from .pcie_7x.block import Block
from .pcie_7x.board import board_link
from .pcie_7x.card import SETTLE
from .pcie_7x.config import Identity
from .pcie_7x.verilog import link_ports, to_verilog
from .top import TOP_NAME, Design

__all__ = ["card_engine", "whole_card"]

PRIMITIVES = Path(__file__).with_name("series7.v")
MODEL = "pcie_7x_model"
GMII_MHZ = 125
ETHERNET_UP = {"rgmii": "ethernet_up", "gmii": "link_up"}  # in the network card

# {pins of an Ethernet interface in the card: ports of the top}, in and out.
WIRES = {
    "rgmii": ({"eth_rx_clk": ("rgmii_rxc", 1), "eth_rx_ctl": ("rgmii_rx_ctl", 1), "eth_rx_data": ("rgmii_rxd", 4)},
              {"eth_tx_clk": ("rgmii_txc", 1), "eth_tx_ctl": ("rgmii_tx_ctl", 1), "eth_tx_data": ("rgmii_txd", 4)}),
    "gmii": ({"eth_rx_clk": ("gmii_rx_clk", 1), "eth_rx_dv": ("gmii_rx_dv", 1), "eth_rx_er": ("gmii_rx_er", 1),
              "eth_rx_data": ("gmii_rxd", 8)},
             {"eth_tx_en": ("gmii_tx_en", 1), "eth_tx_er": ("gmii_tx_er", 1), "eth_tx_data": ("gmii_txd", 8)}),
}


def _block(width, lanes, vectors, generation):
    """Modules: the IP as the card instantiates it, whose inside is the model, and the model."""
    block = Block(width=width, lanes=lanes, identity=Identity(msix_vectors=vectors, link_speed=generation))
    ports = block_ports(lanes=lanes, width=width)
    joined = [f".{name}({name})" for name in ports]
    wires = []
    for name, (way, bits) in link_ports(block).items():
        if way == "i" and name.startswith(("link_rx_", "link_tx_")):
            joined.append(f".{name}($root.{TOP_NAME}.{name})")  # of the top, by name: the IP has no such ports
        elif way == "i":
            joined.append(f".{name}({bits}'d{Value.cast(getattr(block, name)).init})")
        else:
            wires.append(f"  wire [{bits - 1}:0] {name};")
            joined.append(f".{name}({name})")
    shell = "\n".join([block_head(lanes), *wires,
                       f"  {MODEL} model(.clk(sys_clk), .rst(1'b0), {', '.join(joined)});", "endmodule\n"])
    return shell + to_verilog(block, MODEL)


def _top(board, top, *, width):
    """The module that has the card, and the ports which the simulator wants."""
    into, out = WIRES[board.ethernet.kind]
    dws = width // 32
    count = dws.bit_length()
    ports = [("input", 1, "clk"), ("input", 1, "rst")]
    for way, back, name in (("input", "output", "tlp_rx"), ("output", "input", "tlp_tx")):
        ports += [(way, width, f"{name}_data"), (way, count, f"{name}_dws"), (way, 1, f"{name}_last"),
                  (way, 1, f"{name}_valid"), (back, 1, f"{name}_ready")]
    ports += [("input", bits, name) for name, bits in into.values()]
    ports += [("output", bits, name) for name, bits in out.values()]
    ports += [("input", 1, name) for name in ("gmii_tx_clk", "gmii_tx_90_clk", "phy_drives", "phy_mdio")]
    ports += [("output", 1, name) for name in ("mdc", "mdio", "ethernet_up", "broken", "busy")]
    oscillator = ("osc_clk_p", "osc_clk_n") if len(board.oscillator.pins) == 2 else ("osc_clk",)
    joined = {
        "pcie_clk_p": "clk", "pcie_clk_n": "~clk", "pcie_rst_n": "perst_n", "pcie_rx_p": "'0", "pcie_rx_n": "'0",
        **dict(zip(oscillator, ("gmii_tx_clk", "~gmii_tx_clk"))),
        **{pin: name for pin, (name, _) in {**into, **out}.items()}, "eth_mdc": "mdc", "eth_mdio": "mdio_pad",
    }
    declared = ", ".join(f"{way} [{bits - 1}:0] {name}" for way, bits, name in ports)
    return f"""module {TOP_NAME}({declared});
  reg perst_n = 0;
  always @(posedge clk) perst_n <= !rst;
  tri1 mdio_pad;
  assign mdio_pad = phy_drives ? phy_mdio : 1'bz;
  assign mdio = mdio_pad;
  assign ethernet_up = card.nic.{ETHERNET_UP[board.ethernet.kind]};
  {top} card({", ".join(f".{pin}({name})" for pin, name in joined.items())});

  // A model that was misused, or whose buffer ran over, answers no more, so that no test passes then. A host sends nothing
  // before the link is up.
  reg misused = 0;
  assign broken = misused;
  always @(posedge clk) misused <= misused | card.pcie.overflow | card.pcie.misuse;
  wire open = card.pcie.user_lnk_up & !misused;
  wire [{width - 1}:0] link_rx_data = tlp_rx_data;
  wire [{count - 1}:0] link_rx_dws = tlp_rx_dws;
  wire link_rx_last = tlp_rx_last;
  wire link_rx_valid = tlp_rx_valid & open;
  wire link_tx_ready = tlp_tx_ready;
  assign tlp_rx_ready = card.pcie.link_rx_ready & open;
  assign tlp_tx_data = card.pcie.link_tx_data;
  assign tlp_tx_dws = card.pcie.link_tx_dws;
  assign tlp_tx_last = card.pcie.link_tx_last;
  assign tlp_tx_valid = card.pcie.link_tx_valid & !misused;

  reg [6:0] quiet = 0;
  wire moves = tlp_rx_valid | tlp_tx_valid | card.pcie.m_axis_rx_tvalid | card.pcie.s_axis_tx_tvalid | card.pcie.cfg_interrupt
    | card.pcie.cfg_err_ur | card.pcie.user_reset_out | card.nic.busy;
  always @(posedge clk) quiet <= moves ? 0 : quiet + (quiet != {SETTLE});
  assign busy = moves | quiet != {SETTLE};
endmodule
"""


def whole_card(board, verilog, *, top, lanes, pairs):
    """The :class:`.top.Design` of a board's card whose Verilog is ``verilog`` with the top module ``top``.

    ``board`` has Ethernet. ``lanes``, ``pairs``: as the card was built.
    """
    width = LINKS[lanes].width
    source = "".join([_top(board, top, width=width), verilog, _block(width, lanes, 2 * pairs + 2, board.generation),
                      PRIMITIVES.read_text()])
    return Design(source, width, board.ethernet.kind, mdio=True, both_edges=True)


def card_engine(board, verilog, *, top, lanes, pairs, seed=0, **options):
    """Return an :class:`.engine.engine.Engine` of :func:`whole_card` in a slot of its own kind, with the clocks of the board.

    ``seed``: of the delays of the link. ``options``: further ones of the engine.
    """
    return Engine(nic=whole_card(board, verilog, top=top, lanes=lanes, pairs=pairs),
                  gmii_ratio=round(GMII_MHZ / LINKS[lanes].user2_mhz), link=board_link(board, lanes, jitter_ns=100, seed=seed),
                  **options)
