"""A card with an RGMII on the bench: cocotbext-eth's PHY at its pads, a PHY of clause 22 on MDIO, cocotbext-pcie as host."""

import cocotb
from cocotb.clock import Clock
from cocotb.task import resume
from cocotb.triggers import RisingEdge, Timer
from cocotbext.eth import RgmiiPhy
from rig import Rig

from tests.kit.phy import FULL, MdioPhy

PHY_ADDRESS = 5      # as the card was built for, which also sets bits 4 to 7 of register 20 to 5
TX_PS = 8000


class RgmiiRig(Rig):
    """The rig of :mod:`rig`, with another wire.

    Attributes
    ----------
    phy : MdioPhy
    """
    def start_wire(self):
        dut = self.dut
        self.phy = MdioPhy(PHY_ADDRESS)
        self.pads = RgmiiPhy(dut.rgmii_txd, dut.rgmii_tx_ctl, dut.rgmii_txc, dut.rgmii_rxd, dut.rgmii_rx_ctl, dut.rgmii_rxc)
        self.wire_in, self.wire_out = self.pads.rx, self.pads.tx
        Clock(dut.gmii_tx_clk, TX_PS, "ps").start()
        Clock(dut.delay_reference_clk, 5000, "ps").start()
        cocotb.start_soon(self._later(dut.gmii_tx_90_clk, TX_PS // 4))
        cocotb.start_soon(self._mdio())

    @staticmethod
    async def _later(clock, phase_ps):
        clock.value = 0
        await Timer(phase_ps, "ps")
        Clock(clock, TX_PS, "ps").start()

    async def _mdio(self):
        dut, drive = self.dut, None
        dut.mdio_i.value = 1
        while True:
            await RisingEdge(dut.mdc)
            driven = bool(int(dut.mdio_oe.value))
            bus = int(dut.mdio_o.value) if driven else 1 if drive is None else drive
            drive = self.phy.rise(bus, driven)
            await Timer(1, "ns")
            dut.mdio_i.value = 1 if drive is None else drive

    # For the driver's thread

    def plug(self, mbps, duplex=FULL):
        """A partner of this speed alone."""
        async def select():
            self.pads.set_speed(mbps * 1e6)
            self.phy.plug({(mbps, duplex)})
        resume(select)()

    def pull(self):
        async def pulled():
            self.phy.pull()
        resume(pulled)()

    def wire(self):
        """Return the frames that came out since the last call, FCS taken off; each has to be a good one."""
        frames = []
        while not self.wire_out.empty():
            one = self.wire_out.recv_nowait()
            assert one.error is None and one.check_fcs(), one
            assert one.get_preamble() == b"\x55" * 7 + b"\xd5", one
            frames.append(bytes(one.get_payload()))
        return frames

    from_card = wire
