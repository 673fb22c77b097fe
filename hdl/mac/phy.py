"""A PHY as the card sees it: pins to manage it by, and the state of its link."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from ..spec.mii import MDIO_PREAMBLE_BITS, LinkState
from .mdio import MdioMaster, MdioPins
from .phy_monitor import PhyMonitor

__all__ = ["PhyManagement"]

POLL_SECONDS = 20e-3
FRAME_BITS = MDIO_PREAMBLE_BITS + 32


class PhyManagement(wiring.Component):
    """Set a PHY up and poll it. A reset of the domain ``sync`` changes nothing here.

    The PHY keeps its link while the slot is reset, so what is known of it is kept. A reset in the middle of an MDIO write would
    make the PHY take bits of the next preamble as data.

    The clock may come from a slot whose reference stops and starts again without a reset that this component sees. If the PHY
    has not been asked for two polls, everything here begins anew, with the link down.

    Parameters
    ----------
    clock_hz : float
        Of the domain ``sync``.
    address, setup
        As :class:`.mdio.MdioMaster` and :class:`.phy_monitor.PhyMonitor` take them.

    Members
    -------
    pins : Out(MdioPins)
    link, polled : Out
        As of :class:`.phy_monitor.PhyMonitor`.
    """
    def __init__(self, *, clock_hz, address, setup):
        poll_cycles = max(1, round(clock_hz * POLL_SECONDS))
        self._master = MdioMaster(clock_hz=clock_hz, address=address)
        self._monitor = PhyMonitor(setup=setup, poll_cycles=poll_cycles)
        self._patience = 2 * (poll_cycles + 2 * FRAME_BITS * self._master.half_period)
        super().__init__({"pins": Out(MdioPins), "link": Out(LinkState), "polled": Out(1)})

    def elaborate(self, platform):
        m = Module()
        master, monitor = self._master, self._monitor
        # The clock of ``sync`` without its reset. Nothing here depends on a register of ``sync``.
        m.domains.phy = ClockDomain(local=True)
        silent = Signal(range(self._patience), reset_less=True)
        m.d.comb += [
            ClockSignal("phy").eq(ClockSignal("sync")),
            ResetSignal("phy").eq(silent == self._patience - 1),
        ]
        m.d.phy += silent.eq(Mux(ResetSignal("phy") | (master.o.valid & master.o.ready), 0, silent + 1))
        m.submodules.master  = DomainRenamer("phy")(master)
        m.submodules.monitor = DomainRenamer("phy")(monitor)
        connect(m, monitor.request, master.i)
        connect(m, master.o, monitor.answer)
        connect(m, master.pins, flipped(self.pins))
        m.d.comb += [self.link.eq(monitor.link), self.polled.eq(monitor.polled)]
        return m
