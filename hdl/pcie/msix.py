"""Interrupts: MSI-X messages.

Ref: PCI Express Base 5.0, 6.1.4 "Message Signaled Interrupt (MSI/MSI-X) Support".
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.interrupt import InterruptPort
from ..lib.reg import RegPort
from ..spec.bar import REG_ADDR_WIDTH
from .header import byteswap, mem_header
from .msix_events import MsixEvents
from .msix_table import MsixTable
from .tlp_stream import tlp_beat

__all__ = ["Msix"]


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
        m.submodules.table  = table  = MsixTable(vectors=n)
        m.submodules.events = events = MsixEvents(vectors=n, sources=self.sources)
        connect(m, flipped(self.regs), table.regs)
        connect(m, flipped(self.irq), events.irq)
        pending, masked, changed, taken = events.pending, table.masked, table.changed, events.taken
        m.d.comb += [
            table.pending.eq(pending),
            table.reset.eq(self.reset),
            table.clear.eq(self.clear),
            events.reset.eq(self.reset),
        ]

        served  = Signal(n)    # vectors that had their turn
        ready, wanting, picked = Signal(n), Signal(n), Signal(n)
        chosen  = Signal(range(n))
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
        stale = Signal()       # what the table has read is for the host
        header, _ = mem_header(write=1, addr=dw4 << 32, length=1, first_be=0xf, last_be=0, requester_id=requester_id, tag=0)
        whole = Cat(header[:64], first, Mux(dw4, second, message), message)
        whole = Cat(whole, C(0, -len(whole) % self.width))
        left  = Mux(dw4, 5, 4) - beat * lanes
        m.d.comb += [
            self.tlp.payload.data.eq(whole.word_select(beat, self.width)),
            self.tlp.payload.last.eq(left <= lanes),
            self.tlp.payload.dws.eq(Mux(left <= lanes, left, lanes)),
        ]
        m.d.sync += stale.eq(table.reads)
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
                m.d.comb += table.dw.eq(Cat(part == 0, part[1], chosen))   # upper half, lower half, data
                with m.If(~table.reads):
                    m.d.sync += part.eq(part + 1)
                with m.If(~stale):
                    with m.Switch(part):
                        with m.Case(1):
                            m.d.sync += first.eq(byteswap(table.data))
                        with m.Case(2):
                            low = byteswap(table.data & 0xffff_fffc)
                            m.d.sync += [dw4.eq(first.any()), second.eq(low)]
                            with m.If(~first.any()):
                                m.d.sync += first.eq(low)
                        with m.Case(3):
                            m.d.sync += message.eq(table.data)
                            m.next = "COMMIT"
                with m.If(changed):
                    m.next = "IDLE"
            with m.State("COMMIT"):
                m.d.sync += requester_id.eq(self.requester_id)
                with m.If(changed | ~ready.bit_select(chosen, 1)):
                    m.next = "IDLE"
                # An event of this vector that is just being accepted goes with this message, or with the next one.
                with m.Elif(~events.updating):
                    m.d.comb += taken.bit_select(chosen, 1).eq(1)
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.sending.eq(1), self.tlp.valid.eq(1)]
                with m.If(self.tlp.ready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(self.tlp.payload.last):
                        m.next = "IDLE"
        m.d.comb += self.busy.eq(~send.ongoing("IDLE") | ready.any() | self.irq.req.valid | table.busy)
        return m
