"""When a card has come to rest, and in how many cycles it has to."""

from ...hdl.pcie.series7.adapter import PARAMETERS
from ..engine.engine import FAULTS
from .case import PAIRS, TIMEOUT
from .good import BrokenPromise

__all__ = ["LIMIT", "LOOK", "PATIENCE", "SHORT", "Calm"]

LIMIT = 80_000          # cycles within which something comes of what the card does, on a near host
DEPENDENT = 5000        # reads for which it may wait one after the other meanwhile: of long tables, of which receive takes four
MANY = 50               # times as long until all is done
WORK = frozenset({"mrd_up", "mwr_up", "cpl_down", "frames_out", "frames_in"})
FRUIT = WORK - {"mrd_up", "cpl_down"}
PATIENCE = 4500         # cycles that a frame without buffers may keep others waiting
LOOK = 520              # within so many, and a read, the card has looked at a ring for which a frame waits
BETWEEN_LOOKS = 64      # cycles without work of a card that rests until its next look
SHORT = 1500            # without a word on the link: nothing more will come, unless a completion was lost, or is on its way
UNDER_WAY = 64 * 280    # bytes on their way to the card, at most
# Used chains wait for company, up to two ticks for each queue that is busy (:class:`ringnic.hdl.virtqueue.pacing.Pacing`); a tick
# is longest behind a board's block.
KEPT = 2 * (2 * PAIRS + 1) * PARAMETERS.hold_cycles
# A read is given up once it is as old as TIMEOUT, half as much later at most, and may then still be answered for as long again.
GIVEN_UP = 3 * TIMEOUT
RX_COUNTERS = ("rx_frames", "rx_dropped_no_buffer", "rx_dropped_full", "rx_dropped_long", "rx_dropped_down")


class Calm:
    """Waits until a card rests, and keeps account of what may delay that: completions that are lost, frames that wait.

    Parameters
    ----------
    engine : Engine
    card : Card
    link_model : callable
        Returns a link by its name.
    """
    def __init__(self, engine, card, link_model):
        self._engine, self._card, self._link_model = engine, card, link_model
        self._lossy = False              # completions may be lost
        self._whole = 0                  # cycle from which no read waits for a completion that was lost
        self._dropped = 0                # frames, at the last look
        self._uncounted = 0              # frames on their way in that are not waited for

    def fault(self, name, one_in):
        """From now on so many reads end like this, until :meth:`end_faults`."""
        self._lossy |= name == "lost"
        self._engine.fault_rate(name, one_in)

    def end_faults(self):
        for name in FAULTS[1:]:
            self._engine.fault_rate(name, 0)
        if self._lossy:
            self._lossy = False
            self._whole = self._engine.stats()["cycles"] + GIVEN_UP

    def _held(self):
        """Cycles for which reads that were lost may hold up others: their tags, and their room for completions, are taken."""
        return max(0, self._whole - self._engine.stats()["cycles"])

    def limit(self):
        """Cycles within which something comes of what the card does: so many reads that depend on one another may come first."""
        link = self._engine.link.model()
        return LIMIT + DEPENDENT * (link.read_latency + link.jitter) + self._held()

    def wait(self, live, poll):
        """Run until nothing moves; return whether frames wait for buffers, for which nobody can be blamed.

        ``live``: the driver is ready. ``poll`` is called now and then. Raises :exc:`BrokenPromise`.
        """
        link = self._engine.link.model()
        pause = round(SHORT + UNDER_WAY / link.bytes_per_cycle) + self._held()
        limit = self.limit()
        spent = fruitless = still = dropped = 0
        while spent < MANY * limit:
            if fruitless >= limit:
                # Frames that have no buffer are dropped one by one, and the ring is looked at while each of them waits.
                before, dropped = dropped, sum(self._card.counter(name) for name in RX_COUNTERS[1:])
                if dropped == before:
                    break
                fruitless = 0
            before = self._engine.stats()
            ran = self._engine.run_until(idle=True, limit=pause)
            if ran < pause:
                return False
            spent += ran
            after = self._engine.stats()
            moved = {name for name in WORK if before[name] != after[name]}
            if not moved:
                if not live or self.waiting():
                    return True
                # Twice at least, for a frame that waited may have gone while its counters were read.
                still += ran
                if still > pause + KEPT:
                    raise BrokenPromise("quiet", "the card is busy, and does nothing")
                continue
            still = 0
            if not moved & FRUIT and live and self.waiting() and self._rests_between_looks():
                return True
            fruitless = 0 if moved & FRUIT else fruitless + ran
            poll()
        raise BrokenPromise("quiet", f"the card is at work after {spent} cycles, and nothing came of the last {fruitless}")

    def _rests_between_looks(self):
        """The card looks at a ring for which a frame waits. A host that is far answers hardly before the next look, so this asks
        a near one; behind a board's block even that answer takes half of the time between two looks."""
        link = self._engine.link
        self._engine.set_link_model(self._link_model("near"))
        rests = self._engine.run_until(idle=True, limit=SHORT, rest=BETWEEN_LOOKS) < SHORT
        self._engine.set_link_model(link)
        return rests

    def waiting(self):
        """Return how many frames are in the card on their way in."""
        return self._engine.stats()["frames_in"] - sum(self._card.counter(name) for name in RX_COUNTERS) - self._uncounted

    def drops(self):
        """Return how many frames were dropped on their way in since the last call."""
        _, *dropped = [self._card.counter(name) for name in RX_COUNTERS]
        before, self._dropped = self._dropped, sum(dropped)
        return self._dropped - before

    def forget_frames(self):
        """Those that are in the card now are not waited for."""
        counts = [self._card.counter(name) for name in RX_COUNTERS]
        self._uncounted = self._engine.stats()["frames_in"] - sum(counts)
        self._dropped = sum(counts[1:])
