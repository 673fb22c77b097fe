"""The card's side of the block as a whole."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ...lib.reg import WordPort
from ...spec.bar import LINK_WORDS
from ...spec.pcie_7x import CPL_BUFFER_HEADERS
from ..function_config import FunctionConfig
from ..parameters import PcieParameters
from ..tlp_stream import TLP_CLASSES, tlp_beat
from .config import MAX_SIZE, BlockConfig
from .ports import CONFIG, RX, TRACE, TX, ports
from .rx import Rx
from .trace import LinkTrace, ScanPort
from .tx import Refusals, Tx

__all__ = ["PARAMETERS", "Adapter"]

#: Of a function behind the block. A slot with one lane at 2.5 GT/s carries 16 of the smallest packets in 512 cycles of its clock.
PARAMETERS = PcieParameters(hosted=True, max_payload=MAX_SIZE, cpl_headers=CPL_BUFFER_HEADERS, hold_cycles=512)


class Adapter(wiring.Component):
    """Join a function whose configuration is ``hosted`` to the block.

    It lives in the block's user clock domain and is reset with it: by a reset of the slot, by a hot reset, and when the link goes
    down. Connect ``user_clk_out`` and ``user_reset_out`` to the domain ``sync``.

    Parameters
    ----------
    width : int
        Bits per beat.
    clock_mhz : float
        The user clock, as of :class:`.trace.LinkTrace`.

    Members
    -------
    block : Out(ports(...))
        The ports of the block that are neither clocks, resets nor pins; other inputs of the block are constant.
    tlp_rx : Out(stream), tlp_tx : In(stream)
        Raw TLPs, to the function and from it.
    credits : Out(TLP_CLASSES)
        Classes of which a TLP may begin.
    config : Out(FunctionConfig(width))
    dropped : Out(1)
        Strobe, see :class:`.rx.Rx`.
    link_page : In(WordPort(LINK_WORDS)), scan : In(ScanPort)
        See :class:`.trace.LinkTrace`, which no reset reaches.
    """
    def __init__(self, *, width, clock_mhz):
        self.width = width
        self.clock_mhz = clock_mhz
        super().__init__({
            "block":   Out(ports((*RX, *TX, *CONFIG, *TRACE), width=width)),
            "tlp_rx":  Out(stream.Signature(tlp_beat(width))),
            "tlp_tx":  In(stream.Signature(tlp_beat(width))),
            "credits": Out(TLP_CLASSES),
            "config":  Out(FunctionConfig(width)),
            "dropped": Out(1),
            "link_page": In(WordPort(LINK_WORDS)),
            "scan":    In(ScanPort),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rx = rx = Rx(width=self.width)
        m.submodules.tx = tx = Tx(width=self.width)
        m.submodules.refusals = refusals = Refusals(width=self.width)
        m.submodules.config = config = BlockConfig(width=self.width)
        m.submodules.trace = trace = LinkTrace(clock_mhz=self.clock_mhz)
        connect(m, rx.o, flipped(self.tlp_rx))
        connect(m, flipped(self.tlp_tx), refusals.i)
        connect(m, refusals.o, tx.i)
        connect(m, refusals.refusals, config.refusals)
        connect(m, config.function, flipped(self.config))
        connect(m, flipped(self.link_page), trace.page)
        connect(m, flipped(self.scan), trace.scan)
        m.d.comb += [
            trace.up.eq(self.block.user_lnk_up),
            tx.mps.eq(config.function.mps),
            tx.leaving.eq(config.function.leaving),
            self.credits.eq(tx.credits),
            self.dropped.eq(rx.dropped),
        ]
        for part, names in ((rx, RX), (tx, TX), (config, CONFIG), (trace, TRACE)):
            for name, member in ports(names, width=self.width).members.items():
                inner, outer = getattr(part.block, name), getattr(self.block, name)
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        return m
