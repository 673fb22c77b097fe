"""The fuzzer: a short campaign, what campaigns found before, and that it finds what is wrong and makes it small."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ringnic.host.cli import app
from ringnic.host.fuzz import load_case, run_fuzz, run_replay, save_case
from ringnic.sim.bus import MSI_ADDRESS
from ringnic.sim.fuzz.campaign import Campaign, replay
from ringnic.sim.fuzz.card import VECTORS
from ringnic.sim.fuzz.case import ACTIONS, Case, open_engine
from ringnic.sim.fuzz.minimise import minimise

FOUND = sorted((Path(__file__).parent / "fuzz").glob("*.json"))
SECONDS = 10
FEATURES = (15, 17, 22, 28, 29, 32, 40)
TRAFFIC = [["begin", *FEATURES], ["good", 0, 16, 16, 0], ["setup", 3, 16, 0, 0x2000, 0x6000], ["live", 1], *[["send", 64, 0]] * 5,
           *[["feed", 100]] * 5, ["frame", 61, 9, 9], ["run", 100], ["poll"], ["check"], ["reset", 0]]


class Defect:
    """An engine that lies: it stands for a card with a defect, which shows after so many frames have been sent to it."""
    def __init__(self, case, frames, **lies):
        self._engine = open_engine(case)
        self._left = frames
        self._lies = lies

    def send_frame(self, frame):
        self._left -= 1
        return self._engine.send_frame(frame)

    def __getattr__(self, name):
        if name in self._lies and self._left <= 0:
            return lambda: self._lies[name](getattr(self._engine, name)())
        return getattr(self._engine, name)


DEFECTS = {
    "dma": dict(accesses=lambda found: [*found, (0x1000, 4, True)]),
    "frame": dict(recv_frame=lambda frame: frame and frame[:-1] + bytes([frame[-1] ^ 1])),
    "mask": dict(interrupts=lambda found: [*found, *[(MSI_ADDRESS, vector) for vector in range(VECTORS)]]),
    "tlp": dict(violations=lambda found: [*found, "2.2.2: Length is not that of the TLP"]),
}


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_was_found_stays_mended(path):
    broken = replay(load_case(path))
    assert broken is None, str(broken)


def test_short_campaign(seed, tmp_path):
    assert run_fuzz(SECONDS, seed, tmp_path / "report.json", folder=tmp_path) == 0


def test_a_campaign_is_determined_by_its_seed(seed):
    def first():
        campaign = Campaign(seed)
        campaign.run(0.1)
        return campaign.actions, campaign.cycles, campaign.cells, campaign.counters
    assert first() == first()


def test_nothing_is_broken_by_what_is_allowed():
    for kind in range(3):
        assert replay(Case(actions=[*TRAFFIC[:-1], ["reset", kind], *TRAFFIC])) is None


@pytest.mark.parametrize("rule", DEFECTS)
def test_a_defect_is_found_and_made_small(rule, seed, tmp_path, capsys):
    def opened(case):
        return Defect(case, 3, **DEFECTS[rule])
    assert run_fuzz(60, seed, None, opened=opened, folder=tmp_path) == 1
    path, = tmp_path.glob("*.json")
    assert f"ringnic: Broken: {rule}: " in capsys.readouterr().err
    small = load_case(path)
    assert small.broken == rule
    # Three frames, and what it takes to see what came of them.
    assert len(small.actions) <= 12
    assert replay(small, opened).rule == rule and replay(small) is None
    assert run_replay(path, None, opened=opened) == 1 and run_replay(path, None) == 0


def test_only_what_is_needed_is_left():
    case = Case(actions=[*TRAFFIC, *TRAFFIC], broken="frame")
    small = minimise(case, lambda case: Defect(case, 3, **DEFECTS["frame"]))
    names = [action[0] for action in small.actions]
    assert "begin" in names and "good" in names and "live" in names and "setup" not in names and "reset" not in names


def test_what_does_not_break_is_not_made_small():
    with pytest.raises(ValueError, match="does not break 'dma' again"):
        minimise(Case(actions=TRAFFIC, broken="dma"))


def test_case_files(tmp_path):
    case = Case(width=128, link="far", seed=3, number=7, actions=[["run", 5], ["begin", 1, 2]], broken="dma")
    save_case(tmp_path / "case.json", case)
    assert load_case(tmp_path / "case.json") == case


@pytest.mark.parametrize("text, message", [
    ("", "holds no case"), ("[]", "holds no case"), ('{"wide": 1}', "A case has no wide"),
    ('{"board": "nexys"}', "There is no card of a board 'nexys'"),
    ('{"actions": [["explode"]]}', "There is no action 'explode'"), ('{"link": "wet"}', "A link is one of near, .*, not 'wet'")])
def test_a_file_that_holds_no_case(tmp_path, text, message):
    path = tmp_path / "case.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_case(path)
    answer = CliRunner().invoke(app, ["fuzz", "--replay", str(path)])
    assert answer.exit_code == 2 and "--replay" in answer.output


@pytest.mark.parametrize("board", [None, "ax7203"])
def test_every_action_at_any_time(board):
    """Whatever comes before, and whatever does not; also of a card behind the model of the 7-series block."""
    actions = {"begin": FEATURES, "good": (0, 16, 16, 0), "setup": (3, 16, 0, 0x2000, 0x6000), "live": (1,), "reset": (0,),
               "desc": (3, 0, 1, 2, 3, 4), "table": (0, 1, 2, 3, 4), "avail": (3, 0, 0), "index": (3, 1, 0), "event": (3, 1),
               "loose": (0, 1), "kick": (3, 0), "notify": (3, 2, 3), "common": (3, 0x18, 2, 8), "queue_reset": (3,),
               "write": (0x2000, 4, 1), "read": (0, 4), "window": (0, 4, -1), "vector": (0, 3, 1), "msix": (1, 1), "mask": (1, 1),
               "master": (0, 1), "power": (3,), "device_control": (0,), "link": ("far",), "fault": ("ur", 2), "cable": (0,),
               "frame": (60, 0, 0), "flood": (5, 60, 0), "send": (60, 5, 9), "feed": (60,), "poll": (), "run": (10,), "check": (),
               "early": (60,), "silent": (1,),
               "sheet": (0, 1100, 5, 1, 20, 2), "scatter": (60, 30), "spread": (40,), "command": (20,)}
    assert set(actions) == set(ACTIONS)
    alone = [[name, *numbers] for name, numbers in actions.items()]
    for name, numbers in actions.items():
        assert replay(Case(board=board, actions=[[name, *numbers], ["check"]])) is None
    assert replay(Case(board=board, actions=[*reversed(alone), ["check"], *alone, ["check"]])) is None
