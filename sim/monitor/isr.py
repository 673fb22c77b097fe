"""ISR status and INTx.

Ref: VIRTIO 1.4, 4.1.4.5 "ISR status capability"; PCI Express Base 5.0, 6.1.2 "PCI Compatible INTx Emulation".

ISR-2: the first read of ISR status that was asked for after a configuration change message has the configuration bit, if no
other read was under way when the message was sent.
ISR-3: the same of the queue bit, after INTx was asserted for a used buffer notification that was due.
ISR-4: INTx rises only while it is low and the driver has not switched it off; it falls only after ISR status was read, or
an interrupt was switched off; after a read it does fall, or the bits of it were new. A notification that is due without
MSI-X has INTx high at some moment after, or its bit is read, within LIMIT cycles.
UNS-2, UNS-6, PK-B5, without MSI-X: the queue bit is read only if a notification was due since the last read.
"""

from ...hdl.spec.pcie import Command, MsgCode
from .notify import LIMIT, NEVER
from .ring import SETTLED

__all__ = ["CLAUSES", "InterruptStatus"]

CLAUSES = ("ISR-2", "ISR-3", "ISR-4")
QUEUE, CONFIG = 1, 2


class InterruptStatus:
    """Follows INTx and reads of ISR status."""
    def __init__(self, monitor):
        self.monitor, self.report = monitor, monitor.report
        self.level = False
        self.deadline = NEVER
        self.changed = -NEVER          # cycle in which something was switched, or reset
        self._reads = {}               # by the number of the fact that asked: the level then
        self._config = False           # a message was sent that the next read must account for
        self._dues = []                # [cycle, whether INTx must have risen], since the last read
        self._falls = None             # cycle of a read after which INTx must fall
        self._may_fall = -NEVER

    def power(self):
        self.level = False
        self.excuse()

    def excuse(self):
        """What is judged begins anew: a reset, or a switch."""
        self.changed = self._may_fall = self.report.cycle
        self._config, self._dues, self._falls, self._reads = False, [], None, {}
        self.deadline = NEVER

    @property
    def _intx_off(self):
        return self.monitor.registers.msix or self.monitor.registers.command >> Command.INTX_DISABLE & 1

    def _long_since(self):
        return self.report.cycle > self.changed + SETTLED

    def config_message(self):
        """A configuration change notification by MSI-X."""
        self._config = not self._reads

    def due(self, ring, firm):
        """A used buffer notification is due, without MSI-X."""
        self._dues.append([self.report.cycle, firm and not self._intx_off and not self.level, ring])
        if self._dues[-1][1]:
            self.deadline = min(self.deadline, self.report.cycle + LIMIT)

    def asked(self, seq):
        """The device took a read of ISR status."""
        self._reads[seq] = self.level, self.report.cycle, bool(self._dues)
        self._may_fall = self.report.cycle

    def answer(self, value, seq):
        if seq not in self._reads:
            return
        level, cycle, due = self._reads.pop(seq)
        if self._config:
            self.report.judge("ISR-2", value & CONFIG, f"a configuration change was told, and ISR status is {value:#x}")
            self._config = False
        if not self.monitor.registers.msix and self._long_since():
            if level:
                self.report.judge("ISR-3" if due else "ISR-4", value & QUEUE if due else value, (
                    f"INTx was asserted, and ISR status is {value:#x}" + (", a used buffer notification was due" if due else "")))
                if self.level and cycle >= self._may_fall:
                    self._falls = self.report.cycle
                    self.deadline = min(self.deadline, self._falls + LIMIT)
            if value & QUEUE and not self._dues and not any(ring.excused for ring in self.monitor.rings.values()):
                for ring in list(self.monitor.rings.values())[:1]:
                    self.report.broken(self.monitor.notifications.rows(ring)[1], "the queue bit is set, and nothing is due")
        self._dues = [due for due in self._dues if due[0] > cycle - SETTLED]
        for due in self._dues:
            due[1] = False

    def message(self, code):
        if code == MsgCode.ASSERT_INTA:
            off = self._intx_off and self._long_since()
            self.report.judge("ISR-4", not self.level and not off, (
                "INTx rises, and " + ("is high" if self.level else "is switched off")))
            self.level, self._falls = True, None
            if not self._reads and self._may_fall < self.report.cycle - SETTLED:
                self._may_fall = -NEVER
            for due in self._dues:
                due[1] = False
        elif code == MsgCode.DEASSERT_INTA:
            self.report.judge("ISR-4", self.level and self._may_fall > -NEVER, (
                "INTx falls, and " + ("nobody has read ISR status" if self.level else "is low")))
            self.level, self._falls, self._may_fall = False, None, -NEVER

    def late(self):
        cycle, self.deadline = self.report.cycle, NEVER
        if self._falls is not None and self._falls + LIMIT <= cycle:
            self.report.broken("ISR-4", f"ISR status was read in cycle {self._falls}, and INTx is still high")
            self._falls = None
        for due in self._dues:
            if due[1] and due[0] + LIMIT <= cycle:
                self.report.broken("ISR-4", f"a notification is due since cycle {due[0]}, and INTx is low")
                due[1] = False
            elif due[1]:
                self.deadline = min(self.deadline, due[0] + LIMIT)
