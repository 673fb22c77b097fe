"""Long indirect tables: how the enemy draws them, and what of one the device may touch."""

from ...hdl.spec.virtio import MAX_TABLE
from .case import PAIRS
from .descriptor import DESC, INDIRECT, LONGEST, NEXT, WRITE
from .ground import ARENA, TABLES, ZONE

__all__ = ["LEAST", "LongTables", "entries_of", "long_count"]

FORWARD, BACKWARD, LOOP = range(3)
LEAST, MOST = 17, 1100
BUDGET = 1600                  # entries in a burst: they are followed one by one, and others wait


def long_count(random, below):
    """Draw the entries of a long table: mostly few, and now and then as many as are allowed, or more."""
    kind = random()
    if kind < .8:
        return LEAST + below(48)
    if kind < .9:
        return LEAST + below(300)
    return (MAX_TABLE - 1, MAX_TABLE, MAX_TABLE, MAX_TABLE + 1, MAX_TABLE + 2, LEAST + below(MOST + 1 - LEAST))[below(6)]


def entries_of(count, addr, length, writes, order, packed, nowhere):
    """Return the entries of a table, each ``(addr, len, third, fourth)``, and how many of them a device may follow.

    Buffers of ``length`` bytes follow one another in the arena from ``addr`` on, a quarter of it at most; those from number
    ``writes`` on are device-writable. Entries that are behind the longest chain allowed name the bytes from ``nowhere`` on.
    """
    allowed = min(count, MAX_TABLE)
    entries = []
    for place in range(count):
        # ``place`` is how far along the chain it is, ``at`` where in the table.
        at = place if order != BACKWARD or not place else count - place
        after = place + 1 if order != BACKWARD else count - place - 1
        flags = WRITE if place >= writes else 0
        if not packed and (place < count - 1 or order == LOOP):
            flags |= NEXT
        where = addr + place * length % (ZONE // 4) if place < allowed else nowhere + 16 * (place - allowed)
        following = after % count if place < count - 1 else 0
        entries.append((at, (where, length, *((following, flags) if packed else (flags, following)))))
    return entries, allowed


class LongTables:
    """Draws long tables for the queues of a :class:`~.generator.Generator`."""
    def __init__(self, generator):
        self.generator = generator
        self.left = BUDGET

    def burst(self):
        """A burst begins."""
        self.left = BUDGET

    def draw(self, queue, bad):
        """Write a table, and return the descriptor that is to stand for it; None if there were enough."""
        g = self.generator
        random, below = g.random, g.below
        count = long_count(random, below)
        if count >= MAX_TABLE - 1 and not queue.writes:
            count = MAX_TABLE + 1 + below(2)     # the well-behaved pair has those that are allowed, and shorter ones are many
        if count > self.left:
            return None
        self.left -= count
        at = g.rings.table_place(DESC.size * count, .1)
        order = FORWARD
        if not g.packed and random() < .2:
            order = LOOP if bad else BACKWARD
        if queue.index == 2 * PAIRS:
            length, writes = 1, 4
        elif queue.writes:
            length, writes = g.choice((1, 300, 1500, 2048)) if g.merges else LONGEST, 0
        else:
            length, writes = 1 + below(max(1, LONGEST // count)), count
        addr = g.ground.address(ARENA, below(ZONE // 2))
        g.do("sheet", at, count, addr, length, writes, order)
        if bad and random() < .3:
            g.do("table", at + DESC.size * below(min(count, 40)), addr, length, below(8), below(8))
        return g.ground.address(TABLES, at), DESC.size * count, INDIRECT
