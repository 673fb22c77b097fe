"""The MSI-X table, its mask bits, and the registers that show them and the pending bits.

Ref: PCI Express Base 5.0, 7.7.2 "MSI-X Capability and Table Structure".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.reg import RegPort
from ..spec.bar import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, REG_ADDR_WIDTH
from ..spec.pcie import MSIX_ENTRY_SIZE

__all__ = ["MsixTable"]

PAGE_BITS = 12


class MsixTable(wiring.Component):
    """Keep the entries, and answer the host; a read of the host goes first.

    Parameters
    ----------
    vectors : int

    Members
    -------
    regs : In(RegPort(REG_ADDR_WIDTH))
        See :class:`.msix.Msix`. A read is answered two cycles after it was accepted.
    pending : In(vectors), masked : Out(vectors)
        Bit per vector.
    reset, clear : In(1)
        With both all vectors are masked.
    changed : Out(1)
        Strobe: the table is being changed; what is read in this cycle, and before, may be of before.
    dw : In(range(4 * vectors)), data : Out(32)
        A DW of the table to be read, and what it holds in the next cycle; but not if in this one the host ``reads``.
    reads : Out(1)
    busy : Out(1)
        An answer is to be taken.
    """
    def __init__(self, *, vectors):
        self.vectors = vectors
        super().__init__({
            "regs":    In(RegPort(REG_ADDR_WIDTH)),
            "pending": In(vectors),
            "masked":  Out(vectors, init=(1 << vectors) - 1),
            "reset":   In(1),
            "clear":   In(1),
            "changed": Out(1),
            "dw":      In(range(4 * vectors)),
            "data":    Out(32),
            "reads":   Out(1),
            "busy":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        n, masked, changed = self.vectors, self.masked, self.changed
        m.submodules.table = table = Memory(shape=32, depth=4 * n, init=[], attrs={"ram_style": "distributed"})
        table_w, table_r = table.write_port(granularity=8), table.read_port()

        # Of an entry's last DW only the mask bit exists.
        req = self.regs.req.payload
        is_table = req.addr[PAGE_BITS:] == MSIX_TABLE_OFFSET >> PAGE_BITS
        is_pba   = req.addr[PAGE_BITS:] == MSIX_PBA_OFFSET >> PAGE_BITS
        vector   = req.addr[4:PAGE_BITS]
        exists   = vector < n
        is_control = req.addr[2:4] == MSIX_ENTRY_SIZE // 4 - 1
        accept = Signal()
        m.d.comb += [
            changed.eq(accept & req.write & is_table & exists),
            self.reads.eq(accept & ~req.write),
            table_w.addr.eq(req.addr[2:PAGE_BITS]),
            table_w.data.eq(req.data),
            table_w.en.eq(Mux(changed & ~is_control, req.be, 0)),
            table_r.addr.eq(Mux(self.reads, req.addr[2:PAGE_BITS], self.dw)),
            self.data.eq(table_r.data),
        ]
        with m.If(changed & is_control & req.be[0]):
            m.d.sync += masked.bit_select(vector, 1).eq(req.data[0])
        with m.If(self.clear & self.reset):
            m.d.sync += masked.eq(-1)

        from_table, answer = Signal(), Signal(32)
        pending_words = Cat(self.pending, C(0, -n % 32))
        m.d.comb += self.regs.resp.payload.eq(answer)
        with m.FSM(name="access") as access:
            m.d.comb += self.busy.eq(~access.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += [self.regs.req.ready.eq(1), accept.eq(self.regs.req.valid)]
                m.d.sync += [
                    from_table.eq(is_table & exists & ~is_control),
                    answer.eq(Mux(is_table, is_control & exists & masked.bit_select(vector, 1),
                                  Mux(is_pba & (req.addr[2:PAGE_BITS] < len(pending_words) // 32),
                                      pending_words.word_select(req.addr[2:PAGE_BITS], 32), 0))),
                ]
                with m.If(self.reads):
                    m.next = "READ"
            with m.State("READ"):
                with m.If(from_table):
                    m.d.sync += answer.eq(table_r.data)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.regs.resp.valid.eq(1)
                with m.If(self.regs.resp.ready):
                    m.next = "IDLE"
        return m
