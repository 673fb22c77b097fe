"""A record of the link training, for the bring-up of a board.

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

#: Reads the words from another clock domain, seen from the reader. ``hold`` is high during a scan; ``answer`` follows ``ask``
#: while the user clock runs.
ScanPort = wiring.Signature({"page": Out(WordPort(LINK_WORDS)), "hold": Out(1), "ask": Out(1), "answer": In(1)})


class LinkTrace(wiring.Component):
    """Record the last states of the link training and how long each lasted; serve the record as words, see
    :mod:`ringnic.hdl.spec.bar`.

    No reset clears the record, because a link that goes down resets everything else behind the block. The record starts when the
    FPGA is loaded. A state that is shorter than a clock may be missed. While the user clock is stopped nothing is recorded, but
    the record can still be read by ``scan``. Without the slot's reference clock the user clock never starts.

    There are two readers, and the memory has a read port for each. ``page`` is in the domain of the user clock, and entries may
    be added while it is read. ``scan`` is in a domain of its own: while ``hold`` is high, no word changes. The hold takes effect
    within four clocks: three of the synchronizer, and one to write the entry of a state that was entered in the last of them. The
    reader has to wait that long before it looks at any word but the first, which is constant. If the user clock starts during a
    scan, these four clocks may corrupt a word of that scan.

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
        held, held_before = Signal(), Signal(reset_less=True)
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
            held_before.eq(held),
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

        # The newest entry is written in every cycle: its time is up to date, and a change of the state needs no write of its own.
        # The count may have changed in the cycle before a hold, so the first cycle of the hold writes too.
        m.submodules.memory = memory = Memory(shape=32, depth=LINK_ENTRIES, init=[])
        write = memory.write_port()
        m.d.comb += [
            write.addr.eq(count),
            write.data[LinkEntry.TICKS].eq(ticks),
            write.data[LinkEntry.STATE].eq(state),
            write.data[LinkEntry.GAP].eq(gap),
            write.en.eq(~(held & held_before)),
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
