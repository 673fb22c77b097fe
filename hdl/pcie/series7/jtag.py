"""What the link has done, by JTAG: for a card that no host finds.

Ref: IEEE 1149.1, "TAP controller"; UG470 "7 Series FPGAs Configuration", "JTAG Interface", and UG953 "7 Series Libraries Guide",
BSCANE2; DS181 and DS182, F_TCK.
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from ...spec.bar import LINK_ENTRIES, LINK_MAGIC, LinkStatus
from .trace import ScanPort

__all__ = ["LinkScan", "TapPort"]

FIRST = LINK_ENTRIES - 2     # number of the magic on a WordPort, which the status follows
STATUS = FIRST + 1

#: BSCANE2, seen from the register behind it: SEL, the instruction is ours; CAPTURE, SHIFT and UPDATE, the TAP controller is in
#: the state of that name, at the rising edge of TCK that ends it (our reading).
TapPort = wiring.Signature({"sel": In(1), "capture": In(1), "shift": In(1), "update": In(1), "tdo": Out(1)})


class LinkScan(wiring.Component):
    """Shift the words of a trace out, the first one first, each from bit 0 on; what is shifted in is ignored.

    Domain ``jtag``, which is TCK and has no reset; it runs only while somebody uses JTAG, at 66 MHz at most (F_TCK). It is
    asynchronous to the user clock, which may also stand. The first word is a constant. Those after it come from registers and a
    memory of the user clock, which do not change while they are read, so any clock can read them: they are held from Capture-DR
    to Update-DR. The hold is there after three user clocks, 48 ns at 62.5 MHz; the second word is taken 32 periods of TCK after
    Capture-DR, 480 ns or more.

    In the status CLOCK is set if the user clock has answered since Capture-DR.

    Members
    -------
    tap : Out(TapPort)
    trace : Out(ScanPort)
    """
    tap:   Out(TapPort)
    trace: Out(ScanPort)

    def elaborate(self, platform):
        m = Module()
        tap, trace = self.tap, self.trace
        answer = Signal()
        m.submodules.answer = FFSynchronizer(trace.answer, answer, o_domain="jtag")
        register, bit, word = Signal(32), Signal(5), trace.page.word
        value = Signal(32)
        m.d.comb += [
            tap.tdo.eq(register[0]),
            value.eq(trace.page.value),
        ]
        with m.If((word == STATUS) & (answer != trace.ask)):
            m.d.comb += value[LinkStatus.CLOCK].eq(0)
        with m.If(~tap.sel | tap.update):
            m.d.jtag += trace.hold.eq(0)
        with m.Elif(tap.capture):
            # To ask is to want another answer than the last one, which may be to a question that is long past.
            m.d.jtag += [trace.hold.eq(1), trace.ask.eq(~answer), register.eq(LINK_MAGIC), bit.eq(0), word.eq(STATUS)]
        with m.Elif(tap.shift):
            m.d.jtag += [register.eq(register >> 1), bit.eq(bit + 1)]
            with m.If(bit.all()):
                m.d.jtag += [register.eq(value), word.eq(word + 1)]
        return m
