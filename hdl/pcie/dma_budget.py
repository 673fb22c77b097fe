"""Reads in flight, counted by what their completions may take of a buffer that flow control does not protect.

Ref: PCI Express Base 5.0, 2.3.1.1 "Data Return for Read Requests", 2.6.1 "Flow Control Rules".
"""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RCB", "CompletionBudget"]

#: Bytes; 2.3.1.1: a completer may end a completion at every multiple of this address, and nowhere else.
RCB = 64


class CompletionBudget(wiring.Component):
    """Say whether one more read may be issued, so that the completions of all never need more than ``headers`` entries.

    An endpoint advertises infinite credits for completions (2.6.1), so a receive buffer that can overflow is protected only by
    asking for less. A read counts with as many completions as there are blocks of 64 bytes that it touches, from its issue until
    its last completion has come. A read that was given up may still be answered, and counts as one of the largest size until
    nothing can come any more.

    A completion has at most 64 bytes for each header that was counted, that is 4 units of 16 bytes; so data needs at most
    ``4 * headers`` units.

    Parameters
    ----------
    tags : int
        A power of 2.
    slot_bytes : int
        Largest read, a multiple of 64.
    headers : int
        At least those of the largest read, ``slot_bytes // 64 + 1``, else :exc:`ValueError`.

    Members
    -------
    issue : In(1), tag : In(range(tags)), offset : In(6), length : In(range(slot_bytes + 1))
        Strobe: a read of ``length`` bytes, more than 0, from an address with these low bits. There is at least a cycle between
        two.
    ended : In(1), ended_tag : In(range(tags)), late : In(1)
        Strobe: a read has been answered, or was given up; ``late`` with it: it may still be answered.
    gone : In(1)
        Strobe: a read that was given up cannot be answered any more.
    ready : Out(1)
        A read may be issued.
    """
    @staticmethod
    def check(*, slot_bytes, headers):
        """Raise what the constructor would."""
        if headers < slot_bytes // RCB + 1:
            raise ValueError(f"Number of completion headers must be at least {slot_bytes // RCB + 1}, not {headers!r}")

    def __init__(self, *, tags, slot_bytes, headers):
        self.check(slot_bytes=slot_bytes, headers=headers)
        self.tags = tags
        self.slot_bytes = slot_bytes
        self.headers = headers
        self.largest = slot_bytes // RCB + 1
        super().__init__({
            "issue":  In(1),
            "tag":    In(range(tags)),
            "offset": In(6),
            "length": In(range(slot_bytes + 1)),
            "ended":  In(1),
            "ended_tag": In(range(tags)),
            "late":   In(1),
            "gone":   In(1),
            "ready":  Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        cost, most = Signal(range(self.largest + 1)), self.headers - self.largest
        in_flight, given_up = Signal(range(self.headers + 1)), Signal(range(self.tags + 1))
        m.d.comb += cost.eq((self.offset + self.length + (RCB - 1)) >> 6)
        m.submodules.costs = costs = memory.Memory(shape=cost.shape(), depth=self.tags, init=[])
        write = costs.write_port()
        m.d.comb += [write.addr.eq(self.tag), write.data.eq(cost), write.en.eq(self.issue)]
        read = costs.read_port(domain="comb")
        m.d.comb += read.addr.eq(self.ended_tag)
        # What ends leaves the account when it is among ``given_up``, if that is where it goes.
        m.d.sync += [
            in_flight.eq(in_flight + Mux(self.issue, cost, 0) - Mux(self.ended, read.data, 0)),
            given_up.eq(given_up + (self.ended & self.late) - self.gone),
            self.ready.eq(in_flight + given_up * self.largest <= most),
        ]
        return m
