"""A PHY as the card sees it: pins to manage it by, and the state of its link."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from ..spec.mii import LinkState
from .mdio import MdioMaster, MdioPins, PhyMonitor

__all__ = ["PhyManagement"]

POLL_SECONDS = 20e-3


class PhyManagement(wiring.Component):
    """Set a PHY up and poll it. A reset of the domain ``sync`` changes nothing here.

    The PHY and its link go on beside a slot that is reset, so what is known of them does, too. And a write that a reset cut
    would take its missing bits from the preamble of the next frame.

    Parameters
    ----------
    clock_hz : float
        Of the domain ``sync``.
    address, setup
        As :class:`.mdio.MdioMaster` and :class:`.mdio.PhyMonitor` take them.

    Members
    -------
    pins : Out(MdioPins)
    link, polled : Out
        As of :class:`.mdio.PhyMonitor`.
    """
    def __init__(self, *, clock_hz, address, setup):
        self._master = MdioMaster(clock_hz=clock_hz, address=address)
        self._monitor = PhyMonitor(setup=setup, poll_cycles=max(1, round(clock_hz * POLL_SECONDS)))
        super().__init__({"pins": Out(MdioPins), "link": Out(LinkState), "polled": Out(1)})

    def elaborate(self, platform):
        m = Module()
        master, monitor = self._master, self._monitor
        # The clock of ``sync`` without its reset. Nothing here depends on a register of ``sync``.
        m.domains.phy = ClockDomain(reset_less=True, local=True)
        m.d.comb += ClockSignal("phy").eq(ClockSignal("sync"))
        m.submodules.master  = DomainRenamer("phy")(master)
        m.submodules.monitor = DomainRenamer("phy")(monitor)
        connect(m, monitor.request, master.i)
        connect(m, master.o, monitor.answer)
        connect(m, master.pins, flipped(self.pins))
        m.d.comb += [self.link.eq(monitor.link), self.polled.eq(monitor.polled)]
        return m
