"""How long a card may be busy without a word on its link."""

from types import SimpleNamespace

import pytest

from ringnic.hdl.pcie.series7.adapter import PARAMETERS
from ringnic.sim.engine.engine import Link
from ringnic.sim.fuzz.calm import WORK, Calm
from ringnic.sim.fuzz.case import PAIRS
from ringnic.sim.fuzz.good import BrokenPromise

QUEUES = 2 * PAIRS + 1


class Still:
    """An engine that is busy for so many cycles and does nothing."""
    def __init__(self, cycles):
        self.left, self.ran = cycles, 0
        self.link = SimpleNamespace(model=lambda: Link().model())

    def stats(self):
        return dict.fromkeys(WORK, 0) | {"cycles": self.ran, "frames_in": 0}

    def run_until(self, *, idle, limit):
        ran = min(self.left, limit)
        self.left -= ran
        self.ran += ran
        return ran


def wait(cycles):
    engine = Still(cycles)
    card = SimpleNamespace(counter=lambda name: 0)
    return Calm(engine, card, lambda name: None).wait(True, lambda: None), engine.ran


def test_used_chains_wait_for_company():
    """Two ticks for each busy queue, and as long as an answer may take."""
    cycles = 2 * QUEUES * PARAMETERS.hold_cycles
    assert wait(cycles) == (False, cycles)


def test_a_card_that_stays_busy_is_found():
    with pytest.raises(BrokenPromise, match="busy, and does nothing"):
        wait(1 << 30)
