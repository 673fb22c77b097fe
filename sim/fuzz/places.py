"""Where a case's memory lies and what it holds at first: at the ends of 32 and 64 bits of address, and noise."""

from functools import cache
import random

from .descriptor import DESC, NEXT, WRITE
from .ground import ARENA, END, GOOD_RINGS, NUM_ZONES, STRIDE, TABLES, ZONE

__all__ = ["NOISE", "draw_base", "edge", "fill_ring", "spans", "unset_rings"]

GIB4 = 1 << 32
AMID = 8               # the position of the zone that 4 GiB is in, where that is so: all is above the MSI window then
LARGEST = 512          # entries of a ring of noise
SPANS = tuple((0x1000 * k + 0x77, 0x321 * k) for k in range(8))  # offset into the arena and length of the buffers in it


def draw_base(rng, plain):
    """Draw where memory begins, and by how many places its zones are turned; ``plain`` are bases to choose from, too.

    Half of all cases are plain. Of the others some zone ends at 2**64, or some 16-byte units below; or 4 GiB lies in one,
    where most of its rings are, or at its end.
    """
    kind = rng.random()
    if kind < .5:
        return rng.choice(plain), 0
    if kind < .8:
        turn = NUM_ZONES - 1 - rng.choice((*range(NUM_ZONES), TABLES, ARENA, GOOD_RINGS))
        return END - (NUM_ZONES - 1) * STRIDE - ZONE - 16 * rng.choice((0, 0, 0, 1, rng.randrange(0x100))), turn % NUM_ZONES
    within = rng.choice((0, 0x2000, 0x6000)) + 16 * rng.choice((1, rng.randrange(1, 0x40), rng.randrange(1, 0xa00)))
    within = rng.choice((within, within, within, ZONE, ZONE - 16 * rng.randrange(0x40)))
    return GIB4 - AMID * STRIDE - within, (AMID - rng.randrange(NUM_ZONES)) % NUM_ZONES


def edge(ground, random, below):
    """Draw a buffer at the end of 64 or of 32 bits of address: ``(addr, length)``. It ends before, there, or behind.

    Where that would be in somebody's memory it is at the end of the arena instead.
    """
    end = END if random() < .7 else GIB4
    before = 1 + below((16, 64, 2048)[below(3)])
    length = max(0, before + (0, 0, 1, -1, 16, 4096, 0xffff_0000)[below(7)])
    if end - before + length <= END and not ground.is_spare(end - before, length):
        return ground.address(ARENA, ZONE - before), length
    return end - before, length


NOISE = random.Random(2).randbytes(2 * ZONE)


@cache
def _descriptors(packed, arena):
    """As noise is: ``next`` may be any low index, or a packed one's id anything; nothing is available in a packed ring."""
    rng, block = random.Random(3), bytearray()
    for k in range(LARGEST):
        at, length = SPANS[k % len(SPANS)]
        flags, other = rng.choice((0, NEXT, WRITE, NEXT | WRITE)), rng.randrange(1 << 16 if packed else 8)
        block += DESC.pack(arena + at, length, *((other, flags) if packed else (flags, other)))
    return bytes(block)


def fill_ring(memory, ring, packed, arena):
    """Fill a zone with what may be there before a driver makes a ring of it, and set what a driver has to set.

    Descriptors name parts of the arena, as :func:`spans` says: a hostile driver's index may lead to them. ``arena`` is its
    address.
    """
    memory[:] = NOISE[ring.size:ring.size + ZONE]
    table = _descriptors(packed, arena)[:DESC.size * ring.size]
    room = max(0, ZONE - ring.desc)
    memory[ring.desc:ring.desc + min(room, len(table))] = table[:room]
    if packed:
        _clear(memory, ring.driver, 4)
    else:
        # 2.7.6, 2.7.8: flags and both indices; the used one is read by the driver before the device has written it.
        _clear(memory, ring.driver, 4)
        _clear(memory, ring.device + 2, 2)


def _clear(memory, at, length):
    length = max(0, min(length, ZONE - at))
    memory[at:at + length] = bytes(length)


def spans(arena):
    """Buffers that the noise of :func:`fill_ring` names: ``(addr, length)``."""
    return [(arena + at, length) for at, length in SPANS]


def unset_rings(seed):
    """Return a zone of noise that may be taken for rings. Its indices are mostly small; few of its addresses lie near a zone."""
    noise = random.Random(seed)
    zone = bytearray(noise.randbytes(ZONE))
    for at in range(2, ZONE, 16):
        zone[at:at + 2] = noise.choice((0, 0, 1, 2, 7)).to_bytes(2, "little")
    return bytes(zone)
