"""Interrupts: MSI-X table, pending bits and messages.

Ref: PCI Express Base 5.0, 6.1.4 "Message Signaled Interrupt (MSI/MSI-X) Support", 7.7.2 "MSI-X Capability and Table
Structure".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.interrupt import InterruptPort
from ..lib.reg import RegPort
from ..spec.bar import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, REG_ADDR_WIDTH
from ..spec.pcie import MSIX_ENTRY_SIZE
from .header import byteswap, mem_header
from .tlp_stream import tlp_beat

__all__ = ["Msix"]

PAGE_BITS = 12


class Msix(wiring.Component):
    """Keep each event pending until its vector may send, then send one memory write for all events of that vector.

    An event is pending until its message is *committed*: from then on the message is offered on ``tlp`` until it has left,
    whatever happens. Up to that cycle a mask, or anything else that forbids the message, keeps it pending, and a change of the
    table makes it read its entry again. A vector that may send is committed at least seven cycles after its event was accepted;
    vectors take turns.

    Parameters
    ----------
    vectors : int
        1 to 256.
    sources : int
        Number of sources of interrupts, 1 to 1024.
    width : int
        Bits per beat of the TLP stream.

    Members
    -------
    regs : In(RegPort(REG_ADDR_WIDTH))
        Pages of the table and of the pending bits; behind the last vector everything reads 0. Answers never wait for ``tlp``.
    irq : In(InterruptPort())
        Interrupts are accepted every other cycle. One of a vector that does not exist is ignored.
    tlp : Out(stream.Signature(tlp_beat(width)))
        Messages.
    sending : Out(1)
        A message is committed and has not left. A completion that is offered first while this is high must wait until it is
        low; then no message follows the answer to whatever has forbidden it.
    busy : Out(1)
        A message is to be sent, an interrupt to be accepted, or an answer to be taken.
    enable, function_mask : In(1)
        Of the MSI-X capability. Without ``enable`` events stay pending, too.
    bus_master : In(1)
        While low, events stay pending.
    requester_id : In(16)
    stop : In(1)
        Commit no message.
    reset : In(1)
        Forget what is pending. Not while ``sending``.
    clear : In(1)
        With ``reset``: mask all vectors, as after a Function Level Reset.
    """
    def __init__(self, *, vectors, sources, width):
        if not 1 <= vectors <= 256:
            raise ValueError(f"Number of vectors must be from 1 to 256, not {vectors!r}")
        if not 1 <= sources <= 1024:
            raise ValueError(f"Number of interrupt sources must be from 1 to 1024, not {sources!r}")
        self.vectors = vectors
        self.sources = sources
        self.width   = width
        super().__init__({
            "regs":    In(RegPort(REG_ADDR_WIDTH)),
            "irq":     In(InterruptPort()),
            "tlp":     Out(stream.Signature(tlp_beat(width))),
            "sending": Out(1),
            "busy":    Out(1),
            "enable":  In(1),
            "function_mask": In(1),
            "bus_master": In(1),
            "requester_id": In(16),
            "stop":    In(1),
            "reset":   In(1),
            "clear":   In(1),
        })

    def elaborate(self, platform):
        m = Module()
        n = self.vectors
        pending, masked = Signal(n), Signal(n, init=-1)
        served  = Signal(n)    # vectors that had their turn
        ready, wanting, picked = Signal(n), Signal(n), Signal(n)
        chosen  = Signal(range(n))

        m.submodules.table = table = Memory(shape=32, depth=4 * n, init=[], attrs={"ram_style": "block"})
        table_w, table_r = table.write_port(granularity=8), table.read_port()
        reads = Signal()       # the register side has the read port

        # Register side. Of an entry's last DW only the mask bit exists.
        req = self.regs.req.payload
        is_table = req.addr[PAGE_BITS:] == MSIX_TABLE_OFFSET >> PAGE_BITS
        is_pba   = req.addr[PAGE_BITS:] == MSIX_PBA_OFFSET >> PAGE_BITS
        vector   = req.addr[4:PAGE_BITS]
        exists   = vector < n
        is_control = req.addr[2:4] == MSIX_ENTRY_SIZE // 4 - 1
        accept, changed = Signal(), Signal()
        m.d.comb += [
            changed.eq(accept & req.write & is_table & exists),
            table_w.addr.eq(req.addr[2:PAGE_BITS]),
            table_w.data.eq(req.data),
            table_w.en.eq(Mux(changed & ~is_control, req.be, 0)),
        ]
        with m.If(changed & is_control & req.be[0]):
            m.d.sync += masked.bit_select(vector, 1).eq(req.data[0])
        with m.If(self.clear & self.reset):
            m.d.sync += masked.eq(-1)

        from_table, answer = Signal(), Signal(32)
        pending_words = Cat(pending, C(0, -n % 32))
        m.d.comb += [reads.eq(accept & ~req.write), self.regs.resp.payload.eq(answer)]
        with m.If(reads):
            m.d.comb += table_r.addr.eq(req.addr[2:PAGE_BITS])

        with m.FSM(name="access") as access:
            with m.State("IDLE"):
                m.d.comb += [self.regs.req.ready.eq(1), accept.eq(self.regs.req.valid)]
                m.d.sync += [
                    from_table.eq(is_table & exists & ~is_control),
                    answer.eq(Mux(is_table, is_control & exists & masked.bit_select(vector, 1),
                                  Mux(is_pba & (req.addr[2:PAGE_BITS] < len(pending_words) // 32),
                                      pending_words.word_select(req.addr[2:PAGE_BITS], 32), 0))),
                ]
                with m.If(reads):
                    m.next = "READ"
            with m.State("READ"):
                with m.If(from_table):
                    m.d.sync += answer.eq(table_r.data)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.regs.resp.valid.eq(1)
                with m.If(self.regs.resp.ready):
                    m.next = "IDLE"

        # Events. For each vector that is pending, a row of the sources that wait for its message: 6.1.4.5 has the bit cleared
        # with its cause, and only the last one's withdrawal does that. Without the bit the row means nothing, so neither a
        # message nor a reset has to clear it.
        event = self.irq.req.payload
        m.submodules.causes = causes = Memory(shape=unsigned(self.sources), depth=n, init=[])
        causes_w, causes_r = causes.write_port(), causes.read_port()
        index, cause = Signal(range(n)), Signal(self.sources)
        arrived, withdrawn, taken = Signal(n), Signal(n), Signal(n)
        updating = Signal()
        m.d.comb += [
            index.eq(event.vector),
            cause.bit_select(event.source, 1).eq(1),
            causes_r.addr.eq(index),
            causes_w.addr.eq(index),
        ]
        m.d.sync += updating.eq(self.irq.req.valid & ~updating & ~self.reset)
        with m.If(updating):
            waiting = Mux(pending.bit_select(index, 1), causes_r.data, 0)
            valid = event.vector < n
            m.d.comb += [
                self.irq.req.ready.eq(1),
                self.irq.waited.eq(valid & (waiting & cause).any()),
                causes_w.en.eq(valid),
                causes_w.data.eq(Mux(event.withdraw, waiting & ~cause, waiting | cause)),
                arrived.bit_select(index, 1).eq(valid & ~event.withdraw),
                withdrawn.bit_select(index, 1).eq(valid & event.withdraw & ~(waiting & ~cause).any()),
            ]
        with m.If(self.reset):
            m.d.sync += pending.eq(0)
        with m.Else():
            m.d.sync += pending.eq((pending & ~taken & ~withdrawn) | arrived)

        # Messages.
        allowed = Signal()
        m.d.comb += [
            # 6.1.4.5: masked vectors and functions do not send. 7.5.1.1.3: nor do those without Bus Master.
            allowed.eq(self.enable & ~self.function_mask & self.bus_master & ~self.stop & ~self.reset),
            ready.eq(Mux(allowed, pending & ~masked, 0)),
            wanting.eq(ready & ~served),
            picked.eq(wanting & -wanting),
        ]
        # The address as it is sent, its upper half first if there is one, and the data.
        first, second, message = Signal(32), Signal(32), Signal(32)
        dw4, requester_id = Signal(), Signal(16)
        lanes = self.width // 32
        part, beat = Signal(2), Signal(range(-(-5 // lanes)))
        stale = Signal()       # what the table has read is for the register side
        header, _ = mem_header(write=1, addr=dw4 << 32, length=1, first_be=0xf, last_be=0, requester_id=requester_id, tag=0)
        whole = Cat(header[:64], first, Mux(dw4, second, message), message)
        whole = Cat(whole, C(0, -len(whole) % self.width))
        left  = Mux(dw4, 5, 4) - beat * lanes
        m.d.comb += [
            self.tlp.payload.data.eq(whole.word_select(beat, self.width)),
            self.tlp.payload.last.eq(left <= lanes),
            self.tlp.payload.dws.eq(Mux(left <= lanes, left, lanes)),
        ]
        m.d.sync += stale.eq(reads)
        with m.FSM(name="send") as send:
            with m.State("IDLE"):
                m.d.sync += [part.eq(0), beat.eq(0)]
                with m.If(wanting.any()):
                    for k in range(n):
                        with m.If(picked[k]):
                            m.d.sync += chosen.eq(k)
                    m.d.sync += served.eq(served | picked)
                    m.next = "FETCH"
                with m.Else():
                    m.d.sync += served.eq(0)
            with m.State("FETCH"):
                with m.If(~reads):
                    m.d.comb += table_r.addr.eq(Cat(part == 0, part[1], chosen))   # upper half, lower half, data
                    m.d.sync += part.eq(part + 1)
                with m.If(~stale):
                    with m.Switch(part):
                        with m.Case(1):
                            m.d.sync += first.eq(byteswap(table_r.data))
                        with m.Case(2):
                            low = byteswap(table_r.data & 0xffff_fffc)
                            m.d.sync += [dw4.eq(first.any()), second.eq(low)]
                            with m.If(~first.any()):
                                m.d.sync += first.eq(low)
                        with m.Case(3):
                            m.d.sync += message.eq(table_r.data)
                            m.next = "COMMIT"
                with m.If(changed):
                    m.next = "IDLE"
            with m.State("COMMIT"):
                m.d.sync += requester_id.eq(self.requester_id)
                with m.If(changed | ~ready.bit_select(chosen, 1)):
                    m.next = "IDLE"
                # An event of this vector that is just being accepted goes with this message, or with the next one.
                with m.Elif(~updating):
                    m.d.comb += taken.bit_select(chosen, 1).eq(1)
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.sending.eq(1), self.tlp.valid.eq(1)]
                with m.If(self.tlp.ready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(self.tlp.payload.last):
                        m.next = "IDLE"
        m.d.comb += self.busy.eq(
            ~send.ongoing("IDLE") | ready.any() | self.irq.req.valid | ~access.ongoing("IDLE"))
        return m
