"""A MAC address of its own for every card, made from the FPGA's serial number.

Ref: Xilinx UG470 "7 Series FPGAs Configuration", "Device DNA"; IEEE 802, 8.2 "Universal addresses", IEEE 802c, "Administratively
Assigned Identifier (AAI)".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DNA_BITS", "DnaAddress", "DnaPins"]

DNA_BITS = 57
# One more than bits: whether DOUT shows the first bit with READ or with the first SHIFT, all of them come.
SAMPLES = DNA_BITS + 1
# x^44 + x^43 + x^18 + x^17 + 1, primitive: numbers that differ in 44 neighbouring bits at most, or in two bits anywhere, have
# different remainders.
HASH_BITS, POLYNOMIAL = 44, 1 << 43 | 1 << 18 | 1 << 17 | 1
CLOCK_DIVIDER = 8   # of ``sync``: DNA_PORT takes 100 MHz at most (DS181, F_DNACK)

#: The serial port, seen from who reads it.
DnaPins = wiring.Signature({"clk": Out(1), "read": Out(1), "shift": Out(1), "dout": In(1)})


class DnaAddress(wiring.Component):
    """Read the serial number after each reset and hash it to an address ``?2:??:??:??:??:??``: its first 4 and last 40 bits are
    the remainder of the number modulo a primitive polynomial. The address is individual and locally administered (AAI).

    Members
    -------
    pins : Out(DnaPins)
    address : Out(48)
        First byte of the address highest.
    valid : Out(1)
        ``address`` is there: some 500 clocks after a reset. Before, it is any.
    """
    pins:    Out(DnaPins)
    address: Out(48)
    valid:   Out(1)

    def elaborate(self, platform):
        m = Module()
        remainder = Signal(HASH_BITS)
        divider = Signal(range(CLOCK_DIVIDER))
        bits = Signal(range(SAMPLES + 1))
        m.d.comb += [
            self.address.eq(Cat(remainder[:40], C(0b0010, 4), remainder[40:])),
            self.valid.eq(bits == SAMPLES),
        ]
        with m.If(~self.valid):
            m.d.sync += divider.eq(divider + 1)
            # READ and SHIFT change with the falling edge of the clock, half a period before it rises; DOUT is looked at then too.
            with m.If(divider == CLOCK_DIVIDER - 1):
                m.d.sync += [self.pins.read.eq(~self.pins.read & ~self.pins.shift),
                             self.pins.shift.eq(self.pins.read | self.pins.shift)]
                with m.If(self.pins.read | self.pins.shift):
                    m.d.sync += [
                        bits.eq(bits + 1),
                        remainder.eq((remainder << 1 | self.pins.dout) ^ Mux(remainder[-1], POLYNOMIAL, 0)),
                    ]
        m.d.sync += self.pins.clk.eq(divider[-1])
        return m
