"""The engine."""

from functools import lru_cache
from heapq import heappop, heappush

from amaranth.hdl import Signal, Value
from amaranth.hdl._ir import DriverConflict
from amaranth.sim._base import BaseEngine
from amaranth.sim._pyeval import eval_assign, eval_value
from amaranth.sim.pysim import _PyTriggerState

from .design import compiled, compiled_expression, processes, source
from .process import Process, Slots
from .waiting import Clock, Domain, Testbench, Timeline

__all__ = ["Engine"]


class _Signal:
    """A signal's value, with the members that Amaranth's evaluation of expressions needs."""
    __slots__ = ("engine", "index", "is_comb")

    def __init__(self, engine, index):
        self.engine, self.index, self.is_comb = engine, index, engine.is_comb(index)

    @property
    def curr(self):
        return int(self.engine.values[f"v{self.index}"])

    next = curr

    def update(self, value, mask=~0):
        now = self.curr
        self.engine.change(self.index, now & ~mask | value & mask)


class _Memory:
    """The same of a memory."""
    __slots__ = ("engine", "index", "memory")

    def __init__(self, engine, index, memory):
        self.engine, self.index, self.memory = engine, index, memory

    def read(self, addr):
        return self.engine.values[f"m{self.index}"][addr] if addr < self.memory.depth else 0

    def write(self, addr, value, mask=~0):
        if addr < self.memory.depth:
            self.engine.write(self.index, addr, value, mask)
            self.engine.commit()


class _State:
    """What Amaranth's triggers and evaluation of expressions ask an engine for."""
    def __init__(self, engine):
        self.engine, self.timeline, self.slots, self._places = engine, Timeline(), [], {}

    def _place(self, thing, make):
        place = self._places.get(id(thing))
        if place is None:
            place = self._places[id(thing)] = len(self.slots)
            self.slots.append(make())
        return place

    def get_signal(self, signal):
        return self._place(signal, lambda: _Signal(self.engine, self.engine.number(signal)))

    def get_memory(self, memory):
        return self._place(memory, lambda: _Memory(self.engine, self.engine.slots.memory(memory), memory))

    def set_delay_waker(self, interval, waker):
        self.timeline.call(interval, waker)

    def add_signal_waker(self, signal, waker):
        index = self.engine.number(signal)
        self.engine.watched.setdefault(index, [self.engine.values[f"v{index}"], []])[1].append(waker)


@lru_cache(maxsize=8)
def _program(design):
    """Return a design's slots, its processes and how many are combinational, who reads a signal, and the code."""
    slots = Slots()
    order, count, readers, text = source(processes(slots, design.fragment))
    return slots, order, count, readers, compiled(text)


class Engine(BaseEngine):
    """A simulation of a design, from its initial values on."""
    def __init__(self, design):
        self._design = design
        self.slots, order, count, readers, code = _program(design)
        self._count = count
        self._comb = {index for process in order[:count] for index in process.outputs}
        self._readers = [([k for k in readers.get(index, ()) if k < count], [k for k in readers.get(index, ()) if k >= count])
                         for index in range(len(self.slots.signals))]
        self._memory_readers = [[k for k, process in enumerate(order) if index in process.memories]
                                for index in range(len(self.slots.memories))]
        self._dirty, self._due, self._changes, self._writes = [1] * len(order), list(range(count)), [], {}
        self.names = [f"v{index}" for index in range(len(self.slots.signals))]
        self.values = {"dirty": self._dirty, "due": self._due, "push": heappush, "edge": self._changes, "write": self.write}
        self.values |= {name: signal.init for name, signal in zip(self.names, self.slots.signals)}
        self.values |= {f"m{index}": list(memory._init._raw) for index, memory in enumerate(self.slots.memories)}
        exec(code, self.values)
        self._run = [self.values[f"p{k}"] for k in range(len(order))]
        self.watched = {}                   # number of a signal: [value that its wakers know, wakers]
        self.clocked, self.edges = {}, []   # domains by the number of a clock that is given; domains whose edge this is
        self._domains, self._clocks, self._testbenches, self._active = {}, [], [], set()
        self.made = {}                      # identity of a view: the view, its bits, and the constant that was made of them
        self._unsettled, self._started = False, False
        self._state = _State(self)
        self.sync = design.fragment.domains.get("sync")
        for k, process in enumerate(order[count:], count):
            self.domain(process.domain).processes.append(k)

    @property
    def state(self):
        return self._state

    @property
    def now(self):
        return self._state.timeline.now

    def number(self, signal):
        """The number of a signal, which need not be one of the design."""
        index = self.slots.signal(signal)
        for new in range(len(self.names), len(self.slots.signals)):
            self.names.append(f"v{new}")
            self.values[f"v{new}"] = self.slots.signals[new].init
            self._readers.append(([], []))
        return index

    def domain(self, domain):
        """What is known of a clock domain."""
        entry = self._domains.get(id(domain))
        if entry is None:
            entry = self._domains[id(domain)] = Domain(self, domain), domain
            if self._started:
                self._watch(*entry)
        return entry[0]

    def is_comb(self, index):
        return index in self._comb

    def is_read(self, index):
        return any(self._readers[index])

    def _mark(self, comb, sync):
        dirty = self._dirty
        for k in comb:
            if not dirty[k]:
                dirty[k] = 1
                heappush(self._due, k)
        for k in sync:
            dirty[k] = 1

    def change(self, index, value):
        """Give a signal a value."""
        name = self.names[index]
        if self.values[name] != value:
            self.values[name] = value
            self._mark(*self._readers[index])
            self._unsettled = True

    def write(self, index, addr, value, mask):
        """Write part of a memory's row at the end of this step."""
        before = self._writes.get((index, addr), self.values[f"m{index}"][addr])
        self._writes[index, addr] = before & ~mask | value & mask

    def commit(self):
        """Let what changes at a clock edge take effect."""
        values, names, readers, dirty, due = self.values, self.names, self._readers, self._dirty, self._due
        for index, mask, value in self._changes:
            name = names[index]
            now = values[name]
            if mask is not None:
                value = now & ~mask | value & mask
            if now != value:
                values[name] = value
                comb, sync = readers[index]
                for k in comb:
                    if not dirty[k]:
                        dirty[k] = 1
                        heappush(due, k)
                for k in sync:
                    dirty[k] = 1
        self._changes.clear()
        for (index, addr), value in self._writes.items():
            memory = values[f"m{index}"]
            if memory[addr] != value:
                memory[addr] = value
                for k in self._memory_readers[index]:
                    self._mark(*(([k], []) if k < self._count else ([], [k])))
                self._unsettled = True
        self._writes.clear()

    def _notice(self):
        values, names = self.values, self.names
        for index, entry in list(self.watched.items()):
            now = values[names[index]]
            if now != entry[0]:
                before, entry[0] = entry[0], now
                entry[1][:] = [waker for waker in entry[1] if waker(before, now)]

    def settle(self):
        """Let time stand still until nothing changes any more."""
        dirty, due, run = self._dirty, self._due, self._run
        while True:
            self._unsettled = False
            self._notice()
            if self._active or self.edges:
                # What is sampled at an edge, and what registers take, is what was there before it.
                active, edges = list(self._active), self.edges
                self._active.clear()
                self.edges = []
                for trigger in active:
                    trigger.run()
                for domain in edges:
                    domain.edges += 1
                    waits, domain.waits = domain.waits, []
                    for wait in waits:
                        wait.run()
                    for k in domain.processes:
                        if dirty[k]:
                            dirty[k] = 0
                            run[k]()
                self.commit()
            elif due:
                while due:
                    k = heappop(due)
                    dirty[k] = 0
                    run[k]()
            else:
                return

    def _start(self):
        """Watch what is a clock without being given one, and resets that do not wait for a clock."""
        self._started = True
        for domain, kept in self._domains.values():
            self._watch(domain, kept)

    def _watch(self, domain, kept):
        def waker(level):
            def wake(before, now):
                if now == level:
                    self.edges.append(domain)
                return True
            return wake
        index = self.number(kept.clk)
        if index in self.clocked:
            self.clocked[index].append(domain)
        else:
            self._state.add_signal_waker(kept.clk, waker(domain.level))
        if kept.async_reset and kept.rst is not None:
            self._state.add_signal_waker(kept.rst, waker(1))

    def advance(self):
        if not self._started:
            self._start()
        for trigger in self._active:
            trigger.run()  # a delay that ends now ends before the edge
        self._active.clear()
        for clock in self._clocks:
            if clock.due:
                clock.run()
        self.settle()
        again = True
        while again:
            again = False
            for testbench in self._testbenches:
                if testbench.runnable:
                    testbench.runnable, again = False, True
                    testbench.run()
            if self._unsettled:
                self.settle()
        self._state.timeline.advance()
        for testbench in self._testbenches:
            if testbench.critical:
                return True
        return False

    def step_design(self):
        """After every ``ctx.set``: what follows from it waits until somebody looks."""

    def getter(self, value):
        """A function that evaluates a value."""
        value = Value.cast(value)
        process = Process(self.slots)
        try:
            text = process.read(value)
        except NotImplementedError:  # a row of a memory
            return lambda: self.evaluate(value)
        for signal in self.slots.signals[len(self.names):]:
            self.number(signal)
        if process.lines:
            return lambda: self.evaluate(value)
        return eval(compiled_expression(f"lambda: int({text})"), self.values)

    def evaluate(self, value):
        value = Value.cast(value)
        if type(value) is Signal:
            return int(self.values[self.names[self.number(value)]])
        return eval_value(self._state, value)

    def get_value(self, expr):
        if self._unsettled:
            self.settle()
        return self.evaluate(expr)

    def set_value(self, expr, value):
        expr = Value.cast(expr)
        if type(expr) is Signal and not expr._signed:
            index = self.number(expr)
            if index in self._comb:
                raise DriverConflict("Combinationally driven signals cannot be overriden by testbenches")
            self.change(index, value & ((1 << len(expr)) - 1))
        else:
            eval_assign(self._state, expr, value)

    def add_clock_process(self, clock, *, phase, period):
        index = self.number(clock)
        self.clocked[index] = []
        self._clocks.append(Clock(self, index, phase, period))

    def add_async_testbench(self, simulator, process, *, background):
        self._testbenches.append(Testbench(self._design, self, process, background=background))

    def add_trigger_combination(self, combination, *, oneshot):
        return _PyTriggerState(self, combination, self._active, oneshot=oneshot)
