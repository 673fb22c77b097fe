"""Read requests to Memory Read TLPs, and completions in any order to answers in order.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules", 2.3.1.1 "Data Return for Read Requests", 2.8 "Completion Timeout
Mechanism".
"""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.dma import ReadPort, ReadReq, read_beat
from ..spec.pcie import CplStatus, TlpType
from .dma_write import byte_enables, cut_length
from .header import Header, mem_header
from .tlp_stream import tlp_beat

__all__ = ["Reader"]


def _tag_info(clients, slot_bytes):
    """What is known of a tag when its request leaves."""
    return data.StructLayout({
        "client": range(clients), "offset": 2, "len": range(slot_bytes + 1), "dws": range(slot_bytes // 4 + 1),
        "last": 1,
    })


class _Placer(wiring.Component):
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
    tag : Out(8), info : In(_tag_info)
        The tag looked up, and what is known of it.
    fresh : In(1)
        Nothing has come yet for ``tag``. ``begin`` strobes when something has.
    row, bank_data, bank_en
        Write of the reorder buffer, a row and DW and enable for each bank.
    finish, finish_tag : Out
        No more is awaited for the tag; ``broken`` with it if the host may still send some.
    spoil, spoil_tag : Out
        The tag's answer is not to be used.
    forget, forget_tag : Out
        The tag given up has had its last completion.
    unexpected, malformed : Out(1)
        One-cycle strobes.
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
            "info":         In(_tag_info(clients, slot_bytes)),
            "fresh":        In(1),
            "begin":        Out(1),
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

        # Second stage: the header's verdict. Progress is written here, so that the next header may follow at once.
        header = Header(raw)
        progress = data.StructLayout({"pos": range(slot_dws + 1), "left": range(self.slot_bytes + 1)})
        m.submodules.progress = store = memory.Memory(shape=progress, depth=self.tags, init=[])
        w_port = store.write_port()
        r_port = store.read_port(domain="comb")
        m.d.comb += [
            self.tag.eq(header.tag),
            r_port.addr.eq(header.tag),
            w_port.addr.eq(header.tag),
        ]

        finishing = Signal()   # third stage, below
        c_tag     = Signal(range(self.tags))
        pos     = Signal(range(slot_dws + 1))
        left    = Signal(range(self.slot_bytes + 1))
        offset  = Signal(2)
        length  = Signal(11)
        goes_on = Signal(12)
        held    = Signal(14)   # bytes in this completion if it is not the last
        ours    = Signal()
        known   = Signal()
        m.d.comb += [
            pos.eq(Mux(self.fresh, 0, r_port.data.pos)),
            left.eq(Mux(self.fresh, self.info.len, r_port.data.left)),
            offset.eq(Mux(self.fresh, self.info.offset, 0)),
            length.eq(Mux(header.has_data, Cat(header.length, header.length == 0), 0)),
            goes_on.eq(pos + length),
            held.eq((length << 2) - offset),
            ours.eq((header.requester_id == self.requester_id) & (header.tag < self.tags) & header.is_cpl
                    & (header.type == TlpType.CPL.value)),
            known.eq(ours & self.waiting.bit_select(self.tag, 1) & ~(finishing & (c_tag == self.tag))),
        ]
        full    = goes_on == self.info.dws
        refused = (header.status != CplStatus.SC.value)
        # 2.3.2: the Byte Count is what was left to come before this completion.
        wrong   = ~refused & (~header.has_data | (header.byte_count != left[:12]) | (goes_on > self.info.dws))
        judge   = a_valid & a_head & ((a_beat.dws >= head_lanes))
        m.d.comb += [
            w_port.en.eq(judge & known),
            w_port.data.pos.eq(goes_on),
            w_port.data.left.eq(left - held),
            self.begin.eq(judge & known),
            self.spoil.eq(judge & known & (refused | wrong | header.ep)),
            self.spoil_tag.eq(self.tag),
            self.unexpected.eq(judge & ~known),
            # A late completion is the last one when it carries all that its Byte Count says is left.
            self.forget.eq(judge & ours & ~known & self.late.bit_select(self.tag, 1)
                           & (refused | (Cat(header.byte_count, header.byte_count == 0) + header.lower_address[:2]
                                         <= (length << 2)))),
            self.forget_tag.eq(self.tag),
        ]

        # Third stage: the DWs, lane by lane to the bank where each belongs. ``c_place`` is the place of lane 0.
        c_valid = Signal()
        c_known = Signal()
        c_store = Signal()
        c_ends  = Signal()     # last completion of its tag
        c_wrong = Signal()
        c_beat  = Signal(tlp_beat(self.width))
        c_first = Signal(range(lanes + 1))   # lanes of header in this beat
        c_place = Signal(slot_shift + 2)
        c_left  = Signal(12)   # DWs of header and payload expected from here on
        m.d.sync += [
            c_valid.eq(a_valid & (a_head | a_body)),
            c_beat.eq(a_beat),
        ]
        with m.If(a_valid & a_head):
            m.d.sync += [
                c_known.eq(judge & known),
                c_store.eq(judge & known & ~wrong & ~refused),
                c_ends.eq(full | refused),
                c_wrong.eq(wrong),
                c_tag.eq(self.tag),
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


class _Drain(wiring.Component):
    """Stream finished tags to their clients: a row a cycle, no cycle lost between tags.

    Members
    -------
    ready : In(clients), head : In(tag).array(clients)
        The client's oldest tag is finished, and which it is. ``pop`` strobes when it is taken.
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
            "info":     In(_tag_info(clients, slot_bytes)),
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
        round_robin(m, self.ready, p_client, pick)
        m.d.comb += [
            self.pop.eq(self.ready.any() & (~p_valid | p_take)),
            self.pop_client.eq(pick),
            self.tag.eq(p_tag),
        ]
        with m.If(p_take):
            m.d.sync += p_valid.eq(0)
        with m.If(self.pop):
            m.d.sync += [p_valid.eq(1), p_client.eq(pick), p_tag.eq(Array(self.head)[pick])]

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

        # The beat as delivered.
        o_valid  = Signal()
        o_client = Signal(range(self.clients))
        o_beat   = Signal(read_beat(self.width))
        o_ready  = Signal()
        m.d.comb += advance.eq(~o_valid | o_ready)
        with m.If(advance):
            m.d.sync += [
                o_valid.eq(b_valid),
                o_client.eq(b_client),
                o_beat.data.eq(self.row_data >> Cat(C(0, 3), b_offset)),
                o_beat.count.eq(b_count),
                o_beat.last.eq(b_last),
                o_beat.error.eq(b_error),
            ]
        for k, port in enumerate(self.beats):
            m.d.comb += [
                port.valid.eq(o_valid & (o_client == k)),
                port.payload.eq(o_beat),
            ]
            with m.If(o_client == k):
                m.d.comb += o_ready.eq(port.ready)
        m.d.comb += self.busy.eq(p_valid | a_valid | b_valid | o_valid)
        return m


class Reader(wiring.Component):
    """Carry out read requests, many at a time; each client's answers come in the order of its requests.

    A request is cut at multiples of Max_Read_Request_Size (or ``slot_bytes``, if that is less), one tag to a TLP.
    Completions come in any order of tags; each has its place in a reorder buffer of ``tags * slot_bytes`` bytes. A tag
    that is not answered in ``timeout_cycles`` (to 1.5 times that) fails, and its number is not used until its late answer
    has come or the same time has passed again.

    Parameters
    ----------
    width : int
        Datapath, bits: 32, 64, 128, ..., else :exc:`ValueError`.
    clients : int
        Number of read ports, at least 1, else :exc:`ValueError`.
    tags : int
        Reads outstanding: a power of 2 from 2 to 256, else :exc:`ValueError`. Above 32 they need ``ext_tag``.
    slot_bytes : int
        Largest read: a power of 2 from 128 to 4096, else :exc:`ValueError`.
    timeout_cycles : int
        At least ``2 * tags``, else :exc:`ValueError`.

    Members
    -------
    reads : In(ReadPort(width)).array(clients)
    cpl : In(stream.Signature(tlp_beat(width)))
        Completions; taken without fail in every cycle.
    tlp : Out(stream.Signature(tlp_beat(width)))
    requester_id : In(16), mrrs : In(3), ext_tag : In(1), bus_master : In(1)
        As configured. While ``bus_master`` is low no TLP is begun.
    stop : In(1)
        Accept no request and issue no TLP more; a request issued in part is not answered in full.
    reset : In(1)
        With ``stop`` and not ``busy``: forget failures of requests that ``stop`` has cut short.
    busy : Out(1)
        A tag is outstanding, or a beat not delivered.
    sent, error, timeout, unexpected, malformed : Out(1)
        One-cycle strobes: a TLP has left; a request has failed; a tag has timed out; a completion was not asked for; a
        completion's length is wrong.
    """
    def __init__(self, *, width, clients, tags=32, slot_bytes=512, timeout_cycles=1 << 20):
        if width < 32 or width & (width - 1):
            raise ValueError(f"Width must be 32 times a power of 2, not {width!r}")
        if clients < 1:
            raise ValueError(f"Reader needs at least one client, not {clients!r}")
        if tags not in [1 << n for n in range(1, 9)]:
            raise ValueError(f"Number of tags must be a power of 2 from 2 to 256, not {tags!r}")
        if slot_bytes not in [1 << n for n in range(7, 13)]:
            raise ValueError(f"Slot must be a power of 2 from 128 to 4096 bytes, not {slot_bytes!r}")
        if timeout_cycles < 2 * tags:
            raise ValueError(f"Timeout must be at least {2 * tags} cycles, not {timeout_cycles!r}")
        self.width, self.clients, self.tags = width, clients, tags
        self.slot_bytes, self.timeout_cycles = slot_bytes, timeout_cycles
        super().__init__({
            "reads":        In(ReadPort(width)).array(clients),
            "cpl":          In(stream.Signature(tlp_beat(width))),
            "tlp":          Out(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "mrrs":         In(3),
            "ext_tag":      In(1),
            "bus_master":   In(1),
            "stop":         In(1),
            "reset":        In(1),
            "busy":         Out(1),
            "sent":         Out(1),
            "error":        Out(1),
            "timeout":      Out(1),
            "unexpected":   Out(1),
            "malformed":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        tags, lanes = self.tags, self.width // 32
        geometry = (self.width, tags, self.slot_bytes, self.clients)
        m.submodules.placer = placer = _Placer(*geometry)
        m.submodules.drain  = drain  = _Drain(*geometry)

        # Reorder buffer: a bank for each DW of a row.
        for bank in range(lanes):
            m.submodules[f"bank{bank}"] = mem = memory.Memory(shape=32, depth=placer.rows, init=[])
            w_port, r_port = mem.write_port(), mem.read_port()
            m.d.comb += [
                w_port.addr.eq(placer.row[bank]),
                w_port.data.eq(placer.bank_data[bank]),
                w_port.en.eq(placer.bank_en[bank]),
                r_port.addr.eq(drain.row),
                r_port.en.eq(drain.row_en),
                drain.row_data.word_select(bank, 32).eq(r_port.data),
            ]

        # A tag is *used* from its request until its slot has been read, *waiting* or *done* meanwhile; and *late*
        # from a timeout until nothing can come any more.
        used    = Signal(tags)
        waiting = Signal(tags)
        done    = Signal(tags)
        bad     = Signal(tags)
        late    = Signal(tags)
        fresh   = Signal(tags)
        age     = [Signal(tags, name="age0"), Signal(tags, name="age1")]

        info = _tag_info(self.clients, self.slot_bytes)
        m.submodules.infos = infos = memory.Memory(shape=info, depth=tags, init=[])
        i_write = infos.write_port()
        i_place = infos.read_port(domain="comb")
        i_drain = infos.read_port(domain="comb")
        connect(m, flipped(self.cpl), placer.cpl)
        m.d.comb += [
            placer.requester_id.eq(self.requester_id),
            placer.waiting.eq(waiting),
            placer.late.eq(late),
            i_place.addr.eq(placer.tag),
            placer.info.eq(i_place.data),
            placer.fresh.eq(fresh.bit_select(placer.tag, 1)),
            i_drain.addr.eq(drain.tag),
            drain.info.eq(i_drain.data),
            drain.failed.eq(bad.bit_select(drain.tag, 1)),
            drain.reset.eq(self.reset),
        ]

        # Requests: accept, cut (CUT), build the header (HEAD).
        last_client = Signal(range(self.clients))
        pick    = Signal(range(self.clients))
        offered = Cat(port.req.valid for port in self.reads)
        request = Signal(ReadReq)
        round_robin(m, offered, last_client, pick)
        addr   = Signal(64)
        rest   = Signal(16)
        length = Signal(range(self.slot_bytes + 1))
        mask   = Signal((self.slot_bytes - 1).bit_length())
        m.d.sync += mask.eq((C(0x7f, 7) << self.mrrs) | ((1 << self.mrrs) - 1))

        next_tag = Signal(range(tags))
        last_tag = Signal(range(tags))
        tag_free = Signal()
        issue    = Signal()
        m.d.comb += [
            last_tag.eq(Mux(self.ext_tag, tags - 1, min(tags, 32) - 1)),
            tag_free.eq(~(used | late).bit_select(next_tag, 1)),
        ]
        with m.If(issue | ~tag_free):
            m.d.sync += next_tag.eq(Mux(next_tag >= last_tag, 0, next_tag + 1))

        raw     = Signal(128)
        head_dw = Signal(range(5))
        m.d.comb += self.tlp.valid.eq(head_dw != 0)
        leaving = self.tlp.valid & self.tlp.ready & self.tlp.payload.last
        m.d.comb += [
            self.tlp.payload.data.eq(raw),
            self.tlp.payload.dws.eq(Mux(head_dw > lanes, lanes, head_dw)),
            self.tlp.payload.last.eq(head_dw <= lanes),
            self.sent.eq(leaving),
        ]
        with m.If(self.tlp.ready & self.tlp.valid):
            m.d.sync += [
                raw.eq(raw >> self.width),
                head_dw.eq(Mux(head_dw > lanes, head_dw - lanes, 0)),
            ]

        idle = Signal()
        with m.Switch(pick):
            for k, port in enumerate(self.reads):
                with m.Case(k):
                    m.d.comb += request.eq(port.req.payload)
                    m.d.comb += port.req.ready.eq(idle & port.req.valid & ~self.stop)
        dws, first_be, last_be = byte_enables(addr[:2], length)
        header, dw4 = mem_header(write=0, addr=addr, length=dws, first_be=first_be, last_be=last_be,
                                 requester_id=self.requester_id, tag=next_tag)
        m.d.comb += [
            i_write.addr.eq(next_tag),
            i_write.data.client.eq(last_client),
            i_write.data.offset.eq(addr[:2]),
            i_write.data.len.eq(length),
            i_write.data.dws.eq(dws),
            i_write.data.last.eq(rest == length),
            i_write.en.eq(issue),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                with m.If(offered.any() & ~self.stop):
                    m.d.sync += [
                        last_client.eq(pick),
                        addr.eq(request.addr),
                        rest.eq(request.len),
                    ]
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.sync += length.eq(cut_length(addr, rest, mask))
                m.next = "HEAD"
            with m.State("HEAD"):
                with m.If(self.stop):
                    m.next = "IDLE"
                with m.Elif(self.bus_master & tag_free & (~self.tlp.valid | leaving)):
                    m.d.comb += issue.eq(1)
                    m.d.sync += [
                        raw.eq(header),
                        head_dw.eq(3 + dw4),
                        addr.eq(addr + length),
                        rest.eq(rest - length),
                    ]
                    with m.If(rest == length):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "CUT"

        # Each client's tags in order: lists through one memory of successors.
        m.submodules.successors = successors = memory.Memory(shape=range(tags), depth=tags, init=[])
        s_write = successors.write_port()
        s_read  = successors.read_port(domain="comb")
        first  = Array(Signal(range(tags), name=f"first{k}") for k in range(self.clients))
        newest = Array(Signal(range(tags), name=f"newest{k}") for k in range(self.clients))
        listed = Signal(self.clients)
        m.d.comb += [
            s_write.addr.eq(newest[last_client]),
            s_write.data.eq(next_tag),
            s_write.en.eq(issue & listed.bit_select(last_client, 1)),   # else that tag is another list's by now
            s_read.addr.eq(first[drain.pop_client]),
        ]
        for k in range(self.clients):
            push = issue & (last_client == k)
            pop  = drain.pop & (drain.pop_client == k)
            m.d.comb += [
                drain.head[k].eq(first[k]),
                drain.ready[k].eq(listed[k] & done.bit_select(first[k], 1)),
            ]
            with m.If(push):
                m.d.sync += [newest[k].eq(next_tag), listed[k].eq(1)]
            with m.If(pop):
                with m.If(first[k] != newest[k]):
                    m.d.sync += first[k].eq(s_read.data)
                with m.Elif(push):
                    m.d.sync += first[k].eq(next_tag)
                with m.Else():
                    m.d.sync += listed[k].eq(0)
            with m.Elif(push & ~listed[k]):
                m.d.sync += first[k].eq(next_tag)
        for k, port in enumerate(self.reads):
            connect(m, drain.beats[k], flipped(port.beat))

        # Ageing: one tag a step, each tag twice in timeout_cycles.
        period = self.timeout_cycles // (2 * tags)
        wait   = Signal(range(period))
        scan   = Signal(range(tags))
        step   = Signal()
        aged   = Signal()
        m.d.comb += [
            step.eq(wait == 0),
            aged.eq(step & (age[1] & ~age[0]).bit_select(scan, 1)),
            self.timeout.eq(aged & waiting.bit_select(scan, 1)),
        ]
        m.d.sync += wait.eq(Mux(step, period - 1, wait - 1))
        with m.If(step):
            m.d.sync += scan.eq(scan + 1)

        def one(condition, tag):
            return Mux(condition, C(1, tags) << tag, 0)[:tags]
        starts   = Signal(tags)
        finishes = Signal(tags)
        expires  = Signal(tags)
        retires  = Signal(tags)
        stepped  = Signal(tags)
        ended    = Signal(tags)
        m.d.comb += [
            starts.eq(one(issue, next_tag)),
            finishes.eq(one(placer.finish, placer.finish_tag) & waiting),
            expires.eq(one(self.timeout, scan)),
            retires.eq(one(drain.free, drain.free_tag)),
            stepped.eq(one(step, scan)),
            ended.eq(one(aged, scan) | one(placer.forget, placer.forget_tag)),
        ]
        broken = Mux(placer.broken, finishes, 0)
        m.d.sync += [
            used.eq(used & ~retires | starts),
            waiting.eq(waiting & ~finishes & ~expires | starts),
            done.eq((done | finishes | expires) & ~retires),
            bad.eq((bad | one(placer.spoil, placer.spoil_tag) | expires | broken) & ~starts),
            late.eq(late & ~ended | expires | broken),
            fresh.eq(fresh & ~one(placer.begin, placer.tag) | starts),
            age[0].eq((age[0] ^ stepped) & ~starts & ~expires & ~broken),
            age[1].eq((age[1] ^ (stepped & age[0])) & ~starts & ~expires & ~broken),
        ]
        m.d.comb += [
            self.busy.eq(~idle | used.any() | drain.busy | self.tlp.valid),
            self.error.eq(drain.error),
            self.unexpected.eq(placer.unexpected),
            self.malformed.eq(placer.malformed),
        ]
        return m
