"""Joining register ports: one initiator to many targets, many to one target, and one to a target that may not answer."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .reg import RegPort

__all__ = ["RegDecoder", "RegArbiter", "RegGuard"]

PAGE_BITS = 12


class RegDecoder(wiring.Component):
    """Route each request to the target that owns its 4 KiB page.

    A request passes without a cycle added; one read is outstanding at a time, so answers keep the order of requests.
    Reads of pages nobody owns answer 0, writes to them vanish.

    Parameters
    ----------
    addr_width : int
        Bits of the byte address, more than 12.
    pages : dict of int to int
        Page number (the address bits above the low 12) to index of the target; targets are 0 to the highest index named.

    Members
    -------
    i : In(RegPort(addr_width))
    o : Out(RegPort(addr_width)).array(number of targets)
        The whole address goes to the target.
    """
    def __init__(self, addr_width, pages):
        if addr_width <= PAGE_BITS:
            raise ValueError(f"Address width must be more than {PAGE_BITS} bits, not {addr_width!r}")
        for page in pages:
            if page not in range(1 << (addr_width - PAGE_BITS)):
                raise ValueError(f"Page {page!r} is outside an address of {addr_width} bits")
        self.pages = dict(pages)
        super().__init__({
            "i": In(RegPort(addr_width)),
            "o": Out(RegPort(addr_width)).array(max(pages.values()) + 1),
        })

    def elaborate(self, platform):
        m = Module()
        req = self.i.req
        nobody = len(self.o)
        target = Signal(range(nobody + 1))
        owner = Signal.like(target)       # of the read under way
        reading = Signal()

        for port in self.o:
            m.d.comb += port.req.payload.eq(req.payload)
        with m.Switch(req.payload.addr[PAGE_BITS:]):
            for page, index in self.pages.items():
                with m.Case(page):
                    m.d.comb += target.eq(index)
            with m.Default():
                m.d.comb += target.eq(nobody)

        with m.If(~reading):
            with m.Switch(target):
                for index, port in enumerate(self.o):
                    with m.Case(index):
                        m.d.comb += [port.req.valid.eq(req.valid), req.ready.eq(port.req.ready)]
                with m.Default():
                    m.d.comb += req.ready.eq(1)
            with m.If(req.valid & req.ready & ~req.payload.write):
                m.d.sync += [reading.eq(1), owner.eq(target)]
        with m.Else():
            with m.Switch(owner):
                for index, port in enumerate(self.o):
                    with m.Case(index):
                        m.d.comb += [
                            self.i.resp.valid.eq(port.resp.valid),
                            self.i.resp.payload.eq(port.resp.payload),
                            port.resp.ready.eq(self.i.resp.ready),
                        ]
                with m.Default():
                    m.d.comb += self.i.resp.valid.eq(1)
            with m.If(self.i.resp.valid & self.i.resp.ready):
                m.d.sync += reading.eq(0)
        return m


class RegArbiter(wiring.Component):
    """Let several initiators use one target, in turn.

    One request at a time; a read holds the target until its answer has gone back. Request and answer pass through
    registers: two cycles are added to a write, three to a read.

    Parameters
    ----------
    addr_width : int
        Bits of the byte address.
    n : int
        Number of initiators, at least 1.

    Members
    -------
    i : In(RegPort(addr_width)).array(n)
    o : Out(RegPort(addr_width))
    """
    def __init__(self, addr_width, n):
        if n < 1:
            raise ValueError(f"Number of initiators must be at least 1, not {n!r}")
        super().__init__({
            "i": In(RegPort(addr_width)).array(n),
            "o": Out(RegPort(addr_width)),
        })

    def elaborate(self, platform):
        m = Module()
        n = len(self.i)
        grant = Signal(range(n))
        asked, answer = Signal.like(self.o.req.payload), Signal.like(self.o.resp.payload)
        m.d.comb += self.o.req.payload.eq(asked)
        for port in self.i:
            m.d.comb += port.resp.payload.eq(answer)

        with m.FSM():
            with m.State("PICK"):
                with m.Switch(grant):
                    for last in range(n):
                        with m.Case(last):
                            # Later assignments win: the initiator right after the last one served is the last of them.
                            for step in reversed(range(n)):
                                index = (last + 1 + step) % n
                                with m.If(self.i[index].req.valid):
                                    m.d.sync += [grant.eq(index), asked.eq(self.i[index].req.payload)]
                                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += self.o.req.valid.eq(1)
                with m.If(self.o.req.ready):
                    m.next = "ACCEPT"
            with m.State("ACCEPT"):
                # A write is accepted only now, when it is where it belongs.
                with m.Switch(grant):
                    for index, port in enumerate(self.i):
                        with m.Case(index):
                            m.d.comb += port.req.ready.eq(1)
                with m.If(asked.write):
                    m.next = "PICK"
                with m.Else():
                    m.next = "AWAIT"
            with m.State("AWAIT"):
                m.d.comb += self.o.resp.ready.eq(1)
                m.d.sync += answer.eq(self.o.resp.payload)
                with m.If(self.o.resp.valid):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.Switch(grant):
                    for index, port in enumerate(self.i):
                        with m.Case(index):
                            m.d.comb += port.resp.valid.eq(1)
                            with m.If(port.resp.ready):
                                m.next = "PICK"
        return m


class RegGuard(wiring.Component):
    """Answer a read with all ones if its target has not, ``cycles`` after accepting it; drop what it says later.

    Members
    -------
    i : In(RegPort(addr_width)), o : Out(RegPort(addr_width))
        No cycle is added.
    """
    def __init__(self, *, addr_width, cycles):
        self.cycles = cycles
        super().__init__({"i": In(RegPort(addr_width)), "o": Out(RegPort(addr_width))})

    def elaborate(self, platform):
        m = Module()
        reading, left = Signal(), Signal(range(self.cycles + 1))
        expired = reading & (left == 0)
        m.d.comb += [
            self.o.req.payload.eq(self.i.req.payload),
            self.o.req.valid.eq(self.i.req.valid & ~reading),
            self.i.req.ready.eq(self.o.req.ready & ~reading),
            self.i.resp.payload.eq(Mux(expired, -1, self.o.resp.payload)),
            self.i.resp.valid.eq(reading & (self.o.resp.valid | expired)),
            self.o.resp.ready.eq(self.i.resp.ready | ~reading),
        ]
        with m.If(reading):
            with m.If(~expired):
                m.d.sync += left.eq(left - 1)
            with m.If(self.i.resp.valid & self.i.resp.ready):
                m.d.sync += reading.eq(0)
        with m.Elif(self.i.req.valid & self.i.req.ready & ~self.i.req.payload.write):
            m.d.sync += [reading.eq(1), left.eq(self.cycles)]
        return m
