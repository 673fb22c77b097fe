"""What happens when, and what testbenches wait for."""

from heapq import heappop, heappush
from itertools import count

from amaranth.hdl import ShapeCastable, Signal, ValueCastable
from amaranth.sim import BrokenTrigger
from amaranth.sim._async import AsyncProcess, TestbenchContext, TickTrigger

__all__ = ["Clock", "Domain", "Testbench", "Timeline"]

MADE = 1000  # constants that are kept; views that are made anew in each cycle would fill the memory


class Timeline:
    """What happens when; times are in femtoseconds."""
    def __init__(self):
        self.now, self._coming, self._order = 0, [], count()

    def call(self, interval, function):
        heappush(self._coming, (self.now + interval, next(self._order), function))

    def advance(self):
        if self._coming:
            self.now = self._coming[0][0]
            while self._coming and self._coming[0][0] == self.now:
                heappop(self._coming)[2]()


class Domain:
    """A clock domain: the processes of its registers, and the testbenches that wait for its next edge."""
    def __init__(self, engine, domain):
        self.level, self.processes, self.waits, self.edges = domain.clk_edge == "pos", [], [], 0
        self.reset = None if domain.rst is None else engine.getter(domain.rst)


class Clock:
    """Changes a clock. If only its rising edges matter, the signal stays high and the engine is told of each edge."""
    def __init__(self, engine, index, phase, period):
        self._engine, self._index, self._half = engine, index, period // 2
        self.due = False
        engine.state.timeline.call(phase, self.ring)

    def ring(self):
        self.due = True

    def run(self):
        self.due = False
        engine, index = self._engine, self._index
        domains = engine.clocked[index]
        both = index in engine.watched or engine.is_read(index) or not all(domain.level for domain in domains)
        if both:
            engine.change(index, 1 - engine.values[engine.names[index]])
        else:
            engine.values[engine.names[index]] = 1
        engine.edges += [domain for domain in domains if domain.level == engine.values[engine.names[index]]]
        engine.state.timeline.call(self._half if both else 2 * self._half, self.ring)


def _constant(made, view, bits):
    """Return what the bits of a view mean. It is made once for the same bits; ``made`` keeps the view, and so its identity."""
    _, before, constant = made.get(id(view), (view, None, None))
    if before != bits:
        shape = view.shape()
        constant = shape.from_bits(bits) if isinstance(shape, ShapeCastable) else bits
        if len(made) > MADE:
            made.clear()
        made[id(view)] = view, bits, constant
    return constant


class _Tick(TickTrigger):
    """``ctx.tick()``, which is made in almost every cycle."""
    def __init__(self, engine, process, domain, values=()):
        self._engine, self._process, self._domain, self._sampled = engine, process, domain, values
        self._getters = self._edges = self._result = None

    def sample(self, *values):
        return _Tick(self._engine, self._process, self._domain, (*self._sampled, *values))

    def run(self):
        """Sample, at the edge and before anything changes."""
        evaluate, made = self._engine.evaluate, self._engine.made
        values = [get() for get in self._getters] if self._getters else [evaluate(value) for value in self._sampled]
        for k, value in enumerate(self._sampled):
            if type(value) is not Signal and isinstance(value, ValueCastable):
                values[k] = _constant(made, value, values[k])
        reset = self._home.reset
        self._result = (True, bool(reset and reset()), *values)
        self._process.runnable, self._process.waits_on = True, None

    @staticmethod
    def initial_eligible():
        return False

    def __await__(self):
        self._home = self._engine.domain(self._domain)
        self._home.waits.append(self)
        yield self
        return self._result

    def __aiter__(self):
        again = _Tick(self._engine, self._process, self._domain, self._sampled)
        again._getters = [self._engine.getter(value) for value in self._sampled]
        return again

    def __anext__(self):
        home = self._engine.domain(self._domain)
        if self._edges not in (None, home.edges):
            raise BrokenTrigger
        self._edges = home.edges + 1
        return self

    async def aclose(self):
        """Nothing to do; ``until()`` and ``repeat()`` call it."""


class _Context(TestbenchContext):
    def tick(self, domain="sync", *, context=None):
        if domain == "sync" and context is None and self._engine.sync is not None:
            return _Tick(self._engine, self._process, self._engine.sync)
        trigger = super().tick(domain, context=context)
        return trigger if trigger._domain.async_reset else _Tick(self._engine, self._process, trigger._domain)

    def get(self, expr):
        return self._engine.get_value(expr) if type(expr) is Signal else super().get(expr)

    def set(self, expr, value):
        if type(expr) is Signal and type(value) in (int, bool):
            self._engine.set_value(expr, value)
        else:
            super().set(expr, value)


class Testbench(AsyncProcess):
    def __init__(self, design, engine, constructor, *, background):
        self.constructor, self.context, self.background = constructor, _Context(design, engine, self), background
        self.reset()
