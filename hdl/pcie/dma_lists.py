"""Each client's reads in the order of their issue.

Ref: PCI Express Base 5.0, 2.4.1 "Transaction Ordering Rules": completions of different reads come in any order.
"""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .dma_seams import Ended, Issue

__all__ = ["Lists"]


class Lists(wiring.Component):
    """Say which clients' oldest read has ended.

    A client's reads are a list through one memory of successors. ``ready`` follows ``ended`` and ``pop`` by a cycle.

    Members
    -------
    issue : In(Issue)
        The newest read of its client.
    ended : In(Ended)
    ready : Out(clients)
        The client's oldest read has ended.
    client : In(range(clients)), head : Out(range(tags))
        A client and the tag of its oldest read, if it has one, in the same cycle.
    pop : In(1)
        Strobe: ``head``, which has ended, leaves the list.
    next : Out(range(tags)), next_ended : In(1)
        The read after ``head``, and whether it has ended, in the same cycle.
    """
    def __init__(self, *, tags, slot_bytes, clients):
        self.tags, self.clients = tags, clients
        super().__init__({
            "issue":      In(Issue(tags, slot_bytes, clients)),
            "ended":      In(Ended(tags, clients)),
            "ready":      Out(clients),
            "client":     In(range(clients)),
            "head":       Out(range(tags)),
            "pop":        In(1),
            "next":       Out(range(tags)),
            "next_ended": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        issue, ended, tag = self.issue, self.ended, range(self.tags)

        def ports(name, depth, *addresses):
            """Memory ``name`` of tags: its write port, and what is at each address."""
            m.submodules[name] = rows = memory.Memory(shape=tag, depth=depth, init=[])
            reads = [rows.read_port(domain="comb") for _ in addresses]
            m.d.comb += [port.addr.eq(address) for port, address in zip(reads, addresses)]
            return rows.write_port(), *[port.data for port in reads]
        # The oldest read came to an empty list, or was made the oldest by a pop. The two may be in one cycle, of two clients.
        pushes, pushed, pushed_ended = ports("pushed", self.clients, self.client, ended.client)
        pops, popped, popped_ended = ports("popped", self.clients, self.client, ended.client)
        newests, newest, last = ports("newest", self.clients, issue.client, self.client)
        successors, successor = ports("successors", self.tags, self.head)
        moved  = Signal(self.clients)   # by a pop
        listed = Signal(self.clients)
        more, alone, oldest_ended = Signal(), Signal(), Signal()
        m.d.comb += [
            self.head.eq(Mux(moved.bit_select(self.client, 1), popped, pushed)),
            self.next.eq(successor),
            more.eq(last != self.head),
            # Else the newest tag is another list's by now.
            alone.eq(~listed.bit_select(issue.client, 1) | (self.pop & (self.client == issue.client) & ~more)),
            oldest_ended.eq(ended.valid
                            & (Mux(moved.bit_select(ended.client, 1), popped_ended, pushed_ended) == ended.tag)),
            newests.addr.eq(issue.client),
            newests.data.eq(issue.tag),
            newests.en.eq(issue.valid),
            successors.addr.eq(newest),
            successors.data.eq(issue.tag),
            successors.en.eq(issue.valid & ~alone),
            pushes.addr.eq(issue.client),
            pushes.data.eq(issue.tag),
            pushes.en.eq(issue.valid & alone),
            pops.addr.eq(self.client),
            pops.data.eq(successor),
            pops.en.eq(self.pop),
        ]
        for k in range(self.clients):
            push = issue.valid & (issue.client == k)
            pop  = self.pop & (self.client == k)
            with m.If(pop):
                m.d.sync += [self.ready[k].eq(more & self.next_ended), listed[k].eq(more | push), moved[k].eq(more)]
            with m.Else():
                with m.If(oldest_ended & (ended.client == k)):
                    m.d.sync += self.ready[k].eq(1)
                with m.If(push):
                    m.d.sync += listed[k].eq(1)
                    with m.If(~listed[k]):
                        m.d.sync += moved[k].eq(0)
        return m
