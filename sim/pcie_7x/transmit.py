"""The transmit side of the user interface: AXI4-Stream in, TLPs out, and the block's own TLPs between them.

Ref: PG054, "Transmit Interface", "Transmitting Outbound Packets", "Flow Control Credit Information".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ...hdl.pcie.tlp_stream import tlp_beat
from ...hdl.spec.pcie_7x import FcSel, TxUser
from .store import PacketStore
from .tlp import OWN_TLP, Fields, swap

__all__ = ["CREDITS", "INFINITE_DATA", "INFINITE_HEADERS", "TX_BUFFERS", "Transmit"]

#: What the link partner can take now: headers, and data in units of 16 bytes, of each class.
CREDITS = data.StructLayout({"ph": 8, "pd": 12, "nph": 8, "npd": 12, "cplh": 8, "cpld": 12})

#: 2.6.1: no more than 127 and 2047 credits are ever outstanding. PG054, "Flow Control Credit Information": with ``fc_sel`` 4 the
#: infinite ones read so.
INFINITE_HEADERS, INFINITE_DATA = 0x80, 0x800

TX_BUFFERS = 30      # TLPs that wait for the link, of any size
HEADER_DWS = 4
CLASSES = ("p", "np", "cpl")

#: Of a stored TLP. ``kind``: number of its class.
TX_NOTE = data.StructLayout({"kind": 2, "units": 9, "poisoned": 1})


class Transmit(wiring.Component):
    """Store each TLP, judge it, and send it when there are credits: in order (our reading: none overtakes).

    A TLP can leave two cycles after its last beat was taken. A beat a cycle.

    Parameters
    ----------
    max_payload : int
        Coded; a TLP with more data is dropped.

    Members
    -------
    s_axis_tx_*, tx_buf_av, tx_err_drop, tx_cfg_req, tx_cfg_gnt, fc_*
        As the block has them; ``fc_*`` for ``fc_sel`` 4, 0 for others. Values are a cycle old. Our reading: credits are taken
        when a TLP is stored, ``tx_buf_av`` counts TLPs of any size, and a TLP of the block itself takes a buffer too.
    stall : In(1)
        The user has to wait in this cycle.
    own : In(stream(OWN_TLP))
        Taken between two TLPs of the user.
    credits : In(CREDITS)
    link : Out(stream(tlp_beat(width)))
    misuse : Out(1)
        Strobe: the user withdrew or changed what it offered, has a ``tkeep`` that is none, asked for a digest, or discontinued
        without ``tlast``.
    """
    def __init__(self, *, width, max_payload):
        self.width, self.max_payload = width, max_payload
        super().__init__({
            "s_axis_tx_tvalid": In(1), "s_axis_tx_tready": Out(1), "s_axis_tx_tlast": In(1), "s_axis_tx_tdata": In(width),
            "s_axis_tx_tkeep": In(width // 8), "s_axis_tx_tuser": In(4),
            "tx_buf_av": Out(6), "tx_err_drop": Out(1), "tx_cfg_req": Out(1), "tx_cfg_gnt": In(1), "fc_sel": In(3),
            **{f"fc_{name}": Out(field.width) for name, field in CREDITS},
            "stall": In(1), "own": In(stream.Signature(OWN_TLP)), "credits": In(CREDITS),
            "link": Out(stream.Signature(tlp_beat(width))), "misuse": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        largest = -(-(HEADER_DWS + (32 << self.max_payload)) // lanes)   # beats
        m.submodules.store = store = PacketStore(
            width=self.width, depth=1 << (TX_BUFFERS * largest - 1).bit_length(), packets=1 << (TX_BUFFERS - 1).bit_length(),
            note=TX_NOTE)

        # Between packets the block's own TLPs come in, if the user grants it.
        inside, own_at, own_turn = Signal(), Signal(), Signal()
        full = Signal()
        own_beats = Signal(128)
        m.d.comb += [
            full.eq(store.level >= TX_BUFFERS),
            self.tx_buf_av.eq(TX_BUFFERS - store.level),
            self.tx_cfg_req.eq(self.own.valid & ~own_turn),
            own_beats.eq(Cat(self.own.p.dws)),
        ]
        takes = Signal()
        with m.If(own_turn):
            last = Const(1, 1) if lanes == 4 else own_at
            m.d.comb += [store.i.valid.eq(1), store.i.p.last.eq(last), store.i_keep.eq(1), self.own.ready.eq(last)]
            m.d.comb += store.i.p.data.eq(own_beats if lanes == 4 else own_beats.word_select(own_at, 64))
            m.d.comb += store.i.p.dws.eq(Mux(last & ~self.own.p.long, lanes - 1, lanes))
            m.d.sync += own_at.eq(~last)
            with m.If(last):
                m.d.sync += own_turn.eq(0)
        with m.Else():
            m.d.comb += [
                self.s_axis_tx_tready.eq(~self.stall & (inside | ~full)),
                takes.eq(self.s_axis_tx_tvalid & self.s_axis_tx_tready),
            ]
            with m.If(self.own.valid & self.tx_cfg_gnt & ~full & ~inside & ~takes):
                m.d.sync += own_turn.eq(1)
        self._user(m, store, takes, inside, largest, lanes, own_turn)
        self._send(m, store)
        return m

    def _user(self, m, store, takes, inside, largest, lanes, own_turn):
        dws, legal = Signal(range(lanes + 1)), Signal()
        with m.Switch(self.s_axis_tx_tkeep):
            for n in range(1, lanes + 1):
                with m.Case((1 << 4 * n) - 1):
                    m.d.comb += [dws.eq(n), legal.eq(self.s_axis_tx_tlast | (n == lanes))]
        count, beats, spoilt, poisoned = Signal(12), Signal(range(largest + 1)), Signal(), Signal()
        held, header, streaming = Signal(32), Signal(32), Signal()
        m.d.comb += header.eq(Mux(own_turn, self.own.p.dws[0], Mux(inside, held, self.s_axis_tx_tdata[:32])))
        h = Fields([header, *(Const(0, 32) for _ in range(3))])
        size, drops, discontinued = Signal(12), Signal(), self.s_axis_tx_tuser[TxUser.DISCONTINUE]
        gap = inside & ~self.s_axis_tx_tvalid & self.s_axis_tx_tready & streaming
        m.d.comb += [
            size.eq(Mux(h.has_data, h.length, 0)),
            drops.eq(spoilt | (count + dws != size + h.long + 3) | (size > (32 << self.max_payload)) | h.prefix),
            Value.cast(store.i_note).eq(Cat(
                Mux(h.is_posted, 0, Mux(h.is_cpl, 2, 1)), ((size + 3) >> 2)[:9],
                ~own_turn & (poisoned | self.s_axis_tx_tuser[TxUser.ERROR_FORWARD]))),
        ]
        with m.If(~own_turn):
            m.d.comb += [
                store.i.p.data.eq(self.s_axis_tx_tdata), store.i.p.dws.eq(dws), store.i.p.last.eq(self.s_axis_tx_tlast),
                # What is too long has no room either.
                store.i.valid.eq(takes & ((beats != largest) | self.s_axis_tx_tlast)),
                store.i_keep.eq(~drops & ~discontinued),
            ]
        # A packet that is not kept for its length, or for a gap in what was to be sent as it comes, is told of.
        m.d.sync += self.tx_err_drop.eq(takes & self.s_axis_tx_tlast & drops & ~discontinued)
        with m.If(takes):
            m.d.sync += [
                inside.eq(~self.s_axis_tx_tlast), held.eq(header), streaming.eq(self.s_axis_tx_tuser[TxUser.STREAMING]),
                count.eq(Mux(self.s_axis_tx_tlast, 0, count + dws)),
                beats.eq(Mux(self.s_axis_tx_tlast, 0, Mux(beats == largest, beats, beats + 1))),
                poisoned.eq(~self.s_axis_tx_tlast & (poisoned | self.s_axis_tx_tuser[TxUser.ERROR_FORWARD])),
                spoilt.eq(~self.s_axis_tx_tlast & (spoilt | (beats == largest))),
            ]
        with m.Elif(gap):
            m.d.sync += spoilt.eq(1)

        offered, refused = Signal(self.width + self.width // 8 + 5), Signal()
        m.d.sync += [
            offered.eq(Cat(self.s_axis_tx_tdata, self.s_axis_tx_tkeep, self.s_axis_tx_tuser, self.s_axis_tx_tlast)),
            refused.eq(self.s_axis_tx_tvalid & ~self.s_axis_tx_tready),
        ]
        changed = refused & (~self.s_axis_tx_tvalid | (offered != Cat(
            self.s_axis_tx_tdata, self.s_axis_tx_tkeep, self.s_axis_tx_tuser, self.s_axis_tx_tlast)))
        m.d.comb += self.misuse.eq(changed | (takes & (
            ~legal | self.s_axis_tx_tuser[TxUser.ECRC_GENERATE] | (discontinued & ~self.s_axis_tx_tlast))))

    def _send(self, m, store):
        # What is stored and not sent has its credits already, as far as the user is concerned.
        kept_note, note = store.i_note, store.o_note
        enough = Signal()
        started, going = Signal(), Signal()   # the first beat of a TLP leaves; it goes on
        keeps = store.i.valid & store.i.ready & store.i.p.last & store.i_keep
        for k, name in enumerate(CLASSES):
            headers, units = Signal(6, name=f"headers_{name}"), Signal(12, name=f"units_{name}")
            joins, goes = Signal(name=f"joins_{name}"), Signal(name=f"goes_{name}")
            m.d.comb += [joins.eq(keeps & (kept_note.kind == k)), goes.eq(started & (note.kind == k))]
            with m.If(joins | goes):
                m.d.sync += [
                    headers.eq(headers + joins - goes),
                    units.eq(units + Mux(joins, kept_note.units, 0) - Mux(goes, note.units, 0)),
                ]
            for what, used, infinite in (("h", headers, INFINITE_HEADERS), ("d", units, INFINITE_DATA)):
                level, shown = self.credits[name + what], getattr(self, f"fc_{name}{what}")
                left = Mux(level >= infinite, infinite, Mux(level > used, level - used, 0))
                m.d.sync += shown.eq(Mux(self.fc_sel == FcSel.TRANSMIT_AVAILABLE, left, 0))
            with m.If(note.kind == k):
                m.d.comb += enough.eq((self.credits[f"{name}h"] != 0) & (
                    (self.credits[f"{name}d"] >= note.units) | (self.credits[f"{name}d"] >= INFINITE_DATA)))

        free = ~self.link.valid | self.link.ready
        poison = Mux(~going & note.poisoned, 1 << 14, 0)
        m.d.comb += [
            store.o.ready.eq(free & (going | enough)),
            started.eq(store.o.valid & store.o.ready & ~going),
        ]
        with m.If(free):
            m.d.sync += self.link.valid.eq(store.o.valid & store.o.ready)
        with m.If(store.o.valid & store.o.ready):
            m.d.sync += [
                self.link.p.eq(store.o.p), self.link.p.data.eq(swap(store.o.p.data | poison)), going.eq(~store.o.p.last),
            ]
