"""A whole card for a board with a 7-series FPGA: the PCI Express block with its clocks, the network card, and its Ethernet side.

Everything that depends on a board is a parameter; pins and places are for the constraints.
"""

from dataclasses import dataclass

from amaranth import *
from amaranth.hdl import IOPort
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out, connect

from .lib.mmcm import Mmcm, Output
from .mac.phy import PhyManagement
from .mac.rgmii import RgmiiParameters
from .nic import RingNIC
from .pcie.series7.adapter import PARAMETERS, Adapter
from .pcie.series7.clocks import PipeClocks
from .pcie.series7.jtag import LinkScan
from .spec.mii import LinkSpeed
from .spec.pcie_7x import LINKS, block_ports

__all__ = ["BLOCK", "Card", "EthernetSide"]

#: The module of the PCI Express block, as the IP is to be called.
BLOCK = "pcie_7x_0"

# Inputs of the block that are neither clocks, pins nor the adapter's, and are not 0: the partner's de-emphasis is preferred
# (PG054, "Physical Layer Interface"), and the MMCM is not the block's to reset.
TIED = {"pl_upstream_prefer_deemph": 1, "pipe_mmcm_rst_n": 1}
BLINK_BIT = 25               # of a counter of the user clock: about once a second


@dataclass(frozen=True)
class EthernetSide:
    """What a board has for Ethernet.

    ``kind``: "rgmii" or "gmii". ``oscillator_mhz``: of ``osc_clk``, which is a pair of pins if ``differential``. ``phy_address``:
    on MDIO. ``phy_setup``, ``tx_delay``: as of :class:`.mac.rgmii.RgmiiParameters`. ``reset``: the PHY has
    one.
    """
    kind: str
    oscillator_mhz: float
    differential: bool = True
    phy_address: int = 0
    phy_setup: tuple = ()
    tx_delay: str = "fpga"
    reset: bool = True


def _wire(kind):
    """Pads of an Ethernet interface, seen from the card."""
    if kind == "rgmii":
        return {"eth_rx_clk": In(1), "eth_rx_ctl": In(1), "eth_rx_data": In(4),
                "eth_tx_clk": Out(1), "eth_tx_ctl": Out(1), "eth_tx_data": Out(4)}
    return {"eth_rx_clk": In(1), "eth_rx_dv": In(1), "eth_rx_er": In(1), "eth_rx_data": In(8),
            "eth_gtx_clk": Out(1), "eth_tx_en": Out(1), "eth_tx_er": Out(1), "eth_tx_data": Out(8)}


class Card(wiring.Component):
    """Everything between the pins of a board.

    Parameters
    ----------
    lanes : int
        1, 2 or 4; they set the width of the datapath and the user clock, see :data:`.spec.pcie_7x.LINKS`.
    queue_pairs : int
    offered : int
        Mask of the device features to offer.
    mac_address : int or "dna"
        As of :class:`.nic.RingNIC`.
    build_id : int
    ethernet : EthernetSide or None
        None: the card has its loopback only.
    clkreq : bool
        The FPGA is wired to CLKREQ#.
    leds : sequence of (str, bool)
        What each tells of ("link", "clock", "busy", "ethernet"), and whether it is lit by a 0.

    Members
    -------
    pcie_clk_p, pcie_clk_n, pcie_rst_n, pcie_rx_p, pcie_rx_n : In, pcie_tx_p, pcie_tx_n : Out
        The slot. ``pcie_rst_n`` is PERST#.
    pcie_clkreq_n : Out(1)
        There only with ``clkreq``.
    led : Out(len(leds))
    osc_clk_p, osc_clk_n or osc_clk : In, eth_* : In and Out
        There only with ``ethernet``. ``eth_mdio`` is a pad, an attribute and no member.
    """
    def __init__(self, *, lanes, queue_pairs, offered, mac_address, build_id, ethernet=None, clkreq=False, leds=()):
        self.lanes = lanes
        self.ethernet = ethernet
        self.leds = tuple(leds)
        self.offered = offered
        self.link = link = LINKS[lanes]
        rgmii = None
        if ethernet is not None and ethernet.kind == "rgmii":
            rgmii = RgmiiParameters(clock_hz=link.user2_mhz * 1e6, phy_address=ethernet.phy_address,
                                    phy_setup=ethernet.phy_setup, tx_delay=ethernet.tx_delay)
        self._nic = RingNIC(
            width=link.width, queue_pairs=queue_pairs, mac="gmii" if rgmii is None else "rgmii", rgmii=rgmii,
            mac_address=mac_address, build_id=build_id, pcie=PARAMETERS)
        members = {
            "pcie_clk_p": In(1), "pcie_clk_n": In(1), "pcie_rst_n": In(1),
            "pcie_rx_p": In(lanes), "pcie_rx_n": In(lanes), "pcie_tx_p": Out(lanes), "pcie_tx_n": Out(lanes),
            "led": Out(len(self.leds)),
        }
        if clkreq:
            members["pcie_clkreq_n"] = Out(1)
        if ethernet is not None:
            members |= {"osc_clk_p": In(1), "osc_clk_n": In(1)} if ethernet.differential else {"osc_clk": In(1)}
            members |= {**_wire(ethernet.kind), "eth_mdc": Out(1)}
            members |= {"eth_reset_n": Out(1)} if ethernet.reset else {}
            self.eth_mdio = IOPort(1, name="eth_mdio")
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.nic     = nic     = self._nic
        m.submodules.adapter = adapter = Adapter(
            width=self.link.width, clock_mhz=self.link.user2_mhz)
        connect(m, adapter.tlp_rx, nic.tlp_rx)
        connect(m, nic.tlp_tx, adapter.tlp_tx)
        connect(m, adapter.config, nic.config)
        connect(m, nic.link_page, adapter.link_page)
        self._jtag(m, adapter)
        m.d.comb += [nic.credits.eq(adapter.credits), nic.offered.eq(self.offered)]
        block, dclk = self._block(m, adapter)
        ethernet_up = self._ethernet(m, nic) if self.ethernet is not None else self._loopback(m, nic, dclk)
        if hasattr(self, "pcie_clkreq_n"):
            m.d.comb += self.pcie_clkreq_n.eq(0)

        blink = Signal(BLINK_BIT + 1)
        m.d.sync += blink.eq(blink + 1)
        told = {"link": block["user_lnk_up"], "clock": blink[-1], "busy": nic.busy, "ethernet": ethernet_up}
        for at, (what, low) in enumerate(self.leds):
            m.d.comb += self.led[at].eq(told[what] ^ low)
        return m

    def _block(self, m, adapter):
        """The block and its clocks; return its ports by name, and a clock of 125 MHz."""
        refclk = Signal()
        m.submodules.refclk = Instance("IBUFDS_GTE2", i_I=self.pcie_clk_p, i_IB=self.pcie_clk_n, i_CEB=0, o_O=refclk)
        m.submodules.clocks = clocks = PipeClocks(lanes=self.lanes)
        known = block_ports(lanes=self.lanes, width=self.link.width)
        ports = {name: Signal(bits, name=name) for name, (_, bits) in known.items()}
        driven = {
            "sys_clk": refclk, "sys_rst_n": self.pcie_rst_n, "pci_exp_rxp": self.pcie_rx_p, "pci_exp_rxn": self.pcie_rx_n,
            "pipe_pclk_in": clocks.pclk, "pipe_rxusrclk_in": clocks.pclk, "pipe_oobclk_in": clocks.pclk,
            "pipe_dclk_in": clocks.dclk, "pipe_userclk1_in": clocks.userclk1, "pipe_userclk2_in": clocks.userclk2,
            "pipe_mmcm_lock_in": clocks.locked,
            **{name: getattr(adapter.block, name) for name in adapter.block.signature.members if known[name][0] == "i"},
        }
        for name, (direction, _) in known.items():
            if direction == "i":
                m.d.comb += ports[name].eq(driven.get(name, TIED.get(name, 0)))
            elif name in adapter.block.signature.members:
                m.d.comb += getattr(adapter.block, name).eq(ports[name])
        # The domain of the card, from the block: it is reset with the slot, by a hot reset, and when the link goes down.
        m.domains.sync = ClockDomain()
        m.d.comb += [
            ClockSignal().eq(ports["user_clk_out"]),
            ResetSignal().eq(ports["user_reset_out"]),
            clocks.txoutclk.eq(ports["pipe_txoutclk_out"]),
            clocks.pclk_sel.eq(ports["pipe_pclk_sel_out"]),
            self.pcie_tx_p.eq(ports["pci_exp_txp"]),
            self.pcie_tx_n.eq(ports["pci_exp_txn"]),
        ]
        m.submodules.pcie = Instance(BLOCK, **{f"{direction}_{name}": ports[name] for name, (direction, _) in known.items()})
        return ports, clocks.dclk

    def _jtag(self, m, adapter):
        """The record of the link training, behind instruction USER1 of the FPGA's JTAG."""
        m.submodules.scan = scan = LinkScan()
        connect(m, scan.trace, adapter.scan)
        m.domains.jtag = ClockDomain(reset_less=True)
        tck = Signal()
        # The constraints know it by this name.
        m.submodules.link_tap = Instance(
            "BSCANE2", p_JTAG_CHAIN=1, i_TDO=scan.tap.tdo, o_SEL=scan.tap.sel, o_CAPTURE=scan.tap.capture,
            o_SHIFT=scan.tap.shift, o_UPDATE=scan.tap.update, o_TCK=tck)
        m.submodules.tck_buffer = Instance("BUFG", i_I=tck, o_O=ClockSignal("jtag"))

    def _loopback(self, m, nic, clock):
        """A MAC without a wire: the host may switch its loopback on."""
        for name in ("gmii_rx", "gmii_tx"):
            domain = ClockDomain(name, reset_less=True)
            m.domains += domain
            m.d.comb += domain.clk.eq(clock)
        return 0

    def _ethernet(self, m, nic):
        """The MAC's clocks, from the board's oscillator, and its pads; return that the link is up."""
        ethernet = self.ethernet
        m.submodules.eth_clocks = clocks = Mmcm(input_mhz=ethernet.oscillator_mhz, outputs={
            "tx": Output(125), "tx_90": Output(125, phase=90), "delay": Output(200)})
        if ethernet.differential:
            m.submodules.osc = Instance("IBUFDS", i_I=self.osc_clk_p, i_IB=self.osc_clk_n, o_O=clocks.i)
        else:
            m.d.comb += clocks.i.eq(self.osc_clk)
        for name, clock in (("gmii_tx", clocks.o_tx), ("gmii_tx_90", clocks.o_tx_90), ("delay_reference", clocks.o_delay)):
            domain = ClockDomain(name, reset_less=name != "delay_reference")
            m.domains += domain
            m.d.comb += domain.clk.eq(clock)
        m.submodules.delay_reset = ResetSynchronizer(~clocks.locked, domain="delay_reference")
        if hasattr(self, "eth_reset_n"):
            m.d.comb += self.eth_reset_n.eq(1)  # a PHY that has found its link keeps it when the FPGA is loaded anew
        if ethernet.kind == "rgmii":
            m.d.comb += [
                nic.rgmii_rxc.eq(self.eth_rx_clk), nic.rgmii_rxd.eq(self.eth_rx_data), nic.rgmii_rx_ctl.eq(self.eth_rx_ctl),
                self.eth_tx_clk.eq(nic.rgmii_txc), self.eth_tx_data.eq(nic.rgmii_txd), self.eth_tx_ctl.eq(nic.rgmii_tx_ctl),
            ]
            self._mdio(m, nic.mdio)
            return nic.ethernet_up
        return self._gmii(m, nic)

    def _gmii(self, m, nic):
        """Registers at the pads of a GMII, and its PHY, which has to be at 1000 Mbit/s."""
        m.domains.gmii_rx = ClockDomain(reset_less=True)
        m.submodules.rx_clk = Instance("BUFG", i_I=self.eth_rx_clk, o_O=ClockSignal("gmii_rx"))
        m.submodules.gtx_clk = Instance(
            "ODDR", p_DDR_CLK_EDGE="SAME_EDGE", i_C=ClockSignal("gmii_tx"), i_CE=1, i_D1=0, i_D2=1, i_R=0, i_S=0,
            o_Q=self.eth_gtx_clk)
        m.d.gmii_rx += [nic.gmii_rxd.eq(self.eth_rx_data), nic.gmii_rx_dv.eq(self.eth_rx_dv), nic.gmii_rx_er.eq(self.eth_rx_er)]
        m.d.gmii_tx += [self.eth_tx_data.eq(nic.gmii_txd), self.eth_tx_en.eq(nic.gmii_tx_en), self.eth_tx_er.eq(nic.gmii_tx_er)]
        m.submodules.phy = phy = PhyManagement(
            clock_hz=self.link.user2_mhz * 1e6, address=self.ethernet.phy_address, setup=self.ethernet.phy_setup)
        self._mdio(m, phy.pins)
        m.d.comb += nic.link_up.eq(phy.link.up & (phy.link.speed == LinkSpeed.MBPS_1000))
        return nic.link_up

    def _mdio(self, m, pins):
        m.d.comb += self.eth_mdc.eq(pins.mdc)
        m.submodules.mdio_pad = Instance("IOBUF", i_I=pins.mdio_o, i_T=~pins.mdio_oe, o_O=pins.mdio_i, io_IO=self.eth_mdio)
