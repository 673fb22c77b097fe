"""Read requests of several clients to Memory Read TLPs.

Ref: PCI Express Base 5.0, 2.2.5 "First/Last DW Byte Enables Rules", 2.2.7 "Memory, I/O, and Configuration Request Rules".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arbiter import round_robin
from ..lib.dma import AreaPort, ReadReq
from .dma_areas import LOW_BITS, Areas
from .dma_seams import Issue
from .dma_write import byte_enables, cut_length
from .header import mem_header
from .tlp_stream import tlp_beat

__all__ = ["Choice", "Requests"]


class Choice(wiring.Component):
    """Offer one client's request after another's, in turn.

    The client is chosen a cycle ahead: round robin and the request's way to the registers are a cycle each. So a request is taken
    in every second cycle at most, and the first one a cycle after it was offered.

    Members
    -------
    reqs : In(stream.Signature(ReadReq)).array(clients)
        What is offered stays, but over a reset, which comes during ``stop``.
    o : Out(stream.Signature(ReadReq))
        Withdrawn during ``stop``.
    client : Out(range(clients))
        Whose request was taken last.
    stop : In(1)
    """
    def __init__(self, clients):
        super().__init__({
            "reqs":   In(stream.Signature(ReadReq)).array(clients),
            "o":      Out(stream.Signature(ReadReq)),
            "client": Out(range(clients)),
            "stop":   In(1),
        })

    def elaborate(self, platform):
        m = Module()
        turn, pick = Signal.like(self.client), Signal.like(self.client)
        picked, taken = Signal(), Signal()
        offered = Cat(req.valid for req in self.reqs)
        round_robin(m, offered, self.client, turn)
        m.d.sync += [pick.eq(turn), picked.eq(offered.any() & ~taken & ~self.stop)]
        m.d.comb += [self.o.valid.eq(picked & ~self.stop), taken.eq(self.o.valid & self.o.ready)]
        with m.Switch(pick):
            for k, req in enumerate(self.reqs):
                with m.Case(k):
                    m.d.comb += [self.o.p.eq(req.p), req.ready.eq(taken)]
        with m.If(taken):
            m.d.sync += self.client.eq(pick)
        return m


class Requests(wiring.Component):
    """Cut requests at 4 KiB boundaries and to Max_Read_Request_Size (or ``slot_bytes``, if that is less), one tag to a TLP.

    A TLP is offered three cycles after its request was taken, and a further one of the same request two cycles after the one
    before, if that has left.

    Members
    -------
    reqs : In(stream.Signature(ReadReq)).array(clients)
    areas : In(AreaPort)
    tlp : Out(stream.Signature(tlp_beat(width)))
    tag : In(range(tags)), free : In(1)
        The tag of the next read, once it is free.
    issue : Out(Issue)
        A read, in the cycle before its TLP is offered.
    requester_id : In(16), mrrs : In(3)
    permit : In(1)
        A read may begin. While low no TLP is begun; what has begun has a tag, and has to leave.
    stop : In(1)
        Accept no request and issue no TLP more; the rest of a request is dropped.
    busy : Out(1)
        A request was accepted and has not been issued, or a TLP has not left.
    sent : Out(1)
        Strobe: a TLP has left.
    """
    def __init__(self, *, width, tags, slot_bytes, clients, num_queues):
        self.width, self.tags, self.slot_bytes, self.clients, self.num_queues = width, tags, slot_bytes, clients, num_queues
        super().__init__({
            "reqs":   In(stream.Signature(ReadReq)).array(clients),
            "areas":  In(AreaPort),
            "tlp":    Out(stream.Signature(tlp_beat(width))),
            "tag":    In(range(tags)),
            "free":   In(1),
            "issue":  Out(Issue(tags, slot_bytes, clients)),
            "requester_id": In(16),
            "mrrs":   In(3),
            "permit": In(1),
            "stop":   In(1),
            "busy":   Out(1),
            "sent":   Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        m.submodules.choice = choice = Choice(self.clients)
        m.submodules.areas = areas = Areas(num_queues=self.num_queues)
        for outer, inner in zip(self.reqs, choice.reqs):
            connect(m, flipped(outer), inner)
        connect(m, flipped(self.areas), areas.set)
        request = choice.o.p
        addr   = Signal(64)
        carry  = Signal()      # out of the low bits of ``addr``, still to be added to the others
        relative = Signal()    # and so are those of where the area begins
        begin  = Signal(LOW_BITS + 1)
        beyond = Signal(LOW_BITS + 1)
        rest   = Signal(16)
        length = Signal(range(self.slot_bytes + 1))
        mask   = Signal((self.slot_bytes - 1).bit_length())
        m.d.sync += [
            mask.eq((C(0x7f, 7) << self.mrrs) | ((1 << self.mrrs) - 1)),
            # In every cycle: a request that waits for a tag is cut to what Max_Read_Request_Size is by then (7.5.3.4).
            length.eq(cut_length(addr, rest, mask)),
        ]
        m.d.comb += [
            choice.stop.eq(self.stop),
            areas.queue.eq(request.queue),
            areas.area.eq(request.area),
            begin.eq(request.addr[:LOW_BITS] + areas.low),
            beyond.eq(addr[:LOW_BITS] + length),
        ]

        issue = self.issue
        dws, first_be, last_be = byte_enables(addr[:2], length)
        header, dw4 = mem_header(write=0, addr=addr, length=dws, first_be=first_be, last_be=last_be,
                                 requester_id=self.requester_id, tag=self.tag)
        m.d.comb += [
            issue.tag.eq(self.tag),
            issue.client.eq(choice.client),
            issue.info.offset.eq(addr[:2]),
            issue.info.word.eq(addr[2:7]),
            issue.info.end.eq(length + addr[:2]),
            issue.info.last.eq(rest == length),
        ]

        raw     = Signal(128)
        head_dw = Signal(range(5))
        m.d.comb += [
            self.tlp.payload.data.eq(raw),
            self.tlp.payload.dws.eq(Mux(head_dw > lanes, lanes, head_dw)),
            self.tlp.payload.last.eq(head_dw <= lanes),
            self.sent.eq(self.tlp.valid & self.tlp.ready & self.tlp.payload.last),
            self.busy.eq(~choice.o.ready | self.tlp.valid),
        ]
        with m.If(self.tlp.ready & self.tlp.valid):
            m.d.sync += [
                raw.eq(raw >> self.width),
                head_dw.eq(Mux(head_dw > lanes, head_dw - lanes, 0)),
                self.tlp.valid.eq(head_dw > lanes),
            ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += choice.o.ready.eq(1)
                # Where it is cut depends on the low bits alone. The others come a cycle later, from block RAM.
                m.d.sync += [
                    addr.eq(Cat(begin[:LOW_BITS], request.addr[LOW_BITS:])),
                    carry.eq(begin[LOW_BITS]),
                    relative.eq(1),
                    rest.eq(request.len),
                ]
                with m.If(choice.o.valid):
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.sync += [
                    addr[LOW_BITS:].eq(addr[LOW_BITS:] + Mux(relative, areas.high, 0) + carry),
                    relative.eq(0),
                ]
                m.next = "HEAD"
            with m.State("HEAD"):
                with m.If(self.stop):
                    m.next = "IDLE"
                # Wait until the TLP before has left: ``tlp.ready`` comes late in the cycle, and the next length takes one anyway.
                with m.Elif(self.permit & self.free & ~self.tlp.valid):
                    m.d.comb += issue.valid.eq(1)
                    m.d.sync += [
                        raw.eq(header),
                        head_dw.eq(3 + dw4),
                        self.tlp.valid.eq(1),
                        addr[:LOW_BITS].eq(beyond[:LOW_BITS]),
                        carry.eq(beyond[LOW_BITS]),
                        rest.eq(rest - length),
                    ]
                    with m.If(issue.info.last):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "CUT"
        return m
