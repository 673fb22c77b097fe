"""The receive side of the user interface: what the link brought, as AXI4-Stream.

Ref: PG054, "Receive Interface" and "Receiving Inbound Packets".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ...hdl.pcie.tlp_stream import tlp_beat
from ...hdl.spec.pcie_7x import RxUser
from .intake import RX_NOTE
from .store import PacketStore

__all__ = ["Receive"]

BUFFER_BYTES = 1 << 15             # of all posted requests and completions: more than the block advertises
PACKETS, NON_POSTED_PACKETS = 128, 32
NON_POSTED_BEAT_BYTES = 32 * 32    # the largest are of eight DWs: an atomic operation
ORDER_WIDTH = 24                   # of a count of packets that wraps later than any simulation ends


def _tuser(note, *, first, last, end, start_high=0):
    """``end``: number of the DW where a packet ends."""
    pieces = {
        RxUser.ECRC_ERROR: (note.ecrc_error & last, 1),
        RxUser.POISONED: (note.poisoned, 1),
        RxUser.BAR_HIT.start: (note.bar_hit, RxUser.BAR_HIT.stop - RxUser.BAR_HIT.start),
        # 0b10000: in byte 0; 0b11000: in byte 8; 0b00000: none.
        RxUser.SOF.start: (Cat(Const(0, 3), start_high, first), RxUser.SOF.stop - RxUser.SOF.start),
        # 0b1dd11: in the last byte of DW dd.
        RxUser.EOF.start: (Cat(Const(3, 2), end, last), RxUser.EOF.stop - RxUser.EOF.start),
    }
    value, at = [], 0
    for start, (piece, width) in sorted(pieces.items()):
        piece = Value.cast(piece)
        value += [Const(0, start - at), piece, Const(0, width - len(piece))]
        at = start + width
    return Cat(value)


class Receive(wiring.Component):
    """Keep what comes for the user, and give it: in order, but that non-posted requests wait while the user wants none.

    A packet appears two cycles after its last beat came, three with 128 bits. One beat a cycle; with 128 bits a packet begins in
    the upper half of the beat in which the one before ends in the lower half, if it is there by then.

    Members
    -------
    posted, non_posted : In(stream(tlp_beat(width))), keep_posted, keep_non_posted : In(1), note : In(RX_NOTE)
        Of :class:`Intake`.
    rx_np_ok, rx_np_req : In(1)
        Non-posted requests begin while both are high; those that are nearly out still come (our reading: PG054 wants
        ``rx_np_ok`` low two cycles before the end of the last but one that the user can take).
    stall : In(1)
        No new beat appears in the next cycle.
    m_axis_rx_*
        As the block has them. 64 bits: ``tkeep`` is 0x0f or 0xff with ``tlast``. 128 bits: ``tlast`` is 0 and ``tkeep`` is all
        ones, ``tuser`` says where packets begin and end, and of two in one beat ``tuser[9:1]`` is of the one that begins
        (our reading).
    gone : Out(1), units : Out(9)
        Strobe: a completion has left the receive buffer, where it had ``units`` of data.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "posted":     In(stream.Signature(tlp_beat(width))), "keep_posted":     In(1),
            "non_posted": In(stream.Signature(tlp_beat(width))), "keep_non_posted": In(1),
            "note": In(RX_NOTE),
            "rx_np_ok": In(1), "rx_np_req": In(1), "stall": In(1),
            "m_axis_rx_tvalid": Out(1), "m_axis_rx_tready": In(1), "m_axis_rx_tlast": Out(1),
            "m_axis_rx_tdata": Out(width), "m_axis_rx_tkeep": Out(width // 8), "m_axis_rx_tuser": Out(22),
            "gone": Out(1), "units": Out(9),
        })

    def elaborate(self, platform):
        m = Module()
        order = unsigned(ORDER_WIDTH)
        np_note = data.StructLayout({"note": RX_NOTE, "before": order})
        m.submodules.posted = posted = PacketStore(
            width=self.width, depth=BUFFER_BYTES * 8 // self.width, packets=PACKETS, note=RX_NOTE)
        m.submodules.non_posted = non_posted = PacketStore(
            width=self.width, depth=NON_POSTED_BEAT_BYTES * 8 // self.width, packets=NON_POSTED_PACKETS, note=np_note)
        connect(m, flipped(self.posted), posted.i)
        connect(m, flipped(self.non_posted), non_posted.i)

        # Non-posted requests never pass what came before them.
        came, begun = Signal(order), Signal(order)
        m.d.comb += [
            posted.i_keep.eq(self.keep_posted), posted.i_note.eq(self.note),
            non_posted.i_keep.eq(self.keep_non_posted),
            non_posted.i_note.note.eq(self.note), non_posted.i_note.before.eq(came),
        ]
        with m.If(posted.i.valid & posted.i.ready & posted.i.p.last & posted.i_keep):
            m.d.sync += came.eq(came + 1)

        # Beats of one packet after the other.
        beat, note = Signal(tlp_beat(self.width)), Signal(RX_NOTE)
        inside, chosen_np, from_np, turn = Signal(), Signal(), Signal(), Signal()
        self._ends_cpl = Signal()
        m.d.comb += self.gone.eq(self.m_axis_rx_tvalid & self.m_axis_rx_tready & self._ends_cpl)
        valid, ready = Signal(), Signal()
        overdue = ~(begun - non_posted.o_note.before)[:ORDER_WIDTH][-1]
        m.d.comb += [
            turn.eq(non_posted.o.valid & self.rx_np_ok & self.rx_np_req & overdue),
            from_np.eq(Mux(inside, chosen_np, turn)),
            valid.eq(Mux(from_np, non_posted.o.valid, posted.o.valid)),
            beat.eq(Mux(from_np, non_posted.o.p, posted.o.p)),
            note.eq(Mux(from_np, non_posted.o_note.note, posted.o_note)),
            non_posted.o.ready.eq(from_np & ready),
            posted.o.ready.eq(~from_np & ready),
        ]
        with m.If(valid & ready):
            m.d.sync += [inside.eq(~beat.last), chosen_np.eq(from_np)]
            with m.If(~inside & ~from_np):
                m.d.sync += begun.eq(begun + 1)
        if self.width == 64:
            self._frame_64(m, beat, note, ~inside, valid, ready)
        else:
            self._frame_128(m, beat, note, ~inside, valid, ready)
        return m

    def _leaves(self, m, last, note):
        """The beat that appears next ends a packet with this note if ``last``."""
        m.d.sync += [self._ends_cpl.eq(last & note.cpl), self.units.eq(note.units)]

    def _frame_64(self, m, beat, note, first, valid, ready):
        free = ~self.m_axis_rx_tvalid | self.m_axis_rx_tready
        m.d.comb += ready.eq(free & ~self.stall)
        with m.If(free):
            m.d.sync += self.m_axis_rx_tvalid.eq(valid & ready)
        with m.If(valid & ready):
            m.d.sync += [
                self.m_axis_rx_tdata.eq(beat.data),
                self.m_axis_rx_tkeep.eq(Mux(beat.dws == 1, 0x0f, 0xff)),
                self.m_axis_rx_tlast.eq(beat.last),
                self.m_axis_rx_tuser.eq(_tuser(note, first=first, last=beat.last, end=Cat(beat.dws != 1, Const(0, 1)))),
            ]
            self._leaves(m, beat.last, note)

    def _frame_128(self, m, beat, note, first, valid, ready):
        """A queue of up to four halves of beats, of which one or two leave at a time."""
        half = data.StructLayout({"data": 64, "two": 1, "first": 1, "last": 1, "note": RX_NOTE})
        queue, level = Signal(data.ArrayLayout(half, 4)), Signal(range(5))
        low, high = queue[0], queue[1]
        free = ~self.m_axis_rx_tvalid | self.m_axis_rx_tready
        leaves, left = Signal(range(3)), Signal(range(5))
        both = Signal()   # the upper half of the beat has something
        m.d.comb += [
            both.eq(level >= 2),
            left.eq(level - leaves),
            ready.eq(left <= 2),
        ]
        # An end in the lower half waits a cycle for a packet that is about to join it.
        with m.If(free & ~self.stall & (level != 0) & (both | (low.last & ~valid))):
            m.d.comb += leaves.eq(Mux(both, 2, 1))
        with m.If(free):
            m.d.sync += self.m_axis_rx_tvalid.eq(leaves != 0)
        starts_high = both & high.first
        ends_high = both & high.last
        user = Signal(RX_NOTE)
        m.d.comb += [
            user.eq(Mux(starts_high, high.note, low.note)),
            user.ecrc_error.eq(low.note.ecrc_error),  # of the packet that ends
        ]
        with m.If(leaves != 0):
            m.d.sync += [
                self.m_axis_rx_tdata.eq(Cat(low.data, high.data)),
                self.m_axis_rx_tuser.eq(_tuser(
                    user, first=low.first | starts_high, start_high=starts_high, last=low.last | ends_high,
                    end=Mux(low.last, Cat(low.two, Const(0, 1)), Cat(high.two, Const(1, 1))))),
            ]
            self._leaves(m, low.last | ends_high, low.note)   # of the packet that ends: the lower half is of it in any case
        m.d.comb += self.m_axis_rx_tkeep.eq(-1)

        halves = [Signal(half, name=f"half_{k}") for k in range(2)]
        m.d.comb += [
            Cat(one.data for one in halves).eq(beat.data),
            halves[0].two.eq(beat.dws != 1), halves[1].two.eq(beat.dws == 4),
            halves[0].first.eq(first),
            halves[0].last.eq(beat.last & (beat.dws <= 2)), halves[1].last.eq(beat.last),
            *(one.note.eq(note) for one in halves),
        ]
        takes = valid & ready
        m.d.sync += level.eq(left + Mux(takes, 1 + (beat.dws > 2), 0))
        for k in range(4):
            kept = [queue[k], *(queue[k + n] if k + n < 4 else queue[3] for n in (1, 2))]
            with m.If(takes & (left == k)):
                m.d.sync += queue[k].eq(halves[0])
            with m.Elif(takes & (left + 1 == k)):
                m.d.sync += queue[k].eq(halves[1])
            with m.Elif(leaves == 2):
                m.d.sync += queue[k].eq(kept[2])
            with m.Elif(leaves == 1):
                m.d.sync += queue[k].eq(kept[1])
