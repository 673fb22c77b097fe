"""A board's card whose user clock stops, as when the slot takes its reference clock away, and a JTAG cable on the card."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from ringnic.hdl.pcie.series7.jtag import LinkScan
from ringnic.hdl.spec.bar import LINK_WORDS
from ringnic.sim.pcie_7x.card import BlockNIC

__all__ = ["StoppingNIC", "scanned_words"]

AWAY_CYCLES = 64             # from the first edge of the clock until the block leaves its reset
SETTLE_CYCLES = 64           # from the last edge until JTAG looks
WORD_BITS = 32
SCAN_BITS = WORD_BITS * LINK_WORDS


class _Slot(wiring.Component):
    """The model of the block in domain ``block``, in a slot that may hold it in reset, as PERST# does: ``held``."""
    def __init__(self, block):
        self.block, self.held = block, Signal()
        super().__init__(block.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = DomainRenamer("block")(ResetInserter(self.held)(self.block))
        for name, member in self.signature.members.items():
            ours, its = getattr(self, name), getattr(self.block, name)
            if member.is_signature:
                connect(m, *((flipped(ours), its) if name == "link_rx" else (its, flipped(ours))))
            else:
                m.d.comb += Value.cast(its).eq(ours) if member.flow == In else Value.cast(ours).eq(its)
        return m


class StoppingNIC(wiring.Component):
    """A :class:`BlockNIC` whose user clock runs while ``link_up`` is high.

    The wire's clocks never stop. When the user clock comes again, the slot holds the block in reset for a while, so the block
    resets the card (PG054, "Clocking and Resets"), and nothing of what the card sends gets through until then. Nothing else
    resets the card, as on a board. Each time that the clock stops, JTAG reads the record of the link training, see
    :func:`scanned_words`.

    The members are those of the :class:`BlockNIC`, and ``options`` its parameters; there is always a partner on the wire. After
    a misuse of the block the slot stays empty, so that no test passes.
    """
    def __init__(self, **options):
        self.nic = BlockNIC(**options)
        self.width = self.nic.width
        self.nic.block = self._slot = _Slot(self.nic.block)
        super().__init__(self.nic.signature)

    def elaborate(self, platform):
        m = Module()
        nic, slot, runs, there = self.nic, self._slot, self.link_up, Signal()
        for domain in (ClockDomain("user"), ClockDomain("block", reset_less=True), ClockDomain("tck", reset_less=True)):
            m.domains += domain
            m.d.comb += domain.clk.eq(ClockSignal())
        m.d.comb += ResetSignal("user").eq(slot.user_reset_out)
        m.submodules.nic = DomainRenamer("user")(EnableInserter({"sync": runs, "block": runs})(nic))
        for name, member in self.signature.members.items():
            if name not in ("tlp_rx", "tlp_tx", "link_up", "busy"):
                ours, its = Value.cast(getattr(self, name)), Value.cast(getattr(nic, name))
                m.d.comb += its.eq(ours) if member.flow == In else ours.eq(its)
        away, misused = Signal(range(AWAY_CYCLES + 1)), Signal()
        m.d.tck += [
            misused.eq(misused | slot.misuse | slot.overflow),
            away.eq(Mux(runs & ~misused, away + ~there, 0)),
        ]
        m.d.comb += [
            there.eq(away == AWAY_CYCLES),
            slot.held.eq(~there),
            nic.link_up.eq(1),
            nic.tlp_rx.p.eq(self.tlp_rx.p), self.tlp_tx.p.eq(nic.tlp_tx.p),
            nic.tlp_rx.valid.eq(self.tlp_rx.valid & runs), self.tlp_rx.ready.eq(nic.tlp_rx.ready & runs),
            self.tlp_tx.valid.eq(nic.tlp_tx.valid & runs & there), nic.tlp_tx.ready.eq(self.tlp_tx.ready & runs),
            self.busy.eq(nic.busy | ~there),
        ]
        self._jtag(m, runs)
        return m

    def _jtag(self, m, runs):
        """Capture-DR, all of Shift-DR, Update-DR, once for each time that the clock stands."""
        m.submodules.scan = scan = DomainRenamer({"jtag": "tck"})(LinkScan())
        connect(m, scan.trace, self.nic.adapter.scan)
        low, high = (Signal(SCAN_BITS // 2, name=f"scan_{part}") for part in ("low", "high"))
        count = Signal(range(SCAN_BITS))
        m.d.tck += count.eq(count + 1)
        m.d.comb += scan.tap.sel.eq(1)
        with m.FSM(domain="tck"):
            with m.State("WAIT"):
                with m.If(runs):
                    m.d.tck += count.eq(0)
                with m.Elif(count == SETTLE_CYCLES):
                    m.next = "CAPTURE"
            with m.State("CAPTURE"):
                m.d.comb += scan.tap.capture.eq(1)
                m.d.tck += count.eq(0)
                m.next = "SHIFT"
            with m.State("SHIFT"):
                m.d.comb += scan.tap.shift.eq(1)
                m.d.tck += [high.eq(Cat(high[1:], scan.tap.tdo)), low.eq(Cat(low[1:], high[0]))]
                with m.If(count == SCAN_BITS - 1):
                    m.next = "UPDATE"
            with m.State("UPDATE"):
                m.d.comb += scan.tap.update.eq(1)
                m.next = "DONE"
            with m.State("DONE"):
                with m.If(runs):
                    m.d.tck += count.eq(0)
                    m.next = "WAIT"


def scanned_words(engine):
    """What JTAG has read when the clock stood the last time, of an engine with a waveform."""
    half = SCAN_BITS // 2
    bits = engine.peek("nic.core.scan_low") | engine.peek("nic.core.scan_high") << half
    return [bits >> WORD_BITS * at & 0xffff_ffff for at in range(LINK_WORDS)]
