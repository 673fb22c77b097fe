"""A stock guest and the whole card of a board: the Verilog that `ringnic build` writes, with models around it."""

import hashlib
from pathlib import Path

import pytest
from rich.console import Console

from ringnic.boards.table import BOARDS
from ringnic.host.guest.board_card import board_card
from ringnic.host.guest.report import Report
from ringnic.host.guest.session import DemoOptions, run_demo


@pytest.mark.parametrize("name", ["ax7203", "kc705"])  # an RGMII, and a GMII
def test_guest_uses_the_card_of_a_board(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = Report()
    assert run_demo(DemoOptions(size=1 << 20), board_card(BOARDS[name]), console=Console(stderr=True), report=report) == 0
    assert report.driver == "virtio_net" and report.ping_lost == 0 and report.sha256_ok and report.counters["drops"] == 0
    verilog = Path(f"build/{name}/ringnic_{name}.v").read_bytes()
    assert report.verilog == hashlib.sha256(verilog).hexdigest()
