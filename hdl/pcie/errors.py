"""Errors of the Transaction Layer: what is noted in the status registers, and what the root complex is told.

Ref: PCI Express Base 5.0, 6.2.3.2 "Error Signaling", 6.2.6 "Error Message Controls", 7.5.1.1.4 "Status Register",
7.5.3.5 "Device Status Register".
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..spec.pcie import ConfigStatus, DevCtl, DevSta
from .function_config import CPL_FAULTS, FAULTS

__all__ = ["Errors"]


class Errors(wiring.Component):
    """Judge what went wrong. All outputs are strobes, a cycle after what they tell of.

    The function has no AER: 6.2.3.2.4, of an advisory error it sends no message, and correctable ones are those of the link.

    Members
    -------
    faults : In(FAULTS)
        Strobes.
    parity, serr : In(1), reports : In(4)
        As configured.
    asleep : In(1)
        The function is in D3hot.
    quiet : In(1)
        Tell nobody: the function is being reset.
    noted : Out(16), noted_device : Out(4)
        Bits to set in Status and Device Status.
    err_nonfatal, err_fatal : Out(1)
        Messages to send.
    """
    faults: In(FAULTS)
    parity:  In(1)
    serr:    In(1)
    reports: In(4)
    asleep:  In(1)
    quiet:   In(1)
    noted: Out(16)
    noted_device: Out(4)
    err_nonfatal: Out(1)
    err_fatal:    Out(1)

    def elaborate(self, platform):
        m = Module()
        # A register in front: verdicts come late in their cycle.
        fatal, nonfatal, posted, advisory, unsupported, timeout, parity = (Signal(name=name) for name in (
            "fatal", "nonfatal", "posted", "advisory", "unsupported", "timeout", "parity"))
        cpl, faults, request = Signal(CPL_FAULTS), self.faults, self.faults.request
        m.d.sync += [
            cpl.eq(faults.completion),
            fatal.eq(faults.malformed),
            nonfatal.eq((request.poisoned & ~request.unsupported & ~request.advisory) | faults.completion.poisoned),
            posted.eq(request.unsupported & ~request.advisory),
            advisory.eq(request.advisory | faults.unexpected),
            unsupported.eq(request.unsupported),
            parity.eq(request.poisoned | faults.completion.poisoned),
            # 5.3.1.4.1: what has not come with a TLP is told of when the function is back in D0.
            timeout.eq(faults.timeout | (timeout & self.asleep & ~self.quiet)),
        ]
        missed = timeout & ~self.asleep
        tell_nonfatal = ((nonfatal | missed | (posted & self.reports[DevCtl.REPORT_UNSUPPORTED]))
                         & (self.reports[DevCtl.REPORT_NONFATAL] | self.serr) & ~self.quiet)
        tell_fatal = fatal & (self.reports[DevCtl.REPORT_FATAL] | self.serr) & ~self.quiet
        m.d.comb += [
            self.noted_device[DevSta.CORRECTABLE].eq(advisory),
            self.noted_device[DevSta.NONFATAL].eq(nonfatal | missed | posted),
            self.noted_device[DevSta.FATAL].eq(fatal),
            self.noted_device[DevSta.UNSUPPORTED].eq(unsupported),
            self.noted[ConfigStatus.MASTER_DATA_PARITY].eq(cpl.poisoned & self.parity),
            self.noted[ConfigStatus.RECEIVED_TARGET_ABORT].eq(cpl.aborted),
            self.noted[ConfigStatus.RECEIVED_MASTER_ABORT].eq(cpl.refused),
            self.noted[ConfigStatus.SIGNALED_SYSTEM_ERROR].eq((tell_nonfatal | tell_fatal) & self.serr),
            self.noted[ConfigStatus.DETECTED_PARITY].eq(parity),
            self.err_nonfatal.eq(tell_nonfatal),
            self.err_fatal.eq(tell_fatal),
        ]
        return m
