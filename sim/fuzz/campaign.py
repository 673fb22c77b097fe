"""Case after case from one seed: what was done, what was met, and the first case that broke a promise."""

from collections import Counter
from contextlib import closing
import random
import time

from .case import Case, open_engine
from .generator import Generator, draw_case
from .good import BrokenPromise
from .player import Player

__all__ = ["Campaign", "replay"]

LIVES, BURSTS = 3, 8     # of a case: lives of the device, and bursts in each


def replay(case, opened=open_engine):
    """Do what a case says, on a card fresh from power-on. Return the :exc:`BrokenPromise`, or None."""
    with closing(opened(case)) as engine:
        try:
            player = Player(case, engine)
            for action in case.actions:
                player.do(action)
        except BrokenPromise as broken:
            return broken
    return None


class Campaign:
    """Cases drawn from a seed.

    Parameters
    ----------
    seed : int
        Case ``k`` of a seed is always the same, as long as the card is.
    opened : callable
        Makes the engine of a case.
    board : str or None
        As of :class:`.case.Case`.

    Attributes
    ----------
    cases, cycles : int
        Done so far.
    actions_by_width : Counter
        Actions done on cards of each width.
    cells : dict
        How many bursts met ``(action, state, outcome)``.
    counters : set
        Names of the card's counters that were seen to move.
    """
    def __init__(self, seed, opened=open_engine, board=None):
        self.seed = seed
        self.board = board
        self.opened = opened
        self.cases = self.cycles = 0
        self.actions_by_width = Counter()
        self.simulating = 0.0
        self.cells = {}
        self.counters = set()

    @property
    def actions(self):
        """Number of actions done so far."""
        return self.actions_by_width.total()

    def prepare(self):
        """Have the simulators of all widths built, which takes a minute or two where they are not."""
        for width in Case(board=self.board).widths:
            self.opened(Case(width=width, board=self.board)).close()

    def run(self, seconds, tell=lambda campaign: None):
        """Run for so many seconds, and call ``tell`` after each case; return ``(case, promise)`` of the first that breaks one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            case = Case(seed=self.seed, number=self.cases, board=self.board)
            broken = self._case(case)
            self.cases += 1
            tell(self)
            if broken is not None:
                case.broken = broken.rule
                return case, broken
        return None

    def _case(self, case):
        rng = random.Random(f"{case.seed}/{case.number}")
        draw_case(rng, case)
        with closing(self.opened(case)) as engine:
            player = Player(case, engine)

            def do(action):
                case.actions.append(action)
                player.do(action)
            generator = Generator(player, rng, do)
            try:
                for _ in range(LIVES):
                    generator.life(1 + rng.randrange(2 * BURSTS))
                player.read_counters()
            except BrokenPromise as broken:
                return broken
            finally:
                stats = engine.stats()
                self.actions_by_width[case.width] += player.done + player.card.accesses
                self.cycles += stats["cycles"]
                self.simulating += stats["busy_seconds"]
                for cell in player.cells:
                    self.cells[cell] = self.cells.get(cell, 0) + 1
                self.counters |= player.counters
        return None
