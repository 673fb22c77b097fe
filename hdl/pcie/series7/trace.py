"""What the link has done: the states of its training, for whom it does not train.

Ref: PG054, "Physical Layer Interface" (``pl_ltssm_state``, ``pl_sel_lnk_rate``, ``pl_sel_lnk_width``), "Clocking and Resets"
(``user_lnk_up``); PCI Express Base 2.1, 4.2.5 "Link Training and Status State Rules".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ...lib.reg import WordPort
from ...spec.bar import LINK_ENTRIES, LINK_MAGIC, LINK_TICK_NS, LINK_WORDS, LinkEntry, LinkStatus
from .ports import TRACE, ports

__all__ = ["LinkTrace", "ScanPort"]

#: To read the words from a clock of its own, seen from the reader. ``hold`` is high while it reads, from long before it looks at
#: a word after the first; ``answer`` follows ``ask`` as long as the user clock runs.
ScanPort = wiring.Signature({"page": Out(WordPort(LINK_WORDS)), "hold": Out(1), "ask": Out(1), "answer": In(1)})


class LinkTrace(wiring.Component):
    """Keep the last states of the link training, with how long each lasted; show them as :mod:`ringnic.hdl.spec.bar` says.

    No reset reaches it, for a link that goes down resets all that is behind the block: what is here is from the loading of the
    FPGA on. A state that lasts less than a clock may be missed. While the user clock stands nothing is recorded, and what is
    here stays: without the slot's reference clock it does not run.

    Two readers, each with a read port of its own to the memory. One has the user clock; while it reads, entries may come. The
    other one has a clock of its own, so while it reads, ``hold`` keeps everything that it can see as it is. Its synchronizer
    takes three clocks, and the reader spends more time than that on the first word, which is a constant. A user clock that
    begins in the middle may spoil a word that is being looked at in those three clocks.

    Parameters
    ----------
    clock_mhz : float
        The user clock: 62.5 MHz times a power of 2.

    Members
    -------
    block : Out(ports(TRACE))
    up : In(1)
        The block's ``user_lnk_up``.
    page : In(WordPort(LINK_WORDS))
        In the same cycle.
    scan : In(ScanPort)
    """
    def __init__(self, *, clock_mhz):
        self.tick_cycles = round(clock_mhz * LINK_TICK_NS / 1000)
        if self.tick_cycles.bit_count() != 1:
            raise ValueError(f"User clock must be 62.5 MHz times a power of 2, not {clock_mhz!r}")
        super().__init__({
            "block": Out(ports(TRACE, width=64)),
            "up":    In(1),
            "page":  In(WordPort(LINK_WORDS)),
            "scan":  In(ScanPort),
        })

    def elaborate(self, platform):
        m = Module()
        block = self.block
        held = Signal()
        m.submodules.hold = FFSynchronizer(self.scan.hold, held)
        m.submodules.ask  = FFSynchronizer(self.scan.ask, self.scan.answer)

        seen, state = Signal(6, reset_less=True), Signal(6, reset_less=True)
        link = Signal(4, reset_less=True)
        parts = Signal(range(self.tick_cycles), reset_less=True)
        ticks = Signal(LinkEntry.TICKS.stop - LinkEntry.TICKS.start, reset_less=True)
        gap = Signal(reset_less=True)
        count = Signal(LinkStatus.COUNT.stop - LinkStatus.COUNT.start, reset_less=True)
        changed = Signal()
        m.d.comb += changed.eq(seen != state)
        m.d.sync += [
            seen.eq(block.pl_ltssm_state),  # the block is far away
            parts.eq(parts + 1),
            ticks.eq(ticks + (parts.all() & ~ticks.all())),
            gap.eq(gap | changed),
        ]
        with m.If(~held):
            m.d.sync += [
                link.eq(Cat(self.up, block.pl_sel_lnk_rate, block.pl_sel_lnk_width)),
                state.eq(seen),
                gap.eq(gap & ~changed),
            ]
            with m.If(changed):
                m.d.sync += [
                    parts.eq(0),
                    ticks.eq(0),
                    count.eq(Mux(count.all(), count & -LINK_ENTRIES, count + 1)),
                ]

        # The newest entry is written in every cycle, so it is always as old as it should be, and there is nothing to be done when
        # the state changes.
        m.submodules.memory = memory = Memory(shape=32, depth=LINK_ENTRIES, init=[])
        write = memory.write_port()
        m.d.comb += [
            write.addr.eq(count),
            write.data[LinkEntry.TICKS].eq(ticks),
            write.data[LinkEntry.STATE].eq(state),
            write.data[LinkEntry.GAP].eq(gap),
            write.en.eq(~held),
        ]
        status = Signal(32)
        m.d.comb += [
            status[LinkStatus.UP:LinkStatus.WIDTH.stop].eq(link),
            status[LinkStatus.CLOCK].eq(1),
            status[LinkStatus.COUNT].eq(count),
        ]
        for port in (self.page, self.scan.page):
            entry = memory.read_port(domain="comb")
            m.d.comb += [
                entry.addr.eq(port.word),
                port.value.eq(Mux(port.word[-1], entry.data, Mux(port.word[0], status, LINK_MAGIC))),
            ]
        return m
