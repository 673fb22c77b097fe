"""``ringnic bench --stages``: the table, what it blames, and the report."""

import json

from typer.testing import CliRunner

from ringnic.host import stages
from ringnic.host.cli import app
from ringnic.sim.bench import Setup
from ringnic.sim.stages import Flow


def test_table_and_report(monkeypatch, tmp_path, capsys):
    def measured(setup, direction, frame_bytes, *, ring, features):
        assert (setup.width, frame_bytes, features) == (64, 64, None)
        waits = 0.9 if direction == "rx" else 0.0
        return [Flow("chains", "HeadStore", 0.08, waits), Flow("TLPs to the host", "the link", 0.5, 0.0)]
    monkeypatch.setattr(stages, "measure_stages", measured)
    assert stages.run_stages(tmp_path / "s.json", setups=(Setup("gen2x4", 64),)) == 0
    out = capsys.readouterr().out
    assert "gen2x4, 64 bit at 125 MHz, 64 bytes" in out and "8/90" in out and "50/0" in out
    assert "rx, packed: limited by HeadStore" in out and "tx, split: limited by reads on their way" in out
    report = json.loads((tmp_path / "s.json").read_text())
    assert len(report["cases"]) == 6 and {"version", "commit", "seed"} <= set(report["ringnic"])
    blamed = {(case["direction"], case["ring"]): case["limited_by"] for case in report["cases"]}
    assert blamed["rx", "split"] == "HeadStore" and blamed["both", "packed"] == "reads on their way"
    assert report["cases"][0]["streams"][0] == {"name": "chains", "taker": "HeadStore", "moves": 0.08, "waits": 0.0}


def test_neither_picture_nor_board(tmp_path):
    for more in (["--plot", str(tmp_path / "a.png")], ["--board", "ax7203"]):
        found = CliRunner().invoke(app, ["bench", "--stages", *more])
        assert found.exit_code == 2 and "neither a picture nor a board" in found.stderr
