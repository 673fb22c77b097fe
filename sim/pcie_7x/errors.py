"""Errors that the block finds or the user tells it of: what is noted, and which messages are due.

Ref: PCI Express Base 5.0, 6.2.3.2.4 "Advisory Non-Fatal Error Cases", 6.2.6 "Error Message Controls", 6.2.7 "Error Listing and
Rules"; PG054, "Error Reporting Signals". Which input counts as which kind of error is our reading: there is no public list.
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ...hdl.spec.pcie import Command, ConfigStatus, DevCtl, DevSta

__all__ = ["USER_ERRORS", "Errors"]

#: Inputs ``cfg_err_*`` that are errors.
USER_ERRORS = ("ecrc", "ur", "cpl_timeout", "cpl_unexpect", "cpl_abort", "cor", "atomic_egress_blocked", "internal_cor",
               "malformed", "mc_blocked", "poisoned", "acs", "internal_uncor")

SIGNALED_TARGET_ABORT = 11  # of the Status register


class Errors(wiring.Component):
    """Note errors in the cycle of their strobe; messages stay due until they are sent, each kind once.

    There is no AER: of an advisory error there is no message (6.2.3.2.4).

    Members
    -------
    unsupported, unsupported_posted, malformed, poisoned, poisoned_cpl, refused, aborted : In(1)
        Strobes of the block's own receive logic.
    cfg_err_* : In(1)
        Of the user, an error each cycle. ``cfg_err_posted`` says that no completion is due for ``cfg_err_ur`` or
        ``cfg_err_cpl_abort``; ``cfg_err_norecovery`` makes ``cfg_err_poisoned`` and ``cfg_err_cpl_timeout`` non-fatal, which are
        advisory else.
    command, dcommand : In(16)
    note_status : Out(16), note_device : Out(4)
    due : Out(3), sent : In(3)
        Messages ERR_COR, ERR_NONFATAL, ERR_FATAL.
    """
    def __init__(self):
        strobes = ("unsupported", "unsupported_posted", "malformed", "poisoned", "poisoned_cpl", "refused", "aborted",
                   *(f"cfg_err_{name}" for name in USER_ERRORS), "cfg_err_posted", "cfg_err_norecovery")
        super().__init__({
            **{name: In(1) for name in strobes},
            "command": In(16), "dcommand": In(16), "note_status": Out(16), "note_device": Out(4), "due": Out(3), "sent": In(3),
        })

    def elaborate(self, platform):
        m = Module()
        told = {name: getattr(self, f"cfg_err_{name}") for name in USER_ERRORS}
        posted, lost = self.cfg_err_posted, self.cfg_err_norecovery
        poisoned = self.poisoned | self.poisoned_cpl
        correctable, advisory, nonfatal, fatal, unsupported_posted = (Signal(name=name) for name in (
            "correctable", "advisory", "nonfatal", "fatal", "all_unsupported_posted"))
        serr = self.command[Command.SERR]
        m.d.comb += [
            correctable.eq(told["cor"] | told["internal_cor"]),
            unsupported_posted.eq(self.unsupported_posted | (told["ur"] & posted)),
            advisory.eq(self.unsupported | told["cpl_unexpect"] | ((told["ur"] | told["cpl_abort"]) & ~posted)
                        | ((told["poisoned"] | told["cpl_timeout"]) & ~lost)),
            nonfatal.eq(poisoned | told["ecrc"] | (told["cpl_abort"] & posted) | ((told["poisoned"] | told["cpl_timeout"]) & lost)
                        | told["acs"] | told["mc_blocked"] | told["atomic_egress_blocked"]),
            fatal.eq(self.malformed | told["malformed"] | told["internal_uncor"]),
        ]
        tell = Signal(3)
        m.d.comb += [
            tell[0].eq(correctable & self.dcommand[DevCtl.REPORT_CORRECTABLE]),
            tell[1].eq((nonfatal | (unsupported_posted & self.dcommand[DevCtl.REPORT_UNSUPPORTED]))
                       & (self.dcommand[DevCtl.REPORT_NONFATAL] | serr)),
            tell[2].eq(fatal & (self.dcommand[DevCtl.REPORT_FATAL] | serr)),
            self.note_device[DevSta.CORRECTABLE].eq(correctable | advisory),
            self.note_device[DevSta.NONFATAL].eq(nonfatal | unsupported_posted),
            self.note_device[DevSta.FATAL].eq(fatal),
            self.note_device[DevSta.UNSUPPORTED].eq(self.unsupported | unsupported_posted | told["ur"]),
            self.note_status[ConfigStatus.MASTER_DATA_PARITY].eq(self.poisoned_cpl & self.command[Command.PARITY]),
            self.note_status[SIGNALED_TARGET_ABORT].eq(told["cpl_abort"]),
            self.note_status[ConfigStatus.RECEIVED_TARGET_ABORT].eq(self.aborted),
            self.note_status[ConfigStatus.RECEIVED_MASTER_ABORT].eq(self.refused),
            self.note_status[ConfigStatus.SIGNALED_SYSTEM_ERROR].eq((tell[1] | tell[2]) & serr),
            self.note_status[ConfigStatus.DETECTED_PARITY].eq(poisoned),
        ]
        m.d.sync += self.due.eq((self.due & ~self.sent) | tell)
        return m
