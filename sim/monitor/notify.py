"""Used buffer notifications by MSI-X: due, forbidden, masked.

Ref: VIRTIO 1.4, 2.7.7 "Used Buffer Notification Suppression", 2.8.10 "Event Suppression Structure Format", 4.1.5.3 "Used Buffer
Notifications", 4.1.5.4 "Notification of Device Configuration Changes".

What the driver wishes is what the device reads of it after the host could see the used index: a *look*. A look at a time when
nothing was used since the last one decides nothing.
UNS-3, UNS-5, PK-B5: a look that says yes (flags; or the event is among the places that were passed) makes a notification
due, and a message comes within LIMIT cycles after it, unless the vector is masked or nobody may be told. What became
visible is followed by a look within as many cycles, if there is anybody to be told: a device cannot know the wish
otherwise.
UNS-2, UNS-6, PK-B5: a message comes only if one is due on its vector. A message may stand for several that are due, so of those
that were due at about the same time one more may follow it.
MSX-7, MSX-8: while a queue, or the configuration, has no vector, a message that nothing else accounts for is not sent.
Counted are the looks that say yes, and the answers in which status has NEEDS_RESET. On a vector that the configuration has,
a message may always be a change of it: nothing is judged.
"""

from collections import deque

from ...hdl.spec.pcie import MSIX_ENTRY_SIZE
from ...hdl.spec.virtio import VIRTIO_MSI_NO_VECTOR
from .masks import DISABLED, FUNCTION, VECTOR, Masks
from .ring import SETTLED

__all__ = ["CLAUSES", "LIMIT", "NEVER", "Notifications"]

CLAUSES = ("UNS-2", "UNS-3", "UNS-5", "UNS-6", "PK-B5", "MSX-7", "MSX-8")
LIMIT = 5_000          # cycles
NEVER = 1 << 62
TABLE_BYTES = 0x1000


class Notifications:
    """All vectors, and the queues on them.

    Attributes
    ----------
    config_vector : int
    deadline : int
        The first cycle in which something that is due is late.
    """
    def __init__(self, monitor):
        self.monitor, self.report = monitor, monitor.report
        self.table = bytearray(TABLE_BYTES)
        self.masks = Masks(self.report)
        self._former = []              # (message, vector, with which fact) of entries that were changed
        self.reset()

    def reset(self):
        self.config_vector = VIRTIO_MSI_NO_VECTOR
        self.deadline = NEVER
        self._messages = None
        for ring in self.monitor.rings.values():
            ring.rest()

    def table_write(self, offset, data):
        if offset + len(data) <= TABLE_BYTES:
            before = bytes(self.table)
            self.table[offset:offset + len(data)] = data
            self._messages = None
            for vector in range(offset // MSIX_ENTRY_SIZE, -(-(offset + len(data)) // MSIX_ENTRY_SIZE)):
                old, new = (table[MSIX_ENTRY_SIZE * vector:MSIX_ENTRY_SIZE * (vector + 1)] for table in (before, self.table))
                if old[:12] != new[:12]:
                    self._former.append((old[:12], vector, self.report.seq))
                self.masks.set(VECTOR, new[12] & 1, vector, answered=False)
            self.excuse()

    def control(self, enabled, masked):
        """The device took a write of Message Control."""
        self.masks.used |= enabled
        self.masks.set(DISABLED, self.masks.used and not enabled, answered=True)
        self.masks.set(FUNCTION, masked, answered=True)
        self.excuse()

    def answer(self, seq):
        """The device answered the access of fact ``seq``: no message of before comes any more."""
        self.masks.answer(seq)
        self._former = [former for former in self._former if former[2] >= seq]

    def excuse(self):
        """Whether messages can be sent has changed: of what is due nothing must come in time, and all of it may. The time in
        which the device could not look at a wish does not count."""
        for ring in self.monitor.rings.values():
            ring.dues = [[self.report.cycle, False] for _ in ring.dues]
            ring.steps = deque((self.report.cycle, old, new) for _, old, new in ring.steps)

    def vectors_of(self, address, data):
        """Return the vectors that have this message."""
        if self._messages is None:
            self._messages = {}
            for vector in range(TABLE_BYTES // MSIX_ENTRY_SIZE):
                at = MSIX_ENTRY_SIZE * vector
                key = bytes(self.table[at:at + 12])
                self._messages.setdefault(key, set()).add(vector)
        key = address.to_bytes(8, "little") + data
        return self._messages.get(key, set()) | {vector for former, vector, _ in self._former if former == key}

    def _masked(self, vector):
        return self.monitor.registers.masked or self.table[MSIX_ENTRY_SIZE * vector + 12] & 1

    def tells(self, ring):
        """Can the driver be told of this queue?"""
        registers = self.monitor.registers
        return self.monitor.can_notify() and not (registers.msix and ring.setup.vector == VIRTIO_MSI_NO_VECTOR)

    @staticmethod
    def rows(ring):
        """Return the rows for what must come and for what must not."""
        if ring.PACKED:
            return "PK-B5", "PK-B5"
        return ("UNS-5", "UNS-6") if ring.event_idx else ("UNS-3", "UNS-2")

    def look(self, ring, read, wish):
        """The device learns what the driver wishes: a bool, a function of two places, or None if it means nothing."""
        look = read.look
        if look is None:
            return
        wanted = sure = wish
        if callable(wish):
            wanted, sure = wish(look.since, look.last), wish(look.since, look.to)
        must, must_not = self.rows(ring)
        if wanted is False:
            self.report.held(must_not)
            return
        vector = ring.setup.vector
        if self.monitor.registers.msix and vector == VIRTIO_MSI_NO_VECTOR:
            self.report.held("MSX-7")
            return
        if wanted:
            self.report.held(must)
        cycle = self.report.cycle
        firm = (bool(sure) and look.firm and not (ring.PACKED and ring.published_seq > look.seq) and self.monitor.can_notify()
                and not (self.monitor.registers.msix and self._masked(vector)))
        if not self.monitor.registers.msix:
            self.monitor.isr.due(ring, firm)
            return
        if self.monitor.can_notify() and not self._masked(vector):
            ring.dues = [due for due in ring.dues if due[1] or due[0] > cycle - 2 * SETTLED]
        ring.dues.append([cycle, firm])
        if firm:
            self.deadline = min(self.deadline, cycle + LIMIT)

    def message(self, vectors):
        """The device sent the message of one of these."""
        cycle, report = self.report.cycle, self.report
        self.masks.judge(vectors)
        rings = [ring for ring in self.monitor.rings.values() if ring.vectors & vectors]
        for ring in rings:
            if ring.PACKED and not ring.excused:
                ring.judge_gap()
        due = [ring for ring in rings if ring.dues]
        if due:
            oldest = min(due, key=lambda ring: ring.dues[0][0])
            oldest.dues.pop(0)
            for ring in due:
                ring.dues = [[when, False] for when, _ in ring.dues if when > cycle - SETTLED]
            return
        if self.config_vector in vectors:
            self.monitor.isr.config_message()
            return
        if any(ring.excused or ring.setup.resetting for ring in rings):
            return
        said = f"the message of vector {min(vectors)} is sent, and nothing is due"
        if rings:
            report.broken(self.rows(rings[0])[1], f"queue {rings[0].index}: {said}")
        elif vectors & self.monitor.dead_vectors:
            report.broken("QRST-1", f"{said}: its queue has been reset")
        elif any(ring.setup.vector == VIRTIO_MSI_NO_VECTOR for ring in self.monitor.rings.values()):
            report.broken("MSX-7", f"{said}: no queue has that vector")
        else:
            report.broken("MSX-8", f"{said}: no queue has that vector, nor has the configuration")

    def published(self):
        """Used buffers became visible."""
        self.deadline = min(self.deadline, self.report.cycle + LIMIT)

    def needs_reset(self):
        """The driver saw that the device needs a reset: a configuration change notification was wanted."""
        if self.config_vector == VIRTIO_MSI_NO_VECTOR and self.monitor.registers.msix:
            self.report.held("MSX-8")

    def late(self):
        """Judge what is due for too long; find the next deadline."""
        self.deadline, cycle = NEVER, self.report.cycle
        for ring in self.monitor.rings.values():
            for due in ring.dues:
                if due[1] and due[0] + LIMIT <= cycle:
                    self.report.broken(self.rows(ring)[0], f"queue {ring.index}: a notification is due since cycle {due[0]}")
                    due[1] = False
                elif due[1]:
                    self.deadline = min(self.deadline, due[0] + LIMIT)
            for when in ring.unseen[:1]:
                if when + LIMIT > cycle:
                    self.deadline = min(self.deadline, when + LIMIT)
                else:
                    ring.unseen.clear()
                    if self.tells(ring):
                        self.report.broken(self.rows(ring)[0], (
                            f"queue {ring.index}: buffers are back since cycle {when}, and nobody looked at the driver's wish"))
