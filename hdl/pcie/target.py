"""Requests from the host: configuration and BAR accesses carried out, everything else refused.

Ref: PCI Express Base 5.0, 2.2.7 "Memory, I/O, and Configuration Request Rules", 2.2.9 "Completion Rules",
2.3.1 "Request Handling Rules".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.reg import RegPort
from ..spec.bar import BAR_SIZE, REG_ADDR_WIDTH
from ..spec.pcie import CplStatus, MsgCode, TlpType
from .function_config import REQUEST_FAULTS
from .header import Header, cpl_header
from .tlp_stream import tlp_beat

__all__ = ["Target"]

#: Messages that an endpoint receives (2.2.8); it does something about one of them.
TAKEN = (MsgCode.UNLOCK, MsgCode.PM_ACTIVE_STATE_NAK, MsgCode.PME_TURN_OFF, MsgCode.SET_SLOT_POWER_LIMIT, MsgCode.VENDOR_TYPE1,
         *(code for code in MsgCode if code.name.startswith("IGNORED")))
CHUNK_DWS = 32  # 2.3.1.1: an endpoint splits completions at 128-byte boundaries of the address


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
        lanes = self.width // 32

        # From beats to DWs.
        dw, dw_valid, dw_last, dw_ready = Signal(32), Signal(), Signal(), Signal()
        lane_in, lane_end = Signal(range(lanes)), Signal()
        m.d.comb += [
            dw.eq(self.i.payload.data.word_select(lane_in, 32)),
            dw_valid.eq(self.i.valid),
            lane_end.eq(lane_in + 1 == self.i.payload.dws),
            dw_last.eq(lane_end & self.i.payload.last),
            self.i.ready.eq(dw_ready & lane_end),
        ]
        with m.If(dw_valid & dw_ready):
            m.d.sync += lane_in.eq(Mux(lane_end, 0, lane_in + 1))

        # From DWs to beats, which are complete in the output's register.
        out_dw, out_valid, out_last, out_ready = Signal(32), Signal(), Signal(), Signal()
        lane_out = Signal(range(lanes))
        full = out_last | (lane_out == lanes - 1)
        m.d.comb += out_ready.eq(~self.o.valid | self.o.ready)
        with m.If(out_ready):
            m.d.sync += [
                self.o.valid.eq(out_valid & full),
                self.o.payload.data.word_select(lane_out, 32).eq(out_dw),
                self.o.payload.dws.eq(lane_out + 1),
                self.o.payload.last.eq(out_last),
            ]
            with m.If(out_valid):
                m.d.sync += lane_out.eq(Mux(full, 0, lane_out + 1))

        raw, index, ended = Signal(128), Signal(range(4)), Signal()
        h = Header(raw)

        # Judged in two cycles, to keep the paths short.
        in_bar, is_lk, is_cfg, is_io, is_atomic, is_taken, one_dw = (
            Signal(name=n) for n in ("in_bar", "is_lk", "is_cfg", "is_io", "is_atomic", "is_taken", "one_dw"))
        lead, trail = Signal(2), Signal(2)   # bytes not enabled ahead of the first and behind the last one
        word      = Signal(REG_ADDR_WIDTH - 2)
        remaining = Signal(11)               # DWs
        first     = Signal()
        only      = Signal()                 # one DW remains
        be        = Signal(4)
        m.d.comb += be.eq(Mux(first, h.first_be, Mux(only, h.last_be, 0xf)))

        status, respond, locked = Signal(3), Signal(), Signal()
        byte_count, cpl_word = Signal(13), Signal(5)
        m.submodules.chunk = chunk = Memory(shape=32, depth=CHUNK_DWS, init=[], attrs={"ram_style": "block"})
        fill = Signal(range(CHUNK_DWS + 1))
        chunk_w, chunk_r = chunk.write_port(), chunk.read_port()
        sent = Signal(range(CHUNK_DWS + 3))
        # Read a DW ahead: the first of them while the third of the header leaves.
        m.d.comb += [chunk_w.addr.eq(fill), chunk_r.addr.eq(sent - 2), chunk_r.en.eq(out_ready)]

        capture = Signal(13)
        m.d.comb += self.captured.eq(Cat(C(0, 3), capture))

        ok = status == CplStatus.SC.value
        header = cpl_header(has_data=fill != 0, length=fill, completer_id=self.completer_id, status=status,
                            byte_count=byte_count, requester_id=h.requester_id, tag=h.tag,
                            lower_address=Cat(lead, cpl_word), tc=h.tc, attr=h.attr, locked=locked)
        m.d.comb += [
            out_dw.eq(Mux(sent < 3, header.word_select(sent[:2], 32), chunk_r.data)),
            out_last.eq(sent == fill + 2),
        ]

        m.d.comb += [
            self.address.eq(h.addr),
            self.regs.req.payload.addr.eq(Cat(C(0, 2), word)),
            self.regs.req.payload.be.eq(be),
            self.regs.req.payload.data.eq(dw),
            self.regs.resp.ready.eq(1),
            self.cfg.req.payload.addr.eq(Cat(C(0, 2), h.register)),
            self.cfg.req.payload.write.eq(h.has_data),
            self.cfg.req.payload.be.eq(h.first_be),
            self.cfg.req.payload.data.eq(dw),
            self.cfg.resp.ready.eq(1),
        ]

        def step():
            return [word.eq(word + 1), remaining.eq(remaining - 1), only.eq(remaining == 2), first.eq(0)]

        bytes_left, spare = Signal(13), Signal(3)   # in what remains
        m.d.comb += bytes_left.eq((remaining << 2) - spare)

        with m.FSM() as fsm:
            m.d.comb += [
                self.busy.eq(~fsm.ongoing("HEADER") | (index != 0) | self.o.valid),
                spare.eq(trail + Mux(fsm.ongoing("DISPATCH"), lead, 0)),
            ]

            with m.State("HEADER"):
                m.d.comb += dw_ready.eq((index != 0) | ~self.hold)
                with m.If(dw_valid & dw_ready):
                    m.d.sync += [raw.word_select(index, 32).eq(dw), index.eq(index + 1), ended.eq(dw_last)]
                    with m.If(index[1] & (index[0] | ~h.dw4)):
                        m.d.sync += index.eq(0)
                        m.next = "DECODE"

            with m.State("DECODE"):
                length = Cat(h.length, h.length == 0)
                last_be = Mux(h.length == 1, h.first_be, h.last_be)
                m.d.sync += [
                    in_bar.eq(self.bar_hit & (h.addr[2:REG_ADDR_WIDTH] + length <= BAR_SIZE // 4)),
                    is_lk.eq(h.type == TlpType.MEM_LK.value),
                    is_cfg.eq(h.type[1:] == TlpType.CFG0.value >> 1),
                    is_io.eq(h.type == TlpType.IO.value),
                    is_atomic.eq((h.type[2:] == TlpType.FETCH_ADD.value >> 2) & (h.type[:2] != 3)),
                    is_taken.eq(Cat(h.code == code.value for code in TAKEN).any()),
                    one_dw.eq(h.length == 1), only.eq(h.length == 1),
                    remaining.eq(length), word.eq(h.addr[2:]), first.eq(1), fill.eq(0), sent.eq(0),
                    # 2.2.9: byte_count and lower_address from the byte enables; a zero-length read counts as 1 byte
                    lead.eq(Mux(h.first_be[0], 0, Mux(h.first_be[1], 1, Mux(h.first_be[2], 2,
                                Mux(h.first_be[3], 3, 0))))),
                    trail.eq(Mux(last_be[3], 0, Mux(last_be[2], 1, Mux(last_be[1], 2, 3)))),
                    status.eq(CplStatus.SC.value), respond.eq(0), locked.eq(0),
                ]
                m.next = "DISPATCH"

            with m.State("DISPATCH"):
                # Of completions to anything but a memory read: byte_count 4, lower_address 0.
                m.d.sync += [byte_count.eq(4), cpl_word.eq(0)]
                # Where a request which is not carried out ends: the rest of it dropped, then perhaps answered.
                with m.If(~ended):
                    m.next = "DRAIN"
                with m.Else():
                    m.next = "HEADER"

                poisoned = h.ep & h.has_data

                def refuse(unsupported=1):
                    m.d.comb += [
                        self.events.requests_unsupported.eq(1),
                        self.faults.unsupported.eq(unsupported),
                        self.faults.advisory.eq(1),
                    ]
                    m.d.sync += [status.eq(CplStatus.UR.value), respond.eq(1)]
                    with m.If(ended):
                        m.next = "COMPLETE"

                malformed = self.events.tlps_malformed
                m.d.comb += self.faults.poisoned.eq(poisoned & ~malformed)
                with m.If((h.is_mem | is_lk) & ~h.has_data):
                    m.d.sync += [byte_count.eq(bytes_left), cpl_word.eq(word), locked.eq(is_lk)]
                    with m.If(h.is_mem & in_bar):
                        m.next = "READ"
                    with m.Else():
                        refuse()
                with m.Elif(h.is_mem):
                    with m.If(in_bar & ~h.ep):
                        m.next = "WRITE"
                    with m.Else():
                        m.d.comb += [self.events.requests_unsupported.eq(1), self.faults.unsupported.eq(~in_bar)]
                with m.Elif(is_cfg | is_io):
                    m.d.sync += lead.eq(0)
                    with m.If(h.dw4 | ~one_dw):
                        m.d.comb += malformed.eq(1)
                    with m.Elif(is_cfg & ~h.type[0] & (h.target_id[:3] == 0)):
                        with m.If(poisoned):
                            refuse(unsupported=0)
                        with m.Else():
                            m.next = "CONFIG"
                    with m.Else():
                        refuse()
                with m.Elif(is_atomic & h.has_data):
                    # 2.2.9: the size of an operand, of which a CAS brings two.
                    m.d.sync += [lead.eq(0), byte_count.eq(Mux(h.type[1], remaining << 1, remaining << 2))]
                    refuse()
                with m.Elif(h.is_msg):
                    m.d.comb += [
                        self.pme_turn_off.eq((h.code == MsgCode.PME_TURN_OFF.value) & ~h.has_data),
                        # 2.3.1: what is not supported is an Unsupported Request; 2.2.8.6: so is Vendor_Defined Type 0
                        self.events.requests_unsupported.eq(~is_taken),
                        self.faults.unsupported.eq(~is_taken),
                    ]
                with m.Else():
                    m.d.comb += malformed.eq(1)

            with m.State("DRAIN"):
                m.d.comb += dw_ready.eq(1)
                with m.If(dw_valid & dw_last):
                    with m.If(respond):
                        m.next = "COMPLETE"
                    with m.Else():
                        m.next = "HEADER"

            with m.State("WRITE"):
                m.d.comb += [
                    self.regs.req.payload.write.eq(1),
                    self.regs.req.valid.eq(dw_valid & (be != 0)),
                    dw_ready.eq(self.regs.req.ready | (be == 0)),
                ]
                with m.If(dw_valid & dw_ready):
                    m.d.sync += step()
                    with m.If(dw_last):
                        m.next = "HEADER"

            with m.State("READ"):
                m.d.comb += self.regs.req.valid.eq(be != 0)
                with m.If(self.regs.req.ready | (be == 0)):
                    m.next = "READ_RESP"

            with m.State("READ_RESP"):
                m.d.comb += chunk_w.data.eq(Mux(be == 0, 0, self.regs.resp.payload))
                with m.If(self.regs.resp.valid | (be == 0)):
                    m.d.comb += chunk_w.en.eq(1)
                    m.d.sync += [*step(), fill.eq(fill + 1)]
                    with m.If(only | word[:5].all()):
                        m.next = "COMPLETE"
                    with m.Else():
                        m.next = "READ"

            with m.State("CONFIG"):
                m.d.comb += [
                    self.cfg.req.valid.eq(dw_valid | ~h.has_data),
                    dw_ready.eq(self.cfg.req.ready & h.has_data),
                ]
                m.d.sync += [remaining.eq(0), respond.eq(1)]
                with m.If(self.cfg.req.valid & self.cfg.req.ready):
                    with m.If(~h.has_data):
                        m.next = "CONFIG_RESP"
                    with m.Else():
                        m.d.sync += capture.eq(h.target_id[3:])
                        m.next = "COMPLETE"

            with m.State("CONFIG_RESP"):
                m.d.comb += [chunk_w.data.eq(self.cfg.resp.payload), chunk_w.en.eq(self.cfg.resp.valid)]
                with m.If(self.cfg.resp.valid):
                    m.d.sync += fill.eq(1)
                    m.next = "COMPLETE"

            with m.State("COMPLETE"):
                m.d.comb += out_valid.eq(1)
                with m.If(out_ready):
                    m.d.sync += sent.eq(sent + 1)
                    with m.If(out_last):
                        m.d.sync += [
                            sent.eq(0), fill.eq(0), lead.eq(0), cpl_word.eq(word), byte_count.eq(bytes_left),
                        ]
                        with m.If(ok & (remaining != 0)):
                            m.next = "READ"
                        with m.Else():
                            m.next = "HEADER"
        return m
