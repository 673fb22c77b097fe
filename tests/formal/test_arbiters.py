"""Choices between several: packets stay whole, nothing is lost, and whoever waits is served before anybody is served twice."""

import pytest

from amaranth import *
from amaranth.lib import data

from ringnic.hdl.lib.arbiter import Arbiter
from ringnic.hdl.lib.regbus import RegArbiter
from prove import broken

BEAT = data.StructLayout({"last": 1, "source": 2})


def fair(p, waits, served, others, most):
    """Of those who wait each is served when at most ``most`` others have been since it began to wait."""
    for wait, mine, other in zip(waits, served, others):
        passed = Signal(range(most + 2))
        with p.m.If(mine | ~wait):
            p.m.d.sync += passed.eq(0)
        with p.m.Elif(other & (passed <= most)):
            p.m.d.sync += passed.eq(passed + 1)
        p.check(passed <= most, depth=2)
        p.cover(passed == most, depth=2)


def arbitrates(p, dut):
    p.add(dut)
    fired = [p.feed(port, Cat(p.free(name="last"), C(k, 2))) for k, port in enumerate(dut.i)]
    out = p.take(dut.o)
    source, inside, owner = dut.o.p.source, Signal(), Signal(2)
    with p.m.If(out):
        p.m.d.sync += [inside.eq(~dut.o.p.last), owner.eq(source)]
    p.check(~out | ~inside | (source == owner))
    p.cover(out & inside)
    p.check(inside | (dut.o.valid == Cat(port.valid for port in dut.i).any()))
    for k, port in enumerate(dut.i):
        p.check(fired[k] == (out & (source == k)))
        with p.m.If(out & (source == k)):
            p.check(dut.o.p.last == port.p.last)
    ends = [out & dut.o.p.last & (source == k) for k in range(len(fired))]
    fair(p, [port.valid for port in dut.i], fired, [Cat(ends[:k] + ends[k + 1:]).any() for k in range(len(ends))], len(fired) - 1)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_arbiter(formal, n):
    formal.always(lambda p: arbitrates(p, Arbiter(BEAT, n)))
    if n > 1:
        formal.covers(lambda p: arbitrates(p, Arbiter(BEAT, n)), 4 + 2 * n)


@pytest.mark.parametrize("line, instead", [
    ("last.eq(choice),", "last.eq(0),"),                                            # not fair
    ("locked.eq(~(self.o.ready & self.o.payload.last)),", "locked.eq(~self.o.ready),"),   # cuts packets
    ("locked.eq(~(self.o.ready & self.o.payload.last)),", "locked.eq(self.o.ready & ~self.o.payload.last),"),  # breaks the rule
])
def test_broken_arbiter(formal, line, instead):
    Bad = broken("ringnic.hdl.lib.arbiter", line, instead).Arbiter
    formal.refutes(lambda p: arbitrates(p, Bad(BEAT, 3)), 10)


def initiator(p, port):
    """Any requests, told apart by nothing; return the transfers of request and answer."""
    asked = p.feed(port.req)
    return asked, p.take(port.resp)


def one_read_at_a_time(p, target):
    """A target that answers each read once, whenever it likes, with what it was asked for: the address."""
    reading, addr = Signal(), Signal(12)
    p.m.d.comb += [target.req.ready.eq(p.free(name="accepts") & ~reading), target.resp.payload.eq(addr)]
    p.m.d.comb += target.resp.valid.eq(reading & p.free(name="answers"))
    waits = p.past(target.resp.valid & ~target.resp.ready)
    p.assume(~waits | target.resp.valid, depth=2)
    with p.m.If(target.req.valid & target.req.ready):
        p.m.d.sync += [reading.eq(~target.req.payload.write), addr.eq(target.req.payload.addr)]
    with p.m.If(target.resp.valid & target.resp.ready):
        p.m.d.sync += reading.eq(0)
    p.check(~p.past(target.req.valid & ~target.req.ready) | target.req.valid)
    return target.req.valid & target.req.ready


def answers(p, port, asked, answered, addr_bits):
    """A read is answered once, by what was asked; a write never."""
    open_, addr = Signal(), Signal(addr_bits)
    with p.m.If(answered):
        p.m.d.sync += open_.eq(0)
        p.check(open_ & (port.resp.payload == addr))
    with p.m.If(asked & ~port.req.payload.write):
        p.m.d.sync += [open_.eq(1), addr.eq(port.req.payload.addr)]
        p.check(~open_)
    p.cover(answered)


def shares_registers(p, dut):
    p.add(dut)
    taken = one_read_at_a_time(p, dut.o)
    asked = []
    for port in dut.i:
        # One access at a time: the initiator waits for its answer before it asks again.
        waiting = Signal()
        request, answer = initiator(p, port)
        with p.m.If(answer):
            p.m.d.sync += waiting.eq(0)
        with p.m.If(request & ~port.req.payload.write):
            p.m.d.sync += waiting.eq(1)
        p.assume(~(waiting & port.req.valid))
        answers(p, port, request, answer, 12)
        asked.append(request)
    p.check(Cat(asked).any() <= 1)
    n = len(asked)
    fair(p, [port.req.valid for port in dut.i], asked, [Cat(asked[:k] + asked[k + 1:]).any() for k in range(n)], n - 1)
    p.cover(taken & dut.o.req.payload.write)


def test_register_arbiter(formal):
    formal.always(lambda p: shares_registers(p, RegArbiter(4, 2)))
    formal.covers(lambda p: shares_registers(p, RegArbiter(4, 2)), 24)


def test_broken_register_arbiter(formal):
    Bad = broken("ringnic.hdl.lib.regbus", "for step in reversed(range(n)):", "for step in range(n):").RegArbiter
    formal.refutes(lambda p: shares_registers(p, Bad(4, 2)), 24)
