"""MSI-X: a message is committed only while its vector may send, and as its entry is then; every event becomes one message, or
stays pending, or was withdrawn."""

import importlib
import inspect

import pytest

from amaranth import *

from ringnic.hdl.pcie.msix import Msix
from ringnic.hdl.spec.bar import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET
from prove import broken

SOURCES = 2
WHOLE = "__all__ = ["   # nothing is broken
MOST = 12   # cycles until an event is committed that nothing stands in the way of


def promises(p, dut):
    """All that happens is of one vector, any; of its entry some bits of each DW change."""
    p.add(dut)
    m, begun = p.m, p.past(C(1))
    v = p.const(1, "v") & (dut.vectors - 1)
    p.take(dut.tlp)
    answered = p.take(dut.regs.resp)

    # Accesses to the entry, and to its pending bit.
    dw, is_pba, bits = p.free(2, "dw"), p.free(name="is_pba"), p.free(3, "bits")
    addr = Mux(is_pba, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET | v << 4 | dw << 2)
    write = p.free(name="write") & ~is_pba
    access = p.feed(dut.regs.req, Cat(addr[:len(dut.regs.req.p.addr)], write, C(0xf, 4), bits, C(0, 29)))
    entry = [Signal(32, name=f"entry_{k}") for k in range(3)]
    masked = Signal(init=1)
    for k, value in enumerate((*entry, masked)):
        with m.If(access & write & (dw == k)):
            m.d.sync += value.eq(bits)

    for name in "enable", "function_mask", "bus_master", "stop":
        m.d.comb += getattr(dut, name).eq(p.free(name=name))
    m.d.comb += dut.reset.eq(p.free(name="reset") & begun & ~dut.sending)
    allowed = ~masked & dut.enable & ~dut.function_mask & dut.bus_master & ~dut.stop & ~dut.reset
    commits = dut.sending & ~p.past(dut.sending)     # in the cycle before
    p.check(~commits | p.past(allowed))

    # Events.
    event = dut.irq.req.p
    happens = p.feed(dut.irq.req, Cat(v, C(0, 10), p.free(1, "source"), C(0, 9), p.free(name="withdraws")))
    waits, now = Signal(SOURCES), Signal(SOURCES)
    m.d.comb += now.eq(Mux(commits, 0, waits))
    mine = 1 << event.source[:1]
    m.d.sync += waits.eq(Mux(dut.reset, 0, Mux(happens, Mux(event.withdraw, now & ~mine, now | mine), now)))
    p.check(~commits | waits.any())
    with m.If(happens & event.withdraw & ~dut.reset):
        p.check(dut.irq.waited == (now & mine).any())
    p.cover(commits & waits.all())
    p.cover(happens & event.withdraw & dut.irq.waited & ~(now & ~mine).any())

    # The pending bit.
    asked, expected = Signal(), Signal()
    with m.If(access & ~write):
        m.d.sync += [asked.eq(is_pba), expected.eq(now.any())]
    with m.If(answered & asked):
        p.check(dut.regs.resp.payload == expected << v)
    p.cover(answered & asked & expected)

    # It does not wait for ever.
    waited = Signal(range(MOST + 1))
    m.d.sync += waited.eq(Mux(now.any() & allowed & ~access & ~dut.irq.req.valid & ~dut.sending, waited + 1, 0))
    p.check(waited != MOST)

    # What is sent: 3 or 4 DWs of header, then the data.
    before = [Signal.like(value, name=f"{value.name}_then") for value in entry]
    number = Signal(3)
    with m.If(dut.sending & dut.tlp.ready):
        m.d.sync += number.eq(Mux(dut.tlp.p.last, 0, number + 1))
    for value, then in zip(entry, before):
        with m.If(~dut.sending):
            m.d.sync += then.eq(value)
    with m.If(dut.sending):
        low, high, data = before
        p.check(dut.tlp.p.last == (number == Mux(high.any(), 4, 3)))
        sent = Cat(dut.tlp.p.data[k:k + 8] for k in (24, 16, 8, 0))
        with m.If(number == 2):
            p.check(sent == Mux(high.any(), high, low & 0xffff_fffc))
        with m.If((number == 3) & high.any()):
            p.check(sent == low & 0xffff_fffc)
        with m.If(dut.tlp.p.last):
            p.check(dut.tlp.p.data == data)
            p.cover(high.any() & low.any() & data.any())


@pytest.mark.parametrize("vectors", [1, 2])
def test_msix(formal, vectors):
    def harness(p):
        promises(p, Msix(vectors=vectors, sources=SOURCES, width=32))
    formal.always(harness)
    formal.covers(harness, 24)


@pytest.mark.parametrize("line, instead", [
    ("with m.If(changed | ~ready.bit_select(chosen, 1)):", "with m.If(changed):"),                 # masked meanwhile
    ("with m.If(changed | ~ready.bit_select(chosen, 1)):", "with m.If(~ready.bit_select(chosen, 1)):"),
    ("                with m.If(changed):\n                    m.next = \"IDLE\"\n            with m.State(\"COMMIT\")",
     "            with m.State(\"COMMIT\")"),                                                       # a mixture
    ("with m.Elif(~events.updating):", "with m.Else():"),                                                 # over an event
    ("m.d.comb += taken.bit_select(chosen, 1).eq(1)", "pass"),                                      # twice
    ("with m.If(self.reset):\n            m.d.sync += pending.eq(0)", "with m.If(self.reset):\n            pass"),
    ("pending.eq((pending & ~taken & ~withdrawn) | arrived)", "pending.eq((pending & ~taken) | arrived)"),
    ("event.withdraw & ~(waiting & ~cause).any()", "event.withdraw"),                               # of the other source
    ("waiting = Mux(pending.bit_select(index, 1), causes_r.data, 0)", "waiting = causes_r.data"),   # of long ago
    ("& self.bus_master & ~self.stop", "& ~self.stop"),
    ("m.d.sync += served.eq(0)", "pass"),                                                           # for ever
])
def test_broken_msix(formal, line, instead):
    modules = {part: importlib.import_module(f"ringnic.hdl.pcie.{part}") for part in ("msix_table", "msix_events", "msix")}
    place = next(part for part, module in modules.items() if line in inspect.getsource(module))
    table, events, msix = (broken(f"ringnic.hdl.pcie.{part}", *((line, instead) if part == place else (WHOLE, WHOLE)))
                           for part in modules)
    msix.MsixTable, msix.MsixEvents = table.MsixTable, events.MsixEvents
    formal.refutes(lambda p: promises(p, msix.Msix(vectors=1, sources=SOURCES, width=32)), 32)
