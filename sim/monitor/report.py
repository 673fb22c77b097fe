"""What the checker has found: rows that held, and where they did not."""

from dataclasses import dataclass

__all__ = ["Report", "Violation", "clauses"]


@dataclass(frozen=True)
class Violation:
    """A rule was broken: the row of the plan, the cycle of the fact that shows it, and what happened."""
    row: str
    cycle: int
    text: str

    def __str__(self):
        return f"{self.row} in cycle {self.cycle}: {self.text}"


def clauses(observed):
    """Return a test's property that tells how often rows were put to the test: those that were at all (host/outcomes.py)."""
    return "clauses", {row: count for row, count in observed.items() if count}


class Report:
    """Counts, and keeps what is wrong.

    Attributes
    ----------
    observed : dict
        By row, how often the rule was put to the test: a case it speaks of came up, and it was kept or broken.
    violations : list of Violation
    cycle : int
        Of the fact that is looked at.
    seq : int
        Number of that fact: what came before what.
    """
    def __init__(self, rows):
        self.observed = dict.fromkeys(rows, 0)
        self.violations = []
        self.cycle = self.seq = 0

    def held(self, row):
        self.observed[row] += 1

    def broken(self, row, text):
        self.observed[row] += 1
        self.violations.append(Violation(row, self.cycle, text))

    def judge(self, row, kept, text):
        """``text`` is for when it was not; a callable, if putting it together takes time."""
        self.observed[row] += 1
        if not kept:
            self.violations.append(Violation(row, self.cycle, text() if callable(text) else text))
