"""Completions into the reorder buffer by tag, and out of it in order.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules", 2.3.2 "Completion Handling Rules".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arbiter import round_robin
from ..lib.dma import read_beat
from ..lib.slice import Slice
from ..spec.pcie import CompletionDw2, CplStatus, TlpType
from .function_config import CPL_FAULTS
from .header import Header, byteswap
from .tlp_stream import tlp_beat

__all__ = ["tag_info", "Placer", "Drain"]


def tag_info(clients, slot_bytes):
    """What is known of a tag when its request leaves; ``word`` and ``offset`` are the low bits of its address."""
    return data.StructLayout({
        "client": range(clients), "offset": 2, "word": 5, "len": range(slot_bytes + 1), "dws": range(slot_bytes // 4 + 1),
        "last": 1,
    })


class Placer(wiring.Component):
    """Check completions against their tags and say where in the reorder buffer their DWs belong.

    Takes a beat every cycle; its verdicts come two cycles after the beat.

    Members
    -------
    cpl : In(stream.Signature(tlp_beat(width)))
    requester_id : In(16)
    waiting : In(tags)
        Tags whose completions are awaited.
    late : In(tags)
        Tags given up that may still be answered.
    tag : Out, info : In(tag_info)
        The tag looked up while its beat is offered, and what is known of it.
    fresh : In(1)
        Nothing has come yet for ``tag``.
    begin, begin_tag : Out
        Something has come for the tag.
    row, bank_data, bank_en
        Write of the reorder buffer, a row and DW and enable for each bank.
    finish, finish_tag : Out
        No more is awaited for the tag; ``broken`` with it if the host may still send some.
    spoil, spoil_tag : Out
        The tag's answer is not to be used.
    forget, forget_tag : Out
        The tag given up has had its last completion.
    unexpected, malformed : Out(1), faults : Out(CPL_FAULTS)
        One-cycle strobes. Unexpected is what nobody asked for, and what is not what was asked for.
    """
    def __init__(self, width, tags, slot_bytes, clients):
        self.width, self.tags, self.slot_bytes = width, tags, slot_bytes
        self.lanes = width // 32
        self.rows  = tags * slot_bytes // (width // 8)
        super().__init__({
            "cpl":          In(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "waiting":      In(tags),
            "late":         In(tags),
            "tag":          Out(range(tags)),
            "info":         In(tag_info(clients, slot_bytes)),
            "fresh":        In(1),
            "begin":        Out(1),
            "begin_tag":    Out(range(tags)),
            "row":          Out(range(self.rows)).array(self.lanes),
            "bank_data":    Out(32).array(self.lanes),
            "bank_en":      Out(self.lanes),
            "finish":       Out(1),
            "finish_tag":   Out(range(tags)),
            "broken":       Out(1),
            "spoil":        Out(1),
            "spoil_tag":    Out(range(tags)),
            "forget":       Out(1),
            "forget_tag":   Out(range(tags)),
            "unexpected":   Out(1),
            "malformed":    Out(1),
            "faults":       Out(CPL_FAULTS),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.lanes
        shift = lanes.bit_length() - 1
        slot_dws   = self.slot_bytes // 4
        slot_shift = slot_dws.bit_length() - 1
        head_beats = (3 + lanes - 1) // lanes
        head_lanes = 3 - (head_beats - 1) * lanes   # header DWs in the beat that ends the header

        # First stage: the beat, and the header as far as it has come.
        m.d.comb += self.cpl.ready.eq(1)
        a_valid = Signal()
        a_beat  = Signal(tlp_beat(self.width))
        a_head  = Signal()              # this beat ends the header
        a_body  = Signal()              # a beat after it
        index   = Signal(range(head_beats + 1))
        raw     = Signal(128)
        m.d.sync += a_valid.eq(self.cpl.valid)
        with m.If(self.cpl.valid):
            m.d.sync += [
                a_beat.eq(self.cpl.payload),
                a_head.eq(index == head_beats - 1),
                a_body.eq(index == head_beats),
            ]
            with m.If(index != head_beats):
                m.d.sync += index.eq(index + 1)
            with m.If(self.cpl.payload.last):
                m.d.sync += index.eq(0)
            with m.Switch(index):
                for k in range(head_beats):
                    with m.Case(k):
                        low, high = 32 * lanes * k, min(32 * lanes * (k + 1), 96)
                        m.d.sync += raw[low:high].eq(self.cpl.payload.data)

        # With it: what is known of the tag. What the completion before changes, in the two stages below, is seen here.
        header = Header(raw)
        progress = data.StructLayout({"pos": range(slot_dws + 1), "word": 5, "left": range(self.slot_bytes + 1)})
        m.submodules.progress = store = memory.Memory(shape=progress, depth=self.tags, init=[])
        w_port = store.write_port()
        r_port = store.read_port(domain="comb")

        finishing = Signal()   # third stage, below
        c_tag     = Signal(range(self.tags))
        a_tag     = Signal(range(self.tags))
        a_waiting = Signal()
        pos       = Signal(range(slot_dws + 1))
        word      = Signal(5)
        left      = Signal(range(self.slot_bytes + 1))
        offset    = Signal(2)
        dws       = Signal(range(slot_dws + 1))
        same      = Signal()   # the completion in the second stage is this tag's, too
        m.d.comb += [
            self.tag.eq(CompletionDw2(byteswap(self.cpl.payload.data.word_select(head_lanes - 1, 32))).tag),
            r_port.addr.eq(self.tag),
            same.eq(w_port.en & (a_tag == self.tag)),
        ]
        m.d.sync += [
            a_tag.eq(self.tag),
            a_waiting.eq(self.waiting.bit_select(self.tag, 1) & ~(finishing & (c_tag == self.tag))),
            pos.eq(Mux(self.fresh, 0, r_port.data.pos)),
            word.eq(Mux(self.fresh, self.info.word, r_port.data.word)),
            left.eq(Mux(self.fresh, self.info.len, r_port.data.left)),
            offset.eq(Mux(self.fresh & ~same, self.info.offset, 0)),
            dws.eq(self.info.dws),
        ]
        with m.If(same):
            m.d.sync += [pos.eq(w_port.data.pos), word.eq(w_port.data.word), left.eq(w_port.data.left)]

        # Second stage: the header's verdict.
        length  = Signal(11)
        goes_on = Signal(12)
        held    = Signal(14)   # bytes in this completion if it is not the last
        ours    = Signal()
        known   = Signal()
        m.d.comb += [
            length.eq(Mux(header.has_data, Cat(header.length, header.length == 0), 0)),
            goes_on.eq(pos + length),
            held.eq((length << 2) - offset),
            ours.eq((header.requester_id == self.requester_id) & (header.tag < self.tags) & header.is_cpl
                    & (header.type == TlpType.CPL.value)),
            known.eq(ours & a_waiting & ~(finishing & (c_tag == a_tag))),
        ]
        full    = goes_on == dws
        refused = (header.status != CplStatus.SC.value)
        # 2.3.2: Byte Count and Lower Address are those of what was left to come before this completion; Traffic Class and
        # Attributes are the request's, 0, but for ID-based ordering, which a completer decides about (2.2.6.4).
        wrong   = ~refused & (~header.has_data | (header.byte_count != left[:12]) | (goes_on > dws)
                              | (header.lower_address != Cat(offset, word)) | header.tc.any() | header.attr[:2].any())
        judge   = a_valid & a_head & ((a_beat.dws >= head_lanes))
        m.d.comb += [
            w_port.addr.eq(a_tag),
            w_port.en.eq(judge & known),
            w_port.data.pos.eq(goes_on),
            w_port.data.word.eq(word + length),
            w_port.data.left.eq(left - held),
            self.begin.eq(judge & known),
            self.begin_tag.eq(a_tag),
        ]
        # A late completion is the last one when it carries all that its Byte Count says is left.
        m.d.sync += self.forget.eq(judge & ours & ~known & self.late.bit_select(a_tag, 1)
                                   & (refused | (Cat(header.byte_count, header.byte_count == 0) + header.lower_address[:2]
                                                 <= (length << 2))))

        # Third stage: the DWs, lane by lane to the bank where each belongs. ``c_place`` is the place of lane 0.
        c_valid = Signal()
        c_known = Signal()
        c_store = Signal()
        c_ends  = Signal()     # last completion of its tag
        c_wrong = Signal()
        c_judge, c_refused, c_aborted, c_poisoned = Signal(), Signal(), Signal(), Signal()   # with its header
        c_beat  = Signal(tlp_beat(self.width))
        c_first = Signal(range(lanes + 1))   # lanes of header in this beat
        c_place = Signal(slot_shift + 2)
        c_left  = Signal(12)   # DWs of header and payload expected from here on
        m.d.sync += [
            c_valid.eq(judge | (a_valid & a_body)),
            c_beat.eq(a_beat),
            c_judge.eq(judge),
        ]
        with m.If(a_valid & a_head):
            m.d.sync += [
                c_known.eq(judge & known),
                c_store.eq(judge & known & ~wrong & ~refused),
                c_ends.eq(full | refused),
                c_wrong.eq(wrong),
                c_refused.eq(refused),
                c_aborted.eq(header.status == CplStatus.CA.value),
                c_poisoned.eq(header.ep),
                c_tag.eq(a_tag),
                c_first.eq(head_lanes),
                c_place.eq(pos - head_lanes),
                c_left.eq(length + head_lanes),
            ]
        with m.Elif(a_valid & a_body):
            m.d.sync += [
                c_first.eq(0),
                c_place.eq(c_place + lanes),
                c_left.eq(Mux(c_left > lanes, c_left - lanes, 0)),
            ]
        m.d.comb += [
            self.spoil.eq(c_judge & c_known & (c_refused | c_wrong | c_poisoned)),
            self.spoil_tag.eq(c_tag),
            # Of what does not match 2.3.2 permits this, and it is the milder.
            self.unexpected.eq(c_judge & (~c_known | c_wrong)),
            self.faults.poisoned.eq(c_judge & c_known & ~c_refused & ~c_wrong & c_poisoned),
            self.faults.aborted.eq(c_judge & c_known & c_aborted),
            self.faults.refused.eq(c_judge & c_known & c_refused & ~c_aborted),
            self.forget_tag.eq(c_tag),
        ]
        turn = c_place[:shift]
        for bank in range(lanes):
            source = Signal(range(lanes), name=f"source{bank}")
            valid  = Signal(name=f"valid{bank}")
            m.d.comb += [
                source.eq(bank - turn),
                valid.eq((source >= c_first) & (source < c_left) & (source < c_beat.dws)),
                self.row[bank].eq(Cat(((c_place >> shift) + (bank < turn))[:slot_shift - shift], c_tag)),
                self.bank_data[bank].eq(c_beat.data.word_select(source, 32)),
                self.bank_en[bank].eq(c_valid & c_store & valid),
            ]
        mismatch = c_left != c_beat.dws
        ending   = c_valid & c_beat.last
        m.d.comb += [
            self.malformed.eq((ending & mismatch) | (a_valid & a_beat.last & ~a_body & ~judge)),
            finishing.eq(ending & c_known & (c_ends | c_wrong | mismatch)),
            self.finish.eq(finishing),
            self.finish_tag.eq(c_tag),
            self.broken.eq(c_wrong | mismatch),
        ]
        return m


class Drain(wiring.Component):
    """Stream finished tags to their clients: a row a cycle, no cycle lost between tags of three rows or of several clients.

    Members
    -------
    ready : In(clients), head : In(tag).array(clients)
        The client's oldest tag is finished, and which it is. ``pop`` strobes in the cycle after it was taken, when neither
        counts for that client.
    tag : Out, info : In, failed : In(1)
        The tag looked up, what is known of it, and whether its answer is unusable.
    free : Out(1), free_tag
        The tag's slot has been read.
    row : Out, row_en : Out(1), row_data : In(width)
        Read of the reorder buffer, data one enabled cycle later.
    beats : Out(stream.Signature(read_beat(width))).array(clients)
    error : Out(1)
        One-cycle strobe: a request has failed.
    """
    def __init__(self, width, tags, slot_bytes, clients):
        self.width, self.tags, self.slot_bytes, self.clients = width, tags, slot_bytes, clients
        self.rows = tags * slot_bytes // (width // 8)
        super().__init__({
            "ready":    In(clients),
            "head":     In(range(tags)).array(clients),
            "pop":      Out(1),
            "pop_client": Out(range(clients)),
            "tag":      Out(range(tags)),
            "info":     In(tag_info(clients, slot_bytes)),
            "failed":   In(1),
            "free":     Out(1),
            "free_tag": Out(range(tags)),
            "row":      Out(range(self.rows)),
            "row_en":   Out(1),
            "row_data": In(width),
            "beats":    Out(stream.Signature(read_beat(width))).array(clients),
            "error":    Out(1),
            "busy":     Out(1),
            "reset":    In(1),
        })

    def elaborate(self, platform):
        m = Module()
        size = self.width // 8
        row_shift = (self.slot_bytes // size).bit_length() - 1

        # Choose.
        p_valid = Signal()
        p_take  = Signal()
        pick    = Signal(range(self.clients))
        p_client = Signal(range(self.clients))
        p_tag    = Signal(range(self.tags))
        # ``pick`` is the client of before only if there is no other, and that one is not ready in the cycle of ``pop``.
        gone     = Signal(self.clients)
        choose   = Signal()
        round_robin(m, self.ready, p_client, pick)
        m.d.comb += [
            choose.eq((self.ready & ~gone).any() & (~p_valid | p_take)),
            self.pop_client.eq(p_client),
            self.tag.eq(p_tag),
        ]
        m.d.sync += [self.pop.eq(choose), gone.eq(0)]
        with m.If(p_take):
            m.d.sync += p_valid.eq(0)
        with m.If(choose):
            m.d.sync += [p_valid.eq(1), p_client.eq(pick), p_tag.eq(Array(self.head)[pick]), gone.bit_select(pick, 1).eq(1)]

        # Address a row a cycle.
        advance  = Signal()
        a_valid  = Signal()
        a_client = Signal(range(self.clients))
        a_tag    = Signal(range(self.tags))
        a_row    = Signal(row_shift)
        a_left   = Signal(range(self.slot_bytes + 4))   # bytes, those before the first wanted one included
        a_offset = Signal(2)
        a_last   = Signal()
        a_error  = Signal()
        spoilt   = Signal(self.clients)                 # an earlier tag of the client's request failed
        failed   = self.failed | spoilt.bit_select(p_client, 1)
        end      = (a_left <= size) | a_error
        m.d.comb += [
            p_take.eq(p_valid & (~a_valid | (advance & end))),
            self.row.eq(Cat(a_row, a_tag)),
            self.row_en.eq(advance),
            self.free.eq(a_valid & advance & end),
            self.free_tag.eq(a_tag),
            self.error.eq(p_take & failed & self.info.last),
        ]
        with m.If(advance & a_valid):
            m.d.sync += [
                a_row.eq(a_row + 1),
                a_left.eq(a_left - size),
                a_offset.eq(0),
            ]
            with m.If(end):
                m.d.sync += a_valid.eq(0)
        with m.If(p_take):
            m.d.sync += [
                a_valid.eq(1),
                a_client.eq(p_client),
                a_tag.eq(p_tag),
                a_row.eq(0),
                a_left.eq(self.info.len + self.info.offset),
                a_offset.eq(self.info.offset),
                a_last.eq(self.info.last),
                a_error.eq(failed),
                spoilt.bit_select(p_client, 1).eq(failed & ~self.info.last),
            ]
        with m.If(self.reset):
            m.d.sync += spoilt.eq(0)

        # The row as read.
        b_valid  = Signal()
        b_client = Signal(range(self.clients))
        b_offset = Signal(2)
        b_count  = Signal(range(size + 1))
        b_last   = Signal()
        b_error  = Signal()
        with m.If(advance):
            m.d.sync += [
                b_valid.eq(a_valid & (~a_error | a_last)),
                b_client.eq(a_client),
                b_offset.eq(a_offset),
                b_count.eq(Mux(a_error, 0, Mux(end, a_left, size) - a_offset)),
                b_last.eq(end & a_last),
                b_error.eq(a_error),
            ]

        # The beat as delivered: turned after a register, block RAM is slow.
        m.submodules.out = out = Slice(data.StructLayout({
            "client": range(self.clients), "offset": 2, "beat": read_beat(self.width)}))
        beat = Signal.like(out.o.p.beat)
        m.d.comb += [
            advance.eq(out.i.ready),
            out.i.valid.eq(b_valid),
            out.i.p.client.eq(b_client),
            out.i.p.offset.eq(b_offset),
            out.i.p.beat.data.eq(self.row_data),
            out.i.p.beat.count.eq(b_count),
            out.i.p.beat.last.eq(b_last),
            out.i.p.beat.error.eq(b_error),
            beat.eq(out.o.p.beat),
            beat.data.eq(out.o.p.beat.data >> Cat(C(0, 3), out.o.p.offset)),
        ]
        for k, port in enumerate(self.beats):
            m.d.comb += [
                port.valid.eq(out.o.valid & (out.o.p.client == k)),
                port.payload.eq(beat),
            ]
            with m.If(out.o.p.client == k):
                m.d.comb += out.o.ready.eq(port.ready)
        m.d.comb += self.busy.eq(p_valid | a_valid | b_valid | out.o.valid)
        return m
