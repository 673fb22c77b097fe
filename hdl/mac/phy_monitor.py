"""Management of a PHY: its setup, and from its registers the state of the link.

Ref: IEEE 802.3, 22.2.4 "Management functions", 28.2.4 "Management function requirements", annex 28B.3 "Priority Resolution",
40.5.1.1 "1000BASE-T use of registers during Auto-Negotiation".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..spec.mii import FULL_1000, HALF_1000, TECHNOLOGIES, Bmcr, Bmsr, LinkSpeed, LinkState, Phy
from ..spec.phy import WHOLE
from .mdio import MdioAnswer, MdioRequest

__all__ = ["PhyMonitor"]


class PhyMonitor(wiring.Component):
    """Write the setup of a PHY, then poll its link state.

    The PHY is never reset, and its negotiation is never restarted. The setup is written after the PHY has answered eight polls in
    a row, because some PHYs answer before they accept writes. It is written again if the PHY stopped answering, because it may
    have lost power. Without a setup the first poll counts.

    The link is up if the PHY reports it at both ends of a poll, negotiation is complete or disabled, and the best common mode
    is full duplex. The card does not support half duplex, so a half-duplex link is reported as down. Every loss of link, however
    short, is reported as down for at least one poll, because the PHY's bit latches low. So speed never changes while ``link.up``
    is high.

    Parameters
    ----------
    setup : sequence of (int, int, int)
        Register, mask and value, see :mod:`ringnic.hdl.spec.phy`.
    poll_cycles : int
        Cycles between two polls.

    Members
    -------
    request : Out(stream(MdioRequest)), answer : In(stream(MdioAnswer))
        To and from the PHY's :class:`.mdio.MdioMaster`.
    link : Out(LinkState)
        Changes in a single cycle. ``speed`` and ``full`` mean something only with ``up``, and then ``full`` is high.
    polled : Out(1)
        High for one cycle when a complete poll has updated ``link``.
    """
    POLL = (Phy.STATUS, Phy.CONTROL, Phy.ADVERTISEMENT, Phy.PARTNER_ABILITY, Phy.MASTER_SLAVE_CONTROL, Phy.MASTER_SLAVE_STATUS,
            Phy.STATUS)
    SETTLED = 8  # polls

    def __init__(self, *, setup, poll_cycles):
        for register, mask, value in setup:
            if register not in range(32) or mask not in range(1, WHOLE + 1) or value & ~mask:
                raise ValueError(f"A step of a PHY's setup must be a register, a mask and bits of it, "
                                 f"not {(register, mask, value)!r}")
        self.setup = tuple(setup)
        self.settled = self.SETTLED if self.setup else 0
        self.poll_cycles = poll_cycles
        super().__init__({
            "request": Out(stream.Signature(MdioRequest)),
            "answer":  In(stream.Signature(MdioAnswer)),
            "link":    Out(LinkState),
            "polled":  Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        request, answer = self.request, self.answer
        pause    = Signal(range(self.poll_cycles))
        step     = Signal(range(max(len(self.POLL), len(self.setup))))
        answered = Signal(range(self.settled + 1))     # polls in a row, until the setup is written
        polled   = self._look_up(m, step, [(register,) for register in self.POLL], (5,))[0]
        setup    = self._look_up(m, step, self.setup, (5, 16, 16))
        link     = self._resolve(m, step)

        m.d.sync += self.polled.eq(0)
        with m.FSM():
            with m.State("PAUSE"):
                m.d.sync += [pause.eq(pause + 1), step.eq(0)]
                with m.If(pause == self.poll_cycles - 1):
                    m.d.sync += pause.eq(0)
                    m.next = "POLL"
            with m.State("POLL"):
                m.d.comb += [request.valid.eq(1), request.p.register.eq(polled)]
                with m.If(request.ready):
                    m.next = "POLLED"
            with m.State("POLLED"):
                m.d.comb += answer.ready.eq(1)
                with m.If(answer.valid):
                    m.d.sync += step.eq(step + 1)
                    m.next = "POLL"
                    with m.If(~answer.p.ok):
                        m.d.sync += [self.link.up.eq(0), answered.eq(0)]
                        m.next = "PAUSE"
                    with m.Elif(step == len(self.POLL) - 1):
                        m.next = "RESULT"
            with m.State("RESULT"):
                m.d.sync += step.eq(0)
                m.next = "PAUSE"
                with m.If(answered == self.settled):
                    m.d.sync += [self.link.eq(link), self.polled.eq(1)]
                with m.Else():
                    m.d.sync += answered.eq(answered + 1)
                    if self.setup:
                        with m.If(answered == self.settled - 1):
                            m.next = "READ"
            if self.setup:
                self._write_setup(m, step, setup, answered)
        return m

    @staticmethod
    def _look_up(m, step, table, widths):
        """The row of ``table`` at ``step``, as signals."""
        row = [Signal(width) for width in widths]
        with m.Switch(step):
            for number, values in enumerate(table):
                with m.Case(number):
                    m.d.comb += [signal.eq(value) for signal, value in zip(row, values, strict=True)]
        return row

    def _write_setup(self, m, step, setup, answered):
        """States that change bits of registers, one row of the setup after the other."""
        request, answer = self.request, self.answer
        register, mask, wanted = setup
        old = Signal(16)
        with m.State("READ"):
            m.d.comb += [request.valid.eq(mask != WHOLE), request.p.register.eq(register)]
            with m.If(mask == WHOLE):
                m.next = "WRITE"
            with m.Elif(request.ready):
                m.next = "OLD"
        with m.State("OLD"):
            m.d.comb += answer.ready.eq(1)
            m.d.sync += old.eq(answer.p.data)
            with m.If(answer.valid):
                m.next = "WRITE"
                with m.If(~answer.p.ok):
                    m.d.sync += answered.eq(0)
                    m.next = "PAUSE"
        with m.State("WRITE"):
            m.d.comb += [request.valid.eq(1), request.p.write.eq(1), request.p.register.eq(register),
                         request.p.data.eq(old & ~mask | wanted)]
            with m.If(request.ready):
                m.next = "WRITTEN"
        with m.State("WRITTEN"):
            m.d.comb += answer.ready.eq(1)
            with m.If(answer.valid):
                m.d.sync += step.eq(step + 1)
                m.next = "READ"
                with m.If(step == len(self.setup) - 1):
                    m.next = "PAUSE"

    def _resolve(self, m, step):
        """Keep what the answers of a poll say, and resolve them to a :class:`LinkState`."""
        answer, value = self.answer, self.answer.p.data
        steady, complete, negotiates, forced_1000, forced_100, forced_full, full_1000, half_1000 = (
            Signal(name=name) for name in (
                "steady", "complete", "negotiates", "forced_1000", "forced_100", "forced_full", "full_1000", "half_1000"))
        common = Signal(4)  # of TECHNOLOGIES
        with m.If(answer.valid & answer.ready):
            with m.Switch(step):
                with m.Case(0):
                    m.d.sync += [steady.eq(value[Bmsr.LINK]), complete.eq(value[Bmsr.AN_COMPLETE])]
                with m.Case(1):
                    m.d.sync += [
                        negotiates.eq(value[Bmcr.AN_ENABLE]), forced_1000.eq(value[Bmcr.SPEED_1000]),
                        forced_100.eq(value[Bmcr.SPEED_100]), forced_full.eq(value[Bmcr.FULL_DUPLEX]),
                    ]
                with m.Case(2):
                    m.d.sync += common.eq(value[TECHNOLOGIES])
                with m.Case(3):
                    m.d.sync += common.eq(common & value[TECHNOLOGIES])
                with m.Case(4):
                    m.d.sync += [full_1000.eq(value[FULL_1000[Phy.MASTER_SLAVE_CONTROL]]),
                                 half_1000.eq(value[HALF_1000[Phy.MASTER_SLAVE_CONTROL]])]
                with m.Case(5):
                    m.d.sync += [full_1000.eq(full_1000 & value[FULL_1000[Phy.MASTER_SLAVE_STATUS]]),
                                 half_1000.eq(half_1000 & value[HALF_1000[Phy.MASTER_SLAVE_STATUS]])]
                with m.Case(6):
                    # 22.2.4.2.13: the bit latches low, so a loss since the first read shows here.
                    m.d.sync += steady.eq(steady & value[Bmsr.LINK])
        link = Signal(LinkState)
        with m.If(~negotiates):
            m.d.comb += [
                link.up.eq(steady & forced_full & ~(forced_1000 & forced_100)),  # both bits: reserved
                link.full.eq(forced_full),
                link.speed.eq(Cat(forced_100, forced_1000)),
            ]
        with m.Elif(complete):
            # 28B.3: the best mode that both ends have. A half-duplex one keeps the link down.
            with m.If(full_1000 | half_1000):
                m.d.comb += [link.speed.eq(LinkSpeed.MBPS_1000), link.full.eq(full_1000)]
            with m.Elif(common[2:].any()):
                m.d.comb += [link.speed.eq(LinkSpeed.MBPS_100), link.full.eq(common[3])]
            with m.Else():
                m.d.comb += [link.speed.eq(LinkSpeed.MBPS_10), link.full.eq(common[1])]
            m.d.comb += link.up.eq(steady & link.full)
        return link
