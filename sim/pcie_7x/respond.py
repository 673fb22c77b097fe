"""What the block does and says by itself: configuration accesses, refusals, and messages in both directions.

Ref: PCI Express Base 5.0, 2.2.8 "Message Request Rules", 2.2.9 "Completion Rules", 5.3.3.2.1 "PME Synchronization"; PG054,
"Generating Interrupt Requests", "Power Management", "Error Reporting Signals".
"""

from amaranth import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ...hdl.spec.pcie import Command, CplStatus, MessageDw1, MsgCode, MsgRouting
from .intake import OWN_REQUEST, Own
from .tlp import OWN_TLP, Fields, byte_count, completion, message

__all__ = ["RECEIVED_MESSAGES", "USER_COMPLETIONS", "Respond"]

#: Messages that ``cfg_msg_received_*`` tell an endpoint of, besides PME_Turn_Off.
RECEIVED_MESSAGES = {"pm_as_nak": MsgCode.PM_ACTIVE_STATE_NAK, "setslotpowerlimit": MsgCode.SET_SLOT_POWER_LIMIT}

USER_COMPLETIONS = 4   # completions of the user's errors that wait; our reading: cfg_err_cpl_rdy is low while there are as many

IGNORED = (MsgCode.UNLOCK, MsgCode.VENDOR_TYPE1, *(code for code in MsgCode if code.name.startswith("IGNORED")))

#: ``cfg_err_tlp_cpl_header``, from its lowest bit.
CPL_HEADER = data.StructLayout({"tag": 8, "requester_id": 16, "attr": 2, "tc": 3, "byte_count": 12, "lower_address": 7})


class Respond(wiring.Component):
    """One request at a time; what is to be sent leaves on ``o``, completions first (our reading).

    Members
    -------
    own : In(stream(OWN_REQUEST)), o : Out(stream(OWN_TLP))
    completer_id, command : In(16)
    config_addr : Out(10), config_data : Out(32), config_be : Out(4), config_write : Out(1), config_read : In(32), busy : Out(1)
        The port of :class:`HardConfig`; the block has it while ``busy``.
    unsupported, unsupported_posted, malformed : Out(1)
        Strobes.
    err_due, err_sent : In(3), Out(3)
        Of :class:`Errors`.
    cfg_err_*, cfg_interrupt*, cfg_to_turnoff, cfg_turnoff_ok, cfg_msg_*
        As the block has them. ``cfg_interrupt_rdy`` is a strobe: the message is on its way, or there is none to send. While
        INTx is disabled no Assert_INTA is sent, but a Deassert_INTA is if the other had been (our reading). ``cfg_to_turnoff``
        stays high until PME_TO_Ack is on its way (our reading).
    intx : Out(1)
        INTA is asserted, as far as the user said.
    """
    def __init__(self):
        super().__init__({
            "own": In(stream.Signature(OWN_REQUEST)), "o": Out(stream.Signature(OWN_TLP)),
            "completer_id": In(16), "command": In(16),
            "config_addr": Out(10), "config_data": Out(32), "config_be": Out(4), "config_write": Out(1), "config_read": In(32),
            "busy": Out(1),
            "unsupported": Out(1), "unsupported_posted": Out(1), "malformed": Out(1), "err_due": In(3), "err_sent": Out(3),
            "cfg_err_ur": In(1), "cfg_err_cpl_abort": In(1), "cfg_err_posted": In(1), "cfg_err_locked": In(1),
            "cfg_err_tlp_cpl_header": In(48), "cfg_err_cpl_rdy": Out(1),
            "cfg_interrupt": In(1), "cfg_interrupt_assert": In(1), "cfg_interrupt_rdy": Out(1), "intx": Out(1),
            "cfg_to_turnoff": Out(1), "cfg_turnoff_ok": In(1),
            "cfg_msg_received": Out(1), "cfg_msg_data": Out(16),
            **{f"cfg_msg_received_{name}": Out(1) for name in RECEIVED_MESSAGES},
        })

    def elaborate(self, platform):
        m = Module()
        reply, waiting = Signal(OWN_TLP), Signal()
        sent = Signal()     # the reply
        self._requests(m, reply, waiting, sent)
        user_reply = self._user_completions(m)
        said, said_valid = self._messages(m)
        # Completions, then messages; a stream's offer stays, so what is chosen is kept.
        m.d.comb += [self.busy.eq(self.own.valid & ~waiting), sent.eq(waiting & ~self.o.valid)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.Elif(~self.o.valid):
            with m.If(waiting):
                m.d.sync += [self.o.p.eq(reply), self.o.valid.eq(1)]
            with m.Elif(user_reply.r_rdy):
                m.d.comb += user_reply.r_en.eq(1)
                m.d.sync += [Value.cast(self.o.p).eq(self._user_tlp(user_reply.r_data)), self.o.valid.eq(1)]
            with m.Elif(said_valid.any()):
                m.d.sync += self.o.valid.eq(1)
                for k in reversed(range(len(said))):
                    with m.If(said_valid[k]):
                        m.d.sync += Value.cast(self.o.p).eq(said[k][0])
                m.d.comb += Cat(done for _, done in said).eq(said_valid & -said_valid)
        return m

    def _requests(self, m, reply, waiting, sent):
        req = self.own.p
        h = Fields(req.dws)
        posted = h.is_posted
        first_be = h.dw1.first_be
        count, lower = byte_count(h)
        facts = {"completer_id": self.completer_id, "requester_id": h.dw1.requester_id, "tag": h.dw1.tag, "tc": h.dw0.tc,
                 "attr": h.attr}
        m.d.comb += [
            self.config_addr.eq(h.dw2.register), self.config_be.eq(first_be),
            self.config_data.eq(Cat(req.dws[3][24:], req.dws[3][16:24], req.dws[3][8:16], req.dws[3][:8])),
            self.own.ready.eq(~waiting),
        ]
        read = self.config_read
        with m.If(sent):
            m.d.sync += waiting.eq(0)
        with m.If(self.own.valid & self.own.ready):
            with m.Switch(req.own):
                with m.Case(Own.CONFIG):
                    m.d.comb += self.config_write.eq(h.has_data)
                    m.d.sync += [waiting.eq(1), Value.cast(reply).eq(completion(
                        status=CplStatus.SC.value, byte_count=4, lower_address=0, has_data=~h.has_data,
                        data=Cat(read[24:], read[16:24], read[8:16], read[:8]), **facts))]
                with m.Case(Own.UNSUPPORTED, Own.POISONED):
                    m.d.comb += [self.unsupported.eq(~posted), self.unsupported_posted.eq(posted)]
                    m.d.sync += [waiting.eq(~posted), Value.cast(reply).eq(completion(
                        status=CplStatus.UR.value, byte_count=count, lower_address=lower, locked=h.is_locked, **facts))]
                with m.Case(Own.MALFORMED):
                    m.d.comb += self.malformed.eq(1)
                with m.Case(Own.MESSAGE):
                    self._received(m, MessageDw1(req.dws[1]))

    def _received(self, m, dw1):
        code = dw1.code
        known = Signal()
        for name, expected in RECEIVED_MESSAGES.items():
            with m.If(code == expected.value):
                m.d.comb += [known.eq(1), getattr(self, f"cfg_msg_received_{name}").eq(1)]
        with m.If(code == MsgCode.PME_TURN_OFF.value):
            m.d.comb += known.eq(1)
            m.d.sync += self.cfg_to_turnoff.eq(1)
        m.d.comb += [self.cfg_msg_received.eq(known), self.cfg_msg_data.eq(dw1.requester_id)]
        ignored = Cat(code == one.value for one in IGNORED).any()
        with m.If(~known & ~ignored):
            m.d.comb += self.unsupported_posted.eq(1)  # 2.2.8: of a code that is not supported

    def _user_completions(self, m):
        m.submodules.user_completions = waiting = fifo.SyncFIFO(width=CPL_HEADER.size + 2, depth=USER_COMPLETIONS)
        m.d.comb += [
            self.cfg_err_cpl_rdy.eq(waiting.w_rdy),
            waiting.w_data.eq(Cat(self.cfg_err_tlp_cpl_header, self.cfg_err_locked, self.cfg_err_cpl_abort)),
            waiting.w_en.eq((self.cfg_err_ur | self.cfg_err_cpl_abort) & ~self.cfg_err_posted),
        ]
        return waiting

    def _user_tlp(self, entry):
        header, locked, aborted = CPL_HEADER(entry[:CPL_HEADER.size]), entry[-2], entry[-1]
        return completion(status=Mux(aborted, CplStatus.CA.value, CplStatus.UR.value), completer_id=self.completer_id,
                          locked=locked, **{name: header[name] for name in CPL_HEADER.members})

    def _messages(self, m):
        """``([(TLP, strobe when it is taken)], which are due)``, the first one first."""
        # cfg_interrupt: to be done until cfg_interrupt_rdy.
        told, asserted, settled = Signal(), Signal(), Signal()   # the root complex was told; the user said
        wants = Signal()
        m.d.comb += wants.eq(self.cfg_interrupt & ~self.cfg_interrupt_rdy)
        say = Signal(2)                                          # Assert_INTA, Deassert_INTA
        m.d.comb += [
            say[0].eq(wants & self.cfg_interrupt_assert & ~told & ~self.command[Command.INTX_DISABLE]),
            say[1].eq(wants & ~self.cfg_interrupt_assert & told),
            self.intx.eq(asserted),
        ]
        dones = [Signal(name=f"said_{k}") for k in range(6)]
        m.d.comb += settled.eq((wants & ~say.any()) | dones[0] | dones[1])
        m.d.sync += self.cfg_interrupt_rdy.eq(settled)
        with m.If(settled):
            m.d.sync += asserted.eq(self.cfg_interrupt_assert)
        with m.If(dones[0] | dones[1]):
            m.d.sync += told.eq(dones[0])
        acknowledges = self.cfg_to_turnoff & self.cfg_turnoff_ok
        with m.If(dones[5]):
            m.d.sync += self.cfg_to_turnoff.eq(0)
        m.d.comb += self.err_sent.eq(Cat(dones[2:5]))
        kinds = [(MsgCode.ASSERT_INTA, MsgRouting.LOCAL), (MsgCode.DEASSERT_INTA, MsgRouting.LOCAL),
                 *((code, MsgRouting.ROOT_COMPLEX) for code in (MsgCode.ERR_COR, MsgCode.ERR_NONFATAL, MsgCode.ERR_FATAL)),
                 (MsgCode.PME_TO_ACK, MsgRouting.GATHERED)]
        said = [(message(code=code.value, routing=routing.value, requester_id=self.completer_id), done)
                for (code, routing), done in zip(kinds, dones)]
        return said, Cat(say, self.err_due, acknowledges)
