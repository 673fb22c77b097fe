"""virtio-net transmit: the reads of what the buffers hold.

Ref: VIRTIO 1.4, 5.1.9.2 "Packet Transmission".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.buffers import ChainId, Segment
from ..lib.dma import ReadReq
from ..spec.ethernet import HEADER_BYTES
from ..spec.net import VIRTIO_NET_HDR_SIZE

__all__ = ["TransmitReads", "part_layout"]

ON_THE_WAY = 6  # beats that have been read and are not yet in the frame memory
SHORT = 2       # beats that an answer may take besides the full ones
PAGE_BITS = 21  # of a huge page: buffers seldom lie on both sides of such a boundary


def part_layout(pairs, depth):
    """What comes of a chain: the answer to a read (``has_read``), with ``beats`` reserved for it, or nothing; with ``last`` the
    chain ends. ``drop``: it is no frame. ``lost``: it is not given back."""
    return data.StructLayout({
        "pair": range(pairs), "chain": ChainId, "has_read": 1, "beats": range(depth + 1), "last": 1, "drop": 1, "lost": 1})


class TransmitReads(wiring.Component):
    """Judge each segment, and ask for what it holds when there is room for the answer.

    A segment is judged as it comes, and its read offered two cycles later at the earliest; one every two cycles. A long one is
    read in pieces, so that a second frame need not wait until the first has left the memory: ``piece`` bytes at a time, from its
    beginning on, as long as at least twice as much is left.

    Parameters
    ----------
    pairs, max_frame, depth, patience : int
        See :class:`.transmit.Transmit`.
    lanes : int
        Bytes per beat.
    piece : int
        Bytes, a power of two of at least ``lanes``.

    Members
    -------
    i : In(stream(Segment))
    o : Out(stream(part_layout(pairs, depth)))
        An item for each read, with it, and for each end of a chain that is not read.
    req : Out(stream(ReadReq))
        What is offered stays, whatever changes meanwhile.
    free : In(range(depth + 1))
        Beats of the frame memory that nothing is stored in.
    released : In(range(depth + 1))
        Beats whose reservation ends: of a read whose last beat has come.
    link_up : In(1)
    hurry, moves : In(1)
        Somebody waits for what comes behind; a beat goes to the wire. In ``patience`` cycles with the one and without the other,
        or a read, a segment that waits for room is given up, and its frame dropped.
    hold : In(1), wants : Out(1)
        No read is asked for; one would be, but for that.
    """
    def __init__(self, *, lanes, pairs, max_frame, depth, patience, piece):
        self.lanes = lanes
        self.max_frame = max_frame
        self.depth = depth
        self.patience = patience
        self.piece = piece
        super().__init__({
            "i":        In(stream.Signature(Segment)),
            "o":        Out(stream.Signature(part_layout(pairs, depth))),
            "req":      Out(stream.Signature(ReadReq)),
            "free":     In(range(depth + 1)),
            "released": In(range(depth + 1)),
            "link_up":  In(1),
            "hurry":    In(1),
            "moves":    In(1),
            "hold":     In(1),
            "wants":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        segment, part = self.i, self.o.p
        lane_bits = (self.lanes - 1).bit_length()
        longest = VIRTIO_NET_HDR_SIZE + self.max_frame
        total, drop = Signal(range(longest + 1)), Signal()
        sum_, bad = Signal(len(total) + 1), Signal()
        judged, judged_valid = Signal(Segment), Signal()
        wanted, spoils = Signal(), Signal()    # it is to be read; its frame is none
        beats = Signal(range(self.depth + 1))  # that are reserved for it
        more = Signal()                        # of the segment a piece is asked for, and not what is left
        size = Signal.like(total)              # bytes that are asked for
        piece_bits = min(self.piece.bit_length() - 1, len(total))
        # Of the address, what a piece moves, and of the length, what is left in pieces. The bits above do not change: a segment
        # that begins so near to the end of a page that they might is read at once, which costs no more than a little speed.
        page, left = judged.addr[piece_bits:PAGE_BITS], judged.len[piece_bits:len(total)]
        whole = segment.p.addr[len(total):PAGE_BITS].all()
        # ``space``: free beats that no read had reserved before the last cycle. ``asked``: those that a read reserved in it.
        reserved = Signal(range(self.depth + ON_THE_WAY + SHORT + 1), init=ON_THE_WAY + SHORT)
        space, asked = Signal(signed(len(reserved) + 1)), Signal(range(self.depth + 1))
        fits = Signal()                        # the room that it needs is there
        reads, asks, leaves, hopeless, given_up = Signal(), Signal(), Signal(), Signal(), Signal()
        offered = Signal()                     # a read was
        m.d.comb += [
            sum_.eq(total + segment.p.len[:len(total)]),
            bad.eq(drop | segment.p.write | segment.p.len[len(total):].any() | (sum_ > longest) | ~self.link_up),
            segment.ready.eq(~judged_valid | (leaves & ~given_up)),
            size.eq(Mux(more, self.piece, judged.len)),
            beats.eq((size >> lane_bits) + SHORT),
        ]
        m.d.sync += [
            space.eq(self.free - reserved),
            asked.eq(Mux(asks, beats, 0)),
            fits.eq(judged_valid & ~leaves & ~asks & ((size >> lane_bits) + asked <= space)),
            reserved.eq(reserved + Mux(asks, beats, 0) - self.released),
        ]
        with m.If(leaves):
            m.d.sync += judged_valid.eq(0)
            with m.If(given_up & ~judged.last):
                m.d.sync += drop.eq(1)
        with m.If(asks & more):
            m.d.sync += [page.eq(page + 1), left.eq(left - 1), more.eq(left > 2)]
        with m.If(segment.ready):
            m.d.sync += [
                judged.eq(segment.p),
                judged_valid.eq(segment.valid),
                wanted.eq(~bad & (segment.p.len != 0) & ~segment.p.error),
                spoils.eq(bad | (segment.p.last & (sum_ < VIRTIO_NET_HDR_SIZE + HEADER_BYTES))),
                more.eq((segment.p.len[:len(total)] >> piece_bits > 1) & ~whole),
            ]
            with m.If(segment.valid):
                m.d.sync += [total.eq(Mux(segment.p.last, 0, sum_)), drop.eq(bad & ~segment.p.last)]
        m.d.comb += [
            given_up.eq(hopeless & ~offered),
            reads.eq(wanted & ~given_up),
            part.pair.eq(judged.queue >> 1),
            part.chain.eq(judged.chain),
            part.has_read.eq(reads),
            part.beats.eq(beats),
            part.last.eq(judged.last & ~(reads & more)),
            part.drop.eq(judged.last & (spoils | given_up)),
            part.lost.eq(judged.error),
            self.req.p.addr.eq(judged.addr),
            self.req.p.len.eq(size),
        ]
        # A queue reset ends, and others get their segments, whatever the wire does. A long table that comes slowly is not the
        # wire's fault: only time in which a segment is here and is not asked for counts.
        stood = Signal(range(self.patience + 1))
        m.d.comb += hopeless.eq(stood == self.patience)
        with m.If(~self.hurry | self.moves | asks):
            m.d.sync += stood.eq(0)
        with m.Elif(~hopeless & judged_valid & wanted & ~self.hold):
            m.d.sync += stood.eq(stood + 1)
        m.d.sync += offered.eq(self.req.valid & ~self.req.ready)
        with m.If(reads):
            m.d.comb += [
                self.wants.eq(judged_valid & self.o.ready & (offered | fits)),
                self.req.valid.eq(self.wants & (offered | ~self.hold)),
                asks.eq(self.req.valid & self.req.ready),
                self.o.valid.eq(asks),
                leaves.eq(asks & ~more),
            ]
        with m.Else():
            m.d.comb += [
                self.o.valid.eq(judged_valid & judged.last),
                leaves.eq(judged_valid & (self.o.ready | ~judged.last)),
            ]
        return m
