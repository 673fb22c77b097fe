"""How long to wait for a machine that may be slow, or simulated.

A verdict must not depend on the speed of the computer. So a timeout starts over whenever something moves, and while the guest
computes without any output, its processor time counts instead of the clock.
"""

import os
from pathlib import Path
import time

__all__ = ["POLL_SECONDS", "Patience", "processor_seconds"]

POLL_SECONDS = 1.0
# A process that uses less of the time is idle. One that computes gets more even on a machine slowed to a tenth.
IDLE_SHARE = 0.05


def processor_seconds(pid):
    """Return the processor time that a process has used in its life, in seconds; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class Patience:
    """Time that is used up only while nothing moves.

    Parameters
    ----------
    seconds : float
        How long nothing may move.
    signs : sequence of callables
        Each returns something that changes when there is progress: bytes transferred, packets on a link.
    work : callable or None
        Returns the processor time of the process that is waited for, in seconds, or None once that is unknown. While it grows
        by at least ``IDLE_SHARE`` of the time that passes, it counts in place of the clock.
    clock : callable
        Returns the time in seconds.
    """
    def __init__(self, seconds, signs=(), work=None, clock=time.monotonic):
        self._seconds, self._signs, self._work, self._clock = seconds, tuple(signs), work, clock
        self.restart()

    def _look(self):
        return [sign() for sign in self._signs]

    def restart(self):
        """Start over: there was progress that no sign shows, such as output that the caller has read."""
        self._spent = 0.0
        self._now, self._seen, self._done = self._clock(), self._look(), self._work and self._work()

    @property
    def over(self):
        """Whether the time is used up. Ask every few seconds at least: the time since the last look is counted as a whole."""
        if (seen := self._look()) != self._seen:
            self.restart()
            return False
        now, done = self._clock(), self._work and self._work()
        passed = now - self._now
        if done is not None and self._done is not None and done - self._done >= IDLE_SHARE * passed:
            passed = min(passed, done - self._done)
        self._spent += passed
        self._now, self._seen, self._done = now, seen, done
        return self._spent >= self._seconds
