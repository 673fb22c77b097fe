"""TLPs as they come in: the digest off, and none through that is not as long as it says.

Ref: PCI Express Base 5.0, 2.2.2 "TLPs with Data Payloads - Rules", 2.2.3 "TLP Digest Rules", 2.3 "Handling of Received
TLPs".
"""

from amaranth import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..spec.pcie import HeaderDw0
from .header import byteswap
from .tlp_stream import tlp_beat

__all__ = ["Digest", "Intake"]

MAX_HEADER_DWS = 4


class Digest(wiring.Component):
    """Take the digest off a TLP that has one; 2.2.3: who does not check it ignores it.

    Adds one cycle, and holds each beat of such a TLP until the next one is there.

    Members
    -------
    i, o
        TLP streams.
    """
    def __init__(self, *, width):
        super().__init__({
            "i": In(stream.Signature(tlp_beat(width))),
            "o": Out(stream.Signature(tlp_beat(width))),
        })

    def elaborate(self, platform):
        m = Module()
        beat, held, waits = Signal.like(self.i.payload), Signal(), Signal()
        inside, inside_td, td, alone, moves = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            td.eq(Mux(inside, inside_td, HeaderDw0(byteswap(self.i.payload.data[:32])).td)),
            alone.eq(waits & self.i.payload.last & (self.i.payload.dws == 1)),  # the digest has a beat of its own
            self.o.payload.eq(beat),
            self.o.payload.last.eq(beat.last | alone),
            self.o.valid.eq(held & (~waits | self.i.valid)),
            moves.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(~held | moves),
        ]
        with m.If(moves):
            m.d.sync += [held.eq(0), waits.eq(0)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [inside.eq(~self.i.payload.last), inside_td.eq(td)]
            with m.If(~alone):
                m.d.sync += [beat.eq(self.i.payload), held.eq(1), waits.eq(td & ~self.i.payload.last)]
                with m.If(td & self.i.payload.last & (self.i.payload.dws != 1)):
                    m.d.sync += beat.dws.eq(self.i.payload.dws - 1)
        return m


class Intake(wiring.Component):
    """Store each request until it is whole, and let it go on if its Length, its data and Max_Payload_Size agree.

    A request can leave four cycles after its last beat came; there is a pause of one cycle behind each.

    Parameters
    ----------
    width : int
        Bits per beat.
    depth : int
        Beats, a power of two that is more than the largest TLP has, else :exc:`ValueError`.
    max_payload : int
        Largest ``mps``.

    Members
    -------
    i, o
        TLP streams, without digests.
    mps : In(3)
        As in Device Control, within what is supported.
    malformed : Out(1)
        Strobe: a TLP was dropped; it has a prefix, or is shorter, longer or larger than it may be.
    busy : Out(1)
        There is something inside.
    """
    def __init__(self, *, width, depth, max_payload):
        largest = -(-(MAX_HEADER_DWS + (32 << max_payload)) // (width // 32))
        if depth <= largest or depth & (depth - 1):
            raise ValueError(f"Depth must be a power of 2 of more than {largest} beats, not {depth!r}")
        self.width = width
        self.depth = depth
        self.max_payload = max_payload
        super().__init__({
            "i": In(stream.Signature(tlp_beat(width))),
            "o": Out(stream.Signature(tlp_beat(width))),
            "mps": In(3),
            "malformed": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        pointer = range(2 * self.depth)
        limit, room = Signal(11), Signal()  # largest payload, in DWs; there is room for another beat
        m.submodules.beats = beats = memory.Memory(
            shape=tlp_beat(self.width), depth=self.depth, init=[])
        write, read = beats.write_port(), beats.read_port()
        # Where the next beat goes, where its TLP begins, what is read next; all before ``begin`` is good.
        head, begin, tail = Signal(pointer), Signal(pointer), Signal(pointer)

        # A cycle after its beat: DWs that are left with it, and whether that is so.
        inside, came, first, last = Signal(), Signal(), Signal(), Signal()
        dws   = Signal.like(self.i.payload.dws)
        total = Signal(11)   # of header and data, as the header says
        wrong = Signal()     # which no data can mend
        rest, left, bad, spoilt = Signal(12), Signal(12), Signal(), Signal()
        h = HeaderDw0(byteswap(self.i.payload.data[:32]))
        fmt, length = Value.cast(h.fmt), Cat(h.length, h.length == 0)
        takes = self.i.valid & self.i.ready
        m.d.comb += [
            # The beat behind a TLP waits for the verdict; what is spoilt takes no room.
            self.i.ready.eq(~(came & last) & (spoilt | room)),
            write.addr.eq(head),
            write.data.eq(self.i.payload),
            write.en.eq(takes & ~spoilt),
            left.eq(Mux(first, total, rest)),
            bad.eq((first & wrong) | (~first & spoilt) | Mux(last, left != dws, left <= dws)),
        ]
        m.d.sync += [
            came.eq(takes),
            self.malformed.eq(came & last & bad),
            limit.eq(32 << self.mps),
            room.eq((head - tail)[:len(head)] < self.depth - 1),  # of a cycle ago: one beat may have come since
        ]
        with m.If(takes):
            m.d.sync += [
                inside.eq(~self.i.payload.last), first.eq(~inside), last.eq(self.i.payload.last), dws.eq(self.i.payload.dws),
                total.eq(Mux(fmt[1], length, 0) + Mux(fmt[0], 4, 3)),
                wrong.eq(fmt[2] | (fmt[1] & (length > limit))),
            ]
            with m.If(~spoilt):
                m.d.sync += head.eq(head + 1)
        with m.If(came):
            m.d.sync += [rest.eq(left - dws), spoilt.eq(bad & ~last)]
            with m.If(last):
                with m.If(bad):
                    m.d.sync += head.eq(begin)
                with m.Else():
                    m.d.sync += begin.eq(head)

        # Out, through a register: block RAM is slow.
        fetched, moves, fetch = Signal(), Signal(), Signal()
        m.d.comb += [
            moves.eq(fetched & (self.o.ready | ~self.o.valid)),
            fetch.eq((tail != begin) & (~fetched | moves)),
            read.addr.eq(tail),
            read.en.eq(fetch),
            self.busy.eq((head != tail) | came | fetched | self.o.valid | self.malformed),
        ]
        m.d.sync += tail.eq(tail + fetch)
        with m.If(fetch | moves):
            m.d.sync += fetched.eq(fetch)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [self.o.valid.eq(fetched), self.o.payload.eq(read.data)]
        return m
