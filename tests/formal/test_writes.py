"""DMA writes: they leave in the order in which they were accepted, whole, and are told of when they have left, not before.

This is the contract on which "no used entry before its data" rests: a device asks for the payload first, the used entry after it,
the index behind that; then it is enough that writes of all clients leave in order. How a write is cut and which bytes of it are
enabled is a function of its address and length, and is proved for all of them.
"""

import pytest

from amaranth import *

from ringnic.hdl.pcie.dma_write import Writer, byte_enables, cut_length
from ringnic.hdl.pcie.header import byteswap
from prove import broken

CLIENTS = 2


def ones(bits):
    return sum(bits, C(0, 1))


def enables(p, byte_enables):
    """2.2.5: every byte of the request is enabled, and no other."""
    offset, length, byte = p.free(2), p.free(13), p.free(14)
    p.assume((length != 0) & (length <= 4096))
    dws, first_be, last_be = byte_enables(offset, length)
    dw = byte >> 2
    p.check((dws - 1) << 2 < offset + length)
    p.check(offset + length <= dws << 2)
    p.check((dws != 1) | (last_be == 0))
    enabled = Mux(dw >= dws, 0, Mux(dw == 0, first_be.bit_select(byte[:2], 1),
                                    Mux(dw == dws - 1, last_be.bit_select(byte[:2], 1), 1)))
    p.check(enabled == ((byte >= offset) & (byte < offset + length)))
    p.cover((dws == 1) & (first_be == 0b0110))
    p.cover((dws == 1025) & (last_be == 0b0001))


def test_byte_enables(formal):
    formal.always(lambda p: enables(p, byte_enables))
    formal.covers(lambda p: enables(p, byte_enables), 2)


@pytest.mark.parametrize("line, instead", [
    ("dws  = length[2:] + (end + 3)[2:]", "dws  = length[2:] + (end + 4)[2:]"),
    ("(end[:2] == 0) | (end[:2] == 3), end[:2] == 0)", "end[:2] == 3, end[:2] == 0)"),
    ("Mux(one, 0, tail)", "tail"),
    ("(offset + length[:3] <= 4)", "(length[:3] <= 4)"),
    ("head = (C(0xf, 4) << offset)[:4]", "head = C(0xf, 4)"),
])
def test_broken_byte_enables(formal, line, instead):
    formal.refutes(lambda p: enables(p, broken("ringnic.hdl.pcie.dma_write", line, instead).byte_enables), 2)


def cut(p, cut_length, mps):
    """2.2.7: no request crosses 4 KiB nor has more DWs than Max_Payload_Size; and there is progress up to the last byte."""
    addr, length = p.free(64), p.free(16)
    p.assume(length != 0)
    now = cut_length(addr, length, C((128 << mps) - 1, 12))
    p.check((now != 0) & (now <= length))
    p.check(addr[:12] + now <= 4096)
    p.check(((addr[:2] + now + 3) >> 2) <= 32 << mps)
    # What is left begins at a DW, or there is nothing left: no DW is written in two parts.
    p.check((now == length) | ((addr + now)[:2] == 0))
    p.cover((now != length) & (addr[:12] + now == 4096))
    p.cover((now != length) & ((addr[:2] + now) >> 2 == 32 << mps))


@pytest.mark.parametrize("mps", [0, 2, 4])
def test_cut_length(formal, mps):
    formal.always(lambda p: cut(p, cut_length, mps))
    formal.covers(lambda p: cut(p, cut_length, mps), 2)


@pytest.mark.parametrize("line, instead", [
    ("Mux(near, addr[:12], addr[:2])", "Mux(near, addr[:12], 0)"),
    ("near = (addr[:12] | mask).all()", "near = 0"),
    ("Mux(length > limit, limit, length)", "length"),
])
def test_broken_cut_length(formal, line, instead):
    formal.refutes(lambda p: cut(p, broken("ringnic.hdl.pcie.dma_write", line, instead).cut_length, 0), 2)


def leaves_in_order(p, dut, dws=2):
    """Requests of 1 to ``dws`` DWs, each client's to a page of its own; as they come they leave, and are done."""
    p.add(dut)
    m = p.m
    m.d.comb += [dut.bus_master.eq(1), dut.requester_id.eq(0x100)]
    accepts, sizes = [], []
    for k, port in enumerate(dut.writes):
        size = p.free(range(dws + 1), "size")
        p.assume((size != 0) & (size <= dws))
        accept = p.feed(port.req, Cat(C((k + 1) << 16, 64), C(0, 2), size, C(0, 14 - len(size))))
        # Beats to come of the request that was accepted first, and of the next one.
        first, second, come = Signal(range(dws + 1)), Signal(range(dws + 1)), Mux(accept, size, 0)
        rest = first - (port.data.valid & port.data.ready)
        m.d.comb += [port.data.payload.data.eq(0), port.data.payload.last.eq(first == 1), port.data.valid.eq(first != 0)]
        m.d.sync += [
            first.eq(Mux(rest != 0, rest, Mux(second != 0, second, come))),
            second.eq(Mux(rest != 0, second | come, Mux(second != 0, come, 0))),
        ]
        p.check(~accept | (rest == 0) | (second == 0))
        accepts.append(accept)
        sizes.append(size)
    p.check(~(accepts[0] & accepts[1]))

    # What was accepted and has not left, oldest first: client and size.
    room = 5
    shape = len(sizes[0]) + 1
    waiting, level = [Signal(shape, name=f"waiting{k}") for k in range(room)], Signal(range(room + 1))
    push, pop, after = accepts[0] | accepts[1], Signal(), Signal(range(room + 1))
    came = Mux(accepts[1], Cat(C(1, 1), sizes[1]), Cat(C(0, 1), sizes[0]))
    m.d.comb += after.eq(level - pop)
    m.d.sync += level.eq(after + push)
    for k in range(room):
        m.d.sync += waiting[k].eq(Mux(push & (after == k), came, Mux(pop, waiting[min(k + 1, room - 1)], waiting[k])))
    p.check(~push | (after < room))

    # The TLPs: 3 DWs of header, as the addresses are below 4 GB.
    beat, at, dw = dut.tlp.payload, Signal(range(3 + dws)), Signal(32)
    sent = p.take(dut.tlp)
    m.d.comb += dw.eq(byteswap(beat.data))
    client, size = waiting[0][0], waiting[0][1:]
    with m.If(sent):
        m.d.sync += at.eq(Mux(beat.last, 0, at + 1))
        p.check(beat.dws == 1)
        p.check(level != 0)
        p.check((at != 0) | (dw == (0x40000000 | size)))
        p.check((at != 2) | (dw == Mux(client, 2 << 16, 1 << 16)))
        p.check(beat.last == (at == size + 2))
        m.d.comb += pop.eq(beat.last)
    p.check(dut.busy | (level == 0))

    # Told once for each that has left, in the next cycle.
    for k, port in enumerate(dut.writes):
        p.check(port.done == p.past(pop & (client == k)))
        p.cover(port.done & (level == 2))
    p.cover(pop & (waiting[1][0] != client) & (level > 1))


def test_order(formal):
    formal.always(lambda p: leaves_in_order(p, Writer(width=32, clients=CLIENTS)))
    formal.covers(lambda p: leaves_in_order(p, Writer(width=32, clients=CLIENTS)), 24)


@pytest.mark.parametrize("module, line, instead", [
    ("payload", "out.i.p.client.eq(beat.client),", "out.i.p.client.eq(plan.client),"),                     # the wrong one is told
    ("payload", "gone = self.tlp.valid & self.tlp.ready & self.tlp.p.last &", "gone = self.tlp.valid &"),  # told too early
    ("dma_write", "plan.client.eq(job.client),", "plan.client.eq(self.i.p.client),"),
    ("payload", "part.eq(Mux(end, 1, Mux(makes, part << 1, part))),", "part.eq(Mux(end, 1, part)),"),
])
def test_broken_order(formal, module, line, instead):
    parts = {name: broken(f"ringnic.hdl.pcie.{name}", *((line, instead) if name == module else ("__all__ = [", "__all__ = [")))
             for name in ("payload", "dma_write")}
    parts["dma_write"].Merge = parts["payload"].Merge
    Bad = parts["dma_write"].Writer
    formal.refutes(lambda p: leaves_in_order(p, Bad(width=32, clients=CLIENTS)), 18)
