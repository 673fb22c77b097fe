"""A stock guest and the whole card of a board: the Verilog that `ringnic build` writes, with models around it."""

import hashlib
from pathlib import Path
import struct

import pytest
from rich.console import Console

from ringnic.boards.table import BOARDS
from ringnic.hdl.spec.net import DEFAULT_MTU
from ringnic.host.guest.board_card import board_card
from ringnic.host.guest.card import PAIRS, Wave
from ringnic.host.guest.report import Report
from ringnic.host.guest.session import DemoOptions, run_demo
from ringnic.sim.engine.view import BOARD_GROUPS

MOMENTS = 10    # of a waveform in a cycle of the block, with one lane: two of its clock, four of each of Ethernet's two clocks


@pytest.mark.parametrize("name", ["ax7203", "kc705"])  # an RGMII, and a GMII
def test_guest_uses_the_card_of_a_board(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = Report()
    assert run_demo(DemoOptions(size=1 << 20), board_card(BOARDS[name]), console=Console(stderr=True), report=report) == 0
    assert report.driver == "virtio_net" and report.ping_lost == 0 and report.sha256_ok and report.counters["drops"] == 0
    verilog = Path(f"build/{name}/ringnic_{name}.v").read_bytes()
    assert report.verilog == hashlib.sha256(verilog).hexdigest()


def test_waveform_of_a_board(tmp_path, monkeypatch):
    """Without a guest, which would take its time: the card finds its PHY, and waits for a QEMU."""
    monkeypatch.chdir(tmp_path)
    wave = tmp_path / "wave.fst"
    with board_card(BOARDS["ax7203"])(tmp_path / "card.sock", seed=0, wave=Wave(wave, 100, 4_099), tlp=None,
                                      update=lambda text: None, features=None, pairs=PAIRS, mtu=DEFAULT_MTU) as card:
        assert card.engine.ethernet_up()
    # The first and the last time, as of `test_waveform` in tests/guest.
    first, last = struct.unpack_from(">QQ", wave.read_bytes(), 9)
    assert (first // MOMENTS, last // MOMENTS) == (100, 4_099)
    view = wave.with_suffix(".gtkw").read_text()
    wanted = {name for signals in BOARD_GROUPS.values() for name in signals if not name.startswith("nic.gmii_")}
    assert wanted == {line.partition("[")[0].removeprefix("TOP.") for line in view.splitlines() if line.startswith("TOP.")}
