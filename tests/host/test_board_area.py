"""``ringnic area --board``: cells of a card in percent of its FPGA."""

import json

import pytest
from typer.testing import CliRunner

from ringnic.host import board_area
from ringnic.host.area import Tools
from ringnic.host.cli import app

CELLS = {"LUT6": 6340, "RAM32M": 5, "FDRE": 12680, "RAMB36E1": 13, "RAMB18E1": 1, "pcie_7x_0": 1, "MMCME2_ADV": 1}


@pytest.fixture
def mapped(monkeypatch, tmp_path):
    """The cells of every card are known; the list of what was mapped."""
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "cache"))
    asked = []

    def cells(tools, board, lanes):
        asked.append((board.name, lanes))
        return {"cells": CELLS, "seconds": 1.0}
    monkeypatch.setattr(board_area, "_map", cells)
    return asked


def test_percent_of_the_fpga(mapped, tmp_path):
    report = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["area", "--board", "captain_100t", "--board", "ax7203", "--report", str(report)])
    assert done.exit_code == 0 and mapped == [("captain_100t", 1), ("ax7203", 1)]
    found = json.loads(report.read_text())
    case = found["cases"][0]
    # 5 RAM32M are 4 LUTs each; 63,400 LUTs, 126,800 flip-flops and 135 blocks of RAM are in an XC7A100T (DS180).
    assert (case["luts"], case["luts_percent"], case["lut_rams"]) == (6360, 10.0, 20)
    assert (case["ffs"], case["ffs_percent"], case["rams"], case["rams_percent"]) == (12680, 10.0, 13.5, 10.0)
    assert found["cases"][1]["luts_percent"] == 4.7
    assert "without the IP" in found["excluded"] and "without the IP" in " ".join(done.output.split())


@pytest.mark.parametrize("argv, status, says", [
    (("--board", "ax720"), 1, "did you mean ax7203?"), (("--board", "ax7203", "--width", "64"), 2, "its own width"),
    (("--board", "versa_ecp5_5g"), 1, "cannot be built for")])
def test_bad_input(mapped, argv, status, says):
    done = CliRunner().invoke(app, ["area", *argv])
    assert done.exit_code == status and says in " ".join(done.output.split()) and mapped == []


def test_what_is_mapped(monkeypatch, tmp_path):
    """The block is a box for yosys, and a repeat is a look into the cache."""
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ringnic.sim.board.board_verilog", lambda board, name, **options: (
        f"module {name}(output reg q); wire clk; always @(posedge clk) q <= ~q; pcie_7x_0 pcie(.user_clk_out(clk)); endmodule"))
    work = tmp_path / "work"
    work.mkdir()
    tools = Tools(work)
    area = board_area.board_area(tools, board_area.find_board("captain_75t"), 1)
    assert area.ffs == 1 and area.luts <= 1
    monkeypatch.setattr(Tools, "run", None)
    assert board_area.board_area(tools, board_area.find_board("captain_75t"), 1) == area
