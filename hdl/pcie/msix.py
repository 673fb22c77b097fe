"""Interrupts: MSI-X table and pending bits.

Ref: PCI Express Base 5.0, 6.1.4 "Message Signaled Interrupt (MSI/MSI-X) Support".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.dma import WritePort
from ..lib.reg import RegPort
from ..spec.bar import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, REG_ADDR_WIDTH
from ..spec.pcie import MSIX_ENTRY_SIZE

__all__ = ["IRQ_VECTOR_WIDTH", "Msix"]

IRQ_VECTOR_WIDTH = 11
PAGE_BITS = 12


class Msix(wiring.Component):
    """Send one memory write per interrupt, or keep it pending while its vector is masked.

    An interrupt is taken at once, always. Several of one vector that wait become one message; vectors take turns.

    Parameters
    ----------
    vectors : int
        1 to 256.
    width : int
        Bits per beat of the write port.

    Members
    -------
    regs : In(RegPort(REG_ADDR_WIDTH))
        Pages of the table and of the pending bits; behind the last vector everything reads 0.
    irq : In(stream.Signature(11))
        Vector. Dropped if there is no such vector, or MSI-X is off.
    write : Out(WritePort(width))
    enable, function_mask : In(1)
        Of the MSI-X capability.
    bus_master : In(1)
        While low, interrupts stay pending.
    reset : In(1)
        Forget what is pending or about to be sent; the DMA is idle, or forgets too.
    clear : In(1)
        With ``reset``: mask all vectors, as after a Function Level Reset.
    """
    def __init__(self, *, vectors, width):
        if not 1 <= vectors <= 256:
            raise ValueError(f"Number of vectors must be from 1 to 256, not {vectors!r}")
        self.vectors = vectors
        self.width   = width
        super().__init__({
            "regs":  In(RegPort(REG_ADDR_WIDTH)),
            "irq":   In(stream.Signature(unsigned(IRQ_VECTOR_WIDTH))),
            "write": Out(WritePort(width)),
            "enable": In(1),
            "function_mask": In(1),
            "bus_master": In(1),
            "reset": In(1),
            "clear": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        n = self.vectors
        pending, masked = Signal(n), Signal(n, init=-1)
        served  = Signal(n)    # vectors that had their turn
        wanting, picked = Signal(n), Signal(n)
        chosen  = Signal(range(n))

        m.submodules.table = table = Memory(shape=32, depth=4 * n, init=[])
        table_w = table.write_port(granularity=8)
        read_r, send_r = table.read_port(), table.read_port()

        # Register side. Of an entry's last DW only the mask bit exists.
        req = self.regs.req.payload
        is_table = req.addr[PAGE_BITS:] == MSIX_TABLE_OFFSET >> PAGE_BITS
        is_pba   = req.addr[PAGE_BITS:] == MSIX_PBA_OFFSET >> PAGE_BITS
        vector   = req.addr[4:PAGE_BITS]
        exists   = vector < n
        is_control = req.addr[2:4] == MSIX_ENTRY_SIZE // 4 - 1
        accept = Signal()
        m.d.comb += [
            table_w.addr.eq(req.addr[2:PAGE_BITS]),
            table_w.data.eq(req.data),
            table_w.en.eq(Mux(accept & req.write & is_table & exists & ~is_control, req.be, 0)),
        ]
        with m.If(accept & req.write & is_table & exists & is_control & req.be[0]):
            m.d.sync += masked.bit_select(vector, 1).eq(req.data[0])
        with m.If(self.clear & self.reset):
            m.d.sync += masked.eq(-1)

        from_table, fixed = Signal(), Signal(32)
        pending_words = Cat(pending, C(0, -n % 32))
        m.d.comb += self.regs.resp.payload.eq(Mux(from_table, read_r.data, fixed))

        # Pending bits: those set by an interrupt, less the one taken to be sent.
        arrived, taken = Signal(n), Signal(n)
        m.d.comb += self.irq.ready.eq(1)
        with m.If(self.irq.valid & (self.irq.payload < n)):
            m.d.comb += arrived.bit_select(self.irq.payload[:len(chosen)] if n > 1 else C(0, 1), 1).eq(1)
        with m.If(self.reset | ~self.enable):
            m.d.sync += [pending.eq(0), served.eq(0)]
        with m.Else():
            m.d.sync += pending.eq((pending & ~taken) | arrived)

        m.d.comb += [
            wanting.eq(Mux(self.bus_master & ~self.function_mask, pending & ~masked & ~served, 0)),
            picked.eq(wanting & -wanting),
        ]

        address, message = Signal(64), Signal(32)
        m.d.comb += [
            self.write.req.payload.addr.eq(address),
            self.write.req.payload.len.eq(4),
            self.write.data.payload.data.eq(message),
            self.write.data.payload.last.eq(1),
        ]
        part = Signal(2)

        # Two machines: a message that waits for the DMA (which waits for Bus Master) must not hold the host's accesses.
        with m.FSM(name="access"):
            with m.State("IDLE"):
                m.d.comb += [
                    self.regs.req.ready.eq(1), accept.eq(self.regs.req.valid),
                    read_r.addr.eq(req.addr[2:PAGE_BITS]),
                ]
                with m.If(accept):
                    m.d.sync += [
                        from_table.eq(is_table & exists & ~is_control),
                        fixed.eq(Mux(is_table, is_control & exists & masked.bit_select(vector, 1),
                                     Mux(is_pba & (req.addr[2:PAGE_BITS] < len(pending_words) // 32),
                                         pending_words.word_select(req.addr[2:PAGE_BITS], 32), 0))),
                    ]
                    with m.If(~req.write):
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [self.regs.resp.valid.eq(1), read_r.en.eq(0)]
                with m.If(self.regs.resp.ready):
                    m.next = "IDLE"

        with m.FSM(name="send"):
            with m.State("IDLE"):
                with m.If(wanting.any() & ~self.reset):
                    for index in range(n):
                        with m.If(picked[index]):
                            m.d.sync += chosen.eq(index)
                    m.d.comb += taken.eq(picked)
                    m.d.sync += [served.eq(served | picked), part.eq(0)]
                    m.next = "FETCH"
                with m.Else():
                    m.d.sync += served.eq(0)
            with m.State("FETCH"):
                m.d.comb += send_r.addr.eq(Cat(part, chosen))
                m.d.sync += part.eq(part + 1)
                with m.Switch(part):
                    with m.Case(1):
                        m.d.sync += address[:32].eq(send_r.data & 0xffff_fffc)
                    with m.Case(2):
                        m.d.sync += address[32:].eq(send_r.data)
                    with m.Case(3):
                        m.d.sync += message.eq(send_r.data)
                        m.next = "REQUEST"
                with m.If(self.reset):
                    m.next = "IDLE"
            with m.State("REQUEST"):
                m.d.comb += self.write.req.valid.eq(1)
                with m.If(self.write.req.ready):
                    m.next = "DATA"
                with m.If(self.reset):
                    m.next = "IDLE"
            with m.State("DATA"):
                m.d.comb += self.write.data.valid.eq(1)
                with m.If(self.write.data.ready | self.reset):
                    m.next = "IDLE"
        return m
