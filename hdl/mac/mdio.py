"""Management of a PHY: its registers over MDC and MDIO.

Ref: IEEE 802.3, 22.2.4 "Management functions".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from ..spec.mii import (MDC_MAX_HZ, MDIO_PREAMBLE_BITS, MDIO_READ, MDIO_START, MDIO_TURNAROUND_WRITE, MDIO_WRITE,
                        PHY_ADDRESSES)

__all__ = ["MdioAnswer", "MdioMaster", "MdioPins", "MdioRequest"]

READ_BITS = 14  # start, operation and addresses: what the card drives of a read, behind the preamble

#: The pins, seen from the card. ``oe`` is high while the card drives MDIO; the board's pull-up makes it a one otherwise.
MdioPins = wiring.Signature({"mdc": Out(1), "mdio_o": Out(1), "mdio_oe": Out(1), "mdio_i": In(1)})


class MdioRequest(data.Struct):
    write:    1
    register: 5
    data:     16


class MdioAnswer(data.Struct):
    """``ok``: a PHY has answered, or it was a write, which no PHY acknowledges. ``data`` is valid with ``ok`` of a read."""
    data: 16
    ok:   1


class MdioMaster(wiring.Component):
    """Read and write the registers of one PHY, one request at a time, with the full preamble.

    A request takes 64 periods of MDC (25.6 us at 2.5 MHz). MDC stands still in between, and MDIO is not driven.

    Parameters
    ----------
    clock_hz : float
        Of the domain ``sync``.
    address : int
        Of the PHY, 0 to 31, else :exc:`ValueError`.

    Members
    -------
    i : In(stream(MdioRequest))
    o : Out(stream(MdioAnswer))
        One for each request, writes too.
    pins : Out(MdioPins)
    """
    def __init__(self, *, clock_hz, address):
        if address not in range(PHY_ADDRESSES):
            raise ValueError(f"PHY address must be 0 to {PHY_ADDRESSES - 1}, not {address!r}")
        self.address = address
        # 22.2.2.13: a period of 400 ns or more, both halves at least 160 ns. The way to the PHY and back through the synchronizer
        # takes up to five cycles of the six of a period.
        self.half_period = max(3, -(-int(clock_hz) // (2 * MDC_MAX_HZ)))
        super().__init__({
            "i":    In(stream.Signature(MdioRequest)),
            "o":    Out(stream.Signature(MdioAnswer)),
            "pins": Out(MdioPins),
        })

    def elaborate(self, platform):
        m = Module()
        word = Signal(32)                                 # the frame behind its preamble, the next bit at the top
        bit = Signal(range(MDIO_PREAMBLE_BITS + 32))
        tick = Signal(range(self.half_period))
        write, seen, mdio = Signal(), Signal(), Signal()
        m.submodules.mdio = FFSynchronizer(self.pins.mdio_i, mdio)
        request = self.i.p
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [
                        # 22.2.4.5: ST, OP, PHYAD, REGAD, TA, DATA, each with its most significant bit first.
                        word.eq(Cat(request.data, C(MDIO_TURNAROUND_WRITE, 2), request.register, C(self.address, 5),
                                    Mux(request.write, MDIO_WRITE, MDIO_READ), C(MDIO_START, 2))),
                        write.eq(request.write),
                        bit.eq(0),
                        tick.eq(0),
                    ]
                    m.next = "LOW"
            with m.State("LOW"):
                m.d.sync += tick.eq(tick + 1)
                with m.If(tick == self.half_period - 1):
                    # 22.3.4: the PHY changes MDIO behind this edge, so what is there now belongs to this bit.
                    m.d.sync += [tick.eq(0), seen.eq(mdio)]
                    m.next = "HIGH"
            with m.State("HIGH"):
                m.d.sync += tick.eq(tick + 1)
                with m.If(tick == self.half_period - 1):
                    m.d.sync += [tick.eq(0), bit.eq(bit + 1)]
                    with m.If(bit >= MDIO_PREAMBLE_BITS):
                        m.d.sync += word.eq(Cat(seen, word))
                    m.next = "LOW"
                    with m.If(bit.all()):
                        m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.data.eq(word),
                    # 22.2.4.5.8: the PHY drives the second bit of the turnaround of a read to zero.
                    self.o.p.ok.eq(~word[16] | write),
                ]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        # 22.3.4: MDIO is set up half a period before MDC rises, and held for as long. Registers: no glitch reaches a pin.
        runs = fsm.ongoing("LOW") | fsm.ongoing("HIGH")
        m.d.sync += [
            self.pins.mdc.eq(fsm.ongoing("HIGH")),
            self.pins.mdio_o.eq(Mux(bit >= MDIO_PREAMBLE_BITS, word[-1], 1)),
            self.pins.mdio_oe.eq(runs & (write | (bit < MDIO_PREAMBLE_BITS + READ_BITS))),
        ]
        return m
