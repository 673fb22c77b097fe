"""Completions with their data.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..spec.pcie import CplStatus
from .dws import dw_layout
from .header import cpl_header

__all__ = ["CHUNK_DWS", "Completion", "completion_layout"]

CHUNK_DWS = 32  # 2.3.1.1: an endpoint splits completions at 128-byte boundaries of the address

#: What a completion says, besides its data. ``lower_address`` without the bits that are 0 by it.
completion_layout = data.StructLayout({
    "completer_id": 16, "status": CplStatus, "byte_count": 13, "requester_id": 16, "tag": 8, "lower_address": 7, "tc": 3,
    "attr": 3, "locked": 1})


class Completion(wiring.Component):
    """Gather the data of a completion, then send it, a DW a cycle. It is begun only when all of its data is there, so a slow
    register never holds the transmit side.

    Members
    -------
    put : In(1), data : In(32)
        Strobe: a DW of the data, of which there are up to CHUNK_DWS. Not with ``send``.
    send : In(1), says : In(completion_layout)
        Send it; high until ``sent``, and what is said stays the same as long.
    sent : Out(1)
        Strobe: its last DW is taken. The next completion has no data yet.
    o : Out(stream(dw_layout))
    """
    put:  In(1)
    data: In(32)
    send: In(1)
    says: In(completion_layout)
    sent: Out(1)
    o:    Out(stream.Signature(dw_layout))

    def elaborate(self, platform):
        m = Module()
        m.submodules.chunk = chunk = Memory(shape=32, depth=CHUNK_DWS, init=[], attrs={"ram_style": "distributed"})
        chunk_w, chunk_r = chunk.write_port(), chunk.read_port()
        fill, place = Signal(range(CHUNK_DWS + 1)), Signal(range(CHUNK_DWS + 3))
        says = {name: Value.cast(self.says[name]) for name, _ in completion_layout}
        header = cpl_header(has_data=fill != 0, length=fill, **says)
        m.d.comb += [
            chunk_w.addr.eq(fill),
            chunk_w.data.eq(self.data),
            chunk_w.en.eq(self.put),
            # Read a DW ahead: the first of them while the third of the header leaves.
            chunk_r.addr.eq(place - 2),
            chunk_r.en.eq(self.o.ready & ~self.put),   # there is nothing to read yet, and synthesis can see that
            self.o.valid.eq(self.send),
            self.o.p.dw.eq(Mux(place < 3, header.word_select(place[:2], 32), chunk_r.data)),
            self.o.p.last.eq(place == fill + 2),
            self.sent.eq(self.o.valid & self.o.ready & self.o.p.last),
        ]
        with m.If(self.put):
            m.d.sync += fill.eq(fill + 1)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += place.eq(place + 1)
        with m.If(self.sent):
            m.d.sync += [place.eq(0), fill.eq(0)]
        return m
