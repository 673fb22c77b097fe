"""The primitives of Xilinx's 7-series FPGAs that the Ethernet side needs. ``sim/series7.v`` has models of them.

Ref: Xilinx UG471 "7 Series FPGAs SelectIO Resources" (IDDR, ODDR, IDELAYE2, IDELAYCTRL), UG472 "7 Series FPGAs Clocking
Resources" (BUFG), UG470 "7 Series FPGAs Configuration", "Device DNA" (DNA_PORT).
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .dna import DnaPins
from .rgmii import RgmiiPads

__all__ = ["DnaPort", "RgmiiBuffers"]

REFERENCE_MHZ = 200.0   # of IDELAYCTRL: 32 taps of 78 ps (UG471, "IDELAYE2 Attributes")
RESET_CLOCKS = 32       # of the reference: IDELAYCTRL's reset takes 60 ns or more (DS181, T_IDELAYCTRL_RPW)


class RgmiiBuffers(wiring.Component):
    """Registers and delays at the pads of an RGMII.

    Clock domains: ``gmii_tx``; ``gmii_tx_90`` if the card delays TXC; ``delay_reference`` of 200 MHz, in reset until its clock is
    stable; and ``rgmii_rx``, without a reset, whose clock is driven here: RXC behind a global buffer.

    Parameters
    ----------
    tx_delay, rx_taps
        As of :class:`.rgmii.RgmiiParameters`.

    Members
    -------
    pads : In(RgmiiPads)
    txc, txd, tx_ctl, rxc, rxd, rx_ctl
        The pins.
    """
    def __init__(self, *, tx_delay, rx_taps):
        self.tx_delay = tx_delay
        self.rx_taps = rx_taps
        super().__init__({
            "pads": In(RgmiiPads),
            "txc": Out(1), "txd": Out(4), "tx_ctl": Out(1),
            "rxc": In(1), "rxd": In(4), "rx_ctl": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rxc = Instance("BUFG", i_I=self.rxc, o_O=ClockSignal("rgmii_rx"))

        # UG471, "IDELAYCTRL": its reset ends when the reference clock is stable, not before.
        left, reset = Signal(range(RESET_CLOCKS), init=RESET_CLOCKS - 1), Signal(init=1)
        m.d.delay_reference += reset.eq(left != 0)
        with m.If(left != 0):
            m.d.delay_reference += left.eq(left - 1)
        m.submodules.delay_control = Instance("IDELAYCTRL", i_REFCLK=ClockSignal("delay_reference"), i_RST=reset)
        txc, txd, tx_ctl, txc_domain = self.pads.txc, self.pads.txd, self.pads.tx_ctl, "gmii_tx"
        if self.tx_delay == "fpga":
            # The 2 ns between both clocks suffice for a path between neighbouring registers, but not for one to a pad.
            txc, txd, tx_ctl, txc_domain = Signal(2), Signal(8), Signal(2), "gmii_tx_90"
            m.d.gmii_tx_90 += txc.eq(self.pads.txc)
            m.d.gmii_tx += [txd.eq(self.pads.txd), tx_ctl.eq(self.pads.tx_ctl)]
        for k in range(4):
            self._out(m, f"txd_{k}", txd[k], txd[4 + k], self.txd[k])
            self._in(m, f"rxd_{k}", self.rxd[k], self.pads.rxd[k], self.pads.rxd[4 + k])
        self._out(m, "tx_ctl", tx_ctl[0], tx_ctl[1], self.tx_ctl)
        self._in(m, "rx_ctl", self.rx_ctl, self.pads.rx_ctl[0], self.pads.rx_ctl[1])
        self._out(m, "txc", txc[0], txc[1], self.txc, domain=txc_domain)
        return m

    @staticmethod
    def _out(m, name, rising, falling, pin, domain="gmii_tx"):
        m.submodules[name] = Instance(
            "ODDR", p_DDR_CLK_EDGE="SAME_EDGE", p_INIT=C(0, 1), p_SRTYPE="SYNC",
            i_C=ClockSignal(domain), i_CE=1, i_D1=rising, i_D2=falling, i_R=0, i_S=0, o_Q=pin)

    def _in(self, m, name, pin, rising, falling):
        delayed = Signal(name=f"{name}_delayed")
        m.submodules[f"{name}_delay"] = Instance(
            "IDELAYE2", p_IDELAY_TYPE="FIXED", p_IDELAY_VALUE=self.rx_taps, p_DELAY_SRC="IDATAIN", p_SIGNAL_PATTERN="DATA",
            p_HIGH_PERFORMANCE_MODE="TRUE", p_REFCLK_FREQUENCY=REFERENCE_MHZ, p_CINVCTRL_SEL="FALSE", p_PIPE_SEL="FALSE",
            i_C=0, i_CE=0, i_CINVCTRL=0, i_CNTVALUEIN=C(0, 5), i_DATAIN=0, i_IDATAIN=pin, i_INC=0, i_LD=0, i_LDPIPEEN=0,
            i_REGRST=0, o_DATAOUT=delayed)
        m.submodules[name] = Instance(
            "IDDR", p_DDR_CLK_EDGE="SAME_EDGE_PIPELINED", p_INIT_Q1=C(0, 1), p_INIT_Q2=C(0, 1), p_SRTYPE="SYNC",
            i_C=ClockSignal("rgmii_rx"), i_CE=1, i_D=delayed, i_R=0, i_S=0, o_Q1=rising, o_Q2=falling)


class DnaPort(wiring.Component):
    """Port of the FPGA's serial number, 57 bits that are unique within the family.

    Members
    -------
    pins : In(DnaPins)
    """
    pins: In(DnaPins)

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = Instance(
            "DNA_PORT", i_CLK=self.pins.clk, i_DIN=0, i_READ=self.pins.read, i_SHIFT=self.pins.shift, o_DOUT=self.pins.dout)
        return m
