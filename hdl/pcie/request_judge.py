"""What is to be done about a request.

Ref: PCI Express Base 5.0, 2.2.7 "Memory, I/O, and Configuration Request Rules", 2.2.8 "Message Request Rules", 2.3.1 "Request
Handling Rules".
"""

from amaranth import *
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..spec.bar import BAR_SIZE, REG_ADDR_WIDTH
from ..spec.pcie import MsgCode, TlpType
from .function_config import REQUEST_FAULTS
from .header import Header

__all__ = ["Action", "RequestJudge", "Verdict"]

#: Messages that an endpoint receives (2.2.8); it does something about one of them.
TAKEN = (MsgCode.UNLOCK, MsgCode.PM_ACTIVE_STATE_NAK, MsgCode.PME_TURN_OFF, MsgCode.SET_SLOT_POWER_LIMIT, MsgCode.VENDOR_TYPE1,
         *(code for code in MsgCode if code.name.startswith("IGNORED")))


class Action(enum.Enum, shape=3):
    """What is to be done: nothing more than dropping it; completing it with Unsupported Request; carrying it out."""
    DROP   = 0
    REFUSE = 1
    READ   = 2
    WRITE  = 3
    CONFIG = 4


#: A verdict. ``is_read``, ``is_atomic``: it is a memory read, locked or not; an atomic operation. Low if it is anything else, or
#: malformed. ``locked``: with ``is_read``. ``lead``, ``trail``: bytes not enabled ahead of the first and behind the last one
#: (2.2.9); they stay until the next request, and a zero-length read counts as 1 byte.
Verdict = wiring.Signature({
    "action": Out(Action), "is_read": Out(1), "is_atomic": Out(1), "locked": Out(1), "lead": Out(2), "trail": Out(2)})


class RequestJudge(wiring.Component):
    """Judge a request in two cycles, to keep the paths short.

    Members
    -------
    raw : In(128)
        Its header; of the third and fourth DW only what a request that is routed by ID has in its third.
    address : In(64), bar_hit : In(1)
        Of a memory request: it begins in BAR 0, and is to be taken.
    load : In(1)
        The header is there; it stays the same in the next cycle, that of the verdict:
    now : In(1)
        High in that cycle.
    verdict : Out(Verdict)
    faults : Out(REQUEST_FAULTS)
        Strobes.
    unsupported, malformed, pme_turn_off : Out(1)
        Strobes. ``unsupported``: it, or what it brings, is not taken, poisoned writes, too.
    """
    raw:          In(128)
    address:      In(64)
    bar_hit:      In(1)
    load:         In(1)
    now:          In(1)
    verdict:      Out(Verdict)
    faults:       Out(REQUEST_FAULTS)
    unsupported:  Out(1)
    malformed:    Out(1)
    pme_turn_off: Out(1)

    def elaborate(self, platform):
        m = Module()
        h, verdict = Header(self.raw), self.verdict
        in_bar, is_lk, is_cfg, is_io, is_atomic, is_taken, one_dw = (
            Signal(name=n) for n in ("in_bar", "is_lk", "is_cfg", "is_io", "is_atomic", "is_taken", "one_dw"))
        length = Cat(h.length, h.length == 0)
        last_be = Mux(h.length == 1, h.first_be, h.last_be)
        with m.If(self.load):
            m.d.sync += [
                in_bar.eq(self.bar_hit & (self.address[2:REG_ADDR_WIDTH] + length <= BAR_SIZE // 4)),
                is_lk.eq(h.type == TlpType.MEM_LK.value),
                is_cfg.eq(h.type[1:] == TlpType.CFG0.value >> 1),
                is_io.eq(h.type == TlpType.IO.value),
                is_atomic.eq((h.type[2:] == TlpType.FETCH_ADD.value >> 2) & (h.type[:2] != 3)),
                is_taken.eq(Cat(h.code == code.value for code in TAKEN).any()),
                one_dw.eq(h.length == 1),
                # 2.2.9: byte_count and lower_address from the byte enables; a zero-length read counts as 1 byte
                verdict.lead.eq(Mux(h.first_be[0], 0, Mux(h.first_be[1], 1, Mux(h.first_be[2], 2, Mux(h.first_be[3], 3, 0))))),
                verdict.trail.eq(Mux(last_be[3], 0, Mux(last_be[2], 1, Mux(last_be[1], 2, 3)))),
            ]

        def refuse(unsupported=1):
            m.d.comb += [
                verdict.action.eq(Action.REFUSE),
                self.unsupported.eq(1),
                self.faults.unsupported.eq(unsupported),
                self.faults.advisory.eq(1),
            ]

        poisoned = h.ep & h.has_data
        with m.If(self.now):
            m.d.comb += self.faults.poisoned.eq(poisoned & ~self.malformed)
            with m.If((h.is_mem | is_lk) & ~h.has_data):
                m.d.comb += [verdict.is_read.eq(1), verdict.locked.eq(is_lk)]
                with m.If(h.is_mem & in_bar):
                    m.d.comb += verdict.action.eq(Action.READ)
                with m.Else():
                    refuse()
            with m.Elif(h.is_mem):
                with m.If(in_bar & ~h.ep):
                    m.d.comb += verdict.action.eq(Action.WRITE)
                with m.Else():
                    m.d.comb += [self.unsupported.eq(1), self.faults.unsupported.eq(~in_bar)]
            with m.Elif(is_cfg | is_io):
                with m.If(h.dw4 | ~one_dw):
                    m.d.comb += self.malformed.eq(1)
                with m.Elif(is_cfg & ~h.type[0] & (h.target_id[:3] == 0)):
                    with m.If(poisoned):
                        refuse(unsupported=0)
                    with m.Else():
                        m.d.comb += verdict.action.eq(Action.CONFIG)
                with m.Else():
                    refuse()
            with m.Elif(is_atomic & h.has_data):
                m.d.comb += verdict.is_atomic.eq(1)
                refuse()
            with m.Elif(h.is_msg):
                m.d.comb += [
                    self.pme_turn_off.eq((h.code == MsgCode.PME_TURN_OFF.value) & ~h.has_data),
                    # 2.3.1: what is not supported is an Unsupported Request; 2.2.8.6: so is Vendor_Defined Type 0
                    self.unsupported.eq(~is_taken),
                    self.faults.unsupported.eq(~is_taken),
                ]
            with m.Else():
                m.d.comb += self.malformed.eq(1)
        return m
