"""Completions into the reorder buffer by tag.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules", 2.3.2 "Completion Handling Rules".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..spec.pcie import CompletionDw2, CplStatus, TlpType
from .dma_seams import CompletionLookup, Verdict, bank_write
from .function_config import CPL_FAULTS
from .header import Header, byteswap
from .tlp_stream import tlp_beat

__all__ = ["CompletionJudge", "Placer", "ReorderBuffer"]


def judged(width, tags, slot_bytes):
    """A beat of a completion, judged.

    ``valid``: it belongs to a completion whose header has come; ``head``: it ends a header, or is where that was cut. With
    ``head``: ``pos``, the place of the first DW of data in the slot of ``tag``; ``length``, DWs. ``known``: the tag was awaited;
    ``wrong``: this is not what was asked for; ``refused``, ``aborted``: by its status; ``poisoned``; ``bad``: some completion
    of the tag so far was; ``ends``: nothing is left to come; ``late``: this is the last one of a tag that was given up.
    """
    return data.StructLayout({
        "valid": 1, "head": 1, "beat": tlp_beat(width), "tag": range(tags), "pos": range(slot_bytes // 4), "length": 11,
        "known": 1, "wrong": 1, "refused": 1, "aborted": 1, "poisoned": 1, "bad": 1, "ends": 1, "late": 1,
    })


def header_place(lanes):
    """Beat in which a completion's header ends, from 0, and how many DWs of it are in there."""
    beats = (3 + lanes - 1) // lanes
    return beats - 1, 3 - (beats - 1) * lanes


class CompletionJudge(wiring.Component):
    """Compare the headers of completions with what is known of their tags.

    Takes a beat every cycle, and gives it out in the next one.

    Members
    -------
    cpl : In(stream.Signature(tlp_beat(width)))
    requester_id : In(16)
    look : Out(CompletionLookup)
        Asked while the beat is offered.
    verdict : In(Verdict)
        What the completions given out have done. The looked-up tag may be the same one, and the table does not know yet.
    o : Out(judged(width, tags, slot_bytes))
    cut : Out(1)
        Strobe: a TLP that ended within its header.
    """
    def __init__(self, width, tags, slot_bytes):
        self.width, self.tags, self.slot_bytes = width, tags, slot_bytes
        super().__init__({
            "cpl":          In(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "look":         Out(CompletionLookup(tags, slot_bytes)),
            "verdict":      In(Verdict(tags)),
            "o":            Out(judged(width, tags, slot_bytes)),
            "cut":          Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, o, look, verdict = self.width // 32, self.o, self.look, self.verdict
        head_beat, head_lanes = header_place(lanes)

        # First stage: the beat, and the header as far as it has come.
        m.d.comb += self.cpl.ready.eq(1)
        valid = Signal()
        beat  = Signal(tlp_beat(self.width))
        head  = Signal()              # this beat ends the header
        body  = Signal()              # a beat after it
        index = Signal(range(head_beat + 2))
        raw   = Signal(128)
        m.d.sync += valid.eq(self.cpl.valid)
        with m.If(self.cpl.valid):
            m.d.sync += [beat.eq(self.cpl.payload), head.eq(index == head_beat), body.eq(index == head_beat + 1)]
            with m.If(index != head_beat + 1):
                m.d.sync += index.eq(index + 1)
            with m.If(self.cpl.payload.last):
                m.d.sync += index.eq(0)
            with m.Switch(index):
                for k in range(head_beat + 1):
                    with m.Case(k):
                        low, high = 32 * lanes * k, min(32 * lanes * (k + 1), 96)
                        m.d.sync += raw[low:high].eq(self.cpl.payload.data)

        # With it: what is known of the tag. What the completion before changes, in the two stages below, is seen here.
        progress = data.StructLayout({"pos": range(self.slot_bytes // 4), "bad": 1})
        m.submodules.progress = store = memory.Memory(shape=progress, depth=self.tags, init=[])
        w_port, r_port = store.write_port(), store.read_port(domain="comb")
        tag     = Signal(range(self.tags))
        waiting = Signal()
        late    = Signal()
        now     = Signal(progress)
        word    = Signal(5)
        offset  = Signal(2)
        end     = Signal(range(self.slot_bytes + 1))
        same    = Signal()   # the completion in the second stage is this tag's, too
        ended   = Signal()   # by the completion in the third stage
        m.d.comb += [
            look.tag.eq(CompletionDw2(byteswap(self.cpl.payload.data.word_select(head_lanes - 1, 32))).tag),
            r_port.addr.eq(look.tag),
            same.eq(w_port.en & (tag == look.tag)),
            ended.eq(verdict.finish & (verdict.tag == look.tag)),
        ]
        m.d.sync += [
            tag.eq(look.tag),
            waiting.eq(look.waiting & ~ended),
            late.eq(look.late | (ended & verdict.broken)),
            now.eq(Mux(same, w_port.data, Mux(look.fresh, 0, r_port.data))),
            word.eq(look.info.word),
            offset.eq(Mux(look.fresh & ~same, look.info.offset, 0)),
            end.eq(look.info.end),
        ]

        # Second stage: the header's verdict.
        header, dw2 = Header(raw), CompletionDw2(byteswap(raw.word_select(2, 32)))
        judge, ours, whole = Signal(), Signal(), Signal()
        length = Signal(11)
        begins = Signal(7)     # where the completion has to begin
        left   = Signal(14)    # bytes to come, from the beginning of the DW on, says the header
        wanted = Signal(14)    # the same as it has to be
        spare  = Signal(signed(15))   # bytes more in this completion than those
        m.d.comb += [
            judge.eq(valid & head & (beat.dws >= head_lanes)),
            ours.eq((dw2.requester_id == self.requester_id) & (dw2.tag < self.tags) & header.is_cpl
                    & (header.type == TlpType.CPL.value)),
            length.eq(Mux(header.has_data, Cat(header.length, header.length == 0), 0)),
            begins.eq(Cat(offset, (word + now.pos)[:5])),
            left.eq(Cat(header.byte_count, header.byte_count == 0) + header.lower_address[:2]),
            wanted.eq(Cat(end[:2], (end[2:] - now.pos)[:12])),
            spare.eq((length << 2) - left),
            whole.eq(~spare[-1]),
        ]
        refused = header.status != CplStatus.SC.value
        # 2.3.2: Byte Count and Lower Address are those of what was left to come before this completion; Traffic Class and
        # Attributes are the request's, 0, but for ID-based ordering, which a completer decides about (2.2.6.4).
        wrong   = ~refused & (~header.has_data | (left != wanted) | (whole & spare[2:-1].any())
                              | (header.lower_address != begins) | header.tc.any() | header.attr[:2].any())
        known   = judge & ours & waiting & ~(verdict.finish & (verdict.tag == tag))
        m.d.comb += [
            w_port.addr.eq(tag),
            w_port.en.eq(known),
            w_port.data.pos.eq(now.pos + length),
            w_port.data.bad.eq(now.bad | header.ep),
            look.begin.eq(known),
            look.begin_tag.eq(tag),
            self.cut.eq(valid & beat.last & ~body & ~judge),
            o.valid.eq(judge | (valid & body)),
            o.head.eq(valid & head),
            o.beat.eq(beat),
            o.tag.eq(tag),
            o.pos.eq(now.pos),
            o.length.eq(length),
            o.known.eq(known),
            o.wrong.eq(wrong),
            o.refused.eq(refused),
            o.aborted.eq(header.status == CplStatus.CA.value),
            o.poisoned.eq(header.ep),
            o.bad.eq(w_port.data.bad),
            o.ends.eq(whole | refused),
            # A late completion is the last one when it carries all that its Byte Count says is left.
            o.late.eq(judge & ours & ~known & late & (refused | whole)),
        ]
        return m


class Placer(wiring.Component):
    """Check completions against their tags, and write their DWs where they belong in the reorder buffer.

    Takes a beat every cycle; its verdicts come two cycles after the beat.

    Members
    -------
    cpl : In(stream.Signature(tlp_beat(width)))
    requester_id : In(16)
    look : Out(CompletionLookup)
    verdict : Out(Verdict)
    banks : Out(bank_write(rows)).array(width // 32)
        Write of the reorder buffer.
    unexpected, malformed : Out(1), faults : Out(CPL_FAULTS)
        One-cycle strobes. A completion is unexpected if no request has its tag, or if it does not fit the request that has.
    """
    def __init__(self, width, tags, slot_bytes):
        self.width, self.tags, self.slot_bytes = width, tags, slot_bytes
        self.rows = tags * slot_bytes // (width // 8)
        super().__init__({
            "cpl":          In(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "look":         Out(CompletionLookup(tags, slot_bytes)),
            "verdict":      Out(Verdict(tags)),
            "banks":        Out(bank_write(self.rows)).array(width // 32),
            "unexpected":   Out(1),
            "malformed":    Out(1),
            "faults":       Out(CPL_FAULTS),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        shift = lanes.bit_length() - 1
        slot_shift = (self.slot_bytes // 4).bit_length() - 1
        _, head_lanes = header_place(lanes)
        m.submodules.judge = judge = CompletionJudge(self.width, self.tags, self.slot_bytes)
        connect(m, flipped(self.cpl), judge.cpl)
        connect(m, judge.look, flipped(self.look))
        verdict, came = self.verdict, judge.o
        connect(m, verdict, judge.verdict)
        m.d.comb += judge.requester_id.eq(self.requester_id)

        # Third stage: ``now`` is the beat, with what its header said. ``place`` is where lane 0 belongs in the slot.
        now   = Signal.like(came)
        start = Signal()                 # the header's verdict is new
        place = Signal(slot_shift)
        left  = Signal(signed(13))       # DWs of header and payload expected from here on
        m.d.sync += [now.valid.eq(came.valid), now.head.eq(came.head), now.beat.eq(came.beat), start.eq(came.head & came.valid)]
        with m.If(came.head):
            m.d.sync += [now.eq(came), place.eq(came.pos - head_lanes), left.eq(came.length + head_lanes)]
        with m.Elif(came.valid):
            m.d.sync += place.eq(place + lanes)
            with m.If(left >= 0):
                m.d.sync += left.eq(left - lanes)

        stores = Signal()
        m.d.comb += stores.eq(now.valid & now.known & ~now.wrong & ~now.refused)
        turn = place[:shift]
        for k, bank in enumerate(self.banks):
            source = Signal(range(lanes), name=f"source{k}")
            m.d.comb += [
                source.eq(k - turn),
                bank.row.eq(Cat(((place >> shift) + (k < turn))[:slot_shift - shift], now.tag)),
                bank.data.eq(now.beat.data.word_select(source, 32)),
                bank.en.eq(stores & (~now.head | (source >= head_lanes)) & (source < now.beat.dws)),
            ]
        mismatch = left != now.beat.dws
        ending   = now.valid & now.beat.last
        m.d.comb += [
            verdict.tag.eq(now.tag),
            verdict.valid.eq((ending & now.known) | verdict.forget),
            verdict.finish.eq(ending & now.known & (now.ends | now.wrong | mismatch)),
            verdict.broken.eq(now.wrong | mismatch),
            verdict.bad.eq(now.refused | now.bad),
            verdict.forget.eq(start & now.late),
            # Of what does not match 2.3.2 permits this, and it is the milder.
            self.unexpected.eq(start & (~now.known | now.wrong)),
            self.malformed.eq((ending & mismatch) | judge.cut),
            self.faults.poisoned.eq(start & now.known & ~now.refused & ~now.wrong & now.poisoned),
            self.faults.aborted.eq(start & now.known & now.aborted),
            self.faults.refused.eq(start & now.known & now.refused & ~now.aborted),
        ]
        return m


class ReorderBuffer(wiring.Component):
    """``rows`` of ``width`` bits: a bank of block RAM for each DW.

    Members
    -------
    banks : In(bank_write(rows)).array(width // 32)
    row : In(range(rows)), row_en : In(1), row_data : Out(width)
        Data is that of the last row read with ``row_en``, from the next cycle on.
    """
    def __init__(self, width, rows):
        self.width, self.rows = width, rows
        super().__init__({
            "banks":    In(bank_write(rows)).array(width // 32),
            "row":      In(range(rows)),
            "row_en":   In(1),
            "row_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        for k, bank in enumerate(self.banks):
            m.submodules[f"bank{k}"] = mem = memory.Memory(shape=32, depth=self.rows, init=[])
            write, read = mem.write_port(), mem.read_port()
            m.d.comb += [
                write.addr.eq(bank.row),
                write.data.eq(bank.data),
                write.en.eq(bank.en),
                read.addr.eq(self.row),
                read.en.eq(self.row_en),
                self.row_data.word_select(k, 32).eq(read.data),
            ]
        return m
