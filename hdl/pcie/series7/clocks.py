"""The pipe clocks of the block, which the IP leaves to its user.

Ref: PG054, "Clocking" and "Shared Logic"; AMD UG472 "7 Series FPGAs Clocking Resources", "BUFGCTRL".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from ...lib.mmcm import Mmcm, Output
from ...spec.pcie_7x import LINKS

__all__ = ["PclkSelect", "PipeClocks"]

TXOUTCLK_MHZ = 100           # the reference clock of the slot, by the transceiver


class PclkSelect(wiring.Component):
    """Choose the clock of the lanes: the fast one when all lanes ask for it, the slow one when none does, else as before.

    Domain ``pclk``, which has no reset. Three cycles after the last lane.

    Parameters
    ----------
    lanes : int

    Members
    -------
    wanted : In(lanes)
        Of each lane, in any domain: 0 for 125 MHz at 2.5 GT/s, 1 for 250 MHz at 5 GT/s.
    fast : Out(1)
    """
    def __init__(self, *, lanes):
        self.lanes = lanes
        super().__init__({"wanted": In(lanes), "fast": Out(1)})

    def elaborate(self, platform):
        m = Module()
        wanted = Signal(self.lanes)
        m.submodules.wanted = FFSynchronizer(self.wanted, wanted, o_domain="pclk")
        with m.If(wanted.all()):
            m.d.pclk += self.fast.eq(1)
        with m.Elif(~wanted.any()):
            m.d.pclk += self.fast.eq(0)
        return m


class PipeClocks(wiring.Component):
    """Make the clocks that the ports ``pipe_*_in`` of the block want from what its transceivers give.

    Parameters
    ----------
    lanes : int
        1, 2 or 4.

    Members
    -------
    txoutclk : In(1)
        The block's ``pipe_txoutclk_out``.
    pclk_sel : In(lanes)
        The block's ``pipe_pclk_sel_out``.
    pclk, dclk, userclk1, userclk2 : Out(1)
        125 or 250 MHz, as the lanes ask; 125 MHz; as :data:`.spec.pcie_7x.LINKS` has it.
    locked : Out(1)
        They run.
    """
    def __init__(self, *, lanes):
        self.lanes = lanes
        self._link = LINKS[lanes]
        super().__init__({
            "txoutclk": In(1), "pclk_sel": In(lanes),
            "pclk": Out(1), "dclk": Out(1), "userclk1": Out(1), "userclk2": Out(1), "locked": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.mmcm = mmcm = Mmcm(input_mhz=TXOUTCLK_MHZ, outputs={
            "slow": Output(125), "fast": Output(250),
            "user1": Output(self._link.user1_mhz), "user2": Output(self._link.user2_mhz)})
        m.submodules.txoutclk_buffer = Instance("BUFG", i_I=self.txoutclk, o_O=mmcm.i)
        # An Instance, not the platform's buffer: that would want a reset.
        m.domains.pclk = ClockDomain(reset_less=True, local=True)
        m.submodules.select = select = PclkSelect(lanes=self.lanes)
        m.submodules.pclk_mux = Instance(
            "BUFGCTRL", i_CE0=1, i_CE1=1, i_IGNORE0=0, i_IGNORE1=0, i_I0=mmcm.o_slow, i_I1=mmcm.o_fast,
            i_S0=~select.fast, i_S1=select.fast, o_O=ClockSignal("pclk"))
        m.d.comb += [
            select.wanted.eq(self.pclk_sel),
            self.pclk.eq(ClockSignal("pclk")),
            self.dclk.eq(mmcm.o_slow),
            self.userclk1.eq(mmcm.o_user1),
            self.userclk2.eq(mmcm.o_user2),
            self.locked.eq(mmcm.locked),
        ]
        return m
