"""A component in Amaranth's simulator, with what every simulation has: a clock, a limit, an eye on the streams."""

from dataclasses import dataclass
from functools import lru_cache

from amaranth.hdl import ClockDomain, Module, Value

from . import busy, streams
from .simulator import Simulator

__all__ = ["Simulation", "cycles", "until"]

PERIOD = 8e-9
PATIENCE = 3000  # cycles


async def cycles(ctx, count):
    """Let time pass. Unlike ``repeat()`` this may be abandoned when the simulation fails."""
    for _ in range(count):
        await ctx.tick()


async def watchdog(ctx, limit):
    await ctx.delay(limit * PERIOD)
    raise AssertionError(f"not done after {limit} cycles")


async def until(ctx, condition, limit=PATIENCE):
    """Let time pass until ``condition()``."""
    for _ in range(limit):
        if condition():
            return
        await ctx.tick()
    raise AssertionError(f"not after {limit} cycles")


@dataclass(frozen=True)
class _Same:
    """A value that is the same as itself only: ``==`` of two values is a third one."""
    value: Value

    def __eq__(self, other):
        return self.value is other.value

    def __hash__(self):
        return id(self.value)


@lru_cache(maxsize=8)
def _around(dut, glue, sync, beside, forget):
    """Return the module around a component, and the rules of its streams if there are any. It is the same for the same
    component, so that this is elaborated once."""
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.dut = dut
    m.d.comb += glue
    m.d.sync += sync
    if beside:
        beside(m)
    rules = None
    if watched := streams.outputs(dut):
        m.submodules.rules = rules = streams.Rules(watched, None if forget is None else forget.value)
    return m, rules


class Simulation:
    """``dut`` in a simulator.

    Parameters
    ----------
    dut : Elaboratable
        Every stream that leaves a :class:`wiring.Component` is watched, and ``busy`` if it has that and ``watch_busy``. One that
        another test has simulated is not elaborated again.
    rng : random.Random
        Decides where the bench pauses.
    glue, sync
        Statements around the component, combinational and clocked.
    beside : function
        Called with the module, to add what the component is joined to.
    pause : float
        Part of the cycles in which :meth:`send` and :meth:`collect` do nothing.
    limit : int
        Cycles after which a test has failed.
    forget : Signal
        After a cycle with it the component may have withdrawn what it offered: a reset.
    watch_busy : bool
        False for a component made of several, whose ``busy`` may rise some cycles after what it is given, or is for its own work
        only while a part that it is joined to has another.
    """
    def __init__(self, dut, rng=None, *, glue=(), sync=(), beside=None, pause=0.0, limit=20000, forget=None, watch_busy=True):
        self.dut, self.rng, self.pause = dut, rng, pause
        self._background = []
        m, rules = _around(dut, tuple(glue), tuple(sync), beside, None if forget is None else _Same(forget))
        self.sim = Simulator(m)
        self.sim.add_clock(PERIOD)
        self.background(watchdog, limit)
        if rules:
            self.background(rules.watch)
        if watch_busy and hasattr(dut, "busy"):
            self.background(busy.watch, dut)

    def background(self, function, *arguments):
        """Run ``function(ctx, *arguments)`` for as long as there is something else."""
        async def run(ctx):
            await function(ctx, *arguments)
        self._background.append(run)

    def run(self, *testbenches):
        for testbench in self._background:
            self.sim.add_testbench(testbench, background=True)
        for testbench in testbenches:
            self.sim.add_testbench(testbench)
        self.sim.run()

    def idle(self):
        return self.pause and self.rng.random() < self.pause

    async def until(self, ctx, condition, limit=PATIENCE):
        await until(ctx, condition, limit)

    async def send(self, ctx, stream, payload):
        await streams.send(ctx, stream, payload, self.idle)

    async def collect_into(self, ctx, stream, take, gate=streams.always):
        """Call ``take(payload)`` for all that comes on ``stream``, while ``gate()``; for the background."""
        await streams.collect(ctx, stream, take, lambda: not self.idle() and gate())

    def collect(self, stream, gate=None):
        """List that everything on ``stream`` is added to, while ``gate()``."""
        got = []
        self.background(self.collect_into, stream, got.append, gate or streams.always)
        return got
