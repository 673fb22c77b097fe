"""Whole cards: that all that they are made of fits together, for every board.

The network card and the adapter have tests of their own; here they are hollow, or each board would take a minute.
"""

from amaranth import Module
from amaranth.back import verilog
import pytest
import re

from ringnic.boards.table import BOARDS
from ringnic.hdl import card
from ringnic.hdl.card import BLOCK, Card, EthernetSide
from ringnic.hdl.spec.pcie_7x import block_ports
from ringnic.host.build.constraints import ethernet_ports
from ringnic.sim.board import block_box, board_card, board_verilog

from ..kit.boxes import box, instance, source
from ..kit.ports import port_list
from ..kit.yosys import complaints
from .lib.test_synchronizers import REGISTERS

BUILDABLE = [board.name for board in BOARDS.values() if board.buildable]
OPTIONS = dict(pairs=1, mac_address=None, features={32}, build_id=1)


@pytest.fixture
def hollow(monkeypatch):
    """Cards without what is in their larger parts."""
    for name in ("RingNIC", "Adapter"):
        part = getattr(card, name)
        monkeypatch.setattr(card, name, type(name, (part,), {"elaborate": lambda self, platform: Module()}))


@pytest.fixture
def boxes(monkeypatch):
    """Returns the Verilog of a card in which larger parts are instances of modules that are not there."""
    for name in ("RingNIC", "Adapter", "PipeClocks"):
        monkeypatch.setattr(card, name, box(getattr(card, name)))

    def boxes(**options):
        made = Card(**{**dict(lanes=1, queue_pairs=1, offered=5, mac_address=2 << 40, build_id=0), **options})
        return verilog.convert(made, ports=[getattr(made, member) for member in made.signature.members], emit_src=False)
    return boxes


def declared(text, top):
    """``{port: (direction, bits)}`` of a module."""
    body = text[re.search(rf"^module {top}\b", text, re.MULTILINE).start():]
    body = body[:body.index("endmodule")]
    return {name: (direction, int(high or 0) + 1)
            for direction, high, name in re.findall(r"^  (input|output|inout) (?:\[(\d+):0\] )?(\w+);", body, re.MULTILINE)}


def test_wiring(boxes):
    """Block, clocks, adapter and card are connected by the names of their ports, with nothing in between."""
    text = boxes(clkreq=True)
    block, adapter, nic, clocks = (instance(text, f"box_{name}" if name != BLOCK else name)
                                   for name in (BLOCK, "Adapter", "RingNIC", "PipeClocks"))

    def joined(one, other):
        return source(text, one) == source(text, other)
    for name, net in adapter.items():
        if name.startswith("block__"):
            assert joined(net, block[name.removeprefix("block__")]), name
        elif name != "dropped" and not name.startswith("scan__"):
            assert joined(net, nic[name]), name
    assert len([name for name in adapter if name.startswith(("config__", "tlp_", "credits"))]) > 30
    for mine, theirs in {
            "pipe_pclk_in": "pclk", "pipe_rxusrclk_in": "pclk", "pipe_oobclk_in": "pclk", "pipe_dclk_in": "dclk",
            "pipe_userclk1_in": "userclk1", "pipe_userclk2_in": "userclk2", "pipe_mmcm_lock_in": "locked",
            "pipe_txoutclk_out": "txoutclk", "pipe_pclk_sel_out": "pclk_sel"}.items():
        assert joined(block[mine], clocks[theirs]), mine
    assert joined(block["sys_rst_n"], "pcie_rst_n") and joined(block["sys_clk"], instance(text, "IBUFDS_GTE2")["O"])
    assert joined("clk", block["user_clk_out"]) and joined("rst", block["user_reset_out"])
    for pins, port in (("pcie_tx_p", "pci_exp_txp"), ("pcie_tx_n", "pci_exp_txn"), ("pcie_rx_p", "pci_exp_rxp")):
        assert joined(pins, block[port])
    tap = instance(text, "BSCANE2")
    assert "BSCANE2 #(\n    .JTAG_CHAIN(32'd1)\n  ) link_tap (" in text  # USER1; the constraints know it by that name
    for name in ("TDO", "SEL", "CAPTURE", "SHIFT", "UPDATE"):
        assert joined(tap[name], f"tap__{name.lower()}"), name
    for name in ("page__word", "page__value", "hold", "ask", "answer"):
        assert joined(adapter[f"scan__{name}"], f"trace__{name}"), name
    assert joined("jtag_clk", instance(text, "BUFG")["O"]) and joined(instance(text, "BUFG")["I"], tap["TCK"])
    assert nic["offered"] == f"128'h{5:032x}" and source(text, "pcie_clkreq_n") == "1'h0"


def test_all_inputs_of_the_block_are_driven(boxes):
    """And by constants only those that are neither clocks, pins nor the adapter's."""
    block = instance(boxes(), BLOCK)
    assert block.keys() == block_ports(lanes=1, width=64).keys()
    assert {name for name, net in block.items() if net == "1'h1"} == {"pl_upstream_prefer_deemph", "pipe_mmcm_rst_n"}


@pytest.mark.parametrize("name", BUILDABLE)
def test_ports_are_those_of_the_constraints(hollow, name):
    board = BOARDS[name]
    made = board_card(board, lanes=1, **OPTIONS)
    members = {*made.signature.members, *({"eth_mdio"} if board.ethernet else ())}
    if board.ethernet is not None:
        assert {port.partition("[")[0] for port in ethernet_ports(board.ethernet)} == {
            member for member in members if member.startswith("eth_")}
    assert ("pcie_clkreq_n" in members) == (board.pcie.clkreq is not None)


def test_leds(boxes):
    """Lit by a 0 where the board wants it so."""
    text = boxes(leds=[("link", False), ("link", True), ("busy", False)])
    inverted = re.search(r"assign (\S+) += ~ block__user_lnk_up ?;", text)[1]
    assert [source(text, f"led[{at}]") for at in range(3)] == [
        source(text, name) for name in ("block__user_lnk_up", inverted, instance(text, "box_RingNIC")["busy"])]


def test_a_gmii(boxes):
    """Pads are registered; the clock to the PHY is made of the clock of the data, and rises in the middle of them."""
    side = EthernetSide("gmii", 200, phy_address=7)
    text = boxes(ethernet=side)
    clock = instance(text, "ODDR")
    assert (clock["D1"], clock["D2"]) == ("1'h0", "1'h1") and source(text, clock["Q"]) == source(text, "eth_gtx_clk")
    assert "always @(posedge gmii_rx_clk)" in text and f"always @(posedge {clock['C']})" in text


def test_delays_are_calibrated_once_their_clock_is_stable(boxes):
    """UG471, "IDELAYCTRL": the reset of its domain ends when the MMCM has locked."""
    text = boxes(ethernet=EthernetSide("rgmii", 200, phy_address=7))
    reset, = re.findall(r"^  \S+ +delay_reset \(\n +\.async_ff_clk\(delay_reference_clk\),\n +\.locked\((\S+) *\)", text,
                        re.MULTILINE)
    assert reset == re.search(r"^  \S+ +eth_clocks \(.*?\.locked\((\S+) *\)", text, re.MULTILINE | re.DOTALL)[1]
    assert "assign async_ff_rst = ~ locked;" in text


def test_an_oscillator_with_one_pin(hollow):
    side = EthernetSide("rgmii", 50, differential=False, reset=False)
    made = Card(lanes=1, queue_pairs=1, offered=0, mac_address=2 << 40, build_id=0, ethernet=side)
    assert "osc_clk" in made.signature.members and not {"osc_clk_p", "eth_reset_n"} & set(made.signature.members)


@pytest.mark.parametrize("name", BUILDABLE)
def test_every_board(hollow, tmp_path, name):
    board = BOARDS[name]
    text = board_verilog(board, name="card", lanes=1, **OPTIONS)
    assert complaints(tmp_path, block_box(1) + text, "card") == ""
    assert declared(text, "card") == declared(port_list(board, 1), f"ringnic_{name}")
    assert text.count("IBUFDS_GTE2") == text.count("BUFGCTRL ") == 1
    assert all(mark for mark, _ in REGISTERS.findall(text))


@pytest.mark.parametrize("name", ["pz_a775t", "kc705"])
def test_two_lanes(hollow, tmp_path, name):
    text = board_verilog(BOARDS[name], name="card", lanes=2, **OPTIONS)
    assert complaints(tmp_path, block_box(2) + text, "card") == ""
    assert declared(text, "card")["pcie_rx_p"] == ("input", 2)


def test_four_lanes(hollow, tmp_path):
    text = board_verilog(BOARDS["ax7203"], name="card", lanes=4, **OPTIONS)
    assert complaints(tmp_path, block_box(4) + text, "card") == ""
    assert declared(text, "card")["pcie_rx_p"] == ("input", 4)


def test_a_misspelt_port_of_the_block_fails(hollow, tmp_path):
    text = board_verilog(BOARDS["captain_75t"], name="card", lanes=1, **OPTIONS)
    box = block_box(1)
    for name in ("cfg_turnoff_ok", "m_axis_rx_tdata", "pipe_pclk_in"):
        found = complaints(tmp_path, box.replace(name, f"{name}_x") + text, "card")
        assert f"does not have a port named '{name}'" in found and BLOCK in found
