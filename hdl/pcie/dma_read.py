"""Read requests to Memory Read TLPs, and completions in any order to answers in order.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules", 2.3.1.1 "Data Return for Read Requests", 2.8 "Completion Timeout
Mechanism".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.dma import AreaPort, ReadPort
from .dma_budget import CompletionBudget
from .dma_drain import Answers, Drain
from .dma_lists import Lists
from .dma_reorder import Placer, ReorderBuffer
from .dma_requests import Requests
from .dma_tags import Tags
from .function_config import CPL_FAULTS
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
        sizes = {"tags": self.tags, "slot_bytes": self.slot_bytes, "clients": self.clients}
        m.submodules.requests = requests = Requests(width=self.width, num_queues=self.num_queues, **sizes)
        m.submodules.tags     = tags     = Tags(timeout_cycles=self.timeout_cycles, **sizes)
        m.submodules.lists    = lists    = Lists(**sizes)
        m.submodules.placer   = placer   = Placer(self.width, self.tags, self.slot_bytes)
        m.submodules.buffer   = buffer   = ReorderBuffer(self.width, placer.rows)
        m.submodules.drain    = drain    = Drain(self.width, **sizes)
        m.submodules.answers  = answers  = Answers(self.width, self.clients)

        for k, port in enumerate(self.reads):
            connect(m, flipped(port.req), requests.reqs[k])
            connect(m, answers.beats[k], flipped(port.beat))
        connect(m, flipped(self.areas), requests.areas)
        connect(m, requests.tlp, flipped(self.tlp))
        connect(m, requests.issue, tags.issue)
        connect(m, requests.issue, lists.issue)
        connect(m, tags.ended, lists.ended)
        connect(m, flipped(self.cpl), placer.cpl)
        connect(m, placer.look, tags.place)
        connect(m, placer.verdict, tags.verdict)
        connect(m, drain.look, tags.answer)
        connect(m, drain.o, answers.i)
        for source, bank in zip(placer.banks, buffer.banks):
            connect(m, source, bank)
        room = Signal(init=1)   # for the completions of one read more
        m.d.comb += [
            requests.requester_id.eq(self.requester_id),
            requests.mrrs.eq(self.mrrs),
            requests.permit.eq(self.bus_master & self.credits & room),
            requests.stop.eq(self.stop),
            requests.tag.eq(tags.tag),
            requests.free.eq(tags.free),
            tags.ext_tag.eq(self.ext_tag),
            tags.timeout_disable.eq(self.timeout_disable),
            tags.stalled.eq(self.stalled),
            tags.stop.eq(self.stop),
            tags.next.eq(lists.next),
            lists.next_ended.eq(tags.next_ended),
            lists.client.eq(drain.client),
            lists.pop.eq(drain.pop),
            placer.requester_id.eq(self.requester_id),
            drain.ready.eq(lists.ready),
            drain.head.eq(lists.head),
            drain.row_data.eq(buffer.row_data),
            drain.reset.eq(self.reset),
            buffer.row.eq(drain.row),
            buffer.row_en.eq(drain.row_en),
            answers.discard.eq(self.stop),   # clients are about to be reset
            self.busy.eq(requests.busy | tags.used | drain.busy | answers.busy),
            self.pending.eq(tags.pending),
            self.sent.eq(requests.sent),
            self.error.eq(drain.error),
            self.timeout.eq(tags.timeout),
            self.unexpected.eq(placer.unexpected),
            self.malformed.eq(placer.malformed),
            self.faults.eq(placer.faults),
        ]
        if self.cpl_headers is not None:
            m.submodules.budget = budget = CompletionBudget(
                tags=self.tags, slot_bytes=self.slot_bytes, headers=self.cpl_headers)
            issue, ended = requests.issue, tags.ended
            m.d.comb += [
                room.eq(budget.ready),
                budget.issue.eq(issue.valid),
                budget.tag.eq(issue.tag),
                budget.offset.eq(Cat(C(0, 2), issue.info.word)),   # the DW is that of the first byte
                budget.length.eq(issue.info.end),
                budget.ended.eq(ended.valid),
                budget.ended_tag.eq(ended.tag),
                budget.late.eq(ended.late),
                budget.gone.eq(tags.gone),
            ]
        return m
