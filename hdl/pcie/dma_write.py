"""Write requests to Memory Write TLPs.

Ref: PCI Express Base 5.0, 2.2.5 "First/Last DW Byte Enables Rules", 2.2.7 "Memory, I/O, and Configuration Request
Rules".
"""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.dma import DMA_LEN_WIDTH, WritePort, WriteReq
from .header import mem_header
from .payload import MOST_BYTES, Merge, Source, has_early, plan_layout
from .tlp_stream import tlp_beat

__all__ = ["byte_enables", "cut_limit", "cut_length", "job_layout", "Headers", "Writer"]


def byte_enables(offset, length):
    """``(length_dw, first_be, last_be)`` of a request of ``length`` bytes that begins at byte ``offset`` of a DW."""
    end  = offset + length[:2]
    dws  = length[2:] + (end + 3)[2:]
    # Bytes of the last DW, from where it ends: 1, 3, 7 or f.
    tail = Cat(C(1, 1), end[:2] != 1, (end[:2] == 0) | (end[:2] == 3), end[:2] == 0)
    head = (C(0xf, 4) << offset)[:4]
    one  = ~length[3:].any() & (offset + length[:3] <= 4)   # a DW: known before how many there are
    return dws, Mux(one, head & tail, head), Mux(one, 0, tail)


def cut_limit(addr, mask):
    """Most bytes of a TLP at ``addr``: up to the next 4 KiB, and no more DWs than ``mask + 1`` bytes are.

    ``mask`` is ``2**n - 1``, 12 bits. What does not fit ends at a whole DW.
    """
    near = (addr[:12] | mask).all()          # 2.2.7: no request crosses a 4 KiB boundary
    return (mask & ~Mux(near, addr[:12], addr[:2])) + 1


def cut_length(addr, length, mask):
    """Bytes of the next TLP of ``length`` bytes at ``addr``; ``mask`` as of :func:`cut_limit`."""
    limit = cut_limit(addr, mask)
    return Mux(length > limit, limit, length)


def job_layout(width, clients):
    """A request as :class:`Headers` takes it, with the number of its client."""
    return data.StructLayout({"addr": 64, "len": DMA_LEN_WIDTH, "lane": range(width // 8), "client": range(clients)})


class Headers(wiring.Component):
    """Cut requests at 4 KiB and to Max_Payload_Size, and plan the TLPs.

    The first plan of a request is there three cycles after the request came, a further one two cycles after the one before was
    taken.

    Members
    -------
    i : In(stream(job_layout(width, clients)))
        Taken when the plan of what came before is there.
    o : Out(stream(plan_layout(width, clients)))
    requester_id, mps : In
        As of :class:`Writer`.
    """
    def __init__(self, *, width, clients):
        self.width = width
        super().__init__({
            "i":            In(stream.Signature(job_layout(width, clients))),
            "o":            Out(stream.Signature(plan_layout(width, clients))),
            "requester_id": In(16),
            "mps":          In(3),
        })

    def elaborate(self, platform):
        m = Module()
        size = self.width // 8
        bits = size.bit_length() - 1
        plan = self.o.p
        job = Signal.like(self.i.p)                        # what is left of the request
        length = Signal(13)                                # of the next TLP
        dw4 = Signal()
        closes = Signal()                                  # it is the last one
        limit, fits = Signal(13), Signal()                 # most bytes that it may have; what is left is no more
        mask = Signal(12)
        m.d.sync += mask.eq((C(0x7f, 7) << self.mps) | ((1 << self.mps) - 1))

        # In the TLP: the place of the payload's first byte, of the one before it, and of its last.
        begin, before, low, last = Signal(5), Signal(5), Signal(5), Signal(range(MOST_BYTES))
        shift, early, after = Signal(signed(8)), Signal(), Signal(range(size))
        with m.Switch(begin):
            for k in range(12, 20):
                with m.Case(k):
                    m.d.comb += before.eq(k - 1)
        m.d.comb += [
            begin.eq(Cat(job.addr[:2], Mux(dw4, 4, 3))),
            low.eq(before + length[:2]),
            last.eq(Cat(low[:2], length[2:] + low[2:])),
            shift.eq(begin - job.lane),
            early.eq(shift < 0 if has_early(self.width) else 0),
            after.eq(job.lane + length),                   # where the next TLP begins in its beat
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += job.eq(self.i.p)
                with m.If(self.i.valid):
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.comb += [limit.eq(cut_limit(job.addr, mask)), fits.eq(job.len <= limit)]
                m.d.sync += [length.eq(Mux(fits, job.len, limit)), dw4.eq(job.addr[32:].any()), closes.eq(fits)]
                m.next = "HEAD"
            with m.State("HEAD"):
                with m.If(~self.o.valid | self.o.ready):
                    dws, first_be, last_be = byte_enables(job.addr[:2], length)
                    raw, _ = mem_header(write=1, addr=job.addr, length=dws, first_be=first_be, last_be=last_be,
                                        requester_id=self.requester_id, tag=0, dw4=dw4)
                    m.d.sync += [
                        self.o.valid.eq(1),
                        plan.raw.eq(raw),
                        plan.dw4.eq(dw4),
                        # With ``early`` the beats of the client are a step ahead of those of the TLP.
                        plan.steps.eq((last >> bits) + early),
                        plan.only.eq(~early & (last >> bits == 0)),
                        plan.dws.eq(last[2:bits]),
                        plan.turn.eq(shift[:bits]),
                        plan.skip.eq(Cat(shift >> bits > k for k in range(len(plan.skip)))),
                        plan.early.eq(early),
                        plan.drain.eq(last[:bits] < shift[:bits]),
                        plan.again.eq(after.any() & ~closes),
                        plan.closes.eq(closes),
                        plan.client.eq(job.client),
                        job.addr.eq(job.addr + length),
                        job.len.eq(job.len - length),
                        job.lane.eq(after),
                    ]
                    m.next = "CUT"
                    with m.If(closes):
                        m.next = "IDLE"
        return m


class Writer(wiring.Component):
    """Carry out write requests, in the order in which they were accepted.

    A request is cut at 4 KiB boundaries and to Max_Payload_Size; TLPs follow each other
    without a pause while clients keep their data coming.

    Parameters
    ----------
    width : int
        Datapath, bits: 32, 64, 128, ..., else :exc:`ValueError`.
    clients : int
        Number of write ports, at least 1, else :exc:`ValueError`.

    Members
    -------
    writes : In(WritePort(width)).array(clients)
    tlp : Out(stream.Signature(tlp_beat(width)))
    requester_id : In(16)
    mps : In(3)
        Max_Payload_Size as in Device Control: 128 << n bytes. Up to two TLPs that were planned before it changed keep their size;
        software changes it while nothing is under way (7.5.3.4).
    bus_master : In(1)
        While low no TLP is begun: accepted writes wait, or are discarded if ``stop``.
    stop : In(1)
        Accept no request.
    busy : Out(1)
        An accepted write is not finished.
    leaving : Out(1)
        A TLP has begun and has not left.
    sent : Out(1)
        One-cycle strobe: a TLP has left.
    """
    @staticmethod
    def check(*, width, clients):
        """Raise what the constructor would."""
        if width < 32 or width & (width - 1):
            raise ValueError(f"Width must be 32 times a power of 2, not {width!r}")
        if clients < 1:
            raise ValueError(f"Writer needs at least one client, not {clients!r}")

    def __init__(self, *, width, clients):
        self.check(width=width, clients=clients)
        self.width   = width
        self.clients = clients
        super().__init__({
            "writes":       In(WritePort(width)).array(clients),
            "tlp":          Out(stream.Signature(tlp_beat(width))),
            "requester_id": In(16),
            "mps":          In(3),
            "bus_master":   In(1),
            "stop":         In(1),
            "busy":         Out(1),
            "leaving":      Out(1),
            "sent":         Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        sizes = dict(width=self.width, clients=self.clients)
        # A request is accepted into both branches at once: its bytes, and its headers.
        m.submodules.source  = source  = Source(**sizes)
        m.submodules.headers = headers = Headers(**sizes)
        m.submodules.merge   = merge   = Merge(**sizes)
        connect(m, headers.o, merge.i_plan)
        connect(m, source.o, merge.i)
        connect(m, merge.tlp, flipped(self.tlp))

        # The client is chosen a cycle ahead: round robin and the request's way to the registers are a cycle each. What is
        # offered stays, but over a reset, which comes during ``stop``.
        last_client = Signal(range(self.clients))
        turn    = Signal(range(self.clients))
        pick    = Signal(range(self.clients))
        picked  = Signal()
        chosen  = Signal(self.clients)             # pick, a bit for each
        offered = Cat(port.req.valid for port in self.writes)
        round_robin(m, offered, last_client, turn)
        accept  = Signal()
        request = Signal(WriteReq)
        m.d.sync += [pick.eq(turn), chosen.eq(1 << turn), picked.eq(offered.any() & ~accept & ~self.stop)]
        m.d.comb += [
            accept.eq(picked & ~self.stop & source.i.ready & headers.i.ready),
            source.i.valid.eq(accept),
            source.i.p.eq(pick),
            headers.i.valid.eq(accept),
            headers.i.p.addr.eq(request.addr),
            headers.i.p.len.eq(request.len),
            headers.i.p.lane.eq(request.lane),
            headers.i.p.client.eq(pick),
        ]
        with m.If(accept):
            m.d.sync += last_client.eq(pick)
        # One of the clients' requests, the others 0: smaller than a choice by number.
        m.d.comb += Value.cast(request).eq(reduce(or_, (
            Mux(here, Value.cast(port.req.payload), 0) for here, port in zip(chosen, self.writes))))
        for k, port in enumerate(self.writes):
            m.d.comb += [
                port.req.ready.eq(accept & chosen[k]),
                source.i_data[k].payload.eq(port.data.payload),
                source.i_data[k].valid.eq(port.data.valid),
                port.data.ready.eq(source.i_data[k].ready),
                port.done.eq(merge.done[k]),
            ]
        m.d.comb += [
            headers.requester_id.eq(self.requester_id),
            headers.mps.eq(self.mps),
            merge.bus_master.eq(self.bus_master),
            merge.stop.eq(self.stop),
            self.sent.eq(self.tlp.valid & self.tlp.ready & self.tlp.p.last),
            self.leaving.eq(merge.leaving),
            self.busy.eq(~headers.i.ready | merge.busy),
        ]
        return m
