"""Collect the chains that devices give back, and say which of them are written together.

Ref: VIRTIO 1.4, 2.7.8 "The Virtqueue Used Ring", 2.8.9 "Multi-buffer requests".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.buffers import ChainId, Used
from .pacing import Pacing
from .rows import QueueRows

__all__ = ["Collected", "StagingPort", "used_batch", "UsedCollect"]


class Collected(data.Struct):
    """A chain that was given back with ``len`` bytes written."""
    chain: ChainId
    len:   unsigned(32)


def used_batch(*, num_queues, batch):
    """Chains of one queue that are written together: ``count`` of them, 1 to ``batch``, in the places of the staging memory from
    ``first`` on, modulo ``batch``. They are whole packets; ``parts``: some have several chains."""
    return data.StructLayout({"queue": range(max(2, num_queues)), "first": range(batch), "count": range(batch + 1), "parts": 1})


def StagingPort(*, num_queues, batch):
    """Port to the chains that were collected, seen from the reader: ``data`` shows, from the cycle after one in which ``en`` is
    high on, the chain in ``place`` of ``queue`` in that cycle."""
    return wiring.Signature({
        "queue": Out(range(max(2, num_queues))),
        "place": Out(range(batch)),
        "en":    Out(1),
        "data":  In(Collected),
    })


class UsedCollect(wiring.Component):
    """Keep used chains a queue, and offer them in batches; :class:`Pacing` decides when, at the latest when ``batch`` wait.

    A chain is taken in the cycle after the one in which it is offered, one in two cycles. That of a queue that is at rest is in a
    batch that is offered two cycles after it was taken. While a batch is offered nothing is collected: its places in the staging
    memory are not used for other chains.

    Parameters
    ----------
    num_queues, ports : int
    batch : int
        Chains a batch, and a packet, at most: a power of two.
    hold_cycles : int
        As of :class:`Pacing`.

    Members
    -------
    setup_valid : In(1), setup_queue : In(16)
        Strobe: this queue begins anew; what was collected of it is forgotten.
    hurry : In(1)
        Nothing is kept for company.
    i : array of In(stream(Used))
    o : Out(stream(used_batch(...)))
        To be accepted when all of its writes were asked for, at the earliest in the cycle after it was offered. ``queue`` is
        valid from the cycle before on.
    staging : In(StagingPort(...))
        For the one who has the batch.
    untold : Out(num_queues)
        Bit per queue: chains were collected whose batch has not been accepted, if there is a whole packet.
    busy : Out(1)
    """
    def __init__(self, *, num_queues, ports, batch, hold_cycles):
        self.num_queues = num_queues
        self.ports = ports
        self.batch = batch
        self.hold_cycles = hold_cycles
        sizes = dict(num_queues=num_queues, batch=batch)
        super().__init__({
            "setup_valid": In(1),
            "setup_queue": In(16),
            "hurry":       In(1),
            "i":           In(stream.Signature(Used)).array(ports),
            "o":           Out(stream.Signature(used_batch(**sizes))),
            "staging":     In(StagingPort(**sizes)),
            "untold":      Out(num_queues),
            "busy":        Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        queues = max(2, self.num_queues)
        batch = self.o.p
        # ``waiting``: chains in the staging memory, from ``first`` on; ``whole``: up to the end of the last whole packet.
        m.submodules.rows = rows = QueueRows(num_queues=self.num_queues, shape=data.StructLayout({
            "first": batch.first.shape(), "waiting": batch.count.shape(), "whole": batch.count.shape(), "parts": 1}))
        m.submodules.staging = staging = memory.Memory(shape=Collected, depth=queues * self.batch, init=[])
        write, read = staging.write_port(), staging.read_port()
        m.submodules.pacing = pacing = Pacing(num_queues=self.num_queues, hold_cycles=self.hold_cycles)

        queue, row = Signal(range(queues)), rows.row
        asks, collects = Signal(self.ports), Signal()
        turn, choice = Signal(range(max(2, self.ports))), Signal(range(max(2, self.ports)))
        used = Signal(Used)                # of the port whose turn it is
        left = Signal.like(row.waiting)    # chains behind the batch
        m.d.comb += [
            asks.eq(Cat(port.valid for port in self.i)),
            used.eq(Array(port.p for port in self.i)[turn]),
            left.eq(row.waiting - row.whole),
        ]
        round_robin(m, asks, turn, choice)
        m.d.comb += [
            rows.setup_valid.eq(self.setup_valid),
            rows.setup_queue.eq(self.setup_queue),
            rows.queue.eq(Mux(collects, Array(port.p.queue[:len(queue)] for port in self.i)[choice], queue)),
            rows.begins.eq(collects),
            rows.new.eq(row),
            write.addr.eq(Cat((row.first + row.waiting)[:len(row.first)], queue)),
            write.data.chain.eq(used.chain),
            write.data.len.eq(used.len),
            read.addr.eq(Cat(self.staging.place, self.staging.queue)),
            read.en.eq(self.staging.en & ~write.en),   # nothing is collected meanwhile, and synthesis can see that
            self.staging.data.eq(read.data),
            pacing.queue.eq(queue),
            pacing.ends.eq(used.flush & ~used.more),
            pacing.full.eq(row.waiting >= self.batch - 1),
            pacing.hurry.eq(self.hurry),
            batch.queue.eq(queue),
            batch.first.eq(row.first),
            batch.count.eq(row.whole),
            batch.parts.eq(row.parts),
        ]
        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                with m.If(pacing.next_valid):
                    m.d.sync += queue.eq(pacing.next)
                    m.next = "LOOK-UP"
                with m.Elif(asks.any()):
                    m.d.comb += collects.eq(1)
                    m.d.sync += [turn.eq(choice), queue.eq(rows.queue)]
                    m.next = "STAGE"
            with m.State("STAGE"):
                for k, port in enumerate(self.i):
                    m.d.comb += port.ready.eq(turn == k)
                m.d.comb += [
                    pacing.given.eq(1),
                    write.en.eq(1),
                    rows.write.eq(1),
                    rows.new.waiting.eq(row.waiting + 1),
                    rows.new.parts.eq(row.parts | used.more),
                ]
                with m.If(~used.more):
                    m.d.comb += rows.new.whole.eq(row.waiting + 1)
                m.next = "IDLE"
                with m.If(pacing.prompt):
                    m.next = "LOOK-UP"
            with m.State("LOOK-UP"):
                m.d.comb += pacing.taken.eq(1)
                m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "IDLE"
                with m.If(row.whole != 0):
                    m.d.comb += self.o.valid.eq(1)
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.comb += [
                        pacing.written.eq(1),
                        rows.write.eq(1),
                        rows.new.first.eq(row.first + row.whole),
                        rows.new.waiting.eq(left),
                        rows.new.whole.eq(0),
                        rows.new.parts.eq(row.parts & (left != 0)),
                    ]
                    m.next = "IDLE"

        m.d.comb += [
            rows.held.eq(~state.ongoing("IDLE") | collects),
            self.untold.eq(pacing.waits),
            self.busy.eq(~state.ongoing("IDLE") | pacing.waits.any() | pacing.due.any() | asks.any()),
        ]
        with m.If(~state.ongoing("IDLE")):
            m.d.comb += self.untold.bit_select(queue, 1).eq(1)
        return m
