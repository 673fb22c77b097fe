"""When used chains are written: soon after a quiet time, together with others while a queue is busy."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin

__all__ = ["Pacing"]


class Pacing(wiring.Component):
    """Decide for each queue when the chains that were collected are to be written.

    A lone chain must not wait. Where one packet follows another, each publication costs the link an index write and a read of
    the driver's wishes, and it makes the driver give back few buffers at a time. So a queue of which something was written a
    short time ago keeps its chains until that time is over, or until a batch is full.

    That time is between one and two ticks for each queue that is busy: at a tick the next busy queue grows older, and the second
    time it does so its time is over. A chain waits for as long at most. The next busy queue, and the next one that is due, are
    looked for from queue to queue, one a cycle.

    Parameters
    ----------
    num_queues : int
    hold_cycles : int
        Cycles of a tick, a power of two.

    Members
    -------
    queue : In(range(num_queues))
        What the strobes are about.
    given : In(1)
        Strobe: a chain was collected. With it, ``ends``: it ends a packet and the device has nothing else in hand; ``full``: with
        it there are as many as a batch holds.
    prompt : Out(1)
        With ``given``: its queue will be ``due`` in the next cycle.
    taken : In(1)
        Strobe: of what was collected all whole packets, if there are any, are about to be written.
    written : In(1)
        Strobe: there were some, and their last write was handed on. Nothing of the queue was ``given`` since.
    hurry : In(1)
        Chains are not kept.
    waits : Out(num_queues)
        Bit per queue: chains were collected since the last ``taken``.
    due : Out(num_queues)
        Bit per queue: they are to be written now.
    next_valid : Out(1), next : Out(range(num_queues))
        One that is due, each in its turn: two cycles after it is due if no other is. Until the cycle after it is ``taken``.
    """
    def __init__(self, *, num_queues, hold_cycles):
        if hold_cycles < 2 or hold_cycles & (hold_cycles - 1):
            raise ValueError(f"A tick must be a power of 2 of at least 2 cycles, not {hold_cycles!r}")
        self.num_queues = num_queues
        self.hold_cycles = hold_cycles
        super().__init__({
            "queue":   In(range(max(2, num_queues))),
            "given":   In(1),
            "ends":    In(1),
            "full":    In(1),
            "prompt":  Out(1),
            "taken":   In(1),
            "written": In(1),
            "hurry":   In(1),
            "waits":   Out(num_queues),
            "due":     Out(num_queues),
            "next":    Out(range(max(2, num_queues))),
            "next_valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        recent, old = Signal(self.num_queues), Signal(self.num_queues)   # was written a short time ago; grew older once
        tick, ticked = Signal(range(self.hold_cycles)), Signal()
        # ``turn`` goes from queue to queue and stays at a busy one until the next tick; ``next`` stays at one that is due.
        turn, busy, ages, is_due = Signal(range(max(2, self.num_queues))), Signal(), Signal(), Signal()

        choice = Signal.like(self.next)
        round_robin(m, self.due, self.next, choice)
        m.d.comb += [
            busy.eq((self.waits | recent).bit_select(turn, 1)),
            ages.eq(busy & (ticked | (tick == 0))),
            is_due.eq(self.due.bit_select(self.next, 1)),
            self.prompt.eq(self.full | (self.ends & (self.hurry | ~recent.bit_select(self.queue, 1)))),
        ]
        m.d.sync += [
            tick.eq(tick + 1),
            ticked.eq((ticked | (tick == 0)) & (self.waits | recent).any() & ~busy),
            self.next_valid.eq(is_due),
        ]
        with m.If(~is_due):
            m.d.sync += self.next.eq(choice)
        with m.If(ages | ~busy):
            m.d.sync += turn.eq(Mux(turn == self.num_queues - 1, 0, turn + 1))
        with m.If(self.hurry):
            m.d.sync += self.due.eq(self.due | self.waits)
        with m.If(ages):
            m.d.sync += old.bit_select(turn, 1).eq(1)
            with m.If(old.bit_select(turn, 1)):
                m.d.sync += [old.bit_select(turn, 1).eq(0), recent.bit_select(turn, 1).eq(0)]
                with m.If(self.waits.bit_select(turn, 1)):
                    m.d.sync += self.due.bit_select(turn, 1).eq(1)
        with m.If(self.given):
            m.d.sync += self.waits.bit_select(self.queue, 1).eq(1)
            with m.If(self.prompt):
                m.d.sync += self.due.bit_select(self.queue, 1).eq(1)
        with m.If(self.taken):
            m.d.sync += [self.due.bit_select(self.queue, 1).eq(0), self.waits.bit_select(self.queue, 1).eq(0)]
        with m.If(self.written):
            m.d.sync += [recent.bit_select(self.queue, 1).eq(1), old.bit_select(self.queue, 1).eq(0)]
        return m
