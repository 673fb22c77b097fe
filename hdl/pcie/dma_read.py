"""Read requests to Memory Read TLPs, and completions in any order to answers in order.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules", 2.3.1.1 "Data Return for Read Requests", 2.8 "Completion Timeout
Mechanism".
"""

from amaranth import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.dma import AreaPort, ReadPort, ReadReq, read_beat
from ..lib.slice import Slice
from .dma_areas import LOW_BITS, Areas
from .dma_budget import CompletionBudget
from .dma_reorder import Drain, Placer, tag_info
from .dma_write import byte_enables, cut_length
from .function_config import CPL_FAULTS
from .header import mem_header
from .tlp_stream import tlp_beat

__all__ = ["Reader"]


class Reader(wiring.Component):
    """Carry out read requests, many at a time; each client's answers come in the order of its requests.

    A request is cut at 4 KiB boundaries and to Max_Read_Request_Size (or ``slot_bytes``, if that is less), one tag to a TLP.
    Completions come in any order of tags; each has its place in a reorder buffer of ``tags * slot_bytes`` bytes. A tag
    that is not answered in ``timeout_cycles`` (to 1.5 times that) fails, and its number is not used until its late answer
    has come or the same time has passed again. The time in which the link takes nothing is not counted (2.8: it begins with the
    transmission); a tag is as much as half of ``timeout_cycles`` older than its TLP on the link.

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
    num_queues : int
        Virtqueues whose areas requests may count from.
    cpl_headers : int or None
        Completions that there is room for on their way here, see :class:`CompletionBudget`; None if they never wait. At least
        ``slot_bytes // 64 + 1``, else :exc:`ValueError`.

    Members
    -------
    reads : In(ReadPort(width)).array(clients)
    areas : In(AreaPort)
    cpl : In(stream.Signature(tlp_beat(width)))
        Completions; taken without fail in every cycle.
    tlp : Out(stream.Signature(tlp_beat(width)))
    requester_id : In(16), mrrs : In(3), ext_tag : In(1), bus_master : In(1)
        As configured. While ``bus_master`` is low no TLP is begun.
    credits : In(1)
        The link takes a read. While low no TLP is begun; what has begun has a tag, and has to leave.
    timeout_disable : In(1)
        As configured: wait for ever, but during ``stop``.
    stalled : In(1)
        A TLP waits for the link, whosever it is.
    stop : In(1)
        Accept no request and issue no TLP more; a request issued in part is not answered in full.
    reset : In(1)
        With ``stop`` and not ``busy``: forget failures of requests that ``stop`` has cut short.
    busy : Out(1)
        A tag is outstanding, or a beat not delivered.
    pending : Out(1)
        A read was issued and not answered.
    sent, error, timeout, unexpected, malformed : Out(1)
        One-cycle strobes: a TLP has left; a request has failed; a tag has timed out; a completion was not asked for, or
        not like this; a completion's length is wrong.
    faults : Out(CPL_FAULTS)
        Strobes.
    """
    @staticmethod
    def check(*, width, clients, tags, slot_bytes, timeout_cycles, cpl_headers):
        """Raise what the constructor would."""
        if width < 32 or width & (width - 1):
            raise ValueError(f"Width must be 32 times a power of 2, not {width!r}")
        if clients < 1:
            raise ValueError(f"Reader needs at least one client, not {clients!r}")
        if tags not in [1 << n for n in range(1, 9)]:
            raise ValueError(f"Number of tags must be a power of 2 from 2 to 256, not {tags!r}")
        if slot_bytes not in [1 << n for n in range(7, 13)]:
            raise ValueError(f"Slot must be a power of 2 from 128 to 4096 bytes, not {slot_bytes!r}")
        if cpl_headers is not None:
            CompletionBudget.check(slot_bytes=slot_bytes, headers=cpl_headers)
        if timeout_cycles < 2 * tags:
            raise ValueError(f"Timeout must be at least {2 * tags} cycles, not {timeout_cycles!r}")

    def __init__(self, *, width, clients, tags=32, slot_bytes=512, timeout_cycles=1 << 20, cpl_headers=None, num_queues=1):
        self.check(width=width, clients=clients, tags=tags, slot_bytes=slot_bytes, timeout_cycles=timeout_cycles,
                   cpl_headers=cpl_headers)
        self.cpl_headers, self.num_queues = cpl_headers, num_queues
        self.width, self.clients, self.tags = width, clients, tags
        self.slot_bytes, self.timeout_cycles = slot_bytes, timeout_cycles
        super().__init__({
            "reads":        In(ReadPort(width)).array(clients),
            "areas":        In(AreaPort),
            "cpl":          In(stream.Signature(tlp_beat(width))),
            "tlp":          Out(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "mrrs":         In(3),
            "ext_tag":      In(1),
            "bus_master":   In(1),
            "credits":      In(1, init=1),
            "timeout_disable": In(1),
            "stalled":      In(1),
            "stop":         In(1),
            "reset":        In(1),
            "busy":         Out(1),
            "pending":      Out(1),
            "sent":         Out(1),
            "error":        Out(1),
            "timeout":      Out(1),
            "unexpected":   Out(1),
            "malformed":    Out(1),
            "faults":       Out(CPL_FAULTS),
        })

    def elaborate(self, platform):
        m = Module()
        tags, lanes = self.tags, self.width // 32
        geometry = (self.width, tags, self.slot_bytes, self.clients)
        m.submodules.placer = placer = Placer(*geometry)
        m.submodules.drain  = drain  = Drain(*geometry)

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

        info = tag_info(self.clients, self.slot_bytes)
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
        # The client is chosen a cycle ahead: round robin and the request's way to the registers are a cycle each. What is
        # offered stays, but over a reset, which comes during ``stop``.
        last_client = Signal(range(self.clients))
        turn    = Signal(range(self.clients))
        pick    = Signal(range(self.clients))
        picked  = Signal()
        accept  = Signal()
        offered = Cat(port.req.valid for port in self.reads)
        request = Signal(ReadReq)
        round_robin(m, offered, last_client, turn)
        m.d.sync += [pick.eq(turn), picked.eq(offered.any() & ~accept & ~self.stop)]
        m.submodules.areas = areas = Areas(num_queues=self.num_queues)
        connect(m, flipped(self.areas), areas.set)
        addr   = Signal(64)
        low    = Signal(LOW_BITS + 1)
        carry  = Signal()
        relative = Signal()    # the high bits of where the area begins are to be added
        rest   = Signal(16)
        length = Signal(range(self.slot_bytes + 1))
        mask   = Signal((self.slot_bytes - 1).bit_length())
        m.d.sync += mask.eq((C(0x7f, 7) << self.mrrs) | ((1 << self.mrrs) - 1))

        next_tag = Signal(range(tags))
        last_tag = Signal(range(tags))
        tag_seen = Signal()    # ``tag_free`` is that of ``next_tag``
        tag_free = Signal()
        moves    = Signal()
        issue    = Signal()
        m.d.comb += [
            last_tag.eq(Mux(self.ext_tag, tags - 1, min(tags, 32) - 1)),
            moves.eq(issue | (tag_seen & ~tag_free)),
        ]
        # Where ``ext_tag`` goes, the next tag may be one that is not allowed any more.
        m.d.sync += [
            tag_seen.eq(~moves),
            tag_free.eq(~(used | late).bit_select(next_tag, 1) & (next_tag <= last_tag) & ~moves),
        ]
        with m.If(moves):
            m.d.sync += next_tag.eq(Mux(next_tag >= last_tag, 0, next_tag + 1))

        room     = Signal(init=1)   # for the completions of one read more

        raw     = Signal(128)
        head_dw = Signal(range(5))
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
                self.tlp.valid.eq(head_dw > lanes),
            ]

        idle = Signal()
        m.d.comb += accept.eq(idle & picked & ~self.stop)
        with m.Switch(pick):
            for k, port in enumerate(self.reads):
                with m.Case(k):
                    m.d.comb += [request.eq(port.req.payload), port.req.ready.eq(accept)]
        m.d.comb += [
            areas.queue.eq(request.queue),
            areas.area.eq(request.area),
            low.eq(request.addr[:LOW_BITS] + areas.low),
        ]
        dws, first_be, last_be = byte_enables(addr[:2], length)
        header, dw4 = mem_header(write=0, addr=addr, length=dws, first_be=first_be, last_be=last_be,
                                 requester_id=self.requester_id, tag=next_tag)
        m.d.comb += [
            i_write.addr.eq(next_tag),
            i_write.data.client.eq(last_client),
            i_write.data.offset.eq(addr[:2]),
            i_write.data.word.eq(addr[2:7]),
            i_write.data.len.eq(length),
            i_write.data.dws.eq(dws),
            i_write.data.last.eq(rest == length),
            i_write.en.eq(issue),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                # Where it is cut depends on the low bits alone. The others come a cycle later, from block RAM.
                m.d.sync += [
                    addr.eq(Cat(low[:LOW_BITS], request.addr[LOW_BITS:])),
                    carry.eq(low[LOW_BITS]),
                    relative.eq(1),
                    rest.eq(request.len),
                ]
                with m.If(accept):
                    m.d.sync += last_client.eq(pick)
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.sync += [length.eq(cut_length(addr, rest, mask)), relative.eq(0)]
                with m.If(relative):
                    m.d.sync += addr[LOW_BITS:].eq(addr[LOW_BITS:] + areas.high + carry)
                m.next = "HEAD"
            with m.State("HEAD"):
                with m.If(self.stop):
                    m.next = "IDLE"
                # Not while a TLP leaves: whether it does is late to know, and there is the next length to find anyway.
                with m.Elif(self.bus_master & self.credits & tag_free & room & ~self.tlp.valid):
                    m.d.comb += issue.eq(1)
                    m.d.sync += [
                        raw.eq(header),
                        head_dw.eq(3 + dw4),
                        self.tlp.valid.eq(1),
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
            s_read.addr.eq(drain.tag),             # as popped
        ]
        for k in range(self.clients):
            push = issue & (last_client == k)
            pop  = drain.pop & (drain.pop_client == k)
            m.d.comb += drain.head[k].eq(first[k])
            m.d.sync += drain.ready[k].eq(listed[k] & done.bit_select(first[k], 1) & ~pop)
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
        # Clients are far from here and from each other: no beat waits for a client's word within its cycle.
        near = [Slice(read_beat(self.width)) for _ in self.reads]
        for k, (slice, port) in enumerate(zip(near, self.reads)):
            m.submodules[f"near{k}"] = slice
            connect(m, drain.beats[k], slice.i)
            m.d.comb += [
                port.beat.payload.eq(slice.o.payload),
                port.beat.valid.eq(slice.o.valid),
                slice.o.ready.eq(port.beat.ready | self.stop),   # clients are about to be reset
            ]

        # Ageing: one tag a step, each tag twice in timeout_cycles; no step if the link took nothing since the last one was due.
        period  = self.timeout_cycles // (2 * tags)
        wait    = Signal(range(period))
        scan    = Signal(range(tags))
        blocked = Signal()
        step    = Signal()
        m.d.comb += step.eq((wait == 0) & ~blocked)
        m.d.sync += wait.eq(Mux(wait == 0, period - 1, wait - 1))
        with m.If(step):
            m.d.sync += scan.eq(scan + 1)
        with m.If(~self.stalled):
            m.d.sync += blocked.eq(0)
        with m.Elif(wait == 0):
            m.d.sync += blocked.eq(1)

        def one(condition, tag):
            return Mux(condition, C(1, tags) << tag, 0)[:tags]
        starts   = Signal(tags)
        finishes = Signal(tags)
        expires  = Signal(tags)
        retires  = Signal(tags)
        stepped  = Signal(tags)    # the tag whose turn it is, or none
        aged     = Signal(tags)
        ended    = Signal(tags)
        m.d.sync += stepped.eq(one(step, scan))
        m.d.comb += [
            starts.eq(one(issue, next_tag)),
            finishes.eq(one(placer.finish, placer.finish_tag) & waiting),
            aged.eq(stepped & age[1] & ~age[0]),
            expires.eq(aged & waiting & ~(self.timeout_disable & ~self.stop).replicate(tags)),
            self.pending.eq(waiting.any()),
            self.timeout.eq(expires.any()),
            retires.eq(one(drain.free, drain.free_tag)),
            ended.eq(aged | one(placer.forget, placer.forget_tag)),
        ]
        if self.cpl_headers is not None:
            m.submodules.budget = budget = CompletionBudget(
                tags=tags, slot_bytes=self.slot_bytes, headers=self.cpl_headers)
            stepped_tag = Signal(range(tags))
            m.d.sync += stepped_tag.eq(scan)
            m.d.comb += [
                room.eq(budget.ready),
                budget.issue.eq(issue),
                budget.tag.eq(next_tag),
                budget.offset.eq(addr[:6]),
                budget.length.eq(length),
                budget.late.eq(late),
                budget.finish.eq(finishes.any()),
                budget.finish_tag.eq(placer.finish_tag),
                budget.expire.eq((expires & ~finishes).any()),
                budget.expire_tag.eq(stepped_tag),
            ]
        broken = Mux(placer.broken, finishes, 0)
        m.d.sync += [
            used.eq(used & ~retires | starts),
            waiting.eq(waiting & ~finishes & ~expires | starts),
            done.eq((done | finishes | expires) & ~retires),
            bad.eq((bad | one(placer.spoil, placer.spoil_tag) | expires | broken) & ~starts),
            late.eq(late & ~ended | expires | broken),
            fresh.eq(fresh & ~one(placer.begin, placer.begin_tag) | starts),
            age[0].eq((age[0] ^ stepped) & ~starts & ~expires & ~broken),
            age[1].eq((age[1] ^ (stepped & age[0])) & ~starts & ~expires & ~broken),
        ]
        m.d.comb += [
            self.busy.eq(~idle | used.any() | drain.busy | Cat(slice.o.valid for slice in near).any() | self.tlp.valid),
            self.error.eq(drain.error),
            self.unexpected.eq(placer.unexpected),
            self.malformed.eq(placer.malformed),
            self.faults.eq(placer.faults),
        ]
        return m
