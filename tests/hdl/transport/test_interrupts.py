"""Notifications to vectors, or to ISR and INTx: what is sent, what is not, and what waits."""

import pytest
from amaranth.hdl import Array, Signal

from ringnic.hdl.transport.interrupts import Interrupts

from ...kit import streams
from ...kit.simulation import Simulation

QUEUES, VECTORS, NONE = 3, 4, 0xffff
OF_QUEUE = (2, VECTORS, 0)  # queue 1 has none


class Bench:
    def __init__(self, *, msix=1):
        self.dut = dut = Interrupts(num_queues=QUEUES, msix_vectors=VECTORS)
        self.msix, self.open = msix, True
        self.irqs, self.notified = [], 0     # vectors
        self.pending = set()                 # (vector, source), as long as ``masked``
        self.masked = False
        self.alive = Signal(QUEUES, init=-1)
        self.vectors = [Signal(range(VECTORS + 1), init=vector, name=f"vector_{q}") for q, vector in enumerate(OF_QUEUE)]
        self.simulation = Simulation(dut, limit=5000, forget=dut.clear, sync=[
            dut.vector.eq(Array(self.vectors)[dut.lookup]), dut.alive.eq(self.alive.bit_select(dut.lookup, 1))])
        self.simulation.background(self.watch)

    async def watch(self, ctx):
        dut = self.dut
        while True:
            ready = self.open
            ctx.set(dut.irq.req.ready, ready)
            event = ctx.get(dut.irq.req.payload)
            ctx.set(dut.irq.waited, (event.vector, event.source) in self.pending)
            _, _, valid, event, notified = await ctx.tick().sample(dut.irq.req.valid, dut.irq.req.payload, dut.notified)
            now = event.vector, event.source
            if valid and ready and event.withdraw:
                self.pending.discard(now)
            elif valid and ready and self.masked:
                self.pending.add(now)
            elif valid and ready:
                self.irqs.append(event.vector)
            self.notified += notified

    def run(self, test):
        async def bench(ctx):
            ctx.set(self.dut.msix_enabled, self.msix)
            ctx.set(self.dut.live, 1)
            await test(ctx)
        self.simulation.run(bench)

    async def idle(self, ctx, cycles=8):
        await ctx.tick().repeat(cycles)

    async def pulse(self, ctx, *signals):
        await streams.pulse(ctx, *signals)

    async def notify(self, ctx, queue):
        await streams.send(ctx, self.dut.notify, queue)

    async def withdraw(self, ctx, client, source):
        """Ask, wait, and keep it so until ``release``."""
        ctx.set(self.dut.withdraw_source[client], source)
        ctx.set(self.dut.withdraw, ctx.get(self.dut.withdraw) | 1 << client)
        for _ in range(20):
            if ctx.get(self.dut.withdrawn) >> client & 1:
                return
            await ctx.tick()
        raise AssertionError("not withdrawn")

    async def release(self, ctx, client):
        ctx.set(self.dut.withdraw, ctx.get(self.dut.withdraw) & ~(1 << client))
        await ctx.tick()

    async def vector(self, ctx, value):
        await self.withdraw(ctx, 1, QUEUES)
        ctx.set(self.dut.vector_data, value)
        await self.pulse(ctx, self.dut.vector_write)
        await self.release(ctx, 1)


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
        assert bench.irqs == [] and ctx.get(bench.dut.irq.req.payload.vector) == 2
        bench.open = True
        await bench.notify(ctx, 2)
        await bench.idle(ctx, 12)
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


def test_clear_forgets_what_is_offered():
    bench = Bench()

    async def test(ctx):
        await bench.vector(ctx, 1)
        bench.open = False
        await bench.notify(ctx, 0)
        await bench.idle(ctx)
        await bench.pulse(ctx, bench.dut.config_event)
        ctx.set(bench.dut.live, 0)
        await bench.pulse(ctx, bench.dut.clear)
        assert not ctx.get(bench.dut.busy) and ctx.get(bench.dut.isr) == 0
        assert ctx.get(bench.dut.config_vector) == NONE
        bench.open = True
        await bench.idle(ctx)
        assert bench.irqs == []
    bench.run(test)


@pytest.mark.parametrize("cycle", range(8))
def test_clear_in_every_state(cycle):
    """Nothing of before comes after it, and what is withdrawn meanwhile is withdrawn all the same."""
    bench = Bench()

    async def test(ctx):
        await bench.vector(ctx, 1)
        await bench.notify(ctx, 0)
        ctx.set(bench.dut.withdraw_source[0], 0)
        ctx.set(bench.dut.withdraw, 1)
        for _ in range(cycle):
            await ctx.tick()
        bench.irqs.clear()
        await bench.pulse(ctx, bench.dut.clear)
        ctx.set(bench.dut.live, 0)
        late = list(bench.irqs)
        await bench.withdraw(ctx, 0, 0)
        await bench.release(ctx, 0)
        await bench.idle(ctx)
        assert bench.irqs == late and not ctx.get(bench.dut.busy)
    bench.run(test)


@pytest.mark.clause("QRST-1")
@pytest.mark.parametrize("msix", [0, 1])
@pytest.mark.parametrize("alive", [0, 1])
@pytest.mark.parametrize("moved_to", [0, 3, VECTORS])
def test_a_withdrawn_notification_follows_its_queue(alive, moved_to, msix):
    """2.6.1.1.1: none of a queue that was reset. One of a queue that has another vector now belongs there."""
    bench = Bench()

    async def test(ctx):
        bench.masked = True
        await bench.notify(ctx, 0)
        await bench.notify(ctx, 2)
        await bench.idle(ctx)
        assert bench.pending == {(2, 0), (0, 2)} and bench.notified == 2
        await bench.withdraw(ctx, 0, 0)
        assert bench.pending == {(0, 2)}
        ctx.set(bench.dut.notify.payload, 0)
        ctx.set(bench.dut.notify.valid, 1)
        await bench.idle(ctx)
        assert not ctx.get(bench.dut.notify.ready)  # all others wait meanwhile
        ctx.set(bench.dut.notify.valid, 0)
        ctx.set(bench.vectors[0], moved_to)
        ctx.set(bench.alive, 0b110 | alive)
        ctx.set(bench.dut.msix_enabled, msix)
        await bench.release(ctx, 0)
        await bench.idle(ctx)
        told = alive and (moved_to != VECTORS or not msix)
        assert bench.pending == {(0, 2), *([(moved_to, 0)] if told and msix else [])}
        assert bench.irqs == [] and bench.notified == 2 and ctx.get(bench.dut.isr) == (told and not msix)
    bench.run(test)


@pytest.mark.parametrize("vector", [1, 3, NONE])
def test_a_configuration_change_follows_its_vector(vector):
    bench = Bench()

    async def test(ctx):
        await bench.vector(ctx, 1)
        bench.masked = True
        await bench.pulse(ctx, bench.dut.config_event)
        await bench.idle(ctx)
        assert bench.pending == {(1, QUEUES)}
        await bench.vector(ctx, vector)
        await bench.idle(ctx)
        assert bench.pending == ({(vector, QUEUES)} if vector != NONE else set()) and bench.irqs == []
        await bench.vector(ctx, NONE)
        await bench.vector(ctx, 2)
        await bench.idle(ctx)
        assert bench.pending == set()
    bench.run(test)


@pytest.mark.parametrize("cycle", range(8))
def test_withdrawal_meets_a_notification(cycle):
    """It is pending before, or comes after; in between there is none, whatever the state."""
    bench = Bench()

    async def test(ctx):
        bench.masked = True
        for _ in range(4):
            ctx.set(bench.dut.notify.payload, 0)
            ctx.set(bench.dut.notify.valid, 1)
            for _ in range(cycle):
                await ctx.tick()
            await bench.withdraw(ctx, 1, 0)
            for _ in range(10):
                assert bench.pending == set()
                await ctx.tick()
            ctx.set(bench.vectors[0], 3)
            await bench.release(ctx, 1)
            await bench.idle(ctx)
            assert bench.pending == {(3, 0)}
            ctx.set(bench.dut.notify.valid, 0)
            ctx.set(bench.vectors[0], 2)
            await bench.idle(ctx)
            bench.pending.clear()
    bench.run(test)


def test_two_withdrawals_at_once():
    bench = Bench()

    async def test(ctx):
        bench.masked = True
        await bench.notify(ctx, 0)
        await bench.notify(ctx, 2)
        await bench.idle(ctx)
        ctx.set(bench.dut.withdraw_source[1], 2)
        ctx.set(bench.dut.withdraw, 0b10)
        await bench.withdraw(ctx, 0, 0)
        for client in (0, 1):
            if not ctx.get(bench.dut.withdrawn) >> client & 1:
                client = 1 - client
            await bench.release(ctx, client)
            await bench.idle(ctx)
        assert len(bench.pending) == 2 and not ctx.get(bench.dut.busy)
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
