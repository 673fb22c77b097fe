"""``ringnic verilog``: the file, and the table of its ports."""

import re

import pytest
from typer.testing import CliRunner

from ringnic.boards.table import BOARDS
from ringnic.host.build import verilog
from ringnic.host.build.verilog import Port, port_table
from ringnic.host.cli import app

from ...kit.ports import port_list

CORE = """module nic(clk, rst, tlp_rx_data, busy);
  input clk;
  wire clk;
  input rst;
  input [63:0] tlp_rx_data;
  wire [63:0] tlp_rx_data;
  output busy;
endmodule
"""


@pytest.fixture
def ringnic(tmp_path, monkeypatch):
    """Runs the command where making Verilog takes no time; ``ringnic.asked`` is what it was asked for."""
    asked = {}

    def core(**options):
        asked.update(options)
        return "nic", CORE

    def card(board, **options):
        asked.update(options, board=board.name)
        return f"ringnic_{board.name}", port_list(board, options["lanes"])
    monkeypatch.setattr(verilog, "_core", core)
    monkeypatch.setattr(verilog, "_card", card)
    monkeypatch.chdir(tmp_path)

    def ringnic(*argv):
        return CliRunner().invoke(app, ["verilog", *argv])
    ringnic.asked = asked
    return ringnic


def test_a_core(ringnic, tmp_path):
    done = ringnic("core.v", "--width", "128", "--mac", "gmii", "--pairs", "2", "--features", "version_1")
    assert done.exit_code == 0 and ringnic.asked == {"width": 128, "pairs": 2, "mac": "gmii", "offered": 1 << 32}
    text = (tmp_path / "core.v").read_text()
    assert text.startswith("// Ports of nic: direction, bits, name\n//   input     1  clk                  clock of the core\n")
    assert text.endswith(CORE) and [path.name for path in tmp_path.iterdir()] == ["core.v"]
    assert re.search(r"tlp_rx_data +input +64 +TLPs from the host", done.output)


def test_a_card(ringnic, tmp_path):
    done = ringnic("card.v", "--board", "ax7203", "--lanes", "4", "--address", "02:00:00:00:00:01")
    assert done.exit_code == 0
    assert {name: ringnic.asked[name] for name in ("board", "lanes", "mac_address")} == {
        "board": "ax7203", "lanes": 4, "mac_address": 0x0200_0000_0001}
    assert "pcie_rx_p" in done.output and "inout" in done.output


@pytest.mark.parametrize("argv, status, says", [
    (("x.v", "--board", "ax7"), 1, "no board is called 'ax7'"),
    (("x.v", "--board", "ax7203", "--address", "x"), 1, "no MAC address"),
    (("x.v", "--board", "ax7203", "--width", "128"), 2, "are for a core"), (("x.v", "--lanes", "2"), 2, "are for a core"),
    (("none/x.v",), 2, "cannot write none/x.v"), (("x.v", "--width", "32"), 2, "32")])
def test_one_clear_line(ringnic, tmp_path, argv, status, says):
    done = ringnic(*argv)
    assert done.exit_code == status and says in " ".join(done.stderr.split()) and list(tmp_path.iterdir()) == []


def test_every_port_has_a_meaning():
    for board in BOARDS.values():
        if board.buildable:
            ports = port_table(port_list(board, 1), f"ringnic_{board.name}")
            assert len(ports) >= 8 and all(port.meaning for port in ports)


def test_ports_of_the_real_core(monkeypatch, tmp_path):
    """What a flow of one's own has to connect."""
    top, text = verilog._core(width=64, pairs=1, mac="gmii", offered=1 << 32)
    ports = port_table(text, top)
    assert all(port.meaning for port in ports)
    assert {Port("clk", "input", 1), Port("tlp_rx_data", "input", 64), Port("tlp_tx_dws", "output", 2),
            Port("gmii_txd", "output", 8), Port("link_up", "input", 1), Port("busy", "output", 1)} <= set(ports)
    assert "offered" not in {port.name for port in ports}
