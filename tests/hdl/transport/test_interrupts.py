"""Notifications to vectors, or to ISR and INTx: what is sent, what is not, and what waits."""

import pytest
from amaranth.hdl import Array, Module, Signal
from amaranth.sim import Simulator

from ringnic.hdl.transport.interrupts import Interrupts

QUEUES, VECTORS, NONE = 3, 4, 0xffff
OF_QUEUE = (2, VECTORS, 0)  # queue 1 has none


class Bench:
    def __init__(self, *, msix=1):
        self.dut = dut = Interrupts(num_queues=QUEUES, msix_vectors=VECTORS)
        self.msix, self.open = msix, True
        self.irqs, self.notified = [], 0
        self.alive = Signal(QUEUES, init=-1)
        m = Module()
        m.submodules.dut = dut
        m.d.sync += [dut.vector.eq(Array(OF_QUEUE)[dut.lookup]), dut.alive.eq(self.alive.bit_select(dut.lookup, 1))]
        self.sim = Simulator(m)
        self.sim.add_clock(8e-9)
        self.sim.add_testbench(self.watch, background=True)

    async def watch(self, ctx):
        dut, before = self.dut, None
        for _ in range(5000):
            ready = self.open
            ctx.set(dut.irq.ready, ready)
            _, _, valid, vector, busy, notified = await ctx.tick().sample(
                dut.irq.valid, dut.irq.payload, dut.busy, dut.notified)
            assert busy == valid
            assert before is None or (valid and vector == before), "offer withdrawn"
            before = vector if valid and not ready else None
            if valid and ready:
                self.irqs.append(vector)
            self.notified += notified
        raise AssertionError("watchdog")

    def run(self, test):
        async def bench(ctx):
            ctx.set(self.dut.msix_enabled, self.msix)
            ctx.set(self.dut.live, 1)
            await test(ctx)
        self.sim.add_testbench(bench)
        self.sim.run()

    async def idle(self, ctx, cycles=8):
        await ctx.tick().repeat(cycles)

    async def pulse(self, ctx, *signals):
        for signal in signals:
            ctx.set(signal, 1)
        await ctx.tick()
        for signal in signals:
            ctx.set(signal, 0)

    async def notify(self, ctx, queue):
        ctx.set(self.dut.notify.payload, queue)
        ctx.set(self.dut.notify.valid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(self.dut.notify.ready)
        ctx.set(self.dut.notify.valid, 0)

    async def vector(self, ctx, value):
        ctx.set(self.dut.vector_data, value)
        await self.pulse(ctx, self.dut.vector_write)


@pytest.mark.clause("MSX-7")
def test_vectors_of_queues():
    bench = Bench()

    async def test(ctx):
        for queue in (0, 1, 2, QUEUES, 0xffff, 0):
            await bench.notify(ctx, queue)
        await bench.idle(ctx)
        assert bench.irqs == [2, 0, 2] and bench.notified == 3
        assert ctx.get(bench.dut.isr) == 0 and not ctx.get(bench.dut.intx)
    bench.run(test)


@pytest.mark.clause("MSX-4", "MSX-6", "MSX-8")
@pytest.mark.parametrize("vector, back", [
    (0, 0), (VECTORS - 1, VECTORS - 1), (VECTORS, NONE), (0x8000, NONE), (NONE, NONE)])
def test_configuration_vector(vector, back):
    bench = Bench()

    async def test(ctx):
        assert ctx.get(bench.dut.config_vector) == NONE
        await bench.vector(ctx, vector)
        assert ctx.get(bench.dut.config_vector) == back
        await bench.pulse(ctx, bench.dut.config_event)
        await bench.idle(ctx)
        assert bench.irqs == ([] if back == NONE else [back]) and bench.notified == 0
        assert ctx.get(bench.dut.isr) == 2  # 4.1.4.5.1: with MSI-X too
    bench.run(test)


def test_configuration_goes_first_and_changes_share_an_interrupt():
    bench = Bench()

    async def test(ctx):
        await bench.vector(ctx, 3)
        bench.open = False
        await bench.notify(ctx, 0)
        for _ in range(3):
            await bench.pulse(ctx, bench.dut.config_event)
            await bench.idle(ctx)
        assert bench.irqs == [] and ctx.get(bench.dut.irq.payload) == 2
        bench.open = True
        await bench.notify(ctx, 2)
        await bench.idle(ctx)
        assert bench.irqs == [2, 3, 0]
    bench.run(test)


def test_a_change_is_told_although_nobody_has_read_isr():
    bench = Bench(msix=0)

    async def test(ctx):
        await bench.notify(ctx, 0)
        await bench.idle(ctx)
        assert ctx.get(bench.dut.isr) == 1
        ctx.set(bench.dut.msix_enabled, 1)
        await bench.vector(ctx, 3)
        await bench.pulse(ctx, bench.dut.config_event)
        await bench.idle(ctx)
        assert bench.irqs == [3]
    bench.run(test)


@pytest.mark.clause("ISR-3", "ISR-4", "ISR-5")
def test_isr_and_intx():
    bench = Bench(msix=0)

    async def test(ctx):
        dut = bench.dut
        for queue in (1, 2, 0):  # vectors mean nothing here
            await bench.notify(ctx, queue)
            await bench.idle(ctx)
            assert ctx.get(dut.isr) == 1 and ctx.get(dut.intx)
            await bench.pulse(ctx, dut.isr_read)
            assert ctx.get(dut.isr) == 0 and not ctx.get(dut.intx)
        await bench.notify(ctx, QUEUES)
        await bench.idle(ctx)
        assert ctx.get(dut.isr) == 0
        await bench.pulse(ctx, dut.config_event)
        assert ctx.get(dut.isr) == 2 and ctx.get(dut.intx)
        await bench.notify(ctx, 0)
        await bench.idle(ctx)
        assert ctx.get(dut.isr) == 3
        ctx.set(dut.msix_enabled, 1)
        assert not ctx.get(dut.intx)
        assert bench.irqs == [] and bench.notified == 4
    bench.run(test)


def test_what_happens_in_the_cycle_of_the_read_stays():
    bench = Bench(msix=0)

    async def test(ctx):
        await bench.notify(ctx, 0)
        await bench.idle(ctx)
        await bench.pulse(ctx, bench.dut.isr_read, bench.dut.config_event)
        assert ctx.get(bench.dut.isr) == 2
        await bench.notify(ctx, 0)
        await bench.pulse(ctx, bench.dut.isr_read)  # the cycle in which the bit is set
        assert ctx.get(bench.dut.isr) == 1
    bench.run(test)


@pytest.mark.clause("QRST-1")
@pytest.mark.parametrize("msix", [0, 1])
def test_a_queue_that_is_not_alive_says_nothing(msix):
    bench = Bench(msix=msix)

    async def test(ctx):
        ctx.set(bench.alive, 0b011)
        await bench.notify(ctx, 2)
        await bench.idle(ctx)
        assert bench.irqs == [] and bench.notified == 0 and ctx.get(bench.dut.isr) == 0
        await bench.notify(ctx, 0)
        await bench.idle(ctx)
        assert bench.notified == 1 and ctx.get(bench.dut.isr) == (not msix)
    bench.run(test)


def test_nothing_unless_live():
    bench = Bench()

    async def test(ctx):
        await bench.vector(ctx, 1)
        ctx.set(bench.dut.live, 0)
        await bench.notify(ctx, 0)
        await bench.pulse(ctx, bench.dut.config_event)
        await bench.idle(ctx)
        ctx.set(bench.dut.live, 1)
        await bench.idle(ctx)
        assert bench.irqs == [] and ctx.get(bench.dut.isr) == 0
        await bench.notify(ctx, 0)
        ctx.set(bench.dut.live, 0)  # between the look-up and the interrupt
        await bench.idle(ctx)
        assert bench.irqs == [] and bench.notified == 0
    bench.run(test)


def test_what_is_offered_stays_and_clear_forgets_the_rest():
    bench = Bench()

    async def test(ctx):
        await bench.vector(ctx, 1)
        bench.open = False
        await bench.notify(ctx, 0)
        await bench.idle(ctx)
        await bench.pulse(ctx, bench.dut.config_event)
        ctx.set(bench.dut.live, 0)
        await bench.pulse(ctx, bench.dut.clear)
        await bench.idle(ctx)
        assert ctx.get(bench.dut.busy) and ctx.get(bench.dut.isr) == 0
        assert ctx.get(bench.dut.config_vector) == NONE
        bench.open = True
        await bench.idle(ctx)
        assert bench.irqs == [2] and not ctx.get(bench.dut.busy)
    bench.run(test)


def test_rate():
    """One every three cycles."""
    bench = Bench()

    async def test(ctx):
        ctx.set(bench.dut.notify.payload, 0)
        ctx.set(bench.dut.notify.valid, 1)
        await ctx.tick().repeat(30)
        assert len(bench.irqs) == 10
    bench.run(test)
