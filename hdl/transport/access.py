"""Accesses to the registers behind the BAR, one at a time.

Ref: VIRTIO 1.4, 4.1.4 "Virtio Structure PCI Capabilities".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.reg import RegPort, reg_req
from ..spec.bar import REG_ADDR_WIDTH

__all__ = ["Access"]


class Access(wiring.Component):
    """Carry out one access after the other, in steps that leave time for memories and for what chooses.

    A read is answered five cycles after it was accepted, a write acts in the cycle after. While ``clearing`` nothing is accepted,
    and no write acts then, or while a reset is pending.

    Members
    -------
    regs : In(RegPort(REG_ADDR_WIDTH))
    current : Out(reg_req(REG_ADDR_WIDTH))
        The access; it stays the same until the next one.
    write : Out(1)
        Strobe: the access is a write, and acts.
    moves : In(1)
        A write that is ``current`` changes the vector of a source of interrupts: it acts when none is pending there.
    withdraw : Out(1), withdrawn : In(1)
        ``withdraw`` is high until ``withdrawn``, in whose cycle the write acts, or ``clearing``.
    settled : In(1)
        What was written has taken effect.
    read : Out(1)
        Strobe: the access is a read, and acts.
    chosen : Out(1), value : In(32)
        Two cycles after ``read``, and what it reads in the next one.
    reset_pending, clearing : In(1)
        See :class:`.status.DeviceStatus`.
    busy : Out(1)
    """
    regs:          In(RegPort(REG_ADDR_WIDTH))
    current:       Out(reg_req(REG_ADDR_WIDTH))
    write:         Out(1)
    moves:         In(1)
    withdraw:      Out(1)
    withdrawn:     In(1)
    settled:       In(1)
    read:          Out(1)
    chosen:        Out(1)
    value:         In(32)
    reset_pending: In(1)
    clearing:      In(1)
    busy:          Out(1)

    def elaborate(self, platform):
        m = Module()
        req, resp, acts = self.regs.req, self.regs.resp, ~self.reset_pending & ~self.clearing
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += req.ready.eq(~self.clearing)
                m.d.sync += self.current.eq(req.payload)
                with m.If(req.valid & req.ready):
                    m.next = "ACT"
            with m.State("ACT"):
                with m.If(self.current.write & self.moves):
                    m.next = "WITHDRAW"
                with m.Elif(self.current.write):
                    m.d.comb += self.write.eq(acts)
                    m.next = "SETTLE"
                with m.Else():
                    m.d.comb += self.read.eq(1)
                    m.next = "LOOK-UP"
            with m.State("WITHDRAW"):
                m.d.comb += [self.withdraw.eq(1), self.write.eq(self.withdrawn & acts)]
                with m.If(self.withdrawn | self.clearing):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(self.settled):
                    m.next = "IDLE"
            with m.State("LOOK-UP"):  # a cycle for the memory, two for what chooses
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.chosen.eq(1)
                m.next = "COLLECT"
            with m.State("COLLECT"):
                m.d.sync += resp.payload.eq(self.value)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += resp.valid.eq(1)
                with m.If(resp.ready):
                    m.next = "IDLE"
        return m
