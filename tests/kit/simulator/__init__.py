"""Amaranth's simulator with an engine of its own, which computes the same values in a fraction of the time.

Four things differ from Amaranth's engine. What depends on a signal that a testbench sets is computed when a value is read or
when the testbench waits, not in each ``ctx.set``. A signal never changes twice in one step, so there are no glitches. A clock
whose falling edges nothing needs stays high. And there are no waveforms, no ``add_process`` and no ``reset``: who wants to see a
waveform imports the simulator from ``amaranth.sim`` instead.

A component that is simulated again is not elaborated again: each simulation begins with the initial values.
"""

from functools import lru_cache

from amaranth.hdl import Fragment
from amaranth.sim import Simulator as _Simulator

from .engine import Engine

__all__ = ["Simulator"]


@lru_cache(maxsize=8)
def _prepared(toplevel):
    return Fragment.get(toplevel, platform=None).prepare()


class Simulator(_Simulator):
    def __init__(self, toplevel):
        self._design = _prepared(toplevel)
        self._engine = Engine(self._design)
        self._clocked, self._running = set(), False
