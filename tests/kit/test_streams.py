"""Each check of the kit fails on a component that breaks its rule, and not on one that keeps it."""

import random

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out
import pytest

from tests.kit.memory import MemoryBench
from tests.kit.simulation import Simulation, cycles
from tests.kit.streams import outputs


class Counter(wiring.Component):
    """Offers 0, 1, 2, ...; ``fault`` is what is wrong with an offer that is not taken at once."""
    def __init__(self, fault=None):
        self.fault = fault
        super().__init__({"o": Out(stream.Signature(8)).array(1), "reset": wiring.In(1)})

    def elaborate(self, platform):
        m = Module()
        o, waited, value = self.o[0], Signal(), Signal(8)
        m.d.sync += waited.eq(o.valid & ~o.ready)
        m.d.comb += [o.valid.eq(1), o.payload.eq(value)]
        with m.If(o.valid & o.ready):
            m.d.sync += value.eq(value + 1)
        if self.fault == "withdrawn":
            m.d.comb += o.valid.eq(~waited)
        if self.fault == "changed":
            m.d.comb += o.payload.eq(value + waited)
        gone = Signal()
        m.d.sync += gone.eq(self.reset)
        with m.If(gone):
            m.d.comb += o.valid.eq(0)
        return m


async def thirty_cycles(ctx):
    await cycles(ctx, 30)


def simulation(dut, **options):
    return Simulation(dut, random.Random(1), **options)


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_what_is_collected(pause):
    bench = simulation(Counter(), pause=pause)
    got = bench.collect(bench.dut.o[0])
    bench.run(thirty_cycles)
    assert got == list(range(len(got))) and (len(got) == 30) == (pause == 0)


@pytest.mark.parametrize("fault", ["withdrawn", "changed"])
@pytest.mark.parametrize("collected", [False, True])
def test_an_offer_stays(fault, collected):
    """Whether or not anybody takes what is offered."""
    bench = simulation(Counter(fault))
    if collected:
        bench.collect(bench.dut.o[0], lambda: False)
    with pytest.raises(AssertionError, match=f"^o.0: offer {fault}"):
        bench.run(thirty_cycles)


@pytest.mark.parametrize("forgiven", [False, True])
def test_a_reset_ends_offers(forgiven):
    dut = Counter()
    bench = simulation(dut, forget=dut.reset if forgiven else None)

    async def reset(ctx):
        await cycles(ctx, 3)
        ctx.set(dut.reset, 1)
        await cycles(ctx, 3)
    if forgiven:
        bench.run(reset)
    else:
        with pytest.raises(AssertionError, match="^o.0: offer withdrawn"):
            bench.run(reset)


def test_outputs_are_found():
    (name, *_), = outputs(Counter())
    assert name == "o.0" and outputs(Module()) == []


def test_limits():
    bench = simulation(Counter(), limit=20)
    with pytest.raises(AssertionError, match="^not done after 20 cycles"):
        bench.run(thirty_cycles)

    async def waits(ctx):
        await bench.until(ctx, lambda: False, 10)
    bench = simulation(Counter())
    with pytest.raises(AssertionError, match="^not after 10 cycles"):
        bench.run(waits)


def test_what_is_sent_waits_until_it_is_taken():
    """The other end takes when it likes, and sees each payload once."""
    class Sink(wiring.Component):
        i: wiring.In(stream.Signature(8))
        busy: wiring.In(1)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.i.ready.eq(~self.busy)
            return m
    bench, taken = simulation(Sink(), pause=0.3), []

    async def send(ctx):
        for value in range(20):
            await bench.send(ctx, bench.dut.i, value)

    async def see(ctx):
        while True:
            ctx.set(bench.dut.busy, bench.rng.random() < 0.5)
            _, _, valid, ready, payload = await ctx.tick().sample(bench.dut.i.valid, bench.dut.i.ready, bench.dut.i.payload)
            taken.extend([payload] if valid and ready else [])
    bench.background(see)
    bench.run(send)
    assert taken == list(range(20))


def test_stage_begins_with_random_memory():
    one, same, other = (MemoryBench(Module(), random.Random(1), seed=seed).memory for seed in (1, 1, 2))
    assert one == same != other and one.count(0) < len(one) // 100
