"""The record of the link training by JTAG, for a card that no host finds.

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

STATUS = LINK_ENTRIES - 1    # number of the status on a WordPort; the entries follow

#: BSCANE2, seen from the register behind it. ``sel``: its instruction is the current one; ``capture``, ``shift``, ``update``: the
#: TAP controller is in that state at a rising edge of TCK, which ends it (our reading).
TapPort = wiring.Signature({"sel": In(1), "capture": In(1), "shift": In(1), "update": In(1), "tdo": Out(1)})


class LinkScan(wiring.Component):
    """Shift out the words of a record, in order, each from bit 0 on. TDI is ignored.

    Domain ``jtag``: TCK, at most 66 MHz (F_TCK), without a reset. It runs only while JTAG is in use. TCK and the user clock are
    asynchronous, and the user clock may be stopped. The words need no synchronizer: the first one is a constant, and the others
    do not change from Capture-DR to Update-DR, because ``hold`` is high. The hold takes effect within four user clocks (64 ns at
    62.5 MHz); the second word is read 32 periods of TCK after Capture-DR (480 ns or more).

    CLOCK in the status is set if the user clock has answered since Capture-DR.

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
