"""What the completions of a request say.

Ref: PCI Express Base 5.0, 2.2.9 "Completion Rules".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..spec.bar import REG_ADDR_WIDTH
from ..spec.pcie import CplStatus
from .completion import completion_layout
from .header import Header
from .request_judge import Action, Verdict

__all__ = ["Answer"]


class Answer(wiring.Component):
    """Keep the status, and count what a read still has to bring.

    Members
    -------
    raw : In(128), completer_id : In(16)
        As :class:`.request_judge.RequestJudge` has it; of this function.
    verdict : In(Verdict), now : In(1)
        Strobe: the request is judged.
    word : In(REG_ADDR_WIDTH - 2), remaining : In(11)
        Of a memory request: the next DW, and how many there still are. Of an atomic operation: DWs that it brings.
    sent : In(1)
        Strobe: a completion has left.
    says : Out(completion_layout)
        Of the next one, from the cycle after ``now``, or ``sent``, on.
    due : Out(1)
        The request is refused, and completed without being carried out.
    more : Out(1)
        It is a read, and what is being sent is not the last of it.
    """
    raw:          In(128)
    completer_id: In(16)
    verdict:      In(Verdict)
    now:          In(1)
    word:         In(REG_ADDR_WIDTH - 2)
    remaining:    In(11)
    sent:         In(1)
    says:         Out(completion_layout)
    due:          Out(1)
    more:         Out(1)

    def elaborate(self, platform):
        m = Module()
        h, verdict, says = Header(self.raw), self.verdict, self.says
        is_read, locked, lead = Signal(), Signal(), Signal(2)
        byte_count, word, spare, left = Signal(13), Signal(5), Signal(3), Signal(13)
        m.d.comb += [
            spare.eq(verdict.trail + Mux(self.now, verdict.lead, 0)),
            left.eq((self.remaining << 2) - spare),
            self.more.eq(is_read & ~self.due & (self.remaining != 0)),
            says.completer_id.eq(self.completer_id),
            says.status.eq(Mux(self.due, CplStatus.UR, CplStatus.SC)),
            says.byte_count.eq(byte_count),
            says.lower_address.eq(Cat(lead, word)),
            says.locked.eq(locked),
            *[says[name].eq(getattr(h, name)) for name in ("requester_id", "tag", "tc", "attr")],
        ]
        with m.If(self.now):
            # Of completions to anything but a memory read: byte_count 4, lower_address 0.
            m.d.sync += [self.due.eq(verdict.action == Action.REFUSE), locked.eq(verdict.locked), is_read.eq(verdict.is_read),
                         byte_count.eq(4), word.eq(0), lead.eq(0)]
            with m.If(verdict.is_atomic):
                # The size of an operand, of which a CAS brings two.
                m.d.sync += byte_count.eq(Mux(h.type[1], self.remaining << 1, self.remaining << 2))
            with m.If(verdict.is_read):
                m.d.sync += [byte_count.eq(left), word.eq(self.word), lead.eq(verdict.lead)]
        with m.Elif(self.sent):
            m.d.sync += [byte_count.eq(left), word.eq(self.word), lead.eq(0)]
        return m
