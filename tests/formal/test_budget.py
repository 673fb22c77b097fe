"""Reads in flight never ask for more completions than there is room for, whatever the completer makes of them."""

import pytest

from amaranth import *

from ringnic.hdl.pcie.dma_budget import CompletionBudget
from ringnic.hdl.spec.pcie_7x import CPL_BUFFER_HEADERS, CPL_BUFFER_UNITS
from prove import broken

TAGS, SLOT_BYTES = 2, 128   # so a read has at most 3 completions


def bounded(p, dut, headers):
    """Reads of any size and address, answered in full, in part, late or never.

    What a read may still bring is derived from 2.3.1.1 by counting: each block of 64 bytes that it touches, of which there are
    three at most.
    """
    p.add(dut)
    waiting, late = Signal(TAGS), Signal(TAGS)
    owed = Array(Signal(2, name=f"owed{n}") for n in range(TAGS))
    tag, offset, length = p.free(range(TAGS)), p.free(6), p.free(range(SLOT_BYTES + 1))
    ended_tag, gone_tag = p.free(range(TAGS), name="ended_tag"), p.free(range(TAGS), name="gone_tag")
    issue, issued = Signal(), Signal()
    ended, given_up, gone = Signal(), Signal(), Signal()
    p.m.d.comb += [
        issue.eq(p.free() & dut.ready & (length != 0) & (length <= SLOT_BYTES) & ~(waiting | late).bit_select(tag, 1) & ~issued),
        ended.eq(p.free() & waiting.bit_select(ended_tag, 1)),
        given_up.eq(p.free()),
        gone.eq(p.free() & late.bit_select(gone_tag, 1)),
        dut.issue.eq(issue), dut.tag.eq(tag), dut.offset.eq(offset), dut.length.eq(length),
        dut.ended.eq(ended), dut.ended_tag.eq(ended_tag), dut.late.eq(given_up), dut.gone.eq(gone),
    ]

    def one(condition, number):
        return Mux(condition, C(1, TAGS) << number, 0)[:TAGS]
    p.m.d.sync += [
        issued.eq(issue),
        waiting.eq(waiting & ~one(ended, ended_tag) | one(issue, tag)),
        late.eq(late & ~one(gone, gone_tag) | one(ended & given_up, ended_tag)),
    ]
    end = offset + length
    with p.m.If(issue):
        p.m.d.sync += owed[tag].eq(1 + (end > 64) + (end > 128))
    # A read that was given up is never more than it was.
    total = sum(Mux((waiting | late)[n], owed[n], 0) for n in range(TAGS))
    p.check(total <= headers)
    p.cover(total == min(headers, 2 * 3))
    p.cover(late.all() & ~waiting.any())


@pytest.mark.parametrize("headers", [3, 5, 6])
def test_budget(formal, headers):
    formal.always(lambda p: bounded(p, CompletionBudget(tags=TAGS, slot_bytes=SLOT_BYTES, headers=headers), headers))
    if headers >= 6:
        formal.covers(lambda p: bounded(p, CompletionBudget(tags=TAGS, slot_bytes=SLOT_BYTES, headers=headers), headers), 14)


@pytest.mark.parametrize("line, instead", [
    ("given_up.eq(given_up + (self.ended & self.late) - self.gone),", "given_up.eq(0),"),                       # forgets what may still come
    ("(self.offset + self.length + (RCB - 1)) >> 6", "(self.length + (RCB - 1)) >> 6"),  # ignores where a read begins
    ("self.headers - self.largest", "self.headers - 1"),                       # a large read may not fit
])
def test_broken_budget(formal, line, instead):
    Bad = broken("ringnic.hdl.pcie.dma_budget", line, instead).CompletionBudget
    formal.refutes(lambda p: bounded(p, Bad(tags=TAGS, slot_bytes=SLOT_BYTES, headers=4), 4), 16)


def test_data_of_the_block():
    """Of 64 bytes for each header at most, so what the headers allow fits the data buffer."""
    assert CPL_BUFFER_HEADERS * 64 // 16 <= CPL_BUFFER_UNITS
