"""Errors of the Transaction Layer: what is noted in the status registers, and what the root complex is told.

Ref: PCI Express Base 5.0, 6.2.3.2 "Error Signaling", 6.2.6 "Error Message Controls", 7.5.1.1.4 "Status Register",
7.5.3.5 "Device Status Register".
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..spec.pcie import CompletionDw1, CplStatus, HeaderDw0
from .header import byteswap
from .tlp_stream import tlp_beat

__all__ = ["REQUEST_FAULTS", "Errors"]

#: Of a request: not supported; with poisoned data; its completion says so, which makes the error advisory.
REQUEST_FAULTS = data.StructLayout({"unsupported": 1, "poisoned": 1, "advisory": 1})

# Bits of the Status register
MASTER_DATA_PARITY, TARGET_ABORT, MASTER_ABORT, SYSTEM_ERROR, DETECTED_PARITY = 8, 12, 13, 14, 15


class Errors(wiring.Component):
    """Judge what went wrong. All outputs are strobes, a cycle or two after what they tell of.

    The function has no AER: 6.2.3.2.4, of an advisory error it sends no message, and correctable ones are those of the link.

    Members
    -------
    request : In(REQUEST_FAULTS)
    malformed, timeout, unexpected : In(1)
        A TLP, of any kind; a read is not answered; the completion whose header has come in the cycle before is nobody's.
    cpl : In(stream.Signature(tlp_beat(width)))
        Completions received, looked at only: ``ready`` is low.
    cpl_ready : In(1)
        Whether the beat is taken.
    parity, serr : In(1), reports : In(4)
        As configured.
    quiet : In(1)
        Tell nobody: the function is being reset.
    noted : Out(16), noted_device : Out(4)
        Bits to set in Status and Device Status.
    err_nonfatal, err_fatal : Out(1)
        Messages to send.
    """
    def __init__(self, *, width):
        self.width = width
        super().__init__({
            "request": In(REQUEST_FAULTS),
            "malformed":  In(1),
            "timeout":    In(1),
            "unexpected": In(1),
            "cpl": In(stream.Signature(tlp_beat(width))),
            "cpl_ready": In(1),
            "parity":  In(1),
            "serr":    In(1),
            "reports": In(4),
            "quiet":   In(1),
            "noted":   Out(16),
            "noted_device": Out(4),
            "err_nonfatal": Out(1),
            "err_fatal":    Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        head_beats = -(-3 // lanes)

        # What completions say; their verdict comes with ``unexpected``.
        index, judged, poisoned, status = Signal(range(head_beats + 1)), Signal(), Signal(), Signal(3)
        beat = self.cpl.payload
        m.d.sync += judged.eq(0)
        with m.If(self.cpl.valid & self.cpl_ready):
            with m.If(index == 0):
                m.d.sync += poisoned.eq(HeaderDw0(byteswap(beat.data[:32])).ep)
            with m.If(index == 1 // lanes):
                m.d.sync += status.eq(CompletionDw1(byteswap(beat.data.word_select(1 % lanes, 32))).status)
            with m.If(index != head_beats):
                m.d.sync += [index.eq(index + 1), judged.eq(index == head_beats - 1)]
            with m.If(beat.last):
                m.d.sync += index.eq(0)

        # A register in front: verdicts come late in their cycle.
        fatal, nonfatal, advisory, unsupported = (
            Signal(name=name) for name in ("fatal", "nonfatal", "advisory", "unsupported"))
        ours, parity, timeout = judged & ~self.unexpected, Signal(), Signal()
        refused, aborted, spoilt = (Signal(name=name) for name in ("refused", "aborted", "spoilt"))
        request = self.request
        m.d.sync += [
            fatal.eq(self.malformed),
            timeout.eq(self.timeout),
            nonfatal.eq(request.poisoned & ~request.unsupported & ~request.advisory),
            unsupported.eq(request.unsupported),
            advisory.eq(request.advisory | self.unexpected),
            parity.eq(request.poisoned),
            spoilt.eq(ours & poisoned),
            # 2.3.2: a reserved status is one of Unsupported Request
            aborted.eq(ours & (status == CplStatus.CA.value)),
            refused.eq(ours & (status != CplStatus.CA.value) & (status != CplStatus.SC.value)),
        ]
        posted = unsupported & ~advisory
        _, report_nonfatal, report_fatal, report_unsupported = self.reports
        tell_nonfatal = (nonfatal | timeout | spoilt | posted & report_unsupported) & (report_nonfatal | self.serr) & ~self.quiet
        tell_fatal    = fatal & (report_fatal | self.serr) & ~self.quiet
        m.d.comb += [
            self.noted_device.eq(Cat(advisory, nonfatal | timeout | spoilt | posted, fatal, unsupported)),
            self.noted.eq(
                (spoilt & self.parity) << MASTER_DATA_PARITY | aborted << TARGET_ABORT | refused << MASTER_ABORT
                | ((tell_nonfatal | tell_fatal) & self.serr) << SYSTEM_ERROR | (parity | spoilt) << DETECTED_PARITY),
            self.err_nonfatal.eq(tell_nonfatal),
            self.err_fatal.eq(tell_fatal),
        ]
        return m
