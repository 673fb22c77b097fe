"""Which queues a card's interrupts have told of, and that none comes of a vector that is masked."""

from ..bus import MSI_ADDRESS
from .good import BrokenPromise

__all__ = ["WHOLE", "Ears"]

WHOLE = -1              # in place of a vector: the function


class Ears:
    """What is heard of one life of a device.

    Attributes
    ----------
    deaf : bool
        Interrupts may have been lost, or have become others, for somebody wrote into the vectors.
    """
    def __init__(self, engine, card):
        self._engine, self._card = engine, card
        self.deaf = False
        self._masked = set()             # vectors, and WHOLE if it is the function
        self._told = set()               # queues

    def hear(self):
        """Note which queues interrupts have told of. Raises :exc:`BrokenPromise` if one is of a vector that is masked."""
        for address, data in self._engine.interrupts():
            if address == MSI_ADDRESS:
                if not self.deaf and self._masked & {data, WHOLE}:
                    raise BrokenPromise("mask", f"vector {data} interrupts, and {sorted(self._masked)} are masked")
                self._told.add(data - 1)

    def mask(self, vector, on):
        """Mask a vector (or WHOLE: the function), or no longer, and see to it that the card has taken that."""
        self.hear()
        if vector == WHOLE:
            self._card.msix(enable=True, mask=bool(on))
            now = self._card.function_mask
        else:
            self._card.table(vector, 3, on)
            now = self._card.read_table(vector, 3)  # or all ones from a card that does not listen
        if now == 1:
            self.hear()
            self._masked.add(vector)
        elif now == 0:
            self._masked.discard(vector)

    def unmask(self):
        """What is pending comes."""
        for vector in sorted(self._masked):
            self.mask(vector, 0)

    def queues(self):
        """Return the queues that interrupts have told of since the last call."""
        self.hear()
        told, self._told = self._told, set()
        return told
