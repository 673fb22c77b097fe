"""Answers out of the reorder buffer, to the clients that asked.

Ref: PCI Express Base 5.0, 2.3.1.1 "Data Return for Read Requests".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.dma import read_beat
from ..lib.slice import Slice
from .dma_seams import AnswerLookup

__all__ = ["row_read", "Drain", "Answers"]


def row_read(width, clients):
    """A row as read: ``beat`` for ``client``, but that the first ``offset`` bytes of its data are to go."""
    return data.StructLayout({"client": range(clients), "offset": 2, "beat": read_beat(width)})


class Drain(wiring.Component):
    """Read ended tags out for their clients: a row a cycle, no cycle lost between tags of two rows or of several clients.

    Members
    -------
    ready : In(clients)
        The client's oldest tag has ended.
    client : Out(range(clients)), head : In(range(tags))
        A client that was ready, and its oldest tag, in the same cycle.
    pop : Out(1)
        Strobe: ``head`` is taken.
    look : Out(AnswerLookup)
        Of ``head``.
    row : Out, row_en : Out(1), row_data : In(width)
        Read of the reorder buffer, data one enabled cycle later.
    o : Out(stream.Signature(row_read(width, clients)))
    error : Out(1)
        One-cycle strobe: a request has failed.
    busy : Out(1)
    reset : In(1)
        Forget failures of requests whose last tag never came.
    """
    def __init__(self, width, tags, slot_bytes, clients):
        self.width, self.tags, self.slot_bytes, self.clients = width, tags, slot_bytes, clients
        self.rows = tags * slot_bytes // (width // 8)
        super().__init__({
            "ready":    In(clients),
            "client":   Out(range(clients)),
            "head":     In(range(tags)),
            "pop":      Out(1),
            "look":     Out(AnswerLookup(tags, slot_bytes)),
            "row":      Out(range(self.rows)),
            "row_en":   Out(1),
            "row_data": In(width),
            "o":        Out(stream.Signature(row_read(width, clients))),
            "error":    Out(1),
            "busy":     Out(1),
            "reset":    In(1),
        })

    def elaborate(self, platform):
        m = Module()
        size = self.width // 8
        row_shift = (self.slot_bytes // size).bit_length() - 1
        look, info, o = self.look, self.look.info, self.o

        # Choose a client; its tag is looked up in the next cycle.
        chosen = Signal()
        pick   = Signal(range(self.clients))
        others = Signal(self.clients)     # ready, and not by the tag that waits here
        # ``pick`` is the client of before only if there is no other.
        round_robin(m, self.ready, self.client, pick)
        m.d.comb += [
            others.eq(self.ready & ~(chosen << self.client)),
            look.tag.eq(self.head),
        ]
        with m.If(~chosen | self.pop):
            m.d.sync += chosen.eq(others.any())
            with m.If(others.any()):
                m.d.sync += self.client.eq(pick)

        # Address a row a cycle.
        advance  = Signal()
        a_valid  = Signal()
        a_client = Signal(range(self.clients))
        a_tag    = Signal(range(self.tags))
        a_row    = Signal(row_shift)
        a_left   = Signal(range(self.slot_bytes + 1))   # bytes, those before the first wanted one included
        a_offset = Signal(2)
        a_last   = Signal()
        a_error  = Signal()
        spoilt   = Signal(self.clients)                 # an earlier tag of the client's request failed
        failed   = look.failed | spoilt.bit_select(self.client, 1)
        end      = (a_left <= size) | a_error
        m.d.comb += [
            advance.eq(~o.valid | o.ready),
            self.pop.eq(chosen & (~a_valid | (advance & end))),
            self.row.eq(Cat(a_row, a_tag)),
            self.row_en.eq(advance),
            look.free.eq(a_valid & advance & end),
            look.free_tag.eq(a_tag),
            self.error.eq(self.pop & failed & info.last),
        ]
        with m.If(advance & a_valid):
            m.d.sync += [
                a_row.eq(a_row + 1),
                a_left.eq(a_left - size),
                a_offset.eq(0),
            ]
            with m.If(end):
                m.d.sync += a_valid.eq(0)
        with m.If(self.pop):
            m.d.sync += [
                a_valid.eq(1),
                a_client.eq(self.client),
                a_tag.eq(self.head),
                a_row.eq(0),
                a_left.eq(info.end),
                a_offset.eq(info.offset),
                a_last.eq(info.last),
                a_error.eq(failed),
                spoilt.bit_select(self.client, 1).eq(failed & ~info.last),
            ]
        with m.If(self.reset):
            m.d.sync += spoilt.eq(0)

        # The row as read.
        with m.If(advance):
            m.d.sync += [
                o.valid.eq(a_valid & (~a_error | a_last)),
                o.p.client.eq(a_client),
                o.p.offset.eq(a_offset),
                o.p.beat.count.eq(Mux(a_error, 0, Mux(end, a_left, size) - a_offset)),
                o.p.beat.last.eq(end & a_last),
                o.p.beat.error.eq(a_error),
            ]
        m.d.comb += [o.p.beat.data.eq(self.row_data), self.busy.eq(chosen | a_valid | o.valid)]
        return m


class Answers(wiring.Component):
    """Bring rows to byte 0 and to their clients, which are far from here and from each other.

    All clients see one register, and each its own ``valid``. No row waits for a client's word within its cycle: from ``ready`` of
    a client there is no path to ``i``. Two cycles, a row a cycle; a client that does not take its beat holds up the others.

    Members
    -------
    i : In(stream.Signature(row_read(width, clients)))
    beats : Out(stream.Signature(read_beat(width))).array(clients)
    discard : In(1)
        Take every beat, whatever clients say.
    busy : Out(1)
    """
    def __init__(self, width, clients):
        self.width, self.clients = width, clients
        super().__init__({
            "i":       In(stream.Signature(row_read(width, clients))),
            "beats":   Out(stream.Signature(read_beat(width))).array(clients),
            "discard": In(1),
            "busy":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # Turned after a register, for block RAM is slow.
        raw, held = Signal.like(self.i.p), Signal()
        m.submodules.out = out = Slice(data.StructLayout({"clients": self.clients, "beat": read_beat(self.width)}))
        m.d.comb += [
            self.i.ready.eq(~held | out.i.ready),
            out.i.valid.eq(held),
            out.i.p.clients.eq(C(1, self.clients) << raw.client),
            out.i.p.beat.eq(raw.beat),
            out.i.p.beat.data.eq(raw.beat.data >> Cat(C(0, 3), raw.offset)),
            out.o.ready.eq(self.discard | Cat(
                beat.ready & client for beat, client in zip(self.beats, out.o.p.clients)).any()),
            self.busy.eq(held | out.o.valid),
        ]
        with m.If(self.i.ready):
            m.d.sync += [held.eq(self.i.valid), raw.eq(self.i.p)]
        for beat, client in zip(self.beats, out.o.p.clients):
            m.d.comb += [beat.valid.eq(out.o.valid & client), beat.p.eq(out.o.p.beat)]
        return m
