"""Requests from the host: configuration and BAR accesses carried out, everything else refused.

Ref: PCI Express Base 5.0, 2.2.7 "Memory, I/O, and Configuration Request Rules", 2.2.9 "Completion Rules",
2.3.1 "Request Handling Rules".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.reg import RegPort
from ..spec.bar import REG_ADDR_WIDTH
from .answer import Answer
from .bar_transfer import BarTransfer
from .completion import Completion
from .dws import DwsToTlp, TlpToDws
from .function_config import REQUEST_FAULTS
from .header import Header, byteswap
from .request_judge import Action, RequestJudge
from .tlp_stream import tlp_beat

__all__ = ["Target"]


class Target(wiring.Component):
    """Carry out one request after the other, one DW per cycle at best.

    A completion is begun only when all of its data is there, so a slow register never holds the transmit side.
    Undefined types are dropped, a posted request which is refused is dropped too, a non-posted one completes with
    Unsupported Request. Messages that an endpoint may get are consumed.

    Parameters
    ----------
    width : int
        Bits per beat of the TLP streams.

    Members
    -------
    i : In(stream.Signature(tlp_beat(width)))
        Requests and messages, each as long as its header says; no completions.
    o : Out(stream.Signature(tlp_beat(width)))
        Completions, from registers.
    regs : Out(RegPort(REG_ADDR_WIDTH))
        Accesses inside BAR 0. DWs without a byte enabled are not accessed, and read as 0.
    cfg : Out(RegPort(12))
        Configuration accesses.
    hold : In(1)
        Begin no request; the one at work is finished.
    address : Out(64), bar_hit : In(1)
        Of a memory request; it begins in BAR 0, which is aligned to its size, and is to be taken. In the same cycle.
    captured : Out(16)
        Bus and device that the last Type 0 configuration write was addressed to, function 0 (2.2.6.2).
    completer_id : In(16)
        Of this function, for its completions.
    busy : Out(1)
        A request is being carried out, or its completion has not left.
    pme_turn_off : Out(1)
        Strobe: the host is about to take the power away, and awaits PME_TO_Ack.
    faults : Out(REQUEST_FAULTS)
        Strobes.
    events
        ``requests_unsupported`` (poisoned writes, too) and ``tlps_malformed``.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "i": In(stream.Signature(tlp_beat(width))),
            "o": Out(stream.Signature(tlp_beat(width))),
            "regs": Out(RegPort(REG_ADDR_WIDTH)),
            "cfg":  Out(RegPort(12)),
            "hold": In(1),
            "address": Out(64),
            "bar_hit": In(1),
            "captured": Out(16),
            "completer_id": In(16),
            "busy": Out(1),
            "pme_turn_off": Out(1),
            "faults": Out(REQUEST_FAULTS),
            "events": Out(data.StructLayout({"requests_unsupported": 1, "tlps_malformed": 1})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.dws        = dws        = TlpToDws(width=self.width)
        m.submodules.judge      = judge      = RequestJudge()
        m.submodules.answer     = answer     = Answer()
        m.submodules.transfer   = transfer   = BarTransfer()
        m.submodules.completion = completion = Completion()
        m.submodules.out        = out        = DwsToTlp(width=self.width)
        connect(m, flipped(self.i), dws.i)
        connect(m, transfer.regs, flipped(self.regs))
        connect(m, completion.o, out.i)
        connect(m, out.o, flipped(self.o))
        connect(m, judge.verdict, answer.verdict)
        dw = dws.o

        # The header. An address has its lower half in the last DW, and its upper half, if it has one, in the DW before.
        begin, low, high = Signal(64), Signal(32), Signal(32)
        index, ended = Signal(range(4)), Signal()
        raw, capture = Cat(begin, low, low), Signal(13)
        h = Header(raw)
        m.d.comb += [
            self.address.eq(Cat(C(0, 2), byteswap(low)[2:], byteswap(high))),
            self.captured.eq(Cat(C(0, 3), capture)),
            judge.raw.eq(raw), judge.address.eq(self.address), judge.bar_hit.eq(self.bar_hit),
            self.faults.eq(judge.faults), self.pme_turn_off.eq(judge.pme_turn_off),
            self.events.requests_unsupported.eq(judge.unsupported), self.events.tlps_malformed.eq(judge.malformed),
            answer.raw.eq(raw), answer.completer_id.eq(self.completer_id), answer.now.eq(judge.now),
            answer.word.eq(transfer.word), answer.remaining.eq(transfer.remaining), answer.sent.eq(completion.sent),
            transfer.begin.eq(self.address[2:]), transfer.length.eq(Cat(h.length, h.length == 0)),
            transfer.first_be.eq(h.first_be), transfer.last_be.eq(h.last_be),
            transfer.i.payload.eq(dw.payload), transfer.i.valid.eq(dw.valid),
            completion.says.eq(answer.says),
            completion.data.eq(Mux(transfer.put, transfer.data, self.cfg.resp.payload)),
            self.cfg.req.payload.addr.eq(Cat(C(0, 2), h.register)),
            self.cfg.req.payload.write.eq(h.has_data),
            self.cfg.req.payload.be.eq(h.first_be),
            self.cfg.req.payload.data.eq(dw.p.dw),
            self.cfg.resp.ready.eq(1),
        ]

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("HEADER") | (index != 0) | self.o.valid)
            with m.State("HEADER"):
                m.d.comb += dw.ready.eq((index != 0) | ~self.hold)
                with m.If(dw.valid & dw.ready):
                    m.d.sync += [index.eq(index + 1), ended.eq(dw.p.last)]
                    with m.If(index[1]):
                        m.d.sync += [low.eq(dw.p.dw), high.eq(Mux(index[0], low, 0))]
                    with m.Else():
                        m.d.sync += begin.word_select(index[0], 32).eq(dw.p.dw)
                    with m.If(index[1] & (index[0] | ~h.dw4)):
                        m.d.sync += index.eq(0)
                        m.next = "DECODE"

            with m.State("DECODE"):
                m.d.comb += [judge.load.eq(1), transfer.load.eq(1)]
                m.next = "DISPATCH"

            with m.State("DISPATCH"):
                m.d.comb += judge.now.eq(1)
                with m.Switch(judge.verdict.action):
                    with m.Case(Action.READ):
                        m.next = "READ"
                    with m.Case(Action.WRITE):
                        m.next = "WRITE"
                    with m.Case(Action.CONFIG):
                        m.next = "CONFIG"
                    # Where a request which is not carried out ends: the rest of it dropped, then perhaps answered.
                    with m.Case(Action.REFUSE):
                        m.next = "DRAIN"
                        with m.If(ended):
                            m.next = "COMPLETE"
                    with m.Default():
                        m.next = "DRAIN"
                        with m.If(ended):
                            m.next = "HEADER"

            with m.State("DRAIN"):
                m.d.comb += dw.ready.eq(1)
                with m.If(dw.valid & dw.p.last):
                    with m.If(answer.due):
                        m.next = "COMPLETE"
                    with m.Else():
                        m.next = "HEADER"

            with m.State("WRITE"):
                m.d.comb += [transfer.write.eq(1), dw.ready.eq(transfer.i.ready)]
                with m.If(transfer.done):
                    m.next = "HEADER"

            with m.State("READ"):
                m.d.comb += [transfer.read.eq(1), completion.put.eq(transfer.put)]
                with m.If(transfer.done):
                    m.next = "COMPLETE"

            with m.State("CONFIG"):
                m.d.comb += [
                    self.cfg.req.valid.eq(dw.valid | ~h.has_data),
                    dw.ready.eq(self.cfg.req.ready & h.has_data),
                ]
                with m.If(self.cfg.req.valid & self.cfg.req.ready):
                    with m.If(~h.has_data):
                        m.next = "CONFIG_RESP"
                    with m.Else():
                        m.d.sync += capture.eq(h.target_id[3:])
                        m.next = "COMPLETE"

            with m.State("CONFIG_RESP"):
                m.d.comb += completion.put.eq(self.cfg.resp.valid)
                with m.If(self.cfg.resp.valid):
                    m.next = "COMPLETE"

            with m.State("COMPLETE"):
                m.d.comb += completion.send.eq(1)
                with m.If(completion.sent):
                    with m.If(answer.more):
                        m.next = "READ"
                    with m.Else():
                        m.next = "HEADER"
        return m
