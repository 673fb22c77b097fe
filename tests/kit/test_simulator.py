"""The kit's engine against the one that comes with Amaranth: the same values in every cycle."""

import operator
import random

from amaranth.hdl import Array, Cat, ClockDomain, ClockSignal, Const, Module, Mux, Signal, signed, unsigned
from amaranth.hdl._ir import DriverConflict
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.memory import Memory
from amaranth.sim import BrokenTrigger
from amaranth.sim import Simulator as Reference
import pytest

from .simulator import Simulator


def both(make, cycles=150, clocks=(("sync", 8e-9, None),), seed=1):
    """Drive ``make(m)``, which returns inputs and outputs, at random on each engine; the values seen must be the same."""
    def trace(simulator):
        m = Module()
        for name, _, _ in clocks:
            m.domains += ClockDomain(name)
        inputs, outputs = make(m)
        sim, rng, seen = simulator(m), random.Random(seed), []
        for name, period, phase in clocks:
            sim.add_clock(period, phase=phase, domain=name)

        async def drive(ctx):
            for _ in range(cycles):
                for signal in inputs:
                    if rng.random() < 0.6:
                        width = len(signal)
                        value = rng.choice([0, (1 << width) - 1, rng.getrandbits(width)])
                        ctx.set(signal, value - (1 << width) if signal.shape().signed and value >> width - 1 else value)
                    if rng.random() < 0.2:
                        seen.append([ctx.get(one) for one in outputs])
                _, _, *values = await ctx.tick(clocks[0][0]).sample(*outputs)
                seen.append(values)
                seen.append([ctx.get(one) for one in outputs])

        async def watch(ctx):
            async for _, _, *values in ctx.tick(clocks[-1][0]).sample(Cat(outputs), *outputs):
                seen.append(values)
        sim.add_testbench(watch, background=True)
        sim.add_testbench(drive)
        sim.run()
        return seen
    expected, came = trace(Reference), trace(Simulator)
    assert len(expected) == len(came) > cycles
    for k, (one, other) in enumerate(zip(expected, came)):
        assert one == other, f"look {k}, values {[at for at, (x, y) in enumerate(zip(one, other)) if x != y]}"


def inputs(*shapes):
    return [Signal(shape, name=f"i{k}") for k, shape in enumerate(shapes)]


def test_operators():
    def make(m):
        a, b, c, d, e = ins = inputs(5, signed(4), 3, signed(6), 1)
        outs = []
        operations = [getattr(operator, name) for name in (
            "add", "sub", "mul", "and_", "or_", "xor", "eq", "ne", "lt", "le", "gt", "ge", "floordiv", "mod")]
        values = [a, b, c, d, e, Const(-3, signed(3)), a - c, b[1:], Cat(b, e), ~a, ~b, -a, a.as_signed(), b.as_unsigned()]
        for left in values:
            for right in (b, c, e, a - c):
                outs += [operation(left, right) for operation in operations]
            outs += [left << c, left >> c, Mux(e, left, d), left.any(), left.all(), left.xor(), left.bool(), abs(left),
                     left.replicate(3), Array([a, b, c, left])[c]]
            if type(left) is Signal:
                # Of others Amaranth's engine has bits beyond the end that neither its ctx.get() nor its netlists have.
                outs += [left.bit_select(c, 2), left.word_select(c[:2], 2)]
        made = []
        for k, value in enumerate(outs):
            made.append(Signal([value.shape(), unsigned(4), signed(7)][k % 3], name=f"o{k}"))
            m.d.comb += made[-1].eq(value)
        return ins, made
    both(make, cycles=40)


def test_assignments():
    """To parts of a signal, to choices of signals; later ones win; what is not assigned keeps its value, or has its first."""
    def make(m):
        a, b, c, at, s = ins = inputs(8, 8, 3, 3, 2)
        x, y, z, w, r, q, p = outs = [Signal(8, name=name, init=0x5a) for name in "xyzwrqp"]
        n = Signal(signed(5), init=-3)
        m.d.comb += [x[:4].eq(a), x.bit_select(at, 2).eq(3), y.eq(1), Cat(z[2:5], w[1:], z[7]).eq(Cat(b, a)), z[0].eq(x[3])]
        with m.If(s == 1):
            m.d.comb += [y.eq(a), w[0].eq(y[0])]
            m.d.sync += [r.eq(x), n.eq(a)]
        with m.Elif(a[0]):
            m.d.comb += y[3:6].eq(b)
            m.d.sync += [q.word_select(s, 2).eq(b), Array([r, p])[s[0]][1:5].eq(a)]
        with m.Else():
            m.d.sync += [n[1:3].eq(c), p.eq(p + 1)]
        with m.Switch(b):
            with m.Case("1---0---", 3):
                m.d.sync += r[2].eq(~r[2])
            with m.Case():
                m.d.sync += r.eq(0)
            with m.Case(5, 6, 7):
                m.d.sync += r.eq(y)
            with m.Default():
                m.d.sync += q[7].eq(x[7])
        return ins, [*outs, n]
    both(make, cycles=400)


def test_state_machine_and_values_that_follow_in_a_chain():
    def make(m):
        go, stop, data = ins = inputs(1, 1, 4)
        busy, ready, out, last, total = outs = [Signal(shape, name=f"o{k}") for k, shape in enumerate((1, 1, 4, 1, 9))]
        m.d.comb += last.eq(out == 9)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += ready.eq(1)
                with m.If(go & ready):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [busy.eq(1), out.eq(data + busy)]
                m.d.sync += total.eq(total + out)
                with m.If(stop | last):
                    m.next = "IDLE"
        chain = [Signal(4, name=f"c{k}") for k in range(12)]
        for k in reversed(range(11)):
            m.d.comb += chain[k + 1].eq(chain[k] + data)
        m.d.comb += chain[0].eq(out)
        return ins, [*outs, *chain]
    both(make, cycles=400)


@pytest.mark.parametrize("depth", [1, 5, 8])
def test_memories(depth):
    def make(m):
        addr, other, data, enable, read = ins = inputs(3, 3, 8, 2, 1)
        m.submodules.memory = memory = Memory(shape=8, depth=depth, init=range(3, 3 + depth))
        one, two = memory.write_port(granularity=4), memory.write_port()
        ports = [memory.read_port(domain="comb"), memory.read_port(), memory.read_port(transparent_for=(one, two))]
        m.d.comb += [one.addr.eq(addr), one.data.eq(data), one.en.eq(enable), two.addr.eq(other), two.data.eq(~data),
                     two.en.eq(enable[0] & data[0]), ports[1].en.eq(read), *(port.addr.eq(addr) for port in ports)]
        return ins, [port.data for port in ports]
    both(make, cycles=400)


def test_clocks():
    """Several domains, one of them reset without a clock, and a queue between them."""
    def make(m):
        data, write, read, reset = ins = inputs(8, 1, 1, 1)
        m.submodules.fifo = fifo = AsyncFIFO(width=8, depth=4, r_domain="a", w_domain="b")
        m.domains += ClockDomain("c", async_reset=True)
        m.domains += ClockDomain("d", clk_edge="neg")
        half, late, count, down = Signal(), Signal(), Signal(4), Signal(4)
        m.d.a += half.eq(~half)
        m.submodules.reset = ResetSynchronizer(reset, domain="c")
        m.submodules.late = FFSynchronizer(write, late, o_domain="a")
        m.d.comb += [fifo.w_data.eq(data), fifo.w_en.eq(write & fifo.w_rdy), fifo.r_en.eq(read & fifo.r_rdy)]
        m.d.comb += [ClockSignal("c").eq(half), ClockSignal("d").eq(ClockSignal("a"))]
        m.d.c += count.eq(count + 1)
        split = Signal(8)  # two clocks of one phase change parts of it at the same time
        m.d.a += split[:4].eq(data)
        m.d.e += split[4:].eq(~data)
        m.d.d += down.eq(data)
        return ins, [fifo.w_rdy, fifo.r_rdy, fifo.r_data, late, half, count, down, split]
    both(make, cycles=300, clocks=(("a", 8e-9, None), ("e", 8e-9, None), ("b", 7.1e-9, 1.3e-9)))


def counter():
    m = Module()
    m.domains.sync = ClockDomain()
    count, step, double = Signal(8), Signal(8, init=1), Signal(9)
    m.d.sync += count.eq(count + step)
    m.d.comb += double.eq(count + count + step)
    sim = Simulator(m)
    sim.add_clock(8e-9)
    return sim, count, step, double


def test_what_a_testbench_sees():
    sim, count, step, double = counter()

    async def testbench(ctx):
        assert ctx.get(double) == 1
        ctx.set(step, 3)
        assert ctx.get(double) == 3 and ctx.get(count) == 0
        _, _, before = await ctx.tick().sample(double)
        assert before == 3 and ctx.get(double) == 9
        await ctx.tick().repeat(2)
        assert ctx.get(count) == 9
        value, = await ctx.tick().sample(count).until(count == 21)
        assert value == 21 and ctx.get(count) == 24
        await ctx.delay(1e-9)
        assert ctx.get(count) == 24
        await ctx.delay(8e-9)
        assert ctx.get(count) == 27
        value, = await ctx.changed(count)
        assert value == 30
        with pytest.raises(DriverConflict):
            ctx.set(double, 1)
    sim.add_testbench(testbench)
    sim.run()


def test_a_missed_edge_is_told():
    sim, count, *_ = counter()

    async def testbench(ctx):
        with pytest.raises(BrokenTrigger):
            async for _ in ctx.tick():
                await ctx.tick()
    sim.add_testbench(testbench)
    sim.run()
