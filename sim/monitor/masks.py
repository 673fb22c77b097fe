"""What forbids MSI-X messages, and from when on none may come.

Ref: PCI Express Base 5.0, 6.1.4.5 "Per-vector Masking and Function Masking", 7.7.2.2 "Message Control Register for MSI-X".

A message may be on its way when the device takes the access that forbids it. It may not come behind the answer to that access,
or, as a write to the vector table has no answer, to any later one: posted writes do not pass a message of before, and answers
do not either.
INT-4: the mask bit of its vector is set. INT-5: Function Mask is set. INT-2: MSI-X Enable is clear. Counted are the times that
such an answer came.
"""

__all__ = ["CLAUSES", "Masks"]

VECTOR, FUNCTION, DISABLED = CLAUSES = ("INT-4", "INT-5", "INT-2")
WHY = {VECTOR: "its mask has been read back", FUNCTION: "the function is masked", DISABLED: "MSI-X is disabled"}


class Masks:
    """Follows what forbids messages: of one vector, or of all (``vector`` None).

    Attributes
    ----------
    used : bool
        MSI-X was enabled since the last reset of the function.
    """
    def __init__(self, report):
        self.report = report
        self.reset()

    def reset(self):
        """The function was reset."""
        self.used = False
        self._soft, self._firm = {}, set()   # soft: with which fact an answer makes it firm

    def set(self, row, on, vector=None, *, answered):
        """The device took an access after which this forbids messages, or no longer does. ``answered``: that access is."""
        if not on:
            self._soft.pop((row, vector), None)
            self._firm.discard((row, vector))
        elif (row, vector) not in self._firm:
            self._soft.setdefault((row, vector), self.report.seq + (not answered))

    def answer(self, seq):
        """The device answered the access of fact ``seq``."""
        for ban in [ban for ban, since in self._soft.items() if since <= seq]:
            del self._soft[ban]
            self._firm.add(ban)
            self.report.held(ban[0])

    def judge(self, vectors):
        """A message came that is that of each of these vectors."""
        for row in CLAUSES:
            if (row, None) in self._firm or all((row, vector) in self._firm for vector in vectors):
                self.report.broken(row, f"the message of vector {min(vectors)} is sent, and {WHY[row]}")
