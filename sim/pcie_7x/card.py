"""The network card behind a model of the block, with the link of the block as its link."""

from dataclasses import replace

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from ...hdl.nic import RingNIC
from ...hdl.pcie.series7.adapter import PARAMETERS, Adapter
from ...hdl.spec.pcie_7x import LINKS
from .block import Block
from .config import Identity

__all__ = ["SETTLE", "BlockNIC"]

SETTLE = 64     # cycles without a transfer after which nothing moves in the block; more than its pauses are long


class BlockNIC(wiring.Component):
    """A :class:`RingNIC` whose configuration is hosted, the adapter and the block, in one clock domain.

    The link goes down for good when the block was misused or its completion buffer ran over, so that no test passes then.

    Parameters
    ----------
    width : int
    link_speed, lanes : int
        Of the block; 1, 2 or 4 lanes.
    stall : int
        Of 256 cycles those in which the block pauses, each way.
    timeout_cycles : int
        As of :class:`ringnic.hdl.pcie.parameters.PcieParameters`.
    options
        Further parameters of :class:`RingNIC`.

    Members
    -------
    All
        As of the :class:`RingNIC`, without its ``credits``, ``config`` and ``link_page``.
    """
    def __init__(self, *, width=64, link_speed=2, lanes=4, stall=0, timeout_cycles=PARAMETERS.timeout_cycles, **options):
        self.width = width
        self.stall = stall
        self.card = RingNIC(width=width, pcie=replace(PARAMETERS, timeout_cycles=timeout_cycles), **options)
        vectors = 2 * self.card.queue_pairs + 2
        self.block = Block(width=width, lanes=lanes, identity=Identity(msix_vectors=vectors, link_speed=link_speed))
        self.adapter = Adapter(width=width, clock_mhz=LINKS[lanes].user2_mhz)
        super().__init__({name: member for name, member in self.card.signature.members.items()
                          if name not in ("credits", "config", "link_page")})

    def elaborate(self, platform):
        m = Module()
        card, block, adapter = self.card, self.block, self.adapter
        m.submodules.block   = block
        m.submodules.adapter = ResetInserter(block.user_reset_out)(adapter)
        m.submodules.card    = ResetInserter(block.user_reset_out)(card)
        connect(m, block.link_tx, flipped(self.tlp_tx))
        connect(m, adapter.tlp_rx, card.tlp_rx)
        connect(m, card.tlp_tx, adapter.tlp_tx)
        connect(m, adapter.config, card.config)
        connect(m, card.link_page, adapter.link_page)
        m.d.comb += card.credits.eq(adapter.credits)
        for name, member in adapter.block.signature.members.items():
            ours, its = getattr(adapter.block, name), getattr(block, name)
            m.d.comb += its.eq(ours) if member.flow == Out else ours.eq(its)
        for name in self.signature.members:
            if name not in ("tlp_rx", "tlp_tx", "busy"):
                if name in ("frames_rx", "frames_tx"):
                    outer, inner = flipped(getattr(self, name)), getattr(card, name)
                    connect(m, *((outer, inner) if name == "frames_rx" else (inner, outer)))
                else:
                    ours, its = getattr(self, name), getattr(card, name)
                    m.d.comb += ours.eq(its) if self.signature.members[name].flow == Out else its.eq(ours)

        broken, quiet, moves, trains = Signal(), Signal(range(SETTLE + 1)), Signal(), Signal()
        m.d.sync += broken.eq(broken | block.overflow | block.misuse)
        m.d.comb += [
            # A host sends nothing before the link is up.
            trains.eq(~block.user_lnk_up & ~broken),
            block.link_rx.p.eq(self.tlp_rx.p),
            block.link_rx.valid.eq(self.tlp_rx.valid & ~trains),
            self.tlp_rx.ready.eq(block.link_rx.ready & ~trains),
            block.sys_rst_n.eq(1),
            block.link_up.eq(~broken),
            block.seed.eq(1),
            block.stall_rx.eq(self.stall),
            block.stall_tx.eq(self.stall),
            moves.eq(self.tlp_rx.valid | self.tlp_tx.valid | block.m_axis_rx_tvalid | block.s_axis_tx_tvalid | block.cfg_interrupt
                     | block.cfg_err_ur | block.user_reset_out | card.busy),
            self.busy.eq(moves | (quiet != SETTLE)),
        ]
        with m.If(moves):
            m.d.sync += quiet.eq(0)
        with m.Elif(quiet != SETTLE):
            m.d.sync += quiet.eq(quiet + 1)
        return m
